//! Before the broker has let a client in, a diskless node answers ApiVersions and SASL only.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::share_group_heartbeat_request::ShareGroupHeartbeatRequest;
use kafka_protocol::messages::{
    AddPartitionsToTxnRequest, ApiVersionsRequest, DeleteRecordsRequest, DescribeConfigsRequest,
    DescribeLogDirsRequest, DescribeProducersRequest, FetchRequest, ListGroupsRequest,
    ListTransactionsRequest, MetadataRequest, OffsetForLeaderEpochRequest, SaslHandshakeRequest,
    WriteTxnMarkersRequest,
};
use kafka_protocol::protocol::Request;
use odradek::proxy::apis::{APIS, Handling};
use odradek::sasl::SaslMechanism;

use super::{BOUND, LIMIT, Topic, authenticate, authenticate_in, secured};
use crate::raw::batch::Batch;
use crate::raw::client::Client;
use crate::raw::requests::{
    self, EARLIEST, LATEST, append, fetch, fetched, list_offsets, offset_of, produce, text,
};

/// The lifetime of a session with SCRAM-SHA-256.
const SESSION: Duration = Duration::from_secs(5);

/// A request as it goes over the wire: key, version, body.
type Raw = (i16, i16, BytesMut);

fn raw<R: Request>(request: &R, version: i16) -> Raw {
    let mut body = BytesMut::new();
    request.encode(&mut body, version).expect("a request");
    (R::KEY, version, body)
}

/// One of each that a diskless node does not merely relay.
fn served(topic: &Topic) -> Vec<Raw> {
    let at = topic.at();
    let own = DescribeConfigsResource::default()
        .with_resource_type(4)
        .with_resource_name(text(&topic.leader.to_string()));
    vec![
        raw(&produce(at, 9, -1, Batch::of(&["x"]).bytes()), 9),
        raw(&produce(at, 13, 0, Batch::of(&["x"]).bytes()), 13),
        raw(&fetch(at, 12, 0), 12),
        raw(&fetch(at, 15, 0), 15),
        raw(&list_offsets(at, LATEST), 7),
        raw(&requests::metadata(&[&topic.name]), 12),
        raw(&ListGroupsRequest::default(), 4),
        raw(&requests::create("diskless-unauthorized", 1, &[("diskless.enable", "true")]), 7),
        raw(&DeleteRecordsRequest::default(), 2),
        raw(&OffsetForLeaderEpochRequest::default(), 4),
        raw(&AddPartitionsToTxnRequest::default(), 3),
        raw(&WriteTxnMarkersRequest::default(), 1),
        raw(&DescribeConfigsRequest::default().with_resources(vec![own]), 4),
        raw(&DescribeLogDirsRequest::default(), 4),
        raw(&DescribeProducersRequest::default(), 0),
        raw(&ListTransactionsRequest::default(), 1),
        raw(&ShareGroupHeartbeatRequest::default(), 1),
        super::alter_configs::enabling(&topic.name),
    ]
}

fn is_authenticated(
    address: &str,
    before: impl Fn(&mut Client),
    (key, version, body): &Raw,
) -> bool {
    let mut client = Client::connect(address);
    let versions = client.call(&ApiVersionsRequest::default(), 0);
    assert_eq!(versions.error_code, 0, "ApiVersions needs no authentication");
    before(&mut client);
    client.send_body(*key, *version, body);
    client.frame_within(LIMIT).is_some()
}

#[test]
fn nothing_is_served_before_authentication() {
    let topic = Topic::diskless("gate");
    let node = secured().address(&topic);
    let requests = served(&topic);
    let tried: BTreeSet<i16> = requests.iter().map(|(key, _, _)| *key).collect();
    let decided_here = |on: Handling| matches!(on, Handling::Serve | Handling::Guard);
    for api in APIS.iter().filter(|api| decided_here(api.node) && api.key != 18) {
        assert!(tried.contains(&api.key), "{} is not tested", api.name);
    }
    let half = |client: &mut Client| {
        let handshake = SaslHandshakeRequest::default().with_mechanism(text("PLAIN"));
        assert_eq!(client.call(&handshake, 1).error_code, 0);
    };
    for request in &requests {
        let (key, version, _) = request;
        assert!(!is_authenticated(&node, |_| (), request), "key {key} v{version}");
        // A broker responds with an error before it closes, and the response is forwarded.
        let relayed = !APIS.iter().any(|api| api.key == *key && decided_here(api.node));
        assert!(
            relayed || !is_authenticated(&node, half, request),
            "key {key} v{version} during SASL"
        );
        // The broker itself does the same.
        assert!(!is_authenticated(secured().broker(), |_| (), request), "key {key} v{version}");
    }
    let mut admin = secured().client(&topic, "admin");
    assert_eq!(offset_of(&mut admin, topic.at(), LATEST).offset, 0, "nothing was produced");
    let asked = requests::metadata(&["diskless-unauthorized"]);
    let unknown = admin.call::<MetadataRequest>(&asked, 12).topics[0].error_code;
    assert_eq!(unknown, 3, "nothing was created");
}

