//! The demos of the quick start: `make demo`, twice on the same directory, and `make demo-zones`.

use testbed::process::run;
use testbed::three_zones::ThreeZones;
use testbed::{Testbed, program, script};

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
    let mut zones = ThreeZones::start(&dir, program("odradek"));
    let mut clients = zones.start_clients();
    zones.run_script(&mut clients, |_| {});
    let comparison = clients.finish();
    assert!(comparison.contains(": 0 missing, 0 twice; 0 sends failed"), "{comparison}");
}
