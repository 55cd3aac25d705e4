//! `make demo-zones`: three zones on one machine, of which a key kills one while a producer and a
//! consumer run.

use std::fs;
use std::io::Read as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

use testbed::repository;
use testbed::three_zones::{Clients, ThreeZones, ZONES};

use crate::build::{build, setup};
use crate::terminal::{note, say, variable};

/// The byte that Ctrl-C sends while the terminal passes on every key.
const CTRL_C: u8 = 3;

pub(crate) fn run() -> Result<(), String> {
    let given = variable("DEMO_DIR").map(PathBuf::from);
    let dir = given.unwrap_or_else(|| repository().join(".demo-zones"));
    fs::create_dir_all(&dir).map_err(|e| format!("cannot create {}: {e}", dir.display()))?;
    let dir = fs::canonicalize(&dir).map_err(|e| format!("cannot enter {}: {e}", dir.display()))?;
    let lock = fs::File::create(dir.join("lock")).map_err(|e| format!("cannot lock: {e}"))?;
    if lock.try_lock().is_err() {
        let dir = dir.display();
        return Err(format!("a demo is running in {dir}: end it, or set DEMO_DIR"));
    }
    setup(&["kafka", "redis", "minio", "bench"])?;
    let binary = build("odradek", "odradek", "dev", "ODRADEK_BIN")?;
    say("Kafka (one broker), Redis, MinIO, and a replica in each of zone-a, zone-b and zone-c");
    let mut zones = ThreeZones::start(&dir, binary);
    for zone in ZONES {
        note(&format!("zone-{zone} is configured by {}/zone-{zone}/odradek.yaml", dir.display()));
    }
    say(
        "A producer in zone-a (100 records/s, idempotent) and a consumer group in zone-b, stock librdkafka",
    );
    let mut clients = zones.start_clients();
    match variable("ZONES_DEMO").as_deref() {
        Some("once") => zones.run_script(&mut clients, say),
        _ => obey_keys(&mut zones, &mut clients)?,
    }
    say("Ending: reading the rest, then comparing");
    note(&clients.finish());
    Ok(())
}

/// Kills a zone that runs, or starts one that does not.
fn toggle(zones: &mut ThreeZones, zone: &'static str) {
    if zones.is_running(zone) {
        zones.kill_zone(zone);
        say(&format!("zone-{zone} is dead (kill -9)"));
    } else {
        zones.start_zone(zone);
        say(&format!("zone-{zone} is up"));
    }
}

/// Kills and starts zones by the keys that are pressed, and shows what the clients print.
fn obey_keys(zones: &mut ThreeZones, clients: &mut Clients) -> Result<(), String> {
    say("Press a, b or c to kill that zone, again to start it; q to end and to compare");
    let bootstrap = zones.bootstrap();
    let first = bootstrap.split(',').next().unwrap_or_default();
    let (redis, dir) = (zones.redis_port(), zones.dir().display());
    note(&format!(
        "To look around: kcat -b {first} -L; redis-cli -p {redis}; the objects are in {dir}/minio"
    ));
    let (_raw, keys) = (RawTerminal::enter(), keys());
    let mut shown = 0;
    while clients.is_alive() {
        let log = clients.log();
        log[shown..].lines().for_each(note);
        shown = log.len();
        match keys.recv_timeout(Duration::from_millis(500)) {
            Ok(b'q' | CTRL_C) | Err(RecvTimeoutError::Disconnected) => return Ok(()),
            Ok(key) => {
                let zone = ZONES.iter().find(|zone| zone.as_bytes() == [key]);
                zone.into_iter().for_each(|zone| toggle(zones, zone));
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
    }
    Err(format!("the clients ended; their log is {}/clients.log", zones.dir().display()))
}

/// A terminal that passes on each key at once; dropping it restores the lines.
struct RawTerminal(Option<String>);

impl RawTerminal {
    fn enter() -> Self {
        let before = stty(&["-g"]);
        if before.is_some() {
            stty(&["-icanon", "-echo", "-isig"]);
        }
        Self(before)
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            stty(&[before]);
        }
    }
}

/// Runs `stty` on standard input; `None` when that is not a terminal.
fn stty(arguments: &[&str]) -> Option<String> {
    let mut command = Command::new("stty");
    let output = command.args(arguments).stdin(Stdio::inherit()).output().ok()?;
    let printed = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    output.status.success().then_some(printed)
}

/// The keys that are pressed from now on.
fn keys() -> Receiver<u8> {
    let (sender, keys) = sync_channel(16);
    std::thread::spawn(move || {
        for key in std::io::stdin().lock().bytes().map_while(Result::ok) {
            if sender.send(key).is_err() {
                return;
            }
        }
    });
    keys
}
