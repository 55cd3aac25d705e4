//! Dashboards and alerts: each query runs on a Prometheus that scrapes real replicas under load, and
//! each alert is tested by promtool.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;

use crate::raw::batch::Batch;
use crate::raw::client::Client;
use crate::raw::requests::{append, fetch};
use crate::raw::{Topic, zone_cache};
use testbed::ports::free_ports;
use testbed::process::{Process, wait_until};
use testbed::replica::{DISKLESS_PREFIX, InZone, Replica};
use testbed::{Testbed, repository, require};

const FILES: &str = "helm/odradek/files";
/// The number of alerts.
const ALERTS: usize = 21;

fn file(path: &str) -> String {
    let path = repository().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Returns the queries of the dashboard with the titles of their panels.
fn queries() -> Vec<(String, String)> {
    let dashboard: Value = serde_json::from_str(&file(&format!("{FILES}/dashboards/odradek.json")))
        .expect("the dashboard is JSON");
    let panels = dashboard["panels"].as_array().expect("panels").iter();
    let queries = panels.flat_map(|panel| {
        let title = panel["title"].as_str().expect("a title").to_owned();
        let targets = panel["targets"].as_array().cloned().unwrap_or_default();
        targets.into_iter().map(move |target| {
            let query = target["expr"].as_str().expect("a query").to_owned();
            (title.clone(), query)
        })
    });
    let queries: Vec<_> = queries.collect();
    assert!(queries.len() > 40, "{}", queries.len());
    queries
}

/// Returns the names of metrics in a text.
fn metrics_in(text: &str) -> BTreeSet<String> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = text.split(|c| !is_name(c));
    let is_ours = |word: &&str| word.starts_with("odradek_") || word.starts_with("process_");
    words.filter(is_ours).map(str::to_owned).collect()
}

fn run(command: &mut Command) {
    require(Path::new(command.get_program()));
    let output = command.output().expect("it runs");
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{command:?}: {said}");
}

#[test]
fn queries_and_rules_use_existing_metrics() {
    let listed = file("docs/metrics.md");
    let rules = file(&format!("{FILES}/rules.yaml"));
    let used = metrics_in(&rules)
        .into_iter()
        .chain(queries().into_iter().flat_map(|(_, query)| metrics_in(&query)));
    for name in used {
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
        let is_listed = |name: &str| listed.contains(&format!("| `{name}` |"));
        assert!(is_listed(&name) || base.is_some_and(is_listed), "no metric is called {name}");
    }
}

#[test]
fn dashboard_matches_its_generator() {
    let output = Command::new("python3").arg(repository().join("scripts/dashboard.py")).output();
    let printed = String::from_utf8(output.expect("python3 runs").stdout).expect("text");
    let kept = file(&format!("{FILES}/dashboards/odradek.json"));
    assert!(printed == kept, "it is out of date; `make dashboards` rewrites it");
}

#[test]
fn alerts_are_tested_and_have_runbooks() {
    let dir = Testbed::get().test_dir("alerts");
    for path in [format!("{FILES}/rules.yaml"), "tests/alerts/rules_test.yaml".to_owned()] {
        let from = repository().join(path);
        let name = from.file_name().expect("a file").to_owned();
        fs::copy(&from, dir.join(name)).expect("the directory is writable");
    }
    run(Command::new("promtool").args(["check", "rules"]).arg(dir.join("rules.yaml")));
    run(Command::new("promtool").args(["test", "rules"]).arg(dir.join("rules_test.yaml")));
    let (rules, tests) =
        (file(&format!("{FILES}/rules.yaml")), file("tests/alerts/rules_test.yaml"));
    let alerts: Vec<_> = rules.lines().filter_map(|l| l.split_once("- alert: ")).collect();
    let pages: Vec<_> = rules.lines().filter_map(|l| l.split_once("runbook_url: ")).collect();
    assert_eq!((alerts.len(), pages.len()), (ALERTS, ALERTS));
    for ((_, alert), (_, page)) in alerts.iter().zip(&pages) {
        assert!(tests.contains(&format!("name: {alert} fires")), "{alert} has no test");
        assert!(tests.contains(&format!("name: {alert} is silent")), "{alert} has no test");
        let text = file(page);
        assert!(text.starts_with(&format!("# {alert}\n")), "{page} is not {alert}'s");
        assert!(text.contains("## What to do"), "{page}");
    }
}

