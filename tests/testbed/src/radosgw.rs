//! Ceph's S3 gateway, a second reading of the S3 protocol.

use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use crate::ports::free_ports;
use crate::process::Process;
use crate::{require, script};

pub const ACCESS_KEY: &str = "AKIDTEST";
pub const SECRET_KEY: &str = "SECRETTEST";

/// A gateway with a cluster of its own in memory, and no bucket. It is killed when dropped.
#[derive(Debug)]
pub struct Radosgw {
    port: u16,
    _process: Process,
}

impl Radosgw {
    /// Starts the cluster and the gateway; `dir` gets their configuration and logs.
    pub fn start(dir: &Path) -> Self {
        for program in ["radosgw", "ceph-mon", "ceph-osd", "ceph-authtool"] {
            require(program.as_ref());
        }
        let port = free_ports(1);
        let mut command = script("radosgw.sh");
        command.arg(dir).arg(port.to_string()).args([ACCESS_KEY, SECRET_KEY]);
        let mut process = Process::start("radosgw", dir, &command);
        let listens = || TcpStream::connect(("127.0.0.1", port)).is_ok();
        process.wait_while_alive("port", Duration::from_secs(120), listens);
        Self { port, _process: process }
    }

    /// The URL of its S3 API.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}
