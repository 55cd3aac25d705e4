//! Memory of blocks in flight, of slices and of responses to peers.

use super::*;
use crate::engine::cache::partitioned_lru::Evict;

#[tokio::test(start_paused = true)]
async fn blocks_in_flight_are_within_the_capacity() {
    let source = CountingSource::new(1 << 20);
    let cache = &cache(&source, 16 << 20);
    cache.reader.shrink_expected_bytes();
    let reads = join_all((0..500).map(|n| cache.read_block(n, Purpose::Tailing)));
    let watch = async {
        loop {
            tokio::time::sleep(Duration::from_millis(1)).await;
            assert!(cache.cached_bytes() <= 16 << 20, "{}", cache.cached_bytes());
        }
    };
    tokio::select! { _ = reads => {}, () = watch => {} }
    assert_eq!(source.requests(), 500);
}

#[tokio::test(start_paused = true)]
async fn serving_peers_is_bounded_and_leaves_tailing_blocks() {
    let source = CountingSource::new(1 << 20);
    let origin = Arc::clone(&source) as Arc<dyn ObjectSource>;
    let cache = &cache(&source, 32 << 20).with_peer_source(origin);
    cache.reader.shrink_expected_bytes();
    for sequence in 0..6 {
        cache.read_block(sequence, Purpose::Tailing).await;
    }
    let mut held = Vec::new();
    for sequence in 100..200 {
        match cache.read_for_peer(object(sequence), 0..BLOCK_BYTES).await {
            Ok(bytes) => held.push(bytes),
            Err(error) => assert_eq!(error.kind, StoreErrorKind::Unavailable),
        }
    }
    assert_eq!(held.len(), 4, "an eighth of the memory");
    drop(held);
    for sequence in 100..200 {
        cache.read_for_peer(object(sequence), 0..BLOCK_BYTES).await.expect("memory");
    }
    let read = source.requests();
    for sequence in 0..6 {
        cache.read_block(sequence, Purpose::Tailing).await;
    }
    assert_eq!(source.requests(), read, "tailing blocks are still cached");
}

/// Written objects take no more than reservations leave.
#[tokio::test(start_paused = true)]
async fn written_objects_and_reservations_are_within_the_capacity() {
    let cache = &cache(&CountingSource::new(1 << 20), 16 << 20);
    let reserve = |partition| cache.cache.reserve(partition, 1 << 20, Evict::Any);
    let held = [CachePartition::CatchUp, CachePartition::Tailing]
        .map(|partition| std::iter::from_fn(|| reserve(partition)).collect::<Vec<_>>());
    assert!(held.iter().all(|held| !held.is_empty()));
    (0..20).for_each(|sequence| cache.write_mebibyte(sequence));
    // A sixteenth of the memory is for what is known about readers.
    assert!(cache.cached_bytes() <= 15 << 20, "{}", cache.cached_bytes());
    drop(held);
    (20..40).for_each(|sequence| cache.write_mebibyte(sequence));
    assert!((30..40).all(|sequence| cache.written(object(sequence)).is_some()));
    assert!(cache.cached_bytes() <= 15 << 20, "{}", cache.cached_bytes());
}

/// The sizes of recent reads say nothing about objects that were written here, and little about
/// those of other writers.
#[tokio::test(start_paused = true)]
async fn responses_to_peers_are_bounded_whatever_their_sizes() {
    let source = CountingSource::new(8 << 20);
    let origin = Arc::clone(&source) as Arc<dyn ObjectSource>;
    let cache = &cache(&source, 128 << 20).with_peer_source(origin);
    cache.reader.shrink_expected_bytes();
    cache.insert_written(object(1), Bytes::from(vec![0; 8 << 20]));
    for sequences in [vec![1; 20], (100..120).collect()] {
        let reads = sequences.into_iter().map(|n| cache.read_for_peer(object(n), 0..BLOCK_BYTES));
        let held: Vec<_> = join_all(reads).await.into_iter().filter_map(Result::ok).collect();
        let bytes: usize = held.iter().map(Bytes::len).sum();
        assert!((8 << 20..=16 << 20).contains(&bytes), "{bytes} bytes of an eighth of the memory");
    }
}

/// The same block is needed at the tail and by a reader that catches up.
#[tokio::test(start_paused = true)]
async fn tailing_reader_does_not_wait_for_the_memory_of_a_catch_up_read() {
    let source = CountingSource::new(1 << 20);
    let cache = &cache(&source, 32 << 20);
    cache.reader.shrink_expected_bytes();
    let reserve = || cache.cache.reserve(CachePartition::CatchUp, 1 << 20, Evict::Any);
    let held: Vec<_> = std::iter::from_fn(reserve).collect();
    let catching_up = async {
        let started = Instant::now();
        cache.read_block(7, Purpose::CatchUp(None)).await;
        started.elapsed()
    };
    let tailing = async {
        tokio::time::sleep(Duration::from_millis(5)).await;
        let started = Instant::now();
        join_all((0..3).map(|_| cache.read_block(7, Purpose::Tailing))).await;
        let elapsed = started.elapsed();
        tokio::time::sleep(Duration::from_millis(5)).await;
        drop(held);
        elapsed
    };
    let (caught_up, tailed) = tokio::join!(catching_up, tailing);
    assert!(tailed <= Duration::from_millis(11), "{tailed:?}");
    assert!(caught_up <= Duration::from_millis(25), "{caught_up:?}");
    assert_eq!(source.requests(), 1);
}

#[test]
fn small_runs_are_copied_out_of_their_block() {
    let block = Block::new(Bytes::from(vec![7; 8_000]));
    let blocks = std::slice::from_ref(&block);
    let (small, large) = (slice_blocks(blocks, &(0..999)), slice_blocks(blocks, &(0..1_000)));
    assert_eq!((small.bytes.len(), small.retained), (999, 999));
    assert_eq!((large.bytes.len(), large.retained), (1_000, 8_000));
    assert_eq!(large.buffer, block.bytes.as_ptr().addr());
}
