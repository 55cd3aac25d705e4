//! Kafka's frames: a length of four bytes, then the frame. Sans-IO: the caller reads and writes.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// The free space that the buffer offers to the next read, in bytes.
const READ_BYTES: usize = 64 << 10;
/// The length of the prefix that announces a frame's length.
pub const PREFIX_BYTES: usize = 4;

/// Reason that a frame cannot be written: its length does not fit the prefix, an `i32`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("frame of {0} bytes is too long: expected at most {max}", max = i32::MAX)]
pub struct FrameTooLong(pub usize);

/// Returns the length prefix of a frame of `bytes` bytes, the prefix not counted.
///
/// # Errors
/// [`FrameTooLong`] if the length does not fit an `i32`.
pub fn length_prefix(bytes: usize) -> Result<[u8; PREFIX_BYTES], FrameTooLong> {
    i32::try_from(bytes).map(i32::to_be_bytes).map_err(|_| FrameTooLong(bytes))
}

/// Begins a frame with an empty length prefix, which [`finish`] fills in.
pub fn begin() -> BytesMut {
    let mut frame = BytesMut::new();
    frame.put_bytes(0, PREFIX_BYTES);
    frame
}

/// Fills in the length prefix of a frame that [`begin`] began.
///
/// # Errors
/// [`FrameTooLong`] if the length does not fit an `i32`.
pub fn finish(mut frame: BytesMut) -> Result<Bytes, FrameTooLong> {
    let prefix = length_prefix(frame.len().saturating_sub(PREFIX_BYTES))?;
    frame[..PREFIX_BYTES].copy_from_slice(&prefix);
    Ok(frame.freeze())
}

/// Cuts a stream of bytes into frames.
///
/// # Guarantees
///
/// An announced length reserves no memory: the buffer grows with the bytes that arrived, by at most
/// 64 KiB or to at most twice their size.
#[derive(Debug)]
pub struct FrameReader {
    buffer: BytesMut,
    frame_bytes_max: usize,
    read_bytes: usize,
}

/// Reason that a stream cannot be cut into further frames. The connection has to close.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A TLS handshake.
    #[error("TLS handshake on a plaintext port")]
    Tls,
    /// An HTTP request or response.
    #[error("HTTP request on a Kafka port")]
    Http,
    /// A header of the PROXY protocol.
    #[error(
        "PROXY protocol header from an address that `listeners.proxyProtocolFrom` does not contain"
    )]
    Proxy,
    /// A length of zero or less.
    #[error("invalid frame length {0}: expected at least 1")]
    NotPositive(i32),
    /// A length over the limit. A broker also closes the connection as soon as it has read such a
    /// length (`socket.request.max.bytes`).
    #[error("frame of {bytes} bytes exceeds the limit of {bytes_max}")]
    TooLarge {
        /// The announced length.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
}

impl FrameReader {
    /// Creates a reader that rejects frames longer than `frame_bytes_max`, the prefix not counted.
    pub fn new(frame_bytes_max: usize) -> Self {
        Self { buffer: BytesMut::new(), frame_bytes_max, read_bytes: READ_BYTES }
    }

    /// Creates a reader for a peer that is not trusted yet: its buffer begins with `read_bytes` bytes.
    pub fn with_read_bytes(frame_bytes_max: usize, read_bytes: usize) -> Self {
        Self { read_bytes, ..Self::new(frame_bytes_max) }
    }

    /// Raises the limits once the peer is trusted: longer frames, and larger reads.
    pub fn set_frame_bytes_max(&mut self, frame_bytes_max: usize) {
        self.frame_bytes_max = frame_bytes_max;
        self.read_bytes = READ_BYTES;
    }

    /// Returns the buffer, with free space, to which the caller appends what arrived.
    pub fn buffer(&mut self) -> &mut BytesMut {
        if self.buffer.capacity() - self.buffer.len() < self.read_bytes / 4 {
            self.buffer.reserve(self.read_bytes);
        }
        &mut self.buffer
    }

    /// Returns the next whole frame without its length prefix, or `None` if more bytes are needed.
    /// The frame is a slice of the read buffer and keeps all of the buffer in memory.
    ///
    /// # Errors
    /// [`FrameError`] if the length is invalid.
    pub fn next_frame(&mut self) -> Result<Option<Bytes>, FrameError> {
        let Some(length) = self.length()? else {
            return Ok(None);
        };
        if self.buffer.len() - PREFIX_BYTES < length {
            return Ok(None);
        }
        self.buffer.advance(PREFIX_BYTES);
        Ok(Some(self.buffer.split_to(length).freeze()))
    }

    /// Returns the length of the frame that has begun to arrive. It is meaningful once
    /// [`FrameReader::next_frame`] has returned `None`.
    pub fn pending_frame_bytes(&self) -> Option<usize> {
        self.length().ok().flatten()
    }

    /// Returns the number of bytes of that frame that have arrived.
    pub fn pending_bytes(&self) -> usize {
        self.buffer.len().saturating_sub(PREFIX_BYTES)
    }

