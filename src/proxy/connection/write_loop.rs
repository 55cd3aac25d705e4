//! Writes responses to the client in the order of its requests.

use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TryRecvError;
use tokio::time::Instant;

use super::broker_side::BrokerSide;
use super::outbound::{ClientWriter, OutboundBuffer};
use crate::proxy::apis;
use crate::proxy::broker::client_status::ClientStatus;
use crate::proxy::broker::login_session::LoginSession;
use crate::proxy::broker::response_queue::{LocalResponse, PendingResponse};
use crate::proxy::response::{CloseReason, ResponseFrame};

/// Buffered bytes from which on they are written although more responses are ready.
const WRITE_BUFFER_BYTES: usize = 256 << 10;

pub(super) struct WriteLoop {
    outbound: OutboundBuffer,
    responses: mpsc::Receiver<PendingResponse>,
    broker: BrokerSide,
    status: Arc<ClientStatus>,
}

impl WriteLoop {
    pub(super) fn new(
        client: ClientWriter,
        responses: mpsc::Receiver<PendingResponse>,
        broker: BrokerSide,
        status: Arc<ClientStatus>,
    ) -> Self {
        let outbound = OutboundBuffer::new(client, Arc::clone(&status));
        Self { outbound, responses, broker, status }
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
                self.broker.connected(broker);
                Ok(())
            }
            PendingResponse::Forward { api_key, correlation_id } => {
                self.forward_response(api_key, correlation_id).await
            }
            PendingResponse::Edit { api_key, correlation_id, edit } => {
                let frame = self.broker_response(api_key, correlation_id).await?;
                note_response(&self.status, self.broker.login(), api_key);
                self.outbound.push(api_key, edit(frame).await?);
                Ok(())
            }
            PendingResponse::Rpc { correlation_id, sender } => {
                self.broker.owe(correlation_id, sender);
                Ok(())
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
                // A broker that is lost meanwhile does not keep the client from getting it.
                tokio::select! {
                    biased;
                    response = response => response,
                    never = self.broker.serve_owed() => match never {},
                }
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
                lost = self.broker.lost() => self.broker.close_or_detach(lost)?,
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
                lost = self.broker.lost() => self.broker.close_or_detach(lost)?,
            }
        }
    }

    async fn forward_response(
        &mut self,
        api_key: i16,
        correlation_id: i32,
    ) -> Result<(), CloseReason> {
        if self.broker.owes() {
            // Earlier responses do not wait for the broker, and are not lost with it.
            self.outbound.flush().await?;
        }
        let deadline = self.broker.deadline(apis::is_quick(api_key));
        let mut remaining_bytes = loop {
            let broker = self.broker.broker().await?;
            if let Some(length) = broker.frame_length(correlation_id)? {
                break 4 + length;
            }
            self.outbound.flush().await?;
            tokio::select! {
                biased;
                read = broker.read() => read?,
                gone = self.outbound.client_gone() => return Err(gone),
                () = sleep_until(deadline) => return Err(self.broker.silent()),
            }
        };
        note_response(&self.status, self.broker.login(), api_key);
        loop {
            let broker = self.broker.broker().await?;
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

    async fn broker_response(
        &mut self,
        api_key: i16,
        correlation_id: i32,
    ) -> Result<Bytes, CloseReason> {
        self.outbound.flush().await?;
        let deadline = self.broker.deadline(apis::is_quick(api_key));
        let broker = self.broker.broker().await?;
        tokio::select! {
            biased;
            frame = broker.whole_frame(correlation_id) => frame,
            gone = self.outbound.client_gone() => Err(gone),
            () = sleep_until(deadline) => Err(self.broker.silent()),
        }
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
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
