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

/// A request on its way.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) proxy: Arc<Proxy>,
    pub(crate) endpoint: Endpoint,
    pub(crate) client: ClientOrigin,
    pub(crate) connection: ConnectionId,
    pub(crate) header: OwnedRequestHeader,
    /// Behind the header.
    pub(crate) body: Bytes,
    /// Header and body, without the length prefix.
    pub(crate) frame: Bytes,
    /// The memory that the frame takes, where it is produced to a diskless node.
    pub(crate) permit: Option<MemoryPermit>,
    /// When it was first looked at, before any wait for memory.
    pub(crate) received: Instant,
}

/// A request's header, free of its frame.
#[derive(Clone, Debug)]
pub(crate) struct OwnedRequestHeader {
    pub(crate) api_key: i16,
    pub(crate) api_version: i16,
    pub(crate) correlation_id: i32,
    /// As far as it is UTF-8: a broker does not insist on it.
    pub(crate) client_id: Option<String>,
    /// Where the body begins in the frame.
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

/// What the broker's answer needs.
pub(crate) enum ResponseHandling {
    /// There will be none.
    NotExpected,
    /// It passes unread.
    Forward,
    /// It is edited.
    Edit(ResponseEdit),
}

/// What becomes of a request.
pub(crate) enum Action {
    /// These bytes go to the broker.
    Forward { frames: Vec<Bytes>, response: ResponseHandling },
    /// We answer; `None` where the client wants no answer.
    Respond(BoxFuture<'static, Result<Option<ResponseFrame>, CloseReason>>),
    /// The same, not begun before everything owed earlier is with the client: an answer that took
    /// memory must not wait for one that still needs some. A broker does no request before its
    /// turn either.
    RespondInTurn(BoxFuture<'static, Result<Option<ResponseFrame>, CloseReason>>),
}

impl Request {
    pub(super) fn version(&self) -> i16 {
        self.header.api_version
    }

    /// Where the client is, as far as is known.
    pub(crate) fn client_zone(&self) -> ClientZone {
        let (zones, map) = (&self.proxy.settings.client_zones, self.proxy.topology.current());
        zones.locate(&map, &self.client, self.header.client_id.as_deref())
    }

    /// Where the client is sent.
    pub(super) fn router(&self) -> Router {
        Router::new(&self.proxy, self.proxy.topology.current(), self.client_zone())
    }

    /// Decodes the body, guarded.
    pub(super) fn decode<R: ApiRequest>(&self) -> Result<R, CloseReason> {
        Ok(guard::decode_request::<R>(self.version(), self.body.clone())?)
    }

    pub(super) fn frames(self) -> Vec<Bytes> {
        // A frame that was read is shorter than its reader's limit, which is an `i32`.
        let prefix = frame::length_prefix(self.frame.len()).unwrap_or([0xff; 4]);
        vec![Bytes::copy_from_slice(&prefix), self.frame]
    }

    pub(super) fn relay(self) -> Action {
        Action::Forward { frames: self.frames(), response: ResponseHandling::Forward }
    }

    /// Forwards the request as it came; `edit` turns the answer, decoded in the request's version,
    /// into the one that the client gets.
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
        let response = on_response::<R, _>(correlation_id, version, version, move |response| {
            edit(proxy, response)
        });
        Action::Forward { frames: self.frames(), response }
    }

    /// Forwards another request in its place, in a version of our choice.
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
        let response =
            on_response::<R, _>(correlation_id, version, self.version(), move |response| {
                edit(proxy, response)
            });
        Ok(Action::Forward { frames: vec![frame], response })
    }

    /// Answers at once.
    pub(super) fn answer<T: Encodable + HeaderVersion>(
        &self,
        response: &T,
    ) -> Result<Action, CloseReason> {
        let reply = response::encode(self.header.correlation_id, self.version(), response)?;
        Ok(Action::Respond(std::future::ready(Ok(Some(reply))).boxed()))
    }

    /// Answers when the future is done.
    pub(super) fn answer_later<T, F>(&self, response: F) -> Action
    where
        T: Encodable + HeaderVersion,
        F: Future<Output = T> + Send + 'static,
    {
        let (correlation_id, version) = (self.header.correlation_id, self.version());
        let answer =
            async move { response::encode(correlation_id, version, &response.await).map(Some) };
        Action::Respond(answer.boxed())
    }
}

/// Decodes the broker's answer in one version, edits it, and encodes it in another.
fn on_response<R, F>(
    correlation_id: i32,
    upstream_version: i16,
    client_version: i16,
    edit: impl FnOnce(R::Response) -> F + Send + 'static,
) -> ResponseHandling
where
    R: ApiRequest,
    F: Future<Output = R::Response> + Send + 'static,
    R::Response: Send,
{
    ResponseHandling::Edit(Box::new(move |frame| {
        async move {
            let (_, response) = codec::decode_response::<R>(&frame, upstream_version)
                .map_err(|error| CloseReason::Upstream(error.to_string()))?;
            response::encode(correlation_id, client_version, &edit(response).await)
        }
        .boxed()
    }))
}

/// An empty length prefix and the header, for an answer whose body is written by hand.
pub(super) fn begin_response_frame(header: &OwnedRequestHeader) -> BytesMut {
    let mut out = frame::begin();
    put_response_header(&mut out, header.api_key, header.api_version, header.correlation_id);
    out
}
