//! Values of labels: closed sets, so that no peer can make series.

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};

/// An enum whose variants are label values, and all of them.
macro_rules! label {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, EncodeLabelValue)]
        #[expect(non_camel_case_types, reason = "the names are label values")]
        pub enum $name { $($(#[$variant_doc])* $variant),+ }

        impl $name {
            /// Every value there is.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The value as Prometheus shows it.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => stringify!($variant)),+ }
            }
        }
    };
}

label! {
    /// Which kind of endpoint a request came to.
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
    /// How a client's zone was found out.
    ZoneResolutionOutcome {
        /// It said, or the operator did.
        resolved,
        /// It, or the operator, named a zone that there is not.
        unknown_zone,
        /// Nobody said anything.
        unspecified,
    }
}
label! {
    /// Where bytes crossed from one zone to another.
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
    /// What the bytes were.
    ApiKind {
        /// Produce.
        produce,
        /// Fetch.
        fetch,
        /// Any other API.
        other,
        /// Not told apart: on the way to a broker and back.
        any,
    }
}
label! {
    /// Seen from this replica.
    Direction {
        /// It came.
        received,
        /// It went.
        sent,
    }
}
label! {
    /// What became of a question to a peer.
    PeerOutcome {
        /// It answered.
        ok,
        /// It answered after the store had been asked as well.
        late,
        /// It was too slow: the store answered before it did, or its time was up.
        slow,
        /// It refused.
        rejected,
        /// It could not be reached, or died amidst its answer.
        failed,
        /// Its answer was not what it should be.
        corrupt,
        /// It was not asked, because it had failed lately.
        circuit_open,
    }
}
label! {
    /// Where the time of a produce to a diskless topic went.
    ProduceStage {
        /// From the request's first look until its batches are checked and taken in, the wait for
        /// memory included.
        admit,
        /// Waiting in the open object until it is sealed.
        buffer,
        /// Until the object is durable.
        upload,
        /// Until the coordinator has given offsets.
        commit,
        /// Until the answer is ready in its turn.
        reply,
    }
}
label! {
    /// Where the time of a fetch of diskless topics went.
    FetchStage {
        /// Finding out where the records lie.
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
    /// A verb of the object store.
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
    /// How a call of the object store ended.
    StoreOutcome {
        /// It did what it should.
        ok,
        /// No object has this key.
        not_found,
        /// The key exists already.
        exists,
        /// The range lies beyond the object's end.
        invalid_range,
        /// The store refuses us.
        denied,
        /// The bytes are not those that were written.
        corrupt,
        /// A passing fault.
        unavailable,
        /// The store wants to be asked less often.
        slow_down,
        /// Nobody waited for its end any more: a hedge that lost, a deadline.
        cancelled,
    }
}
label! {
    /// A verb of the batch coordinator.
    CoordinatorOperation {
        /// Binding the metadata to the Kafka cluster.
        attach,
        /// Binding topics to their kind.
        register,
        /// Reading the bindings.
        topics,
        /// Forgetting a deleted topic.
        delete_topic,
        /// Giving offsets.
        commit,
        /// Finding runs.
        find,
        /// Raising log start offsets.
        trim,
        /// Reading the producers of a partition.
        producers,
        /// Following changes.
        subscribe,
        /// Renewing the lease.
        renew,
    }
}
label! {
    /// How a call of the coordinator ended.
    CoordinatorOutcome {
        /// It answered.
        ok,
        /// It certainly did not happen.
        unavailable,
        /// It may have happened.
        indeterminate,
        /// The metadata is lost.
        metadata_lost,
        /// Something that asking again does not mend.
        rejected,
        /// Nobody waited for its end any more.
        cancelled,
    }
}
label! {
    /// Where a reader found a block of an object.
    CacheOutcome {
        /// In an object that this replica wrote.
        own,
        /// In memory.
        hit,
        /// On its way already, for another reader.
        coalesced,
        /// It had to be read from a peer or the store.
        miss,
    }
}
label! {
    /// How a wait for more records ended.
    WakeupOutcome {
        /// Something was committed.
        notified,
        /// The client's time was up.
        timeout,
    }
}
label! {
    /// A part of the memory that requests take.
    MemoryPool {
        /// Produce requests to diskless nodes.
        requests,
        /// Requests that pass through.
        classic,
        /// Answers to fetches.
        responses,
    }
}
label! {
    /// What became of a configuration that was read again.
    ReloadOutcome {
        /// All that changed was taken over.
        applied,
        /// It says what it said.
        unchanged,
        /// It is wrong; the old one stays.
        rejected,
        /// Some of what changed counts after a restart only.
        restart_required,
    }
}
label! {
    /// Something whose last success is worth knowing.
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
    MonitoredOperationLabels { operation: MonitoredOperation }
    BuildLabels { version: &'static str, replica: String, zone: String }
    ReloadLabels { outcome: ReloadOutcome }
    ItemLabels { item: &'static str }
    TopicLabels { topic: String }
    ClientLabels { client_id: String }
}
