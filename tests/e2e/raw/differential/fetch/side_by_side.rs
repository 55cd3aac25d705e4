//! Classic topics at their broker and diskless topics at a diskless node, which get the same
//! requests.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kafka_protocol::protocol::Request;
use odradek::wire::guard::decode_response;
use odradek::wire::header::ResponseHeader;
use testbed::replica::DISKLESS_PREFIX;
use uuid::Uuid;

use super::super::frame_edits::Edit;
use super::super::{create_on_broker_1, wait_for_leadership};
use super::describe::Describe;
use crate::raw::client::{Client, Received, frame};
use crate::raw::requests::append;
use crate::raw::{Topic, brokers, replica};

/// The maximum wait for a response; every requested wait is shorter.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(8);
/// A topic that does not exist.
const UNKNOWN_TOPIC: (&str, Uuid) = ("diskless-unknown", Uuid::from_u128(7 << 64 | 7));

/// The topic that a request names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TopicRef {
    Main,
    Second,
    /// A name or an id that no topic has.
    Unknown,
    /// No name, or the zero id.
    Zero,
    /// A name that no topic can have.
    Illegal,
}

/// One of the two sides, with its last session.
pub(super) struct Side {
    pub(super) topics: [Topic; 2],
    address: String,
    pub(super) client: Client,
    _before: Option<Client>,
    pub(super) session: i32,
}

/// The diskless side and the broker's side.
pub(super) struct SideBySide {
    pub(super) name: &'static str,
    pub(super) ours: Side,
    pub(super) theirs: Side,
}

impl SideBySide {
    /// Creates two topics on each side, with the same number of partitions and the same configs.
    pub(super) fn new(name: &'static str, partitions: i32, configs: &[(&str, &str)]) -> Self {
        let of = |prefix: &str| {
            ["main", "second"].map(|role| {
                create_on_broker_1(
                    &format!("{prefix}read-{}-{role}", name.replace(' ', "-")),
                    partitions,
                    configs,
                )
            })
        };
        let (ours, theirs) = (of(DISKLESS_PREFIX), of("classic-"));
        assert!(ours[0].is_diskless() && !theirs[0].is_diskless());
        let (address, broker) = (ours[0].address(replica(), 0), brokers()[0].clone());
        theirs.iter().for_each(|topic| wait_for_leadership(&broker, topic, partitions));
        Self { name, ours: Side::new(ours, address), theirs: Side::new(theirs, broker) }
    }

    pub(super) fn each(&mut self) -> [&mut Side; 2] {
        [&mut self.ours, &mut self.theirs]
    }

    /// Appends the same batch on both sides.
    pub(super) fn append(&mut self, to: TopicRef, partition: i32, batch: &Bytes) {
        for side in self.each() {
            let topic = &side.topics[usize::from(to == TopicRef::Second)];
            append(&mut side.client, topic.partition(partition), batch.clone());
        }
    }

    /// Returns the responses: ours, and the broker's.
    pub(super) fn query<R>(
        &mut self,
        version: i16,
        build: impl Fn(&Side) -> R,
        edit: Option<Edit>,
    ) -> (String, String)
    where
        R: Request,
        R::Response: Describe,
    {
        for side in self.each() {
            let request = build(side);
            side.send(&request, version, edit);
        }
        // Both requests are sent before either response is read, so that waits overlap.
        (self.ours.receive::<R>(version), self.theirs.receive::<R>(version))
    }

    /// Opens new connections on both sides. The ones before stay open: the replica's sessions end with
    /// theirs.
    pub(super) fn reconnect(&mut self) {
        for side in self.each() {
            let client = Client::connect(&side.address);
            side._before = Some(std::mem::replace(&mut side.client, client));
        }
    }
}

impl Side {
    fn new(topics: [Topic; 2], address: String) -> Self {
        let client = Client::connect(&address);
        Self { topics, address, client, _before: None, session: 0 }
    }

    pub(super) fn reconnect(&mut self) {
        self.client = Client::connect(&self.address);
    }

    pub(super) fn address(&self) -> &str {
        &self.address
    }

    pub(super) fn name_and_id(&self, to: TopicRef) -> (&str, Uuid) {
        match to {
            TopicRef::Main | TopicRef::Second => {
                let topic = &self.topics[usize::from(to == TopicRef::Second)];
                (&topic.name, topic.id)
            }
            TopicRef::Unknown => UNKNOWN_TOPIC,
            TopicRef::Zero => ("", Uuid::nil()),
            TopicRef::Illegal => ("no/topic", Uuid::from_u128(9 << 64 | 9)),
        }
    }

    /// Returns the role of a name or an id.
    pub(super) fn role(&self, name: &str, id: Uuid) -> String {
        let roles = [TopicRef::Main, TopicRef::Second, TopicRef::Unknown, TopicRef::Illegal];
        let is = |to: &TopicRef| {
            let (its_name, its_id) = self.name_and_id(*to);
            name == its_name || (name.is_empty() && id == its_id)
        };
        let role = roles.into_iter().find(is);
        role.map_or_else(|| format!("{name:?}"), |to| format!("{to:?}"))
    }

    pub(super) fn send<R: Request>(&mut self, request: &R, version: i16, edit: Option<Edit>) {
        let mut body = BytesMut::new();
        request.encode(&mut body, version).unwrap_or_else(|e| panic!("{} v{version}: {e}", R::KEY));
        let sent = frame(R::KEY, version, 77, &body).to_vec();
        let sent = match edit {
            Some(edit) => edit(sent),
            None => sent,
        };
        self.client.try_send_bytes(&sent);
    }

    pub(super) fn receive<R>(&mut self, version: i16) -> String
    where
        R: Request,
        R::Response: Describe,
    {
        let (outcome, session) = match self.client.receive_within(RESPONSE_TIMEOUT) {
            Received::Frame(frame) => {
                let header = ResponseHeader::parse(&frame, R::KEY, version).expect("a header");
                assert_eq!(header.correlation_id, 77);
                let body = frame.slice(header.bytes..);
                let response = decode_response::<R>(version, body).expect("an answer");
                (response.describe(self), response.session())
            }
            Received::Closed => {
                self.reconnect();
                ("closed".to_owned(), None)
            }
            Received::Timeout => {
                self.reconnect();
                ("silent".to_owned(), None)
            }
        };
        self.session = session.unwrap_or(self.session);
        outcome
    }
}
