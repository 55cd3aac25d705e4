//! Every stock client runs the same script against stock Kafka and through Odradek, on diskless and
//! classic topics. The transcripts must be equal. The scripts are in `tests/clients`.

use std::process::Command;
use std::time::Duration;

use parking_lot::Mutex;

use testbed::process::Process;
use testbed::replica::{Backends, Replica};
use testbed::{Testbed, repository, require};

const LIMIT: Duration = Duration::from_secs(20 * 60);

#[test]
fn clients_agree_on_embedded_defaults() {
    clients_agree(Backends::Embedded, "matrix-embedded");
}

#[test]
fn clients_agree_on_redis_and_s3() {
    clients_agree(Backends::RedisS3, "matrix-redis-s3");
}

fn clients_agree(backends: Backends, prefix: &str) {
    // One at a time: both have their stock side on the same brokers, under the same names.
    static STOCK_SIDE: Mutex<()> = Mutex::new(());
    let _one = STOCK_SIDE.lock();

    require("python3".as_ref());
    let testbed = Testbed::get();
    let replica = Replica::start(backends, "");
    let mut command = Command::new("python3");
    command.arg(repository().join("tests/clients/matrix.py"));
    let stock = testbed.kafka().bootstrap().split(',').next().unwrap_or_default();
    command.args(["--stock", stock, "--proxy", &replica.bootstrap()]);
    command.args(["--prefix", prefix]);
    Process::start("matrix", &testbed.test_dir(prefix), &command).wait_success(LIMIT);
}
