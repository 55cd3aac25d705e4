//! The composition root: settings and components become a running replica.
//!
//! Only this file and its `backends` know concrete adapters.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU64};
use std::time::Duration;

use anyhow::Context as _;
use ipnet::IpNet;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

mod backends;
mod gauges;
mod membership;
mod membership_view;
mod metadata_health;
mod observed_positions;
mod reload;

use backends::{
    MonitoredRedis, OpenedCoordinator, attach, open_coordinator, open_store, store_metadata_id,
};

use crate::admin::{self, Pages, Readiness};
use crate::clock::{SystemClock, WallClock};
use crate::config::{ClientZoneSettings, Profile, SaslMechanism, Settings};
use crate::console::Console;
use crate::coordinator::{Coordinator, Event};
use crate::doctor;
use crate::engine::Components;
use crate::engine::cache::ObjectCache;
use crate::engine::fetch::{Fetcher, LongPolls};
use crate::engine::list_offsets::OffsetLookup;
use crate::engine::memory::MemoryLimiter;
use crate::engine::produce::{ProduceSettings, Producer, SealProfile, UploadSettings};
use crate::entropy::Entropy;
use crate::logging::Logging;
use crate::metrics::{BudgetName, Metrics, Success};
use crate::proxy::client_telemetry::ClientTelemetry;
use crate::proxy::client_zone::ClientZoneRules;
use crate::proxy::cluster::KafkaCluster;
use crate::proxy::fetch_sessions::FetchSessions;
use crate::proxy::listener::Listeners;
use crate::proxy::sasl::{Mechanism, SaslCredentials};
use crate::proxy::topics::TopicRegistry;
use crate::proxy::topology::SharedTopology;
use crate::proxy::validation::RecordValidator;
use crate::proxy::{Proxy, ProxySettings};
use crate::retry::retry_until_ok;
use crate::tasks;
use crate::zone_cache::PeerRing;

/// How often brokers and topics are asked for, for what did not come by way of a client.
const REFRESH_INTERVAL: Duration = Duration::from_secs(5);
/// Pause between two tries of something that start-up cannot do without.
const RETRY_DELAY: Duration = Duration::from_secs(2);
/// How long a drain may take; what is not answered by then is cut off.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(60);
/// The largest request: `socket.request.max.bytes` of a stock broker.
const MAX_FRAME_BYTES: usize = 100 << 20;
/// Runs a replica until it is told to stop, and follows its file meanwhile.
///
/// # Errors
/// What start-up cannot mend by waiting: a port that is taken, another Kafka cluster's metadata.
pub async fn serve(
    settings: Settings,
    file: PathBuf,
    logging: Option<Logging>,
) -> anyhow::Result<()> {
    let shutdown = Shutdown::on_signals()?;
    let readiness = Arc::new(Readiness::default());
    let metrics = Arc::new(Metrics::default());
    metrics.identify(&settings.replica, &settings.zone);
    let console =
        Console::start(&settings, Arc::clone(&metrics), Arc::clone(&readiness), logging.clone());
    let pages = Arc::clone(&console) as Arc<dyn Pages>;
    admin::start(settings.admin.bind, Arc::clone(&readiness), Arc::clone(&metrics), pages).await?;
    let mut running = tokio::select! {
        () = shutdown.drain.cancelled() => return Ok(()),
        running = start(&settings, Arc::clone(&metrics), &readiness) => running?,
    };
    console.attach(Arc::clone(&running.proxy));
    let (proxy, settings_digest) =
        (Arc::clone(&running.proxy), Arc::clone(&running.settings_digest));
    let parts = reload::ReloadTargets { proxy, console, logging, metrics, settings_digest };
    reload::follow(file, settings.clone(), parts)?;
    readiness.set_ready(true);
    let checked = settings.clone();
    tasks::spawn("doctor", async move { doctor::log_warnings(&checked).await });
    shutdown.drain.cancelled().await;
    tracing::info!("draining");
    readiness.set_ready(false);
    tokio::select! {
        () = shutdown.abort.cancelled() => tracing::warn!("stopped without draining"),
        drained = tokio::time::timeout(DRAIN_TIMEOUT, running.drain()) => match drained {
            Ok(()) => tracing::info!("drained"),
            Err(_) => tracing::warn!("not drained in time; connections are cut"),
        },
    }
    Ok(())
}

