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
const SLOW: Duration = Duration::from_millis(5);
const MAJOR_MIN: u32 = 6;
const ZONES: &str = "zones";
/// Clocks that are further apart are worth a word.
const SKEW_MS: u64 = 2_000;

pub(super) async fn examine(settings: &Settings) -> Vec<Finding> {
    let CoordinatorSettings::Redis { url, replicas } = &settings.coordinator else {
        // That it is for one replica only is among the configuration's own warnings where it matters.
        return vec![Finding::fine(SUBJECT, "embedded, in the only replica")];
    };
    match diagnose(url.expose(), &settings.cluster).await {
        Ok(inspection) => {
            let mut findings = judge(&inspection, *replicas);
            findings.extend(clock(&inspection, SystemClock.now_ms()));
            findings.extend(crowd(&inspection, settings));
            findings
        }
        Err(error) => vec![
            Finding::wrong(SUBJECT, format!("{url}: {error}"), "nothing diskless can be written")
                .fix(
                    "see that this Redis runs, that it may be reached from here, and the password",
                ),
        ],
    }
}

fn judge(redis: &RedisDiagnostics, replicas: u8) -> Vec<Finding> {
    let RedisDiagnostics { version, eviction, append_only, is_master, latency, .. } = redis;
    let said = version.as_deref().unwrap_or("a Redis that does not say its version");
    let mut findings = vec![Finding::fine(
        SUBJECT,
        format!("Redis {said} runs scripts, answers in {latency:.1?}"),
    )];
    let major = version.as_deref().and_then(|v| v.split('.').next()).and_then(|v| v.parse().ok());
    if major.is_some_and(|major: u32| major < MAJOR_MIN) {
        let why = format!("nothing before {MAJOR_MIN} was ever tried");
        findings.push(Finding::doubtful(SUBJECT, format!("version {said}"), why).fix("update it"));
    }
    if eviction.as_deref().is_some_and(|policy| policy != "noeviction") {
        let policy = eviction.as_deref().unwrap_or_default();
        let why = "when it is full it drops offsets and index instead of refusing writes";
        let what = format!("maxmemory-policy is {policy}");
        findings.push(Finding::wrong(SUBJECT, what, why).fix("maxmemory-policy noeviction"));
    }
    if *append_only == Some(false) {
        let why =
            "a restart forgets all offsets; nothing is served from it until the old ones return";
        findings.push(Finding::doubtful(SUBJECT, "appendonly is off", why).fix("appendonly yes"));
    }
    if *is_master == Some(false) {
        let what = "it is a replica of another Redis";
        let why = "a replica takes no writes";
        findings.push(Finding::wrong(SUBJECT, what, why).fix("name the master, or use Sentinel"));
    }
    if *latency > SLOW {
        let why = "every ack waits for it once at least";
        let what = format!("an answer takes {latency:.1?}");
        findings.push(Finding::doubtful(SUBJECT, what, why).fix("a Redis in the same region"));
    }
    findings.extend(redis.replicas.and_then(|there| of_replicas(there, replicas)));
    findings
}

/// Whether this machine and Redis agree about the time, at the moment `now_ms` of this one.
fn clock(redis: &RedisDiagnostics, now_ms: i64) -> Option<Finding> {
    let skew_ms = redis.now_ms?.abs_diff(now_ms);
    if skew_ms < SKEW_MS {
        return Some(Finding::fine(
            SUBJECT,
            format!("its clock is within {skew_ms} ms of this one"),
        ));
    }
    let what = format!("its clock and this one are {:.1} s apart", skew_ms as f64 / 1_000.0);
    let why = "append times and the age of producers follow this one; S3 refuses a request whose \
               time is off by 15 minutes";
    Some(Finding::doubtful(SUBJECT, what, why).fix("run NTP on both"))
}

