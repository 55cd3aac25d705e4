//! Small JSON records with a format version, each in an object of its own.

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{PutMode, Store, StoreError, StoreErrorKind};
use crate::log::format_version::check_version;

/// The format of one kind of record. Fields that a later program adds are ignored; the version
/// changes when a reader must not ignore a change.
#[derive(Clone, Copy, Debug)]
pub struct RecordFormat {
    /// The record, with its article, for messages.
    pub what: &'static str,
    /// The version that this program reads and writes.
    pub version: u32,
}

impl RecordFormat {
    /// Encodes a record, which must have string keys only and no field `format`.
    pub fn encode(self, record: &impl Serialize) -> Bytes {
        #[derive(Serialize)]
        struct Versioned<'a, T> {
            format: u32,
            #[serde(flatten)]
            record: &'a T,
        }
        let versioned = Versioned { format: self.version, record };
        serde_json::to_vec_pretty(&versioned).expect("records have string keys only").into()
    }

    /// Decodes the record that was stored under `key`.
    ///
    /// # Errors
    /// [`StoreErrorKind::UnsupportedFormat`] names the version; [`StoreErrorKind::Corrupt`].
    pub fn decode<T: DeserializeOwned>(self, key: &str, bytes: &[u8]) -> Result<T, StoreError> {
        #[derive(Deserialize)]
        struct Version {
            #[serde(default)]
            format: u32,
        }
        let failed = |kind, detail| StoreError::determinate(kind, "read", key, detail);
        let corrupt = |error: serde_json::Error| {
            failed(StoreErrorKind::Corrupt, format!("not {}: {error}", self.what))
        };
        let version: Version = serde_json::from_slice(bytes).map_err(corrupt)?;
        check_version(self.what, version.format, self.version)
            .map_err(|error| failed(StoreErrorKind::UnsupportedFormat, error.to_string()))?;
        serde_json::from_slice(bytes).map_err(corrupt)
    }

    /// Reads a record; `None` if no object has the key.
    ///
    /// # Errors
    /// As [`RecordFormat::decode`], or the store's.
    pub async fn load<T: DeserializeOwned>(
        self,
        store: &dyn Store,
        key: &str,
    ) -> Result<Option<T>, StoreError> {
        match store.get(key, None).await {
            Ok(bytes) => self.decode(key, &bytes).map(Some),
            Err(error) if error.kind == StoreErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes a record.
    ///
    /// # Errors
    /// The store's.
    pub async fn save(
        self,
        store: &dyn Store,
        key: &str,
        record: &impl Serialize,
        mode: PutMode,
    ) -> Result<(), StoreError> {
        store.put(key, vec![self.encode(record)], mode).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORMAT: RecordFormat = RecordFormat { what: "a test record", version: 2 };

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Record {
        value: u32,
    }

    #[test]
    fn other_versions_are_refused_by_name_and_added_fields_are_ignored() {
        let decode = |text: &str| FORMAT.decode::<Record>("k", text.as_bytes());
        assert_eq!(
            decode(&String::from_utf8_lossy(&FORMAT.encode(&Record { value: 7 }))).unwrap(),
            Record { value: 7 }
        );
        assert_eq!(decode(r#"{"format":2,"value":7,"more":[1]}"#).unwrap(), Record { value: 7 });
        for (text, found) in [(r#"{"format":3}"#, 3), (r#"{"format":1}"#, 1), (r#"{"value":7}"#, 0)]
        {
            let error = decode(text).unwrap_err();
            assert_eq!(error.kind, StoreErrorKind::UnsupportedFormat);
            assert!(error.detail.contains(&format!("a test record has format version {found}")));
        }
        for text in [r#"{"format":2}"#, "?"] {
            assert_eq!(decode(text).unwrap_err().kind, StoreErrorKind::Corrupt);
        }
    }
}
