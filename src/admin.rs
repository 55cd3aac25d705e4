//! The HTTP port: `/livez`, `/readyz`, `/metrics`.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::metrics::Metrics;
use crate::tasks;

/// Connections at once: probes and scrapers are few.
const CONNECTIONS_MAX: usize = 64;
/// How long a peer may take to send its request's head.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// Whether clients may come, and why not.
#[derive(Debug, Default)]
pub struct Readiness(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    ready: bool,
    /// What became of the metadata, and what to do.
    lost: Option<String>,
}

impl Readiness {
    /// The start is over, or a drain begins.
    pub fn set_ready(&self, ready: bool) {
        self.lock().ready = ready;
    }

    /// The metadata is lost, for this reason, or whole again; whether that is a change.
    pub fn set_lost(&self, lost: Option<String>) -> bool {
        let mut state = self.lock();
        let is_change = state.lost.is_some() != lost.is_some();
        state.lost = lost;
        is_change
    }

    /// Whether the metadata is lost.
    pub fn is_lost(&self) -> bool {
        self.lock().lost.is_some()
    }

    fn answer(&self) -> (StatusCode, String) {
        let state = self.lock();
        match (&state.lost, state.ready) {
            (Some(reason), _) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
            (None, true) => (StatusCode::OK, "ok\n".to_owned()),
            (None, false) => (StatusCode::SERVICE_UNAVAILABLE, "not ready\n".to_owned()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Opens the port and serves it for as long as the process lives.
///
/// # Errors
/// The port cannot be opened.
pub async fn start(
    bind: SocketAddr,
    readiness: Arc<Readiness>,
    metrics: Arc<Metrics>,
) -> anyhow::Result<()> {
    let listening = TcpListener::bind(bind).await;
    let listener = listening.with_context(|| format!("admin.bind: cannot listen at {bind}"))?;
    let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    tasks::spawn_critical("admin", async move {
        loop {
            let Ok(permit) = Arc::clone(&connections).acquire_owned().await else { return };
            let Ok((stream, _)) = listener.accept().await else {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let (readiness, metrics) = (Arc::clone(&readiness), Arc::clone(&metrics));
            tasks::spawn("admin connection", async move {
                let serve = service_fn(move |request| {
                    let response = respond(&request, &readiness, &metrics);
                    std::future::ready(Ok::<_, Infallible>(response))
                });
                let served = hyper::server::conn::http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(HEADER_TIMEOUT)
                    .serve_connection(TokioIo::new(stream), serve);
                if let Err(error) = served.await {
                    tracing::debug!(%error, "admin connection");
                }
                drop(permit);
            });
        }
    });
    Ok(())
}

fn respond(
    request: &Request<Incoming>,
    readiness: &Readiness,
    metrics: &Metrics,
) -> Response<Full<Bytes>> {
    let (status, body) = match (request.method(), request.uri().path()) {
        (&Method::GET, "/livez") => (StatusCode::OK, "ok\n".to_owned()),
        (&Method::GET, "/readyz") => readiness.answer(),
        (&Method::GET, "/metrics") => (StatusCode::OK, metrics.text()),
        _ => (StatusCode::NOT_FOUND, "/livez /readyz /metrics\n".to_owned()),
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let text = header::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, text);
    response
}
