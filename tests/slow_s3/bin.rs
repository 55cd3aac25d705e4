//! `slow-s3`: an S3 server in memory that is as slow, and as faulty, as it is told to be.
//!
//! ```text
//! slow-s3 --listen 127.0.0.1:9000 --put 65/200 --get 20/80 --keep-bytes 512MiB
//! ```
//!
//! For benchmarks, where the store's latency must be known, and for tests, where a call must fail
//! at a given moment. `server/control.rs` says how it is told what to do while it runs.

mod server;

use std::net::SocketAddr;

use clap::Parser;
use server::{Latency, Options, Server, Verb};
use tokio::net::TcpListener;
use tokio::task::LocalSet;

/// An S3 server in memory with latency and faults on demand.
#[derive(Debug, Parser)]
#[command(name = "slow-s3")]
struct Arguments {
    /// Where it listens; port 0 takes a free one, which is printed.
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
    /// What the latencies are drawn from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many bytes of objects are kept, such as 512MiB; without it, all. Of the oldest objects
    /// beyond it only key and size remain, and a GET of one is answered with 404.
    #[arg(long, value_parser = parse_size)]
    keep_bytes: Option<u64>,
}

/// Bytes, with an optional KiB, MiB or GiB.
fn parse_size(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err("a size is a number, and KiB, MiB or GiB".to_owned()),
    };
    let number: u64 = digits.parse().map_err(|_not_one| "not a number".to_owned())?;
    number.checked_mul(unit).ok_or_else(|| "too large".to_owned())
}

#[expect(clippy::print_stdout, reason = "whoever started it waits for this line")]
fn main() -> anyhow::Result<()> {
    let told = Arguments::parse();
    let mut options = Options::new(told.seed);
    options.keep_bytes = told.keep_bytes;
    let latencies = [told.put, told.get, told.head, told.delete, told.list];
    for (verb, latency) in Verb::ALL.into_iter().zip(latencies) {
        options.set_latency(verb, latency);
    }
    // One thread: it shares a machine with what is measured, and needs no locks this way.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, async {
        let listener = TcpListener::bind(told.listen).await?;
        println!("slow-s3 listens at {}", listener.local_addr()?);
        Server::new(options).serve(listener).await;
        Ok(())
    })
}
