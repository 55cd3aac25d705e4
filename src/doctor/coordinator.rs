//! Is the Redis one that offsets can be trusted to?

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::report::Finding;
use crate::clock::{SystemClock, WallClock};
use crate::config::{CoordinatorSettings, Settings};
use crate::coordinator::Member;
use crate::coordinator::redis::diagnostics::{RedisDiagnostics, diagnose};

const SUBJECT: &str = "coordinator";
/// Every ack waits for Redis once.
const SLOW_THRESHOLD: Duration = Duration::from_millis(5);
const MIN_MAJOR_VERSION: u32 = 6;
const ZONES: &str = "zones";
/// Clocks that are further apart are worth a word.
const MAX_CLOCK_SKEW_MS: u64 = 2_000;

pub(super) async fn check(settings: &Settings) -> Vec<Finding> {
    let CoordinatorSettings::Redis { url, replicas } = &settings.coordinator else {
        // That it is for one replica only is among the configuration's own warnings where it matters.
        return vec![Finding::ok(SUBJECT, "embedded, in the only replica")];
    };
    match diagnose(url.expose(), &settings.cluster).await {
        Ok(inspection) => {
            let mut findings = check_server(&inspection, *replicas);
            findings.extend(check_clock(&inspection, SystemClock.now_ms()));
            findings.extend(check_members(&inspection, settings));
            findings
        }
        Err(error) => vec![
            Finding::fail(SUBJECT, format!("{url}: {error}"), "nothing diskless can be written")
                .remedy(
                    "see that this Redis runs, that it may be reached from here, and the password",
                ),
        ],
    }
}

fn check_server(redis: &RedisDiagnostics, replicas: u8) -> Vec<Finding> {
    let RedisDiagnostics { version, eviction, append_only, is_master, latency, .. } = redis;
    let reported_version = version.as_deref().unwrap_or("a Redis that does not say its version");
    let mut findings = vec![Finding::ok(
        SUBJECT,
        format!("Redis {reported_version} runs scripts, answers in {latency:.1?}"),
    )];
    let major = version.as_deref().and_then(|v| v.split('.').next()).and_then(|v| v.parse().ok());
    if major.is_some_and(|major: u32| major < MIN_MAJOR_VERSION) {
        let impact = format!("nothing before {MIN_MAJOR_VERSION} was ever tried");
        findings.push(
            Finding::warn(SUBJECT, format!("version {reported_version}"), impact)
                .remedy("update it"),
        );
    }
    if eviction.as_deref().is_some_and(|policy| policy != "noeviction") {
        let policy = eviction.as_deref().unwrap_or_default();
        let impact = "when it is full it drops offsets and index instead of refusing writes";
        let summary = format!("maxmemory-policy is {policy}");
        findings
            .push(Finding::fail(SUBJECT, summary, impact).remedy("maxmemory-policy noeviction"));
    }
    if *append_only == Some(false) {
        let impact =
            "a restart forgets all offsets; nothing is served from it until the old ones return";
        findings.push(Finding::warn(SUBJECT, "appendonly is off", impact).remedy("appendonly yes"));
    }
    if *is_master == Some(false) {
        let summary = "it is a replica of another Redis";
        let impact = "a replica takes no writes";
        findings.push(
            Finding::fail(SUBJECT, summary, impact).remedy("name the master, or use Sentinel"),
        );
    }
    if *latency > SLOW_THRESHOLD {
        let impact = "every ack waits for it once at least";
        let summary = format!("an answer takes {latency:.1?}");
        findings.push(Finding::warn(SUBJECT, summary, impact).remedy("a Redis in the same region"));
    }
    findings.extend(redis.replicas.and_then(|connected| check_replicas(connected, replicas)));
    findings
}

/// Whether this machine and Redis agree about the time, at the moment `now_ms` of this one.
fn check_clock(redis: &RedisDiagnostics, now_ms: i64) -> Option<Finding> {
    let skew_ms = redis.now_ms?.abs_diff(now_ms);
    if skew_ms < MAX_CLOCK_SKEW_MS {
        return Some(Finding::ok(SUBJECT, format!("its clock is within {skew_ms} ms of this one")));
    }
    let summary = format!("its clock and this one are {:.1} s apart", skew_ms as f64 / 1_000.0);
    let impact = "append times and the age of producers follow this one; S3 refuses a request whose \
               time is off by 15 minutes";
    Some(Finding::warn(SUBJECT, summary, impact).remedy("run NTP on both"))
}

