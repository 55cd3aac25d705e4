//! Tests of fetch sessions.

use super::*;

fn requested(partition: i32) -> SessionPartition {
    SessionPartition { topic_id: TopicId([1; 16]), name: Arc::from(""), partition }
}

fn at(offset: i64) -> FetchPosition {
    FetchPosition { offset, bytes_max: 1000, current_leader_epoch: 0 }
}

fn sessions() -> FetchSessions {
    FetchSessions::new(Arc::new(Entropy::from_seed(1)))
}

fn none() -> HashSet<SessionPartition> {
    HashSet::new()
}

fn reported(high_watermark: i64) -> ReportedState {
    ReportedState { error_code: 0, high_watermark, log_start_offset: 0 }
}

#[test]
fn session_omits_unchanged_partitions() {
    let sessions = sessions();
    let both = vec![(requested(0), at(0)), (requested(1), at(0))];
    let full = sessions.begin(0, 0, Naming::Ids, both, &none()).unwrap();
    assert!(full.session_id > 0 && !full.incremental);
    assert_eq!(sessions.finish(&full, &[(reported(5), true), (reported(0), false)]), [true, true]);

    let id = full.session_id;
    let next = sessions.begin(id, 1, Naming::Ids, vec![(requested(0), at(5))], &none()).unwrap();
    assert!(next.incremental);
    // Rotation begins with the first incremental fetch.
    assert_eq!(next.partitions, [(requested(0), at(5)), (requested(1), at(0))]);
    assert_eq!(sessions.finish(&next, &[(reported(7), true), (reported(0), false)]), [true, false]);

    let third = sessions.begin(id, 2, Naming::Ids, vec![], &none()).unwrap();
    assert_eq!(third.partitions, [(requested(1), at(0)), (requested(0), at(5))]);
    assert_eq!(
        sessions.finish(&third, &[(reported(0), false), (reported(7), false)]),
        [false, false]
    );

    let fourth =
        sessions.begin(id, 3, Naming::Ids, vec![], &HashSet::from([requested(1)])).unwrap();
    assert_eq!(fourth.partitions, [(requested(0), at(5))]);
    assert_eq!(sessions.finish(&fourth, &[(reported(8), false)]), [true], "a new high watermark");

    let empty = sessions.begin(id, 4, Naming::Ids, vec![], &HashSet::from([requested(0)])).unwrap();
    assert_eq!(empty.session_id, 0, "nothing is left of it");
    let gone = sessions.begin(id, 5, Naming::Ids, vec![], &none());
    assert_eq!(gone, Err(SessionError::NotFound));
}

#[test]
fn session_epochs_and_ids_are_checked() {
    let sessions = sessions();
    let plan = sessions.begin(0, 0, Naming::Ids, vec![(requested(0), at(0))], &none()).unwrap();
    let id = plan.session_id;
    assert_eq!(
        sessions.begin(id, 2, Naming::Ids, vec![], &none()),
        Err(SessionError::InvalidEpoch)
    );
    let by_name = sessions.begin(id, 1, Naming::Names, vec![], &none());
    assert_eq!(by_name, Err(SessionError::Naming));
    assert_eq!(
        sessions.begin(id ^ 1, 1, Naming::Ids, vec![], &none()),
        Err(SessionError::NotFound)
    );
    let closing =
        sessions.begin(id, FINAL_EPOCH, Naming::Ids, vec![(requested(0), at(0))], &none()).unwrap();
    assert_eq!((closing.session_id, closing.incremental), (0, false));
    assert_eq!(sessions.begin(id, 1, Naming::Ids, vec![], &none()), Err(SessionError::NotFound));
}

/// Each is used in turn, the worst order for a cache that evicts the least recently used one.
#[test]
fn sessions_of_2000_clients_do_not_end_each_other() {
    let sessions = sessions();
    let both = || vec![(requested(0), at(0)), (requested(1), at(0))];
    let open = |_| {
        let plan = sessions.begin(0, INITIAL_EPOCH, Naming::Ids, both(), &none());
        plan.unwrap().session_id
    };
    let ids: Vec<_> = (0..2_000).map(open).collect();
    for epoch in 1..10 {
        for id in &ids {
            let plan = sessions.begin(*id, epoch, Naming::Ids, vec![], &none()).unwrap();
            assert_eq!((plan.session_id, plan.partitions.len()), (*id, 2));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn sessions_in_use_keep_their_places() {
    let entropy = Arc::new(Entropy::from_seed(1));
    let sessions = FetchSessions::with_limits(entropy, 3, 100);
    let open = |partitions: i32| {
        let all = (0..partitions).map(|p| (requested(p), at(0))).collect();
        sessions.begin(0, INITIAL_EPOCH, Naming::Ids, all, &none()).unwrap().session_id
    };
    let go_on = |id: i32, epoch, partition: i32| {
        let all = vec![(requested(partition), at(0))];
        sessions.begin(id, epoch, Naming::Ids, all, &none()).map(|plan| plan.session_id)
    };
    let ids = [open(1), open(1), open(1)];
    assert_eq!(open(1), 0, "a fetch without a session");
    tokio::time::advance(EVICTION_IDLE).await;
    assert_eq!(go_on(ids[1], 1, 0), Ok(ids[1]));
    let more = [open(98), open(1)];
    assert!(more[0] > 0, "two were not used");
    assert_eq!(go_on(ids[0], 1, 0), Err(SessionError::NotFound));
    assert_eq!(go_on(ids[1], 2, 0), Ok(ids[1]));
    assert!(more[1] > 0);

    assert_eq!(sessions.free_partitions.available_permits(), 0);
    tokio::time::advance(SWEEP_INTERVAL).await;
    assert_eq!(open(1), 0, "no partition is free");
    assert_eq!(go_on(ids[1], 3, 1), Err(SessionError::NotFound), "it grows beyond the limit");
    tokio::time::advance(EXPIRY_IDLE).await;
    assert!(open(1) > 0);
    assert_eq!(sessions.free_partitions.available_permits(), 99);
}

#[test]
fn connection_cannot_hold_the_sessions_of_others() {
    let sessions = Arc::new(sessions());
    let open = |owner: &OwnedSessions, partitions: i32| {
        let all = (0..partitions).map(|p| (requested(p), at(0))).collect();
        let plan = sessions.begin(0, INITIAL_EPOCH, Naming::Ids, all, &none()).unwrap();
        owner.add(&plan);
        plan.session_id
    };
    let (greedy, other) =
        (OwnedSessions::new(Arc::clone(&sessions)), OwnedSessions::new(Arc::clone(&sessions)));
    let first = open(&greedy, 1);
    let last = (0..100).map(|_| open(&greedy, 1)).last().unwrap();
    let one_open = open(&other, 1);
    assert_eq!(sessions.table.lock().sessions.len(), OWNED_MAX + 1);
    assert_eq!(sessions.begin(first, 1, Naming::Ids, vec![], &none()), Err(SessionError::NotFound));
    assert!(sessions.begin(last, 1, Naming::Ids, vec![], &none()).is_ok());
    assert_eq!(open(&greedy, SESSION_PARTITIONS_MAX as i32 + 1), 0, "too many partitions");
    drop(greedy);
    assert_eq!(sessions.table.lock().sessions.len(), 1);
    assert!(sessions.begin(one_open, 1, Naming::Ids, vec![], &none()).is_ok());
}
