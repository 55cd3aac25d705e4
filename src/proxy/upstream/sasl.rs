//! SASL authentication of the proxy's own connections to brokers, without I/O.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use super::error::SaslError;
use super::scram::{self, ScramClient};
use crate::entropy::Entropy;
use crate::sasl::SaslMechanism;

/// A user name and password. `Debug` omits the password.
#[derive(Clone)]
pub struct SaslCredentials {
    /// The mechanism.
    pub mechanism: SaslMechanism,
    username: String,
    password: String,
    entropy: Arc<Entropy>,
}

impl fmt::Debug for SaslCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Login {{ {:?}, {:?}, .. }}", self.mechanism, self.username)
    }
}

impl SaslCredentials {
    /// Draws nonces from `entropy`.
    pub fn new(
        mechanism: SaslMechanism,
        username: String,
        password: String,
        entropy: Arc<Entropy>,
    ) -> Self {
        Self { mechanism, username, password, entropy }
    }

    /// Begins the authentication of one connection.
    pub fn begin(&self) -> SaslExchange {
        let scram = |hash| {
            let nonce: String =
                (0..3).map(|_| format!("{:016x}", self.entropy.next_u64())).collect();
            SaslExchange(ExchangeState::ScramClient(ScramClient::new(
                hash,
                &self.username,
                &self.password,
                &nonce,
            )))
        };
        match self.mechanism {
            SaslMechanism::Plain => {
                let token = format!("\0{}\0{}", self.username, self.password);
                SaslExchange(ExchangeState::Plain(Some(Bytes::from(token))))
            }
            SaslMechanism::ScramSha256 => scram(&scram::SHA_256),
            SaslMechanism::ScramSha512 => scram(&scram::SHA_512),
        }
    }
}

/// An authentication in progress.
pub struct SaslExchange(ExchangeState);

enum ExchangeState {
    /// The only token, until it is sent.
    Plain(Option<Bytes>),
    /// Three messages; the last is the server's proof.
    ScramClient(ScramClient),
}

impl fmt::Debug for SaslExchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Exchange")
    }
}

impl SaslExchange {
    /// Returns the next token to send, given the server's response to the previous one (empty at
    /// first); `None` when the authentication is complete.
    ///
    /// # Errors
    /// The response is malformed, or the server does not know the password.
    pub fn next(&mut self, challenge: &[u8]) -> Result<Option<Bytes>, SaslError> {
        match &mut self.0 {
            ExchangeState::Plain(token) => Ok(token.take()),
            ExchangeState::ScramClient(scram) => scram.next(challenge),
        }
    }
}
