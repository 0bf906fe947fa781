//! Lines to a unix or TCP socket, with TLS where it is wanted.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::lines::Dialogue;
use super::{Acknowledge, Batch, Delivered, SinkError, SocketPlace, SocketPlan, Timeouts};
use crate::config::plan::TlsClient;
use crate::net::tls;

/// A connection, whatever it is made of.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// A socket that takes lines, for one shard.
pub struct Socket {
    dialogue: Dialogue,
    read: ReadHalf<Box<dyn Stream>>,
    write: WriteHalf<Box<dyn Stream>>,
    ack: Acknowledge,
    deliver: Duration,
    grace: Duration,
}

impl Socket {
    pub(super) async fn connect(plan: &SocketPlan, times: &Timeouts, feed: &Arc<str>) -> Result<Socket, SinkError> {
        let (stream, peer) = match &plan.place {
            SocketPlace::Unix(path) => {
                let peer = format!("unix:{}", path.display());
                let stream: Box<dyn Stream> = Box::new(within(times.connect, &peer, UnixStream::connect(path)).await?);
                (stream, peer)
            }
            SocketPlace::Tcp(host, port) => {
                let stream = tcp(host, *port, plan.tls.as_ref(), times).await?;
                (stream, format!("tcp:{host}:{port}"))
            }
        };
        let (read, write) = tokio::io::split(stream);
        Ok(Socket {
            dialogue: Dialogue::new(feed, peer),
            read,
            write,
            ack: plan.ack,
            deliver: times.deliver,
            grace: times.grace,
        })
    }

    pub(super) async fn deliver(&mut self, batch: &Batch<'_>) -> Result<Delivered, SinkError> {
        let read = (self.ack == Acknowledge::Yes).then_some(&mut self.read);
        let done = timeout(self.deliver, self.dialogue.deliver(batch, read, &mut self.write)).await;
        done.unwrap_or_else(|_| Err(late(self.deliver).after(self.dialogue.progress(batch))))
    }

    pub(super) async fn close(mut self) {
        // Nobody is left to tell of a connection that does not close.
        let _ = timeout(self.grace, self.write.shutdown()).await;
    }
}

/// A delivery that took too long.
pub(super) fn late(allowed: Duration) -> SinkError {
    SinkError::retry(format!("not acknowledged within {allowed:?} (deliver_timeout)"))
}

/// An attempt to connect, with its time-out and the peer's name in what is told.
pub(super) async fn within<T>(
    allowed: Duration,
    peer: &str,
    connecting: impl Future<Output = std::io::Result<T>>,
) -> Result<T, SinkError> {
    match timeout(allowed, connecting).await {
        Ok(Ok(connected)) => Ok(connected),
        Ok(Err(error)) => Err(SinkError::retry(format!("{peer}: {error}"))),
        Err(_) => Err(SinkError::retry(format!(
            "{peer} does not answer within {allowed:?} (connect_timeout)"
        ))),
    }
}

/// A TCP connection, perhaps in TLS.
pub(super) async fn tcp(
    host: &str,
    port: u16,
    tls: Option<&TlsClient>,
    times: &Timeouts,
) -> Result<Box<dyn Stream>, SinkError> {
    let peer = format!("{host}:{port}");
    let stream = within(times.connect, &peer, TcpStream::connect((host, port))).await?;
    // Small batches are not to wait for the acknowledgement of the one before; where it cannot be said, they do.
    let _ = stream.set_nodelay(true);
    let Some(plan) = tls else {
        return Ok(Box::new(stream));
    };
    let config = tls::client(plan).map_err(SinkError::setting)?;
    let name = tls::server_name(plan, host).map_err(SinkError::setting)?;
    match timeout(times.handshake, TlsConnector::from(config).connect(name, stream)).await {
        Ok(Ok(stream)) => Ok(Box::new(stream)),
        Ok(Err(error)) => Err(SinkError::tls(&peer, &error)),
        Err(_) => {
            let text = format!("{peer}: TLS is not up within {:?} (handshake_timeout)", times.handshake);
            Err(SinkError::retry(text))
        }
    }
}
