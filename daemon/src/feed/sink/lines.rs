//! Lines out, and lines back that acknowledge: what programs (`command`) and sockets (`socket`) have in common.
//!
//! Out goes one event a line. Back comes, where the peer acknowledges, `NUMBER` (everything up to it is done) or
//! `{"refused": NUMBER, "reason": "…"}` (this one is not wanted; everything before it is done, and the peer goes on with
//! what it has been sent). Reading and writing happen at the same time, so that a peer that answers early never waits for
//! a peer that writes on.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use engine::feed::event::{Event, Op};
use engine::feed::json;
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::{Batch, Delivered, SinkError};

/// A line back is no longer than this.
const LINE_BYTES_MAX: usize = 64 << 10;

/// What is known of one peer's progress.
pub(super) struct Dialogue {
    feed: Arc<str>,
    /// What the peer is called in messages.
    peer: String,
    written: u64,
    done: u64,
    refused: u64,
    /// The refused event that was sent once more and is not answered yet; 0 is none.
    again: u64,
    /// What was refused meanwhile, in order; at most a batch.
    later: VecDeque<(u64, String)>,
    unread: Vec<u8>,
}

#[derive(Deserialize)]
struct Refused {
    refused: u64,
    #[serde(default)]
    reason: String,
}

#[derive(Debug, PartialEq)]
enum Answer {
    Done(u64),
    Refused(u64, String),
}

impl Dialogue {
    pub(super) fn new(feed: &Arc<str>, peer: String) -> Dialogue {
        Dialogue {
            feed: feed.clone(),
            peer,
            written: 0,
            done: 0,
            refused: 0,
            again: 0,
            later: VecDeque::new(),
            unread: Vec::new(),
        }
    }

    /// Writes what of the batch has not been written, and reads until all of it is done. `read`: none where the peer does
    /// not acknowledge; then what is written is done.
    pub(super) async fn deliver(
        &mut self,
        batch: &Batch<'_>,
        mut read: Option<&mut (impl AsyncRead + Unpin)>,
        write: &mut (impl AsyncWrite + Unpin),
    ) -> Result<Delivered, SinkError> {
        let (_, last) = batch.range();
        let mut text = Vec::new();
        for event in batch.events.iter().filter(|event| {
            // A sign of life bears the number of the event before it.
            event.seq > self.written || event.seq == self.refused || event.op == Op::Heartbeat
        }) {
            json::write_line(&mut text, &self.feed, event);
        }
        let resent = |event: &&Event<'_>| event.seq == self.refused && event.op != Op::Heartbeat;
        self.again = batch.events.iter().find(resent).map_or(0, |event| event.seq);
        self.refused = 0;
        self.written = self.written.max(last);
        let mut out = text.as_slice();
        let mut flushed = out.is_empty();
        let mut input = Vec::with_capacity(4096);
        loop {
            if let Some(answer) = self.settle(batch, flushed)? {
                return Ok(answer);
            }
            if flushed && read.is_none() {
                self.done = last;
                continue;
            }
            let step = tokio::select! {
                wrote = push(write, &mut out, &mut flushed) => wrote,
                got = more(&mut read, &mut input) => got,
            };
            if let Err(error) = step {
                return Err(SinkError::retry(format!("{}: {error}", self.peer)).after(self.progress(batch)));
            }
            self.unread.append(&mut input);
        }
    }

