//! The composition root: settings and components become a running replica.
//!
//! Only this file knows concrete adapters.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::admin;
use crate::clock::{SystemClock, WallClock};
use crate::config::{CoordinatorSettings, Profile, Settings};
use crate::coordinator::embedded::EmbeddedCoordinator;
use crate::coordinator::redis::{RedisCoordinator, RedisSettings, SHARDS_DEFAULT};
use crate::coordinator::{Attachment, Coordinator, CoordinatorError, Event};
use crate::engine::Components;
use crate::engine::fetch::{Fetcher, Wakeups};
use crate::engine::lookup::Lookup;
use crate::engine::objects::Objects;
use crate::engine::produce::{ProduceSettings, Producer, SealProfile};
use crate::entropy::Entropy;
use crate::metrics::Metrics;
use crate::proxy::cluster::Cluster;
use crate::proxy::fetch_sessions::FetchSessions;
use crate::proxy::listener::Listeners;
use crate::proxy::topics::Topics;
use crate::proxy::validation::Validation;
use crate::proxy::{Proxy, ProxySettings};
use crate::store::{PutMode, Store, StoreErrorKind};
use crate::tasks;

/// How often brokers and topics are asked for, for what did not come by way of a client.
const WATCH_INTERVAL: Duration = Duration::from_secs(5);
/// Pause between two tries of something that start-up cannot do without.
const RETRY_PAUSE: Duration = Duration::from_secs(2);
/// How long a drain may take; what is not answered by then is cut off.
const DRAIN_MAX: Duration = Duration::from_secs(60);
/// How long a call to Redis may take before its outcome counts as unknown.
const REDIS_TIMEOUT: Duration = Duration::from_secs(2);
/// Bytes of objects that are kept in memory for readers.
const OBJECT_CACHE_BYTES: u64 = 256 << 20;
/// Bytes of batches that may be in memory between their reading and their acknowledgement.
const INFLIGHT_BYTES_MAX: usize = 256 << 20;
/// Objects that may be uploading at once.
const UPLOADS_MAX: usize = 32;
/// The largest request: `socket.request.max.bytes` of a stock broker.
const FRAME_BYTES_MAX: usize = 100 << 20;
/// Names the life of the metadata that the objects belong to.
const GENERATION_KEY: &str = "meta/generation";
/// Exists where an embedded coordinator keeps its records.
const EMBEDDED_KEY: &str = "embedded/cluster.json";

/// The coordinator, with the way to name new objects.
struct Ordering {
    coordinator: Arc<dyn Coordinator>,
    incarnation: u64,
    replica_tag: u32,
}

/// Runs a replica until it is told to stop.
///
/// # Errors
/// What start-up cannot mend by waiting: a port that is taken, another Kafka cluster's metadata.
pub async fn serve(settings: Settings) -> anyhow::Result<()> {
    let mut stop = Stop::new()?;
    let (ready, is_ready) = watch::channel(false);
    let metrics = Arc::new(Metrics::default());
    admin::start(settings.admin.bind, is_ready, Arc::clone(&metrics)).await?;
    let running = tokio::select! {
        () = stop.wait() => return Ok(()),
        running = start(&settings, metrics) => running?,
    };
    ready.send_replace(true);
    stop.wait().await;
    tracing::info!("draining");
    ready.send_replace(false);
    tokio::select! {
        () = stop.wait() => tracing::warn!("stopped without draining"),
        drained = tokio::time::timeout(DRAIN_MAX, running.drain()) => match drained {
            Ok(()) => tracing::info!("drained"),
            Err(_) => tracing::warn!("not drained in time; connections are cut"),
        },
    }
    Ok(())
}

