//! SaslAuthenticate (36): forwarded unchanged. The response states how long the login is valid.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use kafka_protocol::messages::SaslAuthenticateRequest;

use crate::proxy::audit::{AuditEvent, Auditor};
use crate::proxy::broker::client_name::ClientName;
use crate::proxy::broker::login_session::LoginSession;
use crate::proxy::error_code::ErrorCode;
use crate::proxy::request::{Action, Request, ResponseHandling};
use crate::proxy::response::{CloseReason, ResponseFrame};
use crate::proxy::upstream::codec;
use crate::wire::frame;

pub(super) fn forward(request: Request, login: Arc<LoginSession>, auditor: Auditor) -> Action {
    let version = request.version();
    // A request that cannot be decoded is the broker's to refuse.
    let sent = request.decode::<SaslAuthenticateRequest>().ok();
    let read = move |response: Bytes| {
        async move {
            // Only now: requests may be pipelined, and this response is that to its own.
            if let Some(sent) = sent {
                login.announce(&sent.auth_bytes);
            }
            record(&response, version, &login, &auditor);
            let prefix = frame::length_prefix(response.len())
                .map_err(|error| CloseReason::Upstream(error.to_string()))?;
            let slices = vec![Bytes::copy_from_slice(&prefix), response];
            Ok(ResponseFrame { slices, ..ResponseFrame::default() })
        }
        .boxed()
    };
    Action::Forward { frames: request.frames(), response: ResponseHandling::Edit(Box::new(read)) }
}

/// Records the lifetime of a login that the broker accepted. The client decodes the response too,
/// so one that cannot be decoded is its business.
fn record(response: &Bytes, version: i16, login: &LoginSession, auditor: &Auditor) {
    let decoded = codec::decode_response::<SaslAuthenticateRequest>(response, version);
    let Ok((_, response)) = decoded else { return };
    if response.error_code == 0 {
        login.respond(&response.auth_bytes);
        let lifetime = u64::try_from(response.session_lifetime_ms).unwrap_or(0);
        login.begin(Duration::from_millis(lifetime));
    } else {
        let name = login.take_announced();
        let name = name.as_ref().map(ClientName::name);
        auditor.record(&AuditEvent::Login { name, code: ErrorCode(response.error_code) });
    }
}
