//! The S3 server of [`testbed::slow_s3`] as a program.

use clap::Parser as _;
use testbed::slow_s3::Arguments;

#[expect(clippy::print_stdout, reason = "the line tells the parent process the port")]
fn main() -> std::io::Result<()> {
    Arguments::parse().serve(|address| println!("slow-s3 listens at {address}"))
}
