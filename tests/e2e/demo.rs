//! What a newcomer sees first is a test: `make demo`, twice on the same folder.

use std::process::Command;

use testbed::process::run;
use testbed::{Testbed, script};

#[test]
fn demo_once() {
    let dir = Testbed::get().test_dir("demo");
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

/// `make demo-zones`, which kills and starts two of its three zones by itself.
#[test]
fn demo_of_three_zones_once() {
    let mut command = Command::new("examples/three-zones/run.sh");
    command.current_dir(env!("CARGO_MANIFEST_DIR"));
    command.env("ZONES_DEMO", "once").env("DEMO_DIR", Testbed::get().test_dir("demo-zones"));
    command.env("ODRADEK_BIN", env!("CARGO_BIN_EXE_odradek"));
    let said = run(&mut command);
    assert!(said.contains(": 0 missing, 0 twice; 0 sends failed"), "{said}");
}
