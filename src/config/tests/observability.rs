//! The sections `metrics`, `costs` and `log`.

use super::*;
use crate::cost::Pricing;

#[test]
fn metrics_costs_and_log_have_defaults_and_ranges() {
    let settings = parse("").unwrap();
    assert_eq!((settings.costs, settings.metrics.per_topic), (Pricing::default(), false));
    assert_eq!((settings.log.format, settings.log.level.as_str()), (LogFormat::Text, "info"));
    let costs = parse("costs: {putsPer1000: 0, zones: 2, fetchFromFollower: false}").unwrap().costs;
    assert_eq!((costs.put_per_1000, costs.zones, costs.fetch_from_follower), (0.0, Some(2), false));
    check(
        "costs: {putsPer1000: -1, zones: 0}",
        &[
            "costs.putsPer1000: invalid number `-1`: expected 0–1000000",
            "costs.zones: invalid number `0`: expected 1–64",
        ],
    );
    check(
        "log: {format: xml, traces: \"https://c\"}",
        &[
            "log.format: invalid value `xml`: expected `text` or `json`",
            "log.traces: invalid collector URL `https://c`: expected `http://host:port`, such as `http://collector:4318`",
        ],
    );
    let wrong = parse("log: {level: a=b=c}").unwrap_err().to_string();
    assert!(wrong.starts_with("log.level: invalid log filter `a=b=c`: "), "{wrong}");
}

#[test]
fn changed_keys_are_named() {
    let written = |text: &str| parse(text).unwrap().written;
    let before = written("flush: {interval: 1s}\ndiskless: {topics: [{match: a}, {match: b}]}");
    let after = written("flush: {size: 1MiB}\ndiskless: {topics: [{match: a}, {match: c}]}");
    let changed = after.changed_from(&before);
    assert_eq!(changed, ["diskless.topics[1].match", "flush.interval", "flush.size"]);
    assert_eq!(after.changed_from(&after), Vec::<String>::new());
}
