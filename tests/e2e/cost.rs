//! Reported costs and requests, compared with the counters of the store.

use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::raw::batch::Batch;
use crate::raw::client::Client;
use crate::raw::requests::{append, fetch, fetched};
use crate::raw::{Topic, zone_cache};
use testbed::Testbed;
use testbed::minio::Minio;
use testbed::process::wait_until;
use testbed::replica::{DISKLESS_PREFIX, InZone, Replica};

const LIMIT: Duration = Duration::from_secs(60);
/// Numbers of produce requests to the two topics.
const LARGE: usize = 120;
const SMALL: usize = 200;
const GIB: f64 = 1_073_741_824.0;

fn admin(replica: &Replica, path: &str) -> String {
    let port = u16::try_from(replica.ports().start + 1).expect("a port");
    zone_cache::get(port, path)
}

fn status(replica: &Replica) -> Value {
    let answer = admin(replica, "/status.json");
    let (_, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    serde_json::from_str(body).expect("JSON")
}

/// Returns the sum of all series of a metric whose labels contain `label`.
fn sum(replicas: &[&Replica], name: &str, label: &str) -> f64 {
    let texts = replicas.iter().map(|replica| admin(replica, "/metrics"));
    let of = |text: String| -> f64 {
        let rows = text.lines().filter(|line| line.starts_with(name) && line.contains(label));
        rows.map(|line| line.rsplit(' ').next().and_then(|v| v.parse::<f64>().ok()).unwrap_or(0.0))
            .sum()
    };
    texts.map(of).sum()
}

#[track_caller]
fn assert_within_one_percent(what: &str, ours: f64, theirs: f64) {
    assert!(
        (ours - theirs).abs() <= theirs * 0.01,
        "{what}: reported {ours}, counted by the store {theirs}"
    );
}

/// Two zones, a writer in one and a reader in the other, on a `MinIO` of their own.
#[test]
fn reported_usage_and_cost_match_the_counters_of_the_store() {
    let minio = Minio::start(&Testbed::get().test_dir("money"));
    let cluster = Testbed::get().unique("money");
    let start = |zone, replica| {
        let at = InZone { cluster: &cluster, zone, replica, nodes: 2, topics: &[] };
        let extra = "flush: {interval: 20ms}\nmetrics: {perTopic: on}\n\
                     costs: {putsPer1000: 5, storagePerGiBMonth: 0}\n";
        Replica::start_in(at, &minio.yaml("money"), &Testbed::get().redis().yaml(), extra)
    };
    let (writer, reader) = (start("zone-a", "writer"), start("zone-b", "reader"));
    // Traffic before a zone is observed is charged without it.
    wait_until("the zones know each other", LIMIT, || {
        sum(&[&writer], "odradek_members", "zone-b") > 0.0
    });
    let topic = |stem: &str| {
        let name = Testbed::get().unique(&format!("{DISKLESS_PREFIX}{stem}"));
        Topic::create(&writer, &name, 1, &[])
    };
    let (large, small) = (topic("large"), topic("small"));
    let value = "x".repeat(256 << 10);
    let batches = [Batch::of(&[&value]).bytes(), Batch::of(&["small"]).bytes()];
    for (topic, batch, times) in [(&large, &batches[0], LARGE), (&small, &batches[1], SMALL)] {
        let mut client = Client::connect(&topic.address(&writer, 0));
        (0..times).for_each(|_| {
            append(&mut client, topic.partition(0), batch.clone());
        });
    }
    // A replica of another zone has none of the objects in its cache.
    let mut client = Client::connect(&reader.node(0));
    let mut offset = 0;
    while offset < LARGE as i64 {
        let response = client.call(&fetch(large.partition(0), 12, offset), 12);
        let records = fetched(&response).records.clone().unwrap_or_default();
        offset += crate::raw::batch::read(&records).len() as i64;
    }

    let both = [&writer, &reader];
    let ours =
        |verb: &str| sum(&both, "odradek_store_requests_total", &format!("operation=\"{verb}\""));
    // MinIO updates its counters with a delay of some seconds, and never counts a hedge that was
    // cancelled before it arrived.
    wait_until("the store has counted", LIMIT, || {
        minio.requests("putobject") as f64 >= 0.99 * ours("put")
            && minio.requests("getobject") as f64 >= 0.99 * ours("get")
    });
    assert!(ours("put") >= (LARGE + SMALL) as f64 && ours("get") >= 10.0, "too few to compare");
    assert_within_one_percent("PUTs", ours("put"), minio.requests("putobject") as f64);
    assert_within_one_percent("GETs", ours("get"), minio.requests("getobject") as f64);
    check_sent_bytes(&both, &minio, batches[0].len());

    // Each PUT costs half a cent here, and each produced byte crosses zones 1.5 times on a
    // replicated Kafka with two zones.
    let put = sum(&both, "odradek_cost_spent_dollars_total", "item=\"put\"");
    assert_within_one_percent("dollars of PUTs", put, minio.requests("putobject") as f64 * 0.005);
    let classic = sum(&both, "odradek_cost_baseline_dollars_total", "item=");
    let produced = (batches[0].len() * LARGE + batches[1].len() * SMALL) as f64;
    assert_within_one_percent("dollars of replication", classic, produced / GIB * 1.5 * 0.02);
    check_puts_of_topic(&writer, &small, put);
    check_cost_command(&writer, &reader, classic);
}

/// Compares the bytes of PUTs. A hedge that lost is cancelled, perhaps before its body was sent:
/// it is charged as a request, but the store has received fewer of its bytes than were counted.
fn check_sent_bytes(replicas: &[&Replica], minio: &Minio, object: usize) {
    let sent = sum(replicas, "odradek_store_bytes_total", "operation=\"put\"");
    let labels = "operation=\"put\",outcome=\"cancelled\"";
    let cancelled = sum(replicas, "odradek_store_requests_total", labels);
    let received = minio.received_bytes() as f64;
    let unsent = (sent - received).clamp(0.0, cancelled * object as f64);
    assert_within_one_percent("bytes", sent - unsent, received);
}

/// PUTs are allocated by the bytes in each object: a small topic that is alone in its objects pays
/// for all of them.
fn check_puts_of_topic(writer: &Replica, small: &Topic, put: f64) {
    let row = format!("odradek_topic_cost_spent_dollars_total{{topic=\"{}\"}}", small.name);
    let spent = sum(&[writer], &row, "");
    let share = put * SMALL as f64 / (LARGE + SMALL) as f64;
    assert!((spent - share).abs() < share * 0.05, "{spent}, and not about {share}");
    let status = status(writer);
    let topics = status["topics"].as_array().expect("a list");
    let row = topics.iter().find(|t| t["name"] == small.name.as_str()).expect("the topic");
    assert_eq!(row["objects"], SMALL);
    assert!(row["saved_dollars"].as_f64().expect("a number") < 0.0, "{row}");
    assert!(status["cost"]["saved_dollars"].as_f64().expect("a number") < 0.0);
    let stages = status["produce_stages"].as_array().expect("a list");
    assert!(stages.iter().all(|stage| stage["count"] == LARGE + SMALL), "{stages:?}");
}

fn check_cost_command(writer: &Replica, reader: &Replica, classic: f64) {
    // The replicas save what they observed of the metadata meanwhile.
    let lost = || sum(&[writer, reader], "odradek_cost_spent_dollars_total", "item=") - classic;
    let before = lost();
    let url = |replica: &Replica| format!("http://127.0.0.1:{}", replica.ports().start + 1);
    let mut command = Command::new(env!("CARGO_BIN_EXE_odradek"));
    command.arg("cost").arg(writer.dir().join("odradek.yaml")).args(["--json", "--replica"]);
    command.args([url(writer), "--replica".to_owned(), url(reader)]);
    let output = command.output().expect("it runs");
    let error = String::from_utf8_lossy(&output.stderr);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| {
        panic!("{e}: {error}");
    });
    let all = report["zones"].as_array().and_then(|rows| rows.last()).expect("all zones");
    assert_eq!(all["name"], "all");
    let saved = all["saved_dollars"].as_f64().expect("a number");
    let (after, at_most) = (lost(), -saved * 1.02);
    assert!(before <= at_most && -saved * 0.98 <= after, "saved {saved}, lost {before} to {after}");
    let advice = |text: &Value| text.as_str().is_some_and(|text| text.contains("flush"));
    let long_enough = report["seconds"].as_f64().is_some_and(|seconds| seconds > 60.0);
    let said = report["advice"].as_array().is_some_and(|all| all.iter().any(advice));
    assert_eq!(said, long_enough, "{report}");

    let unreachable = Command::new(env!("CARGO_BIN_EXE_odradek"))
        .arg("cost")
        .arg(writer.dir().join("odradek.yaml"))
        .args(["--replica", "http://127.0.0.1:1"])
        .output()
        .expect("it runs");
    assert_eq!(unreachable.status.code(), Some(1));
    let said = String::from_utf8_lossy(&unreachable.stderr);
    assert!(said.contains("admin.bind") && said.contains("--replica"), "{said}");
}
