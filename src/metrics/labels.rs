//! Label values: closed sets, so that peers cannot create series.

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};

/// Defines an enum whose variants are the values of a label.
macro_rules! label {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, EncodeLabelValue)]
        #[expect(non_camel_case_types, reason = "the names are label values")]
        pub enum $name { $($(#[$variant_doc])* $variant),+ }

        impl $name {
            /// All values.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// Returns the value as Prometheus shows it.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => stringify!($variant)),+ }
            }
        }
    };
}

label! {
    /// The type of endpoint that received a request.
    EndpointKind {
        /// The bootstrap port.
        bootstrap,
        /// The endpoint of a broker.
        classic,
        /// A diskless node.
        diskless,
    }
}
label! {
    /// Method by which a client's zone was resolved.
    ZoneResolutionOutcome {
        /// By the client or by the configuration.
        resolved,
        /// The client or the configuration named a zone that does not exist.
        unknown_zone,
        /// No zone was given.
        unspecified,
    }
}
label! {
    /// The path of traffic between zones.
    TrafficPath {
        /// Between a client and a diskless node.
        client_diskless,
        /// Between a client and a classic endpoint or the bootstrap port.
        client_classic,
        /// Between this replica and a broker, for a client.
        replica_broker,
    }
}
label! {
    /// The API of cross-zone traffic.
    ApiKind {
        /// Produce.
        produce,
        /// Fetch.
        fetch,
        /// Any other API.
        other,
        /// Not distinguished: between this replica and a broker.
        any,
    }
}
label! {
    /// The direction of traffic, from the point of view of this replica.
    Direction {
        /// To this replica.
        received,
        /// From this replica.
        sent,
    }
}
label! {
    /// The outcome of a request to a peer.
    PeerOutcome {
        /// The peer responded.
        ok,
        /// The peer responded after the store had been queried as well.
        late,
        /// The store responded first, or the deadline passed.
        slow,
        /// The peer rejected the request.
        rejected,
        /// The peer could not be reached, or the connection broke.
        failed,
        /// The response was not what was requested.
        corrupt,
        /// Not sent, because the circuit breaker is open after a recent failure.
        circuit_open,
    }
}
label! {
    /// A stage of a produce request to a diskless node.
    ProduceStage {
        /// Until the batches are validated and admitted, including the wait for memory.
        admit,
        /// Waiting in the open object until it is sealed.
        buffer,
        /// Until the object is durable.
        upload,
        /// Until the coordinator has assigned offsets.
        commit,
        /// Until the response is next in the connection's order.
        reply,
    }
}
label! {
    /// A stage of a fetch of diskless topics.
    FetchStage {
        /// Looking up where the records are stored.
        plan,
        /// The client's own wait for more bytes (`fetch.max.wait.ms`).
        wait,
        /// The wait for memory.
        memory,
        /// Reading and slicing the records.
        read,
    }
}
label! {
    /// An operation of the object store.
    StoreOperation {
        /// PUT.
        put,
        /// GET.
        get,
        /// HEAD.
        head,
        /// LIST.
        list,
        /// DELETE.
        delete,
    }
}
label! {
    /// The outcome of a call of the object store.
    StoreOutcome {
        /// The call succeeded.
        ok,
        /// No object has this key.
        not_found,
        /// The key exists already.
        exists,
        /// The range is beyond the end of the object.
        invalid_range,
        /// The store denied access.
        denied,
        /// The object is larger than the store accepts.
        too_large,
        /// The bytes are not those that were written.
        corrupt,
        /// A transient failure.
        unavailable,
        /// The store throttles requests.
        slow_down,
        /// The result was no longer awaited: a hedge that lost, a deadline.
        cancelled,
    }
}
label! {
    /// An operation of the batch coordinator.
    CoordinatorOperation {
        /// Binding the metadata to the Kafka cluster.
        attach,
        /// Binding topics to their type.
        register,
        /// Reading the bindings.
        topics,
        /// Deleting a topic.
        delete_topic,
        /// Raising the fence of a process.
        raise_fence,
        /// Assigning offsets.
        commit,
        /// Finding runs.
        find,
        /// Raising log start offsets.
        trim,
        /// Reading the producers of a partition.
        producers,
        /// Subscribing to changes.
        subscribe,
        /// Renewing the lease.
        renew,
    }
}
label! {
    /// The outcome of a call of the coordinator.
    CoordinatorOutcome {
        /// The call succeeded.
        ok,
        /// The call was certainly not applied.
        unavailable,
        /// The call may have been applied.
        indeterminate,
        /// The metadata is lost.
        metadata_lost,
        /// An error that a retry cannot resolve.
        rejected,
        /// The result was no longer awaited.
        cancelled,
    }
}
label! {
    /// Location in which a block of an object was found.
    CacheOutcome {
        /// In an object that this replica wrote.
        own,
        /// In the cache.
        hit,
        /// Already being read for another reader.
        coalesced,
        /// Not in the cache: read from a peer or the store.
        miss,
    }
}
label! {
    /// Outcome of a wait for more records.
    WakeupOutcome {
        /// Records were committed.
        notified,
        /// The client's wait time ended.
        timeout,
    }
}
label! {
    /// A pool of memory for requests.
    MemoryPool {
        /// Produce requests to diskless nodes.
        requests,
        /// Forwarded requests.
        classic,
        /// Requests of clients that have not logged in.
        login,
        /// Requests to diskless nodes that wait for their responses.
        waiting,
        /// Fetch responses.
        responses,
    }
}
label! {
    /// The reason that a connection was closed before anything was read from it.
    Refusal {
        /// `listeners.maxConnections`.
        total_limit,
        /// `listeners.maxConnectionsPerAddress`.
        address_limit,
        /// An address in `listeners.proxyProtocolFrom` sent no valid header.
        proxy_header,
    }
}
label! {
    /// The limit on time that a connection exceeded.
    Expiry {
        /// No broker let the client in within 30 seconds.
        login,
        /// A request stopped arriving.
        frame,
        /// No byte moved for `listeners.idleTimeout`.
        idle,
    }
}
label! {
    /// The outcome of a reload of the configuration.
    ReloadOutcome {
        /// All changes are in effect.
        applied,
        /// Nothing changed.
        unchanged,
        /// The file is invalid; the previous configuration stays in effect.
        rejected,
        /// Some changes require a restart.
        restart_required,
    }
}
label! {
    /// An operation whose last success is monitored.
    MonitoredOperation {
        /// A PUT.
        store_put,
        /// A GET.
        store_get,
        /// A commit.
        commit,
        /// Any call of the coordinator.
        coordinator_request,
        /// Metadata from the brokers.
        kafka_metadata,
    }
}