#[test]
fn every_mechanism_authenticates_a_user() {
    let topic = Topic::diskless("mechanisms");
    secured().allow("ann", super::ALL, &topic);
    let mechanisms = [SaslMechanism::Plain, SaslMechanism::ScramSha256, SaslMechanism::ScramSha512];
    for (mechanism, offset) in mechanisms.into_iter().zip(0..) {
        let mut client = Client::connect(&secured().address(&topic));
        let answer = authenticate(&mut client, mechanism, "ann", "ann-secret");
        assert_eq!(answer.error_code, 0, "{mechanism:?}: {:?}", answer.error_message);
        assert_eq!(append(&mut client, topic.at(), Batch::of(&["x"]).bytes()), offset);
        let row = client.call(&fetch(topic.at(), 12, offset), 12);
        assert_eq!(fetched(&row).high_watermark, offset + 1);
        assert_eq!(offset_of(&mut client, topic.at(), EARLIEST).offset, 0);
    }
}

#[test]
fn wrong_password_gets_the_error_of_the_broker() {
    let topic = Topic::diskless("password");
    for mechanism in [SaslMechanism::Plain, SaslMechanism::ScramSha512] {
        let addresses = [secured().address(&topic), secured().broker().to_owned()];
        let answers = addresses.map(|address| {
            let mut client = Client::connect(&address);
            let answer = authenticate(&mut client, mechanism, "ann", "wrong");
            assert!(client.is_closed(), "{mechanism:?} at {address}");
            (answer.error_code, answer.error_message)
        });
        assert_eq!(answers[0], answers[1], "{mechanism:?}");
        assert_eq!(answers[0].0, 58, "SASL_AUTHENTICATION_FAILED");
    }
}

/// Sessions with SCRAM-SHA-256 end after a few seconds, unless authentication is repeated in time
/// (KIP-368); then the broker closes the connection, and so does a diskless node.
#[test]
fn session_lifetime_matches_the_broker() {
    let topic = Topic::diskless("again");
    secured().allow("ann", super::ALL, &topic);
    let mut client = Client::connect(&secured().address(&topic));
    let log_in = |client: &mut Client| {
        let answer = authenticate(client, SaslMechanism::ScramSha256, "ann", "ann-secret");
        assert_eq!(answer.error_code, 0, "{:?}", answer.error_message);
        assert!(answer.session_lifetime_ms > 0);
    };
    log_in(&mut client);
    assert_eq!(append(&mut client, topic.at(), Batch::of(&["x"]).bytes()), 0);
    std::thread::sleep(Duration::from_millis(1500));
    log_in(&mut client);
    assert_eq!(append(&mut client, topic.at(), Batch::of(&["x"]).bytes()), 1);

    let began = Instant::now();
    loop {
        client.send(&produce(topic.at(), 9, -1, Batch::of(&["x"]).bytes()), 9);
        if client.frame_within(LIMIT).is_none() {
            break;
        }
        assert!(began.elapsed() < SESSION + Duration::from_secs(2), "the session never ended");
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// In version 0, the broker does not state how long the login is valid.
#[test]
fn expired_login_without_stated_lifetime_ends() {
    let topic = Topic::diskless("unstated");
    secured().allow("ann", super::ALL, &topic);
    let mut client = Client::connect(&secured().address(&topic));
    let answer = authenticate_in(&mut client, SaslMechanism::ScramSha256, 0, "ann", "ann-secret");
    assert_eq!((answer.error_code, answer.session_lifetime_ms), (0, 0));
    let began = Instant::now();
    loop {
        client.send(&fetch(topic.at(), 12, 0).with_max_wait_ms(1_000), 12);
        if client.frame_within(LIMIT).is_none() {
            break;
        }
        assert!(began.elapsed() < SESSION + BOUND, "the session never ended");
    }
}

#[test]
fn expired_login_ends_waiting_and_pipelined_fetches() {
    let topic = Topic::diskless("expired");
    secured().allow("ann", super::ALL, &topic);
    let mut client = Client::connect(&secured().address(&topic));
    let answer = authenticate(&mut client, SaslMechanism::ScramSha256, "ann", "ann-secret");
    assert_eq!(answer.error_code, 0, "{:?}", answer.error_message);
    let began = Instant::now();
    let waiting = fetch(topic.at(), 12, 0).with_max_wait_ms(25_000);
    let first = client.send(&waiting, 12);
    for _ in 0..3 {
        client.send(&waiting, 12);
    }
    let response = client.receive::<FetchRequest>(first, 12);
    assert_eq!(fetched(&response).error_code, 0);
    assert!(client.is_closed());
    let took = began.elapsed();
    assert!(took < SESSION + Duration::from_secs(2), "{took:?}");
}