/// What SIGTERM and SIGINT ask for.
struct Shutdown {
    /// Cancelled by the first signal.
    drain: CancellationToken,
    /// Cancelled by the second signal.
    abort: CancellationToken,
}

impl Shutdown {
    /// Installs the signal handlers.
    fn on_signals() -> anyhow::Result<Self> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let (drain, abort) = (CancellationToken::new(), CancellationToken::new());
        let tokens = [drain.clone(), abort.clone()];
        tasks::spawn_critical("signals", async move {
            for token in tokens {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
                token.cancel();
            }
        });
        Ok(Self { drain, abort })
    }
}

/// A replica that serves.
struct RunningReplica {
    proxy: Arc<Proxy>,
    listeners: Arc<Listeners>,
    /// Ends the accept loops and the sessions.
    shutdown: CancellationToken,
    lease: membership::Lease,
    /// What the others are told of the settings.
    settings_digest: Arc<AtomicU64>,
    is_writer: bool,
    redis: Option<MonitoredRedis>,
}

impl RunningReplica {
    /// Leaves the map of nodes, and serves on until all who were sent here can have heard of it;
    /// then takes nothing new, answers what was asked, and makes durable what was taken.
    async fn drain(&mut self) {
        if self.is_writer {
            self.proxy.topology.leave();
            self.lease.end().await;
            if self.proxy.topology.has_successor() {
                tokio::time::sleep(membership::LEAVE_PROPAGATION).await;
            }
        }
        self.shutdown.cancel();
        // Sessions wait for their answers, which nothing may hold up now.
        self.proxy.producer.flush_now().await;
        self.listeners.drained().await;
        self.proxy.producer.drain().await;
        if let Some(redis) = &self.redis {
            metadata_health::keep(redis).await;
        }
    }
}

async fn start(
    settings: &Settings,
    metrics: Arc<Metrics>,
    readiness: &Arc<Readiness>,
) -> anyhow::Result<RunningReplica> {
    let clock: Arc<dyn WallClock> = Arc::new(SystemClock);
    let entropy = Arc::new(Entropy::from_os());
    let (store, uploads) = open_store(settings, &entropy, &metrics).await?;
    let opened = open_coordinator(settings, &store, &clock, &entropy, &metrics).await?;
    let coordinator = Arc::clone(&opened.coordinator);

    let servers = settings.kafka.bootstrap_servers.iter().map(ToString::to_string).collect();
    let cluster = Arc::new(KafkaCluster::new(servers, login(settings, &entropy)));
    let metadata = retry_until_ok("Kafka", || cluster.refresh()).await;
    metrics.successes.note(Success::kafka);
    let cluster_id = cluster.view().cluster_id.clone();
    let attachment = attach(settings, &*coordinator, &cluster_id, readiness).await?;
    store_metadata_id(settings, &*store, &attachment).await?;
    if let Some(redis) = &opened.redis {
        metadata_health::watch(redis, Arc::clone(readiness), Arc::clone(&metrics));
    }

    let topics = Arc::new(TopicRegistry::new(
        Arc::clone(&cluster),
        Arc::clone(&coordinator),
        settings.diskless.topics.clone(),
        seal_profile(settings.flush.profile),
    ));
    let components = Components { store, uploads, coordinator, clock, entropy };
    let wakeups = Arc::new(LongPolls::with_metrics(Arc::clone(&metrics)));
    follow(&components.coordinator, &wakeups, &topics).await;
    retry_until_ok("the batch coordinator", || topics.load()).await;

    let member = membership::member(settings, &attachment, &opened);
    let zone = Arc::new(PeerRing::new(member.clone()));
    let objects = membership::objects(settings, &components, &zone, &metrics).await?;
    let (coordinator, entropy) =
        (Arc::clone(&components.coordinator), Arc::clone(&components.entropy));
    let nodes = Arc::new(SharedTopology::new(&member));
    let engine = EngineParts { components, objects, wakeups, metrics: Arc::clone(&metrics) };
    let proxy = build_proxy(settings, Arc::clone(&nodes), engine, &opened, &topics);
    let shutdown = CancellationToken::new();
    let listeners = Arc::new(Listeners::new(Arc::clone(&proxy), shutdown.clone()));
    topics.observe_all(&metadata.topics).await;
    topics.refresh_configs().await;
    let subscribers = membership::MembershipSubscribers {
        zone,
        nodes: Arc::clone(&nodes),
        listeners: Arc::clone(&listeners),
        metrics: Arc::clone(&metrics),
        nodes_reported: AtomicU16::new(0),
    };
    let mut renewer =
        membership::LeaseRenewer::new(coordinator, member, Arc::new(subscribers), entropy, metrics);
    renewer.read_members().await;
    let settings_digest = renewer.settings();
    let lease = open_listeners(settings, &listeners, renewer, &nodes).await?;
    tasks::spawn_critical("watch", watch(Arc::clone(&proxy), Arc::clone(&listeners), cluster_id));
    let listen = &proxy.settings;
    tracing::info!(
        bootstrap = format!("{}:{}", listen.advertised_host, listen.bootstrap_port),
        brokers = format!("{}:{}+id", listen.advertised_host, listen.broker_ports),
        nodes = format!("{}:{}+k", listen.advertised_host, listen.node_ports),
        zone = listen.zone,
        "ready"
    );
    let (is_writer, redis) = (settings.writer, opened.redis);
    Ok(RunningReplica { proxy, listeners, shutdown, lease, settings_digest, is_writer, redis })
}

