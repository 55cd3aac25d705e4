//! Three brokers, a Redis with a replica and three Sentinels, an S3 server, and two replicas in each of three zones.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use testbed::process::{Process, run, wait_until};
use testbed::{program, repository, script};

use crate::net::Network;

pub(crate) const ZONES: [&str; 3] = ["zone-a", "zone-b", "zone-c"];
pub(crate) const REPLICAS: [&str; 6] = ["a1", "a2", "b1", "b2", "c1", "c2"];
/// A master and the only candidate of a failover: a second replica would have to be waited for too.
pub(crate) const REDIS: [&str; 2] = ["redis1", "redis2"];
pub(crate) const SENTINELS: [&str; 3] = ["redis1", "redis2", "sentinel"];
pub(crate) const BROKERS: [&str; 3] = ["broker1", "broker2", "broker3"];
pub(crate) const CLIENTS: [&str; 3] = ["client-a", "client-b", "client-c"];
pub(crate) const STORE: &str = "store";
/// The host of a client that opens connections and sends nothing.
pub(crate) const STRANGER: &str = "stranger";
/// The replica whose wall clock may jump.
pub(crate) const CLOCK_JUMPER: &str = "c2";
/// The library of Debian's package libfaketime.
const FAKETIME: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1";
const START_WITHIN: Duration = Duration::from_secs(60);

/// Everything that runs; a process that was killed is `None`.
pub(crate) struct Cluster {
    pub(crate) net: Network,
    pub(crate) dir: PathBuf,
    brokers: Vec<Option<Process>>,
    redis: Vec<Option<Process>>,
    _sentinels: Vec<Process>,
    _store: Process,
    replicas: Vec<Option<Process>>,
    stranger: Option<Process>,
}

fn index(names: &[&str], name: &str) -> usize {
    names.iter().position(|n| *n == name).unwrap_or_else(|| panic!("{name} is unknown"))
}

impl Cluster {
    pub(crate) fn start(dir: &Path) -> Self {
        fs::write(dir.join("secret"), "any").expect("the directory is writable");
        let hosts = [&REPLICAS[..], &SENTINELS, &BROKERS, &CLIENTS, &[STORE, STRANGER]].concat();
        let net = Network::new(&hosts);
        let kafka = prepare_brokers(&net, dir);
        let brokers = BROKERS.iter().map(|name| Some(start_broker(&net, dir, name))).collect();
        let redis = REDIS.iter().map(|name| Some(start_redis(&net, dir, name))).collect();
        let sentinels = SENTINELS.iter().map(|name| start_sentinel(&net, dir, name)).collect();
        let store = start_store(&net, dir);
        run(script("kafka.sh").arg("wait").arg(&kafka));
        let mut cluster = Self {
            net,
            dir: dir.to_owned(),
            brokers,
            redis,
            _sentinels: sentinels,
            _store: store,
            replicas: REPLICAS.iter().map(|_| None).collect(),
            stranger: None,
        };
        wait_until("the Sentinels know all of Redis", START_WITHIN, || cluster.redis_is_whole());
        REPLICAS.iter().for_each(|name| cluster.start_replica(name));
        REPLICAS.iter().for_each(|name| cluster.await_ready(name, 1));
        cluster
    }

    /// The bootstrap servers of the clients of a zone: its own replicas first.
    pub(crate) fn bootstrap(&self, zone: usize) -> String {
        let mut names = REPLICAS;
        names.rotate_left(2 * zone);
        names.map(|name| format!("{}:9092", self.net.address(name))).join(",")
    }

    pub(crate) fn tool(&self, tool: &str, arguments: &[&str]) -> String {
        let script = repository().join("scripts/kafka-tool.sh");
        let mut command = self.net.on(CLIENTS[0], &script.display().to_string());
        run(command.arg(tool).args(["--bootstrap-server", &self.bootstrap(0)]).args(arguments))
    }

