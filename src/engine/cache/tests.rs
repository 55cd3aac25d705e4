use parking_lot::Mutex;

use async_trait::async_trait;
use futures::future::join_all;

use super::*;
use crate::log::batch::{BatchMetadata, Part};
use crate::log::ids::TopicId;
use crate::log::object_format::{Footer, HEADER, encode_footer};

fn object(sequence: u32) -> ObjectId {
    ObjectId { incarnation: 1, process_id: 1, sequence }
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
        self.asked.lock().len()
    }
}

fn byte(at: u64) -> u8 {
    (at % 251) as u8
}

#[async_trait]
impl ObjectSource for Counting {
    async fn read(&self, _: ObjectId, range: Range<u64>) -> Result<Bytes, StoreError> {
        self.asked.lock().push(range.clone());
        tokio::time::sleep(Duration::from_millis(10)).await;
        Ok((range.start..range.end.min(self.size)).map(byte).collect())
    }

    fn is_local_owner(&self, _: ObjectId) -> bool {
        false
    }
}

fn objects(source: &Arc<Counting>, cache_bytes: u64) -> ObjectCache {
    let source = Arc::clone(source) as Arc<dyn ObjectSource>;
    ObjectCache::new(source, cache_bytes)
}

async fn raw(objects: &ObjectCache, range: Range<u64>) -> Bytes {
    let read = |number| {
        objects.blocks.read(
            BlockId { object: object(0), number },
            ReadClass::Tailing,
            ReadPath::Zone,
        )
    };
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
    let read = async |sequence, read_class| {
        let id = BlockId { object: object(sequence), number: 0 };
        objects.blocks.read(id, read_class, ReadPath::Zone).await.unwrap();
    };
    (0..4)
        .for_each(|own| objects.insert_written(object(1_000 + own), Bytes::from(vec![0; 1 << 20])));
    for sequence in 0..4 {
        read(sequence, ReadClass::Tailing).await;
    }
    for sequence in 100..300 {
        read(sequence, ReadClass::CatchUp).await;
    }
    let before = source.asked();
    for sequence in 0..4 {
        read(sequence, ReadClass::Tailing).await;
        assert!(objects.own(object(1_000 + sequence)).is_some());
    }
    assert_eq!(source.asked(), before);
}

#[tokio::test(start_paused = true)]
async fn readers_that_give_up_leave_no_turn_taken() {
    let source = Counting::new(100);
    let objects = objects(&source, 1 << 30);
    let read = |sequence| {
        let id = BlockId { object: object(sequence), number: 0 };
        objects.blocks.read(id, ReadClass::CatchUp, ReadPath::Zone)
    };
    let impatient = join_all((0..50).map(read));
    assert!(tokio::time::timeout(Duration::from_millis(1), impatient).await.is_err());
    let patient = tokio::time::timeout(Duration::from_secs(1), read(100));
    assert!(patient.await.expect("it has its turn").is_ok());
}

/// Gives the bytes of one object.
#[derive(Debug)]
struct One(Bytes);

#[async_trait]
impl ObjectSource for One {
    async fn read(&self, object: ObjectId, range: Range<u64>) -> Result<Bytes, StoreError> {
        if range.start >= self.0.len() as u64 {
            return Err(error(StoreErrorKind::InvalidRange, object, "behind its end".to_owned()));
        }
        let end = range.end.min(self.0.len() as u64);
        Ok(self.0.slice(range.start as usize..end as usize))
    }
}

