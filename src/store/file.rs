//! An object store in a directory of a local file system.
//!
//! ```text
//! ROOT/lock            held by the process that has the store open
//! ROOT/tmp/17          a PUT in progress; deleted when the store is opened
//! ROOT/objects/a/b~    the object `a/b`
//! ```
//! No key contains `~`, so the objects `a` and `a/b` do not conflict.
//! A PUT is durable when it returns: the bytes are synced before the name appears, and the
//! directories that lead to the name are synced after it.

use std::collections::HashSet;
use std::fmt;
use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::{Mutex, RwLock};

use super::body::clip;
use super::key::{check_key, check_listing};
use super::{Certainty, ObjectMeta, PutMode, Store, StoreError, StoreErrorKind};

mod walk;

use walk::OBJECT_SUFFIX;

/// A store in a directory of the local file system.
#[derive(Clone)]
pub struct FileStore {
    tree: Arc<Tree>,
}

struct Tree {
    objects: PathBuf,
    tmp: PathBuf,
    tmp_next: AtomicU64,
    /// Directories whose own names have been synced.
    synced_directories: Mutex<HashSet<PathBuf>>,
    /// Held shared while a PUT creates directories and a name in them, and exclusively while a
    /// DELETE removes empty ones.
    directory_lock: RwLock<()>,
    /// Locks the root while this file is open.
    _lock: File,
}

impl FileStore {
    /// Opens the store below `root`, an absolute path, which is created if it does not exist.
    /// Deletes the temporary files of PUTs that a crash interrupted. Blocks on the file system.
    ///
    /// # Errors
    /// [`StoreErrorKind::Denied`] if another process has the store open, or the directory cannot be
    /// created or written.
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        let denied = |detail: String| {
            let root = root.display().to_string();
            StoreError::determinate(StoreErrorKind::Denied, "open", &root, detail)
        };
        if !root.is_absolute() {
            return Err(denied(
                "the directory of a file store must be an absolute path".to_owned(),
            ));
        }
        let lock = lock_root(root).map_err(|error| match error {
            TryLockError::WouldBlock => denied(
                "another process has this store open; use one directory for each process"
                    .to_owned(),
            ),
            TryLockError::Error(error) => denied(error.to_string()),
        })?;
        let tree = Tree::open(root, lock).map_err(|error| denied(error.to_string()))?;
        Ok(Self { tree: Arc::new(tree) })
    }

    /// Runs blocking work on a thread outside the runtime's workers.
    async fn blocking<T: Send + 'static>(
        &self,
        operation: &'static str,
        key: &str,
        work: impl FnOnce(&Tree, &str) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        check_key(operation, key)?;
        let (tree, owned) = (Arc::clone(&self.tree), key.to_owned());
        let task = tokio::task::spawn_blocking(move || work(&tree, &owned));
        // The task fails only if it panics, or if the runtime ends before the task starts.
        task.await.unwrap_or_else(|error| {
            let indeterminate = StoreError::indeterminate(operation, key, error.to_string());
            Err(match operation {
                "get" | "head" => StoreError { certainty: Certainty::Determinate, ..indeterminate },
                _ => indeterminate,
            })
        })
    }
}

impl fmt::Debug for FileStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileStore").field("objects", &self.tree.objects).finish()
    }
}

#[async_trait]
impl Store for FileStore {
    async fn put(&self, key: &str, body: Vec<Bytes>, mode: PutMode) -> Result<(), StoreError> {
        self.blocking("put", key, move |tree, key| tree.put(key, &body, mode)).await
    }

    async fn get(&self, key: &str, range: Option<Range<u64>>) -> Result<Bytes, StoreError> {
        self.blocking("get", key, move |tree, key| tree.get(key, range)).await
    }

    async fn head(&self, key: &str) -> Result<u64, StoreError> {
        let size = |tree: &Tree, key: &str| fs::metadata(tree.path(key)).map(|meta| meta.len());
        self.blocking("head", key, move |tree, key| {
            size(tree, key).map_err(|error| read_failure("head", key, &error))
        })
        .await
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<ObjectMeta>, StoreError> {
        check_listing(prefix, after)?;
        let tree = Arc::clone(&self.tree);
        let (prefix, after) = (prefix.to_owned(), after.unwrap_or_default().to_owned());
        let failed = |detail: String| {
            StoreError::determinate(StoreErrorKind::Unavailable, "list", "", detail)
        };
        let task = tokio::task::spawn_blocking(move || {
            walk::Walk::new(&prefix, &after, limit).below(&tree.objects).map(|(rows, _)| rows)
        });
        task.await.map_err(|error| failed(error.to_string()))?.map_err(|e| failed(e.to_string()))
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.blocking("delete", key, |tree, key| {
            tree.delete(key).map_err(|error| write_failure("delete", key, &error))
        })
        .await
    }
}

impl Tree {
    fn open(root: &Path, lock: File) -> io::Result<Self> {
        let (objects, tmp) = (root.join("objects"), root.join("tmp"));
        match fs::remove_dir_all(&tmp) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => fs::create_dir(&tmp)?,
        }
        fs::create_dir_all(&objects)?;
        // The root and its parents may be new as well.
        for directory in root.ancestors() {
            match sync_directory(directory) {
                // The process may not have access to directories above those that it created.
                Err(error) if error.kind() == ErrorKind::PermissionDenied => break,
                synced => synced?,
            }
        }
        Ok(Self {
            objects,
            tmp,
            tmp_next: AtomicU64::new(0),
            synced_directories: Mutex::default(),
            directory_lock: RwLock::default(),
            _lock: lock,
        })
    }

