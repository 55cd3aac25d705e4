//! Starts a replica, and drains it.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use anyhow::Context as _;
use tokio_util::sync::CancellationToken;

use super::coordinator::{attach, compare_shards, open_coordinator, store_metadata_id};
use super::descriptors::OpenFiles;
use super::eviction;
use super::lease::{Lease, LeaseRenewer};
use super::membership::{self, LEAVE_PROPAGATION, MembershipSubscriber};
use super::metadata_health::{self, MonitoredRedis};
use super::object_store::open_store;
use super::proxy::ProxyBuilder;
use super::recovery::{RecordKeeper, Recovery};
use super::{background, cut_off, embedded, kafka_login, recovery, zone_cache};
use crate::admin::Readiness;
use crate::clock::{SystemClock, WallClock};
use crate::config::Settings;
use crate::coordinator::embedded::EmbeddedCoordinator;
use crate::engine::Components;
use crate::engine::fetch::LongPolls;
use crate::entropy::Entropy;
use crate::metrics::{Metrics, MonitoredOperation};
use crate::proxy::Proxy;
use crate::proxy::listener::Listeners;
use crate::proxy::routing::topology::SharedTopology;
use crate::proxy::topics::Topics;
use crate::proxy::upstream::cluster::KafkaCluster;
use crate::retry::{RetryPolicy, retry_until_ok};
use crate::tasks;
use crate::zone_cache::PeerRing;

/// A replica that serves.
#[derive(Debug)]
pub(crate) struct Replica {
    pub(crate) proxy: Arc<Proxy>,
    /// The digest of the settings that this replica reports to the others.
    pub(crate) settings_digest: Arc<AtomicU64>,
    listeners: Arc<Listeners>,
    /// Ends the accept loops and the sessions.
    shutdown: CancellationToken,
    lease: Lease,
    is_writer: bool,
    redis: Option<MonitoredRedis>,
    embedded: Option<Arc<EmbeddedCoordinator>>,
    record: Option<RecordKeeper>,
}

impl Replica {
    /// Leaves the topology, and serves until every replica can have observed that. Then accepts no
    /// further connection or request, responds to the pending ones, and makes durable what producers
    /// sent.
    pub(crate) async fn drain(&mut self) {
        if self.is_writer {
            self.proxy.topology.leave();
            // Applied here, because the subscriber may be later than the decision that follows.
            if let Some(members) = self.lease.end().await {
                self.proxy.topology.update(members);
            }
            if self.proxy.topology.may_have_successor() {
                tokio::time::sleep(LEAVE_PROPAGATION).await;
            }
        }
        self.shutdown.cancel();
        // Sessions wait for their responses, so no batch may linger now.
        self.proxy.producer.flush_now().await;
        self.listeners.drained().await;
        self.proxy.producer.drain().await;
        if let Some(redis) = &self.redis {
            metadata_health::save(redis).await;
        }
        // It commits nothing more, so that others need not wait.
        if let Some(record) = &self.record {
            record.end().await;
        }
        self.lease.stop().await;
        if let Some(coordinator) = &self.embedded {
            embedded::write_last_checkpoint(coordinator, &SystemClock).await;
        }
        self.proxy.audit.flush().await;
    }
}

/// Starts a replica: opens the store and the coordinator, connects to Kafka, builds the engine and
/// the proxy, and opens the ports. Retries what can succeed later.
///
/// # Errors
/// A port that is in use, metadata of another Kafka cluster, a store or coordinator that cannot be
/// used at all.
pub(crate) async fn start(
    settings: &Settings,
    metrics: Arc<Metrics>,
    readiness: &Arc<Readiness>,
) -> anyhow::Result<Replica> {
    let clock: Arc<dyn WallClock> = Arc::new(SystemClock);
    let entropy = Arc::new(Entropy::from_os());
    let (store, uploads) = open_store(settings, &entropy, &metrics).await?;
    let opened = open_coordinator(settings, &store, &clock, &entropy, &metrics).await?;
    if let Some(coordinator) = &opened.embedded {
        embedded::maintain(coordinator, &clock);
    }

    let cluster = kafka_cluster(settings, &entropy);
    let metadata = retry_until_ok("Kafka", || cluster.refresh()).await;
    metrics.last_successes.record(MonitoredOperation::kafka_metadata);
    let cluster_id = cluster.view().cluster_id.clone();
    if let Some(redis) = &opened.redis {
        eviction::require_no_eviction(redis).await?;
    }
    let attachment = attach(settings, &*opened.coordinator, &cluster_id, readiness).await?;
    store_metadata_id(settings, &*store, &attachment).await?;
    watch_redis(settings, opened.redis.as_ref(), readiness, &metrics);
    let (incarnation, process_id) = (opened.incarnation, opened.process_id);
    let me = membership::member(settings, attachment.zone_index, incarnation, process_id);
    let (stored, shared) = ((&store, &attachment), (readiness, &metrics));
    let (coordinator, recovery) = recovery::begin(settings, &opened, stored, &me, shared).await;

    let topics = Arc::new(Topics::new(
        Arc::clone(&cluster),
        Arc::clone(&coordinator),
        settings.topic_rules(),
        settings.flush.profile,
    ));
    let wakeups = Arc::new(LongPolls::with_metrics(Arc::clone(&metrics)));
    background::subscribe(&coordinator, &wakeups, &topics).await;
    retry_until_ok("the batch coordinator", || topics.classifier.load()).await;

    let (peers, topology) =
        (Arc::new(PeerRing::new(me.clone())), Arc::new(SharedTopology::new(&me)));
    let components = Components { store, uploads, coordinator, clock, entropy };
    let objects = zone_cache::objects(settings, &components, &peers, &metrics).await?;
    let renewer = LeaseRenewer::new(
        Arc::clone(&components.coordinator),
        me,
        Arc::clone(&components.entropy),
        Arc::clone(&metrics),
    );
    let shards = opened.redis.as_ref().and_then(|redis| redis.coordinator.shards()).unwrap_or(1);
    let hosts = zone_cache::hosts(&components, &peers)?;
    cut_off::follow(renewer.subscribe_renewals(), shards, &wakeups, &topology, hosts);
    let builder = ProxyBuilder {
        components,
        objects,
        wakeups,
        topology,
        cluster,
        topics: Arc::clone(&topics),
        metrics,
        incarnation,
        process_id,
        files: OpenFiles::raise(),
    };
    let proxy = builder.build(settings);
    topics.classifier.observe_all(&metadata.topics).await;
    topics.configs.refresh().await;
    background::report_refusals(&proxy, readiness);
    let mut replica = join(settings, proxy, peers, renewer, recovery).await?;
    (replica.redis, replica.embedded) = (opened.redis, opened.embedded);
    let (proxy, listeners) = (Arc::clone(&replica.proxy), Arc::clone(&replica.listeners));
    tasks::spawn_critical("brokers", background::refresh_brokers(proxy, listeners));
    log_ready(&replica.proxy);
    Ok(replica)
}

