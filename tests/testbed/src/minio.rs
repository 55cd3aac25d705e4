//! MinIO, a strict S3 server: it checks signatures and checksums.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::ports::free_ports;
use crate::process::Process;
use crate::{cache, require};

pub const ACCESS_KEY: &str = "AKIDTEST";
pub const SECRET_KEY: &str = "SECRETTEST";
pub const BUCKET: &str = "odradek";

#[derive(Debug)]
pub struct Minio {
    port: u16,
    secret_file: PathBuf,
    _process: Process,
}

impl Minio {
    pub fn start(dir: &Path) -> Self {
        let binary = cache().join("bin/minio");
        require(&binary);
        Self::start_at(dir, free_ports(1), &binary)
    }

    fn start_at(dir: &Path, port: u16, binary: &Path) -> Self {
        let data = dir.join("minio");
        // A directory at the top of its only drive is a bucket.
        fs::create_dir_all(data.join(BUCKET)).expect("the directory is writable");
        let secret_file = dir.join("s3-secret");
        fs::write(&secret_file, SECRET_KEY).expect("the directory is writable");

        let mut command = Command::new(binary);
        command.args(["server", "--quiet", "--address", &format!("127.0.0.1:{port}")]).arg(data);
        command.env("MINIO_ROOT_USER", ACCESS_KEY).env("MINIO_ROOT_PASSWORD", SECRET_KEY);
        for switch in ["MINIO_BROWSER", "MINIO_UPDATE", "MINIO_CALLHOME_ENABLE"] {
            command.env(switch, "off");
        }
        // Its counters need no authentication.
        command.env("MINIO_PROMETHEUS_AUTH_TYPE", "public");
        let mut process = Process::start("minio", dir, &command);
        process.wait_while_alive("answer", Duration::from_secs(60), || is_healthy(port));
        Self { port, secret_file, _process: process }
    }

    /// The URL of its S3 API.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Returns how many requests of an S3 API, such as `putobject`, it has answered.
    pub fn requests(&self, api: &str) -> u64 {
        let text = self.metrics();
        let label = format!("api=\"{api}\"");
        let is_it =
            |line: &&str| line.starts_with("minio_s3_requests_total{") && line.contains(&label);
        text.lines().filter(is_it).map(value).sum()
    }

    /// Returns how many bytes it has received, request heads included.
    pub fn received_bytes(&self) -> u64 {
        let text = self.metrics();
        let is_it = |line: &&str| line.starts_with("minio_s3_traffic_received_bytes");
        text.lines().filter(is_it).map(value).sum()
    }

    fn metrics(&self) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("it listens");
        let request = "GET /minio/v2/metrics/cluster HTTP/1.0\r\nhost: minio\r\n\r\n";
        stream.write_all(request.as_bytes()).expect("it reads");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("it answers");
        assert!(text.contains(" 200 OK"), "{text}");
        text
    }

    /// Returns the `store` and `s3` keys of a configuration that uses `prefix` of the bucket.
    pub fn yaml(&self, prefix: &str) -> String {
        format!(
            "store: s3://{BUCKET}/{prefix}\n\
             s3:\n  endpoint: \"http://127.0.0.1:{}\"\n  region: us-east-1\n  pathStyle: true\n  \
             accessKeyId: {ACCESS_KEY}\n  secretAccessKeyFile: {}\n",
            self.port,
            self.secret_file.display(),
        )
    }
}

/// Parses the value of a line of metrics.
fn value(line: &str) -> u64 {
    let number = line.rsplit(' ').next().and_then(|text| text.parse::<f64>().ok());
    number.expect("a metric ends with its value") as u64
}

/// Returns whether it takes objects; `health/live` says so before it does.
fn is_healthy(port: u16) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        stream.write_all(b"GET /minio/health/cluster HTTP/1.1\r\nHost: minio\r\n\r\n")?;
        let mut answer = [0; 12];
        stream.read_exact(&mut answer)?;
        Ok(answer.ends_with(b" 200"))
    };
    ask().unwrap_or(false)
}