/// Opens the ports: first those that others send clients to, then takes the lease by which they
/// do, and last those where clients start.
async fn open_listeners(
    settings: &Settings,
    listeners: &Arc<Listeners>,
    mut renewer: membership::LeaseRenewer,
    nodes: &SharedTopology,
) -> anyhow::Result<membership::Lease> {
    if settings.writer {
        // More may be open already, if the zone has more; these are what this replica asks for.
        let nodes = settings.diskless.nodes_per_zone.into();
        listeners.open_nodes(nodes).await.context("listeners.nodePorts")?;
    }
    while !settings.writer && nodes.current().nodes().next().is_none() {
        // Where nobody ever wrote, the metadata may be one that was lost, and began anew by us.
        tracing::warn!("waiting for a replica with a writer");
        tokio::time::sleep(RETRY_DELAY).await;
        renewer.read_members().await;
    }
    listeners.open_brokers().await;
    let lease = renewer.acquire().await;
    listeners.open_bootstrap().await?;
    Ok(lease)
}

/// How our own connections to brokers, and those of our own commands, authenticate.
pub(crate) fn login(settings: &Settings, entropy: &Arc<Entropy>) -> Option<SaslCredentials> {
    let sasl = settings.kafka.sasl.as_ref()?;
    let mechanism = match sasl.mechanism {
        SaslMechanism::Plain => Mechanism::Plain,
        SaslMechanism::ScramSha256 => Mechanism::ScramSha256,
        SaslMechanism::ScramSha512 => Mechanism::ScramSha512,
    };
    let entropy = Arc::clone(entropy);
    Some(SaslCredentials::new(mechanism, sasl.username.clone(), sasl.password.clone(), entropy))
}

/// What the use cases share.
struct EngineParts {
    components: Components,
    objects: Arc<ObjectCache>,
    wakeups: Arc<LongPolls>,
    metrics: Arc<Metrics>,
}

