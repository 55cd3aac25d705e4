//! One topic, and replicas that are restarted at random with conflicting rules: the topic has the
//! same type everywhere, and no record is accepted by both logs.

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::{
    CreatePartitionsRequest, CreateTopicsRequest, DeleteTopicsRequest, MetadataRequest,
};
use parking_lot::Mutex;

use super::{A, B, Installation};
use crate::raw::alter_configs::enable_diskless_at;
use crate::raw::client::Client;
use crate::raw::malformed_requests::random_choices;
use crate::raw::{NODE_0, requests};
use testbed::process::{run, wait_until};
use testbed::replica::Replica;
use testbed::{Testbed, require};

const LIMIT: Duration = Duration::from_secs(60);
const SLOTS: [(&str, &str); 4] = [(A, "a-0"), (A, "a-1"), (B, "b-0"), (B, "b-1")];
const RESTARTS: usize = 4;
const WRITERS: usize = 2;

/// Method by which the topic is created.
#[derive(Clone, Copy, Debug)]
enum Creation {
    /// At a broker, so that the replica that observes it first decides; some replicas list it.
    AtBroker,
    /// Through a replica, with the flag.
    WithFlag,
    /// Listed by no replica, and made diskless while clients produce to it.
    Altered,
    /// Through a replica that does not list it, while others do.
    Unlisted,
    /// Listed by all, and given more partitions.
    Grown,
}

/// The records that were sent, and those that were acknowledged.
#[derive(Debug, Default)]
struct History {
    sent: Vec<String>,
    acked: Vec<String>,
}

struct Scenario {
    at: Installation,
    topic: String,
    choose: Mutex<Box<dyn FnMut(usize) -> usize + Send>>,
    /// The bootstrap addresses of live replicas.
    alive: Mutex<Vec<String>>,
    history: Mutex<History>,
}

impl Scenario {
    fn choose(&self, n: usize) -> usize {
        (self.choose.lock())(n)
    }

    fn start(&self, slot: usize, lists: bool) -> Replica {
        let (zone, name) = SLOTS[slot];
        let topics = if lists { vec![self.topic.as_str()] } else { vec![] };
        self.at.listing(zone, name, 2, &topics)
    }

    fn bootstrap(&self) -> String {
        let alive = self.alive.lock().clone();
        alive[self.choose(alive.len())].clone()
    }

    fn now_alive(&self, replicas: &[Option<Replica>]) {
        let alive = replicas.iter().flatten().map(Replica::bootstrap).collect();
        *self.alive.lock() = alive;
    }

    /// Sends records one by one with a stock idempotent producer, each through a random replica.
    fn write(&self, name: &str, ends: &AtomicBool) {
        let mut number = 0;
        while !ends.load(Ordering::Relaxed) {
            let record = format!("{name}-{number}");
            number += 1;
            let mut kcat = Command::new("sh");
            kcat.args([
                "-c",
                "printf '%s' \"$1\" | timeout 30 kcat -b \"$2\" -t \"$3\" -P \
                -X enable.idempotence=true -X message.timeout.ms=15000",
                "kcat",
            ]);
            kcat.args([&record, &self.bootstrap(), &self.topic]);
            self.history.lock().sent.push(record.clone());
            if kcat.output().expect("kcat runs").status.success() {
                self.history.lock().acked.push(record);
            }
        }
    }

    fn create(&self, creation: Creation, by_replica: &str) {
        let brokers = Testbed::get().kafka().bootstrap();
        let (at, configs): (&str, &[(&str, &str)]) = match creation {
            Creation::AtBroker | Creation::Altered | Creation::Grown => {
                (brokers.split(',').next().expect("a broker"), &[])
            }
            Creation::Unlisted => (by_replica, &[]),
            Creation::WithFlag => (by_replica, &[("diskless.enable", "true")]),
        };
        // The deletion of the previous topic of this name may be incomplete.
        wait_until("the topic is created", LIMIT, || {
            let request = requests::create(&self.topic, 1, configs);
            let made = Client::connect(at).call::<CreateTopicsRequest>(&request, 7);
            made.topics[0].error_code == 0
        });
    }

    fn grow(&self, at: &str) {
        let topic = CreatePartitionsTopic::default()
            .with_name(requests::topic_name(&self.topic))
            .with_count(3)
            .with_assignments(None);
        let request =
            CreatePartitionsRequest::default().with_topics(vec![topic]).with_timeout_ms(10_000);
        let grown = Client::connect(at).call(&request, 3);
        assert_eq!(grown.results[0].error_code, 0, "{grown:?}");
    }

    fn delete(&self, replicas: &[Option<Replica>]) {
        let at = self.bootstrap();
        let state = DeleteTopicState::default().with_name(Some(requests::topic_name(&self.topic)));
        let request =
            DeleteTopicsRequest::default().with_topics(vec![state]).with_timeout_ms(10_000);
        let deleted = Client::connect(&at).call(&request, 6);
        assert_eq!(deleted.responses[0].error_code, 0, "{deleted:?}");
        wait_until("the topic is deleted everywhere", LIMIT, || {
            replicas.iter().flatten().all(|replica| self.observed_by(replica).is_none())
        });
        *self.history.lock() = History::default();
    }

