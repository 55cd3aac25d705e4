//! Redis servers.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::ports::free_ports;
use crate::process::Process;
use crate::require;

/// One Redis server. It is killed when dropped.
#[derive(Debug)]
pub struct Redis {
    port: u16,
    dir: PathBuf,
    options: Vec<String>,
    process: Process,
}

impl Redis {
    /// Starts a server without persistence that refuses writes rather than evict keys, as the
    /// coordinator requires it; `dir` gets its log.
    pub fn start(dir: &Path) -> Self {
        Self::start_at(dir, free_ports(1), &["--maxmemory-policy", "noeviction"])
    }

    /// Starts a server at `port` with more options on its command line; the first may be
    /// `--sentinel`. Other servers have no persistence unless the options enable it.
    pub fn start_at(dir: &Path, port: u16, options: &[&str]) -> Self {
        require(Path::new("redis-server"));
        let options: Vec<String> = options.iter().map(|&option| option.to_owned()).collect();
        // A Sentinel must be able to rewrite its configuration file.
        std::fs::write(dir.join("redis.conf"), "").expect("the directory is writable");
        let process = serve(dir, port, &options);
        Self { port, dir: dir.to_owned(), options, process }
    }

    /// Kills the server with SIGKILL.
    pub fn kill9(&mut self) {
        self.process.kill9();
    }

    /// Stops the server with SIGSTOP: its connections stay open and nothing is answered.
    pub fn pause(&self) {
        self.process.send_signal("STOP");
    }

    /// Continues a server that was stopped.
    pub fn resume(&self) {
        self.process.send_signal("CONT");
    }

    /// Kills the server and starts it again at the same port, with the dump that is on its disk.
    pub fn restart(&mut self) {
        self.kill9();
        self.process = serve(&self.dir, self.port, &self.options);
    }

    /// Kills the server and starts it again with an empty database.
    pub fn restart_empty(&mut self) {
        self.kill9();
        // There is no dump before the first snapshot.
        let _ = std::fs::remove_file(self.dump());
        self.restart();
    }

    /// Saves the whole database and returns the dump.
    pub fn snapshot(&self) -> Vec<u8> {
        let answer = ask(self.port, b"SAVE\r\n", Duration::from_secs(10));
        assert_eq!(answer.expect("Redis answers"), *b"+OK\r\n");
        std::fs::read(self.dump()).expect("Redis wrote a dump")
    }

    /// Kills the server and starts it again with a dump that [`Redis::snapshot`] returned.
    pub fn restore(&mut self, dump: &[u8]) {
        self.kill9();
        std::fs::write(self.dump(), dump).expect("the directory is writable");
        self.restart();
    }

    fn dump(&self) -> PathBuf {
        self.dir.join("dump.rdb")
    }

    /// The id of the process.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// The port at which it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns the `coordinator` key of a configuration that uses this server.
    pub fn yaml(&self) -> String {
        format!("coordinator: redis://127.0.0.1:{}/0\n", self.port)
    }
}

fn serve(dir: &Path, port: u16, options: &[String]) -> Process {
    let mut command = Command::new("redis-server");
    command.arg(dir.join("redis.conf")).args(["--bind", "127.0.0.1", "--port", &port.to_string()]);
    if options.first().is_none_or(|option| option != "--sentinel") {
        command.args(["--save", "", "--appendonly", "no"]);
    }
    command.arg("--dir").arg(dir).args(options);
    let mut process = Process::start("redis", dir, &command);
    let answers = || ask(port, b"PING\r\n", Duration::from_secs(1)).is_ok_and(|a| a == *b"+PONG");
    process.wait_while_alive("answer to PING", Duration::from_secs(30), answers);
    process
}

/// Sends an inline command and returns the first five bytes of the answer.
fn ask(port: u16, command: &[u8], timeout: Duration) -> std::io::Result<[u8; 5]> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(timeout))?;
    stream.write_all(command)?;
    let mut answer = [0; 5];
    stream.read_exact(&mut answer)?;
    Ok(answer)
}
