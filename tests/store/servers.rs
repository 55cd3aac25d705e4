//! Real S3 servers on loopback, each of one test.

use std::time::Duration;

use odradek::store::s3::{S3Credentials, S3Options, S3Store};
use s3::{Bucket, Region, creds::Credentials};
use tempfile::TempDir;
use testbed::minio::{self, Minio};
use testbed::radosgw::Radosgw;
use tokio::time::Instant;

pub(crate) use minio::BUCKET;

/// A server with an empty bucket.
pub(crate) struct S3Server {
    endpoint: String,
    access_key: &'static str,
    secret_key: &'static str,
    _process: Process,
    _dir: TempDir,
}

enum Process {
    Minio { _server: Minio },
    Radosgw { _server: Radosgw },
}

impl S3Server {
    /// Starts MinIO, which checks signatures and checksums strictly, or returns `None` when
    /// `ODRADEK_SKIP_S3=1`.
    pub(crate) fn minio() -> Option<Self> {
        let dir = server_dir()?;
        let server = Minio::start(dir.path());
        Some(Self {
            endpoint: server.endpoint(),
            access_key: minio::ACCESS_KEY,
            secret_key: minio::SECRET_KEY,
            _process: Process::Minio { _server: server },
            _dir: dir,
        })
    }

    /// Starts Ceph's gateway, a second reading of the protocol, or returns `None` when
    /// `ODRADEK_SKIP_S3=1`.
    pub(crate) async fn radosgw() -> Option<Self> {
        let dir = server_dir()?;
        let gateway = Radosgw::start(dir.path());
        let server = Self {
            endpoint: gateway.endpoint(),
            access_key: testbed::radosgw::ACCESS_KEY,
            secret_key: testbed::radosgw::SECRET_KEY,
            _process: Process::Radosgw { _server: gateway },
            _dir: dir,
        };
        let deadline = Instant::now() + Duration::from_secs(60);
        while let Err(error) = server.create_bucket().await {
            assert!(Instant::now() < deadline, "the gateway creates no bucket: {error}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Some(server)
    }

    /// Creates the bucket by a PUT of its root: the signer's own call names a region in the body,
    /// which radosgw refuses.
    async fn create_bucket(&self) -> Result<(), String> {
        let bucket = self.bucket();
        let url = bucket.presign_put("/", 60, None, None).await.expect("signed");
        let made = bucket.http_client().put(url).send().await.map_err(|error| error.to_string())?;
        if made.status().is_success() { Ok(()) } else { Err(format!("{made:?}")) }
    }

    /// The bucket, for calls that the store itself never makes.
    pub(crate) fn bucket(&self) -> Box<Bucket> {
        let region =
            Region::Custom { region: "us-east-1".to_owned(), endpoint: self.endpoint.clone() };
        let keys = (Some(self.access_key), Some(self.secret_key));
        let credentials = Credentials::new(keys.0, keys.1, None, None, None);
        let bucket = Bucket::new(BUCKET, region, credentials.expect("a key pair"));
        bucket.expect("a bucket").with_path_style()
    }

    /// The options with which a store reaches the server.
    pub(crate) fn options(&self) -> S3Options {
        S3Options {
            endpoint: Some(self.endpoint.clone()),
            region: "us-east-1".to_owned(),
            path_style: true,
            credentials: S3Credentials::Keys {
                access_key_id: self.access_key.to_owned(),
                secret_access_key: self.secret_key.to_owned(),
            },
            request_timeout: Duration::from_secs(30),
        }
    }

    /// A store below a prefix of the bucket.
    pub(crate) fn store(&self, prefix: &str) -> S3Store {
        S3Store::new(BUCKET, prefix, &self.options()).expect("the store opens")
    }
}

/// A directory for a server, unless tests of S3 are switched off.
fn server_dir() -> Option<TempDir> {
    let is_skipped = std::env::var_os("ODRADEK_SKIP_S3").is_some_and(|skip| skip == "1");
    (!is_skipped).then(|| tempfile::tempdir().expect("a temporary directory"))
}
