//! Benchmarks and demos that need more than a shell script: `cargo xtask --help` lists them.
#![expect(clippy::print_stdout, reason = "printing is what these programs are for")]

mod bench;
mod build;
mod terminal;
mod zones;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", about = "Benchmarks and demos of Odradek")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Runs a benchmark; its environment variables are in its own help.
    #[command(subcommand)]
    Bench(Benchmark),
    /// Three zones on one machine: `make demo-zones`.
    ///
    /// `ZONES_DEMO=once` kills and starts two zones and ends with an error when a record was lost;
    /// `DEMO_DIR` is the directory (.demo-zones), which each run empties; `ODRADEK_BIN` is a binary
    /// to run instead of a fresh build.
    DemoZones,
}

#[derive(Debug, Subcommand)]
enum Benchmark {
    /// Produce throughput and ack latency of stock producers on three paths: `make bench`.
    ///
    /// `BENCH_SECONDS=10` at full speed for each cell, and half of it at 1,000 records a second;
    /// `BENCH_BACKEND=embedded` or `redis-s3`; `BENCH_CLIENTS="java librdkafka franz-go"`;
    /// `ODRADEK_BIN` is a binary to run instead of a release build.
    Paths,
    /// Ack latency, PUTs, CPU and pipelining of diskless produce on a store of known latency: `make
    /// bench-produce`.
    ///
    /// `BENCH_SECONDS=20` measured for each row, after 3 s of warm-up; `BENCH_ONLY="latency
    /// throughput pipelining"`; `ODRADEK_BIN` and `SLOW_S3_BIN` are binaries to run instead of
    /// release builds.
    Produce,
    /// End-to-end latency, GETs and replay of diskless topics on a store of known latency: `make
    /// bench-fetch`.
    ///
    /// `BENCH_SECONDS=15` measured for each row, once every consumer gets records; `BENCH_MIB=1024`
    /// of history are replayed; `BENCH_ONLY="latency fanout catchup backfill"`; `ODRADEK_BIN` and
    /// `SLOW_S3_BIN` are binaries to run instead of release builds.
    Fetch,
    /// Part-commits, finds, memory and the longest script of the batch coordinator on one Redis and
    /// on a Redis Cluster of three masters, with 1, 4 and 16 shards: `make bench-coordinator`.
    ///
    /// `BENCH_SECONDS=3` measured for each row.
    Coordinator,
    /// Ack latency of other shards' producers while a master of a Redis Cluster stands still: `make
    /// bench-isolation`.
    ///
    /// `BENCH_SECONDS=20` before the fault and as long during it, for each row; `ODRADEK_BIN` and
    /// `SLOW_S3_BIN` are binaries to run instead of release builds.
    Isolation,
    /// Memory of a replica with many connections that are idle, produce or wait: `make
    /// bench-connections`.
    ///
    /// `BENCH_CONNECTIONS=10000`, or as many as the limit on open files allows; `BENCH_SECONDS=20`
    /// busy for each row; `ODRADEK_BIN` and `SLOW_S3_BIN` are binaries to run instead of release
    /// builds.
    Connections,
}

fn main() -> ExitCode {
    let done = match Arguments::parse().task {
        Task::Bench(Benchmark::Paths) => bench::paths::run(),
        Task::Bench(Benchmark::Produce) => bench::produce::run(),
        Task::Bench(Benchmark::Fetch) => bench::fetch::run(),
        Task::Bench(Benchmark::Coordinator) => bench::coordinator::run(),
        Task::Bench(Benchmark::Isolation) => bench::isolation::run(),
        Task::Bench(Benchmark::Connections) => bench::connections::run(),
        Task::DemoZones => zones::run(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            terminal::fail(&why);
            ExitCode::FAILURE
        }
    }
}