    pub(crate) fn start_replica(&mut self, name: &str) {
        self.start_replica_with(name, None);
    }

    /// Starts a replica, with a limit on open files if one is given.
    pub(crate) fn start_replica_with(&mut self, name: &str, open_files: Option<u32>) {
        let file = self.write_config(name);
        let odradek = program("odradek").display().to_string();
        let mut command = match open_files {
            None => self.net.on(name, &odradek),
            Some(limit) => {
                let mut limited = self.net.on(name, "prlimit");
                limited.args([format!("--nofile={limit}"), odradek]);
                limited
            }
        };
        command.arg("serve").arg(file);
        if name == CLOCK_JUMPER && Path::new(FAKETIME).exists() {
            self.jump("+0");
            command.env("LD_PRELOAD", FAKETIME).env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
            command.env("FAKETIME_TIMESTAMP_FILE", self.dir.join("clock"));
            command.env("FAKETIME_CACHE_DURATION", "1");
        }
        self.replicas[index(&REPLICAS, name)] = Some(Process::start(name, &self.dir, &command));
    }

    fn write_config(&self, name: &str) -> PathBuf {
        let at = index(&REPLICAS, name);
        let zone = ZONES[at / 2];
        let address = self.net.address(name);
        let brokers = BROKERS.map(|broker| format!("{}:9092", self.net.address(broker)));
        let sentinels = SENTINELS.map(|redis| format!("{}:26379", self.net.address(redis)));
        let secret = self.dir.join("secret");
        let yaml = format!(
            "cluster: chaos\nzone: {zone}\nreplica: {name}\n\
             kafka: {{bootstrapServers: [{}]}}\n\
             listeners: {{bind: {address}, advertisedHost: {address}}}\n\
             admin: {{bind: \"{address}:8180\"}}\npeers: {{bind: \"{address}:8190\"}}\n\
             diskless: {{topics: [{{match: diskless}}]}}\nflush: {{interval: 50ms}}\n\
             store: s3://chaos/objects\ns3: {{endpoint: \"http://{}:9000\", region: us-east-1, \
             pathStyle: true, accessKeyId: any, secretAccessKeyFile: {}}}\n\
             coordinator: {{url: \"redis-sentinel://{}/main/0\", replicas: 1}}\n",
            brokers.join(", "),
            self.net.address(STORE),
            secret.display(),
            sentinels.join(","),
        );
        let file = self.dir.join(format!("{name}.yaml"));
        fs::write(&file, yaml).expect("the directory is writable");
        file
    }

    /// Moves the wall clock of [`CLOCK_JUMPER`], as `+3600` or `-60`, in seconds.
    pub(crate) fn jump(&self, by: &str) {
        fs::write(self.dir.join("clock"), format!("{by}\n")).expect("the directory is writable");
    }

    /// Number of times that a replica has become ready.
    pub(crate) fn times_ready(&self, name: &str) -> usize {
        let log = fs::read_to_string(self.dir.join(format!("{name}.log"))).unwrap_or_default();
        log.lines().filter(|line| line.contains(" ready ")).count()
    }

    pub(crate) fn await_ready(&mut self, name: &str, times: usize) {
        let log = self.dir.join(format!("{name}.log"));
        let process = self.replicas[index(&REPLICAS, name)].as_mut().expect("it was started");
        process.wait_while_alive("ready", START_WITHIN, || {
            let text = fs::read_to_string(&log).unwrap_or_default();
            text.lines().filter(|line| line.contains(" ready ")).count() >= times
        });
    }

    pub(crate) fn kill_replica(&mut self, name: &str) {
        // Dropping a process kills it with signal 9.
        self.replicas[index(&REPLICAS, name)] = None;
    }

