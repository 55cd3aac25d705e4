//! How replicas know each other: by HMAC-SHA256 with the secret that the coordinator gave them.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Uri};
use ring::hmac;

use super::AGE_MAX;

const TIME: HeaderName = HeaderName::from_static("odradek-time");
const MAC: HeaderName = HeaderName::from_static("odradek-mac");

/// The replicas' secret, ready for use; its `Debug` does not show it.
#[derive(Clone, Debug)]
pub struct PeerKey(Arc<hmac::Key>);

impl PeerKey {
    /// Of [`crate::coordinator::Membership::secret`].
    pub fn new(secret: &[u8; 32]) -> Self {
        Self(Arc::new(hmac::Key::new(hmac::HMAC_SHA256, secret)))
    }

    /// The headers that a request must carry; `now_ms` since the Unix epoch.
    pub fn sign(&self, method: &Method, target: &str, now_ms: i64) -> HeaderMap {
        let time = now_ms.to_string();
        let mac = STANDARD_NO_PAD.encode(hmac::sign(&self.0, &signed(method, target, &time)));
        let value = |text| HeaderValue::from_str(text).expect("digits and base64 are ASCII");
        HeaderMap::from_iter([(TIME, value(&time)), (MAC, value(&mac))])
    }

    /// Whether a request comes from who knows the secret, and lately.
    pub fn verify(&self, method: &Method, uri: &Uri, headers: &HeaderMap, now_ms: i64) -> bool {
        let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        let (Some(time), Some(mac)) = (text(TIME), text(MAC)) else { return false };
        let Ok(mac) = STANDARD_NO_PAD.decode(mac) else { return false };
        let target = uri.path_and_query().map_or("", |target| target.as_str());
        // In constant time.
        if hmac::verify(&self.0, &signed(method, target, time), &mac).is_err() {
            return false;
        }
        let age_max = AGE_MAX.as_millis();
        time.parse::<i64>().is_ok_and(|at| u128::from(at.abs_diff(now_ms)) <= age_max)
    }
}

fn signed(method: &Method, target: &str, time: &str) -> Vec<u8> {
    [method.as_str(), target, time].join("\n").into_bytes()
}
