//! The cost of diskless traffic, and of the same traffic on replicated Kafka (the baseline).
//!
//! Pure functions from counts to dollars. Only what differs between the two is included: requests
//! and storage of the object store, and bytes between zones. Disks, machines and Redis are not.

pub mod advice;
mod model;

use schemars::JsonSchema;
use serde::Deserialize;
use smart_default::SmartDefault;

pub use advice::Advice;
pub use model::{CostModel, TopicCost, Usage};

/// Bytes in a GiB, the unit of prices.
const GIB: f64 = (1_u64 << 30) as f64;
/// Seconds in a month of 730 hours, as cloud providers bill it.
pub const MONTH_SECONDS: f64 = 730.0 * 3_600.0;

/// The prices that cost reports and metrics use (`docs/cost.md`). The defaults are list prices of AWS
/// in us-east-1. For a cloud that does not charge for traffic between zones, set
/// `crossZonePerGiB: 0`.
#[derive(Clone, Copy, Debug, PartialEq, SmartDefault, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Pricing {
    /// Dollars for 1 GiB from one zone to another: the charges of both sides together.
    #[default = 0.02]
    #[serde(rename = "crossZonePerGiB")]
    #[schemars(range(min = 0.0, max = 1_000_000.0))]
    pub cross_zone_per_gib: f64,

    /// Dollars for 1,000 PUTs or LISTs.
    #[default = 0.005]
    #[serde(rename = "putsPer1000")]
    #[schemars(range(min = 0.0, max = 1_000_000.0))]
    pub put_per_1000: f64,

    /// Dollars for 1,000 GETs or HEADs.
    #[default = 0.000_4]
    #[serde(rename = "getsPer1000")]
    #[schemars(range(min = 0.0, max = 1_000_000.0))]
    pub get_per_1000: f64,

    /// Dollars for 1 GiB that is stored for a month.
    #[default = 0.023]
    #[serde(rename = "storagePerGiBMonth")]
    #[schemars(range(min = 0.0, max = 1_000_000.0))]
    pub storage_per_gib_month: f64,

    /// The number of copies of a record on the replicated Kafka that diskless topics are compared
    /// with.
    #[default = 3]
    #[schemars(range(min = 1, max = 9))]
    pub replication_factor: u32,

    /// True if replication between zones is charged. With Amazon MSK, for example, it is not.
    #[default = true]
    pub replication_is_charged: bool,

    /// True if consumers of that Kafka read from replicas in their own zone (KIP-392); with
    /// `false`, they read from leaders in other zones.
    #[default = true]
    pub fetch_from_follower: bool,

    /// The number of zones that the clients and brokers of that Kafka are spread over.
    #[schemars(range(min = 1, max = 64), extend("x-default" = "the number of zones with replicas"))]
    pub zones: Option<u32>,
}

impl Pricing {
    /// Returns how often a produced byte crosses zones on the way to the leader, on average.
    fn produce_transfers(zones: u32) -> f64 {
        f64::from(zones.saturating_sub(1)) / f64::from(zones.max(1))
    }

    /// Returns how many copies of a byte are in another zone than the leader. With fewer zones than
    /// copies, the leader's zone has as many copies as any other.
    fn replication_transfers(&self, zones: u32) -> f64 {
        let copies = self.replication_factor.max(1);
        let here = copies.div_ceil(zones.max(1));
        if self.replication_is_charged { f64::from(copies - here) } else { 0.0 }
    }

    /// Returns how often a fetched byte crosses zones, on average.
    fn fetch_transfers(&self, zones: u32) -> f64 {
        if self.fetch_from_follower { 0.0 } else { Self::produce_transfers(zones) }
    }

    /// Returns the cost of bytes that cross zones this often.
    fn transfer_cost(&self, bytes: u64, times: f64) -> f64 {
        bytes as f64 / GIB * times * self.cross_zone_per_gib
    }
}

/// Costs of a replica, in dollars.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CostReport {
    /// Baseline: from producers to leaders in other zones.
    pub baseline_produce: f64,
    /// Baseline: from leaders to followers in other zones.
    pub baseline_replication: f64,
    /// Baseline: to consumers in other zones.
    pub baseline_fetch: f64,
    /// PUTs.
    pub put: f64,
    /// GETs and HEADs.
    pub get: f64,
    /// LISTs.
    pub list: f64,
    /// Storage of objects, from their upload until now.
    pub storage: f64,
    /// Traffic between diskless nodes and clients of other zones.
    pub cross_zone: f64,
}

impl CostReport {
    /// Returns the cost on replicated Kafka.
    pub fn baseline(&self) -> f64 {
        self.baseline_produce + self.baseline_replication + self.baseline_fetch
    }

    /// Returns the dollars spent.
    pub fn spent(&self) -> f64 {
        self.put + self.get + self.list + self.storage + self.cross_zone
    }

    /// Returns the dollars saved; negative if more was spent than the baseline.
    pub fn saved(&self) -> f64 {
        self.baseline() - self.spent()
    }

    /// Returns the items of [`CostReport::baseline`].
    pub fn baseline_items(&self) -> [(&'static str, f64); 3] {
        [
            ("produce", self.baseline_produce),
            ("replication", self.baseline_replication),
            ("fetch", self.baseline_fetch),
        ]
    }

    /// Returns the items of [`CostReport::spent`].
    pub fn spent_items(&self) -> [(&'static str, f64); 5] {
        [
            ("put", self.put),
            ("get", self.get),
            ("list", self.list),
            ("storage", self.storage),
            ("cross_zone", self.cross_zone),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replication_crosses_zones_only_if_there_are_several() {
        let pricing = Pricing::default();
        let transfers = [1, 2, 3, 4].map(|zones| pricing.replication_transfers(zones));
        assert_eq!(transfers, [0.0, 1.0, 2.0, 2.0]);
        let managed = Pricing { replication_is_charged: false, ..pricing };
        assert_eq!(managed.replication_transfers(3), 0.0);
        assert_eq!(Pricing::produce_transfers(1), 0.0);
        assert_eq!(Pricing::produce_transfers(4), 0.75);
    }
}
