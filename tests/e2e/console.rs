//! The console in a real Chromium, checked by axe.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::raw::batch::Batch;
use crate::raw::client::Client;
use crate::raw::requests::{append, fetch};
use crate::raw::{Topic, zone_cache};
use testbed::replica::{Backends, DISKLESS_PREFIX, Replica};
use testbed::{Testbed, cache, repository, require};

fn check(arguments: &[&str]) {
    require(Path::new("node"));
    require(&cache().join("console/node_modules"));
    let mut command = Command::new("node");
    command.arg(repository().join("tests/console/check.mjs")).args(arguments);
    let output = command.env("CONSOLE_MODULES", cache().join("console")).output();
    let output = output.expect("node runs");
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&said));
}

#[test]
fn page_shows_a_thousand_topics_and_recovers_from_errors() {
    let page = repository().join("src/admin/console.html");
    check(&["--page", &page.display().to_string()]);
}

#[test]
fn page_of_a_replica_with_traffic_shows_latencies() {
    let replica = Replica::start(Backends::RedisS3, "flush: {interval: 20ms}\n");
    let name = Testbed::get().unique(&format!("{DISKLESS_PREFIX}shown"));
    let topic = Topic::create(&replica, &name, 1, &[]);
    let admin = replica.ports().start + 1;
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut client = Client::connect(&topic.address(&replica, 0));
            let mut offset = 0;
            while !done.load(Ordering::Relaxed) {
                offset = append(&mut client, topic.partition(0), Batch::of(&["seen"]).bytes());
                client.call(&fetch(topic.partition(0), 12, offset), 12);
            }
            assert!(offset > 0);
        });
        let url = format!("http://127.0.0.1:{admin}/");
        let checked = std::panic::catch_unwind(|| check(&["--live", &url, "--topic", &name]));
        done.store(true, Ordering::Relaxed);
        checked.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    let port = u16::try_from(admin).expect("a port");
    let page = zone_cache::get(port, "/");
    let policy = "content-security-policy: default-src 'none'";
    assert!(page.contains(policy) && page.contains("text/html"), "{page}");
    assert!(zone_cache::get(port, "/nothing").starts_with("HTTP/1.1 404"));
}
