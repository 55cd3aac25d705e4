use std::sync::Mutex;

use async_trait::async_trait;
use futures::future::join_all;

use super::*;

fn object(sequence: u32) -> ObjectId {
    ObjectId { incarnation: 1, replica: 1, sequence }
}

/// Gives bytes by their position, of objects of one size; counts what it is asked.
#[derive(Debug)]
struct Counting {
    size: u64,
    asked: Mutex<Vec<Range<u64>>>,
}

impl Counting {
    fn new(size: u64) -> Arc<Self> {
        Arc::new(Self { size, asked: Mutex::default() })
    }

    fn asked(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

fn byte(at: u64) -> u8 {
    (at % 251) as u8
}

#[async_trait]
impl Source for Counting {
    async fn read(&self, _: ObjectId, range: Range<u64>) -> Result<Bytes, StoreError> {
        self.asked.lock().unwrap().push(range.clone());
        tokio::time::sleep(Duration::from_millis(10)).await;
        Ok((range.start..range.end.min(self.size)).map(byte).collect())
    }

    fn is_mine(&self, _: ObjectId) -> bool {
        false
    }
}

fn objects(source: &Arc<Counting>, cache_bytes: u64) -> Objects {
    let source = Arc::clone(source) as Arc<dyn Source>;
    Objects::new(source, cache_bytes)
}

async fn raw(objects: &Objects, range: Range<u64>) -> Bytes {
    let read =
        |number| objects.blocks.read(BlockId { object: object(0), number }, Lane::Tail, Via::Zone);
    cut(&try_join_all(numbers(&range).map(read)).await.unwrap(), &range)
}

#[tokio::test(start_paused = true)]
async fn ranges_are_cut_from_blocks_wherever_they_lie() {
    let source = Counting::new(2 * BLOCK_BYTES + 100);
    let objects = objects(&source, 1 << 30);
    for range in [
        0..10,
        BLOCK_BYTES - 5..BLOCK_BYTES,
        BLOCK_BYTES - 5..BLOCK_BYTES + 5,
        BLOCK_BYTES..BLOCK_BYTES + 5,
        BLOCK_BYTES - 1..2 * BLOCK_BYTES + 1,
        2 * BLOCK_BYTES + 90..2 * BLOCK_BYTES + 120,
    ] {
        let expected: Vec<u8> = (range.start..range.end.min(source.size)).map(byte).collect();
        assert!(raw(&objects, range.clone()).await == expected, "{range:?}");
    }
    assert_eq!(source.asked(), 3, "each block once");
}

#[tokio::test(start_paused = true)]
async fn who_wants_a_block_at_the_same_time_shares_the_read() {
    let source = Counting::new(100);
    let objects = objects(&source, 1 << 30);
    join_all((0..50).map(|_| raw(&objects, 0..100))).await;
    assert_eq!(source.asked(), 1);
    raw(&objects, 0..100).await;
    assert_eq!(source.asked(), 1, "and later ones find it in memory");
}

#[tokio::test(start_paused = true)]
async fn history_does_not_evict_the_tail() {
    let source = Counting::new(1 << 20);
    let objects = objects(&source, 64 << 20);
    let read = async |sequence, lane| {
        let id = BlockId { object: object(sequence), number: 0 };
        objects.blocks.read(id, lane, Via::Zone).await.unwrap();
    };
    (0..4).for_each(|own| objects.remember(object(1_000 + own), Bytes::from(vec![0; 1 << 20])));
    for sequence in 0..4 {
        read(sequence, Lane::Tail).await;
    }
    for sequence in 100..300 {
        read(sequence, Lane::History).await;
    }
    let before = source.asked();
    for sequence in 0..4 {
        read(sequence, Lane::Tail).await;
        assert!(objects.of_own(object(1_000 + sequence), &(0..10)).is_some());
    }
    assert_eq!(source.asked(), before);
}

#[tokio::test(start_paused = true)]
async fn who_reads_on_leaves_the_past_to_be_dropped_and_not_what_comes_next() {
    let source = Counting::new(1 << 20);
    let objects = objects(&source, 32 << 20);
    let read = async |sequence| {
        let id = BlockId { object: object(sequence), number: 0 };
        objects.blocks.read(id, Lane::History, Via::Zone).await.unwrap();
    };
    (0..16).for_each(|own| objects.remember(object(1_000 + own), Bytes::from(vec![0; 1 << 20])));
    for sequence in 0..64 {
        // Twelve partitions of it, and what comes next is read ahead.
        join_all((0..12).map(|_| read(sequence))).await;
        join_all((1..=4).map(|ahead| read(sequence + ahead))).await;
    }
    assert_eq!(source.asked(), 68, "each once");
}

#[tokio::test(start_paused = true)]
async fn memory_that_nobody_else_needs_is_used_by_whom_it_serves() {
    let source = Counting::new(1 << 20);
    let objects = objects(&source, 32 << 20);
    let read = async |sequence, lane| {
        let id = BlockId { object: object(sequence), number: 0 };
        objects.blocks.read(id, lane, Via::Zone).await.unwrap();
    };
    for _ in 0..3 {
        for sequence in 0..30 {
            read(sequence, Lane::History).await;
        }
    }
    assert_eq!(source.asked(), 30, "history has all of it while it is alone");
    for sequence in 100..104 {
        read(sequence, Lane::Tail).await;
    }
    (0..15).for_each(|own| objects.remember(object(1_000 + own), Bytes::from(vec![0; 1 << 20])));
    let before = source.asked();
    for sequence in 100..104 {
        read(sequence, Lane::Tail).await;
    }
    assert_eq!(source.asked(), before, "the others have their shares");
    assert!((0..15).all(|own| objects.of_own(object(1_000 + own), &(0..10)).is_some()));
    assert!(objects.memory.bytes() <= 32 << 20);
    objects.remember(object(2_000), Bytes::from(vec![0; 33 << 20]));
    assert!(objects.own(object(2_000)).is_none(), "what fits into nothing is not kept");
}