fn kafka_cluster(settings: &Settings, entropy: &Arc<Entropy>) -> Arc<KafkaCluster> {
    let servers = settings.kafka.bootstrap_servers.iter().map(ToString::to_string).collect();
    Arc::new(KafkaCluster::new(servers, kafka_login(settings, entropy)))
}

fn watch_redis(
    settings: &Settings,
    redis: Option<&MonitoredRedis>,
    readiness: &Arc<Readiness>,
    metrics: &Arc<Metrics>,
) {
    if let Some(redis) = redis {
        compare_shards(settings, &redis.coordinator);
        metadata_health::watch(redis, Arc::clone(readiness), Arc::clone(metrics));
        eviction::watch(redis, Arc::clone(metrics));
    }
}

/// Opens the ports and joins the members: first the ports to which other replicas send clients,
/// then the lease by which they do, and the bootstrap ports last.
async fn join(
    settings: &Settings,
    proxy: Arc<Proxy>,
    peers: Arc<PeerRing>,
    mut renewer: LeaseRenewer,
    recovery: Option<Recovery>,
) -> anyhow::Result<Replica> {
    let shutdown = CancellationToken::new();
    let listeners = Arc::new(Listeners::new(Arc::clone(&proxy), shutdown.clone()));
    let mut subscriber = MembershipSubscriber {
        updates: renewer.subscribe(),
        peers,
        topology: Arc::clone(&proxy.topology),
        listeners: Arc::clone(&listeners),
        metrics: Arc::clone(&proxy.metrics),
        nodes_reported: 0,
    };
    renewer.read_members().await;
    subscriber.apply_latest().await;
    // Directly before the ports by which objects may come, and the lease.
    let record = match recovery {
        Some(recovery) => Some(recovery.watch(proxy.producer.clone()).await),
        None => None,
    };
    if settings.writer {
        // More may be open already, if the zone has more; these are the configured ones.
        let nodes = settings.diskless.nodes_per_zone.into();
        listeners.open_nodes(nodes).await.context("listeners.nodePorts")?;
    }
    let mut delays = RetryPolicy::STARTUP.delays_without_jitter();
    while !settings.writer && proxy.topology.current().nodes().next().is_none() {
        // Without any writer, this may be new metadata that replaced metadata that was lost.
        tracing::warn!("waiting for a replica with a writer");
        delays.wait().await;
        renewer.read_members().await;
        subscriber.apply_latest().await;
    }
    listeners.open_brokers().await;
    let settings_digest = renewer.settings();
    let lease = renewer.acquire().await;
    subscriber.apply_latest().await;
    tasks::spawn_critical("membership", subscriber.run());
    listeners.open_bootstrap().await?;
    let is_writer = settings.writer;
    let (redis, embedded) = (None, None);
    Ok(Replica {
        proxy,
        settings_digest,
        listeners,
        shutdown,
        lease,
        is_writer,
        redis,
        embedded,
        record,
    })
}

fn log_ready(proxy: &Proxy) {
    let listen = &proxy.settings;
    tracing::info!(
        bootstrap = format!("{}:{}", listen.advertised_host, listen.bootstrap_port),
        brokers = format!("{}:{}+id", listen.advertised_host, listen.broker_ports),
        nodes = format!("{}:{}+k", listen.advertised_host, listen.node_ports),
        zone = listen.zone,
        "ready"
    );
}