/// Where the footer of an object of two parts lies among the blocks, to a byte.
#[tokio::test(start_paused = true)]
async fn the_owner_is_found_wherever_the_footer_lies() {
    let claim = |bytes: u64| BatchMetadata {
        bytes: bytes as u32,
        offset_count: 1,
        max_timestamp: 0,
        producer: None,
    };
    let partition = |partition| TopicPartition { topic: TopicId([7; 16]), partition };
    for end in (1..=2).flat_map(|n| [-2_000, -16, -8, -1, 0, 1, 10].map(|d| (n, d))) {
        let object_bytes = (end.0 * BLOCK_BYTES).saturating_add_signed(end.1);
        let first = HEADER.len() as u64;
        let footer = |second: u64| {
            let row = |index, to, start, bytes| Part {
                index,
                partition: partition(to),
                start,
                batches: vec![claim(bytes)],
            };
            let parts = vec![row(0, 1, first, 100), row(1, 2, first + 100, second)];
            let (replica, journal) = (String::new(), Vec::new());
            encode_footer(&Footer { object: object(0), replica, sealed_ms: 0, parts, journal })
        };
        // A length that takes as many bytes to write as the one that is searched.
        let second = object_bytes - first - 100 - footer(object_bytes - 300).len() as u64;
        let whole = [vec![0; (first + 100 + second) as usize], footer(second).to_vec()].concat();
        assert_eq!(whole.len() as u64, object_bytes);
        let objects = ObjectCache::new(Arc::new(One(Bytes::from(whole))), 1 << 30);
        let id = BlockId { object: object(0), number: 0 };
        let block = objects.blocks.read(id, ReadClass::Tailing, ReadPath::Zone).await.unwrap();
        let contents =
            objects.contents(object(0), &[block], 1, ReadClass::Tailing, ReadPath::Zone).await;
        let contents = contents.unwrap();
        let held = [(1, 0..100), (2, 100..100 + second)].map(|(to, range)| {
            contents.holds(partition(to), &(first + range.start..first + range.end))
        });
        assert_eq!(held, [true, true], "{end:?}");
        let spans = contents.holds(partition(1), &(first..first + 101));
        assert!(!spans && !contents.holds(partition(2), &(first..first + 1)), "{end:?}");
        assert!(!contents.holds(partition(1), &(0..1)), "{end:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_reads_on_leaves_the_past_to_be_dropped_and_not_what_comes_next() {
    let source = Counting::new(1 << 20);
    let objects = objects(&source, 32 << 20);
    let read = async |sequence| {
        let id = BlockId { object: object(sequence), number: 0 };
        objects.blocks.read(id, ReadClass::CatchUp, ReadPath::Zone).await.unwrap();
    };
    (0..16)
        .for_each(|own| objects.insert_written(object(1_000 + own), Bytes::from(vec![0; 1 << 20])));
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
    let read = async |sequence, read_class| {
        let id = BlockId { object: object(sequence), number: 0 };
        objects.blocks.read(id, read_class, ReadPath::Zone).await.unwrap();
    };
    for _ in 0..3 {
        for sequence in 0..30 {
            read(sequence, ReadClass::CatchUp).await;
        }
    }
    assert_eq!(source.asked(), 30, "history has all of it while it is alone");
    for sequence in 100..104 {
        read(sequence, ReadClass::Tailing).await;
    }
    (0..15)
        .for_each(|own| objects.insert_written(object(1_000 + own), Bytes::from(vec![0; 1 << 20])));
    let before = source.asked();
    for sequence in 100..104 {
        read(sequence, ReadClass::Tailing).await;
    }
    assert_eq!(source.asked(), before, "the others have their shares");
    assert!((0..15).all(|own| objects.own(object(1_000 + own)).is_some()));
    assert!(objects.memory.bytes() <= 32 << 20);
    objects.insert_written(object(2_000), Bytes::from(vec![0; 33 << 20]));
    assert!(objects.own(object(2_000)).is_none(), "what fits into nothing is not kept");
}

/// The only run of an object of a mebibyte.
fn whole(sequence: u32) -> Run {
    let (base_offset, offset_count) = (sequence.into(), 1);
    let (object, max_timestamp) = (object(sequence), -1);
    Run { base_offset, offset_count, object, start: 0, bytes: 1 << 20, max_timestamp }
}

/// Five that read the same from the beginning, one of them as fast as it is given, the others
/// slower; the memory holds a tenth of it.
#[tokio::test(start_paused = true)]
async fn readers_of_history_at_about_the_same_place_share_what_one_of_them_read() {
    const OBJECTS: u32 = 300;
    let source = Counting::new(1 << 20);
    let objects = &objects(&source, 32 << 20);
    let reader = |pause| async move {
        for sequence in 0..OBJECTS {
            let id = BlockId { object: object(sequence), number: 0 };
            objects.blocks.read(id, ReadClass::CatchUp, ReadPath::Zone).await.unwrap();
            tokio::time::sleep(Duration::from_millis(pause)).await;
            objects.record_progress(&whole(sequence));
        }
    };
    join_all([0, 1, 2, 5, 14].map(reader)).await;
    let asked = source.asked();
    assert!(asked < OBJECTS as usize * 11 / 10, "{asked} GETs");
}

#[tokio::test(start_paused = true)]
async fn what_nobody_came_to_for_a_while_makes_room() {
    let source = Counting::new(1 << 20);
    let objects = objects(&source, 8 << 20);
    let has_room = || objects.blocks.has_room_ahead();
    for sequence in 0..7 {
        assert!(has_room(), "{sequence}");
        let id = BlockId { object: object(sequence), number: 0 };
        objects.blocks.read(id, ReadClass::CatchUp, ReadPath::Zone).await.unwrap();
    }
    assert!(!has_room(), "somebody may be coming to each of them");
    objects.record_progress(&whole(3));
    assert!(has_room(), "everybody has passed this one");
    let id = BlockId { object: object(7), number: 0 };
    objects.blocks.read(id, ReadClass::CatchUp, ReadPath::Zone).await.unwrap();
    assert!(objects.blocks.cached(BlockId { object: object(3), number: 0 }).is_none());
    assert!(!has_room());
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert!(has_room(), "nobody came");
}
