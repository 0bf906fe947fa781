//! HTTP on the admin address: `/metrics`, `/healthz`, `/readyz`. Reading only; nothing here changes anything.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, Sleep};

use super::{Handle, ended, metrics, snapshot};

/// Connections at once; further ones wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 64;
/// A connection that reads or writes nothing for so long is closed. Scrapers usually come every 15 to 60 s.
const IDLE_MAX: Duration = Duration::from_secs(90);

/// Serves until told to end.
pub(super) async fn serve(listener: TcpListener, handle: Arc<Handle>, stopped: watch::Receiver<bool>) {
    let routes = Router::new()
        .route("/", get(home))
        .route("/metrics", get(metrics_page))
        .route("/healthz", get(health))
        .route("/readyz", get(ready))
        .with_state(handle);
    let listener = Bounded {
        listener,
        ended: stopped.clone(),
        permits: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
    };
    let served = axum::serve(listener, routes);
    // Not axum's graceful end: it would wait for connections that scrapers keep open.
    tokio::select! {
        ended = async { served.await } => if let Err(error) = ended { tracing::error!(%error, "HTTP ended") },
        () = ended(stopped) => {}
    }
}

async fn home() -> &'static str {
    "usherd\n\n/metrics   figures for Prometheus\n/healthz   200 while every worker answers\n\
     /readyz    200 while every listener can be served\n"
}

async fn metrics_page(State(handle): State<Arc<Handle>>) -> impl IntoResponse {
    match snapshot(&handle).await {
        Some(figures) => {
            let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
            (kind, metrics::text(&figures)).into_response()
        }
        None => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// Alive means that every worker answers: a worker that hangs is a reason to be restarted.
async fn health(State(handle): State<Arc<Handle>>) -> (StatusCode, String) {
    match snapshot(&handle).await {
        Some(figures) if figures.workers_silent == 0 => (StatusCode::OK, "ok\n".into()),
        Some(figures) => {
            let text = format!(
                "{} of {} workers do not answer\n",
                figures.workers_silent, figures.workers
            );
            (StatusCode::SERVICE_UNAVAILABLE, text)
        }
        None => (StatusCode::SERVICE_UNAVAILABLE, "the daemon does not answer\n".into()),
    }
}

/// Ready means that clients can be served: not while starting or draining, nor while a directory has no server up.
async fn ready(State(handle): State<Arc<Handle>>) -> (StatusCode, String) {
    let Some(figures) = snapshot(&handle).await else {
        return (StatusCode::SERVICE_UNAVAILABLE, "the daemon does not answer\n".into());
    };
    if figures.lifecycle == "ready" {
        let shared = figures
            .feeds
            .iter()
            .filter(|feed| feed.role != "alone" && !feed.role.is_empty());
        let roles: String = shared
            .map(|feed| format!("feed {}: {}\n", feed.name, feed.role))
            .collect();
        return (StatusCode::OK, format!("ready\n{roles}"));
    }
    let mut text = format!("{}\n", figures.lifecycle);
    for listener in figures.listeners.iter().filter(|listener| listener.state != "ready") {
        text.push_str(&format!(
            "{} {} is {}\n",
            listener.protocol, listener.address, listener.state
        ));
    }
    (StatusCode::SERVICE_UNAVAILABLE, text)
}

/// A listener that accepts no more connections than there are permits.
struct Bounded {
    listener: TcpListener,
    ended: watch::Receiver<bool>,
    permits: Arc<Semaphore>,
}

impl axum::serve::Listener for Bounded {
    type Io = Watched;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Watched, SocketAddr) {
        loop {
            let Ok(permit) = self.permits.clone().acquire_owned().await else {
                std::future::pending::<()>().await;
                continue;
            };
            match self.listener.accept().await {
                Ok((stream, peer)) => {
                    let idle = Box::pin(tokio::time::sleep(IDLE_MAX));
                    return (
                        Watched {
                            stream,
                            ended: self.ended.clone(),
                            idle,
                            _permit: permit,
                        },
                        peer,
                    );
                }
                // Out of descriptors, most likely: the connection still waits, so a pause keeps this from spinning.
                Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection that ends when nothing moves on it for [`IDLE_MAX`], and gives its permit back.
struct Watched {
    stream: TcpStream,
    /// Whoever asks again is to ask another process.
    ended: watch::Receiver<bool>,
    idle: Pin<Box<Sleep>>,
    _permit: OwnedSemaphorePermit,
}

impl Watched {
    fn seen(&mut self, moved: bool, cx: &mut Context<'_>) -> io::Result<()> {
        if moved {
            self.idle.as_mut().reset(Instant::now() + IDLE_MAX);
        }
        match self.idle.as_mut().poll(cx) {
            Poll::Ready(()) => Err(io::ErrorKind::TimedOut.into()),
            Poll::Pending => Ok(()),
        }
    }
}

impl AsyncRead for Watched {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        if polled.is_ready() && *self.ended.borrow() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        if let Err(error) = self.seen(polled.is_ready(), cx) {
            return Poll::Ready(Err(error));
        }
        polled
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, buf);
        if let Err(error) = self.seen(polled.is_ready(), cx) {
            return Poll::Ready(Err(error));
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
