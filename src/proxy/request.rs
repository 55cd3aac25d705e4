//! A request of a client, and what happens to it.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::FutureExt;
use futures::future::BoxFuture;
use kafka_protocol::protocol::{Encodable, HeaderVersion, Request as ApiRequest, StrBytes};
use tokio::time::Instant;

use super::context::Proxy;
use super::endpoint::Endpoint;
use super::response::{self, CloseReason, ResponseEdit, ResponseFrame};
use super::routing::client_zone::{ClientOrigin, ClientZone};
use super::routing::router::Router;
use super::upstream::codec;
use crate::engine::memory::MemoryPermit;
use crate::engine::produce::ConnectionId;
use crate::wire::header::{HeaderError, RequestHeader, put_response_header};
use crate::wire::{frame, guard};

/// A request of a client.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) proxy: Arc<Proxy>,
    pub(crate) endpoint: Endpoint,
    pub(crate) client: ClientOrigin,
    pub(crate) connection: ConnectionId,
    pub(crate) header: OwnedRequestHeader,
    /// The bytes after the header.
    pub(crate) body: Bytes,
    /// Header and body, without the length prefix.
    pub(crate) frame: Bytes,
    /// The memory that the frame holds, for a produce to a diskless node.
    pub(crate) permit: Option<MemoryPermit>,
    /// True if the frame holds memory.
    pub(crate) is_large: bool,
    /// When the frame had arrived, before any wait for memory.
    pub(crate) received: Instant,
}

/// The header of a request, independent of its frame.
#[derive(Clone, Debug)]
pub(crate) struct OwnedRequestHeader {
    pub(crate) api_key: i16,
    pub(crate) api_version: i16,
    pub(crate) correlation_id: i32,
    /// Invalid UTF-8 is replaced; a broker does not require UTF-8 either.
    pub(crate) client_id: Option<String>,
    /// The offset of the body in the frame.
    pub(crate) bytes: usize,
}

impl OwnedRequestHeader {
    pub(crate) fn parse(frame: &[u8]) -> Result<Self, HeaderError> {
        let header = RequestHeader::parse(frame)?;
        Ok(Self {
            api_key: header.api_key,
            api_version: header.api_version,
            correlation_id: header.correlation_id,
            client_id: header.client_id.map(|id| String::from_utf8_lossy(id).into_owned()),
            bytes: header.bytes,
        })
    }
}

/// Handling of the broker's response.
pub(crate) enum ResponseHandling {
    /// The broker sends none.
    NotExpected,
    /// It is forwarded undecoded.
    Forward,
    /// It is edited.
    Edit(ResponseEdit),
    /// It is edited with parts of the request, whose memory is held until then.
    EditWithRequest(ResponseEdit),
}

