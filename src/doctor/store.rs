//! Does the store do what it is asked, and how fast?

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use serde_json::json;
use tokio::time::Instant;

use super::report::Finding;
use crate::clock::{SystemClock, WallClock};
use crate::config::{CoordinatorSettings, Settings};
use crate::entropy::Entropy;
use crate::store::open::{OpenedStore, StoreUrl};
use crate::store::probe::probe;
use crate::store::s3::S3Options;
use crate::store::{PutMode, Store, StoreError, StoreErrorKind};

const SUBJECT: &str = "store";
/// Beside what a starting replica probes; see `docs/object-format.md`.
const KEY_PREFIX: &str = "meta/probe-doctor-";
const LATENCY_SAMPLES: usize = 5;
const LATENCY_SAMPLE_BYTES: usize = 64 << 10;
const TIMEOUT: Duration = Duration::from_secs(30);
/// Clocks that are further apart are worth a word …
const CLOCK_SKEW_WARN: Duration = Duration::from_secs(10);
/// … and from here on S3 refuses what is signed by the one (`RequestTimeTooSkewed`).
const CLOCK_SKEW_FAIL: Duration = Duration::from_secs(15 * 60);
/// An ack waits for a PUT.
const SLOW_THRESHOLD: Duration = Duration::from_millis(500);

pub(super) async fn check(settings: &Settings) -> Vec<Finding> {
    if !settings.writer {
        return vec![Finding::ok(SUBJECT, "none is needed: writer is off")];
    }
    match tokio::time::timeout(TIMEOUT, run_checks(settings)).await {
        Ok(Ok(findings)) => findings,
        Ok(Err(error)) => vec![open_failure(settings, &error)],
        Err(_) => {
            let summary = format!("{}: not done within {TIMEOUT:?}", settings.objects_url());
            vec![Finding::fail(SUBJECT, summary, "nothing diskless can be written")]
        }
    }
}

fn open_failure(settings: &Settings, error: &StoreError) -> Finding {
    let url = settings.objects_url();
    let impact = "nothing diskless can be written or read";
    let remedy = match (&url, error.kind) {
        (StoreUrl::S3 { .. }, StoreErrorKind::Denied) => {
            "see the bucket's name, the region and the credentials; `odradek doctor --policy FILE` \
             prints the permissions that are needed"
        }
        (StoreUrl::S3 { .. }, _) => "see that the endpoint can be reached from here",
        (StoreUrl::File(_), _) => {
            "see the directory's owner and free space; a replica that runs holds it locked"
        }
        (StoreUrl::Memory, _) => "",
    };
    Finding::fail(SUBJECT, format!("{url}: {error}"), impact).remedy(remedy)
}

async fn run_checks(settings: &Settings) -> Result<Vec<Finding>, StoreError> {
    let entropy = Arc::new(Entropy::from_os());
    let (url, s3, of_store) = (settings.objects_url(), settings.store.s3.clone(), entropy.clone());
    let opening = move || crate::store::open::open(&url, &s3, of_store, &Arc::default());
    let opened = match tokio::task::spawn_blocking(opening).await {
        Ok(opened) => opened?,
        Err(panic) => return Err(StoreError::indeterminate("open", "", panic.to_string())),
    };
    let key = format!("{KEY_PREFIX}{:016x}", entropy.next_u64());
    let mut findings = capabilities(&opened, &key).await?;
    opened.store.list("meta/", None, 1).await?;
    findings.push(check_latency(&*opened.store, &key).await?);
    findings.extend(check_clock(settings).await);
    opened.store.delete(&key).await?;
    if opened.store.head(&key).await.is_ok() {
        let impact = "what is no longer needed could not be removed";
        findings.push(Finding::warn(SUBJECT, "a deleted object is still there", impact));
    }
    if settings.coordinator != CoordinatorSettings::Embedded
        && opened.store.head("embedded/cluster.json").await.is_ok()
    {
        let summary = "these objects belong to an embedded coordinator, whose offsets Redis lacks";
        let impact = "a replica refuses to start so";
        let remedy = "another prefix or cluster name, or coordinator: embedded";
        findings.push(Finding::fail(SUBJECT, summary, impact).remedy(remedy));
    }
    Ok(findings)
}

async fn capabilities(opened: &OpenedStore, key: &str) -> Result<Vec<Finding>, StoreError> {
    let capabilities = probe(&*opened.store, opened.s3.as_ref(), key).await?;
    let mut findings = vec![Finding::ok(SUBJECT, "it writes, reads, lists and deletes")];
    if !capabilities.conditional_create {
        let summary = "it overwrites what it was told to leave alone (PUT with If-None-Match)";
        let impact = "two replicas could take one object for theirs; a replica refuses to start so";
        let remedy = "a store that honours conditional writes";
        findings.push(Finding::fail(SUBJECT, summary, impact).remedy(remedy));
    }
    if !capabilities.checksums {
        let summary = "it does not check the CRC32C of what it is sent";
        let impact = "damage on the way to it is noticed only when the object is read";
        findings.push(Finding::warn(SUBJECT, summary, impact));
    }
    Ok(findings)
}

