//! Checks of the coordinator: durability, eviction, replication, clock and members of a Redis.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::report::Finding;
use crate::clock::{SystemClock, WallClock};
use crate::config::{CoordinatorSettings, Settings};
use crate::coordinator::Member;
use crate::coordinator::redis::diagnostics::{RedisDiagnostics, diagnose};
use crate::coordinator::redis::eviction::{EvictionPolicy, NO_EVICTION};

const SUBJECT: &str = "coordinator";
/// The response time above which a Redis is too slow: every acknowledgement waits for it once.
const SLOW_THRESHOLD: Duration = Duration::from_millis(5);
const MIN_MAJOR_VERSION: u32 = 6;
const ZONES: &str = "zones";
/// The clock skew from which a warning is given.
const MAX_CLOCK_SKEW_MS: u64 = 2_000;

pub(super) async fn check(settings: &Settings) -> Vec<Finding> {
    let CoordinatorSettings::Redis { url, replicas, .. } = &settings.coordinator else {
        // The configuration warns if more than one replica would use it.
        return vec![Finding::ok(SUBJECT, "embedded coordinator, for a single replica")];
    };
    match diagnose(url.expose(), &settings.cluster).await {
        Ok(diagnostics) => {
            let mut findings = check_server(&diagnostics, *replicas);
            findings.extend(check_clock(&diagnostics, SystemClock.now_ms()));
            findings.extend(check_members(&diagnostics, settings));
            findings
        }
        Err(error) => vec![
            Finding::fail(SUBJECT, format!("{url}: {error}"), "diskless topics cannot be written")
                .remedy(
                    "check that this Redis runs, that it is reachable from here, and its password",
                ),
        ],
    }
}

fn check_server(redis: &RedisDiagnostics, replicas: u8) -> Vec<Finding> {
    let RedisDiagnostics { version, eviction, append_only, is_master, latency, .. } = redis;
    let reported_version = version.as_deref().unwrap_or("of unknown version");
    let mut findings = vec![Finding::ok(
        SUBJECT,
        format!("Redis {reported_version} runs scripts and responds in {latency:.1?}"),
    )];
    let major = version.as_deref().and_then(|v| v.split('.').next()).and_then(|v| v.parse().ok());
    if major.is_some_and(|major: u32| major < MIN_MAJOR_VERSION) {
        let impact = format!("versions before {MIN_MAJOR_VERSION} are not tested");
        findings.push(
            Finding::warn(SUBJECT, format!("version {reported_version}"), impact)
                .remedy("upgrade Redis"),
        );
    }
    findings.extend(eviction.iter().filter_map(check_eviction));
    if *append_only == Some(false) {
        let impact =
            "a restart loses all offsets; diskless topics are not served until they are restored";
        findings
            .push(Finding::warn(SUBJECT, "appendonly is off", impact).remedy("set appendonly yes"));
    }
    if *is_master == Some(false) {
        let summary = "this Redis is a replica of another one";
        let impact = "a replica accepts no writes";
        findings.push(
            Finding::fail(SUBJECT, summary, impact).remedy("configure the master, or use Sentinel"),
        );
    }
    if *latency > SLOW_THRESHOLD {
        let impact = "every acknowledgement waits for at least one response";
        let summary = format!("a response takes {latency:.1?}");
        findings
            .push(Finding::warn(SUBJECT, summary, impact).remedy("use a Redis in the same region"));
    }
    findings.extend(redis.replicas.and_then(|connected| check_replicas(connected, replicas)));
    findings
}

/// Reports what `serve` refuses, and what it warns of.
fn check_eviction(server: &EvictionPolicy) -> Option<Finding> {
    let impact =
        "when its memory is full, it evicts offsets and the index instead of refusing writes";
    let remedy = "set maxmemory-policy noeviction";
    let (policy, name) = (server.policy.as_deref(), server.name());
    match policy {
        Some(NO_EVICTION) => None,
        Some(policy) => {
            let summary = format!("maxmemory-policy of {name} is {policy}");
            Some(Finding::fail(SUBJECT, summary, impact).remedy(remedy))
        }
        None => {
            let summary = format!("{name} does not tell its maxmemory-policy");
            let impact = format!("unless it is {NO_EVICTION}: {impact}");
            Some(Finding::warn(SUBJECT, summary, impact).remedy(remedy))
        }
    }
}

