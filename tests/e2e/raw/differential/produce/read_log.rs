//! The log that a consumer reads, as comparable text.

use std::io::Read;
use std::time::{SystemTime, UNIX_EPOCH};

use kafka_protocol::messages::FetchRequest;

use super::super::number;
use super::super::raw_batch::{APPEND_TIME, CODECS, crc_of};
use crate::raw::client::Client;
use crate::raw::requests::{Target, fetch, fetched};

/// The maximum difference in milliseconds between an append time of this test and now.
const RECENT_MS: i64 = 120_000;

/// Returns every batch of a partition from the log start to the high watermark.
pub(super) fn read_log(client: &mut Client, at: Target<'_>) -> Vec<String> {
    let (mut seen, mut offset) = (Vec::new(), 0);
    loop {
        let response = client.call::<FetchRequest>(&fetch(at, 12, offset), 12);
        let row = fetched(&response);
        if row.error_code != 0 {
            seen.push(format!("error {} from {offset}", row.error_code));
            return seen;
        }
        let before = seen.len();
        let mut rest = &row.records.as_ref().expect("records")[..];
        while rest.len() >= 61 {
            let size = 12 + number::<4>(rest, 8) as usize;
            let Some(batch) = rest.get(..size) else { break };
            offset = number::<8>(batch, 0) + number::<4>(batch, 23) + 1;
            seen.push(describe(batch));
            rest = &rest[size..];
        }
        if offset >= row.high_watermark || seen.len() == before {
            return seen;
        }
    }
}

fn describe(batch: &[u8]) -> String {
    let attributes = number::<2>(batch, 21) as i16;
    assert_eq!(number::<4>(batch, 17) as u32, crc_of(batch), "a broken checksum");
    let max_time = match number::<8>(batch, 35) {
        time if attributes & APPEND_TIME != 0 && (now_ms() - time).abs() < RECENT_MS => {
            "recent".to_owned()
        }
        time => time.to_string(),
    };
    let codec = CODECS.iter().find(|(_, codec)| *codec == attributes & 7);
    format!(
        "offset {} epoch {} magic {} {} attributes {:#x} last {} base time {} max time {max_time} \
         producer {} {} {} count {} records {}",
        number::<8>(batch, 0),
        number::<4>(batch, 12),
        batch[16],
        codec.map_or("no codec", |(name, _)| name),
        attributes & !7,
        number::<4>(batch, 23),
        number::<8>(batch, 27),
        number::<8>(batch, 43),
        number::<2>(batch, 51),
        number::<4>(batch, 53),
        number::<4>(batch, 57),
        text(&opened(attributes & 7, &batch[61..])),
    )
}

/// Decompresses records; returns them unchanged if that fails.
fn opened(codec: i16, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let opened = match codec {
        1 => flate2::read::MultiGzDecoder::new(payload).read_to_end(&mut out).is_ok(),
        2 if payload.starts_with(b"\x82SNAPPY\x00") => {
            let mut blocks = payload.get(16..).unwrap_or_default();
            while let Some((length, rest)) = blocks.split_first_chunk::<4>() {
                let length = u32::from_be_bytes(*length) as usize;
                let Some((block, rest)) = rest.split_at_checked(length) else { break };
                out.extend(snap::raw::Decoder::new().decompress_vec(block).unwrap_or_default());
                blocks = rest;
            }
            true
        }
        2 => {
            out = snap::raw::Decoder::new().decompress_vec(payload).unwrap_or_default();
            true
        }
        3 => lz4_flex::frame::FrameDecoder::new(payload).read_to_end(&mut out).is_ok(),
        4 => zstd::stream::copy_decode(payload, &mut out).is_ok(),
        _ => false,
    };
    if opened { out } else { payload.to_vec() }
}

/// Returns bytes as text, shortened so that differences stay visible.
fn text(bytes: &[u8]) -> String {
    let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, bytes);
    format!("{} bytes {crc:08x} {}", bytes.len(), bytes[..bytes.len().min(300)].escape_ascii())
}

fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    i64::try_from(now.as_millis()).expect("a small number")
}
