//! The client side of SCRAM (RFC 5802, RFC 7677) without channel binding. As in Kafka, user name and
//! password are not normalised.

use std::num::NonZeroU32;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use ring::{digest, hmac, pbkdf2};

use super::error::SaslError;

/// `n,,` in Base64: no channel binding.
const CHANNEL_BINDING: &str = "c=biws";
/// Kafka's minimum (`ScramMechanism.minIterations`). With fewer, the password would be cheap to guess
/// from the proof.
const ITERATIONS_MIN: u32 = 4096;
/// Limits the work that a hostile server can cause. Kafka's tools set at most 16384.
const ITERATIONS_MAX: u32 = 1 << 17;

/// A hash function, as digest, HMAC and PBKDF2.
pub(super) struct ScramHash {
    digest: &'static digest::Algorithm,
    hmac: &'static hmac::Algorithm,
    pbkdf2: &'static pbkdf2::Algorithm,
}

pub(super) static SHA_256: ScramHash = ScramHash {
    digest: &digest::SHA256,
    hmac: &hmac::HMAC_SHA256,
    pbkdf2: &pbkdf2::PBKDF2_HMAC_SHA256,
};
pub(super) static SHA_512: ScramHash = ScramHash {
    digest: &digest::SHA512,
    hmac: &hmac::HMAC_SHA512,
    pbkdf2: &pbkdf2::PBKDF2_HMAC_SHA512,
};

impl ScramHash {
    fn hmac(&self, key: &[u8], message: &[u8]) -> hmac::Tag {
        hmac::sign(&hmac::Key::new(*self.hmac, key), message)
    }

    /// `SaltedPassword` of RFC 5802.
    fn salted(&self, password: &[u8], salt: &[u8], iterations: NonZeroU32) -> Vec<u8> {
        let mut salted = vec![0; self.digest.output_len()];
        pbkdf2::derive(*self.pbkdf2, iterations, salt, password, &mut salted);
        salted
    }
}

/// The state of one authentication.
pub(super) struct ScramClient {
    hash: &'static ScramHash,
    password: String,
    nonce: String,
    first_bare: String,
    state: ScramState,
}

enum ScramState {
    Begin,
    FirstSent,
    /// Contains the salted password and the message that the server must sign.
    FinalSent(Vec<u8>, String),
    Done,
}

impl ScramClient {
    pub(super) fn new(
        hash: &'static ScramHash,
        username: &str,
        password: &str,
        nonce: &str,
    ) -> Self {
        let name = username.replace('=', "=3D").replace(',', "=2C");
        Self {
            hash,
            password: password.to_owned(),
            nonce: nonce.to_owned(),
            first_bare: format!("n={name},r={nonce}"),
            state: ScramState::Begin,
        }
    }

    pub(super) fn next(&mut self, challenge: &[u8]) -> Result<Option<Bytes>, SaslError> {
        let challenge =
            std::str::from_utf8(challenge).map_err(|_| SaslError::Malformed("not UTF-8"))?;
        match std::mem::replace(&mut self.state, ScramState::Done) {
            ScramState::Begin => {
                self.state = ScramState::FirstSent;
                Ok(Some(Bytes::from(format!("n,,{}", self.first_bare))))
            }
            ScramState::FirstSent => self.client_proof(challenge).map(Some),
            ScramState::FinalSent(salted, message) => {
                self.verify_server(&salted, &message, challenge).map(|()| None)
            }
            ScramState::Done => Ok(None),
        }
    }

    fn client_proof(&mut self, server_first: &str) -> Result<Bytes, SaslError> {
        let mut parts = server_first.split(',');
        let mut field = |name: &'static str| {
            let part = parts.next().and_then(|part| part.strip_prefix(name));
            part.ok_or(SaslError::Malformed("the first message lacks a field"))
        };
        let (nonce, salt, iterations) = (field("r=")?, field("s=")?, field("i=")?);
        if !nonce.starts_with(&self.nonce) || nonce.len() == self.nonce.len() {
            return Err(SaslError::Malformed("the nonce does not extend the nonce of the client"));
        }
        let salt =
            BASE64.decode(salt).map_err(|_| SaslError::Malformed("the salt is not Base64"))?;
        let iterations = iterations
            .parse()
            .ok()
            .filter(|count| (ITERATIONS_MIN..=ITERATIONS_MAX).contains(count))
            .and_then(NonZeroU32::new)
            .ok_or(SaslError::Malformed(
                "the number of iterations is not between 4096 and 131072",
            ))?;

