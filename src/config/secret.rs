//! Values that are never shown: contents of secret files, and URLs with passwords.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

use super::problems::without_userinfo;

/// The contents of a file with one line: a password or a key. `Debug` does not show it.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct SecretFile(String);

impl SecretFile {
    /// Returns the secret. It must not be logged.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

/// Reads the file at a path.
impl FromStr for SecretFile {
    type Err = String;

    fn from_str(path: &str) -> Result<Self, String> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| format!("{error}; expected a file that this user can read"))?;
        // Editors end the line; everything else may be part of a password.
        let secret = text.trim_end_matches(['\n', '\r']);
        if secret.is_empty() || secret.contains(['\n', '\r', '\0']) {
            return Err("expected a file with exactly one line".to_owned());
        }
        Ok(Self(secret.to_owned()))
    }
}

impl TryFrom<String> for SecretFile {
    type Error = String;

    fn try_from(path: String) -> Result<Self, String> {
        path.parse()
    }
}

impl fmt::Debug for SecretFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// A URL of one or more Redis servers (`redis://`, `rediss://`, `redis-sentinel://` or
/// `redis-cluster://`). `Display` and `Debug` do not show its user and password.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisUrl(String);

impl RedisUrl {
    pub(super) fn new(url: String) -> Self {
        Self(url)
    }

    /// Returns the URL with its password. It must not be logged.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&without_userinfo(&self.0))
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
