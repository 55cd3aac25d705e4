//! The cost of a client before the broker has let it in.

use std::time::{Duration, Instant};

use kafka_protocol::messages::{ApiVersionsRequest, SaslHandshakeRequest};

use super::{Topic, secured};
use crate::raw::batch::Batch;
use crate::raw::client::{Client, Received};
use crate::raw::requests::{append, text};

/// Time in which a client has to log in, with a margin.
const LOGIN: Duration = Duration::from_secs(30 + 4);

/// The bootstrap port, a classic endpoint and a diskless node.
fn ports() -> Vec<String> {
    let node = secured().address(&Topic::diskless("before-login"));
    vec![secured().replica.bootstrap(), secured().replica.broker(1), node]
}

fn assert_closed(client: &mut Client, within: Duration) {
    let began = Instant::now();
    loop {
        match client.receive_within(within.saturating_sub(began.elapsed())) {
            Received::Frame(_) => {}
            Received::Closed => return,
            Received::Timeout => panic!("open after {:?}", began.elapsed()),
        }
    }
}

#[test]
fn frames_above_512_kib_require_a_login() {
    for port in ports() {
        for sends_first in [false, true] {
            let mut client = Client::connect(&port);
            if sends_first {
                client.call::<ApiVersionsRequest>(&ApiVersionsRequest::default(), 2);
            }
            client.send_bytes(&[0, 8, 0, 1]);
            assert_closed(&mut client, Duration::from_secs(10));
        }
    }
    // After the login the usual limit applies.
    for topic in [Topic::diskless("large"), Topic::classic("large")] {
        let records = Batch::of(&[&"x".repeat(900 << 10)]).bytes();
        append(&mut secured().client(&topic, "admin"), topic.at(), records);
    }
}

#[test]
fn clients_that_do_not_log_in_are_closed_after_30_seconds() {
    let mut silent = Vec::new();
    for port in ports() {
        silent.push(Client::connect(&port));
        let mut asking = Client::connect(&port);
        asking.call::<ApiVersionsRequest>(&ApiVersionsRequest::default(), 2);
        silent.push(asking);
        let mut half = Client::connect(&port);
        let handshake = SaslHandshakeRequest::default().with_mechanism(text("PLAIN"));
        assert_eq!(half.call::<SaslHandshakeRequest>(&handshake, 1).error_code, 0);
        silent.push(half);
    }
    // Logged in, with nothing to do: as with a broker, it stays.
    let mut idle = [Topic::diskless("idle"), Topic::classic("idle")]
        .map(|topic| (secured().client(&topic, "admin"), topic));
    let began = Instant::now();
    for client in &mut silent {
        assert_closed(client, LOGIN.saturating_sub(began.elapsed()).max(Duration::from_secs(2)));
    }
    assert!(began.elapsed() > Duration::from_secs(25), "closed after {:?}", began.elapsed());
    std::thread::sleep(LOGIN.saturating_sub(began.elapsed()));
    for (client, topic) in &mut idle {
        append(client, topic.at(), Batch::of(&["late"]).bytes());
    }
}
