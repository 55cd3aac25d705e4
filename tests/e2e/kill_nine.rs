//! `kill -9` in an idempotent produce loop, a restart, and a check of the log: no acknowledged record
//! is lost, no record is duplicated, every partition is in order.

use std::fs;
use std::path::Path;
use std::time::Duration;

use testbed::Testbed;
use testbed::history_checker::{Acked, Found, anomalies};
use testbed::kafka::{Kafka, tool};
use testbed::process::Process;
use testbed::redis::Redis;
use testbed::replica::{Backends, DISKLESS_PREFIX, Replica};
use testbed::script;

pub(crate) const RECORDS: usize = 24_000;
const RECORDS_PER_SECOND: usize = 3_000;

/// The process to kill: a replica, or a stock broker as the control of the test itself.
trait Victim {
    fn bootstrap(&self) -> String;
    fn kill9(&mut self);
    fn restart(&mut self);
}

#[test]
fn killed_replica_on_embedded_defaults_loses_nothing() {
    loses_nothing_when_killed(&mut Replica::start(Backends::Embedded, ""), "embedded");
}

#[test]
fn killed_replica_on_redis_and_s3_loses_nothing() {
    loses_nothing_when_killed(&mut Replica::start(Backends::RedisS3, ""), "redis-s3");
}

#[test]
fn killed_stock_broker_loses_nothing() {
    let dir = Testbed::get().test_dir("kafka");
    loses_nothing_when_killed(&mut Kafka::start(&dir, 1), "stock");
}

/// A machine loses power with Redis and the only replica: Redis comes back without the last second.
#[test]
fn replica_killed_with_a_redis_that_lost_its_last_second_loses_nothing() {
    let dir = Testbed::get().test_dir("power-loss-store");
    let mut redis = Redis::start(&dir);
    let store = format!("store: \"file://{}\"\n", dir.join("store").display());
    let mut replica = Replica::start_on(&store, &redis.yaml(), "");
    let bootstrap = replica.bootstrap();
    for name in ["power-loss", "power-loss-again"] {
        let topic = &format!("{DISKLESS_PREFIX}{name}");
        let on_topic = ["--bootstrap-server", &bootstrap, "--topic", topic];
        create(&on_topic);
        let mut producer = start_producer(&Testbed::get().test_dir(name), name, &on_topic);
        let log = producer.log_path().to_owned();
        let mut wait_for = |acks: usize| {
            producer.wait_while_alive("acks", Duration::from_secs(120), || acks_in(&log) >= acks);
        };
        wait_for(RECORDS / 3);
        let on_disk = redis.snapshot();
        wait_for(acks_in(&log) + RECORDS_PER_SECOND);
        let recoveries =
            |replica: &Replica| replica.log().matches("recovered an earlier process").count();
        let before = recoveries(&replica);
        replica.kill9();
        redis.restore(&on_disk);
        replica.restart();
        assert!(recoveries(&replica) > before);
        check_log(producer, &on_topic);
    }
}

fn create(on_topic: &[&str]) {
    let shape = ["--create", "--partitions", "3", "--replication-factor", "1"];
    tool("kafka-topics", &[on_topic, &shape].concat());
}

fn loses_nothing_when_killed(victim: &mut impl Victim, name: &str) {
    let topic = &format!("{DISKLESS_PREFIX}kill-nine-{name}");
    let bootstrap = victim.bootstrap();
    let on_topic = ["--bootstrap-server", &bootstrap, "--topic", topic];
    create(&on_topic);

    let dir = Testbed::get().test_dir("kill-nine");
    let mut producer = start_producer(&dir, "killed", &on_topic);
    for share in [1, 2] {
        let enough = RECORDS * share / 3;
        let log = producer.log_path().to_owned();
        producer.wait_while_alive("acks", Duration::from_secs(120), || acks_in(&log) >= enough);
        victim.kill9();
        victim.restart();
    }
    check_log(producer, &on_topic);
}

