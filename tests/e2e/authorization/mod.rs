//! A broker with SASL and ACLs: a diskless node rejects what the broker would reject, with the
//! broker's error codes and messages.

mod acls;
mod alter_configs;
mod audit;
mod authentication;
mod before_login;
mod broker_loss;
mod clients;
mod revocation;

use std::fs;
use std::sync::OnceLock;
use std::time::Duration;

use bytes::{Buf, Bytes};
use kafka_protocol::messages::create_acls_request::AclCreation;
use kafka_protocol::messages::delete_acls_request::DeleteAclsFilter;
use kafka_protocol::messages::{
    CreateAclsRequest, CreateTopicsRequest, DeleteAclsRequest, MetadataRequest,
    SaslAuthenticateRequest, SaslAuthenticateResponse, SaslHandshakeRequest,
};
use kafka_protocol::protocol::Request;
use odradek::entropy::Entropy;
use odradek::proxy::upstream::sasl::SaslCredentials;
use odradek::sasl::SaslMechanism;
use uuid::Uuid;

use crate::raw::client::Client;
use crate::raw::requests::{self, Target, text};
use testbed::Testbed;
use testbed::kafka::{Kafka, KafkaConfig};
use testbed::process::wait_until;
use testbed::replica::{Backends, DISKLESS_PREFIX, Replica};

const LIMIT: Duration = Duration::from_secs(30);
/// The time in which a change takes effect on live connections, with a margin for slow machines.
const BOUND: Duration = Duration::from_secs(30 + 3);
/// The users. The password of each is `<name>-secret`.
const USERS: &[&str] = &["admin", "odradek", "ann", "ben", "cat", "dan", "eve"];
/// The users that also have SCRAM credentials.
const SCRAM_USERS: &[&str] = &["odradek", "ann"];

/// The codes of `AclOperation` and `AclPermissionType`.
const ALL: i8 = 2;
const READ: i8 = 3;
const WRITE: i8 = 4;
const DELETE: i8 = 6;
const DESCRIBE: i8 = 8;
const DESCRIBE_CONFIGS: i8 = 10;
const ALTER_CONFIGS: i8 = 11;
const DENY: i8 = 2;
const ALLOW: i8 = 3;
/// `ResourceType` and `PatternType`.
const TOPIC: i8 = 2;
const GROUP: i8 = 3;
const CLUSTER: i8 = 4;
const LITERAL: i8 = 3;

/// A stock broker with SASL and ACLs, and a replica in front of it that authenticates with SCRAM and
/// has only the permissions that it needs.
#[derive(Debug)]
struct SecuredCluster {
    kafka: Kafka,
    replica: Replica,
}

fn secured() -> &'static SecuredCluster {
    static SECURED: OnceLock<SecuredCluster> = OnceLock::new();
    SECURED.get_or_init(|| {
        let dir = Testbed::get().test_dir("secured-kafka");
        let kafka = start_kafka(&dir);
        let mut admin = plain(kafka.bootstrap(), "admin");
        for operation in [DESCRIBE, DESCRIBE_CONFIGS] {
            allow(&mut admin, "odradek", operation, TOPIC, "*");
        }
        let login = login(&dir, "SCRAM-SHA-512");
        let flush = "flush: {interval: 20ms}\n";
        let replica = Replica::start_before(&kafka, &login, Backends::Embedded, flush);
        SecuredCluster { kafka, replica }
    })
}

