//! Memory of blocks in flight, of slices and of responses to peers.

use super::*;

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

#[test]
fn small_runs_are_copied_out_of_their_block() {
    let block = Block::new(Bytes::from(vec![7; 8_000]));
    let blocks = std::slice::from_ref(&block);
    let (small, large) = (slice_blocks(blocks, &(0..999)), slice_blocks(blocks, &(0..1_000)));
    assert_eq!((small.bytes.len(), small.retained), (999, 999));
    assert_eq!((large.bytes.len(), large.retained), (1_000, 8_000));
    assert_eq!(large.buffer, block.bytes.as_ptr().addr());
}
