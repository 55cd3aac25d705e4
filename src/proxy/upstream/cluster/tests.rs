//! Tests of the view of a cluster, with a broker that answers ApiVersions and Metadata only.

use bytes::{BufMut, BytesMut};
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::metadata_response::MetadataResponseBroker;
use kafka_protocol::messages::{ApiKey, BrokerId};
use kafka_protocol::protocol::Encodable;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::tasks;

/// The content of the responses.
struct Answers {
    cluster_id: &'static str,
    metadata_max: i16,
}

struct FakeBroker {
    port: u16,
    answers: Arc<parking_lot::Mutex<Answers>>,
}

impl FakeBroker {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let answers =
            Arc::new(parking_lot::Mutex::new(Answers { cluster_id: "first", metadata_max: 12 }));
        let shared = Arc::clone(&answers);
        tasks::spawn("broker", async move {
            while let Ok((stream, _)) = listener.accept().await {
                let answers = Arc::clone(&shared);
                tasks::spawn("connection", async move { serve(stream, port, &answers).await });
            }
        });
        Self { port, answers }
    }

    fn cluster(&self) -> KafkaCluster {
        KafkaCluster::new(vec![format!("127.0.0.1:{}", self.port)], None)
    }
}

async fn serve(mut stream: TcpStream, port: u16, answers: &parking_lot::Mutex<Answers>) {
    while let Ok(length) = stream.read_u32().await {
        let mut frame = vec![0; length as usize];
        stream.read_exact(&mut frame).await.unwrap();
        let mut body = BytesMut::new();
        body.put_slice(&frame[4..8]);
        if frame[1] == ApiKey::ApiVersions as u8 {
            let metadata = ApiVersion::default()
                .with_api_key(ApiKey::Metadata as i16)
                .with_max_version(answers.lock().metadata_max);
            let response = ApiVersionsResponse::default().with_api_keys(vec![metadata]);
            response.encode(&mut body, 3).unwrap();
        } else {
            let broker = MetadataResponseBroker::default()
                .with_node_id(BrokerId(1))
                .with_host(StrBytes::from_static_str("127.0.0.1"))
                .with_port(i32::from(port));
            let cluster_id = StrBytes::from_static_str(answers.lock().cluster_id);
            body.put_u8(0);
            let response = MetadataResponse::default()
                .with_brokers(vec![broker])
                .with_cluster_id(Some(cluster_id));
            response.encode(&mut body, i16::from(frame[3])).unwrap();
        }
        stream.write_u32(body.len() as u32).await.unwrap();
        stream.write_all(&body).await.unwrap();
    }
}

#[tokio::test]
async fn another_cluster_behind_the_same_address_changes_nothing() {
    let broker = FakeBroker::start().await;
    let cluster = broker.cluster();
    cluster.refresh().await.unwrap();
    broker.answers.lock().cluster_id = "second";
    let is_refused = |result: Result<MetadataResponse, UpstreamError>| matches!(result, Err(UpstreamError::OtherCluster { found, .. }) if found == "second");
    assert!(is_refused(cluster.refresh().await));
    assert!(is_refused(cluster.look_up(Vec::new()).await));
    assert_eq!(cluster.view().cluster_id, "first");
    broker.answers.lock().cluster_id = "first";
    cluster.refresh().await.unwrap();
}

#[tokio::test]
async fn versions_are_renewed_while_the_brokers_stay_the_same() {
    let broker = FakeBroker::start().await;
    let mut cluster = broker.cluster();
    cluster.refresh().await.unwrap();
    broker.answers.lock().metadata_max = 11;
    cluster.refresh().await.unwrap();
    assert_eq!(cluster.version_for::<MetadataRequest>(12).unwrap(), 12, "they are recent");
    cluster.versions_max_age = Duration::ZERO;
    cluster.refresh().await.unwrap();
    assert_eq!(cluster.version_for::<MetadataRequest>(12).unwrap(), 11);
}

#[tokio::test]
async fn address_of_another_cluster_is_left_for_one_of_this() {
    let (broker, other) = (FakeBroker::start().await, FakeBroker::start().await);
    let servers = [&broker, &other].map(|broker| format!("127.0.0.1:{}", broker.port));
    let cluster = KafkaCluster::new(servers.to_vec(), None);
    cluster.refresh().await.unwrap();
    broker.answers.lock().cluster_id = "second";
    assert!(cluster.refresh().await.is_err());
    cluster.refresh().await.unwrap();
    assert_eq!(cluster.view().brokers[&1].port, other.port);
    assert!(cluster.look_up(Vec::new()).await.is_ok());
}
