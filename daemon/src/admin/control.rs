//! The control socket: one JSON object per line in, one per line out.
//!
//! `{"command":"status"}`, `{"command":"reload"}`, `{"command":"drain","level":"gentle|firm|now"}`,
//! `{"command":"upgrade"}` (and `"program"`), `{"command":"stop"}`. The answer has `"ok"`, and `"error"` when it is false. Only root and the daemon's own user are
//! answered, whatever the mode of the socket.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixListener as StdListener;
use std::os::unix::net::UnixStream as StdStream;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};

use super::{Command, Drain, Handle, command, ended, snapshot};
use crate::feed::command::Verb;
use crate::feed::verify::{Options, PATIENCE_DEFAULT, PATIENCE_MAX, SHOWN_DEFAULT, SHOWN_MAX};
use crate::traces;
use engine::radius::mac;
use engine::radius::trace::Who;

/// Longest request line.
const LINE_BYTES_MAX: u64 = 16 * 1024;
/// Connections at once.
const CONNECTIONS_MAX: usize = 16;
/// A connection that says nothing for so long, or does not take its answer, is closed.
const IDLE_MAX: Duration = Duration::from_secs(10);

/// Where the socket's file is: another process may take the place.
pub(super) type Path = Arc<Mutex<PathBuf>>;

/// A bound control socket; its file goes when this is dropped.
pub(super) struct Socket {
    listener: Option<StdListener>,
    path: Path,
    /// The path that is to be taken from another process.
    wanted: Option<PathBuf>,
}

