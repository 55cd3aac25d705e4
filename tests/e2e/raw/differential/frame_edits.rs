//! Edits of encoded frames.

/// An edit of a frame, its length prefix included.
pub(super) type Edit = fn(Vec<u8>) -> Vec<u8>;

/// Sets the length prefix to the frame's length.
fn sized(mut frame: Vec<u8>) -> Vec<u8> {
    let length = u32::try_from(frame.len() - 4).expect("a short frame");
    frame[..4].copy_from_slice(&length.to_be_bytes());
    frame
}

/// Removes the last bytes.
pub(super) fn cut(mut frame: Vec<u8>, bytes: usize) -> Vec<u8> {
    frame.truncate(frame.len() - bytes);
    sized(frame)
}

/// Removes the second half.
pub(super) fn halve(frame: Vec<u8>) -> Vec<u8> {
    let half = frame.len() / 2;
    cut(frame, half)
}

/// Appends bytes.
pub(super) fn pad(frame: Vec<u8>, bytes: &[u8]) -> Vec<u8> {
    sized([&frame[..], bytes].concat())
}