    /// Ends a replica as Kubernetes does: SIGTERM, and time to drain.
    pub(crate) fn drain_replica(&mut self, name: &str) {
        let mut process = self.replicas[index(&REPLICAS, name)].take().expect("it runs");
        process.send_sigterm();
        process.wait_success(Duration::from_secs(70));
    }

    pub(crate) fn signal(&self, name: &str, signal: &str) {
        let process = self.replicas[index(&REPLICAS, name)].as_ref().expect("it runs");
        process.send_signal(signal);
    }

    pub(crate) fn kill_broker(&mut self, name: &str) {
        self.brokers[index(&BROKERS, name)] = None;
    }

    pub(crate) fn start_broker(&mut self, name: &str) {
        self.brokers[index(&BROKERS, name)] = Some(start_broker(&self.net, &self.dir, name));
    }

    pub(crate) fn signal_broker(&self, name: &str, signal: &str) {
        self.brokers[index(&BROKERS, name)].as_ref().expect("it runs").send_signal(signal);
    }

    /// Opens connections to each port of a replica that clients know, from a host of their own.
    pub(crate) fn open_idle_connections(&mut self, replica: &str, count: u32) {
        let script = repository().join("tests/chaos/connections.py");
        let mut command = self.net.on(STRANGER, "python3");
        command.arg(script).arg(count.to_string());
        command.args([9092, 9300].map(|port| format!("{}:{port}", self.net.address(replica))));
        let process = Process::start(STRANGER, &self.dir, &command);
        let (log, before) = (process.log_path().to_owned(), process.log().matches("open").count());
        let process = self.stranger.insert(process);
        process.wait_while_alive("connections", START_WITHIN, || {
            fs::read_to_string(&log).unwrap_or_default().matches("open").count() > before
        });
    }

    /// Kills the client of [`Cluster::open_idle_connections`].
    pub(crate) fn kill_idle_connections(&mut self) {
        self.stranger = None;
    }

    pub(crate) fn kill_redis(&mut self, name: &str) {
        self.redis[index(&REDIS, name)] = None;
    }

    pub(crate) fn start_redis(&mut self, name: &str) {
        self.redis[index(&REDIS, name)] = Some(start_redis(&self.net, &self.dir, name));
    }

    /// Sends a command to the Sentinel that shares its host with no Redis; empty when it does not answer.
    fn sentinel(&self, words: &[&str]) -> String {
        let mut command = self.net.on(CLIENTS[0], "redis-cli");
        command
            .args(["-h", &self.net.address(SENTINELS[2]).to_string(), "-p", "26379"])
            .args(words);
        let output = command.output().expect("redis-cli is there");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    pub(crate) fn redis_master(&self) -> &'static str {
        let said = self.sentinel(&["sentinel", "get-master-addr-by-name", "main"]);
        let is_it = |name: &&&str| said.starts_with(&format!("{}\n", self.net.address(name)));
        REDIS.iter().find(is_it).copied().unwrap_or_else(|| panic!("no master: {said}"))
    }

    /// Waits until both servers run and are in sync, so that the next fault is the only one.
    pub(crate) fn await_whole_redis(&self) {
        wait_until("Redis is whole", START_WITHIN, || self.redis_is_whole());
    }

    pub(crate) fn fail_redis_over(&self) {
        let master = self.redis_master();
        // Refused while the replica is not yet in sync.
        wait_until("Sentinel begins a failover", START_WITHIN, || {
            self.sentinel(&["sentinel", "failover", "main"]).starts_with("OK")
        });
        self.await_other_master(master);
    }

    pub(crate) fn await_other_master(&self, master: &str) {
        wait_until("Redis has failed over", START_WITHIN, || self.redis_master() != master);
    }

    pub(crate) fn redis_is_whole(&self) -> bool {
        let said = self.sentinel(&["info", "sentinel"]);
        said.contains("status=ok") && said.contains("slaves=1") && said.contains("sentinels=3")
    }

