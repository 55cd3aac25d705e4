//! Numbers, counts and sections of the binary formats; `docs/object-format.md` is the specification.

mod error;
mod reader;
mod writer;

pub use error::{FormatError, FormatField};
pub(super) use reader::BytesReader;
pub(super) use writer::{section, text, varint, zigzag};
