//! Decompresses a batch's records as they are read, up to a limit.

use std::io::{self, ErrorKind, Read};

use flate2::bufread::GzDecoder;
use lz4_flex::frame::FrameDecoder;

use crate::wire::record_batch::Compression;

use super::error::RecordsError;

const LZ4_MAGIC: [u8; 4] = [0x04, 0x22, 0x4d, 0x18];
/// The bits of the frame descriptor that Kafka requires: version 1, independent blocks, neither a
/// reserved bit nor a dictionary.
const LZ4_FLAGS_MASK: u8 = 0b1110_0011;
const LZ4_FLAGS: u8 = 0b0110_0000;
/// The magic of `snappy-java` framing; a version and the minimum compatible version follow, four
/// bytes each.
const XERIAL_MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
const XERIAL_HEADER_BYTES: usize = 16;
/// Snappy's longest copy encodes 64 bytes in 3. A block that announces a higher ratio is invalid.
const SNAPPY_RATIO_MAX: usize = 24;

impl From<io::Error> for RecordsError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::FileTooLarge => Self::TooLarge,
            kind => Self::Unreadable(kind),
        }
    }
}

/// Returns a stream of the decompressed records that fails with [`ErrorKind::FileTooLarge`] at the
/// limit.
///
/// # Errors
/// [`RecordsError`] if the compressed stream is invalid at its beginning.
pub(super) fn decompress<'a>(
    codec: Compression,
    bytes: &'a [u8],
    bytes_max: usize,
) -> Result<Box<dyn Read + 'a>, RecordsError> {
    Ok(match codec {
        Compression::None => Box::new(bytes),
        Compression::Gzip => {
            LimitedReader::boxed(Gzip { member: GzDecoder::new(bytes), is_first: true }, bytes_max)
        }
        Compression::Snappy if bytes.is_empty() => {
            return Err(RecordsError::Unreadable(ErrorKind::UnexpectedEof));
        }
        Compression::Snappy => Box::new(Snappy::new(bytes, bytes_max)),
        Compression::Lz4 => {
            if !is_whole_lz4(bytes) {
                return Err(RecordsError::Unreadable(ErrorKind::InvalidData));
            }
            LimitedReader::boxed(FrameDecoder::new(bytes), bytes_max)
        }
        Compression::Zstd if bytes.is_empty() => Box::new(bytes),
        // The decoder's own limit for a frame's window is Kafka's: 128 MiB.
        Compression::Zstd => LimitedReader::boxed(zstd::Decoder::with_buffer(bytes)?, bytes_max),
    })
}

/// Ends permanently at the first end of the inner stream: a decoder would continue with another
/// frame.
struct LimitedReader<R> {
    inner: R,
    left: usize,
    ended: bool,
}

impl<'a, R: Read + 'a> LimitedReader<R> {
    fn boxed(inner: R, bytes_max: usize) -> Box<dyn Read + 'a> {
        Box::new(Self { inner, left: bytes_max, ended: false })
    }
}

impl<R: Read> Read for LimitedReader<R> {
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

/// Consecutive gzip members. Like Java, it ignores what follows a member and begins no other.
struct Gzip<'a> {
    member: GzDecoder<&'a [u8]>,
    is_first: bool,
}

impl Read for Gzip<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.member.read(out) {
                Ok(0) if !out.is_empty() => {
                    let rest = *self.member.get_ref();
                    if rest.is_empty() {
                        return Ok(0);
                    }
                    *self = Self { member: GzDecoder::new(rest), is_first: false };
                }
                Err(_) if !self.is_first && self.member.header().is_none() => {
                    self.member = GzDecoder::new(&[]);
                    return Ok(0);
                }
                read => return read,
            }
        }
    }
}

/// Returns whether an LZ4 frame is one that Kafka reads, with an end mark. The decoder accepts more
/// kinds of frames, and treats the end of the bytes between two blocks as the end of the frame.
fn is_whole_lz4(bytes: &[u8]) -> bool {
    let ends = || {
        let mut rest = bytes.strip_prefix(&LZ4_MAGIC)?;
        let flags = *rest.first()?;
        let content_size_bytes = if flags & 0b1000 != 0 { 8 } else { 0 };
        let checksum_bytes = if flags & 0b1_0000 != 0 { 4 } else { 0 };
        // Flags, block size, content size, checksum of these.
        rest = rest.get(3 + content_size_bytes..)?;
        loop {
            let (size, blocks) = rest.split_first_chunk::<4>()?;
            // The highest bit marks an uncompressed block.
            let size = u32::from_le_bytes(*size) & (u32::MAX >> 1);
            if size == 0 {
                return Some(flags & LZ4_FLAGS_MASK == LZ4_FLAGS);
            }
            rest = blocks.get(size as usize + checksum_bytes..)?;
        }
    };
    ends().unwrap_or(false)
}

/// Decompresses snappy block by block.
struct Snappy<'a> {
    /// The blocks not yet decompressed; each follows its length if `framed`.
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

    fn decompress_block(&mut self) -> io::Result<()> {
        self.block.clear();
        self.at = 0;
        let block = if self.framed {
            if self.rest.starts_with(&XERIAL_MAGIC) {
                // Another stream begins.
                self.rest = self.rest.get(XERIAL_HEADER_BYTES..).ok_or(ErrorKind::UnexpectedEof)?;
            }
            let Some((length, rest)) = self.rest.split_first_chunk::<4>() else {
                // Like Java, treats fewer bytes than a length as the end.
                self.rest = &[];
                return Ok(());
            };
            let length = u32::from_be_bytes(*length) as usize;
            let (block, rest) = rest.split_at_checked(length).ok_or(ErrorKind::UnexpectedEof)?;
            self.rest = rest;
            block
        } else {
            std::mem::take(&mut self.rest)
        };
        let length = snap::raw::decompress_len(block)?;
        // The length is unverified; both checks come before memory is allocated for it.
        if length > block.len().saturating_mul(SNAPPY_RATIO_MAX) {
            return Err(ErrorKind::InvalidData.into());
        }
        self.left = self.left.checked_sub(length).ok_or(ErrorKind::FileTooLarge)?;
        self.block.resize(length, 0);
        let read = snap::raw::Decoder::new().decompress(block, &mut self.block)?;
        self.block.truncate(read);
        Ok(())
    }
}

impl Read for Snappy<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.at == self.block.len() && !self.rest.is_empty() {
            self.decompress_block()?;
        }
        let ready = self.block.get(self.at..).unwrap_or_default();
        let step = ready.len().min(out.len());
        out[..step].copy_from_slice(&ready[..step]);
        self.at += step;
        Ok(step)
    }
}
