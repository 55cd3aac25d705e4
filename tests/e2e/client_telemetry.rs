//! Metrics that a stock Java producer pushes (KIP-714) are exported as series.

use std::time::Duration;

use crate::raw::{Topic, zone_cache};
use testbed::Testbed;
use testbed::kafka::tool;
use testbed::process::wait_until;
use testbed::replica::{Backends, DISKLESS_PREFIX, Replica};

#[test]
fn metrics_pushed_by_a_java_producer_are_exported() {
    let replica = Replica::start(Backends::Embedded, "clients: {telemetry: 1s}\n");
    let name = Testbed::get().unique(&format!("{DISKLESS_PREFIX}telemetry"));
    Topic::create(&replica, &name, 1, &[]);
    let admin = u16::try_from(replica.ports().start + 1).expect("a port");
    let bootstrap = replica.bootstrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let producer = [&format!("bootstrap.servers={bootstrap}"), "client.id=chatty"];
            let arguments = ["--topic", &name, "--num-records", "600", "--throughput", "50"];
            let more = ["--record-size", "100", "--producer-props"];
            let all = [&arguments[..], &more[..], &producer.map(|p| p as &str)[..]].concat();
            tool("kafka-producer-perf-test", &all);
        });
        wait_until("metrics of the producer", Duration::from_secs(60), || {
            let text = zone_cache::get(admin, "/metrics");
            let value = |name: &str| {
                let row = format!("odradek_client_{name}{{client_id=\"chatty\"}} ");
                let mut lines = text.lines();
                lines.find_map(|line| line.strip_prefix(&row)?.parse::<f64>().ok())
            };
            value("batch_size_bytes").is_some_and(|bytes| bytes > 100.0)
                && value("cross_zone") == Some(0.0)
        });
    });
}
