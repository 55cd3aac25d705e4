//! Adds up what happened, at the prices and in the zones of the time.

use std::collections::HashMap;
use std::time::Duration;

use super::{Bill, GIB, MONTH_SECONDS, PriceBook};
use crate::log::ids::TopicId;
use crate::metrics::TopicCounts;

/// What a replica did since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// PUTs begun.
    pub puts: u64,
    /// GETs and HEADs begun.
    pub gets: u64,
    /// LISTs begun.
    pub lists: u64,
    /// Bytes of objects written.
    pub stored_bytes: u64,
    /// Bytes between diskless nodes and clients of other zones.
    pub crossed_bytes: u64,
}

/// One topic's part.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TopicBill {
    /// What it came to.
    pub counts: TopicCounts,
    /// Dollars on replicated Kafka.
    pub classic: f64,
    /// Its share of the PUTs.
    pub put: f64,
    /// Its share of everything else that was spent.
    pub other: f64,
}

impl TopicBill {
    /// Dollars spent on it.
    pub fn spent(&self) -> f64 {
        self.put + self.other
    }

    /// Dollars saved by it; below 0 where more was spent.
    pub fn saved(&self) -> f64 {
        self.classic - self.spent()
    }
}

/// The books of a replica.
#[derive(Clone, Debug)]
pub struct Ledger {
    book: PriceBook,
    last: Traffic,
    until: Duration,
    bill: Bill,
    topics: HashMap<TopicId, TopicBill>,
    /// Dollars that no topic has taken over yet: PUTs and GETs are begun before it is known what
    /// for.
    open: Open,
}

#[derive(Clone, Copy, Debug, Default)]
struct Open {
    put: f64,
    get: f64,
    cross_zone: f64,
}

impl Ledger {
    /// Empty books.
    pub fn new(book: PriceBook) -> Self {
        let (last, until) = (Traffic::default(), Duration::ZERO);
        let (bill, topics, open) = (Bill::default(), HashMap::new(), Open::default());
        Self { book, last, until, bill, topics, open }
    }

    /// Other prices, from the next entry on.
    pub fn set_book(&mut self, book: PriceBook) {
        self.book = book;
    }

    /// The prices.
    pub fn book(&self) -> &PriceBook {
        &self.book
    }

    /// Enters what happened since the last time. `now` is the time since the start; `zones` are
    /// those in which replicas live.
    pub fn enter(
        &mut self,
        now: Duration,
        zones: u32,
        traffic: Traffic,
        counts: &HashMap<TopicId, TopicCounts>,
    ) {
        let zones = self.book.zones.unwrap_or(zones).max(1);
        let months = now.saturating_sub(self.until).as_secs_f64() / MONTH_SECONDS;
        let since = |now: u64, before: u64| now.saturating_sub(before);
        let put = since(traffic.puts, self.last.puts) as f64 / 1_000.0 * self.book.put_per_1000;
        let get = since(traffic.gets, self.last.gets) as f64 / 1_000.0 * self.book.get_per_1000;
        let list = since(traffic.lists, self.last.lists) as f64 / 1_000.0 * self.book.put_per_1000;
        let crossed = since(traffic.crossed_bytes, self.last.crossed_bytes);
        let cross_zone = self.book.crossing(crossed, 1.0);
        self.bill.put += put;
        self.bill.get += get;
        self.bill.list += list;
        self.bill.cross_zone += cross_zone;
        self.bill.storage += self.storage(traffic.stored_bytes, months);
        self.open.put += put;
        self.open.get += get;
        self.open.cross_zone += cross_zone;
        self.enter_topics(zones, months, counts);
        (self.last, self.until) = (traffic, now);
    }

    fn storage(&self, bytes: u64, months: f64) -> f64 {
        bytes as f64 / GIB * months * self.book.storage_per_gib_month
    }

    fn enter_topics(&mut self, zones: u32, months: f64, counts: &HashMap<TopicId, TopicCounts>) {
        let news: Vec<_> = counts
            .iter()
            .map(|(topic, now)| {
                let before = self.topics.get(topic).map(|bill| bill.counts).unwrap_or_default();
                (*topic, *now, Delta::between(&before, now))
            })
            .collect();
        let sum = |of: fn(&Delta) -> f64| news.iter().map(|(_, _, delta)| of(delta)).sum::<f64>();
        let shares = [sum(|d| d.put_share), sum(|d| d.fetched), sum(Delta::moved)];
        for (topic, now, delta) in news {
            let produced = delta.produced as u64;
            let book = &self.book;
            let produce = book.crossing(produced, PriceBook::produce_crossings(zones));
            let replication = book.crossing(produced, book.replication_crossings(zones));
            let fetch = book.crossing(delta.fetched as u64, book.fetch_crossings(zones));
            let storage = self.storage(now.produced_bytes, months);
            self.bill.classic_produce += produce;
            self.bill.classic_replication += replication;
            self.bill.classic_fetch += fetch;
            let part = |open: f64, of: f64, all: f64| if all > 0.0 { open * of / all } else { 0.0 };
            let bill = self.topics.entry(topic).or_default();
            bill.counts = now;
            bill.classic += produce + replication + fetch;
            bill.put += part(self.open.put, delta.put_share, shares[0]);
            bill.other += part(self.open.get, delta.fetched, shares[1])
                + part(self.open.cross_zone, delta.moved(), shares[2])
                + storage;
        }
        for (open, all) in [&mut self.open.put, &mut self.open.get, &mut self.open.cross_zone]
            .into_iter()
            .zip(shares)
        {
            if all > 0.0 {
                *open = 0.0;
            }
        }
    }