    /// Returns whether the topic is diskless according to a replica, and its number of partitions;
    /// `None` while the replica does not know all of it.
    fn observed_by(&self, replica: &Replica) -> Option<(bool, usize)> {
        // The helper for topics is not used because it lets a broker create the topic.
        let request = requests::metadata(&[&self.topic]).with_allow_auto_topic_creation(false);
        let mut client = Client::connect(&replica.bootstrap());
        let topic = client.call::<MetadataRequest>(&request, 12).topics.remove(0);
        let leaders: Vec<_> = topic.partitions.iter().map(|p| p.leader_id.0).collect();
        if topic.error_code != 0 || leaders.is_empty() || leaders.contains(&-1) {
            return None;
        }
        let diskless = leaders.iter().filter(|leader| **leader >= NODE_0).count();
        assert!(diskless == 0 || diskless == leaders.len(), "two types at once: {leaders:?}");
        Some((diskless > 0, leaders.len()))
    }

    /// Reads all records through a bootstrap address, sorted.
    fn read(&self, bootstrap: &str) -> Vec<String> {
        let mut kcat = Command::new("timeout");
        kcat.args(["60", "kcat", "-b", bootstrap, "-t", &self.topic, "-C", "-q", "-e"]);
        kcat.args(["-o", "beginning", "-X", "allow.auto.create.topics=false"]);
        let mut records: Vec<_> = run(&mut kcat).lines().map(str::to_owned).collect();
        records.sort();
        records
    }

    /// Asserts that all replicas agree on the type, and that every acknowledged record is once in the
    /// log of that type. Returns whether the topic is diskless.
    fn verify(&self, creation: Creation, replicas: &[Option<Replica>]) -> bool {
        let partitions = if matches!(creation, Creation::Grown) { 3 } else { 1 };
        let mut is_diskless = false;
        wait_until("all replicas agree", LIMIT, || {
            let seen = replicas.iter().flatten().map(|replica| self.observed_by(replica));
            let seen: Option<Vec<_>> = seen.collect();
            seen.is_some_and(|seen| {
                is_diskless = seen[0].0;
                seen.iter().all(|one| *one == (is_diskless, partitions))
            })
        });
        let in_broker = self.read(Testbed::get().kafka().bootstrap());
        let history = self.history.lock();
        let what =
            format!("{creation:?}, diskless: {is_diskless}, {} acknowledged", history.acked.len());
        assert!(!history.acked.is_empty(), "{what}");
        for replica in replicas.iter().flatten() {
            let read = self.read(&replica.bootstrap());
            let lost: Vec<_> = history.acked.iter().filter(|r| !read.contains(r)).collect();
            assert!(lost.is_empty(), "{what}; lost {lost:?}; in the broker: {in_broker:?}");
            assert!(read.iter().all(|r| history.sent.contains(r)), "{what}: {read:?}");
            assert!(
                read.windows(2).all(|two_zones| two_zones[0] != two_zones[1]),
                "{what}; twice: {read:?}"
            );
            let classic = if is_diskless { vec![] } else { read };
            assert_eq!(in_broker, classic, "{what}");
        }
        is_diskless
    }

    fn round(&self, number: usize, creation: Creation, replicas: &mut [Option<Replica>]) -> bool {
        self.create(creation, &self.bootstrap());
        let ends = AtomicBool::new(false);
        std::thread::scope(|threads| {
            for writer in 0..WRITERS {
                let (name, ends) = (format!("{number}-{writer}"), &ends);
                threads.spawn(move || self.write(&name, ends));
            }
            if matches!(creation, Creation::Altered) {
                // Succeeds or is rejected, depending on what came first.
                enable_diskless_at(&self.bootstrap(), &self.topic);
            }
            for restart in 0..RESTARTS {
                let slot = self.choose(replicas.len());
                if let Some(mut dying) = replicas[slot].take() {
                    self.now_alive(replicas);
                    match self.choose(2) {
                        0 => dying.kill9(),
                        _ => {
                            dying.process().send_sigterm();
                            dying.wait_success(LIMIT);
                        }
                    }
                }
                if restart == 1 && matches!(creation, Creation::Grown) {
                    self.grow(&self.bootstrap());
                }
                let lists = match creation {
                    Creation::Altered => false,
                    Creation::Grown => true,
                    Creation::AtBroker | Creation::WithFlag | Creation::Unlisted => {
                        self.choose(2) == 0
                    }
                };
                replicas[slot] = Some(self.start(slot, lists));
                self.now_alive(replicas);
            }
            ends.store(true, Ordering::Relaxed);
        });
        self.verify(creation, replicas)
    }
}

#[test]
fn replicas_with_conflicting_rules_agree_on_topic_type() {
    require("kcat".as_ref());
    let scenario = Scenario {
        at: Installation::new(),
        topic: Testbed::get().unique("truth"),
        choose: Mutex::new(Box::new(random_choices(20))),
        alive: Mutex::default(),
        history: Mutex::default(),
    };
    let mut replicas: Vec<_> =
        (0..SLOTS.len()).map(|slot| Some(scenario.start(slot, slot == 1))).collect();
    scenario.now_alive(&replicas);
    let creations = [
        Creation::AtBroker,
        Creation::WithFlag,
        Creation::Altered,
        Creation::Unlisted,
        Creation::Grown,
    ];
    for (number, creation) in creations.into_iter().enumerate() {
        let is_diskless = scenario.round(number, creation, &mut replicas);
        assert!(
            is_diskless || !matches!(creation, Creation::WithFlag),
            "the flag makes the topic diskless"
        );
        scenario.delete(&replicas);
    }
}
