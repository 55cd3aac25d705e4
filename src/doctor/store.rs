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
use crate::store::open::{Opened, StoreUrl};
use crate::store::probe::probe;
use crate::store::s3::S3Options;
use crate::store::{PutMode, Store, StoreError, StoreErrorKind};

const SUBJECT: &str = "store";
/// Beside what a starting replica probes; see `docs/object-format.md`.
const KEY: &str = "meta/probe-doctor-";
const TRIES: usize = 5;
const TRIED_BYTES: usize = 64 << 10;
const WITHIN: Duration = Duration::from_secs(30);
/// Clocks that are further apart are worth a word …
const SKEWED: Duration = Duration::from_secs(10);
/// … and from here on S3 refuses what is signed by the one (`RequestTimeTooSkewed`).
const REFUSED: Duration = Duration::from_secs(15 * 60);
/// An ack waits for a PUT.
const SLOW: Duration = Duration::from_millis(500);

pub(super) async fn examine(settings: &Settings) -> Vec<Finding> {
    if !settings.writer {
        return vec![Finding::fine(SUBJECT, "none is needed: writer is off")];
    }
    match tokio::time::timeout(WITHIN, ask(settings)).await {
        Ok(Ok(findings)) => findings,
        Ok(Err(error)) => vec![refused(settings, &error)],
        Err(_) => {
            let what = format!("{}: not done within {WITHIN:?}", settings.objects_url());
            vec![Finding::wrong(SUBJECT, what, "nothing diskless can be written")]
        }
    }
}

fn refused(settings: &Settings, error: &StoreError) -> Finding {
    let url = settings.objects_url();
    let why = "nothing diskless can be written or read";
    let fix = match (&url, error.kind) {
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
    Finding::wrong(SUBJECT, format!("{url}: {error}"), why).fix(fix)
}

async fn ask(settings: &Settings) -> Result<Vec<Finding>, StoreError> {
    let entropy = Arc::new(Entropy::from_os());
    let (url, s3, of_store) = (settings.objects_url(), settings.store.s3.clone(), entropy.clone());
    let opening = move || crate::store::open::open(&url, &s3, of_store, &Arc::default());
    let opened = match tokio::task::spawn_blocking(opening).await {
        Ok(opened) => opened?,
        Err(panic) => return Err(StoreError::in_doubt("open", "", panic.to_string())),
    };
    let key = format!("{KEY}{:016x}", entropy.next_u64());
    let mut findings = honours(&opened, &key).await?;
    opened.store.list("meta/", None, 1).await?;
    findings.push(latency(&*opened.store, &key).await?);
    findings.extend(clock(settings).await);
    opened.store.delete(&key).await?;
    if opened.store.head(&key).await.is_ok() {
        let why = "what is no longer needed could not be removed";
        findings.push(Finding::doubtful(SUBJECT, "a deleted object is still there", why));
    }
    if settings.coordinator != CoordinatorSettings::Embedded
        && opened.store.head("embedded/cluster.json").await.is_ok()
    {
        let what = "these objects belong to an embedded coordinator, whose offsets Redis lacks";
        let why = "a replica refuses to start so";
        let fix = "another prefix or cluster name, or coordinator: embedded";
        findings.push(Finding::wrong(SUBJECT, what, why).fix(fix));
    }
    Ok(findings)
}

async fn honours(opened: &Opened, key: &str) -> Result<Vec<Finding>, StoreError> {
    let honours = probe(&*opened.store, opened.s3.as_ref(), key).await?;
    let mut findings = vec![Finding::fine(SUBJECT, "it writes, reads, lists and deletes")];
    if !honours.create {
        let what = "it overwrites what it was told to leave alone (PUT with If-None-Match)";
        let why = "two replicas could take one object for theirs; a replica refuses to start so";
        let fix = "a store that honours conditional writes";
        findings.push(Finding::wrong(SUBJECT, what, why).fix(fix));
    }
    if !honours.checksums {
        let what = "it does not check the CRC32C of what it is sent";
        let why = "damage on the way to it is noticed only when the object is read";
        findings.push(Finding::doubtful(SUBJECT, what, why));
    }
    Ok(findings)
}

/// Whether the store and this machine agree about the time; `None` where the store does not say.
async fn clock(settings: &Settings) -> Option<Finding> {
    let StoreUrl::S3 { .. } = settings.store.url else { return None };
    let S3Options { endpoint, region, .. } = &settings.store.s3;
    let aws = || format!("https://s3.{region}.amazonaws.com");
    let url = endpoint.clone().unwrap_or_else(aws);
    // Whatever it answers to a request that nobody signed, it says when.
    let answer = reqwest::Client::new().get(url).timeout(WITHIN).send().await.ok()?;
    let said = answer.headers().get("date")?.to_str().ok()?;
    let there = httpdate::parse_http_date(said).ok()?.duration_since(UNIX_EPOCH).ok()?;
    Some(judge_clock(i64::try_from(there.as_millis()).ok()?, SystemClock.now_ms()))
}

fn judge_clock(there_ms: i64, here_ms: i64) -> Finding {
    let skew = Duration::from_millis(there_ms.abs_diff(here_ms));
    // It says whole seconds.
    let what = format!("its clock and this one are {} s apart", skew.as_secs());
    if skew < SKEWED {
        return Finding::fine(
            SUBJECT,
            format!("its clock is within {} s of this one", skew.as_secs() + 1),
        );
    }
    let fix = "run NTP on this machine";
    if skew < REFUSED {
        let why = "S3 refuses a request whose time is off by 15 minutes";
        return Finding::doubtful(SUBJECT, what, why).fix(fix);
    }
    Finding::wrong(SUBJECT, what, "S3 refuses what is signed with such a time").fix(fix)
}

async fn latency(store: &dyn Store, key: &str) -> Result<Finding, StoreError> {
    let (mut puts, mut gets) = (Vec::new(), Vec::new());
    for _ in 0..TRIES {
        let began = Instant::now();
        let body = vec![Bytes::from(vec![0; TRIED_BYTES])];
        store.put(key, body, PutMode::Overwrite).await?;
        puts.push(began.elapsed());
        let began = Instant::now();
        store.get(key, None).await?;
        gets.push(began.elapsed());
    }
    puts.sort_unstable();
    gets.sort_unstable();
    let (put, get) = (puts[TRIES / 2], gets[TRIES / 2]);
    let what = format!("a PUT of 64 KiB takes {put:.1?}, a GET {get:.1?}");
    if put < SLOW {
        return Ok(Finding::fine(SUBJECT, what));
    }
    let why = "an ack waits for a PUT";
    Ok(Finding::doubtful(SUBJECT, what, why).fix("a bucket in this region, a gateway endpoint"))
}

/// The permissions that a replica needs on its bucket, as a policy of AWS IAM; `None` where there
/// is no bucket.
pub(super) fn policy(settings: &Settings) -> Option<serde_json::Value> {
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
        let level = |seconds: i64| judge_clock(1_000_000, 1_000_000 + seconds * 1_000).level;
        let levels = [0, 9, -9, 11, -600, 900, -2_000].map(level);
        let expected = [Level::Fine, Level::Fine, Level::Fine, Level::Doubtful, Level::Doubtful];
        assert_eq!(levels[..5], expected);
        assert_eq!(levels[5..], [Level::Wrong, Level::Wrong]);
    }
}