    /// Returns the bytes of that frame that have arrived.
    pub fn pending_frame(&self) -> &[u8] {
        self.buffer.get(PREFIX_BYTES..).unwrap_or_default()
    }

    /// Releases the buffer if it is empty: there are many idle connections.
    pub fn release_buffer(&mut self) {
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
        }
    }

    /// Returns whether the stream, if it ends here, ends between two frames.
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    fn length(&self) -> Result<Option<usize>, FrameError> {
        let Some((prefix, _)) = self.buffer.split_first_chunk::<PREFIX_BYTES>() else {
            return Ok(None);
        };
        let read = i32::from_be_bytes(*prefix);
        match usize::try_from(read) {
            Ok(bytes) if bytes > self.frame_bytes_max => Err(detect_other_protocol(*prefix)
                .unwrap_or(FrameError::TooLarge { bytes, bytes_max: self.frame_bytes_max })),
            Ok(bytes @ 1..) => Ok(Some(bytes)),
            _ => Err(FrameError::NotPositive(read)),
        }
    }
}

/// Detects another protocol by its first bytes, which read as a length are hundreds of megabytes.
fn detect_other_protocol(prefix: [u8; PREFIX_BYTES]) -> Option<FrameError> {
    match &prefix {
        [0x16, 0x03, ..] => Some(FrameError::Tls),
        b"GET " | b"POST" | b"HEAD" | b"PUT " | b"OPTI" | b"HTTP" | b"PRI " => {
            Some(FrameError::Http)
        }
        b"\r\n\r\n" | b"PROX" => Some(FrameError::Proxy),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MAX: usize = 100 << 20;

    fn read(bytes: &[u8]) -> Result<Option<Bytes>, FrameError> {
        let mut reader = FrameReader::new(MAX);
        reader.buffer().extend_from_slice(bytes);
        reader.next_frame()
    }

    #[test]
    fn cuts_frames() {
        let mut reader = FrameReader::new(MAX);
        reader.buffer().extend_from_slice(b"\0\0\0\x02ab\0\0\0\x01c\0\0");
        assert_eq!(reader.next_frame(), Ok(Some(Bytes::from_static(b"ab"))));
        assert_eq!(reader.next_frame(), Ok(Some(Bytes::from_static(b"c"))));
        assert_eq!(reader.next_frame(), Ok(None));
        assert!(!reader.is_empty());
    }

    #[test]
    fn rejects_invalid_lengths() {
        let too_large = |bytes| Err(FrameError::TooLarge { bytes, bytes_max: MAX });
        assert_eq!(read(&[0x06, 0x40, 0, 1]), too_large(MAX + 1));
        assert_eq!(read(&[0x06, 0x40, 0, 0]), Ok(None));
        assert_eq!(read(&[0, 0, 0, 0]), Err(FrameError::NotPositive(0)));
        assert_eq!(read(&[0xff; 4]), Err(FrameError::NotPositive(-1)));
        assert_eq!(read(&[0x80, 0, 0, 0, 1]), Err(FrameError::NotPositive(i32::MIN)));
    }

    #[test]
    fn detects_other_protocols_by_their_first_bytes() {
        assert_eq!(read(b"\x16\x03\x01\x02\x00\x01"), Err(FrameError::Tls));
        assert_eq!(read(b"GET / HTTP/1.1"), Err(FrameError::Http));
        assert_eq!(read(b"POST /x HTTP/1.1"), Err(FrameError::Http));
        assert_eq!(read(b"\r\n\r\n\0\r\nQUIT\n"), Err(FrameError::Proxy));
        assert_eq!(read(b"PROXY TCP4 1.2.3.4"), Err(FrameError::Proxy));
    }

    #[test]
    fn announced_bytes_reserve_no_memory() {
        let mut reader = FrameReader::new(MAX);
        reader.buffer().extend_from_slice(&(MAX as i32).to_be_bytes());
        assert_eq!(reader.next_frame(), Ok(None));
        assert!(reader.buffer().capacity() <= 2 * READ_BYTES);
        // A large frame in small pieces: the buffer stays within twice the bytes that arrived.
        for _ in 0..512 {
            reader.buffer().extend_from_slice(&[7; 4 << 10]);
            assert_eq!(reader.next_frame(), Ok(None));
            let arrived = reader.buffer.len();
            assert!(reader.buffer().capacity() <= 2 * (arrived + READ_BYTES));
        }
    }

    proptest! {
        #[test]
        fn frames_are_independent_of_read_sizes(
            frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..300), 0..8),
            piece in 1_usize..50,
        ) {
            let mut stream = Vec::new();
            for frame in &frames {
                stream.extend_from_slice(&(frame.len() as i32).to_be_bytes());
                stream.extend_from_slice(frame);
            }
            let mut reader = FrameReader::new(300);
            let mut read = Vec::new();
            for piece in stream.chunks(piece) {
                reader.buffer().extend_from_slice(piece);
                while let Some(frame) = reader.next_frame().unwrap() {
                    read.push(frame.to_vec());
                }
            }
            prop_assert_eq!(read, frames);
            prop_assert!(reader.is_empty());
        }
    }
}