/// One label.
macro_rules! label_set {
    ($($name:ident { $($label:ident: $kind:ty),+ })+) => {
        $(
            #[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
            pub(super) struct $name { $(pub(super) $label: $kind),+ }
        )+
    };
}

label_set! {
    ZoneResolutionLabels { outcome: ZoneResolutionOutcome }
    CrossZoneLabels { path: TrafficPath, api: ApiKind, direction: Direction }
    ZoneLabels { zone: String }
    PeerLabels { outcome: PeerOutcome }
    RequestLabels { api: &'static str, endpoint: EndpointKind }
    EndpointLabels { endpoint: EndpointKind }
    ErrorLabels { api: ApiKind, code: i64 }
    ProduceStageLabels { stage: ProduceStage }
    FetchStageLabels { stage: FetchStage }
    StoreLabels { operation: StoreOperation, outcome: StoreOutcome }
    StoreOperationLabels { operation: StoreOperation }
    CoordinatorLabels { operation: CoordinatorOperation, outcome: CoordinatorOutcome }
    CoordinatorOperationLabels { operation: CoordinatorOperation }
    CacheLabels { outcome: CacheOutcome }
    WakeupLabels { outcome: WakeupOutcome }
    MemoryPoolLabels { pool: MemoryPool }
    ExpiryLabels { limit: Expiry }
    RefusalLabels { reason: Refusal }
    MonitoredOperationLabels { operation: MonitoredOperation }
    BuildLabels { version: &'static str, replica: String, zone: String }
    ReloadLabels { outcome: ReloadOutcome }
    ItemLabels { item: &'static str }
    TopicLabels { topic: String }
    ClientLabels { client_id: String }
}
