//! GetTelemetrySubscriptions (71) and PushTelemetry (72), if the proxy is configured to receive
//! client telemetry (KIP-714).

use kafka_protocol::messages::{
    ApiKey, GetTelemetrySubscriptionsRequest, GetTelemetrySubscriptionsResponse,
    PushTelemetryRequest, PushTelemetryResponse,
};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use crate::proxy::broker::session::BrokerSession;
use crate::proxy::client_telemetry::{ClientTelemetry, PUSH_BYTES_MAX, REQUESTED_METRICS};
use crate::proxy::error_code::ErrorCode;
use crate::proxy::request::{Action, Request};
use crate::proxy::response::CloseReason;

/// The id of the subscription, the same for all clients; another id would make them request it
/// again.
const SUBSCRIPTION: i32 = 1;
/// PushTelemetry's `CompressionType` for no compression; no other type is offered.
const UNCOMPRESSED: i8 = 0;

/// Serves clients that the broker has accepted, as a broker does.
pub(super) async fn serve(
    request: Request,
    telemetry: &ClientTelemetry,
    broker: &mut BrokerSession,
) -> Result<Action, CloseReason> {
    broker.ensure_accepted().await?;
    match ApiKey::try_from(request.header.api_key) {
        Ok(ApiKey::GetTelemetrySubscriptions) => subscriptions(&request, telemetry),
        _ => push(&request, telemetry),
    }
}

fn subscriptions(request: &Request, telemetry: &ClientTelemetry) -> Result<Action, CloseReason> {
    let requested: GetTelemetrySubscriptionsRequest = request.decode()?;
    let instance = match requested.client_instance_id.is_nil() {
        true => new_instance(request),
        false => requested.client_instance_id,
    };
    let response = GetTelemetrySubscriptionsResponse::default()
        .with_client_instance_id(instance)
        .with_subscription_id(SUBSCRIPTION)
        .with_push_interval_ms(i32::try_from(telemetry.interval.as_millis()).unwrap_or(i32::MAX))
        .with_telemetry_max_bytes(i32::try_from(PUSH_BYTES_MAX).unwrap_or(i32::MAX))
        .with_delta_temporality(true)
        .with_requested_metrics(REQUESTED_METRICS.map(StrBytes::from_static_str).to_vec());
    request.respond(&response)
}

/// Returns an instance id that no connected client has.
fn new_instance(request: &Request) -> Uuid {
    let proxy = &request.proxy;
    let now = u128::try_from(proxy.clock.now_ms()).unwrap_or(0);
    let connection = u128::from(request.connection.0);
    let replica = proxy.topology.zone();
    Uuid::from_u128(now << 80 | u128::from(replica) << 64 | connection << 8 | 0x71)
}

fn push(request: &Request, telemetry: &ClientTelemetry) -> Result<Action, CloseReason> {
    let pushed: PushTelemetryRequest = request.decode()?;
    let instance = pushed.client_instance_id.into_bytes();
    let code = if pushed.subscription_id != SUBSCRIPTION {
        ErrorCode::UNKNOWN_SUBSCRIPTION_ID
    } else if pushed.metrics.len() > PUSH_BYTES_MAX {
        ErrorCode::TELEMETRY_TOO_LARGE
    } else if pushed.compression_type != UNCOMPRESSED {
        ErrorCode::UNSUPPORTED_COMPRESSION_TYPE
    } else {
        let zone = request.client_zone().zone;
        let crosses = zone.is_some_and(|zone| zone != request.proxy.topology.zone());
        let name = request.header.client_id.as_deref().unwrap_or_default();
        match telemetry.push(instance, name, crosses, &pushed.metrics) {
            Ok(()) => ErrorCode::NONE,
            Err(_) => ErrorCode::INVALID_RECORD,
        }
    };
    if pushed.terminating {
        telemetry.remove(instance);
    }
    request.respond(&PushTelemetryResponse::default().with_error_code(code.0))
}
