//! Requests of the proxy itself over a client's broker connection.
//!
//! Only the read loop sends them, and it reads nothing while it waits for a response. So a
//! response to the client never waits for a response to the proxy, and a request of the proxy
//! waits only for requests that the client sent earlier.

use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::protocol::{Request as ApiRequest, StrBytes};
use tokio::sync::oneshot;

use super::link::BrokerLink;
use super::response_queue::{PendingResponse, ResponseQueue};
use crate::proxy::context::Proxy;
use crate::proxy::response::CloseReason;
use crate::proxy::upstream::codec;

/// Sends requests of the proxy over a [`BrokerLink`].
pub(crate) struct BrokerRpc {
    proxy: Arc<Proxy>,
    link: BrokerLink,
    /// Of the proxy's own requests. Brokers respond in order and repeat any number, so it may
    /// coincide with one of the client's.
    correlation_id: i32,
}

impl BrokerRpc {
    pub(super) fn new(proxy: Arc<Proxy>, link: BrokerLink) -> Self {
        Self { proxy, link, correlation_id: 0 }
    }

    pub(super) fn link(&self) -> &BrokerLink {
        &self.link
    }

    pub(super) fn link_mut(&mut self) -> &mut BrokerLink {
        &mut self.link
    }

    /// Sends a request in the client's name and returns the response.
    ///
    /// On a diskless node, a lost connection is replaced once unless the client authenticated on it.
    ///
    /// # Errors
    /// The broker closed the connection instead, which means that it refuses the client; or the
    /// response cannot be decoded.
    pub(super) async fn call<R: ApiRequest>(
        &mut self,
        request: &R,
        version: i16,
    ) -> Result<R::Response, CloseReason> {
        let response = match self.send(request, version).await {
            Ok(response) => response.await.ok(),
            Err(close) if !self.link.may_reconnect() => return Err(close),
            Err(_) => None,
        };
        let frame = match response {
            Some(frame) => frame,
            None if self.link.may_reconnect() => {
                let response = self.send(request, version).await?;
                response.await.map_err(|_| rejected())?
            }
            None => return Err(rejected()),
        };
        decode::<R>(&frame, version)
    }

    /// Sends a request. The receiver gets the response, or an error if there is none.
    pub(super) async fn send<R: ApiRequest>(
        &mut self,
        request: &R,
        version: i16,
    ) -> Result<oneshot::Receiver<Bytes>, CloseReason> {
        self.correlation_id = self.correlation_id.wrapping_add(1);
        let correlation_id = self.correlation_id;
        let client_id = Some(StrBytes::from_static_str("odradek"));
        let frame = codec::encode_request(request, version, correlation_id, client_id)
            .map_err(|error| CloseReason::Internal(error.to_string()))?;
        self.link.send(&[frame]).await?;
        let (sender, response) = oneshot::channel();
        let responses: &ResponseQueue = self.link.responses();
        responses.push(PendingResponse::Rpc { correlation_id, sender }).await?;
        Ok(response)
    }

    /// Returns the version of an API to use, at most `max`.
    pub(super) fn version<R: ApiRequest>(&self, max: i16) -> Result<i16, CloseReason> {
        let version = self.proxy.cluster.version_for::<R>(max);
        version.map_err(|error| CloseReason::Upstream(error.to_string()))
    }
}

/// Decodes a response frame without its length prefix.
pub(super) fn decode<R: ApiRequest>(
    frame: &Bytes,
    version: i16,
) -> Result<R::Response, CloseReason> {
    let decoded = codec::decode_response::<R>(frame, version);
    decoded.map(|(_, response)| response).map_err(|error| CloseReason::Upstream(error.to_string()))
}

/// Returns the reason to close the connection of a client that the broker refuses.
pub(super) fn rejected() -> CloseReason {
    CloseReason::Upstream("the broker does not respond to this client".to_owned())
}
