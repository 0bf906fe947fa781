//! Dictionaries to a stock Python `multiprocessing.connection.Listener`: one connection, and so one `accept()`, for each
//! shard.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::sync::Arc;

use engine::feed::event::{Attributes, Event, Op};
use engine::feed::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::UnixStream;
use tokio::time::timeout;
use wire::frame::Step;
use wire::python_connection::{
    HANDSHAKE_FRAME_BYTES_MAX, Handshake, NONCE_BYTES, Pickle, Refusal, failure, payload, put_frame, split,
};

use super::socket::{Stream, late, tcp, within};
use super::{Acknowledge, Batch, Delivered, PythonAddress, PythonPlan, SinkError, Timeouts};

/// A sequence number in eight bytes, the highest first: `send_bytes(struct.pack("!Q", seq))`.
const ACKNOWLEDGEMENT_BYTES: usize = 8;

/// A Listener's connection, for one shard.
pub struct Python {
    feed: Arc<str>,
    peer: String,
    read: ReadHalf<Box<dyn Stream>>,
    write: WriteHalf<Box<dyn Stream>>,
    unread: Vec<u8>,
    done: u64,
    ack: Acknowledge,
    times: Timeouts,
}

impl Python {
    pub(super) async fn connect(plan: &PythonPlan, times: &Timeouts, feed: &Arc<str>) -> Result<Python, SinkError> {
        let (stream, peer): (Box<dyn Stream>, String) = match &plan.address {
            PythonAddress::Tcp(host, port) => (tcp(host, *port, None, times).await?, format!("python:{host}:{port}")),
            PythonAddress::Unix(path) => unix(path.clone(), path.display().to_string(), times).await?,
            PythonAddress::Abstract(name) => {
                let path = [b"\0", name.as_slice()].concat();
                let shown = format!("@{}", String::from_utf8_lossy(name));
                unix(OsString::from_vec(path).into(), shown, times).await?
            }
        };
        let (read, write) = tokio::io::split(stream);
        let mut python = Python {
            feed: feed.clone(),
            peer,
            read,
            write,
            unread: Vec::new(),
            done: 0,
            ack: plan.ack,
            times: times.clone(),
        };
        if let Some(key) = &plan.authkey {
            let allowed = times.handshake;
            match timeout(allowed, python.authenticate(key)).await {
                Ok(done) => done?,
                Err(_) => {
                    let text = format!("{}: no handshake within {allowed:?} (handshake_timeout)", python.peer);
                    return Err(SinkError::retry(text));
                }
            }
        }
        Ok(python)
    }

    async fn authenticate(&mut self, key: &[u8]) -> Result<(), SinkError> {
        let mut nonce = [0; NONCE_BYTES];
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let random = provider.secure_random.fill(&mut nonce);
        random.map_err(|_| SinkError::retry("the system gives no random bytes"))?;
        let mut handshake = Handshake::new(key, &nonce);
        loop {
            let frame = self.frame(HANDSHAKE_FRAME_BYTES_MAX).await?;
            let next = match handshake.receive(payload(&frame)) {
                Ok(next) => next,
                Err(refusal) => {
                    if refusal == Refusal::WrongAnswer {
                        // As Python does; a peer that has gone meanwhile need not hear it.
                        let _ = self
                            .send(|out| put_frame(out, |out| out.extend_from_slice(failure())))
                            .await;
                    }
                    return Err(SinkError::setting(format!("{}: {refusal}", self.peer)));
                }
            };
            for message in next.send {
                self.send(|out| put_frame(out, |out| out.extend_from_slice(&message)))
                    .await?;
            }
            if next.done {
                return Ok(());
            }
        }
    }

    async fn send(&mut self, make: impl FnOnce(&mut Vec<u8>)) -> Result<(), SinkError> {
        let mut out = Vec::new();
        make(&mut out);
        let sent = self.write.write_all(&out).await;
        sent.map_err(|error| SinkError::retry(format!("{}: {error}", self.peer)))
    }

    /// The next whole frame.
    async fn frame(&mut self, max: usize) -> Result<Vec<u8>, SinkError> {
        loop {
            match split(&self.unread, max) {
                Step::Frame { len } => return Ok(self.unread.drain(..len).collect()),
                Step::Malformed(why) => return Err(SinkError::retry(format!("{}: {why}", self.peer))),
                Step::NeedMore { .. } => {}
            }
            match self.read.read_buf(&mut self.unread).await {
                Ok(0) => {
                    return Err(SinkError::retry(format!(
                        "{}: the listener has closed the connection",
                        self.peer
                    )));
                }
                Ok(_) => {}
                Err(error) => return Err(SinkError::retry(format!("{}: {error}", self.peer))),
            }
        }
    }

    pub(super) async fn deliver(&mut self, batch: &Batch<'_>) -> Result<Delivered, SinkError> {
        let allowed = self.times.deliver;
        let done = match timeout(allowed, self.exchange(batch)).await {
            Ok(done) => done,
            Err(_) => Err(late(allowed)),
        };
        let (first, last) = batch.range();
        done.map_err(|error| error.after((self.done >= first).then_some(self.done.min(last))))
    }