fn start_kafka(dir: &std::path::Path) -> Kafka {
    let scram = |user: &&str| {
        ["SCRAM-SHA-256", "SCRAM-SHA-512"]
            .map(|mechanism| {
                format!("--add-scram {mechanism}=[name={user},password={user}-secret]")
            })
            .join(" ")
    };
    let format: Vec<_> = SCRAM_USERS.iter().map(scram).collect();
    let users = USERS.iter().map(|user| format!("user_{user}=\"{user}-secret\""));
    let plain = format!(
        "listener.name.plaintext.plain.sasl.jaas.config=\
         org.apache.kafka.common.security.plain.PlainLoginModule required \
         username=\"admin\" password=\"admin-secret\" {};",
        users.collect::<Vec<_>>().join(" ")
    );
    let scram = |mechanism: &str| {
        format!(
            "listener.name.plaintext.{mechanism}.sasl.jaas.config=\
             org.apache.kafka.common.security.scram.ScramLoginModule required;"
        )
    };
    let properties = [
        // The listener keeps its name and its port.
        "listener.security.protocol.map=PLAINTEXT:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name=PLAINTEXT",
        "sasl.mechanism.inter.broker.protocol=PLAIN",
        "sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
        &plain,
        &scram("scram-sha-256"),
        &scram("scram-sha-512"),
        "listener.name.plaintext.scram-sha-256.connections.max.reauth.ms=5000",
        "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        // Only the broker itself reaches the controller's listener.
        "super.users=User:admin;User:ANONYMOUS",
    ];
    let format = format.join(" ");
    let (properties, format) = (&properties[..], format.as_str());
    Kafka::launch(dir, &KafkaConfig { brokers: 1, properties, format, ..KafkaConfig::default() })
}

/// Returns the section `kafka.sasl` of the replica's configuration.
fn login(dir: &std::path::Path, mechanism: &str) -> String {
    let file = dir.join("odradek.password");
    fs::write(&file, "odradek-secret\n").expect("the directory is writable");
    let file = file.display();
    format!("  sasl: {{mechanism: {mechanism}, username: odradek, passwordFile: \"{file}\"}}\n")
}

impl SecuredCluster {
    fn broker(&self) -> &str {
        self.kafka.bootstrap()
    }

    fn admin(&self) -> Client {
        plain(self.broker(), "admin")
    }

    /// Returns the address of the diskless node that leads a topic, or the endpoint of the broker.
    fn address(&self, topic: &Topic) -> String {
        match topic.leader {
            1 => self.replica.broker(1),
            node => self.replica.node(u16::try_from(node - 1_000_000_000).expect("a node")),
        }
    }

    /// Connects to the leader of a topic as a user.
    fn client(&self, topic: &Topic, user: &str) -> Client {
        plain(&self.address(topic), user)
    }

    fn allow(&self, user: &str, operation: i8, topic: &Topic) {
        allow(&mut self.admin(), user, operation, TOPIC, &topic.name);
    }
}

/// A topic of one partition.
#[derive(Debug)]
struct Topic {
    name: String,
    id: Uuid,
    leader: i32,
}

impl Topic {
    fn diskless(stem: &str) -> Self {
        let name = Testbed::get().unique(&format!("{DISKLESS_PREFIX}secured-{stem}"));
        let topic = Self::create(&name);
        assert!(topic.leader >= 1_000_000_000, "{topic:?}");
        topic
    }

    fn classic(stem: &str) -> Self {
        let topic = Self::create(&Testbed::get().unique(&format!("classic-secured-{stem}")));
        assert_eq!(topic.leader, 1);
        topic
    }

    fn create(name: &str) -> Self {
        let mut client = plain(&secured().replica.bootstrap(), "admin");
        let asked = requests::create(name, 1, &[]);
        let response = client.call::<CreateTopicsRequest>(&asked, 7);
        assert_eq!(response.topics[0].error_code, 0, "{:?}", response.topics[0].error_message);
        Self::look_up(name)
    }

    /// Looks up a topic as an administrator.
    fn look_up(name: &str) -> Self {
        let mut client = plain(&secured().replica.bootstrap(), "admin");
        let mut found = None;
        wait_until(name, LIMIT, || {
            let asked = requests::metadata(&[name]);
            let topic = client.call::<MetadataRequest>(&asked, 12).topics.remove(0);
            let leader = topic.partitions.first().map_or(-1, |p| p.leader_id.0);
            found = Some(Self { name: name.to_owned(), id: topic.topic_id, leader });
            topic.error_code == 0 && leader >= 0
        });
        found.expect("just found")
    }