/// Waits for the producer's end and compares what was acknowledged with what can be read.
pub(crate) fn check_log(mut producer: Process, on_topic: &[&str]) {
    producer.wait_success(Duration::from_secs(180));
    let events = producer.log();
    let errors: Vec<&str> = events.lines().filter(|l| l.contains("producer_send_error")).collect();
    assert!(errors.is_empty(), "the producer gave up: {:?}", &errors[..errors.len().min(3)]);
    let acked: Vec<Acked> = events.lines().filter_map(parse_ack).collect();
    assert_eq!(acked.len(), RECORDS);
    let wrong = anomalies(&acked, &read_back(on_topic));
    let first = &wrong[..wrong.len().min(10)];
    assert!(wrong.is_empty(), "{} anomalies, the first: {first:#?}", wrong.len());
}

/// Starts Kafka's own verifiable producer, which prints every ack as a line of JSON. Its settings make
/// it retry and idempotent, as default producers are.
pub(crate) fn start_producer(dir: &Path, client_id: &str, on_topic: &[&str]) -> Process {
    let config = dir.join("producer.properties");
    let settings = format!(
        "enable.idempotence=true\nretries=2147483647\ndelivery.timeout.ms=120000\n\
         client.id={client_id}\n"
    );
    fs::write(&config, settings).expect("the directory is writable");
    let mut command = script("kafka-tool.sh");
    command.arg("kafka-verifiable-producer").args(on_topic);
    command.args(["--max-messages", &RECORDS.to_string()]);
    command.args(["--throughput", &RECORDS_PER_SECOND.to_string(), "--repeating-keys", "16"]);
    command.arg("--command-config").arg(config);
    Process::start("producer", dir, &command)
}

pub(crate) fn acks_in(log: &Path) -> usize {
    let text = fs::read_to_string(log).unwrap_or_default();
    text.lines().filter(|line| line.contains("producer_send_success")).count()
}

fn parse_ack(line: &str) -> Option<Acked> {
    let event: serde_json::Value = serde_json::from_str(line).ok()?;
    (event["name"] == "producer_send_success").then(|| Acked {
        partition: event["partition"]
            .as_i64()
            .and_then(|p| p.try_into().ok())
            .expect("a partition"),
        offset: event["offset"].as_i64().expect("an offset"),
        value: event["value"].as_str().and_then(|v| v.parse().ok()).expect("a number"),
    })
}

/// Reads all partitions to the end offsets that `kafka-get-offsets` prints.
fn read_back(on_topic: &[&str]) -> Vec<Found> {
    let ends = tool("kafka-get-offsets", on_topic);
    let total: u64 = ends.lines().filter_map(|l| l.rsplit(':').next()?.parse::<u64>().ok()).sum();
    let total = total.to_string();
    let mut args = on_topic.to_vec();
    args.extend(["--from-beginning", "--timeout-ms", "30000", "--max-messages", &total]);
    args.extend(["--formatter-property", "print.partition=true"]);
    args.extend(["--formatter-property", "print.offset=true"]);
    tool("kafka-console-consumer", &args).lines().map(parse_found).collect()
}

/// `Partition:0<tab>Offset:7<tab>42`
fn parse_found(line: &str) -> Found {
    parse_fields(line).unwrap_or_else(|| panic!("not a record of this test: {line}"))
}

fn parse_fields(line: &str) -> Option<Found> {
    let mut fields = line.split('\t');
    Some(Found {
        partition: fields.next()?.strip_prefix("Partition:")?.parse().ok()?,
        offset: fields.next()?.strip_prefix("Offset:")?.parse().ok()?,
        value: fields.next()?.parse().ok()?,
    })
}

impl Victim for Replica {
    fn bootstrap(&self) -> String {
        Self::bootstrap(self)
    }
    fn kill9(&mut self) {
        Self::kill9(self);
    }
    fn restart(&mut self) {
        Self::restart(self);
    }
}

impl Victim for Kafka {
    fn bootstrap(&self) -> String {
        Self::bootstrap(self).to_owned()
    }
    fn kill9(&mut self) {
        Self::kill9(self);
    }
    fn restart(&mut self) {
        Self::restart(self);
    }
}
