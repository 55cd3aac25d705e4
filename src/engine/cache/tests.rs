use async_trait::async_trait;
use futures::future::join_all;
use lru::LruCache;
use parking_lot::Mutex;

use super::*;
use crate::engine::memory::{ConnectionQuota, MemoryLimiter};
use crate::log::batch::{BatchMetadata, Part};
use crate::log::ids::TopicId;
use crate::log::object_format::{Footer, HEADER, encode_footer};

fn object(sequence: u32) -> ObjectId {
    ObjectId { incarnation: 1, process_id: 1, sequence }
}

fn block(sequence: u32) -> BlockId {
    BlockId { object: object(sequence), index: 0 }
}

/// Serves objects of one size whose bytes depend on their offset, and counts requests. Each takes
/// 10 ms.
#[derive(Debug)]
struct CountingSource {
    size: u64,
    requests: Mutex<Vec<Range<u64>>>,
}

impl CountingSource {
    fn new(size: u64) -> Arc<Self> {
        Arc::new(Self { size, requests: Mutex::default() })
    }

    fn requests(&self) -> usize {
        self.requests.lock().len()
    }
}

fn byte(at: u64) -> u8 {
    (at % 251) as u8
}

#[async_trait]
impl ObjectSource for CountingSource {
    async fn read(&self, _: ObjectId, range: Range<u64>) -> Result<Bytes, StoreError> {
        self.requests.lock().push(range.clone());
        tokio::time::sleep(Duration::from_millis(10)).await;
        Ok((range.start..range.end.min(self.size)).map(byte).collect())
    }

    fn is_local_owner(&self, _: ObjectId) -> bool {
        false
    }
}

fn cache(source: &Arc<CountingSource>, cache_bytes: u64) -> ObjectCache {
    let source = Arc::clone(source) as Arc<dyn ObjectSource>;
    ObjectCache::new(source, cache_bytes)
}

impl ObjectCache {
    async fn read_block(&self, sequence: u32, purpose: Purpose) {
        self.reader.read(block(sequence), purpose, ReadPath::Zone).await.unwrap();
    }

    async fn read_range(&self, range: Range<u64>) -> Bytes {
        let purpose = Purpose::Tailing;
        let blocks = self.read_blocks(object(0), &range, purpose, ReadPath::Zone).await.unwrap();
        slice_blocks(&blocks, &range).bytes
    }

    fn write_mebibyte(&self, sequence: u32) {
        self.insert_written(object(sequence), Bytes::from(vec![0; 1 << 20]));
    }
}

#[tokio::test(start_paused = true)]
async fn ranges_within_and_across_blocks_are_sliced() {
    let source = CountingSource::new(2 * BLOCK_BYTES + 100);
    let cache = cache(&source, 1 << 30);
    for range in [
        0..10,
        BLOCK_BYTES - 5..BLOCK_BYTES,
        BLOCK_BYTES - 5..BLOCK_BYTES + 5,
        BLOCK_BYTES..BLOCK_BYTES + 5,
        BLOCK_BYTES - 1..2 * BLOCK_BYTES + 1,
        2 * BLOCK_BYTES + 90..2 * BLOCK_BYTES + 120,
    ] {
        let expected: Vec<u8> = (range.start..range.end.min(source.size)).map(byte).collect();
        assert!(cache.read_range(range.clone()).await == expected, "{range:?}");
    }
    assert_eq!(source.requests(), 3, "one request per block");
}

#[tokio::test(start_paused = true)]
async fn concurrent_readers_of_a_block_share_one_read() {
    let source = CountingSource::new(100);
    let cache = cache(&source, 1 << 30);
    join_all((0..50).map(|_| cache.read_range(0..100))).await;
    assert_eq!(source.requests(), 1);
    cache.read_range(0..100).await;
    assert_eq!(source.requests(), 1, "later readers find it in the cache");
}

#[tokio::test(start_paused = true)]
async fn catch_up_reads_do_not_evict_tailing_blocks() {
    let source = CountingSource::new(1 << 20);
    let cache = cache(&source, 64 << 20);
    (0..4).for_each(|written| cache.write_mebibyte(1_000 + written));
    for sequence in 0..4 {
        cache.read_block(sequence, Purpose::Tailing).await;
    }
    for sequence in 100..300 {
        cache.read_block(sequence, Purpose::CatchUp(None)).await;
    }
    let before = source.requests();
    for sequence in 0..4 {
        cache.read_block(sequence, Purpose::Tailing).await;
        assert!(cache.written(object(1_000 + sequence)).is_some());
    }
    assert_eq!(source.requests(), before);
}