    async fn exchange(&mut self, batch: &Batch<'_>) -> Result<Delivered, SinkError> {
        let (_, upto) = batch.range();
        let mut text = Vec::new();
        for event in batch.events {
            put_frame(&mut text, |out| pickle(out, &self.feed, event));
        }
        let mut out = text.as_slice();
        let answers = self.ack == Acknowledge::Yes;
        while !out.is_empty() || answers && self.done < upto {
            let step = tokio::select! {
                wrote = self.write.write(out), if !out.is_empty() => wrote.map(|n| out = out.get(n..).unwrap_or_default()),
                read = self.read.read_buf(&mut self.unread), if answers => match read {
                    Ok(0) => Err(std::io::ErrorKind::UnexpectedEof.into()),
                    other => other.map(|_| ()),
                },
            };
            step.map_err(|error| SinkError::retry(format!("{}: {error}", self.peer)))?;
            self.acknowledged(upto)?;
        }
        Ok(Delivered { upto })
    }

    fn acknowledged(&mut self, sent: u64) -> Result<(), SinkError> {
        loop {
            match split(&self.unread, ACKNOWLEDGEMENT_BYTES) {
                Step::NeedMore { .. } => return Ok(()),
                Step::Frame { len } => {
                    let frame: Vec<u8> = self.unread.drain(..len).collect();
                    let number = payload(&frame).try_into().map(u64::from_be_bytes);
                    match number {
                        Ok(number) if number <= sent => self.done = self.done.max(number),
                        _ => {
                            return Err(SinkError::retry(format!(
                                "{}: what it sends acknowledges nothing",
                                self.peer
                            )));
                        }
                    }
                }
                Step::Malformed(why) => {
                    let text = format!(
                        "{}: an acknowledgement has eight bytes, by send_bytes: {why}",
                        self.peer
                    );
                    return Err(SinkError::retry(text));
                }
            }
        }
    }

    pub(super) async fn close(mut self) {
        // Nobody is left to tell of a connection that does not close.
        let _ = timeout(self.times.grace, self.write.shutdown()).await;
    }
}

async fn unix(path: PathBuf, shown: String, times: &Timeouts) -> Result<(Box<dyn Stream>, String), SinkError> {
    let peer = format!("python:unix:{shown}");
    let stream = within(times.connect, &peer, UnixStream::connect(path)).await?;
    Ok((Box::new(stream), peer))
}

/// One event as a dictionary: the names of the JSON form; values that are not text are `bytes`.
fn pickle(out: &mut Vec<u8>, feed: &str, event: &Event<'_>) {
    let mut pickle = Pickle::begin(out);
    pickle.dict();
    pair(&mut pickle, "seq", event.seq);
    pickle.text("feed");
    pickle.text(feed);
    pair(&mut pickle, "shard", u64::from(event.shard));
    pickle.text("op");
    pickle.text(event.op.name());
    if !event.op.is_feed_wide() {
        entry(&mut pickle, event);
    }
    if let Some(csn) = event.csn {
        pickle.text("csn");
        pickle.text(csn);
    }
    if let Some(counts) = &event.counts {
        for (name, count) in [
            ("entries", counts.entries),
            ("added", counts.added),
            ("modified", counts.modified),
            ("moved", counts.moved),
            ("deleted", counts.deleted),
            ("unchanged", counts.unchanged),
        ] {
            pair(&mut pickle, name, count);
        }
    }
    pickle.text("time");
    written(&mut pickle, |out| json::write_time(out, event.time_ms));
    pickle.dict_end();
    pickle.end();
}

fn entry(pickle: &mut Pickle<'_>, event: &Event<'_>) {
    pickle.text("uuid");
    written(pickle, |out| json::write_uuid(out, &event.uuid));
    pickle.text("dn");
    pickle.text(event.dn);
    if let Some(old_dn) = event.old_dn {
        pickle.text("old_dn");
        pickle.text(old_dn);
    }
    if event.op != Op::Delete {
        pickle.text("attributes");
        attributes(pickle, event.attributes);
    }
    if matches!(event.op, Op::Modify | Op::Move) {
        pickle.text("changed");
        pickle.list();
        for name in event.changed {
            pickle.text(&String::from_utf8_lossy(name));
        }
        pickle.list_end();
    }
    if let Some(before) = event.before {
        pickle.text("before");
        attributes(pickle, before);
    }
}

fn attributes(pickle: &mut Pickle<'_>, attributes: Attributes<'_>) {
    pickle.dict();
    for attribute in attributes {
        pickle.text(&String::from_utf8_lossy(attribute.name));
        if attribute.redacted.is_some() {
            pickle.none();
            continue;
        }
        pickle.list();
        for value in attribute.values {
            let printable = !value.iter().any(|byte| *byte < 0x20 || *byte == 0x7F);
            match std::str::from_utf8(value) {
                Ok(text) if printable => pickle.text(text),
                _ => pickle.bytes(value),
            }
        }
        pickle.list_end();
    }
    pickle.dict_end();
}

fn pair(pickle: &mut Pickle<'_>, name: &str, number: u64) {
    pickle.text(name);
    pickle.integer(number);
}

/// Text that another module writes.
fn written(pickle: &mut Pickle<'_>, write: impl FnOnce(&mut Vec<u8>)) {
    let mut text = Vec::new();
    write(&mut text);
    pickle.text(&String::from_utf8_lossy(&text));
}
