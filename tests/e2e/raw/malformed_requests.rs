//! Bytes from a peer can end its connection, but never the process.

use std::fs;
use std::time::Duration;

use kafka_protocol::messages::{ApiVersionsRequest, FetchRequest};
use odradek::proxy::apis;
use odradek::wire::guard;
use odradek::wire::guard::sample::{Direction, message, versions};
use odradek::wire::header::ResponseHeader;

use super::batch::Batch;
use super::client::{Client, frame};
use super::requests::{append, fetch, fetched};
use super::{Topic, replica};

fn endpoints() -> [String; 3] {
    [replica().bootstrap(), replica().broker(1), replica().node(0)]
}

#[track_caller]
fn assert_serving(address: &str) {
    let response = Client::connect(address).call(&ApiVersionsRequest::default(), 0);
    assert_eq!(response.error_code, 0);
}

#[test]
fn malformed_requests_close_only_their_connection() {
    let huge = [0xff, 0xff, 0xff, 0xff, 0x0f];
    let bad: &[(&str, i16, i16, &[u8])] = &[
        ("five bytes that make the codec abort", 3, 12, &huge),
        ("two hundred million topics", 3, 4, &[0x0b, 0xeb, 0xc2, 0]),
        ("a negative count", 3, 1, &[0xff, 0xff, 0xff, 0xfe]),
        ("produce of many topics", 0, 9, &[0, 0, 1, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x0f]),
        ("an empty produce", 0, 9, &[]),
        ("fetch that ends", 1, 12, &[0xff; 5]),
        ("list offsets of many topics", 2, 6, &[0xff, 0xff, 0xff, 0xff, 0, 0xff, 0xff, 0xff, 7]),
        ("create topics of many", 19, 5, &huge),
        ("a string that is not UTF-8", 3, 1, &[0, 0, 0, 1, 0, 2, 0xc3, 0x28]),
        ("an unknown api", 999, 0, &[]),
        ("an api between brokers", 6, 5, &[]),
        ("an unknown version", 3, 99, &[]),
        ("a version below all", 1, 0, &[]),
        ("a negative version", 3, -1, &[]),
    ];
    for address in endpoints() {
        for (label, key, version, body) in bad {
            let mut client = Client::connect(&address);
            client.send_bytes(&frame(*key, *version, 1, body));
            assert!(client.is_closed(), "{label} at {address}");
        }
        for (label, bytes) in [
            ("HTTP", &b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..]),
            ("TLS", &[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]),
            ("a negative length", &[0xff; 8]),
            ("no length", &[0; 4]),
            ("a frame over the limit", &[0x06, 0x40, 0, 1]),
            ("a frame of one byte", &[0, 0, 0, 1, 0]),
            ("a client id that is longer", &[0, 0, 0, 10, 0, 3, 0, 1, 0, 0, 0, 1, 0x7f, 0xff]),
        ] {
            let mut client = Client::connect(&address);
            client.send_bytes(bytes);
            assert!(client.is_closed(), "{label} at {address}");
        }
        assert_serving(&address);
    }
}

/// Like at a broker.
#[test]
fn requests_before_a_malformed_frame_are_answered() {
    let topic = Topic::diskless("before-bad", 1);
    let mut client = topic.client();
    append(&mut client, topic.partition(0), Batch::of(&["x"]).bytes());
    let correlation_id = client.send(&fetch(topic.partition(0), 12, 0), 12);
    client.send_bytes(&[0xff; 8]);
    let response = client.receive::<FetchRequest>(correlation_id, 12);
    assert_eq!(fetched(&response).error_code, 0);
    assert!(client.is_closed());
}

#[test]
fn announced_frame_length_reserves_no_memory() {
    const PROMISES: usize = 100;
    let before = resident_mib();
    let mut clients = Vec::new();
    for n in 0..PROMISES {
        let mut client = Client::connect(&endpoints()[n % 3]);
        // The first bytes of a frame of a hundred million.
        client.send_bytes(&100_000_000_i32.to_be_bytes());
        client.send_bytes(&frame(0, 9, 1, &[7; 1000])[4..]);
        clients.push(client);
    }
    assert!(clients[PROMISES - 1].is_silent_for(Duration::from_millis(300)), "it waits for more");
    let grown = resident_mib().saturating_sub(before);
    assert!(grown < 100, "{grown} MiB for {PROMISES} promises");
    endpoints().iter().for_each(|address| assert_serving(address));
}

/// Well-formed random requests to every API that a node serves: each gets a decodable response or
/// none, and no handler panics.
#[test]
fn random_requests_are_answered_or_rejected() {
    const DRAWS: u64 = 4;
    // The names in the random requests exist, some as diskless topics.
    for (name, diskless) in [("a", "true"), ("ab", "true"), ("abc", "false")] {
        let topic = Topic::create(replica(), name, 1, &[("diskless.enable", diskless)]);
        append(&mut topic.client(), topic.partition(0), Batch::of(&["x"]).bytes());
    }
    let (mut answered, mut refused) = (0, 0);
    for (key, version) in versions(Direction::Request) {
        let Some(api) = apis::lookup(key) else { continue };
        if api.node != apis::Handling::Serve || version > api.accepted {
            continue;
        }
        for seed in 0..DRAWS {
            let mut choose = random_choices(seed << 32 | (key as u64) << 16 | version as u64);
            let body = message(Direction::Request, (key, version), 4, &mut choose);
            let mut client = Client::connect(&replica().node(0));
            client.send_body(key, version, &body);
            // A fetch may request a long wait, and a produce may request no response.
            let patience = if key <= 1 { 150 } else { 10_000 };
            let Some(frame) = client.frame_within(Duration::from_millis(patience)) else {
                refused += 1;
                continue;
            };
            let header = ResponseHeader::parse(&frame, key, version).expect("a header");
            let walked = guard::check_response(key, version, &frame[header.bytes..]);
            assert_eq!(walked, Ok(frame.len() - header.bytes), "key {key} v{version} {body:?}");
            answered += 1;
        }
    }
    assert!(answered > refused, "{answered} answered, {refused} refused");
    assert_serving(&replica().node(0));
    let log = replica().log();
    assert!(!log.contains("panicked") && !log.contains("ERROR"), "{log}");
}

/// Returns mostly small numbers, always the same for one seed.
pub(crate) fn random_choices(seed: u64) -> impl FnMut(usize) -> usize {
    let mut state = seed;
    move |n| {
        let mut draw = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize
        };
        match n {
            256 if draw() % 32 > 0 => 0,
            n => draw() % n,
        }
    }
}

fn resident_mib() -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", replica().id()));
    let status = status.expect("the replica lives");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
    line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).expect("KiB") / 1024
}