/// Who is there now, and whether they agree with this file.
fn crowd(redis: &RedisDiagnostics, settings: &Settings) -> Vec<Finding> {
    let mut by_zone: BTreeMap<&str, Vec<&str>> =
        redis.zones.iter().map(|zone| (zone.as_str(), Vec::new())).collect();
    for member in &redis.members {
        by_zone.entry(&member.zone_name).or_default().push(&member.replica);
    }
    let zone = |(zone, replicas): (&&str, &Vec<&str>)| match replicas.is_empty() {
        true => format!("{zone}: nobody"),
        false => format!("{zone}: {}", replicas.join(", ")),
    };
    let seen: Vec<_> = by_zone.iter().map(zone).collect();
    let seen = if seen.is_empty() { "none yet".to_owned() } else { seen.join("; ") };
    let mut findings = vec![Finding::fine(ZONES, format!("seen: {seen}"))];
    let is_known = redis.zones.contains(&settings.zone);
    if !is_known && !redis.zones.is_empty() {
        let what = format!("zone `{}` was never seen", settings.zone);
        let why = "a zone is remembered for ever; one that is misspelt stays in the map of nodes";
        let fix = "nothing, if it is new; else one of the names above";
        findings.push(Finding::doubtful(ZONES, what, why).fix(fix));
    }
    let differs = |member: &&Member| ![0, settings.digest()].contains(&member.settings);
    let others: Vec<_> =
        redis.members.iter().filter(differs).map(|member| member.replica.as_str()).collect();
    if !others.is_empty() {
        let what = format!("other rules than this file's are followed by {}", others.join(", "));
        let why = "whichever replica sees a new topic first decides whether it is diskless";
        let fix = "the same diskless.topics and coordinator.replicas in every file";
        findings.push(Finding::wrong(ZONES, what, why).fix(fix));
    }
    let versions: BTreeSet<_> =
        redis.members.iter().map(|m| m.version.as_str()).filter(|v| !v.is_empty()).collect();
    if versions.len() > 1 {
        let what = format!(
            "versions {} run side by side",
            versions.iter().copied().collect::<Vec<_>>().join(", ")
        );
        let why = "that is meant for the time of an upgrade";
        findings.push(Finding::doubtful(ZONES, what, why).fix("upgrade the others"));
    }
    findings
}

/// `there` are connected, `waited` must have a commit before it is acknowledged.
fn of_replicas(there: u32, waited: u8) -> Option<Finding> {
    let what = format!("{there} replicas of Redis are there, coordinator.replicas is {waited}");
    match (there, u32::from(waited)) {
        (0, 0) => None,
        (there, waited) if there < waited => Some(
            Finding::wrong(SUBJECT, what, "nothing is acknowledged until more are there")
                .fix("bring them back, or lower coordinator.replicas"),
        ),
        (there, 0) => Some(
            Finding::doubtful(
                SUBJECT,
                what,
                "a failover may lose what was acknowledged just before",
            )
            .fix(format!("coordinator: {{url: …, replicas: {there}}}")),
        ),
        (there, waited) if there > waited => Some(
            Finding::doubtful(
                SUBJECT,
                what,
                "a failover may choose one that has not got what another one acknowledged",
            )
            .fix(format!("replicas: {there}, or replica-priority 0 for the others")),
        ),
        _ => Some(Finding::fine(SUBJECT, "every replica of Redis has what is acknowledged")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Level;
    use crate::doctor::Level::{Doubtful, Fine, Wrong};

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
            judge(redis, replicas).iter().map(|finding| finding.level).collect()
        };
        assert_eq!(levels(&good, 1), [Fine, Fine]);
        assert_eq!(levels(&good, 0), [Fine, Doubtful]);
        assert_eq!(levels(&good, 2), [Fine, Wrong]);
        let two = RedisDiagnostics { replicas: Some(2), ..good };
        assert_eq!(levels(&two, 1), [Fine, Doubtful]);
        let bad = RedisDiagnostics {
            version: Some("5.0.1".to_owned()),
            eviction: Some("allkeys-lru".to_owned()),
            append_only: Some(false),
            is_master: Some(false),
            replicas: None,
            latency: Duration::from_millis(20),
            ..RedisDiagnostics::default()
        };
        assert_eq!(levels(&bad, 0), [Fine, Doubtful, Wrong, Doubtful, Wrong, Doubtful]);
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
        let level = |now_ms| clock(&redis, now_ms).map(|finding| finding.level);
        assert_eq!(
            (level(101_000), level(103_000), level(90_000)),
            (Some(Fine), Some(Doubtful), Some(Doubtful))
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
        let found = crowd(&agreed, &ours);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].what, "seen: a: a1; b: nobody");

        let theirs = settings("diskless: {topics: [{match: y}]}");
        let members = vec![member("a1", "1", &ours), member("a2", "2", &theirs)];
        let mixed = RedisDiagnostics { members, zones, ..RedisDiagnostics::default() };
        let found = crowd(&mixed, &ours);
        let levels: Vec<_> = found.iter().map(|finding| finding.level).collect();
        assert_eq!(levels, [Fine, Wrong, Doubtful]);
        assert!(found[1].what.ends_with("by a2"), "{found:?}");
        let new = Settings { zone: "c".to_owned(), ..ours };
        assert_eq!(crowd(&agreed, &new)[1].level, Doubtful);
    }
}