impl Socket {
    /// See [`super::Bound::bind`].
    pub(super) fn bind(path: &std::path::Path) -> Result<Socket, String> {
        let shown = path.display();
        let cannot = |error: io::Error| format!("the control socket {shown} cannot be made: {error}");
        if let Some(folder) = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty() && !folder.exists())
        {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(folder)
                .map_err(cannot)?;
        }
        remove_dead(path)?;
        let listener = StdListener::bind(path).map_err(cannot)?;
        let socket = Socket {
            listener: Some(listener),
            path: Arc::new(Mutex::new(path.to_owned())),
            wanted: None,
        };
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o600)).map_err(cannot)?;
        if let Some(listener) = &socket.listener {
            listener.set_nonblocking(true).map_err(cannot)?;
        }
        Ok(socket)
    }

    /// See [`super::Bound::beside`].
    pub(super) fn bind_beside(path: &std::path::Path) -> Result<Socket, String> {
        let mut name = path.as_os_str().to_owned();
        name.push("~");
        let mut socket = Self::bind(name.as_ref())?;
        socket.wanted = Some(path.to_owned());
        Ok(socket)
    }

    /// See [`super::Bound::take_over`].
    pub(super) fn take_over(&self) -> Result<Option<PathBuf>, String> {
        let Some(wanted) = &self.wanted else { return Ok(None) };
        let mut path = self.path.lock().unwrap_or_else(PoisonError::into_inner);
        let old = std::os::unix::process::parent_id();
        let kept = kept(wanted, old);
        let _ = std::fs::remove_file(&kept);
        // Under one of its names it is always there.
        std::fs::hard_link(wanted, &kept)
            .and_then(|()| std::fs::rename(&*path, wanted))
            .map_err(|error| format!("the control socket {} cannot be taken over: {error}", wanted.display()))?;
        path.clone_from(wanted);
        Ok(Some(kept))
    }

    pub(super) fn path(&self) -> Path {
        Arc::clone(&self.path)
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // It may be gone already, with its folder.
        let _ = std::fs::remove_file(&*self.path.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// Where the control socket of process `pid` is found once another has taken its path.
pub(super) fn kept(path: &std::path::Path, pid: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{pid}"));
    PathBuf::from(name)
}

/// Removes the socket of a daemon that is gone; refuses when one answers, or when it is no socket.
fn remove_dead(path: &std::path::Path) -> Result<(), String> {
    let Ok(found) = std::fs::symlink_metadata(path) else {
        return Ok(());
    };
    let shown = path.display();
    if !found.file_type().is_socket() {
        return Err(format!(
            "{shown} exists and is not a socket; name another control socket, or remove it"
        ));
    }
    if StdStream::connect(path).is_ok() {
        return Err(format!(
            "another usherd answers at {shown}; stop it (usherd stop --control {shown}) or name another control socket"
        ));
    }
    std::fs::remove_file(path).map_err(|error| format!("{shown}, left by a daemon that is gone, stays: {error}"))
}

/// Serves until told to end.
pub(super) async fn serve(mut socket: Socket, handle: Arc<Handle>, stopped: watch::Receiver<bool>) {
    let Some(listener) = socket.listener.take() else { return };
    let listener = match UnixListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "the control socket cannot be served"),
    };
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let accepting = async {
        loop {
            let Ok(permit) = permits.clone().acquire_owned().await else {
                return;
            };
            match listener.accept().await {
                Ok((stream, _)) => {
                    let handle = handle.clone();
                    tokio::spawn(async move {
                        // A peer that goes away in the middle is its own business.
                        let _ = converse(stream, &handle).await;
                        drop(permit);
                    });
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
            }
        }
    };
    tokio::select! {
        () = accepting => {}
        () = ended(stopped) => {}
    }
}

async fn converse(stream: UnixStream, handle: &Arc<Handle>) -> io::Result<()> {
    let peer = stream.peer_cred()?.uid();
    let (read, mut write) = stream.into_split();
    if peer != 0 && peer != rustix::process::geteuid().as_raw() {
        let refusal = json!({ "ok": false, "error": "only root and the daemon's own user are answered here" });
        return write.write_all(format!("{refusal}\n").as_bytes()).await;
    }
    let mut reader = BufReader::new(read);
    loop {
        let mut line = Vec::new();
        let mut bounded = (&mut reader).take(LINE_BYTES_MAX);
        let read = tokio::time::timeout(IDLE_MAX, bounded.read_until(b'\n', &mut line)).await;
        match read {
            Ok(Ok(0)) | Err(_) => return Ok(()),
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Err(error),
        }
        let whole = line.last() == Some(&b'\n');
        let reply = if whole {
            answer(&line, handle).await
        } else {
            refused("a request is one line of at most 16 KiB")
        };
        let text = format!("{reply}\n");
        tokio::time::timeout(IDLE_MAX, write.write_all(text.as_bytes())).await??;
        if !whole {
            return Ok(());
        }
    }
}

#[derive(Deserialize)]
#[serde(tag = "command", rename_all = "lowercase", deny_unknown_fields)]
enum Request {
    Status,
    Reload,
    Drain {
        #[serde(default)]
        level: Level,
    },
    Stop,
    Lockout {
        #[serde(default)]
        clear: Option<String>,
    },
    Upgrade {
        #[serde(default)]
        program: Option<PathBuf>,
    },
    Feed {
        #[serde(default)]
        name: Option<String>,
        verb: Word,
        #[serde(default)]
        from: Option<u64>,
        #[serde(default)]
        seq: Option<u64>,
        #[serde(default)]
        shown_max: Option<usize>,
        #[serde(default)]
        patience_ms: Option<u64>,
    },
    Trace {
        #[serde(default)]
        user: Option<String>,
        #[serde(default)]
        station: Option<String>,
        #[serde(default)]
        client: Option<String>,
        #[serde(default)]
        seconds: Option<u64>,
        #[serde(default)]
        from: Option<u64>,
    },
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Word {
    Confirm,
    Reject,
    Reset,
    Pause,
    Resume,
    Replay,
    ReplayDead,
    Dead,
    Verify,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    #[default]
    Gentle,
    Firm,
    Now,
}

async fn answer(line: &[u8], handle: &Arc<Handle>) -> Value {
    let request: Request = match serde_json::from_slice(line) {
        Ok(request) => request,
        Err(error) => return refused(&format!("not a request: {error}")),
    };
    let told = match request {
        Request::Status => return status(handle).await,
        Request::Reload => Command::Reload,
        Request::Drain { level: Level::Gentle } => Command::Drain(Drain::Gentle),
        Request::Drain { level: Level::Firm } => Command::Drain(Drain::Firm),
        Request::Drain { level: Level::Now } => Command::Drain(Drain::Now),
        Request::Stop => Command::Stop,
        Request::Lockout { clear } => return json!({ "ok": true, "answer": (handle.lockout)(clear.as_deref()) }),
        Request::Upgrade { program } => Command::Upgrade(program),
        Request::Feed {
            name,
            verb,
            from,
            seq,
            shown_max,
            patience_ms,
        } => {
            let options = Options {
                shown_max: shown_max.unwrap_or(SHOWN_DEFAULT).min(SHOWN_MAX),
                patience: patience_ms
                    .map_or(PATIENCE_DEFAULT, Duration::from_millis)
                    .min(PATIENCE_MAX),
            };
            let verb = meant(verb, from, seq, options);
            return match super::feed(handle, name, verb).await {
                Ok(answer) => json!({ "ok": true, "answer": answer }),
                Err(error) => refused(&error),
            };
        }
        Request::Trace {
            user,
            station,
            client,
            seconds,
            from,
        } => {
            let who = user.map(|name| Ok(Who::User(name)));
            let who = who.or_else(|| client.map(|name| Ok(Who::Client(name))));
            let who = who.or_else(|| station.map(|text| self::station(&text)));
            let verb = match (who.transpose(), seconds, from) {
                (Err(error), _, _) => return refused(&error),
                (Ok(Some(who)), Some(seconds), _) => traces::Verb::Begin(who, seconds),
                (Ok(Some(who)), None, _) => traces::Verb::End(who),
                (Ok(None), _, from) => traces::Verb::From(from.unwrap_or_default()),
            };
            return match (handle.trace)(verb) {
                Ok(answer) => json!({ "ok": true, "answer": answer }),
                Err(error) => refused(&error),
            };
        }
    };
    match command(handle, told).await {
        Ok(()) => json!({ "ok": true }),
        Err(error) => refused(&error),
    }
}

fn station(text: &str) -> Result<Who, String> {
    mac::parse(text.as_bytes())
        .map(Who::Station)
        .ok_or_else(|| format!("`{text}` is no MAC address: write it like 00:1a:2b:3c:4d:5e"))
}

fn meant(word: Word, from: Option<u64>, seq: Option<u64>, options: Options) -> Verb {
    match word {
        Word::Confirm => Verb::Confirm,
        Word::Reject => Verb::Reject,
        Word::Reset => Verb::Reset,
        Word::Pause => Verb::Pause,
        Word::Resume => Verb::Resume,
        Word::Replay => Verb::Replay {
            from: from.unwrap_or_default(),
        },
        Word::ReplayDead => Verb::ReplayDead { seq },
        Word::Dead => Verb::Dead,
        Word::Verify => Verb::Verify(options),
    }
}

async fn status(handle: &Arc<Handle>) -> Value {
    let Some(figures) = snapshot(handle).await else {
        return refused("the daemon does not answer; its log says why");
    };
    match serde_json::to_value(figures) {
        Ok(Value::Object(mut object)) => {
            object.insert("ok".into(), Value::Bool(true));
            Value::Object(object)
        }
        Ok(_) | Err(_) => refused("the figures cannot be written as JSON"),
    }
}

fn refused(error: &str) -> Value {
    json!({ "ok": false, "error": error })
}
