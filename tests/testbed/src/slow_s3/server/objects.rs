//! The stored objects.

use std::collections::{BTreeMap, VecDeque};
use std::ops::{Bound, Range};

use bytes::Bytes;

/// Bodies of fewer bytes are copied: a slice would keep the whole read buffer of the connection
/// alive.
const COPY_BYTES_MAX: usize = 64 << 10;

/// An object; its body is kept in the chunks in which it arrived.
#[derive(Debug)]
pub(crate) struct Object {
    pub(crate) len: u64,
    /// `None` when it was dropped.
    body: Option<Vec<Bytes>>,
    /// The number of the write: orders objects by age, and is the `ETag`.
    pub(crate) version: u64,
}

/// All buckets; a key here is `bucket/key`.
#[derive(Debug, Default)]
pub(crate) struct Objects {
    by_key: BTreeMap<String, Object>,
    versions: u64,
    /// The limit of bytes of bodies.
    keep_bytes: Option<u64>,
    kept_bytes: u64,
    /// Keys and versions, the oldest first; only with a limit.
    by_age: VecDeque<(String, u64)>,
}

impl Objects {
    /// Returns an empty store with a limit.
    pub(crate) fn new(keep_bytes: Option<u64>) -> Self {
        Self { keep_bytes, ..Self::default() }
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Object> {
        self.by_key.get(key)
    }

    /// Stores an object, replacing one of the same key; returns its version.
    pub(crate) fn put(&mut self, key: String, mut body: Vec<Bytes>) -> u64 {
        let len = body.iter().map(Bytes::len).sum::<usize>();
        if len < COPY_BYTES_MAX {
            body = vec![Bytes::from(body.concat())];
        }
        self.delete(&key);
        self.versions += 1;
        self.kept_bytes += len as u64;
        if self.keep_bytes.is_some() {
            self.by_age.push_back((key.clone(), self.versions));
        }
        let object = Object { len: len as u64, body: Some(body), version: self.versions };
        self.by_key.insert(key, object);
        self.drop_oldest();
        self.versions
    }

    pub(crate) fn delete(&mut self, key: &str) {
        if let Some(Object { len, body: Some(_), .. }) = self.by_key.remove(key) {
            self.kept_bytes -= len;
        }
    }

    /// Returns the objects after `start` whose keys begin with `prefix`, in order.
    pub(crate) fn after<'a>(
        &'a self,
        prefix: &'a str,
        start: &'a str,
    ) -> impl Iterator<Item = (&'a str, &'a Object)> {
        let from = if start < prefix { Bound::Included(prefix) } else { Bound::Excluded(start) };
        let rows = self.by_key.range::<str, _>((from, Bound::Unbounded));
        rows.map(|(key, object)| (key.as_str(), object))
            .take_while(move |(key, _)| key.starts_with(prefix))
    }

    fn drop_oldest(&mut self) {
        while self.keep_bytes.is_some_and(|bytes| self.kept_bytes > bytes) {
            let Some((key, version)) = self.by_age.pop_front() else { return };
            // Objects overwritten or deleted since were subtracted already.
            if let Some(object) = self.by_key.get_mut(&key)
                && object.version == version
            {
                object.body = None;
                self.kept_bytes -= object.len;
            }
        }
    }
}

impl Object {
    /// Returns a range of its bytes without a copy; `None` when they were dropped.
    pub(crate) fn slice(&self, range: Range<u64>) -> Option<Vec<Bytes>> {
        let (mut slices, mut at) = (Vec::new(), 0);
        for chunk in self.body.as_ref()? {
            let len = chunk.len() as u64;
            let (from, to) = (range.start.clamp(at, at + len), range.end.clamp(at, at + len));
            if from < to {
                slices.push(chunk.slice((from - at) as usize..(to - at) as usize));
            }
            at += len;
        }
        Some(slices)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(byte: u8, len: usize) -> Bytes {
        Bytes::from(vec![byte; len])
    }

    #[test]
    fn slices_span_chunks() {
        let mut objects = Objects::default();
        objects.put("b/k".to_owned(), vec![chunk(1, 50_000), chunk(2, 50_000)]);
        let object = objects.get("b/k").expect("it was put");
        let slices = object.slice(49_999..50_002).expect("it is kept");
        assert_eq!(slices.concat(), [1, 2, 2]);
        assert!(object.slice(100_000..100_000).expect("it is kept").is_empty());
    }

    #[test]
    fn oldest_bodies_are_dropped_and_their_sizes_kept() {
        let mut objects = Objects::new(Some(250));
        for key in ["b/1", "b/2", "b/1", "b/3", "b/4"] {
            objects.put(key.to_owned(), vec![chunk(0, 100)]);
        }
        let kept = |key: &str| objects.get(key).map(|o| (o.len, o.slice(0..1).is_some()));
        assert_eq!(kept("b/2"), Some((100, false)));
        assert_eq!(kept("b/1"), Some((100, false)));
        assert_eq!(kept("b/3"), Some((100, true)));
        assert_eq!(kept("b/4"), Some((100, true)));
        let listed: Vec<_> = objects.after("b/", "b/1").map(|(key, _)| key).collect();
        assert_eq!(listed, ["b/2", "b/3", "b/4"]);
        assert_eq!(objects.kept_bytes, 200);
    }
}
