//! The HTTP port: `/livez`, `/readyz`, `/metrics`, and the page for people.

use std::convert::Infallible;
use std::fmt::Debug;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::{Mutex, MutexGuard};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::accept::Connections;
use crate::metrics::Metrics;

/// Connections at once: probes and scrapers are few.
const CONNECTIONS_MAX: usize = 64;
/// How long a peer may take to send its request's head.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

const TEXT: &str = "text/plain; charset=utf-8";
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const PATHS: &str = "/ /livez /readyz /metrics /status.json /log\n";
/// The largest body that is read.
const BODY_BYTES_MAX: usize = 4 << 10;
/// The page is one file, and asks nobody but this port.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
                      connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'";

/// Whether clients may come, and why not.
#[derive(Debug, Default)]
pub struct Readiness(Mutex<ReadinessState>);

#[derive(Debug, Default)]
struct ReadinessState {
    ready: bool,
    /// It was ready once.
    started: bool,
    /// What became of the metadata, and what to do.
    metadata_loss: Option<String>,
}

impl Readiness {
    /// The start is over, or a drain begins.
    pub fn set_ready(&self, ready: bool) {
        let mut state = self.lock();
        state.ready = ready;
        state.started |= ready;
    }

    /// `starting`, `ready`, `draining` or `metadata_loss`, and what an operator is to know of it.
    pub fn state(&self) -> (&'static str, Option<String>) {
        let state = self.lock();
        match (&state.metadata_loss, state.ready, state.started) {
            (Some(reason), _, _) => ("metadata_lost", Some(reason.clone())),
            (None, true, _) => ("ready", None),
            (None, false, false) => ("starting", None),
            (None, false, true) => ("draining", None),
        }
    }

    /// The metadata is lost, for this reason, or whole again; whether that is a change.
    pub fn set_metadata_loss(&self, metadata_loss: Option<String>) -> bool {
        let mut state = self.lock();
        let is_change = state.metadata_loss.is_some() != metadata_loss.is_some();
        state.metadata_loss = metadata_loss;
        is_change
    }

    /// Whether the metadata is lost.
    pub fn is_metadata_lost(&self) -> bool {
        self.lock().metadata_loss.is_some()
    }

    fn response(&self) -> (StatusCode, String) {
        let state = self.lock();
        match (&state.metadata_loss, state.ready) {
            (Some(reason), _) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
            (None, true) => (StatusCode::OK, "ok\n".to_owned()),
            (None, false) => (StatusCode::SERVICE_UNAVAILABLE, "not ready\n".to_owned()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, ReadinessState> {
        self.0.lock()
    }
}

/// An answer of [`Pages`].
#[derive(Clone, Debug)]
pub struct Page {
    /// Its media type.
    pub content_type: &'static str,
    /// What it says.
    pub body: String,
}

/// What else the port shows, under paths of its own.
#[async_trait]
pub trait Pages: Send + Sync + Debug {
    /// The page at a path; `None` where there is none.
    async fn page(&self, path: &str) -> Option<Page>;

    /// Sets what is at a path; `None` where nothing can be set, an error says what is wrong.
    async fn put(&self, path: &str, body: &str) -> Option<Result<(), String>>;
}

/// Opens the port and serves it for as long as the process lives.
///
/// # Errors
/// The port cannot be opened.
pub async fn start(
    bind: SocketAddr,
    readiness: Arc<Readiness>,
    metrics: Arc<Metrics>,
    pages: Arc<dyn Pages>,
) -> anyhow::Result<()> {
    let listening = TcpListener::bind(bind).await;
    let listener = listening.with_context(|| format!("admin.bind: cannot listen at {bind}"))?;
    let shown = Arc::new((readiness, metrics, pages));
    // Never cancelled: the port reports a drain until the process ends.
    let connections = Connections::new(CONNECTIONS_MAX, CancellationToken::new());
    connections.accept("admin", listener, move |stream, _| {
        let shown = Arc::clone(&shown);
        async move {
            let serve = service_fn(move |request| {
                let shown = Arc::clone(&shown);
                async move {
                    let (readiness, metrics, pages) = &*shown;
                    let response = respond(request, readiness, metrics, &**pages).await;
                    Ok::<_, Infallible>(response)
                }
            });
            let served = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIMEOUT)
                .serve_connection(TokioIo::new(stream), serve);
            if let Err(error) = served.await {
                tracing::debug!(%error, "admin connection");
            }
        }
    });
    Ok(())
}

async fn respond(
    request: Request<Incoming>,
    readiness: &Readiness,
    metrics: &Metrics,
    pages: &dyn Pages,
) -> Response<Full<Bytes>> {
    let text = |(status, body)| (status, Page { content_type: TEXT, body });
    let ok = StatusCode::OK;
    let (parts, body) = request.into_parts();
    let (status, page) = match (&parts.method, parts.uri.path()) {
        (&Method::GET, "/livez") => text((ok, "ok\n".to_owned())),
        (&Method::GET, "/readyz") => text(readiness.response()),
        (&Method::GET, "/metrics") => {
            (ok, Page { content_type: OPEN_METRICS, body: metrics.text() })
        }
        (&Method::GET, path) => match pages.page(path).await {
            Some(page) => (ok, page),
            None => text((StatusCode::NOT_FOUND, PATHS.to_owned())),
        },
        (&Method::PUT, path) => text(put(pages, path, body).await),
        _ => text((StatusCode::NOT_FOUND, PATHS.to_owned())),
    };
    let mut response = Response::new(Full::new(Bytes::from(page.body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    let mut set = |name, value| headers.insert(name, header::HeaderValue::from_static(value));
    set(header::CONTENT_TYPE, page.content_type);
    set(header::CONTENT_SECURITY_POLICY, POLICY);
    set(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(header::CACHE_CONTROL, "no-store");
    response
}

async fn put(pages: &dyn Pages, path: &str, body: Incoming) -> (StatusCode, String) {
    let read = tokio::time::timeout(HEADER_TIMEOUT, Limited::new(body, BODY_BYTES_MAX).collect());
    let Ok(Ok(body)) = read.await else {
        return (StatusCode::BAD_REQUEST, "a body of at most 4 KiB is wanted\n".to_owned());
    };
    match pages.put(path, &String::from_utf8_lossy(&body.to_bytes())).await {
        Some(Ok(())) => (StatusCode::OK, "ok\n".to_owned()),
        Some(Err(problem)) => (StatusCode::BAD_REQUEST, format!("{problem}\n")),
        None => (StatusCode::NOT_FOUND, PATHS.to_owned()),
    }
}
