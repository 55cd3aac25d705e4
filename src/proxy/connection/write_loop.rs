//! Writes responses to the client in the order of its requests.

use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{mpsc, oneshot};

use super::outbound::{ClientWriter, OutboundBuffer};
use crate::proxy::apis;
use crate::proxy::broker::client_status::ClientStatus;
use crate::proxy::broker::login_session::LoginSession;
use crate::proxy::broker::reader::BrokerReader;
use crate::proxy::broker::response_queue::{LocalResponse, PendingResponse};
use crate::proxy::endpoint::Endpoint;
use crate::proxy::response::{CloseReason, ResponseFrame};
use crate::proxy::upstream::connection::CALL_TIMEOUT;

/// Buffered bytes from which on they are written although more responses are ready.
const WRITE_BUFFER_BYTES: usize = 256 << 10;

pub(super) struct WriteLoop {
    endpoint: Endpoint,
    outbound: OutboundBuffer,
    responses: mpsc::Receiver<PendingResponse>,
    broker: Option<BrokerReader>,
    login: Arc<LoginSession>,
    status: Arc<ClientStatus>,
}

impl WriteLoop {
    pub(super) fn new(
        endpoint: Endpoint,
        client: ClientWriter,
        responses: mpsc::Receiver<PendingResponse>,
        login: Arc<LoginSession>,
        status: Arc<ClientStatus>,
    ) -> Self {
        let outbound = OutboundBuffer::new(client, Arc::clone(&status));
        Self { endpoint, outbound, responses, broker: None, login, status }
    }

    /// Runs until the queue is closed and empty, or the connection ends.
    pub(super) async fn run(mut self) -> Result<(), CloseReason> {
        loop {
            let pending = match self.responses.try_recv() {
                Ok(pending) => pending,
                Err(TryRecvError::Disconnected) => return self.outbound.flush().await,
                Err(TryRecvError::Empty) => {
                    self.outbound.flush().await?;
                    match self.next_pending().await? {
                        Some(pending) => pending,
                        None => return Ok(()),
                    }
                }
            };
            // Boxed: an idle connection does not have the memory that a response needs.
            Box::pin(self.write(pending)).await?;
            if self.outbound.remaining() > WRITE_BUFFER_BYTES {
                self.outbound.flush().await?;
            }
        }
    }

    /// Writes a response to the outbound buffer.
    ///
    /// # Errors
    /// Why the connection ends. Earlier responses are flushed unless the connection broke.
    async fn write(&mut self, pending: PendingResponse) -> Result<(), CloseReason> {
        match pending {
            PendingResponse::BrokerConnected(broker) => {
                self.broker = Some(BrokerReader::new(broker));
                Ok(())
            }
            PendingResponse::Forward { api_key, correlation_id } => {
                self.forward_response(api_key, correlation_id).await
            }
            PendingResponse::Edit { api_key, correlation_id, edit } => {
                let frame = self.broker_response(correlation_id).await?;
                note_response(&self.status, &self.login, api_key);
                self.outbound.push(api_key, edit(frame).await?);
                Ok(())
            }
            PendingResponse::Rpc { correlation_id, sender } => {
                self.complete_rpc(correlation_id, sender).await
            }
            PendingResponse::Local { api_key, response } => {
                self.write_local(api_key, response).await
            }
            PendingResponse::Deferred { api_key, response } => {
                self.outbound.flush().await?;
                let response = self.deferred_response(response).await;
                self.push_result(api_key, response).await
            }
            PendingResponse::Close(reason) => self.finish(reason).await,
        }
    }

    /// Writes a response of the proxy. Earlier responses are flushed if it is not ready.
    async fn write_local(
        &mut self,
        api_key: i16,
        mut response: LocalResponse,
    ) -> Result<(), CloseReason> {
        let response = match (&mut response).now_or_never() {
            Some(response) => response,
            None => {
                self.outbound.flush().await?;
                response.await
            }
        };
        self.push_result(api_key, response).await
    }

    async fn push_result(
        &mut self,
        api_key: i16,
        response: Result<Option<ResponseFrame>, CloseReason>,
    ) -> Result<(), CloseReason> {
        match response {
            Ok(Some(frame)) => self.outbound.push(api_key, frame),
            // The client expects no response.
            Ok(None) => {}
            Err(reason) => return self.finish(reason).await,
        }
        Ok(())
    }

    /// Flushes earlier responses, then ends the connection.
    async fn finish(&mut self, reason: CloseReason) -> Result<(), CloseReason> {
        self.outbound.flush().await?;
        Err(reason)
    }

    /// Waits for the next response.
    async fn next_pending(&mut self) -> Result<Option<PendingResponse>, CloseReason> {
        loop {
            tokio::select! {
                biased;
                pending = self.responses.recv() => return Ok(pending),
                lost = broker_lost(&mut self.broker) => self.close_or_detach(lost)?,
            }
        }
    }

