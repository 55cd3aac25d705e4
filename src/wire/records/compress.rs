//! Compresses records into at most as many bytes as a batch may have.

use std::io::{self, Write};

use lz4_flex::frame::{BlockSize, FrameEncoder, FrameInfo};

/// The header of `snappy-java` framing: a magic, the version, the minimum compatible version.
const XERIAL_HEADER: [u8; 16] = *b"\x82SNAPPY\x00\x00\x00\x00\x01\x00\x00\x00\x01";
/// The size in bytes of the blocks that `snappy-java` writes.
const SNAPPY_BLOCK_BYTES: usize = 32 << 10;

/// A compression codec with its level (KIP-390).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// No compression.
    None,
    /// gzip with a level from 1 to 9; `None` is the library's default.
    Gzip(Option<u32>),
    /// snappy, which has no levels.
    Snappy,
    /// LZ4 in frames of 64 KiB blocks; the one fast level.
    Lz4,
    /// zstd with a level, which may be negative.
    Zstd(i32),
}

/// Retains bytes up to a limit; counts and drops further ones.
#[derive(Debug)]
pub(super) struct CappedWriter {
    pub(super) out: Vec<u8>,
    /// The number of bytes written, retained or not.
    pub(super) bytes: usize,
    bytes_max: usize,
}

impl Write for CappedWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes = self.bytes.saturating_add(bytes.len());
        if self.bytes <= self.bytes_max {
            self.out.extend_from_slice(bytes);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Compresses what is written to it.
pub(super) enum Encoder {
    Plain(CappedWriter),
    Gzip(flate2::write::GzEncoder<CappedWriter>),
    Snappy { block: Vec<u8>, out: CappedWriter },
    Lz4(Box<FrameEncoder<CappedWriter>>),
    Zstd(zstd::Encoder<'static, CappedWriter>),
}

impl Encoder {
    /// Creates an encoder that writes after `head`, which counts towards the limit. At most
    /// `bytes_max` bytes are retained in total.
    pub(super) fn new(codec: Codec, head: &[u8], bytes_max: usize) -> io::Result<Self> {
        let capped = CappedWriter { out: head.to_vec(), bytes: head.len(), bytes_max };
        Ok(match codec {
            Codec::None => Self::Plain(capped),
            Codec::Gzip(level) => {
                let level = level.map_or_else(Default::default, flate2::Compression::new);
                Self::Gzip(flate2::write::GzEncoder::new(capped, level))
            }
            Codec::Snappy => {
                let mut out = capped;
                out.write_all(&XERIAL_HEADER)?;
                Self::Snappy { block: Vec::new(), out }
            }
            Codec::Lz4 => {
                let frame = FrameInfo::new().block_size(BlockSize::Max64KB);
                Self::Lz4(Box::new(FrameEncoder::with_frame_info(frame, capped)))
            }
            Codec::Zstd(level) => Self::Zstd(zstd::Encoder::new(capped, level)?),
        })
    }

    pub(super) fn finish(self) -> io::Result<CappedWriter> {
        match self {
            Self::Plain(out) => Ok(out),
            Self::Gzip(encoder) => encoder.finish(),
            Self::Snappy { block, mut out } => {
                write_block(&block, &mut out)?;
                Ok(out)
            }
            Self::Lz4(encoder) => encoder.finish().map_err(io::Error::other),
            Self::Zstd(encoder) => encoder.finish(),
        }
    }
}

impl Write for Encoder {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(out) => out.write(bytes),
            Self::Gzip(encoder) => encoder.write(bytes),
            Self::Snappy { block, out } => {
                let free = SNAPPY_BLOCK_BYTES - block.len();
                let taken = bytes.get(..free).unwrap_or(bytes);
                block.extend_from_slice(taken);
                if block.len() == SNAPPY_BLOCK_BYTES {
                    write_block(block, out)?;
                    block.clear();
                }
                Ok(taken.len())
            }
            Self::Lz4(encoder) => encoder.write(bytes),
            Self::Zstd(encoder) => encoder.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn write_block(block: &[u8], out: &mut CappedWriter) -> io::Result<()> {
    if block.is_empty() {
        return Ok(());
    }
    let compressed = snap::raw::Encoder::new().compress_vec(block)?;
    let length = u32::try_from(compressed.len()).map_err(io::Error::other)?;
    out.write_all(&length.to_be_bytes())?;
    out.write_all(&compressed)
}
