//! ApiVersions (18): every endpoint returns the same table, because kafkajs queries only its first
//! broker and applies the response to all.

use futures::FutureExt;
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::{ApiKey, ApiVersionsRequest, ApiVersionsResponse};
use kafka_protocol::protocol::Request as _;

use crate::proxy::context::Proxy;
use crate::proxy::endpoint::Endpoint;
use crate::proxy::error_code::ErrorCode;
use crate::proxy::request::{Action, Request};
use crate::proxy::response::{self, CloseReason};
use crate::proxy::routing::node_ids::node_id;
use crate::wire::varint::{VARINT_BYTES_MAX, take_unsigned};

/// The highest version that is forwarded and advertised.
const MAX: i16 = 4;
/// GetTelemetrySubscriptions and PushTelemetry (KIP-714).
const TELEMETRY: [ApiKey; 2] = [ApiKey::GetTelemetrySubscriptions, ApiKey::PushTelemetry];
/// The version in which a client states the node that it intends to reach (KIP-1242).
const WITH_NODE_ID: i16 = 5;
/// The highest transaction version. Transactions of version 2 would reach a diskless node before
/// they can be rejected. With version 1, the client first adds its partitions at the coordinator,
/// where they can.
const TRANSACTION_VERSION_MAX: i16 = 1;

pub(super) fn handle(request: Request) -> Result<Action, CloseReason> {
    let version = request.version();
    match request.endpoint {
        _ if version < 0 => unsupported(&request),
        Endpoint::Node(k) if version <= WITH_NODE_ID => serve(&request, k),
        Endpoint::Bootstrap | Endpoint::Broker(_) if version <= MAX => Ok(relay(request)),
        Endpoint::Bootstrap | Endpoint::Broker(_) | Endpoint::Node(_) => unsupported(&request),
    }
}

/// Forwards the request, so that the broker learns the client's name and version, and replaces the
/// table in its response.
fn relay(request: Request) -> Action {
    request.forward::<ApiVersionsRequest, _>(|proxy, response| async move {
        match response.error_code {
            0 => table(&proxy, response),
            _ => response,
        }
    })
}

fn serve(request: &Request, k: u16) -> Result<Action, CloseReason> {
    let version = request.version();
    if version == WITH_NODE_ID {
        let malformed =
            || CloseReason::Client("malformed ApiVersions request of version 5".to_owned());
        let requested = requested_node_id(&request.body).ok_or_else(malformed)?;
        if requested >= 0 && requested != node_id(request.proxy.topology.zone(), k) {
            let code = ErrorCode::REBOOTSTRAP_REQUIRED;
            return answer(request, MAX, &ApiVersionsResponse::default().with_error_code(code.0));
        }
    } else {
        let _checked: ApiVersionsRequest = request.decode()?;
    }
    let features = request.proxy.cluster.view().features.clone();
    answer(request, version.min(MAX), &table(&request.proxy, features))
}

/// Responds to an unsupported version like a broker: in version 0, with the supported versions of
/// this API (KIP-511).
fn unsupported(request: &Request) -> Result<Action, CloseReason> {
    let own = ApiVersion::default()
        .with_api_key(ApiVersionsRequest::KEY)
        .with_min_version(0)
        .with_max_version(MAX);
    let response = ApiVersionsResponse::default()
        .with_error_code(ErrorCode::UNSUPPORTED_VERSION.0)
        .with_api_keys(vec![own]);
    answer(request, 0, &response)
}

/// Encodes the response. Its header has version 0 in every version, and version 5 has the fields of
/// version 4.
fn answer(
    request: &Request,
    version: i16,
    response: &ApiVersionsResponse,
) -> Result<Action, CloseReason> {
    let reply = response::encode_as(request.header.correlation_id, 0, version, response)?;
    Ok(Action::Respond(std::future::ready(Ok(Some(reply))).boxed()))
}

/// Returns the common table, with the features of a broker's response.
fn table(proxy: &Proxy, features: ApiVersionsResponse) -> ApiVersionsResponse {
    let view = proxy.cluster.view();
    let row = |(&key, &(min, max)): (&i16, &(i16, i16))| {
        ApiVersion::default().with_api_key(key).with_min_version(min).with_max_version(max)
    };
    let mut versions = view.versions.clone();
    if proxy.telemetry.is_some() {
        // A broker without a telemetry receiver does not advertise them.
        versions.extend(TELEMETRY.map(|key| (key as i16, (0, 0))));
    }
    let mut response = features.with_api_keys(versions.iter().map(row).collect());
    for feature in &mut response.finalized_features {
        if feature.name.as_str() == "transaction.version" {
            feature.max_version_level = feature.max_version_level.min(TRANSACTION_VERSION_MAX);
            feature.min_version_level = feature.min_version_level.min(TRANSACTION_VERSION_MAX);
        }
    }
    response
}

/// Reads the node id from the body of version 5: software name, software version and cluster id
/// (compact strings, the last nullable), then the node id.
fn requested_node_id(mut body: &[u8]) -> Option<i32> {
    for _ in 0..3 {
        let length = take_unsigned(&mut body, VARINT_BYTES_MAX).ok()? as u32;
        (_, body) = body.split_at_checked(length.saturating_sub(1) as usize)?;
    }
    body.first_chunk().map(|id| i32::from_be_bytes(*id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_id_follows_three_strings_in_version_5() {
        let body = b"\x03ab\x02c\x00\x3b\x9a\xca\x01\x00";
        assert_eq!(requested_node_id(body), Some(1_000_000_001));
        assert_eq!(requested_node_id(&body[..8]), None);
        assert_eq!(requested_node_id(b"\xff\xff\xff\xff\xff\xff"), None);
    }
}
