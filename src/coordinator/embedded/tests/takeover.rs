//! A process that was replaced, and resumes.

use super::*;

async fn try_put(store: &TestStore, commit: &Commit) -> Result<(), StoreError> {
    let footer = Footer::wal(commit.object, "test", commit.sealed_ms, commit.parts.clone());
    let body = vec![Bytes::from_static(&HEADER), vec![0; 50].into(), encode_footer(&footer)];
    store.put(&wal_key(commit.object), body, PutMode::Create).await
}

#[tokio::test]
async fn replaced_process_keeps_what_it_acknowledged_and_acknowledges_nothing_more() {
    for stored in 0..4 {
        for committed in 0..=stored {
            let store = Arc::new(TestStore::default());
            let first = open(&store).await.unwrap();
            let objects: Vec<_> = (0..6).map(|n: u32| object(&first, n, n.cast_signed())).collect();
            for (n, commit) in objects.iter().enumerate().take(stored) {
                try_put(&store, commit).await.unwrap();
                if n < committed {
                    first.commit_all(commit).await.unwrap();
                }
            }
            let second = open(&store).await.unwrap();
            // The first process resumes. What it stored before, it may commit and acknowledge.
            for (n, commit) in objects.iter().enumerate().take(stored).skip(committed) {
                let outcome = first.commit_all(commit).await.unwrap()[0].batches[0];
                let base_offset = 2 * n as i64;
                assert_eq!(outcome, CommitOutcome::Committed { base_offset });
            }
            // Its next object cannot be created, so no later one can be committed either.
            let error = try_put(&store, &objects[stored]).await.unwrap_err();
            assert_eq!(error.kind, StoreErrorKind::AlreadyExists);
            try_put(&store, &objects[stored + 1]).await.unwrap();
            assert!(first.commit_all(&objects[stored + 1]).await.is_err());
            let end = 2 * stored as i64;
            assert_eq!(
                high_watermark(&second).await,
                end,
                "{stored} stored, {committed} committed"
            );
            let next = object(&second, 0, i32::try_from(stored).unwrap());
            try_put(&store, &next).await.unwrap();
            let outcome = second.commit_all(&next).await.unwrap()[0].batches[0];
            assert_eq!(outcome, CommitOutcome::Committed { base_offset: end });
            assert_eq!(high_watermark(&open(&store).await.unwrap()).await, end + 2);
        }
    }
}

#[tokio::test]
async fn replaced_process_changes_no_record() {
    let store = Arc::new(TestStore::default());
    let first = open(&store).await.unwrap();
    let clock = ManualClock::new(1_000);
    first.attach("cluster", "zone-a").await.unwrap();
    first.maintain(&clock).await.unwrap();
    let second = open(&store).await.unwrap();
    second.maintain(&clock).await.unwrap();
    let before = store.objects().clone();
    let fenced = |result: Result<(), CoordinatorError>| {
        assert!(matches!(result, Err(CoordinatorError::Fenced(_))), "{result:?}");
    };
    let topic_type = TopicType::Classic;
    let binding = TopicBinding { topic: TopicId([3; 16]), name: "t".to_owned(), topic_type };
    let registration = Registration { binding, rule: BindRule::FirstWins };
    fenced(first.maintain(&clock).await);
    fenced(first.register(vec![registration]).await.map(drop));
    fenced(first.delete_topic(TopicId([1; 16])).await);
    fenced(first.trim_all(vec![(topic_partition(), 0)]).await.map(drop));
    fenced(first.attach("cluster", "zone-b").await.map(drop));
    assert_eq!(*store.objects(), before);
}

/// A store in which a process that starts waits before it begins its incarnation.
#[derive(Debug)]
struct PausingStore {
    store: Arc<TestStore>,
    is_waiting: tokio::sync::Notify,
    may_begin: tokio::sync::Notify,
}

#[async_trait]
impl Store for PausingStore {
    async fn put(&self, key: &str, body: Vec<Bytes>, mode: PutMode) -> Result<(), StoreError> {
        if key.starts_with("embedded/incarnations/") {
            self.is_waiting.notify_one();
            self.may_begin.notified().await;
        }
        self.store.put(key, body, mode).await
    }

    async fn get(&self, key: &str, range: Option<Range<u64>>) -> Result<Bytes, StoreError> {
        self.store.get(key, range).await
    }

