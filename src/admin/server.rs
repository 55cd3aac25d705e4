//! The HTTP server of the admin port: `/livez`, `/readyz`, `/metrics`, and the console.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::console::{Console, Page};
use super::readiness::Readiness;
use crate::accept::Connections;
use crate::metrics::Metrics;

/// Maximum number of open connections: probes and scrapers are few.
const CONNECTIONS_MAX: usize = 64;
/// Maximum time to receive the head, or the body, of a request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

const TEXT: &str = "text/plain; charset=utf-8";
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const PATHS: &str = "/ /livez /readyz /metrics /status.json /log\n";
/// Maximum size of a request body.
const BODY_BYTES_MAX: usize = 4 << 10;
/// The console is one file and connects to this port only.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
                      connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'";

/// Opens the admin port and serves it until the process ends.
///
/// # Errors
/// Fails if the port cannot be opened.
pub async fn start(
    bind: SocketAddr,
    readiness: Arc<Readiness>,
    metrics: Arc<Metrics>,
    console: Arc<Console>,
) -> anyhow::Result<()> {
    let listening = TcpListener::bind(bind).await;
    let listener = listening.with_context(|| format!("admin.bind: cannot listen at {bind}"))?;
    let shown = Arc::new((readiness, metrics, console));
    // Never cancelled: the port reports a drain until the process ends.
    let connections = Connections::new(CONNECTIONS_MAX, CancellationToken::new());
    connections.accept("admin", listener, move |stream, _| {
        let shown = Arc::clone(&shown);
        async move {
            let serve = service_fn(move |request| {
                let shown = Arc::clone(&shown);
                async move {
                    let (readiness, metrics, console) = &*shown;
                    let response = respond(request, readiness, metrics, console).await;
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
    console: &Console,
) -> Response<Full<Bytes>> {
    let text = |(status, body)| (status, Page { content_type: TEXT, body });
    let ok = StatusCode::OK;
    let (parts, body) = request.into_parts();
    let (status, page) = match (&parts.method, parts.uri.path()) {
        (&Method::GET, "/livez") => text((ok, "ok\n".to_owned())),
        (&Method::GET, "/readyz") => text(match readiness.check() {
            Ok(body) => (ok, body),
            Err(body) => (StatusCode::SERVICE_UNAVAILABLE, body),
        }),
        (&Method::GET, "/metrics") => {
            (ok, Page { content_type: OPEN_METRICS, body: metrics.text() })
        }
        (&Method::GET, path) => match console.page(path) {
            Some(page) => (ok, page),
            None => text((StatusCode::NOT_FOUND, PATHS.to_owned())),
        },
        (&Method::PUT, path) => text(put(console, path, body).await),
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

async fn put(console: &Console, path: &str, body: Incoming) -> (StatusCode, String) {
    let read = tokio::time::timeout(HEADER_TIMEOUT, Limited::new(body, BODY_BYTES_MAX).collect());
    let Ok(Ok(body)) = read.await else {
        return (StatusCode::BAD_REQUEST, "expected a body of at most 4 KiB\n".to_owned());
    };
    match console.put(path, &String::from_utf8_lossy(&body.to_bytes())) {
        Some(Ok(())) => (StatusCode::OK, "ok\n".to_owned()),
        Some(Err(problem)) => (StatusCode::BAD_REQUEST, format!("{problem}\n")),
        None => (StatusCode::NOT_FOUND, PATHS.to_owned()),
    }
}
