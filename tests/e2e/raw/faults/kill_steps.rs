//! `kill -9` at each step of the pipeline, observed from outside. The producer continues at another
//! replica, while requests of the killed one may still arrive.

use std::time::{Duration, Instant};

use super::Producer;
use crate::raw::lifecycle::LIMIT;
use testbed::Testbed;
use testbed::process::wait_until;
use testbed::redis_proxy::{Mode, RedisProxy};
use testbed::replica::Replica;
use testbed::slow_s3::SlowS3;

/// The step at which the replica is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// The batch is in the open object.
    Open,
    /// The PUT is in flight, and completes after the kill.
    Uploading,
    /// The object is stored, and the replica does not know it.
    Uploaded,
    /// The commit is in flight, and arrives after the kill.
    Committing,
    /// The commit is done, and the replica does not know it.
    Committed,
    /// The producer has the response.
    Answered,
}

const STEPS: [Step; 6] = [
    Step::Open,
    Step::Uploading,
    Step::Uploaded,
    Step::Committing,
    Step::Committed,
    Step::Answered,
];

/// When the requests of the killed replica arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Arrives {
    BeforeTheRepetition,
    AfterTheRepetition,
}

struct Harness {
    store: SlowS3,
    redis: RedisProxy,
    victim: Replica,
    other: Replica,
}

impl Harness {
    /// Starts two replicas of one cluster and zone; only the victim's Redis can fail.
    fn start(step: Step) -> Self {
        let store = SlowS3::start(&[]);
        let port = Testbed::get().redis().port();
        let redis = RedisProxy::start(port);
        let cluster = Testbed::get().unique("kill-steps");
        let patient =
            if step == Step::Open { "flush: {interval: 30s, profile: cheap}\n" } else { "" };
        let victim = Replica::start_of(&cluster, &store.yaml(), &redis.yaml(), patient);
        let direct = Testbed::get().redis().yaml();
        let other = Replica::start_of(&cluster, &store.yaml(), &direct, "");
        Self { store, redis, victim, other }
    }

    fn arm(&self, step: Step) {
        let put = |rule: &str| {
            self.store.control(&format!("fault?operation=put&contains=/wal/&{rule}"));
        };
        match step {
            Step::Open | Step::Answered => {}
            Step::Uploading => put("hang-before=never"),
            Step::Uploaded => put("hang-after=never"),
            Step::Committing => self.redis.set(Mode::HoldRequests),
            Step::Committed => self.redis.set(Mode::HoldResponses),
        }
    }

    fn wait_for(&self, step: Step) {
        let held = || self.redis.held() > 0;
        match step {
            Step::Open => std::thread::sleep(Duration::from_millis(500)),
            Step::Uploading => self.store.wait_for("put.hanging-before", LIMIT, |n| n > 0),
            Step::Uploaded => self.store.wait_for("put.landed-unanswered", LIMIT, |n| n > 0),
            Step::Committing => wait_until("a request to Redis is held", LIMIT, held),
            Step::Committed => wait_until("an answer of Redis is held", LIMIT, held),
            Step::Answered => {}
        }
    }

    /// Lets the requests of the victim pass.
    fn release(&self) {
        self.store.control("lift");
        self.store.control("release");
        self.redis.set(Mode::Pass);
        std::thread::sleep(Duration::from_millis(300));
    }
}

fn check(step: Step, arrives: Arrives) {
    let mut harness = Harness::start(step);
    let producer = Producer::new(&harness.other);
    for sequence in 0..2 {
        assert_eq!(producer.write(&harness.other, sequence), i64::from(sequence));
    }
    // With a long flush interval, the next object is sealed an interval later.
    assert_eq!(producer.write(&harness.victim, 2), 2, "the victim serves");
    harness.arm(step);
    let mut client = producer.connect(&harness.victim);
    let sent: Vec<i32> = [3, 4].map(|sequence| producer.send(&mut client, sequence)).to_vec();
    if step == Step::Answered {
        for (correlation_id, at) in sent.into_iter().zip([3, 4]) {
            assert_eq!(producer.receive(&mut client, correlation_id), (0, at));
        }
    }
    harness.wait_for(step);
    harness.victim.kill9();
    if step == Step::Uploading || step == Step::Uploaded {
        // The fault must not affect the other replica's PUTs.
        harness.store.control("lift");
    }
    if arrives == Arrives::BeforeTheRepetition {
        harness.release();
    }
    for sequence in 3..6 {
        let offset = producer.write(&harness.other, sequence);
        assert_eq!(offset, i64::from(sequence), "{step:?}, {arrives:?}");
    }
    producer.check_log(&harness.other, 6);
    harness.release();
    producer.check_log(&harness.other, 6);
    harness.victim.restart();
    producer.check_log(&harness.victim, 6);
    assert_eq!(producer.write(&harness.victim, 6), 6, "{step:?}, {arrives:?}");
    producer.check_log(&harness.victim, 7);
}

#[test]
fn kill_at_any_step_neither_loses_nor_duplicates_records() {
    std::thread::scope(|scope| {
        for step in STEPS {
            scope.spawn(move || check(step, Arrives::BeforeTheRepetition));
        }
    });
}

#[test]
fn late_writes_of_a_killed_replica_are_not_duplicated() {
    std::thread::scope(|scope| {
        for step in [Step::Uploading, Step::Committing] {
            scope.spawn(move || check(step, Arrives::AfterTheRepetition));
        }
    });
}

#[test]
fn shutdown_commits_and_answers_buffered_requests_at_once() {
    let harness = Harness::start(Step::Open);
    let producer = Producer::new(&harness.other);
    assert_eq!(producer.write(&harness.victim, 0), 0);
    let mut client = producer.connect(&harness.victim);
    let sent: Vec<i32> = (1..4).map(|sequence| producer.send(&mut client, sequence)).collect();
    harness.wait_for(Step::Open);
    let Harness { mut victim, other, store, .. } = harness;
    let started = Instant::now();
    victim.process().send_sigterm();
    for (correlation_id, at) in sent.into_iter().zip(1..) {
        assert_eq!(producer.receive(&mut client, correlation_id), (0, at));
    }
    assert!(started.elapsed() < Duration::from_secs(20), "its interval is 30 s");
    victim.wait_success(LIMIT);
    producer.check_log(&other, 4);
    assert_eq!(store.counter("put.in-flight"), 0);
}
