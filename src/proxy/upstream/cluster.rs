//! The brokers of the cluster, and requests of the proxy itself to them.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{
    ApiVersionsRequest, ApiVersionsResponse, MetadataRequest, MetadataResponse,
};
use kafka_protocol::protocol::{Request, StrBytes};
use parking_lot::RwLock;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use super::connection::BrokerConnection;
use super::error::UpstreamError;
use super::sasl::SaslCredentials;
use super::silent::SilentBrokers;
use crate::proxy::apis::{self, Versions};

/// Time for a lookup that a client waits for.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(2);
/// Age at which the versions and features of the brokers are requested again.
const VERSIONS_MAX_AGE: Duration = Duration::from_secs(60);
/// Maximum number of idle connections to one broker.
const IDLE_MAX: usize = 4;

/// A broker as the cluster advertises it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broker {
    /// The node id.
    pub id: i32,
    /// The host.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The rack, if any.
    pub rack: Option<String>,
}

impl Broker {
    /// Returns `host:port`.
    pub fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

/// The state of the cluster at one moment.
#[derive(Clone, Debug, Default)]
pub struct ClusterView {
    /// The cluster id.
    pub cluster_id: String,
    /// The id of the broker that receives requests for the controller; −1 if there is none.
    pub controller: i32,
    /// The live brokers, by id.
    pub brokers: BTreeMap<i32, Broker>,
    /// The versions that every broker and the proxy support, by API key.
    pub versions: Versions,
    /// The ApiVersions response of a broker, for the features.
    pub features: ApiVersionsResponse,
}

/// The cluster: its latest view, and a control connection.
#[derive(Debug)]
pub struct KafkaCluster {
    bootstrap_servers: Vec<String>,
    credentials: Option<SaslCredentials>,
    view: RwLock<Arc<ClusterView>>,
    control: Mutex<Option<BrokerConnection>>,
    /// The connection for lookups that requests of clients wait for.
    lookups: Mutex<Option<BrokerConnection>>,
    /// The number of failed lookups: each begins with another broker.
    failed_lookups: AtomicUsize,
    /// Connections to single brokers that no request uses, by address.
    idle: parking_lot::Mutex<HashMap<String, Vec<BrokerConnection>>>,
    silent: SilentBrokers,
    /// When the versions and features were requested last.
    versions_at: parking_lot::Mutex<Option<Instant>>,
    versions_max_age: Duration,
}

impl KafkaCluster {
    /// Creates an empty view, which the first [`KafkaCluster::refresh`] fills. The proxy's own
    /// connections authenticate if credentials are given.
    pub fn new(bootstrap_servers: Vec<String>, credentials: Option<SaslCredentials>) -> Self {
        let view = RwLock::new(Arc::default());
        let (control, idle) = (Mutex::new(None), parking_lot::Mutex::default());
        let (lookups, failed_lookups) = (Mutex::new(None), AtomicUsize::new(0));
        let silent = SilentBrokers::default();
        Self {
            bootstrap_servers,
            credentials,
            view,
            control,
            lookups,
            failed_lookups,
            idle,
            silent,
            versions_at: parking_lot::Mutex::default(),
            versions_max_age: VERSIONS_MAX_AGE,
        }
    }

    async fn open(&self, address: &str) -> Result<BrokerConnection, UpstreamError> {
        BrokerConnection::open(address, self.credentials.as_ref()).await
    }

    /// Returns the latest view.
    pub fn view(&self) -> Arc<ClusterView> {
        Arc::clone(&self.view.read())
    }

    /// Notes that a broker did not respond in time: for some seconds, others are preferred.
    pub fn note_silent(&self, address: &str) {
        self.silent.note(address);
    }

    /// Returns addresses of brokers: those of live brokers first, then the bootstrap servers.
    /// `rotation` chooses the first of them; those that recently did not respond come last.
    pub fn addresses_from(&self, rotation: usize) -> Vec<String> {
        let mut addresses = self.addresses();
        let count = addresses.len().max(1);
        addresses.rotate_left(rotation % count);
        self.silent.sort_last(&mut addresses);
        addresses
    }

    fn addresses(&self) -> Vec<String> {
        let mut addresses: Vec<_> = self.view().brokers.values().map(Broker::address).collect();
        for server in &self.bootstrap_servers {
            if !addresses.contains(server) {
                addresses.push(server.clone());
            }
        }
        addresses
    }

    /// The version in which we ask for an API.
    pub fn version_for<R: Request>(&self, highest: i16) -> Result<i16, UpstreamError> {
        match self.view().versions.get(&R::KEY) {
            Some(&(min, max)) if min <= highest => Ok(max.min(highest)),
            _ => Err(UpstreamError::Unsupported(R::KEY)),
        }
    }