    /// Waits for a response that is computed in its turn, which may take minutes. Meanwhile notices
    /// if the broker or the client closes the connection, and then ends it: a client that has closed
    /// its side only would get later responses in place of this one. Nothing is lost, as the client
    /// can request the same again.
    async fn deferred_response(
        &mut self,
        mut response: LocalResponse,
    ) -> Result<Option<ResponseFrame>, CloseReason> {
        loop {
            tokio::select! {
                biased;
                () = self.outbound.client_departed() => return Err(client_departed()),
                response = &mut response => return response,
                lost = broker_lost(&mut self.broker) => self.close_or_detach(lost)?,
            }
        }
    }

    /// Ends the connection after the loss of its broker. A diskless node continues without it unless
    /// the client authenticated on it: then the client has to authenticate again.
    fn close_or_detach(&self, close: CloseReason) -> Result<(), CloseReason> {
        let is_node = matches!(self.endpoint, Endpoint::Node(_));
        if is_node && !self.login.is_authenticated() { Ok(()) } else { Err(close) }
    }

    /// Hands the broker's response to the read loop. Drops the sender if the broker is gone or does
    /// not respond in time.
    async fn complete_rpc(
        &mut self,
        correlation_id: i32,
        sender: oneshot::Sender<Bytes>,
    ) -> Result<(), CloseReason> {
        self.outbound.flush().await?;
        let response = tokio::time::timeout(CALL_TIMEOUT, self.broker_response(correlation_id));
        let silent = || CloseReason::Upstream("the broker did not respond in time".to_owned());
        match response.await.unwrap_or_else(|_| Err(silent())) {
            Ok(frame) => {
                // The read loop may have ended meanwhile.
                let _received = sender.send(frame);
                Ok(())
            }
            Err(close) => {
                if let Some(broker) = self.broker.take() {
                    broker.mark_dead();
                }
                self.close_or_detach(close)
            }
        }
    }

    async fn forward_response(
        &mut self,
        api_key: i16,
        correlation_id: i32,
    ) -> Result<(), CloseReason> {
        let Some(broker) = &mut self.broker else { return Err(no_broker()) };
        let mut remaining_bytes = loop {
            if let Some(length) = broker.frame_length(correlation_id)? {
                break 4 + length;
            }
            self.outbound.flush().await?;
            tokio::select! {
                biased;
                read = broker.read() => read?,
                gone = self.outbound.client_gone() => return Err(gone),
            }
        };
        note_response(&self.status, &self.login, api_key);
        loop {
            let piece = broker.take(remaining_bytes);
            remaining_bytes -= piece.len();
            self.outbound.push_piece(api_key, piece);
            if remaining_bytes == 0 {
                return Ok(());
            }
            // Forwards what has arrived before the rest does.
            self.outbound.flush().await?;
            broker.read().await?;
        }
    }

    async fn broker_response(&mut self, correlation_id: i32) -> Result<Bytes, CloseReason> {
        self.outbound.flush().await?;
        let Some(broker) = &mut self.broker else { return Err(no_broker()) };
        tokio::select! {
            biased;
            frame = broker.whole_frame(correlation_id) => frame,
            gone = self.outbound.client_gone() => Err(gone),
        }
    }
}

/// Returns when the broker closes its connection, and takes the connection away. What it sends is
/// kept for later.
async fn broker_lost(connection: &mut Option<BrokerReader>) -> CloseReason {
    let Some(broker) = connection.as_mut() else { return std::future::pending().await };
    let lost = broker.lost().await;
    *connection = None;
    lost
}

/// Notes that the broker has responded to a request of the client: unless clients send such requests
/// before they log in, the client is admitted. One that has begun to authenticate is not: in the
/// middle of that, the response is an error.
fn note_response(status: &ClientStatus, login: &LoginSession, api_key: i16) {
    if !apis::precedes_login(api_key) && !login.is_authenticated() {
        status.admit();
    }
}

fn client_departed() -> CloseReason {
    CloseReason::Upstream("the client is gone".to_owned())
}

fn no_broker() -> CloseReason {
    CloseReason::Upstream("the broker closed the connection".to_owned())
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::ApiKey;

    use super::*;

    #[test]
    fn response_in_the_middle_of_a_login_admits_no_client() {
        let (status, login) = (ClientStatus::new(), LoginSession::default());
        let metadata = ApiKey::Metadata as i16;
        note_response(&status, &login, ApiKey::ApiVersions as i16);
        login.mark_authenticated();
        // The error ILLEGAL_SASL_STATE, in the form of a Metadata response.
        note_response(&status, &login, metadata);
        assert!(!status.is_admitted());

        let (status, login) = (ClientStatus::new(), LoginSession::default());
        note_response(&status, &login, metadata);
        assert!(status.is_admitted(), "a cluster without authentication");
    }
}
