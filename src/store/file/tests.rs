use super::*;
use crate::log::ids::ObjectId;
use crate::log::object_format::wal_key;
use crate::store::conformance;

fn open(root: &Path) -> FileStore {
    FileStore::open(root).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conforms() {
    let root = tempfile::tempdir().unwrap();
    conformance::run(&(Arc::new(open(root.path())) as Arc<dyn Store>)).await;
    let left = fs::read_dir(root.path().join("tmp")).unwrap().count();
    assert_eq!(left, 0, "no PUT leaves a temporary file");
}

#[tokio::test]
async fn objects_persist_when_the_store_is_reopened() {
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path());
    store.put("a/b", vec![Bytes::from_static(b"kept")], PutMode::Create).await.unwrap();
    drop(store);
    let store = open(root.path());
    assert_eq!(store.get("a/b", None).await.unwrap(), "kept");
    let again = store.put("a/b", Vec::new(), PutMode::Create).await.unwrap_err();
    assert_eq!(again.kind, StoreErrorKind::AlreadyExists);
}

#[tokio::test]
async fn temporary_files_of_interrupted_puts_are_deleted_at_open() {
    let root = tempfile::tempdir().unwrap();
    drop(open(root.path()));
    let torn = root.path().join("tmp/0");
    fs::write(&torn, b"half").unwrap();
    let store = open(root.path());
    assert!(!torn.exists());
    assert_eq!(store.list("", None, 10).await.unwrap(), []);
    store.put("a", vec![Bytes::from_static(b"whole")], PutMode::Overwrite).await.unwrap();
    assert_eq!(store.get("a", None).await.unwrap(), "whole");
}

#[test]
fn a_second_process_cannot_open_the_store() {
    let root = tempfile::tempdir().unwrap();
    let first = open(root.path());
    let error = FileStore::open(root.path()).unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Denied);
    assert!(error.to_string().contains("another process has this store open"), "{error}");
    drop(first);
    drop(open(root.path()));
}

#[test]
fn a_relative_root_is_rejected() {
    let error = FileStore::open(Path::new("data")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "open data: the directory of a file store must be an absolute path"
    );
}

#[tokio::test]
async fn a_delete_removes_empty_directories() {
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path());
    store.put("a/b/c/d", Vec::new(), PutMode::Overwrite).await.unwrap();
    store.put("a/x", Vec::new(), PutMode::Overwrite).await.unwrap();
    store.delete("a/b/c/d").await.unwrap();
    assert!(!root.path().join("objects/a/b").exists());
    assert!(root.path().join("objects/a/x~").exists());
}

#[tokio::test]
async fn an_object_and_a_directory_may_share_a_name() {
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path());
    for key in ["a/b", "a", "a/b/c"] {
        store.put(key, vec![Bytes::from_static(key.as_bytes())], PutMode::Create).await.unwrap();
    }
    let rows = store.list("", None, 10).await.unwrap();
    let keys: Vec<_> = rows.iter().map(|row| row.key.as_str()).collect();
    assert_eq!(keys, ["a", "a/b", "a/b/c"]);
    store.delete("a/b").await.unwrap();
    assert_eq!(store.get("a/b/c", None).await.unwrap(), "a/b/c");
    assert_eq!(store.get("a", None).await.unwrap(), "a");
}

/// Returns how many directory entries it takes to list the objects of one process in pages.
fn entries_to_list(objects: u32) -> usize {
    let root = tempfile::tempdir().unwrap();
    for sequence in 0..objects {
        let object = ObjectId { incarnation: 1, process_id: 1, sequence };
        let path = root.path().join(format!("{}~", wal_key(object)));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        File::create(path).unwrap();
    }
    let (mut after, mut listed, mut entries) = (String::new(), 0, 0);
    loop {
        let (rows, read) = walk::Walk::new("wal/", &after, 1_000).below(root.path()).unwrap();
        (listed, entries) = (listed + rows.len(), entries + read);
        match rows.last() {
            Some(last) if rows.len() == 1_000 => after = last.key.clone(),
            _ => break,
        }
    }
    assert_eq!(listed, objects as usize);
    entries
}

#[test]
fn work_of_a_listing_is_linear_in_the_number_of_objects() {
    let (few, many) = (entries_to_list(5_000), entries_to_list(20_000));
    assert!(many < 5 * few, "{few} entries for 5,000 objects, {many} for 20,000");
    assert!(many < 10 * 20_000, "{many}");
}