    fn at(&self) -> Target<'_> {
        Target { name: &self.name, id: self.id, partition: 0 }
    }
}

/// Connects and authenticates with PLAIN.
fn plain(address: &str, user: &str) -> Client {
    let mut client = Client::connect(address);
    let answer = authenticate(&mut client, SaslMechanism::Plain, user, &format!("{user}-secret"));
    assert_eq!(answer.error_code, 0, "{user}: {:?}", answer.error_message);
    client
}

/// Sends SaslHandshake and SaslAuthenticate, and returns the last response.
fn authenticate(
    client: &mut Client,
    mechanism: SaslMechanism,
    user: &str,
    password: &str,
) -> SaslAuthenticateResponse {
    authenticate_in(client, mechanism, 2, user, password)
}

/// Authenticates with a version of SaslAuthenticate.
fn authenticate_in(
    client: &mut Client,
    mechanism: SaslMechanism,
    version: i16,
    user: &str,
    password: &str,
) -> SaslAuthenticateResponse {
    let handshake = SaslHandshakeRequest::default().with_mechanism(text(mechanism.name()));
    let answer = client.call(&handshake, 1);
    assert_eq!(answer.error_code, 0, "{:?}", answer.mechanisms);
    let entropy = std::sync::Arc::new(Entropy::from_os());
    let mut exchange =
        SaslCredentials::new(mechanism, user.to_owned(), password.to_owned(), entropy).begin();
    let mut last = SaslAuthenticateResponse::default();
    while let Some(token) = exchange.next(&last.auth_bytes).expect("a SCRAM message") {
        last = client.call(&SaslAuthenticateRequest::default().with_auth_bytes(token), version);
        if last.error_code != 0 {
            break;
        }
    }
    last
}

fn allow(admin: &mut Client, user: &str, operation: i8, resource: i8, name: &str) {
    add_acl(admin, user, operation, ALLOW, (resource, name));
}

fn add_acl(admin: &mut Client, user: &str, operation: i8, kind: i8, resource: (i8, &str)) {
    let acl = AclCreation::default()
        .with_resource_type(resource.0)
        .with_resource_name(text(resource.1))
        .with_resource_pattern_type(LITERAL)
        .with_principal(text(&format!("User:{user}")))
        .with_host(text("*"))
        .with_operation(operation)
        .with_permission_type(kind);
    let (code, _) = first_row(admin, &CreateAclsRequest::default().with_creations(vec![acl]));
    assert_eq!(code, 0);
}

/// Revokes all permissions of a user on a topic.
fn revoke(admin: &mut Client, user: &str, topic: &str) {
    let filter = DeleteAclsFilter::default()
        .with_resource_type_filter(TOPIC)
        .with_resource_name_filter(Some(text(topic)))
        .with_pattern_type_filter(LITERAL)
        .with_host_filter(None)
        .with_principal_filter(Some(text(&format!("User:{user}"))))
        .with_operation(1)
        .with_permission_type(1);
    let (code, rest) = first_row(admin, &DeleteAclsRequest::default().with_filters(vec![filter]));
    assert_eq!(code, 0);
    // After the message, which is null: the deleted ACLs.
    assert_ne!(rest[2..6], [0; 4], "there was something to revoke");
}

/// Sends a request about ACLs in version 1. Returns the error code of the first row of the response,
/// and the bytes after it. Odradek has no decoder for these responses because it reads none.
fn first_row<R: Request>(admin: &mut Client, request: &R) -> (i16, Bytes) {
    admin.send(request, 1);
    // Correlation id, throttle time, number of rows.
    let mut rest = admin.receive_frame(R::KEY, 1).split_off(12);
    (rest.get_i16(), rest)
}
