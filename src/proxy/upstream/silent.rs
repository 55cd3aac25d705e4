//! Brokers that did not respond in time.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// The time for which other brokers are preferred to one that did not respond.
const SILENT_FOR: Duration = Duration::from_secs(10);

/// The addresses of brokers that did not respond in time. Such a broker may accept connections all
/// the same, so each new one would wait for it again.
#[derive(Debug, Default)]
pub(super) struct SilentBrokers(Mutex<HashMap<String, Instant>>);

impl SilentBrokers {
    /// Notes that a broker did not respond in time.
    pub(super) fn note(&self, address: &str) {
        let now = Instant::now();
        let mut noted = self.0.lock();
        noted.retain(|_, at| now - *at < SILENT_FOR);
        noted.insert(address.to_owned(), now);
    }

    /// Moves silent brokers behind the others, and keeps the order otherwise.
    pub(super) fn sort_last(&self, addresses: &mut [String]) {
        let now = Instant::now();
        let noted = self.0.lock();
        let is_silent =
            |address: &String| noted.get(address).is_some_and(|at| now - *at < SILENT_FOR);
        addresses.sort_by_key(is_silent);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn silent_brokers_come_last_for_some_seconds() {
        let silent = SilentBrokers::default();
        silent.note("b:1");
        let sorted = || {
            let mut addresses = ["a:1", "b:1", "c:1"].map(str::to_owned);
            silent.sort_last(&mut addresses);
            addresses.join(" ")
        };
        assert_eq!(sorted(), "a:1 c:1 b:1");
        tokio::time::advance(SILENT_FOR).await;
        assert_eq!(sorted(), "a:1 b:1 c:1");
    }
}
