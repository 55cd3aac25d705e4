//! Authenticates peers by HMAC-SHA256 with the secret that the coordinator gives to each replica.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Uri};
use ring::hmac;

use super::protocol::AGE_MAX;

const TIME: HeaderName = HeaderName::from_static("odradek-time");
const MAC: HeaderName = HeaderName::from_static("odradek-mac");

/// The replicas' shared key. Its `Debug` output does not contain the secret.
#[derive(Clone, Debug)]
pub struct PeerKey(Arc<hmac::Key>);

impl PeerKey {
    /// Creates the key from [`crate::coordinator::Membership::secret`].
    pub fn new(secret: &[u8; 32]) -> Self {
        Self(Arc::new(hmac::Key::new(hmac::HMAC_SHA256, secret)))
    }

    /// Returns the headers that authenticate a request. `now_ms` counts milliseconds since the Unix
    /// epoch.
    pub fn sign(&self, method: &Method, target: &str, now_ms: i64) -> HeaderMap {
        let time = now_ms.to_string();
        let mac = hmac::sign(&self.0, &signed_bytes(method, target, &time));
        let mac = STANDARD_NO_PAD.encode(mac);
        let value = |text| HeaderValue::from_str(text).expect("digits and base64 are ASCII");
        HeaderMap::from_iter([(TIME, value(&time)), (MAC, value(&mac))])
    }

    /// Returns whether a request was signed with this key within the last minute. `now_ms` counts
    /// milliseconds since the Unix epoch.
    pub fn verify(&self, method: &Method, uri: &Uri, headers: &HeaderMap, now_ms: i64) -> bool {
        let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        let (Some(time), Some(mac)) = (text(TIME), text(MAC)) else { return false };
        let Ok(mac) = STANDARD_NO_PAD.decode(mac) else { return false };
        let target = uri.path_and_query().map_or("", |target| target.as_str());
        // Compares in constant time.
        if hmac::verify(&self.0, &signed_bytes(method, target, time), &mac).is_err() {
            return false;
        }
        let age_max = AGE_MAX.as_millis();
        time.parse::<i64>().is_ok_and(|at| u128::from(at.abs_diff(now_ms)) <= age_max)
    }
}

fn signed_bytes(method: &Method, target: &str, time: &str) -> Vec<u8> {
    [method.as_str(), target, time].join("\n").into_bytes()
}
