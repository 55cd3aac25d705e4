//! Faults on real processes: three zones of two replicas, three brokers, a Redis with a
//! replica and Sentinels, and an S3 server, each in a network namespace of its own, under stock clients whose
//! every ack and poll is judged in the end.
//!
//! `CHAOS_MINUTES=60` runs for so long instead of the short round; `CHAOS_SEED` chooses the faults,
//! `CHAOS_ONLY=kill-zone,freeze` the kinds.
#![expect(clippy::disallowed_methods, reason = "real processes live in real time")]

mod cluster;
mod history;
mod nemesis;
mod net;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::time::{Duration, Instant};

use cluster::{CLIENTS, Cluster, ZONES};
use history::{Diary, Line, Watermarks, judge};
use nemesis::{KINDS, Nemesis};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use testbed::process::{Process, wait_until};
use testbed::{cache, repository, target_tmp};

/// What `make test` does.
const SHORT: [&str; 3] = ["kill-replica", "cut-redis", "fail-redis-over"];
const PARTITIONS: &str = "6";
/// Clients go on within this time after a fault has ended.
const GOES_ON_WITHIN: Duration = Duration::from_secs(60);
/// Going on is so many more acks, or polls.
const GOING_ON: usize = 50;

fn say(what: &str) {
    writeln!(std::io::stdout(), "{what}").expect("somebody reads");
}

