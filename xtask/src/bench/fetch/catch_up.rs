//! Cold catch-up reads of diskless topics, beside the same reads of classic topics.

use super::{FetchBench, begin_row, franz_go, say, with};

/// Partitions of a topic, and the groups that read all of it at once; 0 for a consumer without a
/// group.
const READS: [(u32, u32); 3] = [(1, 0), (12, 0), (12, 5)];
/// Bytes of a partition that a fetch may return, in MiB.
const PARTITION_MIB: &str = "8";

impl FetchBench {
    pub(super) fn catchup(&mut self) {
        println!();
        say(&format!(
            "Catch-up: franz-go reads {} MiB from the beginning, {PARTITION_MIB} MiB per partition and fetch; replicas are cold, the broker's page cache is not",
            self.mib
        ));
        self.run_replicas(&["a1"]);
        for partitions in [1, 12] {
            for topic_type in ["diskless", "classic"] {
                if self.fill(topic_type, partitions).is_none() {
                    return;
                }
            }
        }
        // The broker's JVM compiles what it runs while it is first under load.
        let records = self.histories["classic-history-12"][0].clone();
        let words = ["-records", &records, &self.direct(), "classic-history-12"];
        self.bench.run_client(90, &with(franz_go("replay"), &words));
        println!(
            "{:<7} {:<11} {:<17} {:>8} {:>7} {:>9} {:>10} {:>13} {:>6} {:>11} {:>9} {:>8} {:>6}   aim",
            "groups",
            "partitions",
            "path",
            "seconds",
            "MB/s",
            "÷ classic",
            "CPU s/GiB",
            "broker s/GiB",
            "GETs",
            "GETs/object",
            "GET bytes",
            "KiB/GET",
            "box"
        );
        for (partitions, groups) in READS {
            let mut classic = None;
            self.catchup_row(partitions, groups, "classic-through", "", &mut classic);
            let aim = "÷ classic >= 1, GETs/object <= 1, GET bytes <= 1.1";
            self.catchup_row(partitions, groups, "diskless", aim, &mut classic);
            self.catchup_row(partitions, groups, "classic-direct", "", &mut classic);
        }
    }

    /// Prints one row. GET bytes are the bytes from the store per byte of the topic.
    fn catchup_row(
        &mut self,
        partitions: u32,
        groups: u32,
        path: &str,
        aim: &str,
        classic: &mut Option<f64>,
    ) {
        self.run_cold("a1");
        let topic = match path {
            "diskless" => format!("diskless-history-{partitions}"),
            _ => format!("classic-history-{partitions}"),
        };
        let bootstrap = if path == "classic-direct" { self.direct() } else { self.at("a1") };
        begin_row(&format!("{groups:<7} {partitions:<11} {path:<17}"));
        let groups_text = groups.to_string();
        let options = ["-groups", &groups_text, "-partition-mib", PARTITION_MIB];
        let command = self.reader("replay", &topic, &options);
        let Some(rows) = self.bench.run_client(120, &with(command, &[&bootstrap, &topic])) else {
            return;
        };
        let row = rows.into_iter().next().unwrap_or_default();
        let is_diskless = path == "diskless";
        let of_store = |name| if is_diskless { row.text(name) } else { "-" };
        let store_bytes = match is_diskless {
            true => format!("{:.2}", row.number("store_per_byte") * f64::from(groups.max(1))),
            false => "-".to_owned(),
        };
        let cpu = if path == "classic-direct" { "-" } else { row.text("cpu_per_gib") };
        let classic = *classic.get_or_insert(row.number("mbs"));
        println!(
            " {:>8} {:>7} {:>9.2} {cpu:>10} {:>13} {:>6} {:>11} {store_bytes:>9} {:>8} {:>6}   {aim}",
            row.text("seconds"),
            row.text("mbs"),
            row.number("mbs") / classic,
            row.text("broker_cpu_per_gib"),
            of_store("gets"),
            of_store("gets_per_object"),
            of_store("get_kib"),
            row.percent("box"),
        );
    }
}
