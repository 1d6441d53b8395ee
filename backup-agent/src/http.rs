//! The HTTP door of the agent: `/healthz` (alive), `/readyz` (can work, and if not, why) and `/metrics`.
//!
//! It only reads, has no password and is meant for loopback. It never waits for a database or a store: what it tells is
//! what the agent's loop noted in [`Health`].

use crate::error::Error;
use crate::health::Health;
use crate::metrics;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

/// How long a client may take to ask.
const HEADER_TIME: Duration = Duration::from_secs(5);
/// How long a connection may last, with one request.
const CONNECTION_TIME: Duration = Duration::from_secs(15);
/// The longest head of a request.
const HEADER_BYTES: usize = 16 * 1024;
/// How many header lines a request may have.
const HEADER_LINES: usize = 64;
/// How many connections are served at once; the others wait.
const CONNECTIONS: usize = 32;

/// A door that is open, but answers nobody yet.
#[derive(Debug)]
pub struct Door {
    listener: TcpListener,
    address: SocketAddr,
}

/// Opens the door at `listen` (`HOST:PORT`); none for `off`. Fails when the address cannot be had.
pub async fn open(listen: &str) -> Result<Option<Door>, Error> {
    if listen.trim() == "off" {
        return Ok(None);
    }
    let failed = |error: std::io::Error| Error::Failed {
        message: format!("listen of [agent]: {listen:?} cannot be listened at: {}", in_words(&error)),
        hint: Some("write HOST:PORT, like 127.0.0.1:9187, or \"off\"".into()),
    };
    let listener = TcpListener::bind(listen.trim()).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    if !address.ip().is_loopback() {
        tracing::warn!(%address, "/healthz, /readyz and /metrics are open to other hosts, without a password");
    }
    Ok(Some(Door { listener, address }))
}

/// Opens the door and answers until `shutdown` is done; with `off` it only waits for that.
pub async fn serve(listen: &str, health: Arc<Health>, shutdown: impl Future<Output = ()>) -> Result<(), Error> {
    match open(listen).await? {
        Some(door) => door.serve(health, shutdown).await,
        None => shutdown.await,
    }
    Ok(())
}

impl Door {
    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until `shutdown` is done; then what is being answered is cut off.
    pub async fn serve(self, health: Arc<Health>, shutdown: impl Future<Output = ()>) {
        let router = router(health);
        let room = Arc::new(Semaphore::new(CONNECTIONS));
        let mut connections = tokio::task::JoinSet::new();
        let accept = async {
            loop {
                // Clients beyond the limit wait in the kernel's queue. The semaphore is never closed.
                let Ok(place) = room.clone().acquire_owned().await else { return };
                match self.listener.accept().await {
                    Ok((stream, _)) => {
                        let router = router.clone();
                        connections.spawn(async move {
                            answer(stream, router).await;
                            drop(place);
                        });
                    }
                    Err(error) => {
                        // Out of descriptors, most likely: trying at once would only burn time.
                        tracing::warn!(%error, "a connection to the agent's HTTP address failed");
                        tokio::time::sleep(Duration::from_millis(200)).await;
                    }
                }
                while connections.try_join_next().is_some() {}
            }
        };
        tokio::select! {
            () = accept => {}
            () = shutdown => {}
        }
    }
}

async fn answer(stream: TcpStream, router: Router) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEADER_TIME).keep_alive(false);
    http.max_buf_size(HEADER_BYTES).max_headers(HEADER_LINES);
    let connection = http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    // A client that goes away or talks nonsense has hurt nobody but itself.
    match tokio::time::timeout(CONNECTION_TIME, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a connection to the agent's HTTP address ended early"),
        Err(_) => tracing::debug!("a connection to the agent's HTTP address was too slow"),
    }
}

fn router(health: Arc<Health>) -> Router {
    // axum answers HEAD as GET, other methods with 405 and other paths with 404.
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics_page))
        .with_state(health)
}

async fn healthz(State(health): State<Arc<Health>>) -> Response {
    match health.is_alive() {
        true => (StatusCode::OK, "alive\n").into_response(),
        false => (StatusCode::SERVICE_UNAVAILABLE, "the agent's loop does not turn\n").into_response(),
    }
}

async fn readyz(State(health): State<Arc<Health>>) -> Response {
    let reasons = health.reasons();
    let status = if reasons.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = serde_json::json!({ "ready": reasons.is_empty(), "reasons": reasons });
    (status, [(header::CONTENT_TYPE, "application/json")], format!("{body}\n")).into_response()
}

async fn metrics_page(State(health): State<Arc<Health>>) -> Response {
    ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], health.metrics()).into_response()
}

fn in_words(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::AddrInUse => "it is in use: another agent runs, or another program has it".into(),
        std::io::ErrorKind::AddrNotAvailable => "this machine does not have the address".into(),
        std::io::ErrorKind::PermissionDenied => "not permitted (ports below 1024 are for root)".into(),
        _ => error.to_string(),
    }
}
