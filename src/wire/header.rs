//! Request and response headers, parsed without the body.

use kafka_protocol::messages::ApiKey;

use super::guard::schema::FIRST_FLEXIBLE;
use super::varint::{self, VARINT_BYTES_MAX};

const API_VERSIONS: i16 = ApiKey::ApiVersions as i16;

/// The header of a request (`RequestHeader.json`, versions 1 and 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestHeader<'a> {
    /// The API key.
    pub api_key: i16,
    /// The version of the request; not checked against supported versions.
    pub api_version: i16,
    /// The correlation id, which the response repeats.
    pub correlation_id: i32,
    /// The client id as the client sent it: a broker accepts any bytes, not only UTF-8.
    pub client_id: Option<&'a [u8]>,
    /// The length of the header in bytes; the body follows it.
    pub bytes: usize,
}

/// The header of a response (`ResponseHeader.json`, versions 0 and 1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseHeader {
    /// The correlation id of the request.
    pub correlation_id: i32,
    /// The length of the header in bytes; the body follows it.
    pub bytes: usize,
}

/// Reason that a header cannot be parsed. A broker closes the connection for each of these errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// The frame ends within the header.
    #[error("the frame ends within its header")]
    Truncated,
    /// A negative length other than −1, or a varint of more than five bytes.
    #[error("the header contains an invalid length")]
    Length,
    /// The API key is unknown in Kafka 4.3, and with it the layout of the header.
    #[error("unknown api key {0}")]
    UnknownApi(i16),
}

/// Returns whether this version of a request is flexible (KIP-482), which determines the version of
/// its header; `None` for an unknown key.
pub fn flexible(api_key: i16, api_version: i16) -> Option<bool> {
    first_flexible(api_key).map(|(request, _)| api_version >= request)
}

/// Returns the version of the request header: 2 for flexible versions, otherwise 1; `None` for an
/// unknown key.
pub fn request_header_version(api_key: i16, api_version: i16) -> Option<i16> {
    flexible(api_key, api_version).map(|flexible| if flexible { 2 } else { 1 })
}

/// Returns the version of the response header: 1 for flexible versions, otherwise 0; `None` for an
/// unknown key. It is always 0 for ApiVersions, so that a client can read the response to a version
/// that the broker does not support (KIP-511).
pub fn response_header_version(api_key: i16, api_version: i16) -> Option<i16> {
    let (_, response) = first_flexible(api_key)?;
    Some(i16::from(api_key != API_VERSIONS && api_version >= response))
}

impl<'a> RequestHeader<'a> {
    /// Parses the header of a request from a frame without its length prefix.
    pub fn parse(frame: &'a [u8]) -> Result<Self, HeaderError> {
        let mut reader = HeaderReader { bytes: frame, at: 0 };
        let api_key = i16::from_be_bytes(reader.take()?);
        let api_version = i16::from_be_bytes(reader.take()?);
        let correlation_id = i32::from_be_bytes(reader.take()?);
        let flexible = flexible(api_key, api_version).ok_or(HeaderError::UnknownApi(api_key))?;
        let client_id = match i16::from_be_bytes(reader.take()?) {
            -1 => None,
            length => {
                let length = usize::try_from(length).map_err(|_| HeaderError::Length)?;
                Some(reader.slice(length)?)
            }
        };
        if flexible {
            reader.skip_tags()?;
        }
        Ok(Self { api_key, api_version, correlation_id, client_id, bytes: reader.at })
    }
}

impl ResponseHeader {
    /// Parses the header of the response to a request of this key and version, from a frame without
    /// its length prefix.
    pub fn parse(frame: &[u8], api_key: i16, api_version: i16) -> Result<Self, HeaderError> {
        let version = response_header_version(api_key, api_version)
            .ok_or(HeaderError::UnknownApi(api_key))?;
        let mut reader = HeaderReader { bytes: frame, at: 0 };
        let correlation_id = i32::from_be_bytes(reader.take()?);
        if version >= 1 {
            reader.skip_tags()?;
        }
        Ok(Self { correlation_id, bytes: reader.at })
    }
}

/// Writes the header of the response to a request of this key and version, without tagged fields.
/// An unknown key gets version 0, but such a request is not answered.
pub fn put_response_header(
    out: &mut impl bytes::BufMut,
    api_key: i16,
    api_version: i16,
    correlation_id: i32,
) {
    out.put_i32(correlation_id);
    if response_header_version(api_key, api_version) == Some(1) {
        out.put_u8(0);
    }
}

fn first_flexible(api_key: i16) -> Option<(i16, i16)> {
    let at = FIRST_FLEXIBLE.binary_search_by_key(&api_key, |row| row.0).ok()?;
    FIRST_FLEXIBLE.get(at).map(|&(_, request, response)| (request, response))
}

