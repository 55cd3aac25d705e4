//! Versions of stored formats, and the refusal of versions that this program does not know.

use std::fmt;

/// A stored format in a version that this program does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub struct UnsupportedVersion {
    /// The format, with its article, for messages.
    pub what: &'static str,
    /// The version that was found; 0 for data from before the format had versions.
    pub found: u32,
    /// The version that this program reads and writes.
    pub known: u32,
}

/// Checks the version of a format against the one that this program knows.
///
/// # Errors
/// [`UnsupportedVersion`] when they differ.
pub fn check_version(what: &'static str, found: u32, known: u32) -> Result<(), UnsupportedVersion> {
    if found == known { Ok(()) } else { Err(UnsupportedVersion { what, found, known }) }
}

impl fmt::Display for UnsupportedVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, found, known } = self;
        write!(
            f,
            "{what} has format version {found}, and this replica knows version {known} only: "
        )?;
        if found > known {
            f.write_str("it is newer; upgrade this replica")
        } else {
            f.write_str(
                "it is of a version from before the first release, which no program converts; \
                 choose another store prefix and cluster name, or run the program that wrote it",
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_names_format_versions_and_remedy() {
        let message = |found| check_version("a lease", found, 2).unwrap_err().to_string();
        assert_eq!(check_version("a lease", 2, 2), Ok(()));
        let newer = message(3);
        assert!(
            newer.starts_with("a lease has format version 3, and this replica knows version 2")
        );
        assert!(newer.ends_with("upgrade this replica"), "{newer}");
        assert!(message(1).contains("before the first release"));
    }
}
