//! A Redis without persistence, as the coordinator demands it: it refuses rather than evicts.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::ports::free_ports;
use super::process::Process;
use super::require;

#[derive(Debug)]
pub(crate) struct Redis {
    port: u16,
    _process: Process,
}

impl Redis {
    pub(crate) fn start(dir: &Path) -> Self {
        require(Path::new("redis-server"));
        let port = free_ports(1);
        let mut command = Command::new("redis-server");
        command.args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", ""]);
        command.args(["--appendonly", "no", "--maxmemory-policy", "noeviction"]);
        let mut process = Process::start("redis", dir, &command);
        process.wait_while_alive("PONG", Duration::from_secs(20), || pongs(port));
        Self { port, _process: process }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The `coordinator` key of a configuration that keeps its order here.
    pub(crate) fn yaml(&self) -> String {
        format!("coordinator: redis://127.0.0.1:{}/0\n", self.port)
    }
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