fn build_proxy(
    settings: &Settings,
    nodes: Arc<SharedTopology>,
    engine: EngineParts,
    opened: &OpenedCoordinator,
    topics: &Arc<TopicRegistry>,
) -> Arc<Proxy> {
    let EngineParts { components, objects, wakeups, metrics } = engine;
    let memory = &settings.memory;
    let budget = |bytes| MemoryLimiter::new(in_memory(bytes), Arc::clone(&metrics));
    let (diskless, classic) = (budget(memory.requests), budget(memory.requests));
    let responses = budget(memory.responses);
    gauges::budget(&metrics, BudgetName::requests, &diskless);
    gauges::budget(&metrics, BudgetName::classic, &classic);
    gauges::budget(&metrics, BudgetName::responses, &responses);
    gauges::cache(&metrics, &objects);
    gauges::topics(&metrics, topics);
    let produce = ProduceSettings {
        interval: settings.flush.interval,
        object_bytes: in_memory(settings.flush.size_bytes),
        puts_per_second_max: settings.flush.puts_per_second_max,
        upload: UploadSettings::STANDARD,
        replica: settings.replica.clone(),
        incarnation: opened.incarnation,
        process_id: opened.process_id,
    };
    let producer = Producer::start(
        components.clone(),
        produce,
        Arc::clone(&diskless),
        Arc::clone(&objects),
        Arc::clone(&metrics),
    );
    Arc::new(Proxy {
        settings: ProxySettings {
            bind: settings.listeners.bind,
            advertised_host: settings.listeners.advertised_host.clone(),
            bootstrap_port: settings.listeners.bootstrap_port,
            broker_ports: settings.listeners.broker_ports,
            node_ports: settings.listeners.node_ports,
            zone: settings.zone.clone(),
            client_zones: client_zones(settings),
            connection_bytes_max: in_memory(memory.connection),
            // So that some clients that take nothing do not keep the others from reading.
            response_bytes_max: in_memory(memory.responses / 8),
            frame_bytes_max: MAX_FRAME_BYTES,
            store_name: settings.objects_url().to_string(),
        },
        topology: nodes,
        cluster: topics.cluster(),
        topics: Arc::clone(topics),
        coordinator: Arc::clone(&components.coordinator),
        fetch_sessions: FetchSessions::new(Arc::clone(&components.entropy)),
        clock: Arc::clone(&components.clock),
        lookup: OffsetLookup::new(components.clone(), Arc::clone(&objects)),
        fetcher: Fetcher::new(components, objects, wakeups).with_metrics(Arc::clone(&metrics)),
        produce_memory: diskless,
        fetch_memory: responses,
        classic_memory: classic,
        producer,
        validation: RecordValidator::new(),
        telemetry: settings.telemetry.map(|interval| ClientTelemetry::start(interval, &metrics)),
        metrics,
        last_connection_id: AtomicU64::new(0),
    })
}

fn client_zones(settings: &Settings) -> ClientZoneRules {
    let of = |clients: &ClientZoneSettings| Arc::clone(&clients.zone);
    let all = &settings.client_zones;
    let ports = all.iter().filter_map(|clients| Some((clients.port?, of(clients))));
    ClientZoneRules { networks: client_networks(settings).into(), ports: ports.collect() }
}

fn client_networks(settings: &Settings) -> Vec<(IpNet, Arc<str>)> {
    let networks = settings
        .client_zones
        .iter()
        .flat_map(|clients| clients.cidrs.iter().map(|cidr| (*cidr, Arc::clone(&clients.zone))));
    networks.collect()
}

fn in_memory(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

fn seal_profile(profile: Profile) -> SealProfile {
    match profile {
        Profile::Fast => SealProfile::Fast,
        Profile::Cheap => SealProfile::Cheap,
    }
}

/// Follows the coordinator's events for waiting fetches and topic kinds.
async fn follow(
    coordinator: &Arc<dyn Coordinator>,
    wakeups: &Arc<LongPolls>,
    topics: &Arc<TopicRegistry>,
) {
    let events = retry_until_ok("the batch coordinator", || coordinator.subscribe()).await;
    let (wakeups, topics) = (Arc::clone(wakeups), Arc::clone(topics));
    tasks::spawn_critical("follow", async move {
        let also = |event: &Event| {
            topics.apply_event(event);
            if *event == Event::Gap {
                let topics = Arc::clone(&topics);
                tasks::spawn("reload", async move {
                    if let Err(error) = topics.load().await {
                        tracing::warn!(%error, "kinds of topics not read anew");
                    }
                });
            }
        };
        wakeups.apply_events(events, also).await;
    });
}

/// Notices what changes on the brokers behind everybody's back.
async fn watch(proxy: Arc<Proxy>, listeners: Arc<Listeners>, cluster_id: String) {
    let mut last = Instant::now();
    loop {
        tokio::time::sleep_until(last + REFRESH_INTERVAL).await;
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
        proxy.topics.resume_migrations().await;
        proxy.topics.refresh_configs().await;
        proxy.metrics.successes.note(Success::kafka);
        let written = proxy.topics.placeholders_with_records().await;
        proxy.metrics.clients.placeholders_written.set(i64::try_from(written).unwrap_or(i64::MAX));
        listeners.open_brokers().await;
    }
}