        let salted = self.hash.salted(self.password.as_bytes(), &salt, iterations);
        let final_bare = format!("{CHANNEL_BINDING},r={nonce}");
        let message = format!("{},{server_first},{final_bare}", self.first_bare);
        let client_key = self.hash.hmac(&salted, b"Client Key");
        let stored_key = digest::digest(self.hash.digest, client_key.as_ref());
        let signature = self.hash.hmac(stored_key.as_ref(), message.as_bytes());
        let proof: Vec<u8> =
            client_key.as_ref().iter().zip(signature.as_ref()).map(|(a, b)| a ^ b).collect();
        self.state = ScramState::FinalSent(salted, message);
        Ok(Bytes::from(format!("{final_bare},p={}", BASE64.encode(proof))))
    }

    fn verify_server(
        &self,
        salted: &[u8],
        message: &str,
        server_final: &str,
    ) -> Result<(), SaslError> {
        if let Some(error) = server_final.strip_prefix("e=") {
            return Err(SaslError::Refused(error.to_owned()));
        }
        let signature = server_final.strip_prefix("v=").and_then(|v| v.split(',').next());
        let signature = signature.and_then(|v| BASE64.decode(v).ok());
        let signature =
            signature.ok_or(SaslError::Malformed("the last message has no signature"))?;
        let server_key = self.hash.hmac(salted, b"Server Key");
        let key = hmac::Key::new(*self.hash.hmac, server_key.as_ref());
        hmac::verify(&key, message.as_bytes(), &signature).map_err(|_| SaslError::WrongServer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONCE: &str = "rOprNGfwEbeRWgbNEkqO";
    const SERVER_FIRST: &[u8] = b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
        s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
    const SERVER_FINAL: &[u8] = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";

    fn exchange() -> ScramClient {
        ScramClient::new(&SHA_256, "user", "pencil", NONCE)
    }

    #[test]
    fn matches_the_rfc_7677_example() {
        let mut scram = exchange();
        let first = scram.next(b"").unwrap().unwrap();
        assert_eq!(first, "n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
        let last = scram.next(SERVER_FIRST).unwrap().unwrap();
        assert_eq!(
            last,
            "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
             p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
        );
        assert!(scram.next(SERVER_FINAL).unwrap().is_none());
    }

    #[test]
    fn server_without_the_password_is_rejected() {
        let wrong = BASE64.encode([7; 32]);
        for server_final in [format!("v={wrong}"), "v=".to_owned()] {
            let mut scram = exchange();
            scram.next(b"").unwrap();
            scram.next(SERVER_FIRST).unwrap();
            let error = scram.next(server_final.as_bytes()).unwrap_err();
            assert!(matches!(error, SaslError::WrongServer), "{error}");
        }
    }

    #[test]
    fn malformed_server_messages_are_rejected() {
        let cases: [&[u8]; 7] = [
            b"",
            b"\xff",
            b"r=other,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
            b"r=rOprNGfwEbeRWgbNEkqO,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
            b"r=rOprNGfwEbeRWgbNEkqOx,s=*,i=4096",
            b"r=rOprNGfwEbeRWgbNEkqOx,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=1",
            b"r=rOprNGfwEbeRWgbNEkqOx,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4000000000",
        ];
        for case in cases {
            let mut scram = exchange();
            scram.next(b"").unwrap();
            assert!(matches!(scram.next(case), Err(SaslError::Malformed(_))), "{case:?}");
        }
    }

    #[test]
    fn user_name_is_escaped() {
        let mut scram = ScramClient::new(&SHA_512, "a=b,c", "p", "n");
        assert_eq!(scram.next(b"").unwrap().unwrap(), "n,,n=a=3Db=2Cc,r=n");
    }
}
