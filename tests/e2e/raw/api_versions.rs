//! Every endpoint advertises the same versions.

use bytes::{BufMut, BytesMut};
use kafka_protocol::messages::{ApiVersionsRequest, ApiVersionsResponse};
use kafka_protocol::protocol::Request;
use odradek::proxy::apis;
use odradek::wire::guard::decode_response;

use super::client::Client;
use super::requests::text;
use super::{NODE_0, brokers, replica};

const KEY: i16 = 18;

fn query(address: &str, version: i16) -> ApiVersionsResponse {
    let mut request = ApiVersionsRequest::default();
    if version >= 3 {
        request.client_software_name = text("raw");
        request.client_software_version = text("1");
    }
    Client::connect(address).call(&request, version)
}

fn table(response: &ApiVersionsResponse) -> Vec<(i16, i16, i16)> {
    let rows = response.api_keys.iter();
    let mut rows: Vec<_> = rows.map(|a| (a.api_key, a.min_version, a.max_version)).collect();
    rows.sort_unstable();
    rows
}

#[test]
fn every_endpoint_advertises_the_same_versions() {
    let first = query(&replica().bootstrap(), 0);
    assert_eq!(first.error_code, 0);
    let nodes = [0, 3].map(|k| replica().node(k));
    let classic = [1, 2, 3].map(|id| replica().broker(id));
    for address in nodes.iter().chain(&classic).chain([&replica().bootstrap()]) {
        for version in 0..=4 {
            let response = query(address, version);
            assert_eq!(response.error_code, 0, "{address} v{version}");
            assert_eq!(table(&response), table(&first), "{address} v{version}");
        }
    }
}

#[test]
fn advertised_versions_are_supported_by_broker_and_proxy() {
    let (ours, theirs) =
        (table(&query(&replica().bootstrap(), 3)), table(&query(&brokers()[0], 3)));
    assert!(ours.contains(&(1, 4, 15)) && ours.contains(&(0, 0, 13)), "{ours:?}");
    for (key, min, max) in ours {
        let broker = theirs.iter().find(|row| row.0 == key).expect("a broker has it");
        assert!(broker.1 <= min && max <= broker.2, "{key}: {min}..={max} of {broker:?}");
        assert!(apis::lookup(key).is_some_and(|api| max <= api.max), "{key}");
    }
}

#[test]
fn transaction_version_is_clamped_to_1() {
    let level = |address: &str| {
        let response = query(address, 4);
        let name = |f: &&kafka_protocol::messages::api_versions_response::FinalizedFeatureKey| {
            f.name.as_str() == "transaction.version"
        };
        response.finalized_features.iter().find(name).map(|f| f.max_version_level)
    };
    assert_eq!(level(&brokers()[0]), Some(2), "otherwise this test proves nothing");
    for address in [replica().bootstrap(), replica().broker(1), replica().node(0)] {
        assert_eq!(level(&address), Some(1), "{address}");
    }
}

/// A body of version 5 (KIP-1242), in the order of fields of its schema and of franz-go: software
/// name and version, cluster id, node id.
fn version_5(node_id: i32, cluster_id: Option<&str>) -> BytesMut {
    let mut body = BytesMut::new();
    for string in ["kgo", "v1.22.2"] {
        put_compact(&mut body, string);
    }
    match cluster_id {
        Some(id) => put_compact(&mut body, id),
        None => body.put_u8(0),
    }
    body.put_i32(node_id);
    body.put_u8(0);
    body
}

fn put_compact(body: &mut BytesMut, string: &str) {
    body.put_u8(u8::try_from(string.len() + 1).expect("a short string"));
    body.put_slice(string.as_bytes());
}

#[test]
fn api_versions_5_checks_the_node_id() {
    let mut client = Client::connect(&replica().node(1));
    let mut query = |meant, cluster_id| {
        client.send_body(KEY, 5, &version_5(meant, cluster_id));
        let frame = client.receive_frame(KEY, 5);
        decode_response::<ApiVersionsRequest>(4, frame.slice(4..)).expect("fields of version 4")
    };
    for cluster_id in [None, Some("some cluster")] {
        let right = query(NODE_0 + 1, cluster_id);
        assert_eq!((right.error_code, right.api_keys.is_empty()), (0, false));
        assert_eq!(
            query(-1, cluster_id).error_code,
            0,
            "a bootstrapping client has no node in mind"
        );
        for wrong in [NODE_0, NODE_0 + 2, 1, 0] {
            assert_eq!(query(wrong, cluster_id).error_code, 129, "{wrong}");
        }
    }
}

#[test]
fn unsupported_api_versions_are_answered_in_version_0() {
    let requested = [
        (replica().bootstrap(), 5),
        (replica().broker(1), 5),
        (replica().broker(1), 77),
        (replica().node(0), 6),
        (replica().bootstrap(), -1),
        (replica().broker(1), -1),
        (replica().node(0), -1),
        (replica().node(0), i16::MIN),
        (brokers()[0].clone(), 77),
        (brokers()[0].clone(), -1),
        (brokers()[0].clone(), i16::MIN),
    ];
    for (address, version) in requested {
        let mut client = Client::connect(&address);
        client.send_body(KEY, version, &version_5(-1, None));
        let frame = client.receive_frame(KEY, version);
        let body = frame.slice(4..);
        let response = decode_response::<ApiVersionsRequest>(0, body).expect("version 0");
        assert_eq!(response.error_code, 35, "{address} v{version}");
        assert_eq!(response.api_keys.len(), 1, "{address} v{version}");
        assert!(response.api_keys.iter().any(|row| row.api_key == ApiVersionsRequest::KEY));
        // The connection stays open, and the client tries a lower version.
        let request = ApiVersionsRequest::default();
        assert_eq!(client.call(&request, 0).error_code, 0, "{address}");
    }
}
