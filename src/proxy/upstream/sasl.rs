//! How our own connections to brokers authenticate: SASL's tokens, without a socket.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use super::error::SaslError;
use super::scram::{self, ScramClient};
use crate::entropy::Entropy;
use crate::wire::sasl::SaslMechanism;

/// A user with a password. `Debug` shows no password.
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
    /// Nonces are drawn from `entropy`.
    pub fn new(
        mechanism: SaslMechanism,
        username: String,
        password: String,
        entropy: Arc<Entropy>,
    ) -> Self {
        Self { mechanism, username, password, entropy }
    }

    /// An exchange for one connection.
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

/// One authentication under way.
pub struct SaslExchange(ExchangeState);

enum ExchangeState {
    /// The one token, until it is sent.
    Plain(Option<Bytes>),
    /// Three messages, of which the last is the server's proof.
    ScramClient(ScramClient),
}

impl fmt::Debug for SaslExchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Exchange")
    }
}

impl SaslExchange {
    /// The next token to send, given the answer to the one before (empty at first); `None` once
    /// both sides are content.
    ///
    /// # Errors
    /// The answer is not one that a broker who knows the password would give.
    pub fn next(&mut self, challenge: &[u8]) -> Result<Option<Bytes>, SaslError> {
        match &mut self.0 {
            ExchangeState::Plain(token) => Ok(token.take()),
            ExchangeState::ScramClient(scram) => scram.next(challenge),
        }
    }
}
