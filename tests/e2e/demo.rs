//! What a newcomer sees first is a test: `make demo`, twice on the same folder.

use crate::bed::process::run;
use crate::bed::{Bed, script};

#[test]
fn demo_once() {
    let dir = Bed::get().test_dir("demo");
    let demo = || {
        let mut command = script("demo.sh");
        command.env("DEMO", "once").env("DEMO_DIR", &dir).env_remove("KAFKA");
        command.env("ODRADEK_BIN", env!("CARGO_BIN_EXE_odradek"));
        run(&mut command)
    };
    let first = demo();
    assert!(first.contains("All checks passed"), "{first}");
    let second = demo();
    assert!(second.contains("300 of them are from earlier runs"), "{second}");
}
