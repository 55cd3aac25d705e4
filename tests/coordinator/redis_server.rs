//! Redis servers as children, each on a free port, gone with the test.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const BINARY: &str = "/usr/bin/redis-server";

/// A server of its own; killed when dropped, or when the test dies.
#[derive(Debug)]
pub(crate) struct RedisServer {
    child: Child,
    pub(crate) port: u16,
    dir: tempfile::TempDir,
    options: Vec<String>,
}

impl RedisServer {
    /// `None` only when the tests are told to go without.
    pub(crate) fn start() -> Option<Self> {
        Self::start_with(&[])
    }

    /// With more options on the command line.
    pub(crate) fn start_with(options: &[&str]) -> Option<Self> {
        Self::start_on(free_port(), options)
    }

    pub(crate) fn start_on(port: u16, options: &[&str]) -> Option<Self> {
        if std::env::var_os("ODRADEK_SKIP_REDIS").is_some_and(|v| v == "1") {
            return None;
        }
        assert!(
            Path::new(BINARY).exists(),
            "{BINARY} is missing: apt-get install redis-server, or set ODRADEK_SKIP_REDIS=1"
        );
        let dir = tempfile::tempdir().expect("a directory");
        // --sentinel wants a configuration file that it may rewrite.
        let config = dir.path().join("redis.conf");
        std::fs::write(&config, "").expect("a file");
        let options: Vec<String> = options.iter().map(|&option| option.to_owned()).collect();
        let child = spawn(dir.path(), port, &options);
        let server = Self { child, port, dir, options };
        server.wait_until_it_answers();
        Some(server)
    }

    /// As `kill -9` does it.
    pub(crate) fn kill(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }

    /// Begins anew, at the same port, with what lies on its disk.
    pub(crate) fn restart(&mut self) {
        self.kill();
        self.child = spawn(self.dir.path(), self.port, &self.options);
        self.wait_until_it_answers();
    }

    /// Everything that it knows now.
    pub(crate) fn snapshot(&self) -> Vec<u8> {
        self.ask::<String>(&["SAVE"]);
        std::fs::read(self.dir.path().join("dump.rdb")).expect("a dump")
    }

    /// Begins anew with what it knew then.
    pub(crate) fn restore(&mut self, snapshot: &[u8]) {
        self.kill();
        std::fs::write(self.dir.path().join("dump.rdb"), snapshot).expect("a dump");
        self.restart();
    }

    /// Begins anew and knows nothing.
    pub(crate) fn restart_empty(&mut self) {
        self.kill();
        std::fs::remove_file(self.dir.path().join("dump.rdb")).ok();
        self.restart();
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    /// Runs a command and waits for its answer.
    pub(crate) fn ask<T: redis::FromRedisValue>(&self, command: &[&str]) -> T {
        self.try_ask(command).unwrap_or_else(|e| panic!("{command:?}: {e}"))
    }

    pub(crate) fn try_ask<T: redis::FromRedisValue>(
        &self,
        command: &[&str],
    ) -> redis::RedisResult<T> {
        let client = redis::Client::open(self.url())?;
        let mut connection = client.get_connection_with_timeout(Duration::from_secs(2))?;
        let mut cmd = redis::cmd(command[0]);
        cmd.arg(&command[1..]);
        cmd.query(&mut connection)
    }

    fn wait_until_it_answers(&self) {
        wait_until("the server answers", || self.try_ask::<String>(&["PING"]).is_ok());
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn spawn(dir: &Path, port: u16, options: &[String]) -> Child {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", BINARY]);
    command.arg(dir.join("redis.conf")).args(["--port", &port.to_string()]);
    command.args(["--bind", "127.0.0.1"]);
    if !options.iter().any(|option| option == "--sentinel") {
        command.args(["--save", "", "--appendonly", "no"]);
    }
    command.args(options).current_dir(dir);
    let command = command.stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("setpriv and redis-server run")
}

/// A port that nobody listened on a moment ago.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port()
}

/// Looks until it is so, for at most half a minute.
#[expect(clippy::disallowed_methods, reason = "waits for another process, outside any runtime")]
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..600 {
        if is_so() {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("gave up waiting until {what}");
}
