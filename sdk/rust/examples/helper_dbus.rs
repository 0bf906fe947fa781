//! A helper that speaks D-Bus (`transport = "dbus"`), with the library zbus: up to four calls at once.
//!
//! What it answers is what the other examples of helpers do: `echo:…` comes back, `sleep SECONDS` takes its time, `pid` says
//! who it is; all else is in capitals.
//!
//! ```toml
//! [service.upper]
//! program = ["/usr/local/lib/usherd/helper_dbus"]
//! transport = "dbus"
//! concurrency = 4
//! ```

use std::collections::HashMap;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_bytes::ByteBuf;
use tokio::sync::Notify;
use zbus::message::Header;

const PATH: &str = "/org/usherd/Helper1";
const CONCURRENCY: u32 = 4;

struct Helper {
    /// The calls that are open, by the serials of their messages.
    open: Mutex<HashMap<u32, Arc<Notify>>>,
    ended: Arc<Notify>,
}

#[derive(Debug, zbus::DBusError)]
#[zbus(prefix = "org.usherd.Error")]
enum Error {
    #[zbus(error)]
    ZBus(zbus::Error),
    Failed(String),
}

#[zbus::interface(name = "org.usherd.Helper1")]
impl Helper {
    /// Answers one call.
    async fn call(
        &self,
        #[zbus(header)] header: Header<'_>,
        payload: ByteBuf,
        _deadline_ms: u32,
    ) -> Result<ByteBuf, Error> {
        let serial = header.primary().serial_num().get();
        let interrupted = Arc::new(Notify::new());
        self.keep(serial, Some(Arc::clone(&interrupted)));
        let answer = tokio::select! {
            answer = work(&payload) => answer,
            () = interrupted.notified() => Err(Error::Failed("interrupted".to_owned())),
        };
        self.keep(serial, None);
        answer.map(ByteBuf::from)
    }

    /// Nobody wants the answer to the call of this serial any more.
    fn interrupt(&self, serial: u32) {
        if let Some(call) = self.open.lock().ok().and_then(|open| open.get(&serial).cloned()) {
            call.notify_one();
        }
    }

    /// usherd wants it to end.
    fn goodbye(&self) {
        self.ended.notify_one();
    }
}

impl Helper {
    fn keep(&self, serial: u32, call: Option<Arc<Notify>>) {
        if let Ok(mut open) = self.open.lock() {
            match call {
                Some(call) => open.insert(serial, call),
                None => open.remove(&serial),
            };
        }
    }
}

async fn work(payload: &[u8]) -> Result<Vec<u8>, Error> {
    if let Some(rest) = payload.strip_prefix(b"echo:") {
        return Ok(rest.to_vec());
    }
    if let Some(seconds) = payload.strip_prefix(b"sleep ") {
        let seconds = std::str::from_utf8(seconds).ok().and_then(|text| text.parse().ok());
        let time = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        tokio::time::sleep(time.ok_or_else(|| Error::Failed("how long?".to_owned()))?).await;
        return Ok(b"rested".to_vec());
    }
    if payload == b"pid" {
        return Ok(std::process::id().to_string().into_bytes());
    }
    Ok(payload.to_ascii_uppercase())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Standard input is the socket.
    let socket = std::os::unix::net::UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    socket.set_nonblocking(true)?;
    let socket = tokio::net::UnixStream::from_std(socket)?;
    let ended = Arc::new(Notify::new());
    let helper = Helper {
        open: Mutex::default(),
        ended: Arc::clone(&ended),
    };
    let connection = zbus::connection::Builder::unix_stream(socket)
        .p2p()
        .serve_at(PATH, helper)?
        .build()
        .await?;
    // Calls can come: so many at once; its name; whether an interrupt is to come as SIGINT, too.
    let ready = (CONCURRENCY, "helper_dbus.rs/1", false);
    connection
        .emit_signal(None::<&str>, PATH, "org.usherd.Helper1", "Ready", &ready)
        .await?;
    ended.notified().await;
    Ok(())
}
