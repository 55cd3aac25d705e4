//! `slow-s3`, an S3 server in memory that is as slow and as faulty as a test asks for.
//!
//! ```text
//! slow-s3 --listen 127.0.0.1:9000 --put 65/200 --get 20/80 --keep-bytes 512MiB
//! ```
//!
//! Benchmarks use it because its latency is known, tests because it fails at a given moment.
//! `server/control.rs` documents how it is controlled while it runs.

mod server;

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;
use std::time::Duration;

use clap::Parser;
use server::{Latency, Operation, Options, Server};
use tokio::net::TcpListener;
use tokio::task::LocalSet;

use crate::Testbed;
use crate::ports::free_ports;
use crate::process::{Process, wait_until};

/// An S3 server in memory with latency and faults on demand.
#[derive(Debug, Parser)]
#[command(name = "slow-s3")]
pub struct Arguments {
    /// The address to listen at; port 0 takes a free port, which is printed.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Latency of PUT as p50/p99 in milliseconds.
    #[arg(long, default_value_t)]
    put: Latency,
    /// Latency of GET.
    #[arg(long, default_value_t)]
    get: Latency,
    /// Latency of HEAD.
    #[arg(long, default_value_t)]
    head: Latency,
    /// Latency of DELETE.
    #[arg(long, default_value_t)]
    delete: Latency,
    /// Latency of `ListObjectsV2`.
    #[arg(long, default_value_t)]
    list: Latency,
    /// The seed of the generator that draws the latencies.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Bytes of objects that are kept, such as 512MiB; without it, all. Of the oldest objects
    /// beyond that only key and size are kept, and a GET of one is answered with 404.
    #[arg(long, value_parser = parse_size)]
    keep_bytes: Option<u64>,
}

/// Parses a number of bytes with an optional KiB, MiB or GiB.
fn parse_size(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err("expected a number, optionally with KiB, MiB or GiB".to_owned()),
    };
    let number: u64 = digits.parse().map_err(|_| "not a number".to_owned())?;
    number.checked_mul(unit).ok_or_else(|| "too large".to_owned())
}

impl Arguments {
    fn options(&self) -> Options {
        let mut options = Options::new(self.seed);
        options.keep_bytes = self.keep_bytes;
        let latencies = [self.put, self.get, self.head, self.delete, self.list];
        for (operation, latency) in Operation::ALL.into_iter().zip(latencies) {
            options.set_latency(operation, latency);
        }
        options
    }

    /// Serves on the current thread until the process ends; `report` gets the address.
    ///
    /// # Errors
    ///
    /// Fails when the address cannot be bound.
    pub fn serve(&self, report: impl FnOnce(SocketAddr)) -> std::io::Result<()> {
        // One thread: it shares a machine with what is measured, and needs no locks this way.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        LocalSet::new().block_on(&runtime, async {
            let listener = TcpListener::bind(self.listen).await?;
            report(listener.local_addr()?);
            Server::new(self.options()).serve(listener).await;
            Ok(())
        })
    }
}

/// A running server and a client of its control API.
#[derive(Debug)]
pub struct SlowS3 {
    address: SocketAddr,
    secret_file: PathBuf,
    process: Option<Process>,
}

impl SlowS3 {
    /// Starts a server for one test with command-line arguments such as `--put 65/200`. It runs on
    /// a thread of the test binary, and ends with it.
    pub fn start(arguments: &[&str]) -> Self {
        let arguments = Arguments::parse_from([&["slow-s3"], arguments].concat());
        let (sender, address) = mpsc::channel();
        std::thread::spawn(move || {
            let report = |address| sender.send(address).expect("the caller waits for it");
            arguments.serve(report).expect("a loopback port is free");
        });
        let address = address.recv().expect("the server starts");
        Self {
            address,
            secret_file: write_secret(&Testbed::get().test_dir("slow-s3")),
            process: None,
        }
    }

    /// Starts a server as a process of its own; `dir` gets its log.
    pub fn spawn(binary: &Path, dir: &Path, arguments: &[&str]) -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], free_ports(1)));
        let mut command = Command::new(binary);
        command.args(["--listen", &address.to_string()]).args(arguments);
        let mut process = Process::start("slow-s3", dir, &command);
        let listens = || TcpStream::connect(address).is_ok();
        process.wait_while_alive("port", Duration::from_secs(20), listens);
        Self { address, secret_file: write_secret(dir), process: Some(process) }
    }

    /// Address on which it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The process id, when it is a process of its own.
    pub fn id(&self) -> Option<u32> {
        self.process.as_ref().map(Process::id)
    }

    /// Returns the `store` and `s3` keys of a configuration that keeps its objects here.
    pub fn yaml(&self) -> String {
        format!(
            "store: s3://slow/objects\n\
             s3:\n  endpoint: \"http://{}\"\n  region: us-east-1\n  pathStyle: true\n  \
             accessKeyId: ANY\n  secretAccessKeyFile: {}\n",
            self.address,
            self.secret_file.display(),
        )
    }

    /// Sends a request to the control API and returns the answer.
    ///
    /// # Panics
    ///
    /// Panics when the server refuses the request.
    pub fn control(&self, request: &str) -> String {
        let ask = || -> std::io::Result<String> {
            let mut stream = TcpStream::connect(self.address)?;
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

    /// Returns a counter, such as `put.landed-unanswered`; 0 while there is none of that name.
    pub fn counter(&self, name: &str) -> u64 {
        let text = self.control("counters");
        let mut rows = text.lines().filter_map(|line| line.split_once(' '));
        let row = rows.find(|(row, _)| *row == name);
        row.map_or(0, |(_, value)| value.parse().expect("a counter is a number"))
    }

    /// Waits until `done` holds of a counter.
    pub fn wait_for(&self, name: &str, limit: Duration, done: impl Fn(u64) -> bool) {
        wait_until(&format!("slow-s3's {name}"), limit, || done(self.counter(name)));
    }
}

/// Writes a secret access key, of which the server does not check the value.
fn write_secret(dir: &Path) -> PathBuf {
    let file = dir.join("s3-secret");
    fs::write(&file, "ANY").expect("the directory is writable");
    file
}