/// Starts a Prometheus that scrapes these ports every second.
fn prometheus(dir: &Path, admins: &[i32]) -> (u16, Process) {
    require(Path::new("prometheus"));
    let rules = repository().join(FILES).join("rules.yaml");
    let targets: Vec<_> = admins.iter().map(|port| format!("\"127.0.0.1:{port}\"")).collect();
    let config = format!(
        "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: [{}]\n\
         scrape_configs: [{{job_name: odradek, static_configs: [{{targets: [{}]}}]}}]\n",
        rules.display(),
        targets.join(", ")
    );
    let path = dir.join("prometheus.yml");
    fs::write(&path, config).expect("the directory is writable");
    let port = free_ports(1);
    let mut command = Command::new("prometheus");
    command.arg(format!("--config.file={}", path.display()));
    command.arg(format!("--storage.tsdb.path={}", dir.join("tsdb").display()));
    command.arg(format!("--web.listen-address=127.0.0.1:{port}"));
    let mut process = Process::start("prometheus", dir, &command);
    let is_ready = || {
        std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
            && zone_cache::get(port, "/-/ready").starts_with("HTTP/1.1 200")
    };
    process.wait_while_alive("readiness", Duration::from_secs(60), is_ready);
    (port, process)
}

fn query_api(port: u16, path: &str) -> Value {
    let answer = zone_cache::get(port, path);
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    // Large responses are chunked; the sizes of chunks are on lines of their own.
    let body = match head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
        true => body.split("\r\n").skip(1).step_by(2).collect(),
        false => body.to_owned(),
    };
    serde_json::from_str(&body).unwrap_or_else(|error| panic!("{path}: {error}: {answer}"))
}

fn encoded(query: &str) -> String {
    query.bytes().fold(String::new(), |text, byte| format!("{text}%{byte:02x}"))
}

/// Returns the number of series of a query whose values are not NaN.
fn results(port: u16, query: &str) -> usize {
    let answer = query_api(port, &format!("/api/v1/query?query={}", encoded(query)));
    assert_eq!(answer["status"], "success", "{query}: {answer}");
    let results = answer["data"]["result"].as_array().expect("a vector");
    let is_number = |value: &Value| value["value"][1].as_str().is_some_and(|v| v != "NaN");
    results.iter().filter(|value| is_number(value)).count()
}

#[test]
fn dashboard_queries_return_data_on_a_real_prometheus() {
    let dir: PathBuf = Testbed::get().test_dir("prometheus");
    let cluster = Testbed::get().unique("observed");
    let start = |zone, replica| {
        let at = InZone { cluster: &cluster, zone, replica, nodes: 2, topics: &[] };
        let store = Testbed::get().minio().yaml(&cluster);
        Replica::start_in(at, &store, &Testbed::get().redis().yaml(), "flush: {interval: 20ms}\n")
    };
    let (a, b) = (start("zone-a", "a"), start("zone-b", "b"));
    let name = Testbed::get().unique(&format!("{DISKLESS_PREFIX}observed"));
    let topic = Topic::create(&a, &name, 1, &[]);
    let (port, _prometheus) = prometheus(&dir, &[a.ports().start + 1, b.ports().start + 1]);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut writer = Client::connect(&topic.address(&a, 0));
            let mut readers = [Client::connect(&a.node(0)), Client::connect(&b.node(0))];
            while !done.load(Ordering::Relaxed) {
                let batch = Batch::of(&["observed"]).bytes();
                let offset = append(&mut writer, topic.partition(0), batch);
                for reader in &mut readers {
                    reader.call(&fetch(topic.partition(0), 12, offset), 12);
                }
            }
        });
        let looked = std::panic::catch_unwind(|| {
            for (title, query) in queries() {
                let query = query
                    .replace("$__rate_interval", "10s")
                    .replace("$instance", ".*")
                    .replace("$zone", ".*");
                let what = format!("data for {title}: {query}");
                wait_until(&what, Duration::from_secs(60), || results(port, &query) > 0);
            }
            let rules = query_api(port, "/api/v1/rules");
            let groups = &rules["data"]["groups"][0]["rules"];
            let rules = groups.as_array().expect("rules");
            let is_ok = |rule: &Value| rule["health"] == "ok" && rule["state"] != "firing";
            assert!(rules.len() == ALERTS && rules.iter().all(is_ok), "{rules:#?}");
        });
        done.store(true, Ordering::Relaxed);
        looked.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}
