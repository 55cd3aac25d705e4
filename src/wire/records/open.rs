//! Opens a batch's records: decompresses them as they are read, up to a limit.

use std::io::{self, ErrorKind, Read};

use flate2::read::MultiGzDecoder;
use lz4_flex::frame::FrameDecoder;
use ruzstd::decoding::StreamingDecoder;

use crate::wire::record_batch::Compression;

use super::RecordsError;

const LZ4_MAGIC: [u8; 4] = [0x04, 0x22, 0x4d, 0x18];
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// The framing of `snappy-java`: this, then a version and the least compatible one, four bytes each.
const XERIAL_MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
const XERIAL_HEADER_BYTES: usize = 16;
/// Snappy's longest copy makes 64 bytes of 3; a block that claims more than this lies.
const SNAPPY_RATIO_MAX: usize = 24;

impl From<io::Error> for RecordsError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::FileTooLarge => Self::TooLarge,
            kind => Self::Unreadable(kind),
        }
    }
}

/// A stream of the opened records that fails with [`ErrorKind::FileTooLarge`] at the limit.
pub(super) fn open<'a>(
    codec: Compression,
    bytes: &'a [u8],
    bytes_max: usize,
) -> Result<Box<dyn Read + 'a>, RecordsError> {
    Ok(match codec {
        Compression::None => Box::new(bytes),
        Compression::Gzip => Limited::boxed(MultiGzDecoder::new(bytes), bytes_max),
        Compression::Snappy => Box::new(Snappy::new(bytes, bytes_max)),
        Compression::Lz4 => {
            // The decoder also knows a legacy frame with blocks of 8 MiB; Kafka does not.
            if !bytes.starts_with(&LZ4_MAGIC) {
                return Err(RecordsError::Unreadable(ErrorKind::InvalidData));
            }
            Limited::boxed(FrameDecoder::new(bytes), bytes_max)
        }
        Compression::Zstd => {
            check_zstd_window(bytes, bytes_max)?;
            let decoder = StreamingDecoder::new(bytes)
                .map_err(|_| RecordsError::Unreadable(ErrorKind::InvalidData))?;
            Limited::boxed(decoder, bytes_max)
        }
    })
}

/// Ends for good at the inner stream's first end: a decoder would go on with another frame.
struct Limited<R> {
    inner: R,
    left: usize,
    ended: bool,
}

impl<'a, R: Read + 'a> Limited<R> {
    fn boxed(inner: R, bytes_max: usize) -> Box<dyn Read + 'a> {
        Box::new(Self { inner, left: bytes_max, ended: false })
    }
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.ended {
            return Ok(0);
        }
        if self.left == 0 {
            return Err(ErrorKind::FileTooLarge.into());
        }
        let space = out.len().min(self.left);
        let read = self.inner.read(&mut out[..space])?;
        self.left -= read;
        self.ended = read == 0;
        Ok(read)
    }
}

/// Snappy, block by block.
struct Snappy<'a> {
    /// The blocks not yet opened; each behind its length if `framed`.
    rest: &'a [u8],
    framed: bool,
    block: Vec<u8>,
    at: usize,
    left: usize,
}

impl<'a> Snappy<'a> {
    fn new(bytes: &'a [u8], bytes_max: usize) -> Self {
        let framed = bytes.starts_with(&XERIAL_MAGIC);
        let rest =
            if framed { bytes.get(XERIAL_HEADER_BYTES..).unwrap_or_default() } else { bytes };
        Self { rest, framed, block: Vec::new(), at: 0, left: bytes_max }
    }

    fn open_block(&mut self) -> io::Result<()> {
        let block = if self.framed {
            let (length, rest) =
                self.rest.split_first_chunk::<4>().ok_or(ErrorKind::UnexpectedEof)?;
            let length = u32::from_be_bytes(*length) as usize;
            let (block, rest) = rest.split_at_checked(length).ok_or(ErrorKind::UnexpectedEof)?;
            self.rest = rest;
            block
        } else {
            std::mem::take(&mut self.rest)
        };
        let length = snap::raw::decompress_len(block)?;
        // The length is only claimed; both checks come before it takes any memory.
        if length > block.len().saturating_mul(SNAPPY_RATIO_MAX) {
            return Err(ErrorKind::InvalidData.into());
        }
        self.left = self.left.checked_sub(length).ok_or(ErrorKind::FileTooLarge)?;
        self.block.resize(length, 0);
        self.at = 0;
        let read = snap::raw::Decoder::new().decompress(block, &mut self.block)?;
        self.block.truncate(read);
        Ok(())
    }
}

impl Read for Snappy<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.at == self.block.len() && !self.rest.is_empty() {
            self.open_block()?;
        }
        let ready = self.block.get(self.at..).unwrap_or_default();
        let step = ready.len().min(out.len());
        out[..step].copy_from_slice(&ready[..step]);
        self.at += step;
        Ok(step)
    }
}

/// Refuses a frame with a window over the limit (RFC 8878, 3.1.1.1): the decoder keeps a whole
/// window before it hands the first byte out, and takes any size for it.
fn check_zstd_window(bytes: &[u8], bytes_max: usize) -> Result<(), RecordsError> {
    let malformed = RecordsError::Unreadable(ErrorKind::InvalidData);
    let header = bytes.strip_prefix(&ZSTD_MAGIC).ok_or(malformed)?;
    let (&descriptor, rest) = header.split_first().ok_or(malformed)?;
    let single_segment = descriptor & 0x20 != 0;
    let window = if single_segment {
        let dictionary_bytes = [0, 1, 2, 4][usize::from(descriptor & 3)];
        let size_bytes = [1, 2, 4, 8][usize::from(descriptor >> 6)];
        let size = rest.get(dictionary_bytes..dictionary_bytes + size_bytes).ok_or(malformed)?;
        let value = size.iter().rev().fold(0_u64, |value, &b| (value << 8) | u64::from(b));
        if size_bytes == 2 { value + 256 } else { value }
    } else {
        let &byte = rest.first().ok_or(malformed)?;
        let base = 1_u64 << (10 + (byte >> 3));
        base + (base / 8) * u64::from(byte & 7)
    };
    if window > bytes_max as u64 { Err(RecordsError::TooLarge) } else { Ok(()) }
}
