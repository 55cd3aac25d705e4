//! Changes of the log level and of the configuration while a replica runs, and the export of spans.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::Value;

use crate::raw::batch::Batch;
use crate::raw::client::Client;
use crate::raw::requests::append;
use crate::raw::{NODE_0, Topic, zone_cache};
use testbed::Testbed;
use testbed::process::wait_until;
use testbed::replica::{Backends, DISKLESS_PREFIX, Replica};

const LIMIT: Duration = Duration::from_secs(20);

fn admin(replica: &Replica) -> u16 {
    u16::try_from(replica.ports().start + 1).expect("a port")
}

/// Sends a PUT; returns the status and the body.
fn put(replica: &Replica, path: &str, body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(("127.0.0.1", admin(replica))).expect("it listens");
    let length = body.len();
    let request = format!(
        "PUT {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    (status.expect("a status"), body.to_owned())
}

fn has(replica: &Replica, row: &str) -> bool {
    zone_cache::get(admin(replica), "/metrics").lines().any(|line| line == row)
}

/// Replaces the replica's configuration file atomically, as an editor does.
fn edit(replica: &Replica, change: impl FnOnce(&str) -> String) {
    let path = replica.dir().join("odradek.yaml");
    let text = fs::read_to_string(&path).expect("it is there");
    let fresh = replica.dir().join("odradek.yaml.new");
    fs::write(&fresh, change(&text)).expect("the directory is writable");
    fs::rename(fresh, path).expect("the directory is writable");
}

fn hang_up(replica: &Replica) {
    let status = Command::new("kill").args(["-HUP", &replica.id().to_string()]).status();
    assert!(status.expect("kill runs").success());
}

#[test]
fn logs_are_json_and_their_level_changes_at_run_time() {
    let extra = "log: {format: json, level: \"info,odradek=info\"}\n";
    let replica = Replica::start(Backends::Embedded, extra);
    let shown = || zone_cache::get(admin(&replica), "/log");
    assert!(shown().ends_with("\r\n\r\ninfo,odradek=info\n"), "{}", shown());
    let sealed = || replica.log().contains("\"message\":\"sealed object\"");
    let name = Testbed::get().unique(&format!("{DISKLESS_PREFIX}logged"));
    let topic = Topic::create(&replica, &name, 1, &[]);
    let mut client = Client::connect(&topic.address(&replica, 0));
    append(&mut client, topic.partition(0), Batch::of(&["quiet"]).bytes());
    assert!(!sealed(), "{}", replica.log());

    let (status, problem) = put(&replica, "/log", "odradek=loud");
    assert_eq!(status, 400);
    assert!(problem.contains("expected `info`"), "{problem}");
    assert_eq!(put(&replica, "/log", &"x".repeat(5_000)).0, 400);
    assert_eq!(put(&replica, "/nothing", "debug").0, 404);
    assert_eq!(put(&replica, "/log", "odradek=debug").0, 200);
    assert!(shown().ends_with("odradek=debug\n"));
    append(&mut client, topic.partition(0), Batch::of(&["loud"]).bytes());
    wait_until("a line of debug", LIMIT, sealed);

    // The audit log has a stream and a form of its own.
    let log = replica.log();
    for line in log.lines().filter(|line| !line.starts_with("{\"version\":")) {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        for key in ["timestamp", "level", "target", "message"] {
            assert!(line[key].is_string(), "{key} is missing: {line}");
        }
    }
}

#[test]
fn valid_configuration_changes_are_applied_and_invalid_ones_rejected() {
    let replica = Replica::start(Backends::Embedded, "flush: {interval: 20ms}\n");
    let reloads = |outcome: &str, count: u32| {
        let row = format!("odradek_config_reloads_total{{outcome=\"{outcome}\"}} {count}");
        wait_until(&row, LIMIT, || has(&replica, &row));
    };
    let prefix = Testbed::get().unique("late");
    let is_diskless = |name: &str| Topic::create(&replica, name, 1, &[]).leaders[&0] >= NODE_0;
    assert!(!is_diskless(&format!("{prefix}-before")));

    // A rule more: topics that are created from now on follow it, those that exist do not change.
    let rule = format!("topics:\n    - match: \"{prefix}-*\"\n");
    edit(&replica, |text| {
        assert!(text.contains("topics:"), "{text}");
        let (before, after) = text.split_once("topics:").expect("rules");
        let after = after.trim_start_matches([' ', '\n']);
        // The bed writes them as one line or as many.
        match after.strip_prefix('[') {
            Some(rest) => format!("{before}topics: [{{match: \"{prefix}-*\"}}, {rest}"),
            None => format!("{before}{rule}    {after}"),
        }
    });
    reloads("applied", 1);
    assert!(replica.log().contains("diskless.topics"), "{}", replica.log());
    assert!(is_diskless(&format!("{prefix}-after")));
    assert!(
        !Topic::look_up(&replica, &format!("{prefix}-before"))
            .leaders
            .values()
            .any(|l| *l >= NODE_0)
    );

    // An invalid file: the old configuration stays, and the mistake is logged.
    edit(&replica, |text| text.replace("interval: 20ms", "interval: 20"));
    reloads("rejected", 1);
    assert!(replica.log().contains("flush.interval: invalid duration `20`"), "{}", replica.log());
    assert!(is_diskless(&format!("{prefix}-still")));

    // What counts after a restart only is named.
    edit(&replica, |text| {
        text.replace("interval: 20", "interval: 30ms") + "memory: {cache: 8MiB}\n"
    });
    reloads("restart_required", 1);
    assert!(has(&replica, "odradek_config_restart_required 1"));
    assert!(replica.log().contains("memory.cache"), "{}", replica.log());
    edit(&replica, |text| text.replace("memory: {cache: 8MiB}\n", ""));
    reloads("applied", 2);
    assert!(has(&replica, "odradek_config_restart_required 0"));

    hang_up(&replica);
    reloads("unchanged", 1);
}

/// Starts a collector of spans that accepts everything.
fn collector() -> (u16, Arc<Mutex<Vec<u8>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let port = listener.local_addr().expect("it has one").port();
    let taken = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&taken);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let kept = Arc::clone(&kept);
            std::thread::spawn(move || {
                let (mut request, mut piece) = (Vec::new(), [0; 65_536]);
                while let Ok(count @ 1..) = stream.read(&mut piece) {
                    request.extend_from_slice(&piece[..count]);
                    let Some(body) = request.windows(4).position(|w| w == b"\r\n\r\n") else {
                        continue;
                    };
                    let head = String::from_utf8_lossy(&request[..body]).to_ascii_lowercase();
                    let length = head.lines().find_map(|l| l.strip_prefix("content-length: "));
                    let length: usize = length.and_then(|l| l.trim().parse().ok()).unwrap_or(0);
                    if request.len() >= body + 4 + length {
                        kept.lock().extend(request.drain(..body + 4 + length));
                        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
                        if stream.write_all(answer).is_err() {
                            return;
                        }
                    }
                }
            });
        }
    });
    (port, taken)
}

#[test]
fn spans_go_to_a_collector() {
    let (port, taken) = collector();
    let extra = format!("log: {{traces: \"http://127.0.0.1:{port}\"}}\n");
    let replica = Replica::start(Backends::Embedded, &extra);
    let name = Testbed::get().unique(&format!("{DISKLESS_PREFIX}traced"));
    let topic = Topic::create(&replica, &name, 1, &[]);
    let mut client = Client::named(&topic.address(&replica, 0), "traced-client");
    append(&mut client, topic.partition(0), Batch::of(&["traced"]).bytes());
    let wanted = [
        "/v1/traces",
        "odradek",
        "zone-1",
        "produce",
        "traced-client",
        "object",
        "upload",
        "commit",
    ];
    wait_until("spans", LIMIT, || {
        let taken = taken.lock();
        let has = |word: &str| taken.windows(word.len()).any(|window| window == word.as_bytes());
        wanted.iter().all(|word| has(word))
    });
    assert!(!replica.log().contains("odradek::span"), "spans are no log lines");
}