/// Who is there now, and whether they agree with this file.
fn check_members(redis: &RedisDiagnostics, settings: &Settings) -> Vec<Finding> {
    let mut by_zone: BTreeMap<&str, Vec<&str>> =
        redis.zones.iter().map(|zone| (zone.as_str(), Vec::new())).collect();
    for member in &redis.members {
        by_zone.entry(&member.zone_name).or_default().push(&member.replica);
    }
    let zone = |(zone, replicas): (&&str, &Vec<&str>)| match replicas.is_empty() {
        true => format!("{zone}: nobody"),
        false => format!("{zone}: {}", replicas.join(", ")),
    };
    let zones_and_members: Vec<_> = by_zone.iter().map(zone).collect();
    let zones_and_members = if zones_and_members.is_empty() {
        "none yet".to_owned()
    } else {
        zones_and_members.join("; ")
    };
    let mut findings = vec![Finding::ok(ZONES, format!("seen: {zones_and_members}"))];
    let is_known = redis.zones.contains(&settings.zone);
    if !is_known && !redis.zones.is_empty() {
        let summary = format!("zone `{}` was never seen", settings.zone);
        let impact =
            "a zone is remembered for ever; one that is misspelt stays in the map of nodes";
        let remedy = "nothing, if it is new; else one of the names above";
        findings.push(Finding::warn(ZONES, summary, impact).remedy(remedy));
    }
    let differs = |member: &&Member| ![0, settings.digest()].contains(&member.settings);
    let others: Vec<_> =
        redis.members.iter().filter(differs).map(|member| member.replica.as_str()).collect();
    if !others.is_empty() {
        let summary = format!("other rules than this file's are followed by {}", others.join(", "));
        let impact = "whichever replica sees a new topic first decides whether it is diskless";
        let remedy = "the same diskless.topics and coordinator.replicas in every file";
        findings.push(Finding::fail(ZONES, summary, impact).remedy(remedy));
    }
    let versions: BTreeSet<_> =
        redis.members.iter().map(|m| m.version.as_str()).filter(|v| !v.is_empty()).collect();
    if versions.len() > 1 {
        let summary = format!(
            "versions {} run side by side",
            versions.iter().copied().collect::<Vec<_>>().join(", ")
        );
        let impact = "that is meant for the time of an upgrade";
        findings.push(Finding::warn(ZONES, summary, impact).remedy("upgrade the others"));
    }
    findings
}

/// `connected` are connected, `required` must have a commit before it is acknowledged.
fn check_replicas(connected: u32, required: u8) -> Option<Finding> {
    let summary =
        format!("{connected} replicas of Redis are there, coordinator.replicas is {required}");
    match (connected, u32::from(required)) {
        (0, 0) => None,
        (connected, required) if connected < required => Some(
            Finding::fail(SUBJECT, summary, "nothing is acknowledged until more are there")
                .remedy("bring them back, or lower coordinator.replicas"),
        ),
        (connected, 0) => Some(
            Finding::warn(
                SUBJECT,
                summary,
                "a failover may lose what was acknowledged just before",
            )
            .remedy(format!("coordinator: {{url: …, replicas: {connected}}}")),
        ),
        (connected, required) if connected > required => Some(
            Finding::warn(
                SUBJECT,
                summary,
                "a failover may choose one that has not got what another one acknowledged",
            )
            .remedy(format!("replicas: {connected}, or replica-priority 0 for the others")),
        ),
        _ => Some(Finding::ok(SUBJECT, "every replica of Redis has what is acknowledged")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Level;
    use crate::doctor::Level::{Fail, Ok, Warn};

    #[test]
    fn a_redis_is_judged_by_what_it_promises() {
        let good = RedisDiagnostics {
            version: Some("8.0.3".to_owned()),
            eviction: Some("noeviction".to_owned()),
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
            eviction: Some("allkeys-lru".to_owned()),
            append_only: Some(false),
            is_master: Some(false),
            replicas: None,
            latency: Duration::from_millis(20),
            ..RedisDiagnostics::default()
        };
        assert_eq!(levels(&bad, 0), [Ok, Warn, Fail, Warn, Fail, Warn]);
    }

    fn settings(text: &str) -> Settings {
        let env = |_: &str| None;
        let around = crate::config::Surroundings { env: &env, hostname: None };
        let text = format!("kafka: {{bootstrapServers: [k:9092]}}\nzone: a\n{text}");
        Settings::parse(&text, &around).unwrap()
    }

    #[test]
    fn clocks_and_replicas_that_disagree_are_named() {
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
        assert_eq!(found[0].summary, "seen: a: a1; b: nobody");

        let theirs = settings("diskless: {topics: [{match: y}]}");
        let members = vec![member("a1", "1", &ours), member("a2", "2", &theirs)];
        let mixed = RedisDiagnostics { members, zones, ..RedisDiagnostics::default() };
        let found = check_members(&mixed, &ours);
        let levels: Vec<_> = found.iter().map(|finding| finding.level).collect();
        assert_eq!(levels, [Ok, Fail, Warn]);
        assert!(found[1].summary.ends_with("by a2"), "{found:?}");
        let new = Settings { zone: "c".to_owned(), ..ours };
        assert_eq!(check_members(&agreed, &new)[1].level, Warn);
    }
}
