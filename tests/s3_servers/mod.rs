//! Real S3 servers on loopback, each for one test. They die with the thread that started them.

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use odradek::store::s3::{S3Credentials, S3Options, S3Store};
use s3::{Bucket, Region, creds::Credentials};
use tempfile::TempDir;

const ACCESS_KEY: &str = "AKIDTEST";
const SECRET_KEY: &str = "SECRETTEST";
pub(crate) const BUCKET: &str = "odradek-tests";

/// A server with an empty bucket.
pub(crate) struct S3Server {
    pub(crate) endpoint: String,
    process: Child,
    _dir: TempDir,
}

impl S3Server {
    /// MinIO: checks signatures and checksums strictly. None when tests of S3 are switched off.
    pub(crate) async fn minio() -> Option<Self> {
        let home = std::env::var("HOME").expect("HOME is set");
        let binary = Path::new(&home).join(".cache/odradek/bin/minio");
        Self::start(std::slice::from_ref(&binary), Duration::from_secs(30), |dir, port| {
            let mut command = Command::new("setpriv");
            command.args(["--pdeathsig", "KILL"]).arg(&binary).args(["server", "--quiet"]);
            command.arg("--address").arg(format!("127.0.0.1:{port}")).arg(dir.join("data"));
            command.env("MINIO_ROOT_USER", ACCESS_KEY).env("MINIO_ROOT_PASSWORD", SECRET_KEY);
            command.env("MINIO_BROWSER", "off").env("MINIO_UPDATE", "off");
            command
        })
        .await
    }

    /// Ceph's gateway: another reading of the protocol. None when tests of S3 are switched off.
    pub(crate) async fn radosgw() -> Option<Self> {
        let needed = ["radosgw", "ceph-mon", "ceph-osd", "ceph-authtool"];
        let needed = needed.map(|name| Path::new("/usr/bin").join(name));
        Self::start(&needed, Duration::from_secs(120), |dir, port| {
            let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/radosgw.sh");
            let mut command = Command::new("setpriv");
            command.args(["--pdeathsig", "KILL", script]).arg(dir).arg(port.to_string());
            command.args([ACCESS_KEY, SECRET_KEY]);
            command
        })
        .await
    }

    async fn start(
        needed: &[PathBuf],
        patience: Duration,
        command: impl FnOnce(&Path, u16) -> Command,
    ) -> Option<Self> {
        if std::env::var_os("ODRADEK_SKIP_S3").is_some_and(|skip| skip == "1") {
            return None;
        }
        for program in needed {
            let hint = "run `make setup`, or set ODRADEK_SKIP_S3=1 to go without";
            assert!(program.exists(), "{} is not installed: {hint}", program.display());
        }
        let dir = tempfile::tempdir().expect("a directory for the server");
        let port =
            TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("it").port();
        let log = std::fs::File::create(dir.path().join("output")).expect("a log");
        let process = command(dir.path(), port)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("the log again"))
            .stderr(log)
            .spawn()
            .expect("setpriv starts");
        let mut server = Self { endpoint: format!("http://127.0.0.1:{port}"), process, _dir: dir };
        server.wait(port, patience).await;
        Some(server)
    }

    /// Waits until the server takes connections and has made the bucket.
    #[expect(clippy::disallowed_methods, reason = "a real server keeps real time")]
    async fn wait(&mut self, port: u16, patience: Duration) {
        let start = Instant::now();
        let mut last = String::new();
        while start.elapsed() < patience {
            if let Some(status) = self.process.try_wait().expect("its own child") {
                let output = std::fs::read_to_string(self._dir.path().join("output"));
                panic!("the server ended ({status}): {}", output.unwrap_or_default());
            }
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                match self.create_bucket().await {
                    Ok(()) => return,
                    Err(error) => last = error,
                }
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let output = std::fs::read_to_string(self._dir.path().join("output"));
        panic!("no server in {patience:?}: {last}\n{}", output.unwrap_or_default());
    }

    /// Makes the bucket by a PUT of its root: the signer's own call names a region in the body,
    /// which radosgw refuses.
    async fn create_bucket(&self) -> Result<(), String> {
        let bucket = self.bucket();
        let url = bucket.presign_put("/", 60, None, None).await.expect("signed");
        let made = bucket.http_client().put(url).send().await.map_err(|error| error.to_string())?;
        if made.status().is_success() { Ok(()) } else { Err(format!("{made:?}")) }
    }

    /// The bucket, for what the store itself never does.
    pub(crate) fn bucket(&self) -> Box<Bucket> {
        let region =
            Region::Custom { region: "us-east-1".to_owned(), endpoint: self.endpoint.clone() };
        let credentials = Credentials::new(Some(ACCESS_KEY), Some(SECRET_KEY), None, None, None);
        let bucket = Bucket::new(BUCKET, region, credentials.expect("a key pair"));
        bucket.expect("a bucket").with_path_style()
    }

    /// What it takes to use the server.
    pub(crate) fn options(&self) -> S3Options {
        S3Options {
            endpoint: Some(self.endpoint.clone()),
            region: "us-east-1".to_owned(),
            path_style: true,
            credentials: S3Credentials::Keys {
                access_key_id: ACCESS_KEY.to_owned(),
                secret_access_key: SECRET_KEY.to_owned(),
            },
            request_timeout: Duration::from_secs(30),
        }
    }

    /// A store below a prefix of the bucket.
    pub(crate) fn store(&self, prefix: &str) -> S3Store {
        S3Store::new(BUCKET, prefix, &self.options()).expect("the store opens")
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        let _gone = self.process.kill();
        let _reaped = self.process.wait();
    }
}
