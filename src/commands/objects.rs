//! `odradek objects FILE…`: prints the content of WAL objects from their footers.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::log::object_format::{HEADER, decode_footer};

/// The bytes of [`HEADER`] before the version, so that an object of another version is an error.
const MAGIC_BYTES: usize = 7;

/// Prints a line for each file that is a WAL object: its name, its records, its partitions and its
/// size. Other files are skipped.
///
/// # Errors
/// A file cannot be read, or the footer of an object is corrupt or of another version.
pub(super) fn run(files: &[PathBuf]) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    for file in files {
        let bytes = std::fs::read(file).with_context(|| file.display().to_string())?;
        if bytes.starts_with(&HEADER[..MAGIC_BYTES]) {
            let line = describe(&bytes).with_context(|| file.display().to_string())?;
            let name = file.file_name().map_or(file.as_path(), Path::new);
            writeln!(out, "{} {line}", name.to_string_lossy().trim_end_matches('~'))?;
        }
    }
    Ok(())
}

fn describe(bytes: &[u8]) -> anyhow::Result<String> {
    let footer = decode_footer(bytes.len() as u64, bytes)?;
    let mut records = BTreeMap::new();
    for part in &footer.parts {
        let offsets: i64 = part.batches.iter().map(|b| i64::from(b.offset_count)).sum();
        *records.entry(part.partition).or_insert(0) += offsets;
    }
    let total: i64 = records.values().sum();
    Ok(format!("{total} records in {} partitions, {} bytes", records.len(), bytes.len()))
}