/// Compares the clock of Redis with the time `now_ms` of this machine.
fn check_clock(redis: &RedisDiagnostics, now_ms: i64) -> Option<Finding> {
    let skew_ms = redis.now_ms?.abs_diff(now_ms);
    if skew_ms < MAX_CLOCK_SKEW_MS {
        return Some(Finding::ok(SUBJECT, format!("its clock is within {skew_ms} ms of this one")));
    }
    let summary = format!("its clock and this one are {:.1} s apart", skew_ms as f64 / 1_000.0);
    let impact = "append times and producer expiry use this clock; S3 rejects a request whose time \
                  differs by 15 minutes";
    Some(Finding::warn(SUBJECT, summary, impact).remedy("run NTP on both machines"))
}

/// Lists the current members, and compares their settings and versions with this file's.
fn check_members(redis: &RedisDiagnostics, settings: &Settings) -> Vec<Finding> {
    let mut by_zone: BTreeMap<&str, Vec<&str>> =
        redis.zones.iter().map(|zone| (zone.as_str(), Vec::new())).collect();
    for member in &redis.members {
        by_zone.entry(&member.zone_name).or_default().push(&member.replica);
    }
    let zone = |(zone, replicas): (&&str, &Vec<&str>)| match replicas.is_empty() {
        true => format!("{zone}: no replica"),
        false => format!("{zone}: {}", replicas.join(", ")),
    };
    let zones_and_members: Vec<_> = by_zone.iter().map(zone).collect();
    let zones_and_members = if zones_and_members.is_empty() {
        "none yet".to_owned()
    } else {
        zones_and_members.join("; ")
    };
    let mut findings = vec![Finding::ok(ZONES, format!("zones and replicas: {zones_and_members}"))];
    if !redis.unreadable_members.is_empty() {
        let names: Vec<&str> = redis.unreadable_members.keys().map(String::as_str).collect();
        let summary = format!("the records of {} cannot be read", names.join(", "));
        let reasons: BTreeSet<&str> =
            redis.unreadable_members.values().map(String::as_str).collect();
        let impact = format!("they are missing above: {}", Vec::from_iter(reasons).join("; "));
        let remedy = "run the doctor of the newest version that a replica has";
        findings.push(Finding::warn(ZONES, summary, impact).remedy(remedy));
    }
    let is_known = redis.zones.contains(&settings.zone);
    if !is_known && !redis.zones.is_empty() {
        let summary = format!("zone `{}` is new to this cluster", settings.zone);
        let impact = "a zone is never removed; a misspelt one remains in the topology";
        let remedy = "none if the zone is new; else use one of the names above";
        findings.push(Finding::warn(ZONES, summary, impact).remedy(remedy));
    }
    let differs = |member: &&Member| ![0, settings.digest()].contains(&member.settings);
    let others: Vec<_> =
        redis.members.iter().filter(differs).map(|member| member.replica.as_str()).collect();
    if !others.is_empty() {
        let summary = format!("the rules of {} differ from this file's", others.join(", "));
        let impact = "the first replica that observes a new topic decides whether it is diskless";
        let remedy = "use the same diskless.topics and coordinator.replicas in every file";
        findings.push(Finding::fail(ZONES, summary, impact).remedy(remedy));
    }
    let versions: BTreeSet<_> =
        redis.members.iter().map(|m| m.version.as_str()).filter(|v| !v.is_empty()).collect();
    if versions.len() > 1 {
        let summary = format!(
            "replicas run versions {}",
            versions.iter().copied().collect::<Vec<_>>().join(", ")
        );
        let impact = "different versions are supported only during an upgrade";
        findings.push(Finding::warn(ZONES, summary, impact).remedy("upgrade the other replicas"));
    }
    findings
}

