//! Checks of the object store: access, capabilities, latency and clock.

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
/// The prefix of the doctor's own key; see `docs/object-format.md`.
const KEY_PREFIX: &str = "meta/probe-doctor-";
const LATENCY_SAMPLES: usize = 5;
const LATENCY_SAMPLE_BYTES: usize = 64 << 10;
const TIMEOUT: Duration = Duration::from_secs(30);
/// The clock skew from which a warning is given.
const CLOCK_SKEW_WARN: Duration = Duration::from_secs(10);
/// The clock skew from which S3 rejects requests (`RequestTimeTooSkewed`).
const CLOCK_SKEW_FAIL: Duration = Duration::from_secs(15 * 60);
/// The latency of a PUT above which a warning is given: acknowledgements wait for a PUT.
const SLOW_THRESHOLD: Duration = Duration::from_millis(500);

pub(super) async fn check(settings: &Settings) -> Vec<Finding> {
    if !settings.writer {
        return vec![Finding::ok(SUBJECT, "not needed: writer is off")];
    }
    match tokio::time::timeout(TIMEOUT, run_checks(settings)).await {
        Ok(Ok(findings)) => findings,
        Ok(Err(error)) => vec![open_failure(settings, &error)],
        Err(_) => {
            let summary =
                format!("{}: the checks did not finish within {TIMEOUT:?}", settings.objects_url());
            vec![Finding::fail(SUBJECT, summary, "diskless topics cannot be written")]
        }
    }
}

fn open_failure(settings: &Settings, error: &StoreError) -> Finding {
    let url = settings.objects_url();
    let impact = "diskless topics cannot be written or read";
    let remedy = match (&url, error.kind) {
        (StoreUrl::S3 { .. }, StoreErrorKind::Denied) => {
            "check the bucket's name, the region and the credentials; `odradek doctor --policy FILE` \
             prints the required permissions"
        }
        (StoreUrl::S3 { .. }, _) => "check that the endpoint is reachable from here",
        (StoreUrl::File(_), _) => {
            "check the directory's owner and free space; a running replica locks it"
        }
        (StoreUrl::Memory, _) => "",
    };
    Finding::fail(SUBJECT, format!("{url}: {error}"), impact).remedy(remedy)
}

async fn run_checks(settings: &Settings) -> Result<Vec<Finding>, StoreError> {
    let entropy = Arc::new(Entropy::from_os());
    let (url, s3, of_store) = (settings.objects_url(), settings.s3_options(), entropy.clone());
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
        let impact = "obsolete objects could not be removed";
        findings.push(Finding::warn(SUBJECT, "a deleted object still exists", impact));
    }
    if settings.coordinator != CoordinatorSettings::Embedded
        && opened.store.head("embedded/cluster.json").await.is_ok()
    {
        let summary = "the objects belong to an embedded coordinator, and Redis lacks its offsets";
        let impact = "a replica does not start with this configuration";
        let remedy = "use another prefix or cluster name, or coordinator: embedded";
        findings.push(Finding::fail(SUBJECT, summary, impact).remedy(remedy));
    }
    Ok(findings)
}

async fn capabilities(opened: &OpenedStore, key: &str) -> Result<Vec<Finding>, StoreError> {
    let capabilities = probe(&*opened.store, opened.s3.as_ref(), key).await?;
    let mut findings = vec![Finding::ok(SUBJECT, "write, read, list and delete succeed")];
    if !capabilities.conditional_create {
        let summary = "the store overwrites existing objects in spite of If-None-Match";
        let impact =
            "two replicas could claim the same object; a replica does not start with this store";
        let remedy = "use a store that supports conditional writes";
        findings.push(Finding::fail(SUBJECT, summary, impact).remedy(remedy));
    }
    if !capabilities.checksums {
        let summary = "the store does not verify the CRC32C of objects";
        let impact = "corruption in transit is detected only when the object is read";
        findings.push(Finding::warn(SUBJECT, summary, impact));
    }
    Ok(findings)
}

/// Compares the clock of the store with this machine's; `None` if the store does not report it.
async fn check_clock(settings: &Settings) -> Option<Finding> {
    let StoreUrl::S3 { .. } = settings.store else { return None };
    let S3Options { endpoint, region, .. } = &settings.s3_options();
    let aws = || format!("https://s3.{region}.amazonaws.com");
    let url = endpoint.clone().unwrap_or_else(aws);
    // The response to an unsigned request has a date too, whatever its status.
    let response = reqwest::Client::new().get(url).timeout(TIMEOUT).send().await.ok()?;
    let date = response.headers().get("date")?.to_str().ok()?;
    let server_time = httpdate::parse_http_date(date).ok()?.duration_since(UNIX_EPOCH).ok()?;
    Some(evaluate_clock(i64::try_from(server_time.as_millis()).ok()?, SystemClock.now_ms()))
}

fn evaluate_clock(server_ms: i64, local_ms: i64) -> Finding {
    let skew = Duration::from_millis(server_ms.abs_diff(local_ms));
    // The date has whole seconds.
    let summary = format!("its clock and this one are {} s apart", skew.as_secs());
    if skew < CLOCK_SKEW_WARN {
        return Finding::ok(
            SUBJECT,
            format!("its clock is within {} s of this one", skew.as_secs() + 1),
        );
    }
    let remedy = "run NTP on this machine";
    if skew < CLOCK_SKEW_FAIL {
        let impact = "S3 rejects a request whose time differs by 15 minutes";
        return Finding::warn(SUBJECT, summary, impact).remedy(remedy);
    }
    Finding::fail(SUBJECT, summary, "S3 rejects requests that are signed with this time")
        .remedy(remedy)
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
    let impact = "acknowledgements wait for a PUT";
    Ok(Finding::warn(SUBJECT, summary, impact)
        .remedy("use a bucket in this region, or a gateway endpoint"))
}

/// Returns the permissions that a replica needs on its bucket, as a policy of AWS IAM; `None` if the
/// store is not a bucket.
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
    fn clock_levels_follow_the_limits_of_s3() {
        let level = |seconds: i64| evaluate_clock(1_000_000, 1_000_000 + seconds * 1_000).level;
        let levels = [0, 9, -9, 11, -600, 900, -2_000].map(level);
        let expected = [Level::Ok, Level::Ok, Level::Ok, Level::Warn, Level::Warn];
        assert_eq!(levels[..5], expected);
        assert_eq!(levels[5..], [Level::Fail, Level::Fail]);
    }
}
