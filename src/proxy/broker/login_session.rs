//! The login of a client at its broker.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::client_name::ClientName;
use crate::proxy::response::CloseReason;

/// The authentication of a client, and its end (KIP-368).
#[derive(Debug, Default)]
pub(crate) struct LoginSession {
    authenticated: AtomicBool,
    expires_at: Mutex<Option<Instant>>,
    name: Mutex<LoginName>,
}

/// The name of a client.
#[derive(Debug, Default)]
struct LoginName {
    /// That of the exchange under way.
    announced: Option<ClientName>,
    /// That of the last login which the broker accepted.
    accepted: Option<Arc<str>>,
}

impl LoginSession {
    /// Notes that the client authenticates: from here on its broker connection has its principal.
    pub(crate) fn mark_authenticated(&self) {
        self.authenticated.store(true, Ordering::Release);
    }

    /// Returns whether the client authenticates. A new broker connection would not be authenticated
    /// as the client, and the proxy could not authenticate it.
    pub(crate) fn is_authenticated(&self) -> bool {
        self.authenticated.load(Ordering::Acquire)
    }

    /// Notes that the broker accepted a login and for how long; zero is without limit.
    pub(crate) fn begin(&self, lifetime: Duration) {
        let expires_at = Instant::now().checked_add(lifetime).filter(|_| !lifetime.is_zero());
        *self.expires_at.lock() = expires_at;
    }

    /// Notes a message of the client in the exchange. The first one has its name.
    pub(crate) fn announce(&self, message: &[u8]) {
        if let Some(name) = ClientName::parse(message) {
            self.name.lock().announced = Some(name);
        }
    }

    /// Notes a message of the broker in the exchange, which reports no error.
    pub(crate) fn respond(&self, message: &[u8]) {
        let mut name = self.name.lock();
        if let Some(accepted) = name.announced.take_if(|name| name.is_accepted_by(message)) {
            name.accepted = Some(accepted.name().into());
        }
    }

    /// Returns the name of the exchange that has failed.
    pub(crate) fn take_announced(&self) -> Option<ClientName> {
        self.name.lock().announced.take()
    }

    /// Returns the name with which the broker accepted the client.
    pub(crate) fn principal(&self) -> Option<Arc<str>> {
        self.name.lock().accepted.clone()
    }

    /// Returns when the login expires, if it does.
    pub(crate) fn expires_at(&self) -> Option<Instant> {
        *self.expires_at.lock()
    }

    /// Checks that the login has not expired.
    ///
    /// # Errors
    /// It has: like a broker, the proxy then responds to SASL requests only.
    pub(crate) fn check(&self, now: Instant) -> Result<(), CloseReason> {
        match self.expires_at() {
            Some(at) if at <= now => {
                Err(CloseReason::Upstream("the client's login has expired".to_owned()))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn login_expires_after_its_lifetime() {
        let session = LoginSession::default();
        assert!(session.check(Instant::now()).is_ok());
        session.begin(Duration::from_secs(5));
        tokio::time::advance(Duration::from_millis(4_999)).await;
        assert!(session.check(Instant::now()).is_ok());
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(session.check(Instant::now()).is_err());
        session.begin(Duration::ZERO);
        assert!(session.check(Instant::now()).is_ok(), "a login without limit");
    }
}