    /// Sends a request to any broker over the control connection. Tries each broker once.
    ///
    /// # Errors
    /// The error of the last broker.
    pub async fn call<R: Request>(
        &self,
        request: &R,
        version: i16,
    ) -> Result<R::Response, UpstreamError> {
        self.call_over(&self.control, self.addresses_from(0), request, version).await
    }

    /// Sends a request over a connection, or to the first of the addresses that responds.
    async fn call_over<R: Request>(
        &self,
        connection: &Mutex<Option<BrokerConnection>>,
        addresses: Vec<String>,
        request: &R,
        version: i16,
    ) -> Result<R::Response, UpstreamError> {
        let mut control = connection.lock().await;
        let (mut silent, mut last) = (None, UpstreamError::NoBroker);
        if let Some(mut connection) = control.take() {
            match connection.call(request, version).await {
                Ok(response) => {
                    *control = Some(connection);
                    return Ok(response);
                }
                Err(error) => (silent, last) = (self.note_if_silent(&error), error),
            }
        }
        // One that has just not responded is not tried again.
        let others = addresses.into_iter().filter(|address| Some(address) != silent.as_ref());
        for address in others {
            let attempt = async {
                let mut connection = self.open(&address).await?;
                let response = connection.call(request, version).await?;
                Ok::<_, UpstreamError>((connection, response))
            };
            match attempt.await {
                Ok((connection, response)) => {
                    *control = Some(connection);
                    return Ok(response);
                }
                Err(error) => {
                    self.note_if_silent(&error);
                    last = error;
                }
            }
        }
        Err(last)
    }

    /// Notes the broker of an error that says that it did not respond in time, and returns it.
    fn note_if_silent(&self, error: &UpstreamError) -> Option<String> {
        let UpstreamError::Timeout(address) = error else { return None };
        self.note_silent(address);
        Some(address.clone())
    }

    /// Sends a request to one broker, over a connection that is idle or else over a new one.
    pub async fn call_broker<R: Request>(
        &self,
        broker: i32,
        request: &R,
        version: i16,
    ) -> Result<R::Response, UpstreamError> {
        let address =
            self.view().brokers.get(&broker).map(Broker::address).ok_or(UpstreamError::NoBroker)?;
        let idle = self.idle.lock().get_mut(&address).and_then(Vec::pop);
        // The broker may have closed an idle connection.
        if let Some(mut connection) = idle
            && let Ok(response) = connection.call(request, version).await
        {
            self.keep_idle(address, connection);
            return Ok(response);
        }
        let mut connection = self.open(&address).await?;
        let response = connection.call(request, version).await?;
        self.keep_idle(address, connection);
        Ok(response)
    }

    fn keep_idle(&self, address: String, connection: BrokerConnection) {
        let mut idle = self.idle.lock();
        let of_broker = idle.entry(address).or_default();
        if of_broker.len() < IDLE_MAX {
            of_broker.push(connection);
        }
    }

    /// Returns the metadata of all topics (`None`) or of some. Never creates a topic.
    pub async fn metadata(
        &self,
        topics: Option<Vec<MetadataRequestTopic>>,
    ) -> Result<MetadataResponse, UpstreamError> {
        let request =
            MetadataRequest::default().with_topics(topics).with_allow_auto_topic_creation(false);
        let response = self.call(&request, self.version_for::<MetadataRequest>(12)?).await?;
        if let Err(error) = self.check_cluster(&response) {
            self.leave(&self.control).await;
            return Err(error);
        }
        Ok(response)
    }

    /// Closes a connection to another cluster: the next call begins with another address, whose name
    /// may be right.
    async fn leave(&self, connection: &Mutex<Option<BrokerConnection>>) {
        if let Some(connection) = connection.lock().await.take() {
            self.note_silent(connection.address());
        }
    }

    /// Checks that a response is from the cluster that was found first. After a change of DNS names,
    /// another cluster may have topics of the same names.
    fn check_cluster(&self, response: &MetadataResponse) -> Result<(), UpstreamError> {
        let view = self.view();
        let found = response.cluster_id.as_deref().unwrap_or_default();
        if view.cluster_id.is_empty() || view.cluster_id == found {
            return Ok(());
        }
        let (expected, found) = (view.cluster_id.clone(), found.to_owned());
        Err(UpstreamError::OtherCluster { expected, found })
    }