    /// What all of it comes to.
    pub fn bill(&self) -> &Bill {
        &self.bill
    }

    /// What each topic comes to.
    pub fn topics(&self) -> &HashMap<TopicId, TopicBill> {
        &self.topics
    }

    /// Until when the books go: the time since the start.
    pub fn until(&self) -> Duration {
        self.until
    }
}

/// What a topic did since the last entry.
#[derive(Clone, Copy, Debug)]
struct Delta {
    produced: f64,
    fetched: f64,
    put_share: f64,
}

impl Delta {
    fn between(before: &TopicCounts, now: &TopicCounts) -> Self {
        Self {
            produced: now.produced_bytes.saturating_sub(before.produced_bytes) as f64,
            fetched: now.fetched_bytes.saturating_sub(before.fetched_bytes) as f64,
            put_share: (now.put_share - before.put_share).max(0.0),
        }
    }

    fn moved(&self) -> f64 {
        self.produced + self.fetched
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLICKS: TopicId = TopicId([1; 16]);
    const LOGS: TopicId = TopicId([2; 16]);

    fn counts(produced: u64, fetched: u64, put_share: f64) -> TopicCounts {
        TopicCounts {
            produced_bytes: produced,
            fetched_bytes: fetched,
            put_share,
            ..TopicCounts::default()
        }
    }

    fn near(left: f64, right: f64) -> bool {
        (left - right).abs() <= 1e-9 * right.abs().max(1.0)
    }

    /// The worked example of one MiB/s for a month in three zones: 34 $ to the leaders, 103 $ to
    /// the followers.
    #[test]
    fn a_mebibyte_a_second_costs_what_the_formula_says() {
        let month = Duration::from_secs_f64(MONTH_SECONDS);
        let mib_month = (MONTH_SECONDS as u64) << 20;
        let mut ledger = Ledger::new(PriceBook::default());
        let topics = HashMap::from([(CLICKS, counts(mib_month, 3 * mib_month, 1.0))]);
        let puts = MONTH_SECONDS as u64 * 4;
        let traffic = Traffic { puts, stored_bytes: 0, ..Traffic::default() };
        ledger.enter(month, 3, traffic, &topics);
        let bill = *ledger.bill();
        assert_eq!(bill.classic_produce.round(), 34.0);
        assert_eq!(bill.classic_replication.round(), 103.0);
        assert_eq!(bill.classic_fetch, 0.0, "consumers read from their zone");
        assert_eq!(bill.put.round(), 53.0);
        let topic = ledger.topics()[&CLICKS];
        assert!(near(topic.put, bill.put) && near(topic.classic, bill.classic()));

        let far = PriceBook { fetch_from_follower: false, ..PriceBook::default() };
        let mut ledger = Ledger::new(far);
        ledger.enter(month, 3, traffic, &topics);
        assert_eq!(ledger.bill().classic().round(), 240.0, "with three groups that read from afar");
    }

    #[test]
    fn storage_is_paid_for_as_long_as_it_lasts() {
        let mut ledger = Ledger::new(PriceBook::default());
        let traffic = Traffic { stored_bytes: 1 << 30, ..Traffic::default() };
        let none = HashMap::new();
        ledger.enter(Duration::ZERO, 3, traffic, &none);
        assert_eq!(ledger.bill().storage, 0.0);
        ledger.enter(Duration::from_secs_f64(2.0 * MONTH_SECONDS), 3, traffic, &none);
        assert!(near(ledger.bill().storage, 0.046));
    }

    #[test]
    fn topics_share_what_was_spent_and_nothing_is_lost_in_between() {
        let mut ledger = Ledger::new(PriceBook::default());
        // The PUT is begun before anything was sealed, as far as the counts say.
        let begun = Traffic { puts: 1_000, ..Traffic::default() };
        ledger.enter(Duration::from_secs(1), 1, begun, &HashMap::new());
        let topics =
            HashMap::from([(CLICKS, counts(3, 100, 750.0)), (LOGS, counts(1, 300, 250.0))]);
        let read = Traffic { gets: 4_000, ..begun };
        ledger.enter(Duration::from_secs(1), 1, read, &topics);
        let (clicks, logs) = (ledger.topics()[&CLICKS], ledger.topics()[&LOGS]);
        assert!(near(clicks.put, 0.005 * 0.75) && near(logs.put, 0.005 * 0.25));
        assert!(near(clicks.other, 0.001_6 * 0.25) && near(logs.other, 0.001_6 * 0.75));
        assert_eq!(ledger.bill().classic(), 0.0, "nothing crosses where there is one zone");
        assert!(ledger.bill().saved() < 0.0);
        // Entered twice, it is paid once.
        let before = *ledger.bill();
        ledger.enter(Duration::from_secs(1), 1, read, &topics);
        assert_eq!(*ledger.bill(), before);
    }
}
