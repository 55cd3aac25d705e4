//! The demos of the quick start: `make demo`, twice on the same directory, and `make demo-zones`.

use std::process::Command;

use testbed::process::run;
use testbed::{Testbed, program, repository, script};

#[test]
fn demo_passes_its_checks_and_resumes() {
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

#[test]
fn no_record_is_lost_when_zones_are_killed() {
    let dir = Testbed::get().test_dir("demo-zones");
    // Cargo builds no program of another package for a test; with the same packages and features
    // nothing else is compiled again.
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--locked", "--workspace", "--all-features", "--bin", "xtask"]);
    run(build.current_dir(repository()));
    let mut demo = Command::new(program("xtask"));
    demo.arg("demo-zones").env("ZONES_DEMO", "once").env("DEMO_DIR", &dir);
    let shown = run(demo.env("ODRADEK_BIN", env!("CARGO_BIN_EXE_odradek")));
    assert!(shown.contains(": 0 missing, 0 twice; 0 sends failed"), "{shown}");
}