    /// Returns the metadata of topics that a client waits for. Never creates a topic.
    ///
    /// # Errors
    /// [`UpstreamError::Timeout`] after 2 seconds, else the error of the last broker.
    pub async fn look_up(
        &self,
        topics: Vec<MetadataRequestTopic>,
    ) -> Result<MetadataResponse, UpstreamError> {
        let request = MetadataRequest::default()
            .with_topics(Some(topics))
            .with_allow_auto_topic_creation(false);
        let version = self.version_for::<MetadataRequest>(12)?;
        let addresses = self.addresses_from(self.failed_lookups.load(Ordering::Relaxed));
        let first = addresses.first().cloned().unwrap_or_default();
        let call = self.call_over(&self.lookups, addresses, &request, version);
        let response = timeout(LOOKUP_TIMEOUT, call).await;
        let response = response.unwrap_or(Err(UpstreamError::Timeout(first)));
        let response = match response.map(|response| (self.check_cluster(&response), response)) {
            Ok((Err(error), _)) => {
                self.leave(&self.lookups).await;
                Err(error)
            }
            Ok((Ok(()), response)) => Ok(response),
            Err(error) => Err(error),
        };
        if response.is_err() {
            self.failed_lookups.fetch_add(1, Ordering::Relaxed);
        }
        response
    }

    /// Refreshes the brokers and their versions, and returns the metadata of all topics.
    ///
    /// # Errors
    /// [`UpstreamError::OtherCluster`] if the brokers belong to another cluster than before; the view
    /// stays as it is. Else the error of the last broker.
    pub async fn refresh(&self) -> Result<MetadataResponse, UpstreamError> {
        if self.view().versions.is_empty() {
            let versions = self.call(&api_versions_request(), 3).await?;
            let mut view =
                ClusterView { versions: apis::intersect(&versions), ..ClusterView::default() };
            view.features = versions;
            self.set_view(view);
        }
        let metadata = self.metadata(None).await?;
        let brokers = brokers_of(&metadata);
        let mut view = (*self.view()).clone();
        // A broker may have been replaced, or its features altered, under the same id.
        let is_old = self.versions_at.lock().is_none_or(|at| at.elapsed() >= self.versions_max_age);
        if is_old || view.brokers.keys().ne(brokers.keys()) {
            *self.versions_at.lock() = Some(Instant::now());
            let (versions, features) = self.common_versions(&brokers, &view).await;
            view.versions = versions;
            view.features = features;
        }
        view.brokers = brokers;
        view.controller = metadata.controller_id.0;
        view.cluster_id = metadata.cluster_id.as_deref().unwrap_or_default().to_owned();
        self.set_view(view);
        Ok(metadata)
    }

    /// Returns the versions that all of `brokers` support. A broker that does not respond is ignored.
    async fn common_versions(
        &self,
        brokers: &BTreeMap<i32, Broker>,
        before: &ClusterView,
    ) -> (Versions, ApiVersionsResponse) {
        let mut intersect_versions: Option<(Versions, ApiVersionsResponse)> = None;
        for broker in brokers.values() {
            let address = broker.address();
            let call = async { self.open(&address).await?.call(&api_versions_request(), 3).await };
            let response = timeout(LOOKUP_TIMEOUT, call).await;
            match response.unwrap_or_else(|_| Err(UpstreamError::Timeout(address.clone()))) {
                Ok(response) => {
                    let versions = apis::intersect(&response);
                    intersect_versions = Some(match intersect_versions {
                        None => (versions, response),
                        Some((so_far, features)) => {
                            (apis::intersect_versions(&so_far, &versions), features)
                        }
                    });
                }
                Err(error) => tracing::warn!(broker = broker.id, %error, "versions unknown"),
            }
        }
        intersect_versions.unwrap_or_else(|| (before.versions.clone(), before.features.clone()))
    }

    fn set_view(&self, view: ClusterView) {
        let addresses: HashSet<_> = view.brokers.values().map(Broker::address).collect();
        *self.view.write() = Arc::new(view);
        self.idle.lock().retain(|address, _| addresses.contains(address));
    }
}

fn api_versions_request() -> ApiVersionsRequest {
    ApiVersionsRequest::default()
        .with_client_software_name(StrBytes::from_static_str("odradek"))
        .with_client_software_version(StrBytes::from_static_str(env!("CARGO_PKG_VERSION")))
}

fn brokers_of(metadata: &MetadataResponse) -> BTreeMap<i32, Broker> {
    let broker = |b: &kafka_protocol::messages::metadata_response::MetadataResponseBroker| {
        let port = u16::try_from(b.port).ok()?;
        let (host, rack) = (b.host.as_str().to_owned(), b.rack.as_deref().map(str::to_owned));
        Some((b.node_id.0, Broker { id: b.node_id.0, host, port, rack }))
    };
    metadata.brokers.iter().filter_map(broker).collect()
}

#[cfg(test)]
mod tests;
