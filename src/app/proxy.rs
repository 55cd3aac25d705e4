//! Builds the proxy: memory limits, the produce pipeline, and the settings that requests see.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::convert::client_zones;
use super::descriptors::{OpenFiles, connection_limits};
use super::gauges;
use super::process_memory::ProcessMemory;
use crate::config::Settings;
use crate::engine::Components;
use crate::engine::cache::ObjectCache;
use crate::engine::fetch::{Fetcher, LongPolls};
use crate::engine::list_offsets::OffsetLookup;
use crate::engine::memory::MemoryLimiter;
use crate::engine::produce::{ProduceSettings, Producer, UploadSettings};
use crate::metrics::{MemoryPool, Metrics};
use crate::proxy::audit::AuditLog;
use crate::proxy::classic_memory::ClassicMemory;
use crate::proxy::client_telemetry::ClientTelemetry;
use crate::proxy::fetch_sessions::FetchSessions;
use crate::proxy::routing::topology::SharedTopology;
use crate::proxy::topics::Topics;
use crate::proxy::upstream::cluster::KafkaCluster;
use crate::proxy::validation::RecordValidator;
use crate::proxy::{Proxy, ProxySettings};

/// The largest request: `socket.request.max.bytes` of a stock broker.
const MAX_FRAME_BYTES: usize = 100 << 20;

/// Memory is acquired for large frames in steps of this size: a request of the default
/// `max.request.size` of clients and what precedes its batches, so that most take one.
const FRAME_STEP_BYTES: usize = (1 << 20) + (64 << 10);
/// The step for frames of clients that have not logged in.
const LOGIN_STEP_BYTES: usize = 64 << 10;
/// The share of `memory.requests` for clients that have not logged in, in addition to it.
const LOGIN_MEMORY_DIVISOR: usize = 16;
/// The share of `memory.requests` for decoded requests that wait on diskless nodes, in addition to
/// it.
const WAITING_MEMORY_DIVISOR: usize = 8;

/// The parts of a proxy.
#[derive(Debug)]
pub(super) struct ProxyBuilder {
    pub(super) components: Components,
    pub(super) objects: Arc<ObjectCache>,
    pub(super) wakeups: Arc<LongPolls>,
    pub(super) topology: Arc<SharedTopology>,
    pub(super) cluster: Arc<KafkaCluster>,
    pub(super) topics: Arc<Topics>,
    pub(super) metrics: Arc<Metrics>,
    /// The incarnation of this replica's name.
    pub(super) incarnation: u64,
    /// The id of this process, a part of the ids of its objects.
    pub(super) process_id: u32,
    pub(super) files: OpenFiles,
}

impl ProxyBuilder {
    /// Builds the proxy, and starts the produce pipeline.
    pub(super) fn build(self, settings: &Settings) -> Arc<Proxy> {
        let memory = &settings.memory;
        let lasting = |name, bytes, step| {
            let metrics = Arc::clone(&self.metrics);
            let limiter = MemoryLimiter::with_lasting_shares(bytes, step, metrics);
            gauges::budget(&self.metrics, name, &limiter);
            limiter
        };
        let bytes = memory.requests.as_usize();
        let diskless =
            MemoryLimiter::for_frames(bytes, FRAME_STEP_BYTES, Arc::clone(&self.metrics));
        gauges::budget(&self.metrics, MemoryPool::requests, &diskless);
        let classic = ClassicMemory::new(bytes, FRAME_STEP_BYTES, Arc::clone(&self.metrics));
        gauges::classic_memory(&self.metrics, &classic);
        let login = lasting(MemoryPool::login, bytes / LOGIN_MEMORY_DIVISOR, LOGIN_STEP_BYTES);
        let waiting = bytes / WAITING_MEMORY_DIVISOR;
        let waiting = lasting(MemoryPool::waiting, waiting, FRAME_STEP_BYTES);
        let responses = memory.responses.as_usize();
        let responses = MemoryLimiter::for_responses(responses, Arc::clone(&self.metrics));
        gauges::budget(&self.metrics, MemoryPool::responses, &responses);
        gauges::cache(&self.metrics, &self.objects);
        gauges::topics(&self.metrics, &self.topics);
        let producer = self.start_producer(settings, &diskless);
        let Self {
            components, objects, wakeups, topology, cluster, topics, metrics, files, ..
        } = self;
        Arc::new(Proxy {
            settings: proxy_settings(settings, files),
            topology,
            cluster,
            topics,
            audit: AuditLog::start(
                settings.log.audit,
                (&settings.replica, &settings.zone),
                Arc::clone(&components.clock),
                Arc::clone(&metrics),
            ),
            coordinator: Arc::clone(&components.coordinator),
            fetch_sessions: Arc::new(FetchSessions::new(Arc::clone(&components.entropy))),
            clock: Arc::clone(&components.clock),
            lookup: OffsetLookup::new(components.clone(), Arc::clone(&objects)),
            fetcher: Fetcher::new(components, objects, wakeups).with_metrics(Arc::clone(&metrics)),
            produce_memory: diskless,
            fetch_memory: responses,
            classic_memory: classic,
            login_memory: login,
            waiting_memory: waiting,
            producer,
            validation: RecordValidator::new(),
            telemetry: settings
                .clients
                .telemetry
                .map(|interval| ClientTelemetry::start(interval.duration(), &metrics)),
            metrics,
            last_connection_id: AtomicU64::new(0),
        })
    }

    fn start_producer(&self, settings: &Settings, memory: &Arc<MemoryLimiter>) -> Producer {
        let produce = ProduceSettings {
            interval: settings.flush.interval.duration(),
            object_bytes: settings.flush.size.as_usize(),
            puts_per_second_max: settings.flush.max_puts_per_second,
            stored_outcomes_max: ProduceSettings::STORED_OUTCOMES_MAX,
            upload: UploadSettings::STANDARD,
            replica: settings.replica.clone(),
            incarnation: self.incarnation,
            process_id: self.process_id,
        };
        Producer::start(
            self.components.clone(),
            produce,
            Arc::clone(memory),
            Arc::clone(&self.objects),
            Arc::clone(&self.metrics),
        )
    }
}

fn proxy_settings(settings: &Settings, files: OpenFiles) -> ProxySettings {
    let memory = &settings.memory;
    ProxySettings {
        bind: settings.listeners.bind,
        advertised_host: settings.listeners.advertised_host.clone(),
        bootstrap_port: settings.listeners.bootstrap_port,
        broker_ports: settings.listeners.broker_ports,
        node_ports: if settings.writer { settings.listeners.node_ports } else { 0 },
        zone: settings.zone.clone(),
        client_zones: client_zones(settings),
        connection_bytes_max: memory.connection.as_usize(),
        // A few clients that do not read their responses must not block all others.
        response_bytes_max: memory.responses.as_usize() / 8,
        frame_bytes_max: MAX_FRAME_BYTES,
        proxy_protocol_from: settings.listeners.proxy_protocol_from.clone(),
        connections: connection_limits(settings, files, ProcessMemory::read()),
        idle_timeout: settings.listeners.idle_timeout.duration(),
        store_name: settings.objects_url().to_string(),
    }
}
