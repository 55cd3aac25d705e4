//! Faults on real processes: three zones of two replicas, three brokers, a Redis with a replica and
//! Sentinels, and an S3 server, each in a network namespace of its own. Stock clients run meanwhile,
//! and all their acks and polls are checked in the end.
//!
//! `CHAOS_MINUTES=60` runs for 60 minutes instead of the short round; `CHAOS_SEED` chooses the faults;
//! `CHAOS_ONLY=kill-zone,freeze` restricts them.
#![expect(clippy::disallowed_methods, reason = "real processes live in real time")]

mod cluster;
mod history;
mod nemesis;
mod net;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::time::{Duration, Instant};

use cluster::{CLIENTS, Cluster, ZONES};
use history::{ClientLog, Line, Watermarks, check_history};
use nemesis::{FAULTS, Nemesis};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use testbed::process::{Process, wait_until};
use testbed::{cache, repository, target_tmp};

/// The faults of the short round, which `make test` runs.
const SHORT: [&str; 3] = ["kill-replica", "cut-redis", "fail-redis-over"];
const PARTITIONS: &str = "6";
/// Time in which clients have to make progress after a fault has ended.
const RECOVERY_LIMIT: Duration = Duration::from_secs(60);
/// Progress of a client: this many more acks or polls.
const PROGRESS: usize = 50;

fn say(what: &str) {
    writeln!(std::io::stdout(), "{what}").expect("standard output is open");
}

