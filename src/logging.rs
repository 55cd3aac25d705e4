//! Logs, as text or JSON, at a level that can change while the process runs; and the export of spans
//! to a collector.

use std::fmt;
use std::sync::Arc;

use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};
use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::de::IntoDeserializer;
use serde::de::value::Error as ValueError;
use serde::{Deserialize, Serialize};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::Registry;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;

/// The format of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Text.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// The destination of the audit log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AuditOutput {
    /// To standard output, which has nothing else.
    #[default]
    Stdout,
    /// To standard error, among the lines of the log.
    Stderr,
    /// Nowhere.
    Off,
}

/// The target of spans that are exported and not logged. Their level is TRACE, so that without a
/// collector none are created.
pub const SPAN_TARGET: &str = "odradek::span";

/// The export of spans.
#[derive(Clone, Copy, Debug)]
pub struct TraceExport<'a> {
    /// The URL of the collector, as `http://collector:4318`.
    pub endpoint: &'a str,
    /// The replica's name.
    pub replica: &'a str,
    /// The replica's zone.
    pub zone: &'a str,
}

/// A handle to change the log level.
#[derive(Clone)]
pub struct Logging {
    filter: reload::Handle<EnvFilter, Registry>,
    current_level: Arc<Mutex<String>>,
    /// The level is set by the environment, which overrides the file.
    is_set_by_env: bool,
    spans: Option<SdkTracerProvider>,
}

impl fmt::Debug for Logging {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Logging").field("filter", &self.level()).finish_non_exhaustive()
    }
}

/// Parses a filter: `info`, or `info,odradek::proxy=debug`.
///
/// # Errors
/// Describes the problem and a valid filter.
pub fn parse_filter(text: &str) -> Result<EnvFilter, String> {
    let expected = "expected `info`, `debug`, or levels such as `info,odradek::proxy=debug`";
    if text.trim().is_empty() || text.len() > 1_000 {
        return Err(expected.to_owned());
    }
    EnvFilter::try_new(text.trim()).map_err(|error| format!("{error}; {expected}"))
}

/// Starts logging to standard error. `ODRADEK_LOG` and `ODRADEK_LOG_FORMAT` override the
/// arguments.
pub fn start(format: LogFormat, level: &str, traces: Option<TraceExport<'_>>) -> Logging {
    let env = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let from_env = env("ODRADEK_LOG").filter(|text| parse_filter(text).is_ok());
    let level = from_env.clone().unwrap_or_else(|| level.to_owned());
    let filter = parse_filter(&level).unwrap_or_else(|_| EnvFilter::new("info"));
    let named = env("ODRADEK_LOG_FORMAT").and_then(|name| {
        let name = IntoDeserializer::<ValueError>::into_deserializer(name);
        LogFormat::deserialize(name).ok()
    });
    let format = named.unwrap_or(format);
    let (filter, handle) = reload::Layer::new(filter);
    let spans = traces.map(tracer).transpose();
    let provider = spans.as_ref().ok().cloned().flatten();
    let exported = provider.as_ref().map(|provider| {
        let tracer: SdkTracer = provider.tracer("odradek");
        let layer = tracing_opentelemetry::layer().with_tracer(tracer);
        layer.with_filter(filter_fn(|metadata| metadata.target() == SPAN_TARGET))
    });
    let is_terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines: Box<dyn Layer<Registry> + Send + Sync> = match format {
        LogFormat::Text => Box::new(lines.with_ansi(is_terminal)),
        LogFormat::Json => Box::new(
            lines.json().flatten_event(true).with_current_span(false).with_span_list(false),
        ),
    };
    tracing_subscriber::registry().with(lines.with_filter(filter)).with(exported).init();
    if let Err(error) = spans {
        tracing::error!(%error, "log.traces: spans are not exported");
    }
    let (current_level, is_set_by_env) = (Arc::new(Mutex::new(level)), from_env.is_some());
    Logging { filter: handle, current_level, is_set_by_env, spans: provider }
}

/// Exports spans in batches, from a thread of its own. Spans that the collector rejects are dropped.
fn tracer(
    traces: TraceExport<'_>,
) -> Result<SdkTracerProvider, opentelemetry_otlp::ExporterBuildError> {
    let endpoint = format!("{}/v1/traces", traces.endpoint.trim_end_matches('/'));
    let exporter = SpanExporter::builder().with_http().with_endpoint(endpoint).build()?;
    let resource = Resource::builder().with_service_name("odradek").with_attributes([
        KeyValue::new("service.version", crate::VERSION),
        KeyValue::new("service.instance.id", traces.replica.to_owned()),
        KeyValue::new("cloud.availability_zone", traces.zone.to_owned()),
    ]);
    let provider = SdkTracerProvider::builder().with_batch_exporter(exporter);
    Ok(provider.with_resource(resource.build()).build())
}

impl Logging {
    /// Exports the remaining spans before the process ends.
    pub fn flush_spans(&self) {
        if let Some(spans) = &self.spans {
            // The collector may be unreachable, and the process ends anyway.
            let _not_exported = spans.shutdown();
        }
    }

    /// Returns the current filter.
    pub fn level(&self) -> String {
        self.current_level.lock().clone()
    }

    /// Sets the filter.
    ///
    /// # Errors
    /// The filter is not valid; the previous one remains.
    pub fn set_level(&self, text: &str) -> Result<(), String> {
        let filter = parse_filter(text)?;
        self.filter.reload(filter).map_err(|error| error.to_string())?;
        text.trim().clone_into(&mut self.current_level.lock());
        Ok(())
    }

    /// Sets the filter of the configuration file. Returns `false` if the environment overrides it.
    pub fn apply_file_level(&self, level: &str) -> bool {
        !self.is_set_by_env && self.set_level(level).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_parsed_or_rejected() {
        for good in ["info", "debug", "info,odradek::proxy=debug", " warn\n"] {
            assert!(parse_filter(good).is_ok(), "{good}");
        }
        for bad in ["", "  ", "odradek=loud", "a=b=c", &"x".repeat(2_000)] {
            let error = parse_filter(bad).unwrap_err();
            assert!(error.contains("expected `info`"), "{error}");
        }
    }
}
