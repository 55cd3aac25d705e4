//! The sections `metrics`, `costs` and `log`.

use super::raw::{Node, Reader, join};
use super::values::{endpoint, on_or_off, switch};
use super::{LogSettings, MetricsSettings};
use crate::cost::Pricing;
use crate::logging::{Format, parse_filter};

/// The greatest price that is taken for one.
const DOLLARS_MAX: f64 = 1_000_000.0;

impl Reader {
    pub(super) fn log(&mut self, node: Option<&Node>) -> LogSettings {
        let section = self.section("log", node);
        let format = self.text("log.format", section.find("format"), |text| {
            let found = Format::NAMES.iter().find(|(name, _)| *name == text);
            found
                .map(|(_, format)| *format)
                .ok_or_else(|| "is no format; write `text` or `json`".to_owned())
        });
        let level = self.text("log.level", section.find("level"), |text| {
            parse_filter(text).map(|_| text.to_owned())
        });
        let traces = self.text("log.traces", section.find("traces"), |text| {
            let plain = endpoint(text).ok().filter(|url| url.starts_with("http://"));
            plain.ok_or_else(|| "is no collector; write `http://host:4318`".to_owned())
        });
        LogSettings {
            format: format.unwrap_or_default(),
            level: level.unwrap_or_else(|| "info".to_owned()),
            traces,
        }
    }

    pub(super) fn metrics(&mut self, node: Option<&Node>) -> MetricsSettings {
        let section = self.section("metrics", node);
        let per_topic = self.word("metrics.perTopic", section.find("perTopic"), on_or_off);
        MetricsSettings { per_topic: per_topic.unwrap_or(false) }
    }

    pub(super) fn costs(&mut self, node: Option<&Node>) -> Pricing {
        let section = self.section("costs", node);
        let mut price = |name: &str, default| {
            let read = self.word(&join("costs", name), section.find(name), |text| {
                let price = text.parse::<f64>().ok().filter(|p| (0.0..=DOLLARS_MAX).contains(p));
                price.ok_or_else(|| "is no price; write dollars, as `0.02`".to_owned())
            });
            read.unwrap_or(default)
        };
        let book = Pricing::default();
        let book = Pricing {
            cross_zone_per_gib: price("crossZonePerGiB", book.cross_zone_per_gib),
            put_per_1000: price("putsPer1000", book.put_per_1000),
            get_per_1000: price("getsPer1000", book.get_per_1000),
            storage_per_gib_month: price("storagePerGiBMonth", book.storage_per_gib_month),
            ..book
        };
        let mut number = |name: &str, most: u32| {
            self.word(&join("costs", name), section.find(name), |text| {
                let number = text.parse::<u32>().ok().filter(|n| (1..=most).contains(n));
                number.ok_or_else(|| format!("is no number of them; write 1 to {most}"))
            })
        };
        let (copies, zones) = (number("replicationFactor", 9), number("zones", 64));
        let mut switch = |name: &str, default| {
            let read = self.word(&join("costs", name), section.find(name), switch);
            read.unwrap_or(default)
        };
        Pricing {
            replication_factor: copies.unwrap_or(book.replication_factor),
            zones,
            replication_is_charged: switch("replicationIsCharged", book.replication_is_charged),
            fetch_from_follower: switch("fetchFromFollower", book.fetch_from_follower),
            ..book
        }
    }
}
