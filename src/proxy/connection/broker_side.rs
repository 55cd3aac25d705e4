//! The broker's side of the write loop: the connection on which the broker responds, and the responses
//! that requests of the proxy itself wait for.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use crate::proxy::broker::login_session::LoginSession;
use crate::proxy::broker::reader::BrokerReader;
use crate::proxy::broker::response_queue::BrokerReadHalf;
use crate::proxy::endpoint::Endpoint;
use crate::proxy::response::CloseReason;
use crate::proxy::upstream::cluster::KafkaCluster;
use crate::proxy::upstream::connection::CALL_TIMEOUT;

/// Time in which the broker of a client of a diskless node responds to the proxy. It is short because
/// any other broker can take its place, unless the client has authenticated on it.
const NODE_CALL_TIMEOUT: Duration = Duration::from_secs(3);
/// Time in which a broker to which any other is equal responds to a request that takes no time.
const QUICK_TIMEOUT: Duration = Duration::from_secs(10);

/// A response that a request of the proxy waits for.
struct Owed {
    correlation_id: i32,
    sender: oneshot::Sender<Bytes>,
    deadline: Instant,
}

/// The broker's side of a connection.
pub(super) struct BrokerSide {
    cluster: Arc<KafkaCluster>,
    endpoint: Endpoint,
    login: Arc<LoginSession>,
    broker: Option<BrokerReader>,
    /// In the order in which the broker responds, before everything that is still queued.
    owed: VecDeque<Owed>,
    /// The reason that the broker was taken away, until it is acted on.
    lost: Option<CloseReason>,
}

impl BrokerSide {
    pub(super) fn new(
        cluster: Arc<KafkaCluster>,
        endpoint: Endpoint,
        login: Arc<LoginSession>,
    ) -> Self {
        Self { cluster, endpoint, login, broker: None, owed: VecDeque::new(), lost: None }
    }

    /// Reads responses from this connection from here on. What the broker before still owed is
    /// dropped.
    pub(super) fn connected(&mut self, broker: BrokerReadHalf) {
        self.broker = Some(BrokerReader::new(broker));
        self.owed.clear();
        self.lost = None;
    }

    /// Returns the login of the client.
    pub(super) fn login(&self) -> &LoginSession {
        &self.login
    }

    /// Hands the next response to a request of the proxy, once it has arrived: responses of the proxy
    /// itself do not wait for it.
    pub(super) fn owe(&mut self, correlation_id: i32, sender: oneshot::Sender<Bytes>) {
        let limit = match self.endpoint {
            Endpoint::Node(_) if !self.login.is_authenticated() => NODE_CALL_TIMEOUT,
            Endpoint::Node(_) | Endpoint::Bootstrap | Endpoint::Broker(_) => CALL_TIMEOUT,
        };
        let deadline = Instant::now() + limit;
        // Without a broker the sender is dropped: there is no response.
        if self.broker.is_some() {
            self.owed.push_back(Owed { correlation_id, sender, deadline });
        }
    }

    /// Returns whether a request of the proxy waits for a response.
    pub(super) fn owes(&self) -> bool {
        !self.owed.is_empty()
    }

    /// Returns the broker once everything before the client's next response has been handed out.
    ///
    /// # Errors
    /// The broker is gone or silent.
    pub(super) async fn broker(&mut self) -> Result<&mut BrokerReader, CloseReason> {
        while !self.owed.is_empty() {
            self.settle_next().await?;
        }
        if let Some(lost) = self.lost.take() {
            return Err(lost);
        }
        self.broker.as_mut().ok_or_else(no_broker)
    }

    /// Hands out the next response that a request of the proxy waits for.
    ///
    /// # Errors
    /// The broker is gone, or did not respond in time; it is taken away.
    ///
    /// # Cancel safety
    /// If dropped before it returns, nothing that was read is lost.
    async fn settle_next(&mut self) -> Result<(), CloseReason> {
        let (Some(next), Some(broker)) = (self.owed.front(), self.broker.as_mut()) else {
            return Err(no_broker());
        };
        let response = timeout_at(next.deadline, broker.whole_frame(next.correlation_id)).await;
        match response {
            Ok(Ok(frame)) => {
                if let Some(owed) = self.owed.pop_front() {
                    // The read loop may have ended, or forgotten the request.
                    let _received = owed.sender.send(frame);
                }
                Ok(())
            }
            Ok(Err(close)) => {
                self.take_away();
                Err(close)
            }
            Err(_) => Err(self.silent()),
        }
    }

    /// Hands out what requests of the proxy wait for; never returns. A broker that is lost meanwhile is
    /// reported by [`BrokerSide::lost`].
    ///
    /// # Cancel safety
    /// If dropped, nothing that was read is lost.
    pub(super) async fn serve_owed(&mut self) -> Infallible {
        while !self.owed.is_empty() {
            if let Err(close) = self.settle_next().await {
                self.lost = Some(close);
            }
        }
        std::future::pending().await
    }

    /// Returns when the broker closes its connection or owes a response for too long, and takes the
    /// connection away. Until then hands out what requests of the proxy wait for; other bytes are kept
    /// for later.
    ///
    /// # Cancel safety
    /// If dropped before it returns, nothing that was read is lost.
    pub(super) async fn lost(&mut self) -> CloseReason {
        if let Some(lost) = self.lost.take() {
            return lost;
        }
        loop {
            match (&mut self.broker, self.owed.is_empty()) {
                (None, _) => return std::future::pending().await,
                (Some(_), false) => {
                    if let Err(close) = self.settle_next().await {
                        return close;
                    }
                }
                (Some(broker), true) => {
                    let lost = broker.lost().await;
                    self.take_away();
                    return lost;
                }
            }
        }
    }

    /// Ends the connection after the loss of its broker. A diskless node continues without it unless
    /// the client authenticated on it: then the client has to authenticate again.
    pub(super) fn close_or_detach(&self, close: CloseReason) -> Result<(), CloseReason> {
        let is_node = matches!(self.endpoint, Endpoint::Node(_));
        if is_node && !self.login.is_authenticated() { Ok(()) } else { Err(close) }
    }

    /// Returns by when the broker must begin to respond to a request of the client: only to one that
    /// takes no time, where any other broker can take its place.
    pub(super) fn deadline(&self, is_quick: bool) -> Option<Instant> {
        let is_any = !matches!(self.endpoint, Endpoint::Broker(_));
        (is_any && is_quick).then(|| Instant::now() + QUICK_TIMEOUT)
    }

    /// Takes away a broker that did not respond in time, so that another one is preferred.
    pub(super) fn silent(&mut self) -> CloseReason {
        if let Some(broker) = &self.broker {
            self.cluster.note_silent(broker.address());
        }
        self.take_away();
        CloseReason::Upstream("the broker did not respond in time".to_owned())
    }

    fn take_away(&mut self) {
        if let Some(broker) = self.broker.take() {
            broker.mark_dead();
        }
        self.owed.clear();
    }
}

fn no_broker() -> CloseReason {
    CloseReason::Upstream("the broker closed the connection".to_owned())
}
