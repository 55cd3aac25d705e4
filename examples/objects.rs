//! Says what WAL objects hold, from their own footers: `objects FILE…` prints, for each file that
//! is one, its name, its records and where they belong.
#![expect(clippy::print_stdout, reason = "printing is what it is for")]

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;

use odradek::log::object_format::{HEADER, decode_footer};

fn main() -> Result<(), Box<dyn Error>> {
    for file in std::env::args().skip(1) {
        let bytes = std::fs::read(&file)?;
        if !bytes.starts_with(&HEADER) {
            continue;
        }
        let footer = decode_footer(bytes.len() as u64, &bytes)?;
        let mut records = BTreeMap::new();
        for part in &footer.parts {
            let offsets: i64 = part.batches.iter().map(|b| i64::from(b.offset_count)).sum();
            *records.entry(part.partition).or_insert(0) += offsets;
        }
        let name = Path::new(&file).file_name().unwrap_or_default().to_string_lossy();
        let total: i64 = records.values().sum();
        println!(
            "{} {total} records in {} partitions, {} bytes",
            name.trim_end_matches('~'),
            records.len(),
            bytes.len()
        );
    }
    Ok(())
}
