//! Stock clients that authenticate, through a replica that authenticates.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use super::{ALL, GROUP, Topic, allow, login, plain, secured};
use crate::raw::batch::Batch;
use crate::raw::requests::append;
use testbed::Testbed;
use testbed::process::run;
use testbed::replica::{Backends, Replica};
use testbed::{require, script};

#[test]
fn kcat_with_plain() {
    require("kcat".as_ref());
    let topic = Topic::diskless("kcat");
    secured().allow("ann", ALL, &topic);
    let kcat = |user: &str| {
        let mut command = Command::new("timeout");
        command.args(["60", "kcat", "-b", &secured().replica.bootstrap(), "-t", &topic.name]);
        command.args(["-X", "security.protocol=SASL_PLAINTEXT", "-X", "sasl.mechanism=PLAIN"]);
        command.args(["-X", &format!("sasl.username={user}")]);
        command.args(["-X", &format!("sasl.password={user}-secret")]);
        command
    };
    feed(kcat("ann").args(["-P", "-X", "enable.idempotence=true"]), "one\ntwo\nthree\n");
    let read = run(kcat("ann").args(["-C", "-q", "-e", "-o", "beginning"]));
    assert_eq!(read, "one\ntwo\nthree\n");
    let refused = kcat("ben").args(["-C", "-q", "-e", "-o", "beginning"]).output();
    let refused = refused.expect("kcat runs");
    assert!(refused.stdout.is_empty(), "an unauthorized user reads nothing");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("authorization failed"));
}

#[test]
fn java_clients_with_scram() {
    let topic = Topic::diskless("java");
    secured().allow("ann", ALL, &topic);
    allow(&mut secured().admin(), "ann", ALL, GROUP, "*");
    let file = Testbed::get().test_dir("secured-java").join("client.properties");
    let properties = "security.protocol=SASL_PLAINTEXT\nsasl.mechanism=SCRAM-SHA-512\n\
         sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required \
         username=\"ann\" password=\"ann-secret\";\n";
    fs::write(&file, properties).expect("the directory is writable");
    let file = file.display().to_string();
    let bootstrap = secured().replica.bootstrap();
    let tool = |name: &str| {
        let mut command = script("kafka-tool.sh");
        command.args([name, "--bootstrap-server", &bootstrap, "--topic", &topic.name]);
        command
    };
    feed(tool("kafka-console-producer").args(["--command-config", &file]), "one\ntwo\n");
    let mut consumer = tool("kafka-console-consumer");
    consumer.args(["--command-config", &file, "--from-beginning", "--max-messages", "2"]);
    assert_eq!(run(consumer.args(["--timeout-ms", "60000"])), "one\ntwo\n");
}

/// And the replica itself with each mechanism; its password is in no log.
#[test]
fn replica_authenticates_with_every_mechanism() {
    for mechanism in ["PLAIN", "SCRAM-SHA-256"] {
        let login = login(&Testbed::get().test_dir("login"), mechanism);
        let before = &secured().kafka;
        let replica = Replica::start_before(before, &login, Backends::Embedded, "");
        let topic = Topic::diskless("login");
        let mut client = plain(&replica.node(0), "admin");
        append(&mut client, topic.at(), Batch::of(&["x"]).bytes());
        assert!(!replica.log().contains("odradek-secret"), "{mechanism}");
    }
    assert!(!secured().replica.log().contains("odradek-secret"));
}

fn feed(command: &mut Command, input: &str) {
    let command = command.stdin(Stdio::piped()).stdout(Stdio::null());
    let mut child = command.spawn().expect("the client starts");
    child.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("it reads");
    assert!(child.wait().expect("a child can be waited for").success());
}
