//! `odradek doctor` with a real Kafka, MinIO and Redis, healthy and not.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use testbed::Testbed;
use testbed::kafka::{Kafka, KafkaConfig, tool};
use testbed::process::wait_until;
use testbed::redis::Redis;

/// A configuration that names what the bed has, with these changes to its text.
fn file(dir: &Path, redis: &Redis, changes: &[(&str, &str)]) -> PathBuf {
    let bed = Testbed::get();
    let mut text = format!(
        "replica: r\nkafka: {{bootstrapServers: [{}]}}\n\
         diskless: {{topics: [{{match: \"doctor-*\"}}]}}\n{}{}",
        bed.kafka().bootstrap(),
        bed.minio().yaml("doctor"),
        redis.yaml()
    );
    for (from, to) in changes {
        assert!(text.contains(from), "{from} is not in {text}");
        text = text.replace(from, to);
    }
    let file = dir.join("odradek.yaml");
    fs::write(&file, text).expect("the directory is writable");
    file
}

/// Returns the exit code and the findings.
fn doctor(file: &Path, more: &[&str]) -> (Option<i32>, Vec<Value>) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_odradek"));
    let output = command.arg("doctor").arg(file).arg("--json").args(more).output();
    let output = output.expect("it runs");
    let findings = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        panic!("{error}: {}", String::from_utf8_lossy(&output.stdout));
    });
    (output.status.code(), findings)
}

#[track_caller]
fn assert_finding(findings: &[Value], level: &str, subject: &str, what: &str) {
    let is_it = |finding: &Value| {
        let says = finding["summary"].as_str().is_some_and(|text| text.contains(what));
        let explains = level == "ok" || finding["impact"].as_str().is_some_and(|t| !t.is_empty());
        finding["level"] == level && finding["subject"] == subject && says && explains
    };
    assert!(findings.iter().any(is_it), "no {level} {subject} `{what}` in {findings:#?}");
}

fn configure_redis(redis: &Redis, command: &str) {
    let mut stream = TcpStream::connect(("127.0.0.1", redis.port())).expect("it listens");
    stream.write_all(format!("{command}\r\n").as_bytes()).expect("it reads");
    let mut answer = [0; 5];
    stream.read_exact(&mut answer).expect("it answers");
    assert_eq!(&answer, b"+OK\r\n");
}

#[test]
fn doctor_reports_warnings_and_failures() {
    let dir = Testbed::get().test_dir("doctor");
    let redis = Redis::start(&dir);
    let compacted = ["--create", "--topic", "doctor-keys", "--config", "cleanup.policy=compact"];
    let kafka = Testbed::get().kafka().bootstrap().to_owned();
    tool("kafka-topics", &[&["--bootstrap-server", &kafka][..], &compacted].concat());

    let good = file(&dir, &redis, &[]);
    wait_until("all is well", Duration::from_secs(30), || doctor(&good, &[]).0 == Some(0));
    let (status, findings) = doctor(&good, &[]);
    assert_eq!(status, Some(0), "{findings:#?}");
    assert_finding(&findings, "ok", "kafka", "brokers");
    assert_finding(&findings, "ok", "store", "write, read, list and delete succeed");
    assert_finding(&findings, "ok", "store", "a PUT of 64 KiB takes");
    assert_finding(&findings, "ok", "store", "its clock is within");
    assert_finding(&findings, "ok", "coordinator", "its clock is within");
    assert_finding(&findings, "ok", "zones", "zones and replicas: ");
    assert_finding(&findings, "ok", "coordinator", "runs scripts");
    assert_finding(&findings, "warn", "coordinator", "appendonly is off");
    assert_finding(&findings, "warn", "listeners", "no replica responds");
    assert_finding(&findings, "warn", "topics", "doctor-keys matches a rule, but is compacted");
    assert_eq!(doctor(&good, &["--strict"]).0, Some(2));

    configure_redis(&redis, "CONFIG SET maxmemory-policy allkeys-lru");
    let (status, findings) = doctor(&good, &[]);
    assert_eq!(status, Some(1));
    assert_finding(&findings, "fail", "coordinator", "is allkeys-lru");
    configure_redis(&redis, "CONFIG SET maxmemory-policy noeviction");
    configure_redis(&redis, "CONFIG SET appendonly yes");
    let (_, findings) = doctor(&good, &[]);
    assert!(!findings.iter().any(|f| f["summary"] == "appendonly is off"), "{findings:#?}");
}

#[test]
fn doctor_reports_each_unreachable_part() {
    let dir = Testbed::get().test_dir("doctor-away");
    let redis = Redis::start(&dir);
    let kafka = Testbed::get().kafka().bootstrap().to_owned();
    // Servers that have just started may reject the first request.
    let good = file(&dir, &redis, &[]);
    wait_until("all is well", Duration::from_secs(30), || doctor(&good, &[]).0 == Some(0));
    let redis_port = format!("127.0.0.1:{}/0", redis.port());
    let no_secret =
        file(&dir, &redis, &[("secretAccessKeyFile: ", "secretAccessKeyFile: /dev/null #")]);
    let mut command = Command::new(env!("CARGO_BIN_EXE_odradek"));
    let status = command.arg("doctor").arg(no_secret).status().expect("it runs");
    assert_eq!(status.code(), Some(78), "the file is not valid");
    for (from, to, subject) in [
        (kafka.as_str(), "127.0.0.1:1", "kafka"),
        (&redis_port, "127.0.0.1:1/0", "coordinator"),
        ("store: s3://", "store: s3://no-such-", "store"),
    ] {
        let file = file(&dir, &redis, &[(from, to)]);
        let (status, findings) = doctor(&file, &[]);
        assert_eq!(status, Some(1), "{subject}: {findings:#?}");
        let wrong = findings.iter().filter(|f| f["level"] == "fail");
        let wrong: Vec<_> = wrong.filter_map(|f| f["subject"].as_str()).collect();
        assert_eq!(wrong, [subject], "{findings:#?}");
    }
}

#[test]
fn doctor_prints_the_minimal_iam_policy() {
    let dir = Testbed::get().test_dir("doctor-policy");
    let redis = Redis::start(&dir);
    let mut command = Command::new(env!("CARGO_BIN_EXE_odradek"));
    let file = file(&dir, &redis, &[]);
    let output = command.arg("doctor").arg("--policy").arg(file).output().expect("it runs");
    let policy: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let actions: Vec<_> = policy["Statement"].as_array().into_iter().flatten().collect();
    assert_eq!(actions.len(), 2, "{policy}");
    let resource = actions[0]["Resource"].as_str().expect("a resource");
    assert!(resource.starts_with("arn:aws:s3:::") && resource.ends_with("/odradek/*"), "{policy}");
}

#[test]
fn doctor_fails_if_clients_without_a_login_are_superusers() {
    let dir = Testbed::get().test_dir("doctor-superusers");
    let redis = Redis::start(&dir);
    let properties = [
        "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users=User:ANONYMOUS",
    ];
    let config = KafkaConfig { brokers: 1, properties: &properties, ..KafkaConfig::default() };
    let kafka = Kafka::launch(&dir.join("kafka"), &config);
    let without = file(&dir, &redis, &[]);
    let (_, findings) = doctor(&without, &[]);
    assert_finding(&findings, "ok", "kafka", "the brokers have no authorizer");
    let servers = [(Testbed::get().kafka().bootstrap(), kafka.bootstrap())];
    let (status, findings) = doctor(&file(&dir, &redis, &servers), &[]);
    assert_finding(&findings, "fail", "kafka", "clients that do not log in are superusers");
    assert_ne!(status, Some(0));
}