    /// Sets the latencies of the store, each as p50/p99 in milliseconds.
    pub(crate) fn set_store_latency(&self, put: &str, get: &str) {
        let request = format!(
            "exec 3<>/dev/tcp/{}/9000; printf 'GET /_control/latency?put={put}&get={get} HTTP/1.0\\r\\n\\r\\n' >&3; head -n 1 <&3",
            self.net.address(STORE)
        );
        let said = run(self.net.on(CLIENTS[0], "bash").args(["-c", &request]));
        assert!(said.contains(" 200 "), "{said}");
    }
}

/// Prepares brokers with addresses of the network instead of loopback.
fn prepare_brokers(net: &Network, dir: &Path) -> PathBuf {
    let kafka = dir.join("kafka");
    let mut prepare = script("kafka.sh");
    prepare.arg("prepare").arg(&kafka).arg("3").args([
        "offsets.topic.replication.factor=3",
        "default.replication.factor=3",
        "min.insync.replicas=2",
    ]);
    run(&mut prepare);
    let ports = fs::read_to_string(kafka.join("ports")).expect("it was written");
    let ports: Vec<&str> = ports.split_whitespace().collect();
    for (id, broker) in (1..).zip(BROKERS) {
        let file = kafka.join(format!("broker-{id}.properties"));
        let text = fs::read_to_string(&file).expect("it was written");
        let controller = format!("{}:9093", net.address(BROKERS[0]));
        let text = text.replace(&format!("127.0.0.1:{}", ports[0]), &controller);
        let own = format!("{}:9092", net.address(broker));
        let text = text.replace(&format!("127.0.0.1:{}", ports[id]), &own);
        fs::write(&file, text).expect("the directory is writable");
    }
    kafka
}

fn start_broker(net: &Network, dir: &Path, name: &str) -> Process {
    let script = repository().join("scripts/kafka.sh");
    let mut command = net.on(name, &script.display().to_string());
    command.arg("run").arg(dir.join("kafka")).arg((1 + index(&BROKERS, name)).to_string());
    command.env("KAFKA_HEAP", "-Xms64m -Xmx384m");
    Process::start(name, dir, &command)
}

fn start_redis(net: &Network, dir: &Path, name: &str) -> Process {
    let data = dir.join(name);
    fs::create_dir_all(&data).expect("the directory is writable");
    let config = data.join("redis.conf");
    // One that was killed as master comes back as one, until Sentinel notices.
    if !config.exists() {
        let address = net.address(name);
        let mut text = format!(
            "bind {address}\nport 6379\nprotected-mode no\nsave \"\"\nappendonly yes\n\
             appendfsync everysec\nmaxmemory-policy noeviction\ndir {}\n",
            data.display()
        );
        if name != REDIS[0] {
            text += &format!("replicaof {} 6379\n", net.address(REDIS[0]));
        }
        fs::write(&config, text).expect("the directory is writable");
    }
    Process::start(name, dir, net.on(name, "redis-server").arg(config))
}

fn start_sentinel(net: &Network, dir: &Path, name: &str) -> Process {
    let config = dir.join(format!("{name}-sentinel.conf"));
    let text = format!(
        "bind {}\nport 26379\nprotected-mode no\nsentinel monitor main {} 6379 2\n\
         sentinel down-after-milliseconds main 2000\nsentinel failover-timeout main 10000\n",
        net.address(name),
        net.address(REDIS[0]),
    );
    fs::write(&config, text).expect("the directory is writable");
    let mut command = net.on(name, "redis-server");
    Process::start(&format!("{name}-sentinel"), dir, command.arg(config).arg("--sentinel"))
}

fn start_store(net: &Network, dir: &Path) -> Process {
    let mut command = net.on(STORE, &program("slow-s3").display().to_string());
    let listen = format!("{}:9000", net.address(STORE));
    command.args(["--listen", &listen, "--put", "20/80", "--get", "10/40"]);
    Process::start(STORE, dir, &command)
}