struct HeaderReader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> HeaderReader<'a> {
    fn slice(&mut self, length: usize) -> Result<&'a [u8], HeaderError> {
        let end = self.at.checked_add(length).ok_or(HeaderError::Truncated)?;
        let slice = self.bytes.get(self.at..end).ok_or(HeaderError::Truncated)?;
        self.at = end;
        Ok(slice)
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], HeaderError> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let (taken, _) = rest.split_first_chunk::<N>().ok_or(HeaderError::Truncated)?;
        self.at += N;
        Ok(*taken)
    }

    /// Skips tagged fields: no header has any of its own yet. The loop ends with the bytes, because
    /// a field takes at least two of them.
    fn skip_tags(&mut self) -> Result<(), HeaderError> {
        for _ in 0..self.varint()? {
            self.varint()?;
            let size = self.varint()?;
            self.slice(size as usize)?;
        }
        Ok(())
    }

    fn varint(&mut self) -> Result<u32, HeaderError> {
        let value = varint::read(VARINT_BYTES_MAX, HeaderError::Length, || {
            self.take().map(u8::from_be_bytes)
        })?;
        Ok(value as u32)
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use kafka_protocol::messages::RequestHeader as CrateHeader;
    use kafka_protocol::protocol::{Encodable, StrBytes};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn header_versions_match_kafka_protocol() {
        for key in ApiKey::iter() {
            let number = key as i16;
            let range = key.valid_versions();
            for version in range.min..=range.max {
                let at = format!("{key:?} v{version}");
                // APIs between brokers and a ZooKeeper-based controller.
                if (4..=7).contains(&number) {
                    assert_eq!(flexible(number, version), None, "{at}");
                    continue;
                }
                let request = key.request_header_version(version);
                assert_eq!(request_header_version(number, version), Some(request), "{at}");
                let response = key.response_header_version(version);
                assert_eq!(response_header_version(number, version), Some(response), "{at}");
            }
        }
        assert_eq!(flexible(999, 0), None);
    }

    #[test]
    fn api_versions_response_has_header_version_0() {
        assert_eq!(response_header_version(18, 4), Some(0));
        assert_eq!(request_header_version(18, 99), Some(2));
        let mut out = BytesMut::new();
        put_response_header(&mut out, 18, 3, 7);
        put_response_header(&mut out, 3, 12, 8);
        assert_eq!(&out[..], [0, 0, 0, 7, 0, 0, 0, 8, 0]);
        assert_eq!(
            ResponseHeader::parse(&out[4..], 3, 12),
            Ok(ResponseHeader { correlation_id: 8, bytes: 5 })
        );
    }

    #[test]
    fn wrong_lengths_are_rejected() {
        let parse = RequestHeader::parse;
        assert_eq!(parse(&[0, 3, 0]), Err(HeaderError::Truncated));
        assert_eq!(parse(&[0, 3, 0, 1, 0, 0, 0, 9, 0, 5, b'a']), Err(HeaderError::Truncated));
        assert_eq!(parse(&[0, 3, 0, 1, 0, 0, 0, 9, 0xff, 0xfe]), Err(HeaderError::Length));
        assert_eq!(parse(&[0x27, 0x0f, 0, 1, 0, 0, 0, 9]), Err(HeaderError::UnknownApi(9_999)));
        let mut tags = vec![0, 3, 0, 12, 0, 0, 0, 9, 0xff, 0xff];
        tags.extend_from_slice(&[0xff, 0xff, 0xff, 0xff, 0x0f]);
        assert_eq!(parse(&tags), Err(HeaderError::Truncated));
    }

    proptest! {
        #[test]
        fn reads_headers_written_by_kafka_protocol(version in 0_i16..14, id: i32, name in "[a-z]{0,9}") {
            let client_id = (!name.is_empty()).then(|| StrBytes::from_string(name.clone()));
            let header = CrateHeader::default()
                .with_request_api_key(3)
                .with_request_api_version(version)
                .with_correlation_id(id)
                .with_client_id(client_id);
            let mut out = BytesMut::new();
            let header_version = ApiKey::Metadata.request_header_version(version);
            header.encode(&mut out, header_version).unwrap();
            let length = out.len();
            out.extend_from_slice(b"body");
            let read = RequestHeader::parse(&out).unwrap();
            prop_assert_eq!((read.api_key, read.api_version), (3, version));
            prop_assert_eq!((read.correlation_id, read.bytes), (id, length));
            prop_assert_eq!(read.client_id.unwrap_or_default(), name.as_bytes());
        }

        #[test]
        fn random_bytes_never_panic(bytes: Vec<u8>, key in 0_i16..94, version in 0_i16..14) {
            let _ = RequestHeader::parse(&bytes);
            let _ = ResponseHeader::parse(&bytes, key, version);
        }
    }
}