/// Whether the store and this machine agree about the time; `None` where the store does not say.
async fn check_clock(settings: &Settings) -> Option<Finding> {
    let StoreUrl::S3 { .. } = settings.store.url else { return None };
    let S3Options { endpoint, region, .. } = &settings.store.s3;
    let aws = || format!("https://s3.{region}.amazonaws.com");
    let url = endpoint.clone().unwrap_or_else(aws);
    // Whatever it answers to a request that nobody signed, it says when.
    let answer = reqwest::Client::new().get(url).timeout(TIMEOUT).send().await.ok()?;
    let said = answer.headers().get("date")?.to_str().ok()?;
    let there = httpdate::parse_http_date(said).ok()?.duration_since(UNIX_EPOCH).ok()?;
    Some(evaluate_clock(i64::try_from(there.as_millis()).ok()?, SystemClock.now_ms()))
}

fn evaluate_clock(there_ms: i64, here_ms: i64) -> Finding {
    let skew = Duration::from_millis(there_ms.abs_diff(here_ms));
    // It says whole seconds.
    let summary = format!("its clock and this one are {} s apart", skew.as_secs());
    if skew < CLOCK_SKEW_WARN {
        return Finding::ok(
            SUBJECT,
            format!("its clock is within {} s of this one", skew.as_secs() + 1),
        );
    }
    let remedy = "run NTP on this machine";
    if skew < CLOCK_SKEW_FAIL {
        let impact = "S3 refuses a request whose time is off by 15 minutes";
        return Finding::warn(SUBJECT, summary, impact).remedy(remedy);
    }
    Finding::fail(SUBJECT, summary, "S3 refuses what is signed with such a time").remedy(remedy)
}

async fn check_latency(store: &dyn Store, key: &str) -> Result<Finding, StoreError> {
    let (mut puts, mut gets) = (Vec::new(), Vec::new());
    for _ in 0..LATENCY_SAMPLES {
        let began = Instant::now();
        let body = vec![Bytes::from(vec![0; LATENCY_SAMPLE_BYTES])];
        store.put(key, body, PutMode::Overwrite).await?;
        puts.push(began.elapsed());
        let began = Instant::now();
        store.get(key, None).await?;
        gets.push(began.elapsed());
    }
    puts.sort_unstable();
    gets.sort_unstable();
    let (put, get) = (puts[LATENCY_SAMPLES / 2], gets[LATENCY_SAMPLES / 2]);
    let summary = format!("a PUT of 64 KiB takes {put:.1?}, a GET {get:.1?}");
    if put < SLOW_THRESHOLD {
        return Ok(Finding::ok(SUBJECT, summary));
    }
    let impact = "an ack waits for a PUT";
    Ok(Finding::warn(SUBJECT, summary, impact)
        .remedy("a bucket in this region, a gateway endpoint"))
}

/// The permissions that a replica needs on its bucket, as a policy of AWS IAM; `None` where there
/// is no bucket.
pub fn iam_policy(settings: &Settings) -> Option<serde_json::Value> {
    let StoreUrl::S3 { bucket, prefix } = settings.objects_url() else { return None };
    let (objects, listed) = (format!("arn:aws:s3:::{bucket}/{prefix}/*"), format!("{prefix}/*"));
    let actions = ["s3:PutObject", "s3:GetObject", "s3:DeleteObject"];
    let of_objects = json!({"Effect": "Allow", "Action": actions, "Resource": objects});
    let of_bucket = json!({
        "Effect": "Allow",
        "Action": "s3:ListBucket",
        "Resource": format!("arn:aws:s3:::{bucket}"),
        "Condition": {"StringLike": {"s3:prefix": listed}},
    });
    Some(json!({"Version": "2012-10-17", "Statement": [of_objects, of_bucket]}))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Level;

    #[test]
    fn clocks_are_judged_by_what_s3_takes() {
        let level = |seconds: i64| evaluate_clock(1_000_000, 1_000_000 + seconds * 1_000).level;
        let levels = [0, 9, -9, 11, -600, 900, -2_000].map(level);
        let expected = [Level::Ok, Level::Ok, Level::Ok, Level::Warn, Level::Warn];
        assert_eq!(levels[..5], expected);
        assert_eq!(levels[5..], [Level::Fail, Level::Fail]);
    }
}
