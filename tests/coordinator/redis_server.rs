//! Redis servers of one test each.

use std::net::TcpListener;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

use tempfile::TempDir;
use testbed::redis::Redis;

/// A server with a directory of its own; both are removed when it is dropped.
#[derive(Debug)]
pub(crate) struct RedisServer {
    redis: Redis,
    _dir: TempDir,
}

impl RedisServer {
    /// Starts a server, or returns `None` when `ODRADEK_SKIP_REDIS=1`.
    pub(crate) fn start() -> Option<Self> {
        Self::start_with(&[])
    }

    /// Starts a server with more options on its command line.
    pub(crate) fn start_with(options: &[&str]) -> Option<Self> {
        Self::start_on(free_port(), options)
    }

    /// Starts a server with more options at `port`.
    pub(crate) fn start_on(port: u16, options: &[&str]) -> Option<Self> {
        if std::env::var_os("ODRADEK_SKIP_REDIS").is_some_and(|v| v == "1") {
            return None;
        }
        let dir = tempfile::tempdir().expect("a temporary directory");
        Some(Self { redis: Redis::start_at(dir.path(), port, options), _dir: dir })
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port())
    }

    /// Runs a command and returns its reply.
    pub(crate) fn query<T: redis::FromRedisValue>(&self, command: &[&str]) -> T {
        self.try_query(command).unwrap_or_else(|e| panic!("{command:?}: {e}"))
    }

    pub(crate) fn try_query<T: redis::FromRedisValue>(
        &self,
        command: &[&str],
    ) -> redis::RedisResult<T> {
        let client = redis::Client::open(self.url())?;
        let mut connection = client.get_connection_with_timeout(Duration::from_secs(2))?;
        let mut cmd = redis::cmd(command[0]);
        cmd.arg(&command[1..]);
        cmd.query(&mut connection)
    }
}

impl Deref for RedisServer {
    type Target = Redis;

    fn deref(&self) -> &Redis {
        &self.redis
    }
}

impl DerefMut for RedisServer {
    fn deref_mut(&mut self) -> &mut Redis {
        &mut self.redis
    }
}

/// Returns a port that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port()
}

/// Waits until `done` holds, for at most 30 seconds.
pub(crate) fn wait_until(what: &str, done: impl FnMut() -> bool) {
    testbed::process::wait_until(what, Duration::from_secs(30), done);
}