/// Handling of a request.
pub(crate) enum Action {
    /// These frames are sent to the broker.
    Forward { frames: Vec<Bytes>, response: ResponseHandling },
    /// The proxy responds; `None` if the client expects no response.
    Respond(BoxFuture<'static, Result<Option<ResponseFrame>, CloseReason>>),
    /// The same, but the response is not computed before every earlier one is written: a response
    /// that holds memory must not wait for one that still needs some. A broker also processes the
    /// requests of a connection one after another.
    RespondInTurn(BoxFuture<'static, Result<Option<ResponseFrame>, CloseReason>>),
}

impl Action {
    /// Returns whether parts of the request are kept until the response is made.
    pub(crate) fn keeps_request(&self) -> bool {
        match self {
            Self::Forward { response, .. } => {
                matches!(response, ResponseHandling::EditWithRequest(_))
            }
            Self::Respond(_) | Self::RespondInTurn(_) => true,
        }
    }
}

impl Request {
    pub(super) fn version(&self) -> i16 {
        self.header.api_version
    }

    /// Resolves the client's zone.
    pub(crate) fn client_zone(&self) -> ClientZone {
        let (zones, map) = (&self.proxy.settings.client_zones, self.proxy.topology.current());
        zones.locate(&map, &self.client, self.header.client_id.as_deref())
    }

    /// Returns the routes for this client.
    pub(super) fn router(&self) -> Router {
        Router::new(&self.proxy, self.proxy.topology.current(), self.client_zone())
    }

    /// Decodes the body, behind the guard.
    pub(super) fn decode<R: ApiRequest>(&self) -> Result<R, CloseReason> {
        Ok(guard::decode_request::<R>(self.version(), self.body.clone())?)
    }

    pub(super) fn frames(self) -> Vec<Bytes> {
        // The reader limits frames to a length that fits an `i32`.
        let prefix = frame::length_prefix(self.frame.len()).unwrap_or([0xff; 4]);
        vec![Bytes::copy_from_slice(&prefix), self.frame]
    }

    pub(super) fn forward_unread(self) -> Action {
        Action::Forward { frames: self.frames(), response: ResponseHandling::Forward }
    }

    /// Forwards the request unchanged. `edit` turns the response, decoded in the version of the
    /// request, into the one for the client.
    pub(super) fn forward<R, F>(
        self,
        edit: impl FnOnce(Arc<Proxy>, R::Response) -> F + Send + 'static,
    ) -> Action
    where
        R: ApiRequest,
        F: Future<Output = R::Response> + Send + 'static,
        R::Response: Send,
    {
        let (version, proxy) = (self.version(), Arc::clone(&self.proxy));
        let correlation_id = self.header.correlation_id;
        let edit = on_response::<R, _>(correlation_id, version, version, move |response| {
            edit(proxy, response)
        });
        Action::Forward { frames: self.frames(), response: ResponseHandling::Edit(edit) }
    }

    /// Forwards another request instead, in the given version.
    pub(super) fn forward_as<R, F>(
        &self,
        request: &R,
        version: i16,
        edit: impl FnOnce(Arc<Proxy>, R::Response) -> F + Send + 'static,
    ) -> Result<Action, CloseReason>
    where
        R: ApiRequest,
        F: Future<Output = R::Response> + Send + 'static,
        R::Response: Send,
    {
        let correlation_id = self.header.correlation_id;
        let client_id = self.header.client_id.clone().map(StrBytes::from_string);
        let frame = codec::encode_request(request, version, correlation_id, client_id)
            .map_err(|error| CloseReason::Internal(error.to_string()))?;
        let proxy = Arc::clone(&self.proxy);
        let edit = on_response::<R, _>(correlation_id, version, self.version(), move |response| {
            edit(proxy, response)
        });
        let response = ResponseHandling::EditWithRequest(edit);
        Ok(Action::Forward { frames: vec![frame], response })
    }

    /// Responds immediately.
    pub(super) fn respond<T: Encodable + HeaderVersion>(
        &self,
        response: &T,
    ) -> Result<Action, CloseReason> {
        let frame = response::encode(self.header.correlation_id, self.version(), response)?;
        Ok(Action::Respond(std::future::ready(Ok(Some(frame))).boxed()))
    }

    /// Responds when the future completes.
    pub(super) fn respond_later<T, F>(&self, response: F) -> Action
    where
        T: Encodable + HeaderVersion,
        F: Future<Output = T> + Send + 'static,
    {
        let (correlation_id, version) = (self.header.correlation_id, self.version());
        let response =
            async move { response::encode(correlation_id, version, &response.await).map(Some) };
        Action::Respond(response.boxed())
    }
}

/// Decodes the broker's response in one version, edits it, and encodes it in another.
fn on_response<R, F>(
    correlation_id: i32,
    upstream_version: i16,
    client_version: i16,
    edit: impl FnOnce(R::Response) -> F + Send + 'static,
) -> ResponseEdit
where
    R: ApiRequest,
    F: Future<Output = R::Response> + Send + 'static,
    R::Response: Send,
{
    Box::new(move |frame| {
        async move {
            let (_, response) = codec::decode_response::<R>(&frame, upstream_version)
                .map_err(|error| CloseReason::Upstream(error.to_string()))?;
            response::encode(correlation_id, client_version, &edit(response).await)
        }
        .boxed()
    })
}

/// Begins a response frame: an empty length prefix, and the header.
pub(super) fn begin_response_frame(header: &OwnedRequestHeader) -> BytesMut {
    let mut out = frame::begin();
    put_response_header(&mut out, header.api_key, header.api_version, header.correlation_id);
    out
}