    fn path(&self, key: &str) -> PathBuf {
        self.objects.join(format!("{key}{OBJECT_SUFFIX}"))
    }

    fn put(&self, key: &str, body: &[Bytes], mode: PutMode) -> Result<(), StoreError> {
        let tmp = self.tmp.join(self.tmp_next.fetch_add(1, Ordering::Relaxed).to_string());
        let put = self.put_via(&tmp, key, body, mode);
        // After a rename there is no file to remove; one that remains is deleted at the next open.
        let _deleted_later = fs::remove_file(&tmp);
        put
    }

    fn put_via(
        &self,
        tmp: &Path,
        key: &str,
        body: &[Bytes],
        mode: PutMode,
    ) -> Result<(), StoreError> {
        let before_rename = |error: io::Error| StoreError {
            certainty: Certainty::Determinate,
            ..write_failure("put", key, &error)
        };
        write_synced(tmp, body).map_err(before_rename)?;

        let path = self.path(key);
        let parent = path.parent().unwrap_or(&self.objects);
        let _no_pruning = self.directory_lock.read();
        fs::create_dir_all(parent).map_err(before_rename)?;
        let named = match mode {
            PutMode::Overwrite => fs::rename(tmp, &path),
            // A link never replaces a file, even if two PUTs race for the name.
            PutMode::Create => fs::hard_link(tmp, &path),
        };
        match named {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                let (kind, detail) = (StoreErrorKind::AlreadyExists, "the object exists");
                return Err(StoreError::determinate(kind, "put", key, detail));
            }
            named => named.map_err(before_rename)?,
        }
        sync_directory(parent)
            .and_then(|()| self.sync_ancestors(parent))
            .map_err(|error| write_failure("put", key, &error))
    }

    /// Syncs the names of a directory and of those above it that have not been synced yet: this
    /// PUT, or one that has not returned yet, created them.
    fn sync_ancestors(&self, directory: &Path) -> io::Result<()> {
        for directory in directory.ancestors().take_while(|path| *path != self.objects) {
            let is_synced = |synced_directories: &Mutex<HashSet<PathBuf>>| {
                synced_directories.lock().contains(directory)
            };
            if is_synced(&self.synced_directories) {
                continue;
            }
            if let Some(parent) = directory.parent() {
                sync_directory(parent)?;
            }
            let mut synced_directories = self.synced_directories.lock();
            synced_directories.insert(directory.to_owned());
        }
        Ok(())
    }

    fn get(&self, key: &str, range: Option<Range<u64>>) -> Result<Bytes, StoreError> {
        let failed = |error: io::Error| read_failure("get", key, &error);
        // An open file keeps its content, even if another object takes its name.
        let file = File::open(self.path(key)).map_err(failed)?;
        let size = file.metadata().map_err(failed)?.len();
        let range = match range {
            Some(range) => clip(key, &range, size)?,
            None => 0..size,
        };
        let mut bytes = vec![0; (range.end - range.start) as usize];
        file.read_exact_at(&mut bytes, range.start).map_err(failed)?;
        Ok(bytes.into())
    }

    fn delete(&self, key: &str) -> io::Result<()> {
        let path = self.path(key);
        match fs::remove_file(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            removed => removed?,
        }
        if let Some(parent) = path.parent() {
            sync_directory(parent)?;
            self.prune(parent);
        }
        Ok(())
    }

    /// Removes empty directories, from the given one upwards. A directory that remains is harmless.
    fn prune(&self, directory: &Path) {
        let Some(_no_puts) = self.directory_lock.try_write() else { return };
        for directory in directory.ancestors().take_while(|path| *path != self.objects) {
            if fs::remove_dir(directory).is_err() {
                return;
            }
            self.synced_directories.lock().remove(directory);
        }
    }
}

fn lock_root(root: &Path) -> Result<File, TryLockError> {
    let lock = fs::create_dir_all(root).and_then(|()| {
        File::options().create(true).truncate(false).write(true).open(root.join("lock"))
    });
    let lock = lock.map_err(TryLockError::Error)?;
    lock.try_lock()?;
    Ok(lock)
}

fn write_synced(path: &Path, body: &[Bytes]) -> io::Result<()> {
    let mut file = File::create_new(path)?;
    for chunk in body {
        file.write_all(chunk)?;
    }
    file.sync_all()
}

fn sync_directory(directory: &Path) -> io::Result<()> {
    match File::open(directory) {
        // A DELETE may have removed the directory: then there is nothing to sync.
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        opened => opened?.sync_all(),
    }
}

fn read_failure(operation: &'static str, key: &str, error: &io::Error) -> StoreError {
    StoreError { certainty: Certainty::Determinate, ..write_failure(operation, key, error) }
}

fn write_failure(operation: &'static str, key: &str, error: &io::Error) -> StoreError {
    let kind = match error.kind() {
        ErrorKind::NotFound => StoreErrorKind::NotFound,
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => StoreErrorKind::Denied,
        _ => StoreErrorKind::Unavailable,
    };
    StoreError { kind, ..StoreError::indeterminate(operation, key, error.to_string()) }
}

#[cfg(test)]
mod tests;
