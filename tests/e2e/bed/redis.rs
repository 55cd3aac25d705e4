//! A Redis without persistence, as the coordinator demands it: it refuses rather than evicts.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::ports::free_ports;
use super::process::Process;
use super::require;

#[derive(Debug)]
pub(crate) struct Redis {
    port: u16,
    dir: PathBuf,
    process: Process,
}

impl Redis {
    pub(crate) fn start(dir: &Path) -> Self {
        require(Path::new("redis-server"));
        let port = free_ports(1);
        Self { port, dir: dir.to_owned(), process: serve(dir, port) }
    }

    /// Everything that it knows now.
    pub(crate) fn snapshot(&self) -> Vec<u8> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("it listens");
        stream.write_all(b"SAVE\r\n").expect("it reads");
        let mut answer = [0; 5];
        stream.read_exact(&mut answer).expect("it answers");
        assert_eq!(&answer, b"+OK\r\n");
        std::fs::read(self.dir.join("dump.rdb")).expect("it was written")
    }

    /// Dies, and comes back with what it knew then.
    pub(crate) fn restore(&mut self, snapshot: &[u8]) {
        self.process.kill9();
        std::fs::write(self.dir.join("dump.rdb"), snapshot).expect("the directory is ours");
        self.process = serve(&self.dir, self.port);
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The `coordinator` key of a configuration that keeps its order here.
    pub(crate) fn yaml(&self) -> String {
        format!("coordinator: redis://127.0.0.1:{}/0\n", self.port)
    }
}

fn serve(dir: &Path, port: u16) -> Process {
    let mut command = Command::new("redis-server");
    command.args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", ""]);
    command.args(["--appendonly", "no", "--maxmemory-policy", "noeviction"]);
    command.arg("--dir").arg(dir);
    let mut process = Process::start("redis", dir, &command);
    process.wait_while_alive("PONG", Duration::from_secs(20), || pongs(port));
    process
}

fn pongs(port: u16) -> bool {
    let ping = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        stream.write_all(b"PING\r\n")?;
        let mut answer = [0; 7];
        stream.read_exact(&mut answer)?;
        Ok(&answer == b"+PONG\r\n")
    };
    ping().unwrap_or(false)
}