fn setting(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// A client that runs, and what it writes down.
struct Client {
    process: Process,
    diary: Diary,
}

/// The clients of one topic.
struct People {
    topic: &'static str,
    producers: Vec<Client>,
    readers: Vec<Client>,
    group: Vec<Client>,
}

impl People {
    fn all(&mut self) -> impl Iterator<Item = &mut Client> {
        self.producers.iter_mut().chain(&mut self.readers).chain(&mut self.group)
    }
}

fn librdkafka(cluster: &Cluster, name: &str, zone: usize, words: &[&str]) -> Client {
    let python = cache().join("bench/python/bin/python");
    assert!(python.exists(), "the clients are missing; run: make setup");
    let script = repository().join("tests/chaos/clients.py");
    let mut command = cluster.net.on(CLIENTS[zone], &python.display().to_string());
    let (verb, topic) = (words[0], words[1]);
    command.arg(script).args([verb, &cluster.bootstrap(zone), topic, ZONES[zone]]);
    command.args(&words[2..]);
    client(cluster, name, &command)
}

/// Kafka's own idempotent producer, whose values begin with a number of its own.
fn java(cluster: &Cluster, name: &str, zone: usize, topic: &str, id: u32) -> Client {
    let config = cluster.dir.join(format!("{name}.properties"));
    let settings = format!(
        "enable.idempotence=true\nretries=2147483647\ndelivery.timeout.ms=600000\n\
         client.id={name},zone={}\n",
        ZONES[zone]
    );
    std::fs::write(&config, settings).expect("the directory is ours");
    let tool = repository().join("scripts/kafka-tool.sh");
    let mut command = cluster.net.on(CLIENTS[zone], &tool.display().to_string());
    command.args(["kafka-verifiable-producer", "--bootstrap-server", &cluster.bootstrap(zone)]);
    command.args(["--topic", topic, "--throughput", "100", "--value-prefix", &id.to_string()]);
    command.arg("--command-config").arg(config);
    client(cluster, name, &command)
}

fn client(cluster: &Cluster, name: &str, command: &std::process::Command) -> Client {
    let process = Process::start(name, &cluster.dir, command);
    let diary = Diary::new(name, process.log_path().to_owned());
    Client { process, diary }
}

fn people(cluster: &Cluster) -> Vec<People> {
    let diskless = People {
        topic: "diskless",
        producers: vec![
            librdkafka(cluster, "librdkafka-1", 0, &["produce", "diskless", "1", "100"]),
            java(cluster, "java-2", 1, "diskless", 2),
        ],
        readers: vec![
            librdkafka(cluster, "reader-b", 1, &["read", "diskless", PARTITIONS]),
            librdkafka(cluster, "reader-c", 2, &["read", "diskless", PARTITIONS]),
        ],
        group: vec![
            librdkafka(cluster, "member-a", 0, &["group", "diskless", "readers"]),
            librdkafka(cluster, "member-c", 2, &["group", "diskless", "readers"]),
        ],
    };
    let classic = People {
        topic: "classic",
        producers: vec![librdkafka(cluster, "librdkafka-3", 2, &["produce", "classic", "3", "50"])],
        readers: vec![librdkafka(cluster, "classic-a", 0, &["read", "classic", PARTITIONS])],
        group: Vec::new(),
    };
    vec![diskless, classic]
}

/// What has come of each client, or of a group as a whole.
fn progress(people: &mut [People]) -> BTreeMap<String, usize> {
    let mut progress = BTreeMap::new();
    for people in people {
        people.all().for_each(|client| client.diary.refresh());
        for client in people.producers.iter().chain(&people.readers) {
            progress.insert(client.diary.name.clone(), client.diary.progress());
        }
        if !people.group.is_empty() {
            let sum = people.group.iter().map(|client| client.diary.progress()).sum();
            progress.insert(format!("group of {}", people.topic), sum);
        }
    }
    progress
}

/// How long it takes until everybody goes on; `Err` names who does not.
fn until_all_go_on(people: &mut [People]) -> Result<Duration, String> {
    let (began, before) = (Instant::now(), progress(people));
    loop {
        let now = progress(people);
        let stuck: Vec<&String> = now
            .iter()
            .filter(|(name, n)| **n < before[*name] + GOING_ON)
            .map(|(name, _)| name)
            .collect();
        if stuck.is_empty() {
            return Ok(began.elapsed());
        }
        if began.elapsed() > GOES_ON_WITHIN {
            return Err(format!("{stuck:?} did not go on within {GOES_ON_WITHIN:?}"));
        }
        nemesis::wait(Duration::from_millis(200));
    }
}

/// How many values a group read, however often.
fn values(group: &[Client]) -> usize {
    let lines = group.iter().flat_map(|client| &client.diary.lines);
    let values = lines.filter_map(|line| match line {
        Line::Poll(found) => Some(found.value),
        _ => None,
    });
    values.collect::<BTreeSet<u64>>().len()
}

/// Waits for the last line of a producer that was told to end, and has nothing left to send.
fn has_ended(process: &Process) -> bool {
    let deadline = Instant::now() + Duration::from_secs(150);
    while Instant::now() < deadline {
        let log = process.log();
        if log.contains("\"name\":\"tool_data\"") || log.contains("\"left\": ") {
            return !log.contains("\"left\": ") || log.contains("\"left\": 0");
        }
        nemesis::wait(Duration::from_millis(200));
    }
    false
}

/// Producers end, readers read to what was acknowledged, and the judge has the word.
fn finish(mut people: People) -> Vec<String> {
    let mut wrong = Vec::new();
    for producer in &mut people.producers {
        producer.process.send_sigterm();
        if !has_ended(&producer.process) {
            wrong.push(format!("{} could not send everything", producer.diary.name));
        }
        producer.diary.refresh();
    }
    let acked: usize = people.producers.iter().map(|p| p.diary.progress()).sum();
    let deadline = Instant::now() + GOES_ON_WITHIN;
    let mut is_read = || {
        people.readers.iter_mut().chain(&mut people.group).for_each(|c| c.diary.refresh());
        people.readers.iter().all(|reader| reader.diary.progress() >= acked)
            && (people.group.is_empty() || values(&people.group) >= acked)
    };
    while !is_read() && Instant::now() < deadline {
        nemesis::wait(Duration::from_millis(200));
    }
    // Long enough for what must not come to come.
    nemesis::wait(Duration::from_secs(1));
    people.all().for_each(|client| client.diary.refresh());
    let polls: usize = people.readers.iter().chain(&people.group).map(|c| c.diary.progress()).sum();
    say(&format!("{}: {acked} acks, {polls} polls", people.topic));
    let producers: Vec<&Diary> = people.producers.iter().map(|c| &c.diary).collect();
    let readers: Vec<&Diary> = people.readers.iter().map(|c| &c.diary).collect();
    let group: Vec<&Diary> = people.group.iter().map(|c| &c.diary).collect();
    // The end of a classic partition may go back for a moment when its leader changes.
    let marks = match people.topic {
        "classic" => Watermarks::MayGoBack,
        _ => Watermarks::NeverGoBack,
    };
    wrong.extend(judge(&producers, &readers, &group, marks));
    wrong.into_iter().map(|wrong| format!("{}: {wrong}", people.topic)).collect()
}

#[test]
fn clients_keep_what_they_were_promised_whatever_is_done_to_the_cluster() {
    // First of all: who looks whether namespaces can be made removes those of an earlier run.
    let lock = std::fs::File::create(std::env::temp_dir().join("odradek-chaos.lock"));
    let lock = lock.expect("a file of ours");
    lock.lock().expect("it can be locked");
    if let Some(why) = net::missing() {
        say(&format!("\n!!! CHAOS WAS NOT RUN: {why}\n"));
        return;
    }
    let dir = target_tmp().join("chaos");
    let _none_before = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).expect("target is ours");
    let minutes =
        setting("CHAOS_MINUTES").map(|m| m.parse::<f64>().expect("CHAOS_MINUTES is a number"));
    let seed = setting("CHAOS_SEED").map_or_else(
        || u64::from(std::process::id()),
        |s| s.parse().expect("CHAOS_SEED is a number"),
    );
    let only = setting("CHAOS_ONLY").map(|kinds| kinds.split(',').map(str::to_owned).collect());
    let kinds: Vec<String> = only.unwrap_or_else(|| KINDS.map(str::to_owned).to_vec());
    say(&format!("seed {seed}; logs and diaries are in {}", dir.display()));

    let mut cluster = Cluster::start(&dir);
    let topics = [("diskless", "3"), ("classic", "3")];
    for (topic, replication) in topics {
        cluster.tool(
            "kafka-topics",
            &[
                "--create",
                "--topic",
                topic,
                "--partitions",
                PARTITIONS,
                "--replication-factor",
                replication,
            ],
        );
    }
    let mut people = people(&cluster);
    wait_until("all clients are under way", GOES_ON_WITHIN, || {
        progress(&mut people).values().all(|n| *n >= GOING_ON)
    });
    let wrong =
        strike_on(&mut cluster, &mut people, minutes, &mut StdRng::seed_from_u64(seed), &kinds);
    let wrong: Vec<String> = wrong.into_iter().chain(people.into_iter().flat_map(finish)).collect();
    let first = wrong.iter().take(20).map(|wrong| format!("\n  {wrong}")).collect::<String>();
    say(&format!("{} findings", wrong.len()));
    assert!(wrong.is_empty(), "seed {seed}: {} findings, the first:{first}", wrong.len());
}

