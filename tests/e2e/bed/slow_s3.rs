//! `slow-s3`, the S3 that is as slow and as faulty as a test wants it. `tests/slow_s3/server/control.rs`
//! says what can be scripted and counted.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::Bed;
use super::ports::free_ports;
use super::process::{Process, wait_until};

/// A server of one test; what it stored is gone with it.
#[derive(Debug)]
pub(crate) struct SlowS3 {
    port: u16,
    secret_file: PathBuf,
    _process: Process,
}

impl SlowS3 {
    /// Starts one with these command-line arguments, such as `--put 65/200`.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let dir = Bed::get().test_dir("slow-s3");
        let binary = Path::new(env!("CARGO_BIN_EXE_odradek")).with_file_name("examples/slow-s3");
        assert!(binary.exists(), "it is missing: cargo build --all-features --example slow-s3");
        let secret_file = dir.join("s3-secret");
        fs::write(&secret_file, "ANY").expect("the bed's directory is ours");
        let port = free_ports(1);
        let mut command = Command::new(binary);
        command.args(["--listen", &format!("127.0.0.1:{port}")]).args(arguments);
        let mut process = Process::start("slow-s3", &dir, &command);
        let listens = || TcpStream::connect(("127.0.0.1", port)).is_ok();
        process.wait_while_alive("port", Duration::from_secs(20), listens);
        Self { port, secret_file, _process: process }
    }

    /// The `store` and `s3` keys of a configuration that keeps its objects here.
    pub(crate) fn yaml(&self) -> String {
        format!(
            "store: s3://slow/objects\n\
             s3:\n  endpoint: \"http://127.0.0.1:{}\"\n  region: us-east-1\n  pathStyle: true\n  \
             accessKeyId: ANY\n  secretAccessKeyFile: {}\n",
            self.port,
            self.secret_file.display(),
        )
    }

    /// Asks the control API; what it says.
    pub(crate) fn control(&self, request: &str) -> String {
        let ask = || -> std::io::Result<String> {
            let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
            write!(stream, "GET /_control/{request} HTTP/1.0\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        };
        let answer = ask().unwrap_or_else(|e| panic!("slow-s3: {request}: {e}"));
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
        assert!(head.contains(" 200 "), "slow-s3: {request}: {answer}");
        body.to_owned()
    }

    /// A counter, such as `put.landed-unanswered`; 0 when there is none of that name yet.
    pub(crate) fn counter(&self, name: &str) -> u64 {
        let text = self.control("counters");
        let mut rows = text.lines().filter_map(|line| line.split_once(' '));
        let row = rows.find(|(row, _)| *row == name);
        row.map_or(0, |(_, value)| value.parse().expect("a counter is a number"))
    }

    /// Waits until a counter is as wanted.
    pub(crate) fn wait_for(&self, name: &str, limit: Duration, wanted: impl Fn(u64) -> bool) {
        wait_until(&format!("slow-s3's {name}"), limit, || wanted(self.counter(name)));
    }
}