/// SIGTERM and SIGINT.
struct Stop {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Stop {
    fn new() -> anyhow::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// A replica that serves.
struct Running {
    proxy: Arc<Proxy>,
    listeners: Arc<Listeners>,
    drain: watch::Sender<bool>,
}

impl Running {
    /// Takes nothing new, answers what was asked, and makes durable what was taken.
    async fn drain(&self) {
        self.drain.send_replace(true);
        self.listeners.drained().await;
        self.proxy.producer.drain().await;
    }
}

async fn start(settings: &Settings, metrics: Arc<Metrics>) -> anyhow::Result<Running> {
    let clock: Arc<dyn WallClock> = Arc::new(SystemClock);
    let entropy = Arc::new(Entropy::from_os());
    let store = open_store(settings, &entropy).await?;
    let ordering = open_coordinator(settings, &store, &clock, &entropy).await?;
    let coordinator = Arc::clone(&ordering.coordinator);

    let servers = settings.kafka.bootstrap_servers.iter().map(ToString::to_string).collect();
    let cluster = Arc::new(Cluster::new(servers));
    let metadata = until_ok("Kafka", || cluster.refresh()).await;
    let cluster_id = cluster.view().cluster_id.clone();
    let attachment = attach(settings, &*coordinator, &cluster_id).await?;
    keep_generation(settings, &*store, &attachment).await?;

    let topics = Arc::new(Topics::new(
        Arc::clone(&cluster),
        Arc::clone(&coordinator),
        settings.diskless.topics.clone(),
        seal_profile(settings.flush.profile),
    ));
    let components = Components { store, coordinator, clock, entropy };
    let wakeups = Arc::new(Wakeups::default());
    follow(&components.coordinator, &wakeups, &topics).await;
    until_ok("the batch coordinator", || topics.load()).await;

    let proxy =
        build_proxy(settings, &attachment, components, &ordering, wakeups, &topics, metrics);
    let (drain, draining) = watch::channel(false);
    let listeners = Arc::new(Listeners::new(Arc::clone(&proxy), draining));
    topics.observe_all(&metadata.topics).await;
    topics.refresh_configs().await;
    listeners.open_own().await?;
    listeners.open_brokers().await;
    tasks::spawn_critical("watch", watch(Arc::clone(&proxy), Arc::clone(&listeners), cluster_id));
    let listen = &proxy.settings;
    tracing::info!(
        bootstrap = format!("{}:{}", listen.advertised_host, listen.bootstrap_port),
        brokers = format!("{}:{}+id", listen.advertised_host, listen.broker_ports),
        nodes = format!("{}:{}+k", listen.advertised_host, listen.node_ports),
        zone = listen.zone,
        "ready"
    );
    Ok(Running { proxy, listeners, drain })
}

fn build_proxy(
    settings: &Settings,
    attachment: &Attachment,
    components: Components,
    ordering: &Ordering,
    wakeups: Arc<Wakeups>,
    topics: &Arc<Topics>,
    metrics: Arc<Metrics>,
) -> Arc<Proxy> {
    let objects = Arc::new(Objects::new(Arc::clone(&components.store), OBJECT_CACHE_BYTES));
    let produce = ProduceSettings {
        interval: settings.flush.interval,
        object_bytes: usize::try_from(settings.flush.size_bytes).unwrap_or(usize::MAX),
        inflight_bytes_max: INFLIGHT_BYTES_MAX,
        uploads_max: UPLOADS_MAX,
        replica: settings.replica.clone(),
        incarnation: ordering.incarnation,
        replica_tag: ordering.replica_tag,
    };
    let producer =
        Producer::start(components.clone(), produce, Arc::clone(&objects), Arc::clone(&metrics));
    Arc::new(Proxy {
        settings: ProxySettings {
            bind: settings.listeners.bind,
            advertised_host: settings.listeners.advertised_host.clone(),
            bootstrap_port: settings.listeners.bootstrap_port,
            broker_ports: settings.listeners.broker_ports,
            node_ports: settings.listeners.node_ports,
            zone: settings.zone.clone(),
            zone_index: attachment.zone_index,
            nodes_per_zone: u16::from(settings.diskless.nodes_per_zone),
            frame_bytes_max: FRAME_BYTES_MAX,
            store_name: settings.objects_url().to_string(),
        },
        cluster: topics.cluster(),
        topics: Arc::clone(topics),
        coordinator: Arc::clone(&components.coordinator),
        fetch_sessions: FetchSessions::new(Arc::clone(&components.entropy)),
        clock: Arc::clone(&components.clock),
        lookup: Lookup::new(components.clone(), Arc::clone(&objects)),
        fetcher: Fetcher::new(components, objects, wakeups),
        producer,
        validation: Validation::new(),
        metrics,
        connections: AtomicU64::new(0),
    })
}

fn seal_profile(profile: Profile) -> SealProfile {
    match profile {
        Profile::Fast => SealProfile::Fast,
        Profile::Cheap => SealProfile::Cheap,
    }
}

async fn open_store(settings: &Settings, entropy: &Arc<Entropy>) -> anyhow::Result<Arc<dyn Store>> {
    let (url, s3) = (settings.objects_url(), settings.store.s3.clone());
    let entropy = Arc::clone(entropy);
    let opening = tokio::task::spawn_blocking(move || crate::store::open::open(&url, &s3, entropy));
    opening.await?.with_context(|| format!("store {}", settings.objects_url()))
}

async fn open_coordinator(
    settings: &Settings,
    store: &Arc<dyn Store>,
    clock: &Arc<dyn WallClock>,
    entropy: &Arc<Entropy>,
) -> anyhow::Result<Ordering> {
    match &settings.coordinator {
        CoordinatorSettings::Embedded => {
            let opened = EmbeddedCoordinator::open(&**clock, entropy, Arc::clone(store)).await;
            let coordinator = opened.context("the embedded coordinator cannot begin")?;
            let (incarnation, replica_tag) = (coordinator.incarnation(), coordinator.replica());
            Ok(Ordering { coordinator: Arc::new(coordinator), incarnation, replica_tag })
        }
        CoordinatorSettings::Redis(url) => {
            if until_ok("the object store", || exists(&**store, EMBEDDED_KEY)).await {
                bail!(
                    "{} belongs to an embedded coordinator: its offsets are not in Redis; choose \
                     another store prefix or cluster name, or coordinator: embedded",
                    settings.objects_url()
                );
            }
            let redis = RedisSettings {
                url: url.expose().to_owned(),
                cluster: settings.cluster.clone(),
                generation: until_ok("the object store", || generation(&**store)).await,
                shards: SHARDS_DEFAULT,
                timeout: REDIS_TIMEOUT,
            };
            Ok(Ordering {
                coordinator: Arc::new(RedisCoordinator::new(entropy, redis)?),
                incarnation: u64::try_from(clock.now_ms()).unwrap_or(0),
                replica_tag: (entropy.next_u64() >> 32) as u32,
            })
        }
    }
}

/// Attaches, however long the coordinator is away. Metadata of another cluster is no matter of
/// waiting.
async fn attach(
    settings: &Settings,
    coordinator: &dyn Coordinator,
    cluster_id: &str,
) -> anyhow::Result<Attachment> {
    loop {
        match coordinator.attach(cluster_id, &settings.zone).await {
            Ok(attachment) => return Ok(attachment),
            Err(error @ CoordinatorError::OtherCluster { .. }) => {
                return Err(error).context(
                    "point kafka.bootstrapServers at the cluster that the metadata belongs to, or \
                     choose another `cluster` name",
                );
            }
            Err(error) => tracing::error!(%error, "waiting for the batch coordinator"),
        }
        tokio::time::sleep(RETRY_PAUSE).await;
    }
}

/// Writes beside the objects which life of the metadata they belong to, so that a Redis that lost
/// everything is recognised.
async fn keep_generation(
    settings: &Settings,
    store: &dyn Store,
    attachment: &Attachment,
) -> anyhow::Result<()> {
    if settings.coordinator == CoordinatorSettings::Embedded {
        return Ok(());
    }
    let body = || vec![attachment.generation.clone().into_bytes().into()];
    loop {
        match store.put(GENERATION_KEY, body(), PutMode::Create).await {
            Ok(()) => return Ok(()),
            Err(error) if error.kind == StoreErrorKind::AlreadyExists => break,
            Err(error) => tracing::error!(%error, "waiting for the object store"),
        }
        tokio::time::sleep(RETRY_PAUSE).await;
    }
    let kept = until_ok("the object store", || generation(store)).await;
    if kept.as_deref() != Some(attachment.generation.as_str()) {
        bail!(
            "Redis and {} belong to different lives of the metadata: point the coordinator at the \
             Redis that this store was written with",
            settings.objects_url()
        );
    }
    Ok(())
}

async fn generation(store: &dyn Store) -> Result<Option<String>, crate::store::StoreError> {
    match store.get(GENERATION_KEY, None).await {
        Ok(body) => Ok(Some(String::from_utf8_lossy(&body).into_owned())),
        Err(error) if error.kind == StoreErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

async fn exists(store: &dyn Store, key: &str) -> Result<bool, crate::store::StoreError> {
    match store.head(key).await {
        Ok(_) => Ok(true),
        Err(error) if error.kind == StoreErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Tries until it works; says so each time that it does not.
async fn until_ok<T, E, F>(what: &str, mut attempt: impl FnMut() -> F) -> T
where
    E: std::fmt::Display,
    F: Future<Output = Result<T, E>>,
{
    loop {
        match attempt().await {
            Ok(done) => return done,
            Err(error) => tracing::warn!(%error, "waiting for {what}"),
        }
        tokio::time::sleep(RETRY_PAUSE).await;
    }
}

/// Follows the coordinator's events for waiting fetches and topic kinds.
async fn follow(coordinator: &Arc<dyn Coordinator>, wakeups: &Arc<Wakeups>, topics: &Arc<Topics>) {
    let events = until_ok("the batch coordinator", || coordinator.follow()).await;
    let (wakeups, topics) = (Arc::clone(wakeups), Arc::clone(topics));
    tasks::spawn_critical("follow", async move {
        let also = |event: &Event| {
            topics.apply(event);
            if *event == Event::Gap {
                let topics = Arc::clone(&topics);
                tasks::spawn("reload", async move {
                    if let Err(error) = topics.load().await {
                        tracing::warn!(%error, "kinds of topics not read anew");
                    }
                });
            }
        };
        wakeups.follow(events, also).await;
    });
}

/// Notices what changes on the brokers behind everybody's back.
async fn watch(proxy: Arc<Proxy>, listeners: Arc<Listeners>, cluster_id: String) {
    let mut last = Instant::now();
    loop {
        tokio::time::sleep_until(last + WATCH_INTERVAL).await;
        last = Instant::now();
        let metadata = match proxy.cluster.refresh().await {
            Ok(metadata) => metadata,
            Err(error) => {
                tracing::warn!(%error, "brokers cannot be asked");
                continue;
            }
        };
        if proxy.cluster.view().cluster_id != cluster_id {
            tracing::error!(
                expected = cluster_id,
                found = proxy.cluster.view().cluster_id,
                "the brokers belong to another cluster now; their topics are ignored"
            );
            continue;
        }
        proxy.topics.observe_all(&metadata.topics).await;
        proxy.topics.refresh_configs().await;
        listeners.open_brokers().await;
    }
}
