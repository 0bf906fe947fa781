//! Requests about the daemon's own figures: left with the thread that answers them (`crate::monitor`), and delivered.

use std::sync::Arc;

use engine::session::ldap::Ended;
use engine::session::ldap::Next;
use wire::frame::Step;
use wire::ldap::envelope::{self, Envelope};
use wire::ldap::result::{self, code};

use super::Drive;
use super::conn::{ConnRef, Kind};
use crate::audit::record::{End, Entry};
use crate::monitor::{Question, refusal};

/// Whose request it was.
#[derive(Debug)]
pub struct Asked {
    conn: ConnRef,
    id: i32,
    tag: u8,
    entry: Option<Box<Entry>>,
}

impl Drive {
    /// A client that may asks about figures.
    pub(super) fn ask_monitor(&mut self, at: usize, frame: &[u8], env: &Envelope<'_>, entry: Option<Box<Entry>>) {
        let Some(conn) = self.conns.get(at) else { return };
        let question = Question {
            asked: Asked {
                conn: ConnRef {
                    at: u32::try_from(at).unwrap_or(u32::MAX),
                    generation: conn.generation,
                },
                id: env.id,
                tag: env.tag,
                entry,
            },
            frame: frame.to_vec(),
            inbox: Arc::clone(&self.inbox),
        };
        if let Err(question) = self.shared.monitor.ask(question) {
            let bytes = refusal(&question.frame, code::BUSY, "too many ask about figures");
            self.monitored(question.asked, &bytes);
        }
    }

    /// What is to be said to it, unless its client has gone, or wants it no more.
    pub(super) fn monitored(&mut self, asked: Asked, bytes: &[u8]) {
        let at = asked.conn.at as usize;
        if self
            .conns
            .get(at)
            .is_none_or(|conn| conn.generation != asked.conn.generation)
        {
            return;
        }
        let room = self.account(at);
        let mut small = Vec::new();
        let Some(conn) = self.conns.get_mut(at) else { return };
        let bytes = if conn.stream.waiting().saturating_add(bytes.len()) > room {
            let why = "answers are read too slowly";
            if let Some(response) = envelope::response_tag(asked.tag) {
                result::write_result(&mut small, asked.id, response, code::ADMIN_LIMIT_EXCEEDED, b"", why);
            }
            &small
        } else {
            bytes
        };
        let Kind::Ldap(client) = &mut conn.kind else { return };
        if client.session.answered(asked.id, asked.tag) == Ended::Drop {
            return self.audit_end(at, asked.entry, End::Canceled);
        }
        conn.stream.outbox(&mut self.spares).extend_from_slice(bytes);
        let next = client.session.after_end(conn.stream.outbox(&mut self.spares));
        self.account(at);
        self.mark_dirty(at);
        if asked.entry.is_some() {
            self.audit_end(at, asked.entry, End::Answered(last_code(bytes)));
        }
        if next != Next::Done {
            self.after(at, next);
        }
        self.resume(at);
    }
}

/// Of the last message.
fn last_code(mut bytes: &[u8]) -> u32 {
    let mut found = code::OTHER;
    while let Step::Frame { len } = envelope::split(bytes, usize::MAX)
        && let Some((frame, rest)) = bytes.split_at_checked(len)
    {
        if let Some(code) = envelope::peek(frame).ok().and_then(|env| result::result_code(env.op)) {
            found = code;
        }
        bytes = rest;
    }
    found
}
