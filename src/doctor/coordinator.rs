//! Is the Redis one that offsets can be trusted to?

use std::time::Duration;

use super::report::Finding;
use crate::config::{CoordinatorSettings, Settings};
use crate::coordinator::redis::inspect::{Inspection, inspect};

const SUBJECT: &str = "coordinator";
/// Every ack waits for Redis once.
const SLOW: Duration = Duration::from_millis(5);
const MAJOR_MIN: u32 = 6;

pub(super) async fn examine(settings: &Settings) -> Vec<Finding> {
    let CoordinatorSettings::Redis { url, replicas } = &settings.coordinator else {
        // That it is for one replica only is among the configuration's own warnings where it matters.
        return vec![Finding::fine(SUBJECT, "embedded, in the only replica")];
    };
    match inspect(url.expose()).await {
        Ok(inspection) => judge(&inspection, *replicas),
        Err(error) => vec![
            Finding::wrong(SUBJECT, format!("{url}: {error}"), "nothing diskless can be written")
                .fix(
                    "see that this Redis runs, that it may be reached from here, and the password",
                ),
        ],
    }
}

fn judge(redis: &Inspection, replicas: u8) -> Vec<Finding> {
    let Inspection { version, eviction, append_only, is_master, latency, .. } = redis;
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
        let good = Inspection {
            version: Some("8.0.3".to_owned()),
            eviction: Some("noeviction".to_owned()),
            append_only: Some(true),
            is_master: Some(true),
            replicas: Some(1),
            latency: Duration::from_micros(200),
        };
        let levels = |redis: &Inspection, replicas| -> Vec<Level> {
            judge(redis, replicas).iter().map(|finding| finding.level).collect()
        };
        assert_eq!(levels(&good, 1), [Fine, Fine]);
        assert_eq!(levels(&good, 0), [Fine, Doubtful]);
        assert_eq!(levels(&good, 2), [Fine, Wrong]);
        let two = Inspection { replicas: Some(2), ..good };
        assert_eq!(levels(&two, 1), [Fine, Doubtful]);
        let bad = Inspection {
            version: Some("5.0.1".to_owned()),
            eviction: Some("allkeys-lru".to_owned()),
            append_only: Some(false),
            is_master: Some(false),
            replicas: None,
            latency: Duration::from_millis(20),
        };
        assert_eq!(levels(&bad, 0), [Fine, Doubtful, Wrong, Doubtful, Wrong, Doubtful]);
    }
}
