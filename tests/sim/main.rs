//! Runs the engine in a simulated network and virtual time: the replicas of three zones, clients that
//! behave as Kafka's, and faults chosen by a seed.
//!
//! `SIM_SEEDS=1000` runs 1,000 seeds, from `SIM_FIRST` on; `SIM_SEED=7` runs one and prints its log.
#![expect(clippy::disallowed_methods, reason = "the runner measures real time")]

#[expect(dead_code, reason = "the engine's tests use the rest")]
#[path = "../engine/batches.rs"]
mod batches;
mod clients;
mod history;
mod isolation;
mod ports;
mod replica;
mod rpc;
mod shards;
mod world;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use history::HistoryChecker;
use parking_lot::Mutex;

/// Number of seeds in `make test`.
const SEEDS: u64 = 200;

fn number(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok().filter(|value| !value.is_empty())?;
    Some(value.parse().unwrap_or_else(|_| panic!("invalid {name} `{value}`: expected a number")))
}

fn print(what: &str) {
    writeln!(std::io::stdout(), "{what}").expect("stdout is open");
}

fn run(seed: u64) -> Arc<HistoryChecker> {
    let history = Arc::new(HistoryChecker::default());
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| world::run(seed, &history))) {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        history.violation(format!("panicked: {}", text.unwrap_or_default()));
    }
    history
}

/// Returns the path of a failed seed's log.
fn log_path(seed: u64) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("target/sim/{seed}.log"))
}

fn save_log(seed: u64, history: &HistoryChecker) -> String {
    let path = log_path(seed);
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("target is ours");
    std::fs::write(&path, history.log().join("\n") + "\n").expect("target is ours");
    let violations = history.violations();
    let first =
        violations.iter().take(5).map(|violation| format!("\n    {violation}")).collect::<String>();
    format!(
        "seed {seed}: {} violations, the first:{first}\n    log: {}; run again: make sim SEED={seed}",
        violations.len(),
        path.display()
    )
}

#[test]
fn all_seeds_pass() {
    if let Some(seed) = number("SIM_SEED") {
        let history = run(seed);
        history.log().iter().for_each(|line| print(line));
        assert!(history.violations().is_empty(), "{}", save_log(seed, &history));
        return;
    }
    let (first, count) = (number("SIM_FIRST").unwrap_or(1), number("SIM_SEEDS").unwrap_or(SEEDS));
    let (next, began) = (AtomicU64::new(0), Instant::now());
    let (failed, counts) = (Mutex::new(Vec::new()), Mutex::new(BTreeMap::<_, u64>::new()));
    let work = || {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= count {
                return;
            }
            let history = run(first + index);
            if !history.violations().is_empty() {
                let failure = save_log(first + index, &history);
                print(&failure);
                failed.lock().push(failure);
            }
            let mut counts = counts.lock();
            for (what, times) in history.counts() {
                *counts.entry(what).or_default() += times;
            }
            if (index + 1).is_multiple_of(count.div_ceil(10)) {
                print(&format!("{} of {count} seeds", index + 1));
            }
        }
    };
    std::thread::scope(|scope| {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        (0..threads).for_each(|_| drop(scope.spawn(work)));
    });
    let minutes = began.elapsed().as_secs_f64() / 60.0;
    let per_minute = count as f64 / minutes;
    print(&format!("seeds {first} to {}: {per_minute:.0} a minute", first + count - 1));
    for (what, times) in &*counts.lock() {
        print(&format!("  {times:>9} {what}"));
    }
    let failed = failed.into_inner();
    assert!(failed.is_empty(), "{} seeds failed\n{}", failed.len(), failed.join("\n"));
}

#[test]
fn same_seed_yields_the_same_log() {
    for seed in 1..=5 {
        let (first, second) = (run(seed), run(seed));
        let differs = first.log().into_iter().zip(second.log()).find(|(a, b)| a != b);
        assert_eq!(differs, None, "seed {seed}");
        assert_eq!(first.fingerprint(), second.fingerprint(), "seed {seed}");
    }
}
