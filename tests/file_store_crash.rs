//! A process that is killed during PUTs leaves only complete objects, and all of those whose PUTs
//! returned.

#![expect(clippy::unwrap_used, reason = "these are tests")]

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

use odradek::store::conformance::pattern;
use odradek::store::file::FileStore;
use odradek::store::{PutMode, Store};

/// The variable with the directory of the process that is killed; unset in an ordinary run.
const ROOT: &str = "ODRADEK_TEST_CRASH_ROOT";

fn object(number: u64) -> (String, bytes::Bytes) {
    let body = pattern(number, 1 + (number as usize * 7919) % 200_000);
    (format!("{:02}/{number:06}", number % 16), body)
}

/// Not a test of its own: the process that is killed.
#[tokio::test]
async fn writes_until_it_is_killed() {
    let Some(root) = std::env::var_os(ROOT) else { return };
    let root = Path::new(&root);
    let store = FileStore::open(&root.join("store")).unwrap();
    let mut acknowledged = OpenOptions::new().append(true).open(root.join("told")).unwrap();
    for number in 0.. {
        let (key, body) = object(number);
        store.put(&key, vec![body], PutMode::Create).await.unwrap();
        writeln!(acknowledged, "{number}").unwrap();
    }
}

fn start(root: &Path) -> Child {
    File::create(root.join("told")).unwrap();
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]).arg(std::env::current_exe().unwrap());
    command.args(["--exact", "writes_until_it_is_killed"]).env(ROOT, root);
    command.spawn().unwrap()
}

fn acknowledged(root: &Path) -> usize {
    std::fs::read_to_string(root.join("told")).unwrap().lines().count()
}

#[tokio::test]
async fn a_killed_process_leaves_complete_objects_and_every_acknowledged_one() {
    for wanted in [1, 40, 150] {
        let root = tempfile::tempdir().unwrap();
        let mut child = start(root.path());
        while acknowledged(root.path()) < wanted {
            assert!(child.try_wait().unwrap().is_none(), "it writes until it is killed");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        child.kill().unwrap();
        child.wait().unwrap();

        let acknowledged = acknowledged(root.path()) as u64;
        let store = FileStore::open(&root.path().join("store")).unwrap();
        let rows = store.list("", None, usize::MAX).await.unwrap();
        // One PUT may have been in progress: its object exists completely or not at all.
        let found = rows.len() as u64;
        assert!(
            (acknowledged..=acknowledged + 1).contains(&found),
            "{acknowledged} acknowledged, {found} found"
        );
        for number in 0..found {
            let (key, body) = object(number);
            assert!(store.get(&key, None).await.unwrap() == body, "{key} is torn");
        }
    }
}