fn setting(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// A running client and its output.
struct Client {
    process: Process,
    diary: ClientLog,
}

/// The clients of one topic.
struct TopicClients {
    topic: &'static str,
    producers: Vec<Client>,
    readers: Vec<Client>,
    group: Vec<Client>,
}

impl TopicClients {
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

/// Starts Kafka's own idempotent producer, whose values have a prefix of its own.
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
    let diary = ClientLog::new(name, process.log_path().to_owned());
    Client { process, diary }
}

fn clients(cluster: &Cluster) -> Vec<TopicClients> {
    let diskless = TopicClients {
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
    let classic = TopicClients {
        topic: "classic",
        producers: vec![librdkafka(cluster, "librdkafka-3", 2, &["produce", "classic", "3", "50"])],
        readers: vec![librdkafka(cluster, "classic-a", 0, &["read", "classic", PARTITIONS])],
        group: Vec::new(),
    };
    vec![diskless, classic]
}

/// Counts the acks and polls of each client; those of a group as a whole.
fn progress(clients: &mut [TopicClients]) -> BTreeMap<String, usize> {
    let mut progress = BTreeMap::new();
    for clients in clients {
        clients.all().for_each(|client| client.diary.refresh());
        for client in clients.producers.iter().chain(&clients.readers) {
            progress.insert(client.diary.name.clone(), client.diary.progress());
        }
        if !clients.group.is_empty() {
            let sum = clients.group.iter().map(|client| client.diary.progress()).sum();
            progress.insert(format!("group of {}", clients.topic), sum);
        }
    }
    progress
}

/// Waits until all clients make progress; returns how long that took, and the last of them.
///
/// # Errors
///
/// Names the clients that made none within [`RECOVERY_LIMIT`].
fn await_progress(clients: &mut [TopicClients]) -> Result<(Duration, Vec<String>), String> {
    let (began, before) = (Instant::now(), progress(clients));
    let mut last = Vec::new();
    loop {
        let now = progress(clients);
        let behind = now.into_iter().filter(|(name, n)| *n < before[name] + PROGRESS);
        let stuck: Vec<String> = behind.map(|(name, _)| name).collect();
        if stuck.is_empty() {
            return Ok((began.elapsed(), last));
        }
        if began.elapsed() > RECOVERY_LIMIT {
            return Err(format!("{stuck:?} made no progress within {RECOVERY_LIMIT:?}"));
        }
        last = stuck;
        nemesis::wait(Duration::from_millis(200));
    }
}

/// Counts the distinct values that a group read.
fn values(group: &[Client]) -> usize {
    let lines = group.iter().flat_map(|client| &client.diary.lines);
    let values = lines.filter_map(|line| match line {
        Line::Poll(found) => Some(found.value),
        _ => None,
    });
    values.collect::<BTreeSet<u64>>().len()
}

/// Waits for the last line of a producer that got SIGTERM; returns whether it had sent everything.
fn has_finished(process: &Process) -> bool {
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

/// Stops the producers, lets the readers read all that was acknowledged, and checks the history.
fn finish(mut clients: TopicClients) -> Vec<String> {
    let mut wrong = Vec::new();
    for producer in &mut clients.producers {
        producer.process.send_sigterm();
        if !has_finished(&producer.process) {
            wrong.push(format!("{} could not send everything", producer.diary.name));
        }
        producer.diary.refresh();
    }
    let acked: usize = clients.producers.iter().map(|p| p.diary.progress()).sum();
    let deadline = Instant::now() + RECOVERY_LIMIT;
    let mut is_read = || {
        clients.readers.iter_mut().chain(&mut clients.group).for_each(|c| c.diary.refresh());
        clients.readers.iter().all(|reader| reader.diary.progress() >= acked)
            && (clients.group.is_empty() || values(&clients.group) >= acked)
    };
    while !is_read() && Instant::now() < deadline {
        nemesis::wait(Duration::from_millis(200));
    }
    // Long enough for a duplicate to arrive.
    nemesis::wait(Duration::from_secs(1));
    clients.all().for_each(|client| client.diary.refresh());
    let polls: usize =
        clients.readers.iter().chain(&clients.group).map(|c| c.diary.progress()).sum();
    say(&format!("{}: {acked} acks, {polls} polls", clients.topic));
    let producers: Vec<&ClientLog> = clients.producers.iter().map(|c| &c.diary).collect();
    let readers: Vec<&ClientLog> = clients.readers.iter().map(|c| &c.diary).collect();
    let group: Vec<&ClientLog> = clients.group.iter().map(|c| &c.diary).collect();
    // The end of a classic partition may go back for a moment when its leader changes.
    let marks = match clients.topic {
        "classic" => Watermarks::MayGoBack,
        _ => Watermarks::NeverGoBack,
    };
    wrong.extend(check_history(&producers, &readers, &group, marks));
    wrong.into_iter().map(|wrong| format!("{}: {wrong}", clients.topic)).collect()
}

#[test]
fn acknowledged_records_survive_faults() {
    // Taken first: the probe for namespaces removes those of an earlier run.
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
    let kinds: Vec<String> = only.unwrap_or_else(|| FAULTS.map(str::to_owned).to_vec());
    say(&format!("seed {seed}; logs of processes and clients are in {}", dir.display()));

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
    let mut clients = clients(&cluster);
    wait_until("all clients make progress", RECOVERY_LIMIT, || {
        progress(&mut clients).values().all(|n| *n >= PROGRESS)
    });
    let wrong = inject_faults(
        &mut cluster,
        &mut clients,
        minutes,
        &mut StdRng::seed_from_u64(seed),
        &kinds,
    );
    let wrong: Vec<String> =
        wrong.into_iter().chain(clients.into_iter().flat_map(finish)).collect();
    let first = wrong.iter().take(20).map(|wrong| format!("\n  {wrong}")).collect::<String>();
    say(&format!("{} anomalies", wrong.len()));
    assert!(wrong.is_empty(), "seed {seed}: {} anomalies, the first:{first}", wrong.len());
}

/// Injects one fault after the other, with time to recover in between; returns which clients did not
/// recover.
fn inject_faults(
    cluster: &mut Cluster,
    clients: &mut [TopicClients],
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
        let nemesis = Nemesis::named(&kind, rng);
        say(&format!("{:>6.1} s {nemesis:?} for {hold} s", began.elapsed().as_secs_f64()));
        nemesis.inject(cluster, Duration::from_secs(hold));
        let mut check = |when: &str| match await_progress(clients) {
            Ok((after, last)) => {
                say(&format!("       {when}: progress within {after:.1?}, last {last:?}"));
                let longest = &mut tried.entry(kind.clone()).or_default().1;
                *longest = after.max(*longest);
            }
            Err(stuck) => {
                say(&format!("       {stuck}"));
                wrong.push(format!("{when} {nemesis:?}: {stuck}"));
            }
        };
        if nemesis.lasts() {
            check("during");
            nemesis.remove(cluster);
        }
        check("after");
        tried.entry(kind).or_default().0 += 1;
    }
    for (kind, (times, longest)) in tried {
        say(&format!("  {kind:<16} {times:>4} times; all recovered within {longest:.1?}"));
    }
    wrong
}