/// Compares the `connected` replicas of Redis with the `required` ones, which must have a commit
/// before it is acknowledged.
fn check_replicas(connected: u32, required: u8) -> Option<Finding> {
    let summary =
        format!("{connected} replicas of Redis are connected, coordinator.replicas is {required}");
    match (connected, u32::from(required)) {
        (0, 0) => None,
        (connected, required) if connected < required => Some(
            Finding::fail(SUBJECT, summary, "no write is acknowledged until more are connected")
                .remedy("restore the replicas, or lower coordinator.replicas"),
        ),
        (connected, 0) => Some(
            Finding::warn(SUBJECT, summary, "a failover may lose the latest acknowledged writes")
                .remedy(format!("set coordinator: {{url: …, replicas: {connected}}}")),
        ),
        (connected, required) if connected > required => Some(
            Finding::warn(
                SUBJECT,
                summary,
                "a failover may promote a replica that lacks acknowledged writes",
            )
            .remedy(format!(
                "set coordinator.replicas to {connected}, or replica-priority 0 on the others"
            )),
        ),
        _ => Some(Finding::ok(SUBJECT, "every replica of Redis has all acknowledged writes")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Level;
    use crate::doctor::Level::{Fail, Ok, Warn};

    fn eviction(policy: Option<&str>) -> EvictionPolicy {
        EvictionPolicy { server: "a:1".to_owned(), policy: policy.map(str::to_owned) }
    }

    #[test]
    fn levels_follow_the_settings_of_redis() {
        let good = RedisDiagnostics {
            version: Some("8.0.3".to_owned()),
            eviction: vec![eviction(Some(NO_EVICTION)), eviction(Some(NO_EVICTION))],
            append_only: Some(true),
            is_master: Some(true),
            replicas: Some(1),
            latency: Duration::from_micros(200),
            ..RedisDiagnostics::default()
        };
        let levels = |redis: &RedisDiagnostics, replicas| -> Vec<Level> {
            check_server(redis, replicas).iter().map(|finding| finding.level).collect()
        };
        assert_eq!(levels(&good, 1), [Ok, Ok]);
        assert_eq!(levels(&good, 0), [Ok, Warn]);
        assert_eq!(levels(&good, 2), [Ok, Fail]);
        let two = RedisDiagnostics { replicas: Some(2), ..good };
        assert_eq!(levels(&two, 1), [Ok, Warn]);
        let bad = RedisDiagnostics {
            version: Some("5.0.1".to_owned()),
            eviction: vec![eviction(Some("allkeys-lru")), eviction(None)],
            append_only: Some(false),
            is_master: Some(false),
            replicas: None,
            latency: Duration::from_millis(20),
            ..RedisDiagnostics::default()
        };
        assert_eq!(levels(&bad, 0), [Ok, Warn, Fail, Warn, Warn, Fail, Warn]);
    }

    fn settings(text: &str) -> Settings {
        let env = |_: &str| None;
        let around = crate::config::Environment { env: &env, hostname: None };
        let text = format!("kafka: {{bootstrapServers: [k:9092]}}\nzone: a\n{text}");
        Settings::parse(&text, &around).unwrap()
    }

    #[test]
    fn clock_skew_and_differing_members_are_reported() {
        let redis = RedisDiagnostics { now_ms: Some(100_000), ..RedisDiagnostics::default() };
        let level = |now_ms| check_clock(&redis, now_ms).map(|finding| finding.level);
        assert_eq!(
            (level(101_000), level(103_000), level(90_000)),
            (Some(Ok), Some(Warn), Some(Warn))
        );

        let ours = settings("diskless: {topics: [{match: x}]}");
        let member = |replica: &str, version: &str, of: &Settings| Member {
            replica: replica.to_owned(),
            incarnation: 1,
            process_id: 1,
            zone: 0,
            zone_name: "a".to_owned(),
            peer: None,
            advertised_host: "h".to_owned(),
            node_ports: 1,
            broker_ports: 1,
            nodes: 4,
            version: version.to_owned(),
            settings: of.digest(),
        };
        let zones = vec!["a".to_owned(), "b".to_owned()];
        let members = vec![member("a1", "1", &ours)];
        let agreed =
            RedisDiagnostics { members, zones: zones.clone(), ..RedisDiagnostics::default() };
        let found = check_members(&agreed, &ours);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].summary, "zones and replicas: a: a1; b: no replica");

        let unreadable_members = [("a9".to_owned(), "format version 9".to_owned())].into();
        let newer = RedisDiagnostics { unreadable_members, ..agreed.clone() };
        let found = check_members(&newer, &ours).remove(1);
        assert_eq!(found.level, Warn);
        assert!(found.summary.contains("a9") && found.impact.contains("format version 9"));

        let theirs = settings("diskless: {topics: [{match: y}]}");
        let members = vec![member("a1", "1", &ours), member("a2", "2", &theirs)];
        let mixed = RedisDiagnostics { members, zones, ..RedisDiagnostics::default() };
        let found = check_members(&mixed, &ours);
        let levels: Vec<_> = found.iter().map(|finding| finding.level).collect();
        assert_eq!(levels, [Ok, Fail, Warn]);
        assert!(found[1].summary.contains("rules of a2 differ"), "{found:?}");
        let new = Settings { zone: "c".to_owned(), ..ours };
        assert_eq!(check_members(&agreed, &new)[1].level, Warn);
    }
}
