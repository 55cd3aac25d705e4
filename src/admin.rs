//! The HTTP port: `/livez`, `/readyz`, `/metrics`.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};

use crate::metrics::Metrics;
use crate::tasks;

/// Connections at once: probes and scrapers are few.
const CONNECTIONS_MAX: usize = 64;
/// How long a peer may take to send its request's head.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// Opens the port and serves it for as long as the process lives.
///
/// # Errors
/// The port cannot be opened.
pub async fn start(
    bind: SocketAddr,
    ready: watch::Receiver<bool>,
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
            let (ready, metrics) = (ready.clone(), Arc::clone(&metrics));
            tasks::spawn("admin connection", async move {
                let serve = service_fn(move |request| {
                    let response = respond(&request, *ready.borrow(), &metrics);
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

fn respond(request: &Request<Incoming>, ready: bool, metrics: &Metrics) -> Response<Full<Bytes>> {
    let (status, body) = match (request.method(), request.uri().path()) {
        (&Method::GET, "/livez") => (StatusCode::OK, "ok\n".to_owned()),
        (&Method::GET, "/readyz") if ready => (StatusCode::OK, "ok\n".to_owned()),
        (&Method::GET, "/readyz") => (StatusCode::SERVICE_UNAVAILABLE, "not ready\n".to_owned()),
        (&Method::GET, "/metrics") => (StatusCode::OK, metrics.text()),
        _ => (StatusCode::NOT_FOUND, "/livez /readyz /metrics\n".to_owned()),
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let text = header::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, text);
    response
}
