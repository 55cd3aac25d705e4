//! `odradek cost FILE`: reports what the traffic through running replicas costs and saves.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::BytesMut;
use reqwest::redirect;
use serde::Serialize;

use crate::admin::status::Status;
use crate::cli::CostArgs;
use crate::config::Settings;
use crate::cost::MONTH_SECONDS;

/// Maximum time to read the status of one replica.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum size of a response body.
const RESPONSE_BYTES_MAX: usize = 64 << 20;

/// Costs of several replicas, added up.
#[derive(Debug, Default, Serialize)]
struct CostSummary {
    /// One row for each zone, then the row `all`.
    zones: Vec<CostRow>,
    topics: Vec<CostRow>,
    spent: BTreeMap<String, f64>,
    baseline: BTreeMap<String, f64>,
    advice: Vec<String>,
    /// The uptime of the replica that started last.
    seconds: f64,
}

#[derive(Clone, Debug, Default, Serialize)]
struct CostRow {
    name: String,
    saved_dollars: f64,
    spent_dollars: f64,
    /// Dollars saved in a month at the average rate since the start.
    per_month: f64,
    produced_bytes: u64,
    advice: Option<String>,
}

/// Runs the command.
///
/// # Errors
/// Fails if the status of a replica cannot be read.
pub(super) async fn run(settings: Settings, args: CostArgs) -> anyhow::Result<ExitCode> {
    let own = || vec![format!("http://{}", settings.admin.bind)];
    let replicas = if args.replicas.is_empty() { own() } else { args.replicas.clone() };
    let mut statuses = Vec::with_capacity(replicas.len());
    for replica in &replicas {
        statuses.push(fetch_status(replica).await?);
    }
    let report = report(&statuses);
    let text = match args.json {
        true => format!("{}\n", serde_json::to_string_pretty(&report)?),
        false => render(&report, statuses.len()),
    };
    io::stdout().lock().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// Reads `/status.json` of a replica.
async fn fetch_status(replica: &str) -> anyhow::Result<Status> {
    let url = format!("{}/status.json", replica.trim_end_matches('/'));
    let remedy = || {
        format!(
            "{url}: expected the `admin.bind` address of a running replica; set it with --replica URL"
        )
    };
    let client = reqwest::Client::builder()
        .no_proxy()
        .redirect(redirect::Policy::none())
        .timeout(RESPONSE_TIMEOUT)
        .build()?;
    let mut response = client.get(&url).send().await.with_context(remedy)?;
    let status = response.status();
    if !status.is_success() {
        bail!("{}: HTTP status {status}", remedy());
    }
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await.with_context(remedy)? {
        if body.len() + chunk.len() > RESPONSE_BYTES_MAX {
            bail!("{}: the response is longer than {RESPONSE_BYTES_MAX} bytes", remedy());
        }
        body.extend_from_slice(&chunk);
    }
    serde_json::from_slice(&body).with_context(remedy)
}

fn report(statuses: &[Status]) -> CostSummary {
    let mut report = CostSummary { seconds: f64::MAX, ..CostSummary::default() };
    let (mut zones, mut topics) = (BTreeMap::new(), BTreeMap::new());
    for status in statuses {
        let seconds = (status.now_ms - status.started_ms).max(1) as f64 / 1_000.0;
        report.seconds = report.seconds.min(seconds);
        for zone in &status.cost.zones {
            let dollars = (zone.saved_dollars, zone.spent_dollars);
            add(&mut zones, &zone.zone, dollars, seconds, 0, None);
        }
        for topic in &status.topics {
            let dollars = (topic.saved_dollars, topic.spent_dollars);
            let advice = topic.advice.clone();
            add(&mut topics, &topic.name, dollars, seconds, topic.produced_bytes, advice);
        }
        for item in &status.cost.baseline_dollars {
            *report.baseline.entry(item.item.clone()).or_default() += item.dollars;
        }
        let spent = &status.cost.spent_dollars;
        for (item, dollars) in [
            ("put", spent.put),
            ("get", spent.get),
            ("list", spent.list),
            ("storage", spent.storage),
            ("cross_zone", spent.cross_zone),
        ] {
            *report.spent.entry(item.to_owned()).or_default() += dollars;
        }
        let advice = status.cost.advice.iter();
        report.advice.extend(advice.map(|advice| format!("{}: {advice}", status.replica)));
    }
    let mut all = CostRow { name: "all".to_owned(), ..CostRow::default() };
    for row in zones.values() {
        all.saved_dollars += row.saved_dollars;
        all.spent_dollars += row.spent_dollars;
        all.per_month += row.per_month;
    }
    report.zones = zones.into_values().chain([all]).collect();
    report.topics = topics.into_values().collect();
    report.topics.sort_by(|a, b| b.saved_dollars.total_cmp(&a.saved_dollars));
    report
}

fn add(
    rows: &mut BTreeMap<String, CostRow>,
    name: &str,
    (saved, spent): (f64, f64),
    seconds: f64,
    produced_bytes: u64,
    advice: Option<String>,
) {
    let row = rows.entry(name.to_owned()).or_default();
    row.name = name.to_owned();
    row.saved_dollars += saved;
    row.spent_dollars += spent;
    row.per_month += saved / seconds * MONTH_SECONDS;
    row.produced_bytes += produced_bytes;
    row.advice = row.advice.take().or(advice);
}

fn render(report: &CostSummary, replicas: usize) -> String {
    let mut out = String::new();
    let noun = if replicas == 1 { "replica" } else { "replicas" };
    let minutes = report.seconds / 60.0;
    let _infallible =
        writeln!(out, "{replicas} {noun}, running for at least {minutes:.1} minutes\n");
    let mut table = |title: &str, rows: &[CostRow]| {
        let width = rows.iter().map(|row| row.name.len()).max().unwrap_or(0).max(title.len());
        let _infallible = writeln!(
            out,
            "{title:<width$}  {:>12}  {:>12}  {:>14}",
            "saved $", "spent $", "saved $/month"
        );
        for row in rows {
            let _infallible = writeln!(
                out,
                "{:<width$}  {:>12.6}  {:>12.6}  {:>14.2}{}",
                row.name,
                row.saved_dollars,
                row.spent_dollars,
                row.per_month,
                row.advice.as_ref().map(|advice| format!("  {advice}")).unwrap_or_default()
            );
        }
        out.push('\n');
    };
    table("zone", &report.zones);
    table("topic", &report.topics);
    let items = |items: &BTreeMap<String, f64>| {
        items.iter().map(|(item, dollars)| format!("{item} {dollars:.6}")).collect::<Vec<_>>()
    };
    let _infallible = writeln!(out, "spent on: {}", items(&report.spent).join(", "));
    let _infallible =
        writeln!(out, "replicated Kafka would have cost: {}", items(&report.baseline).join(", "));
    for advice in &report.advice {
        let _infallible = writeln!(out, "advice: {advice}");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::status::{CostItem, CostStatus, TopicStatus, ZoneCost};

    fn status(replica: &str, zone: &str, saved: f64) -> Status {
        let zones =
            vec![ZoneCost { zone: zone.to_owned(), saved_dollars: saved, spent_dollars: 0.5 }];
        let baseline = vec![CostItem { item: "produce".to_owned(), dollars: saved + 0.5 }];
        let topic = TopicStatus {
            name: "clicks".to_owned(),
            saved_dollars: saved,
            spent_dollars: 0.5,
            produced_bytes: 7,
            ..TopicStatus::default()
        };
        Status {
            replica: replica.to_owned(),
            now_ms: 3_600_000,
            cost: CostStatus { zones, baseline_dollars: baseline, ..CostStatus::default() },
            topics: vec![topic],
            ..Status::default()
        }
    }

    #[test]
    fn costs_of_a_zone_are_the_sum_of_its_replicas() {
        let report =
            report(&[status("a1", "a", 1.0), status("a2", "a", 2.0), status("b1", "b", -1.0)]);
        let zones: Vec<_> = report
            .zones
            .iter()
            .map(|r| (r.name.as_str(), r.saved_dollars, r.spent_dollars))
            .collect();
        assert_eq!(zones, [("a", 3.0, 1.0), ("b", -1.0, 0.5), ("all", 2.0, 1.5)]);
        assert_eq!((report.topics.len(), report.topics[0].produced_bytes), (1, 21));
        assert!((report.zones[0].per_month - 3.0 * 730.0).abs() < 1e-6);
        let text = render(&report, 3);
        assert!(
            text.contains("3 replicas, running for at least 60.0 minutes")
                && text.contains("produce 3.5"),
            "{text}"
        );
    }
}
