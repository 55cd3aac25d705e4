//! Objects with runs.

use bytes::{BufMut, Bytes, BytesMut};

use super::PartitionRuns;
use super::state::{read_partition, write_partition};
use crate::log::batch::Run;
use crate::log::encoding::{BytesReader, FormatError, FormatField, section, varint, zigzag};
use crate::log::ids::ObjectId;

const OBJECTS: u64 = 1;
const RUNS: u64 = 3;

/// The least sizes of an object id, a partition with one run, and a run.
const OBJECT_BYTES: usize = 16;
const PARTITION_BYTES_MIN: usize = 18;
const RUN_BYTES_MIN: usize = 6;

/// Encodes runs.
pub fn encode_runs(partitions: &[PartitionRuns]) -> Bytes {
    let mut objects: Vec<ObjectId> =
        partitions.iter().flat_map(|of| &of.runs).map(|run| run.object).collect();
    objects.sort_unstable();
    objects.dedup();
    super::seal(|out| {
        section(out, OBJECTS, |out| {
            varint(out, objects.len() as u64);
            for object in &objects {
                out.put_slice(&object.to_bytes());
            }
        });
        section(out, RUNS, |out| {
            varint(out, partitions.len() as u64);
            for of in partitions {
                write_partition(out, of.partition);
                varint(out, of.runs.len() as u64);
                for run in &of.runs {
                    write_run(out, run, &objects);
                }
            }
        });
    })
}

fn write_run(out: &mut BytesMut, run: &Run, objects: &[ObjectId]) {
    varint(out, run.base_offset.unsigned_abs());
    varint(out, run.offset_count.unsigned_abs());
    // Found: the table was made from these runs.
    varint(out, objects.binary_search(&run.object).unwrap_or_default() as u64);
    varint(out, run.start);
    varint(out, run.bytes);
    varint(out, zigzag(run.max_timestamp));
}

/// Decodes runs.
///
/// # Errors
/// Every [`FormatError`].
pub fn decode_runs(bytes: &[u8]) -> Result<Vec<PartitionRuns>, FormatError> {
    let (mut objects, mut runs) = (Vec::new(), None);
    for mut section in super::open(bytes)?.sections()? {
        match section.number {
            OBJECTS => {
                let count = section.body.count(OBJECT_BYTES)?;
                objects.reserve(count);
                for _ in 0..count {
                    objects.push(ObjectId::from_bytes(section.body.array()?));
                }
            }
            RUNS => runs = Some(section.body),
            _ => section.skip()?,
        }
    }
    let mut reader = runs.ok_or(FormatError::Invalid(FormatField::Section))?;
    let count = reader.count(PARTITION_BYTES_MIN)?;
    let mut partitions = Vec::with_capacity(count);
    for _ in 0..count {
        let partition = read_partition(&mut reader)?;
        let count = reader.count(RUN_BYTES_MIN)?;
        let mut runs = Vec::with_capacity(count);
        for _ in 0..count {
            runs.push(read_run(&mut reader, &objects)?);
        }
        partitions.push(PartitionRuns { partition, runs });
    }
    Ok(partitions)
}

fn read_run(reader: &mut BytesReader<'_>, objects: &[ObjectId]) -> Result<Run, FormatError> {
    let invalid = FormatError::Invalid(FormatField::Run);
    let base_offset = reader.positive_i64(FormatField::Run)?;
    let offset_count = reader.positive_i64(FormatField::Run)?;
    let object = usize::try_from(reader.varint()?).ok().and_then(|index| objects.get(index));
    let object = *object.ok_or(invalid)?;
    let (start, bytes) = (reader.varint()?, reader.varint()?);
    let max_timestamp = reader.signed()?;
    if offset_count == 0 || base_offset.checked_add(offset_count).is_none() {
        return Err(invalid);
    }
    Ok(Run { base_offset, offset_count, object, start, bytes, max_timestamp })
}