    async fn head(&self, key: &str) -> Result<u64, StoreError> {
        self.store.head(key).await
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<ObjectMeta>, StoreError> {
        self.store.list(prefix, after, limit).await
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.store.delete(key).await
    }
}

fn binding(id: u8) -> Registration {
    let (topic, topic_type) = (TopicId([id; 16]), TopicType::Diskless);
    let binding = TopicBinding { topic, name: format!("topic-{id}"), topic_type };
    Registration { binding, rule: BindRule::FirstWins }
}

#[tokio::test]
async fn changes_that_a_process_acknowledges_while_it_is_replaced_are_kept() {
    let store = Arc::new(TestStore::default());
    let first = open(&store).await.unwrap();
    first.attach("cluster", "zone-a").await.unwrap();
    first.register(vec![binding(3)]).await.unwrap();
    let commit = object(&first, 0, 0);
    try_put(&store, &commit).await.unwrap();
    first.commit_all(&commit).await.unwrap();
    let pausing = Arc::new(PausingStore {
        store,
        is_waiting: tokio::sync::Notify::new(),
        may_begin: tokio::sync::Notify::new(),
    });
    let (clock, entropy) = (ManualClock::new(1_000), Entropy::from_seed(8));
    let starting =
        EmbeddedCoordinator::open(&clock, &entropy, Arc::<PausingStore>::clone(&pausing));
    let changing = async {
        pausing.is_waiting.notified().await;
        // The second process has read the log, and the first one does not know of it.
        first.delete_topic(TopicId([3; 16])).await.unwrap();
        first.register(vec![binding(4)]).await.unwrap();
        first.trim_all(vec![(topic_partition(), 1)]).await.unwrap();
        assert_eq!(first.attach("cluster", "zone-b").await.unwrap().zone_index, 1);
        pausing.may_begin.notify_one();
    };
    let (second, ()) = tokio::join!(starting, changing);
    let second = second.unwrap();
    let names: Vec<_> = second.topics().await.unwrap().into_iter().map(|b| b.name).collect();
    assert_eq!(names, ["topic-4"]);
    assert_eq!(second.register(vec![binding(3)]).await.unwrap(), [None], "it is deleted");
    let request = FindRequest {
        partition: topic_partition(),
        from: FindFrom::Offset(0),
        bytes_max: 1,
        runs_max: 1,
    };
    assert_eq!(second.find_one(request).await.unwrap().watermarks.log_start_offset, 1);
    assert_eq!(second.attach("cluster", "zone-c").await.unwrap().zone_index, 2);
}

#[tokio::test]
async fn first_two_processes_of_a_store_do_not_both_begin() {
    let store = Arc::new(TestStore::default());
    let pausing = Arc::new(PausingStore {
        store: Arc::clone(&store),
        is_waiting: tokio::sync::Notify::new(),
        may_begin: tokio::sync::Notify::new(),
    });
    let (clock, entropy) = (ManualClock::new(999), Entropy::from_seed(8));
    let starting =
        EmbeddedCoordinator::open(&clock, &entropy, Arc::<PausingStore>::clone(&pausing));
    let other = async {
        pausing.is_waiting.notified().await;
        let other = open(&store).await.unwrap();
        pausing.may_begin.notify_one();
        other
    };
    let (late, other) = tokio::join!(starting, other);
    assert!(matches!(late, Err(CoordinatorError::Unavailable(_))), "{late:?}");
    other.attach("cluster", "zone-a").await.unwrap();
}

#[tokio::test]
async fn only_one_of_two_processes_that_start_at_once_begins() {
    let store = Arc::new(TestStore::default());
    drop(open(&store).await.unwrap());
    let records = EmbeddedRecords::new(Arc::<TestStore>::clone(&store));
    let first = ObjectId { incarnation: 1_001, process_id: 1, sequence: 0 };
    records.begin_incarnation(first, Vec::new()).await.unwrap();
    let second = ObjectId { process_id: 2, ..first };
    assert!(records.begin_incarnation(second, Vec::new()).await.is_err());
}

#[tokio::test]
async fn data_of_other_versions_is_refused_by_name() {
    let store = Arc::new(TestStore::default());
    let first = open(&store).await.unwrap();
    put_object(&store, &object(&first, 0, 0)).await;
    let whole = store.objects().clone();
    let refused = |result: Result<_, CoordinatorError>, what: &str| match result {
        Err(CoordinatorError::UnsupportedVersion(detail)) => {
            assert!(detail.contains(what), "{detail}");
        }
        other => panic!("{other:?}"),
    };
    let key = wal_key(object(&first, 0, 0).object);
    for (version, what) in [(9, "upgrade this replica"), (1, "before the first release")] {
        let mut body = whole[&key].to_vec();
        let at = body.len() - 8;
        body[at] = version;
        store.objects().insert(key.clone(), body.into());
        refused(open(&store).await, what);
    }
    *store.objects() = whole.clone();
    let record = Bytes::from_static(b"{\"format\": 9}");
    store.objects().insert("embedded/cluster.json".to_owned(), record);
    refused(open(&store).await, "format version 9");
}