#[tokio::test(start_paused = true)]
async fn cancelled_readers_release_their_read_permits() {
    let source = CountingSource::new(100);
    let cache = cache(&source, 1 << 30);
    let cancelled = join_all((0..50).map(|n| cache.read_block(n, Purpose::CatchUp(None))));
    assert!(tokio::time::timeout(Duration::from_millis(1), cancelled).await.is_err());
    let read = cache.reader.read(block(100), Purpose::CatchUp(None), ReadPath::Zone);
    let read = tokio::time::timeout(Duration::from_secs(1), read);
    assert!(read.await.expect("a permit is available").is_ok());
}

/// Serves the bytes of one object.
#[derive(Debug)]
struct SingleObject(Bytes);

#[async_trait]
impl ObjectSource for SingleObject {
    async fn read(&self, object: ObjectId, range: Range<u64>) -> Result<Bytes, StoreError> {
        if range.start >= self.0.len() as u64 {
            let detail = "range starts after the object".to_owned();
            return Err(read_error(StoreErrorKind::InvalidRange, object, detail));
        }
        let end = range.end.min(self.0.len() as u64);
        Ok(self.0.slice(range.start as usize..end as usize))
    }
}

/// Objects of two parts, with the footer at every position around a block boundary.
#[tokio::test(start_paused = true)]
async fn owner_is_verified_wherever_the_footer_is_stored() {
    let metadata = |bytes: u64| BatchMetadata {
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
            let part = |index, to, start, bytes| Part {
                index,
                partition: partition(to),
                start,
                batches: vec![metadata(bytes)],
            };
            let parts = vec![part(0, 1, first, 100), part(1, 2, first + 100, second)];
            encode_footer(&Footer::wal(object(0), "", 0, parts))
        };
        // A length whose encoding takes as many bytes as that of the length to be found.
        let second = object_bytes - first - 100 - footer(object_bytes - 300).len() as u64;
        let whole = [vec![0; (first + 100 + second) as usize], footer(second).to_vec()].concat();
        assert_eq!(whole.len() as u64, object_bytes);
        let cache = ObjectCache::new(Arc::new(SingleObject(Bytes::from(whole))), 1 << 30);
        let (purpose, path) = (Purpose::Tailing, ReadPath::Zone);
        let block = cache.reader.read(block(0), purpose, path).await.unwrap();
        let layout = cache.read_layout(object(0), &[block], 1, purpose, path).await.unwrap();
        let contained = [(1, 0..100), (2, 100..100 + second)].map(|(to, range)| {
            layout.contains(partition(to), &(first + range.start..first + range.end))
        });
        assert_eq!(contained, [true, true], "{end:?}");
        let spans_parts = layout.contains(partition(1), &(first..first + 101));
        assert!(!spans_parts && !layout.contains(partition(2), &(first..first + 1)), "{end:?}");
        assert!(!layout.contains(partition(1), &(0..1)), "{end:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn sequential_reader_with_read_ahead_reads_each_block_once() {
    let source = CountingSource::new(1 << 20);
    let cache = cache(&source, 32 << 20);
    // Until sizes are known, blocks in flight take the memory of several.
    cache.reader.shrink_expected_bytes();
    (0..16).for_each(|written| cache.write_mebibyte(1_000 + written));
    for sequence in 0..64 {
        // Twelve partitions of the object, then four objects of read-ahead.
        join_all((0..12).map(|_| cache.read_block(sequence, Purpose::CatchUp(None)))).await;
        join_all((1..=4).map(|n| cache.read_block(sequence + n, Purpose::CatchUp(None)))).await;
    }
    assert_eq!(source.requests(), 68, "one request per object");
}

#[tokio::test(start_paused = true)]
async fn free_capacity_is_lent_to_other_partitions_and_reclaimed() {
    let source = CountingSource::new(1 << 20);
    let cache = cache(&source, 36 << 20);
    // Until sizes are known, blocks in flight take the memory of several.
    cache.reader.shrink_expected_bytes();
    for _ in 0..3 {
        for sequence in 0..30 {
            cache.read_block(sequence, Purpose::CatchUp(None)).await;
        }
    }
    assert_eq!(source.requests(), 30, "catch-up reads use the whole cache while it is free");
    for sequence in 100..104 {
        cache.read_block(sequence, Purpose::Tailing).await;
    }
    (0..11).for_each(|written| cache.write_mebibyte(1_000 + written));
    let before = source.requests();
    for sequence in 100..104 {
        cache.read_block(sequence, Purpose::Tailing).await;
    }
    assert_eq!(source.requests(), before, "the other partitions have their shares");
    assert!((0..11).all(|written| cache.written(object(1_000 + written)).is_some()));
    assert!(cache.cached_bytes() <= 36 << 20);
    cache.insert_written(object(2_000), Bytes::from(vec![0; 37 << 20]));
    assert!(cache.written(object(2_000)).is_none(), "objects above the capacity are not cached");
}

/// The only run of an object of 1 MiB.
fn whole_run(sequence: u32) -> Run {
    let (base_offset, offset_count) = (sequence.into(), 1);
    let (object, max_timestamp) = (object(sequence), -1);
    Run { base_offset, offset_count, object, start: 0, bytes: 1 << 20, max_timestamp }
}

/// Objects of 1 MiB that each of the readers below reads in order.
const REPLAYED: u32 = 300;
/// Pause of each reader after an object, in milliseconds. The cache holds a tenth of the objects.
const READER_PAUSES_MS: [u64; 5] = [0, 1, 2, 5, 14];

/// Objects ahead of its position that a reader reports.
const REPORTED: u32 = 20;

impl ObjectCache {
    /// Reports that a reader continues with the run of this object.
    fn report(&self, reader: &ConnectionQuota, sequence: u32) {
        let runs: Vec<Run> = (sequence..REPLAYED.min(sequence + REPORTED)).map(whole_run).collect();
        let partition = TopicPartition { topic: TopicId([7; 16]), partition: 0 };
        let offset = Some(sequence.into());
        self.report_positions(reader.reader(), [(partition, offset, [&runs[..], &[]])].into_iter());
    }

    async fn replay(&self, reader: &ConnectionQuota, pause_ms: u64) {
        for sequence in 0..REPLAYED {
            self.report(reader, sequence);
            self.read_block(sequence, Purpose::CatchUp(Some(reader.reader()))).await;
            tokio::time::sleep(Duration::from_millis(pause_ms)).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn catch_up_readers_near_the_same_position_share_reads() {
    let source = CountingSource::new(1 << 20);
    let cache = &cache(&source, 32 << 20);
    let limiter = MemoryLimiter::new(1 << 20, Arc::default());
    let readers = READER_PAUSES_MS.map(|pause| (limiter.quota(1), pause));
    join_all(readers.iter().map(|(reader, pause)| cache.replay(reader, *pause))).await;
    let requests = source.requests();
    assert!(requests < REPLAYED as usize * 11 / 10, "{requests} GETs");
    assert!(cache.cached_bytes() <= 32 << 20);
}

/// A reader that stops does not hold up the others for longer than it counts as active.
#[tokio::test(start_paused = true)]
async fn stopped_reader_does_not_hold_up_others() {
    let source = CountingSource::new(1 << 20);
    let cache = &cache(&source, 32 << 20);
    let limiter = MemoryLimiter::new(1 << 20, Arc::default());
    let (stopped, reader) = (limiter.quota(1), limiter.quota(1));
    cache.report(&stopped, 0);
    let started = Instant::now();
    cache.replay(&reader, 0).await;
    let elapsed = started.elapsed();
    assert!(elapsed < Duration::from_secs(2 + 4), "{elapsed:?}");
}

#[tokio::test(start_paused = true)]
async fn lookups_and_admission_visit_no_runs() {
    let source = CountingSource::new(1 << 20);
    let cache = &cache(&source, 32 << 20);
    let limiter = MemoryLimiter::new(1 << 20, Arc::default());
    let reader = limiter.quota(1);
    // Ten thousand partitions with a run in each of three blocks.
    for index in 0..10_000 {
        let partition = TopicPartition { topic: TopicId([7; 16]), partition: index };
        let run = |sequence| Run { start: index as u64 * 100, bytes: 100, ..whole_run(sequence) };
        let runs = [0, 1, 2].map(run);
        let report = (partition, Some(0), [&runs[..], &[]]);
        cache.report_positions(reader.reader(), [report].into_iter());
    }
    let before = cache.cache.reader_steps();
    let purpose = Purpose::CatchUp(Some(reader.reader()));
    for sequence in (0..3).cycle().take(1_000) {
        cache.read_block(sequence, purpose).await;
    }
    for sequence in 100..150 {
        cache.read_block(sequence, purpose).await;
        cache.read_ahead(&whole_run(sequence + 100));
    }
    assert_eq!(cache.cache.reader_steps(), before);
    // A position that advances visits the runs that it passes.
    let partition = TopicPartition { topic: TopicId([7; 16]), partition: 0 };
    cache.report_positions(reader.reader(), [(partition, Some(2), [&[][..], &[]])].into_iter());
    assert_eq!(cache.cache.reader_steps(), before + 2);
}

/// The same readers above a plain LRU cache of the same capacity. The slowest falls behind what the
/// cache retains and from then on reads every object again.
#[tokio::test(start_paused = true)]
async fn plain_lru_reads_objects_again_for_the_slowest_reader() {
    let capacity = std::num::NonZero::new(32).unwrap();
    let lru = &Mutex::new(LruCache::new(capacity));
    let requests = &Mutex::new(0);
    let reader = |pause_ms| async move {
        for sequence in 0..REPLAYED {
            // Inserted before the read has completed, in favour of the plain cache: concurrent
            // readers neither wait nor read for themselves.
            let is_cached = lru.lock().put(sequence, ()).is_some();
            if !is_cached {
                *requests.lock() += 1;
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            tokio::time::sleep(Duration::from_millis(pause_ms)).await;
        }
    };
    join_all(READER_PAUSES_MS.map(reader)).await;
    let requests = *requests.lock();
    assert!(requests > REPLAYED * 3 / 2, "{requests} GETs");
}

#[tokio::test(start_paused = true)]
async fn only_blocks_that_no_reader_needs_admit_read_ahead() {
    let source = CountingSource::new(1 << 20);
    let cache = &cache(&source, 18 << 20);
    cache.reader.shrink_expected_bytes();
    let limiter = MemoryLimiter::new(1 << 20, Arc::default());
    let reader = limiter.quota(1);
    let read_ahead = |sequence| cache.read_ahead(&whole_run(sequence));
    cache.report(&reader, 0);
    assert!((0..8).all(read_ahead), "half of the memory may be in flight");
    assert!(!read_ahead(8));
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!((8..16).all(read_ahead), "the cache holds sixteen blocks");
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!read_ahead(16), "all of them are needed");
    cache.report(&reader, 2);
    assert!(read_ahead(16) && read_ahead(17), "the reader has passed two blocks");
    assert!(cache.reader.cached(block(0)).is_none());
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!read_ahead(18));
    tokio::time::sleep(Duration::from_secs(3)).await;
    let _expired = cache.cache.active_readers();
    assert!(read_ahead(18), "the reader is no longer active");
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(source.requests(), 19);
}

/// A cache that is smaller than two objects still admits reads beside what was written.
#[tokio::test(start_paused = true)]
async fn small_cache_admits_large_blocks() {
    let source = CountingSource::new(8 << 20);
    let cache = &cache(&source, 8 << 20);
    (0..2).for_each(|written| cache.write_mebibyte(1_000 + written));
    let limiter = MemoryLimiter::new(1 << 20, Arc::default());
    let reader = Some(limiter.quota(1).reader());
    let started = Instant::now();
    for purpose in [Purpose::Tailing, Purpose::CatchUp(reader), Purpose::Peer] {
        join_all((0..5).map(|n| cache.read_block(n, purpose))).await;
    }
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
    assert!((0..2).all(|written| cache.written(object(1_000 + written)).is_some()));
}

#[tokio::test(start_paused = true)]
async fn catch_up_reads_leave_memory_to_tailing_reads() {
    let source = CountingSource::new(1 << 20);
    let cache = &cache(&source, 32 << 20);
    let limiter = MemoryLimiter::new(1 << 20, Arc::default());
    let reader = Some(limiter.quota(1).reader());
    let catching_up = join_all((0..500).map(|n| cache.read_block(n, Purpose::CatchUp(reader))));
    let tailing = async {
        tokio::time::sleep(Duration::from_millis(5)).await;
        let started = Instant::now();
        cache.read_block(1_000, Purpose::Tailing).await;
        assert!(started.elapsed() <= Duration::from_millis(11), "{:?}", started.elapsed());
    };
    tokio::join!(catching_up, tailing);
}

mod memory;
