//! Reads the file.

use std::fmt;
use std::path::Path;

use serde::Deserialize as _;

use super::check::Checker;
use super::formats::is_name;
use super::keys::KEYS;
use super::model::Settings;
use super::problems::Problems;
use super::tree::Node;
use super::validate;
use super::written::Written;

/// The size limit of the file, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Defaults that come from the machine.
pub struct Environment<'a> {
    /// Returns the value of an environment variable.
    pub env: &'a dyn Fn(&str) -> Option<String>,
    /// The host's name, if it has one.
    pub hostname: Option<String>,
}

impl fmt::Debug for Environment<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Environment").field("hostname", &self.hostname).finish_non_exhaustive()
    }
}

impl Settings {
    /// Reads a file, with this process's environment.
    ///
    /// # Errors
    /// All problems of the file.
    pub fn load(path: &Path) -> Result<Self, Problems> {
        let unreadable =
            |detail: String| Problems::one("", format!("cannot read {}: {detail}", path.display()));
        let meta = std::fs::metadata(path).map_err(|error| unreadable(error.to_string()))?;
        if meta.len() > FILE_BYTES_MAX {
            return Err(unreadable(format!("expected at most {FILE_BYTES_MAX} bytes")));
        }
        let text = std::fs::read_to_string(path).map_err(|error| unreadable(error.to_string()))?;
        let hostname = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
        let env = |name: &str| std::env::var(name).ok();
        Self::parse(&text, &Environment { env: &env, hostname })
    }

    /// Reads the text of a file.
    ///
    /// # Errors
    /// All problems of the file.
    pub fn parse(text: &str, environment: &Environment<'_>) -> Result<Self, Problems> {
        let tree: Node = serde_yaml::from_str(text)
            .map_err(|error| Problems::one("", format!("invalid YAML: {error}")))?;
        let mut checker = Checker { problems: Problems::default(), env: environment.env };
        let file = checker.section("", &tree, &KEYS);
        let mut problems = checker.problems;
        let written = Written::of(&file);
        match Self::deserialize(&file) {
            Ok(settings) => {
                let settings = settings.resolved(written, environment);
                validate::check(&settings, &mut problems);
                if problems.is_empty() { Ok(settings) } else { Err(problems) }
            }
            Err(error) => {
                if problems.is_empty() {
                    problems.push("", error.to_string());
                }
                Err(problems)
            }
        }
    }

    /// Fills in the defaults that depend on other keys or on the machine.
    fn resolved(mut self, written: Written, environment: &Environment<'_>) -> Self {
        let env = environment.env;
        if !written.has("replica") {
            let hostname = env("HOSTNAME").or_else(|| environment.hostname.clone());
            let hostname = hostname.map(|name| name.trim().to_owned()).filter(|name| is_name(name));
            self.replica = hostname.unwrap_or(self.replica);
        }
        if self.listeners.advertised_host.is_empty() {
            self.listeners.advertised_host = self.listeners.bind.to_string();
        }
        if let Some(peers) = self.peers.as_mut().filter(|peers| peers.advertised_host.is_empty()) {
            peers.advertised_host = peers.bind.ip().to_string();
        }
        if self.s3.region.is_empty() {
            let region = env("AWS_REGION").or_else(|| env("AWS_DEFAULT_REGION"));
            self.s3.region = region.unwrap_or_else(|| "us-east-1".to_owned());
        }
        self.written = written;
        self
    }
}