    /// What the lines that have come say about the batch; none: read on.
    /// `written`: the peer has been sent all of it.
    fn settle(&mut self, batch: &Batch<'_>, written: bool) -> Result<Option<Delivered>, SinkError> {
        let (_, last) = batch.range();
        loop {
            if self.again == 0
                && let Some((seq, reason)) = self.later.pop_front()
            {
                if batch.events.iter().any(|event| event.seq == seq) {
                    return Err(self.refuses(batch, seq, &reason));
                }
                continue;
            }
            if written && self.done >= last && self.again == 0 {
                return Ok(Some(Delivered { upto: last }));
            }
            let Some(end) = self.unread.iter().position(|byte| *byte == b'\n') else {
                break;
            };
            let line: Vec<u8> = self.unread.drain(..=end).collect();
            match answer(&line) {
                None => {}
                Some(Ok(Answer::Done(seq))) if seq <= self.written => {
                    // What was sent behind the refused event was answered before that event is a second time.
                    if seq == self.again || self.done >= self.written {
                        self.again = 0;
                    }
                    self.done = self.done.max(seq);
                }
                Some(Ok(Answer::Refused(seq, reason))) if batch.events.iter().any(|event| event.seq == seq) => {
                    if self.again != 0 && seq != self.again {
                        self.later.push_back((seq, reason));
                        continue;
                    }
                    return Err(self.refuses(batch, seq, &reason));
                }
                Some(Ok(Answer::Done(seq) | Answer::Refused(seq, _))) => {
                    let text = format!("{} speaks of event {seq}, which it has not been sent", self.peer);
                    return Err(SinkError::retry(text).after(self.progress(batch)));
                }
                Some(Err(())) => {
                    let shown: String = String::from_utf8_lossy(&line).trim_end().chars().take(80).collect();
                    let text = format!("{} answers \"{shown}\", which is no acknowledgement", self.peer);
                    return Err(SinkError::retry(text).after(self.progress(batch)));
                }
            }
        }
        if self.unread.len() > LINE_BYTES_MAX {
            let text = format!("{} answers with a line of more than {LINE_BYTES_MAX} bytes", self.peer);
            return Err(SinkError::retry(text).after(self.progress(batch)));
        }
        Ok(None)
    }

    /// One event is refused; what is before it in the batch is done.
    fn refuses(&mut self, batch: &Batch<'_>, seq: u64, reason: &str) -> SinkError {
        let numbers = batch.events.iter().map(|event| event.seq);
        let before = numbers.take_while(|before| *before < seq).last();
        (self.refused, self.again, self.done) = (seq, 0, self.done.max(seq));
        let text = format!("{} refused event {seq}: {reason}", self.peer);
        SinkError::refused(seq, text).after(before)
    }

    /// How far into the batch the peer has acknowledged.
    pub(super) fn progress(&self, batch: &Batch<'_>) -> Option<u64> {
        let (first, last) = batch.range();
        (self.done >= first).then_some(self.done.min(last))
    }
}

/// One step of writing and then flushing; nothing, for ever, when there is nothing left. Cancelled, it has done nothing.
async fn push(write: &mut (impl AsyncWrite + Unpin), out: &mut &[u8], flushed: &mut bool) -> io::Result<()> {
    if out.is_empty() && *flushed {
        return std::future::pending().await;
    }
    if out.is_empty() {
        write.flush().await?;
        *flushed = true;
        return Ok(());
    }
    match write.write(out).await? {
        0 => Err(io::ErrorKind::WriteZero.into()),
        written => {
            *out = out.get(written..).unwrap_or_default();
            Ok(())
        }
    }
}

/// The next bytes of a peer that acknowledges; of one that does not, nothing, for ever.
async fn more(read: &mut Option<&mut (impl AsyncRead + Unpin)>, input: &mut Vec<u8>) -> io::Result<()> {
    match read {
        None => std::future::pending().await,
        Some(read) => match read.read_buf(input).await? {
            0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it has ended")),
            _ => Ok(()),
        },
    }
}

/// One line: none where it is empty.
fn answer(line: &[u8]) -> Option<Result<Answer, ()>> {
    let text = line.trim_ascii();
    if text.is_empty() {
        return None;
    }
    if text.starts_with(b"{") {
        let found = serde_json::from_slice(text).map(|found: Refused| Answer::Refused(found.refused, found.reason));
        return Some(found.map_err(|_| ()));
    }
    let number = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
    Some(number.map(Answer::Done).ok_or(()))
}

#[cfg(test)]
mod tests {
    use super::{Answer, answer};

    #[test]
    fn lines_that_acknowledge() {
        assert_eq!(answer(b"\r\n"), None);
        assert_eq!(answer(b"42\n"), Some(Ok(Answer::Done(42))));
        let refused = answer(b"{\"refused\": 7, \"reason\": \"no such group\"}\n");
        assert_eq!(refused, Some(Ok(Answer::Refused(7, "no such group".into()))));
        assert_eq!(answer(b"{\"refused\":7}"), Some(Ok(Answer::Refused(7, String::new()))));
        for wrong in ["ok", "-1", "{}", "{\"refused\":\"7\"}", "99999999999999999999"] {
            assert_eq!(answer(wrong.as_bytes()), Some(Err(())), "{wrong}");
        }
    }
}
