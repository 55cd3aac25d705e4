use super::*;
use crate::store::conformance;
use crate::store::faulty::{Fault, FaultyStore, ReportedOutcome, StoreOperation};
use crate::store::memory::MemoryStore;

const KEY: &str = "a/b";

struct Harness {
    memory: Arc<MemoryStore>,
    faulty: Arc<FaultyStore>,
    store: RetryStore,
}

fn harness() -> Harness {
    let memory = Arc::new(MemoryStore::new());
    let faulty = Arc::new(FaultyStore::new(Arc::clone(&memory) as Arc<dyn Store>));
    let entropy = Arc::new(Entropy::from_seed(1));
    let inner = Arc::clone(&faulty) as Arc<dyn Store>;
    Harness { memory, faulty, store: RetryStore::new(inner, entropy) }
}

fn body(text: &'static str) -> Vec<Bytes> {
    // Written in two chunks, read back in one.
    let (head, tail) = text.split_at(1);
    vec![Bytes::from_static(head.as_bytes()), Bytes::from_static(tail.as_bytes())]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conforms() {
    let Harness { store, .. } = harness();
    conformance::run(&(Arc::new(store) as Arc<dyn Store>)).await;
}

#[tokio::test(start_paused = true)]
async fn every_operation_is_repeated() {
    let Harness { faulty, store, .. } = harness();
    for operation in [
        StoreOperation::put,
        StoreOperation::get,
        StoreOperation::head,
        StoreOperation::list,
        StoreOperation::delete,
    ] {
        faulty.script(operation, [Fault::REFUSED, Fault::REQUEST_LOST]);
    }
    store.put(KEY, body("one"), PutMode::Overwrite).await.unwrap();
    assert_eq!(store.get(KEY, None).await.unwrap(), "one");
    assert_eq!(store.head(KEY).await.unwrap(), 3);
    assert_eq!(store.list("", None, 9).await.unwrap().len(), 1);
    store.delete(KEY).await.unwrap();
    for operation in [
        StoreOperation::put,
        StoreOperation::get,
        StoreOperation::head,
        StoreOperation::list,
        StoreOperation::delete,
    ] {
        assert_eq!(faulty.calls(operation), 3, "{operation:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_exhausted_call_remains_indeterminate_after_an_indeterminate_attempt() {
    let Harness { faulty, store, .. } = harness();
    faulty.script(StoreOperation::put, [Fault::REQUEST_LOST]);
    faulty.set_persistent(StoreOperation::put, Some(Fault::REFUSED));
    let error = store.put(KEY, body("one"), PutMode::Overwrite).await.unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Unavailable);
    assert_eq!(
        error.certainty,
        Certainty::Indeterminate,
        "the first attempt may have taken effect"
    );
    assert_eq!(faulty.calls(StoreOperation::put), 5);

    let error = store.put(KEY, body("one"), PutMode::Overwrite).await.unwrap_err();
    assert_eq!(error.certainty, Certainty::Determinate, "no attempt of this call is indeterminate");
}

#[tokio::test(start_paused = true)]
async fn permanent_errors_are_not_retried() {
    let Harness { faulty, store, .. } = harness();
    let denied = ReportedOutcome::Error(StoreErrorKind::Denied, Certainty::Determinate);
    faulty.script(StoreOperation::put, [Fault { report: denied, ..Fault::REFUSED }]);
    store.put(KEY, body("one"), PutMode::Overwrite).await.unwrap_err();
    assert_eq!(faulty.calls(StoreOperation::put), 1);
    store.head("not/there").await.unwrap_err();
    assert_eq!(faulty.calls(StoreOperation::head), 1);
}

#[tokio::test(start_paused = true)]
async fn a_denial_after_an_indeterminate_attempt_is_indeterminate() {
    let Harness { faulty, store, .. } = harness();
    let denied = ReportedOutcome::Error(StoreErrorKind::Denied, Certainty::Determinate);
    faulty.script(
        StoreOperation::put,
        [Fault::REPLY_LOST, Fault { report: denied, ..Fault::REFUSED }],
    );
    let error = store.put(KEY, body("one"), PutMode::Overwrite).await.unwrap_err();
    assert_eq!((error.kind, error.certainty), (StoreErrorKind::Denied, Certainty::Indeterminate));
}

#[tokio::test(start_paused = true)]
async fn a_create_recognises_its_own_object_after_a_lost_reply() {
    let Harness { faulty, store, memory } = harness();
    faulty.script(StoreOperation::put, [Fault::REPLY_LOST]);
    store.put(KEY, body("mine"), PutMode::Create).await.unwrap();
    assert_eq!(faulty.calls(StoreOperation::put), 2);
    assert_eq!(memory.get(KEY, None).await.unwrap(), "mine");
}

#[tokio::test(start_paused = true)]
async fn a_create_does_not_take_the_object_of_another_writer_for_its_own() {
    for theirs in ["them", "longer"] {
        let Harness { faulty, store, memory } = harness();
        memory.put(KEY, body(theirs), PutMode::Create).await.unwrap();
        faulty.script(StoreOperation::put, [Fault::REQUEST_LOST]);
        let error = store.put(KEY, body("mine"), PutMode::Create).await.unwrap_err();
        let expected = (StoreErrorKind::AlreadyExists, Certainty::Determinate);
        assert_eq!((error.kind, error.certainty), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_create_that_cannot_compare_the_object_is_indeterminate() {
    let Harness { faulty, store, .. } = harness();
    faulty.script(StoreOperation::put, [Fault::REPLY_LOST]);
    faulty.set_persistent(StoreOperation::head, Some(Fault::REFUSED));
    let error = store.put(KEY, body("mine"), PutMode::Create).await.unwrap_err();
    let expected = (StoreErrorKind::Unavailable, Certainty::Indeterminate);
    assert_eq!((error.kind, error.certainty), expected);
}

#[tokio::test(start_paused = true)]
async fn no_attempt_starts_after_the_deadline() {
    let Harness { faulty, store, .. } = harness();
    let slow = Fault { before: Duration::from_secs(20), ..Fault::REFUSED };
    faulty.set_persistent(StoreOperation::get, Some(slow));
    store.get(KEY, None).await.unwrap_err();
    assert_eq!(faulty.calls(StoreOperation::get), 2, "at 0 s and at 20 s; at 40 s it is too late");
}

#[tokio::test]
async fn a_caller_can_time_out_a_store_that_hangs() {
    let Harness { faulty, store, memory } = harness();
    faulty.script(StoreOperation::put, [Fault::HANG]);
    let put = store.put(KEY, body("one"), PutMode::Overwrite);
    tokio::time::timeout(Duration::from_millis(5), put).await.unwrap_err();
    assert_eq!(memory.get(KEY, None).await.unwrap(), "one", "a dropped PUT may still take effect");
}
