//! Walks a tree of files in the byte order of their keys.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

use crate::store::ObjectMeta;
use crate::store::key::is_valid;

/// The last character of an object's file name.
pub(super) const OBJECT_SUFFIX: char = '~';

/// A listing in progress.
pub(super) struct Walk<'a> {
    prefix: &'a str,
    /// The listing starts after this key; empty for all keys.
    after: &'a str,
    limit: usize,
    rows: Vec<ObjectMeta>,
    /// The number of directory entries that were read: the cost of the listing.
    entries_read: usize,
}

impl<'a> Walk<'a> {
    pub(super) fn new(prefix: &'a str, after: &'a str, limit: usize) -> Self {
        Self { prefix, after, limit, rows: Vec::new(), entries_read: 0 }
    }

    /// Returns the rows of the tree below `objects`, and the number of directory entries that were
    /// read.
    pub(super) fn below(mut self, objects: &Path) -> io::Result<(Vec<ObjectMeta>, usize)> {
        self.visit(objects, "")?;
        Ok((self.rows, self.entries_read))
    }

    /// Visits the directory of the keys that start with `base`. Its entries are sorted by the start
    /// of their keys, which for a directory is its name and `/`: this is the order of the keys.
    fn visit(&mut self, directory: &Path, base: &str) -> io::Result<()> {
        let entries = match fs::read_dir(directory) {
            // Removed since its parent was read: it was empty.
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            entries => entries?,
        };
        let mut children: Vec<String> = Vec::new();
        for entry in entries {
            let entry = entry?;
            self.entries_read += 1;
            let Ok(name) = entry.file_name().into_string() else { continue };
            let child = match name.strip_suffix(OBJECT_SUFFIX) {
                Some(name) => format!("{base}{name}"),
                None => format!("{base}{name}/"),
            };
            if self.may_match(&child) {
                children.push(child);
            }
        }
        children.sort_unstable();
        for child in children {
            if self.rows.len() >= self.limit {
                return Ok(());
            }
            let name = &child[base.len()..];
            match name.strip_suffix('/') {
                Some(name) => self.visit(&directory.join(name), &child)?,
                None => self.row(&directory.join(format!("{name}{OBJECT_SUFFIX}")), child)?,
            }
        }
        Ok(())
    }

    /// Returns whether a key, or a key below a directory, may belong to the listing.
    fn may_match(&self, child: &str) -> bool {
        if child.ends_with('/') {
            return (child.starts_with(self.prefix) || self.prefix.starts_with(child))
                && (child >= self.after || self.after.starts_with(child));
        }
        child.starts_with(self.prefix) && child > self.after && is_valid(child)
    }

    fn row(&mut self, path: &Path, key: String) -> io::Result<()> {
        match fs::metadata(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            meta => self.rows.push(ObjectMeta { key, size: meta?.len() }),
        }
        Ok(())
    }
}