/// One fault after the other, with time to recover in between; who did not recover.
fn strike_on(
    cluster: &mut Cluster,
    people: &mut [People],
    minutes: Option<f64>,
    rng: &mut StdRng,
    kinds: &[String],
) -> Vec<String> {
    let began = Instant::now();
    let (mut wrong, mut tried) = (Vec::new(), BTreeMap::<String, (u32, Duration)>::new());
    let mut short = SHORT.iter();
    loop {
        let (kind, hold) = match minutes {
            Some(minutes) if began.elapsed().as_secs_f64() > minutes * 60.0 => break,
            Some(_) => (kinds[rng.random_range(0..kinds.len())].clone(), rng.random_range(3..31)),
            None => match short.next() {
                Some(kind) => ((*kind).to_owned(), 3),
                None => break,
            },
        };
        let nemesis = Nemesis::of_kind(&kind, rng);
        say(&format!("{:>6.1} s {nemesis:?} for {hold} s", began.elapsed().as_secs_f64()));
        nemesis.strike(cluster, Duration::from_secs(hold));
        match until_all_go_on(people) {
            Ok(after) => {
                let tried = tried.entry(kind).or_default();
                *tried = (tried.0 + 1, tried.1.max(after));
            }
            Err(who) => {
                say(&format!("       {who}"));
                wrong.push(format!("after {nemesis:?}: {who}"));
            }
        }
    }
    for (kind, (times, longest)) in tried {
        say(&format!("  {kind:<16} {times:>4} times; all went on within {longest:.1?}"));
    }
    wrong
}
