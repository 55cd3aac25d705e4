//! Permissions that are granted or revoked while a client is connected.

use std::time::{Duration, Instant};

use kafka_protocol::messages::FetchResponse;

use super::{BOUND, READ, Topic, WRITE, revoke, secured};
use crate::raw::batch::Batch;
use crate::raw::client::Client;
use crate::raw::requests::{Target, append, fetch, fetched, produce, produced};

const DENIED: i16 = 29;

#[test]
fn revocation_takes_effect_on_live_connections() {
    let topic = Topic::diskless("revoked");
    for operation in [READ, WRITE] {
        secured().allow("dan", operation, &topic);
    }
    let mut writer = secured().client(&topic, "dan");
    let mut reader = secured().client(&topic, "dan");
    append(&mut writer, topic.at(), Batch::of(&["kept"]).bytes());
    let session = open_session(&mut reader, topic.at());
    // The connection is in use long enough for its permissions to be refreshed.
    let mut slowest = Duration::ZERO;
    let warm = Instant::now();
    while warm.elapsed() < Duration::from_secs(24) {
        let began = Instant::now();
        append(&mut writer, topic.at(), Batch::of(&["kept"]).bytes());
        slowest = slowest.max(began.elapsed());
        assert_eq!(go_on(&mut reader, topic.at(), session.next()), None, "still allowed");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(slowest < Duration::from_secs(5), "no request waited: {slowest:?}");

    revoke(&mut secured().admin(), "dan", &topic.name);
    let revoked = Instant::now();
    let mut fresh = secured().client(&topic, "dan");
    let denied = fresh.call(&produce(topic.at(), 9, -1, Batch::of(&["lost"]).bytes()), 9);
    assert_eq!(produced(&denied).error_code, DENIED, "a new connection is denied at once");

    let (mut written, mut read) = (true, true);
    while written || read {
        assert!(revoked.elapsed() < BOUND, "written: {written}, read: {read}");
        let answer = writer.call(&produce(topic.at(), 9, -1, Batch::of(&["late"]).bytes()), 9);
        written = produced(&answer).error_code != DENIED;
        read = go_on(&mut reader, topic.at(), session.next()) != Some(DENIED);
        std::thread::sleep(Duration::from_millis(100));
    }

    secured().allow("dan", READ, &topic);
    let mut fresh = secured().client(&topic, "dan");
    let granted = fresh.call(&fetch(topic.at(), 12, 0), 12);
    assert_eq!(fetched(&granted).error_code, 0, "a new connection is allowed at once");
}

/// A fetch session and its next epoch.
struct Session {
    id: i32,
    epoch: std::cell::Cell<i32>,
}

impl Session {
    fn next(&self) -> (i32, i32) {
        self.epoch.set(self.epoch.get() + 1);
        (self.id, self.epoch.get())
    }
}

fn open_session(client: &mut Client, at: Target<'_>) -> Session {
    let response: FetchResponse = client.call(&fetch(at, 12, 1_000_000).with_session_epoch(0), 12);
    assert!(response.session_id > 0);
    Session { id: response.session_id, epoch: std::cell::Cell::new(0) }
}

/// Sends an incremental fetch without partitions. Returns the error code of its row, if it has one.
fn go_on(client: &mut Client, at: Target<'_>, (id, epoch): (i32, i32)) -> Option<i16> {
    let mut request = fetch(at, 12, 0).with_session_id(id).with_session_epoch(epoch);
    request.topics.clear();
    let response = client.call(&request, 12);
    assert_eq!(response.error_code, 0, "the session continues");
    let code = response.responses.first().map(|topic| topic.partitions[0].error_code);
    // The session begins out of range, which this test ignores.
    code.filter(|code| *code != 1)
}
