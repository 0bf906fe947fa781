//! Clients of LDAP listeners: read, submitted, written, closed.

use engine::core::UpstreamId;
use wire::frame::Step;
use wire::ldap::envelope;
use wire::wipe;
use zeroize::Zeroize;

use super::Drive;
use super::ahead::{Brought, READ_BYTES_MAX};
use super::conn::{Conn, ConnRef, Kind};
use super::pools::PoolState;
use crate::net::stream::{Flushed, Got};

/// Buffers of partial messages larger than this are given back once empty.
const INBOX_BYTES_KEPT: usize = 4096;

/// What becomes of the bytes behind a message.
#[derive(PartialEq, Eq)]
pub(super) enum Flow {
    Go,
    /// The message was not taken; it is given again later.
    Held,
    /// Nothing more is read.
    Stop,
}

impl Drive {
    pub(super) fn conn(&mut self, conn: ConnRef) -> Option<&mut Conn> {
        self.conns
            .get_mut(conn.at as usize)
            .filter(|found| found.generation == conn.generation)
    }

    /// A connection may have something to read, or something that was held back. `brought`: what was read already.
    pub(super) fn readable(&mut self, at: usize, brought: Option<Brought<'_>>) {
        let Some(conn) = self.conns.get_mut(at) else { return };
        if conn.lingering {
            return self.drain_lingering(at);
        }
        if conn.closing && conn.stream.is_handshaking() {
            // Its last words wait for the handshake; a client that has left meanwhile is not waited for.
            self.drain_lingering(at);
            return self.mark_dirty(at);
        }
        if conn.preface.is_some() {
            return self.preface_readable(at);
        }
        match conn.kind {
            Kind::Upstream(_) if conn.is_connecting() => self.connected(at),
            Kind::Upstream(_) => self.upstream_readable(at, brought),
            Kind::Check(_) => self.check_readable(at),
            Kind::Ldap(_) => self.ldap_readable(at, brought),
            Kind::Rpc(_) => self.rpc_readable(at),
            Kind::Ask(_) => self.ask_readable(at),
        }
    }

    /// A connection can be written again.
    pub(super) fn writable(&mut self, at: usize) {
        let Some(conn) = self.conns.get_mut(at) else { return };
        if conn.is_connecting() {
            return self.connected(at);
        }
        self.mark_dirty(at);
    }

    /// One read: into `scratch` when nothing is held, else behind what is held. How many bytes came, and what was held;
    /// none: the other side has closed and nothing is held.
    pub(super) fn fill(&mut self, at: usize, scratch: &mut [u8]) -> Option<(usize, Vec<u8>)> {
        let conn = self.conns.get_mut(at)?;
        if !conn.readable {
            return Some((0, std::mem::take(&mut conn.inbox)));
        }
        let got = conn.stream.read(scratch);
        self.got(at, got, scratch)
    }

    /// What becomes of a read; see `fill`.
    fn got(&mut self, at: usize, got: Got, bytes: &[u8]) -> Option<(usize, Vec<u8>)> {
        let conn = self.conns.get_mut(at)?;
        let mut held = std::mem::take(&mut conn.inbox);
        match got {
            Got::Bytes { n, drained } => {
                conn.readable = !drained;
                conn.says_little = n < READ_BYTES_MAX;
                if held.is_empty() {
                    return Some((n, held));
                }
                held.extend_from_slice(bytes.get(..n).unwrap_or_default());
                Some((0, held))
            }
            Got::Nothing => {
                conn.readable = false;
                Some((0, held))
            }
            Got::End => None,
        }
    }

    /// The same of what was read ahead.
    pub(super) fn fill_with(&mut self, at: usize, brought: &Brought<'_>) -> Option<(usize, Vec<u8>)> {
        self.got(at, brought.got, brought.bytes)
    }

    fn ldap_readable(&mut self, at: usize, brought: Option<Brought<'_>>) {
        let Some(conn) = self.conns.get_mut(at) else { return };
        if conn.closing || conn.choked {
            return self.leave_for_later(at, brought);
        }
        if conn.held {
            self.leave_for_later(at, brought);
            return self.close_if_left(at);
        }
        if let Some(brought) = brought {
            let filled = self.fill_with(at, &brought);
            self.ldap_filled(at, filled, brought.bytes);
            self.secret_read = false;
            return;
        }
        let mut scratch = std::mem::take(&mut self.scratch);
        let handshaking = conn.stream.is_handshaking();
        let filled = self.fill(at, &mut scratch);
        if handshaking && filled.is_some() {
            self.handshaken(at);
        }
        let n = filled.as_ref().map_or(0, |(n, _)| *n);
        self.ldap_filled(at, filled, &scratch);
        self.wipe_secrets(&mut scratch, n);
        self.scratch = scratch;
    }

    fn ldap_filled(&mut self, at: usize, filled: Option<(usize, Vec<u8>)>, bytes: &[u8]) {
        match filled {
            None => self.close(at),
            Some((n, held)) => {
                self.ldap_bytes(at, bytes.get(..n).unwrap_or_default(), held);
                self.close_if_left(at);
            }
        }
    }

    /// A client that is not read and has closed its end wants nothing of what it has under way. The poll says so once, perhaps
    /// before what came along was read; that it is remembered costs no system call and no further wake-up.
    fn close_if_left(&mut self, at: usize) {
        if self
            .conns
            .get(at)
            .is_some_and(|conn| conn.held && conn.hung_up && !conn.closing)
        {
            self.close(at);
        }
    }

    /// A TLS handshake of a client's has moved on.
    pub(super) fn handshaken(&mut self, at: usize) {
        self.mark_dirty(at);
        let Some(conn) = self.conns.get_mut(at) else { return };
        if !conn.stream.is_handshaking() {
            if let Some(client) = conn.ldap() {
                client.session.tls_started();
                self.know_externally(at);
            }
            let Some(conn) = self.conns.get_mut(at) else { return };
            if !matches!(&conn.kind, Kind::Rpc(client) if client.session.is_stranger()) {
                conn.partial_since = None;
            }
        }
    }

    /// `fresh`: just read; `held`: from before, with what was just read behind it. One of them is empty.
    fn ldap_bytes(&mut self, at: usize, fresh: &[u8], mut held: Vec<u8>) {
        let bytes = if held.is_empty() { fresh } else { &held };
        let taken = self.ldap_frames(at, bytes);
        if held.is_empty() {
            held.extend_from_slice(fresh.get(taken..).unwrap_or_default());
        } else {
            held.drain(..taken);
        }
        let Some(conn) = self.conns.get_mut(at) else {
            return held.zeroize();
        };
        if conn.upgrade && !held.is_empty() {
            // What follows StartTLS in clear was not sent by whoever will speak under TLS (CVE-2011-0411, CVE-2021-3935).
            return self.close(at);
        }
        conn.inbox = held;
        if taken > 0 {
            // Whoever finishes messages may begin another.
            conn.partial_since = None;
        }
        self.keep_inbox(at);
    }

    /// After a connection was read: what is held of a message has a deadline, an empty buffer is given back, and what can be
    /// read now is looked at again.
    pub(super) fn keep_inbox(&mut self, at: usize) {
        let now = self.now;
        let Some(conn) = self.conns.get_mut(at) else { return };
        if conn.inbox.is_empty() && conn.inbox.capacity() > INBOX_BYTES_KEPT {
            conn.inbox = Vec::new();
        }
        let amid = matches!(&conn.kind, Kind::Rpc(client) if client.is_amid_large());
        let partial = (amid || !conn.inbox.is_empty()) && !conn.held && !conn.choked && conn.is_client();
        let stranger = matches!(&conn.kind, Kind::Rpc(client) if client.session.is_stranger());
        match (partial || stranger || conn.stream.is_handshaking(), conn.partial_since) {
            (true, None) => {
                conn.partial_since = Some(now);
                self.arm_client(at);
            }
            (false, Some(_)) => {
                conn.partial_since = None;
                self.arm_client(at);
            }
            _ => {}
        }
        let Some(conn) = self.conns.get_mut(at) else { return };
        if conn.readable && !conn.held && !conn.choked && !conn.closing {
            self.look_at_again(at);
        }
    }

    /// Takes whole messages, a bounded number per turn; how many bytes they were.
    fn ldap_frames(&mut self, at: usize, bytes: &[u8]) -> usize {
        let Some((messages_max, bytes_max)) = self.read_bounds(at) else {
            return bytes.len();
        };
        let mut taken = 0;
        for turn in 0.. {
            let Some(rest) = bytes.get(taken..).filter(|rest| !rest.is_empty()) else {
                break;
            };
            if turn == messages_max {
                self.look_at_again(at);
                break;
            }
            match envelope::split(rest, bytes_max) {
                Step::NeedMore { .. } => break,
                Step::Malformed(fault) => {
                    self.ldap_poisoned(at, fault);
                    return bytes.len();
                }
                Step::Frame { len } => {
                    let flow = self.ldap_message(at, rest.get(..len).unwrap_or_default());
                    if flow == Flow::Held {
                        break;
                    }
                    taken += len;
                    if flow == Flow::Stop {
                        break;
                    }
                }
            }
        }
        taken
    }

    fn read_bounds(&mut self, at: usize) -> Option<(usize, usize)> {
        let Kind::Ldap(client) = &self.conns.get(at)?.kind else {
            return None;
        };
        let listener = self.listeners.get(&client.listener)?;
        Some((listener.plan.turn_messages_max, listener.request_bytes_max))
    }

    pub(super) fn ldap_poisoned(&mut self, at: usize, fault: wire::frame::Malformed) {
        let Some(conn) = self.conns.get_mut(at) else { return };
        let Kind::Ldap(client) = &mut conn.kind else { return };
        let index = client.pool;
        client.session.poisoned(fault, conn.stream.outbox(&mut self.spares));
        if let Some(directory) = self.pool(index).and_then(PoolState::directory) {
            directory.counts.malformed += 1;
        }
        self.close_when_written(at);
    }

    /// A password that was read does not stay in the read buffer.
    fn wipe_secrets(&mut self, scratch: &mut [u8], n: usize) {
        if std::mem::take(&mut self.secret_read) {
            wipe::wipe(scratch.get_mut(..n).unwrap_or_default());
        }
    }

    /// Something has ended for this client: what was held back may go on.
    pub(super) fn resume(&mut self, at: usize) {
        let Some(conn) = self.conns.get_mut(at) else { return };
        if conn.held {
            conn.held = false;
            self.look_at_again(at);
        }
    }

    pub(super) fn look_at_again(&mut self, at: usize) {
        if let Some(conn) = self.conns.get_mut(at)
            && !conn.again
        {
            conn.again = true;
            self.again.push(at);
        }
    }

    #[inline]
    pub(super) fn mark_dirty(&mut self, at: usize) {
        if let Some(conn) = self.conns.get_mut(at)
            && !conn.dirty
        {
            conn.dirty = true;
            self.dirty.push(at);
        }
    }

    /// What waits for LDAP servers is written; the others have to wait for the end of the turn.
    pub(super) fn flush_servers(&mut self) {
        let mut dirty = std::mem::take(&mut self.dirty);
        dirty.retain(|at| {
            let is_server = self.is_ldap_server(*at);
            if is_server && let Some(conn) = self.conns.get_mut(*at) {
                conn.dirty = false;
                self.contained(Some(*at), |drive| drive.flush(*at));
            }
            !is_server
        });
        dirty.append(&mut self.dirty);
        self.dirty = dirty;
    }

    /// The end of a turn: one write for each connection that has something to say.
    pub(super) fn flush_dirty(&mut self) {
        // What a flush leads to (a lost upstream, its retried requests) is flushed in the same turn.
        let mut rounds = 0;
        while !self.dirty.is_empty() && rounds < 64 {
            rounds += 1;
            let mut dirty = std::mem::take(&mut self.dirty);
            for at in dirty.drain(..) {
                if let Some(conn) = self.conns.get_mut(at) {
                    conn.dirty = false;
                    self.contained(Some(at), |drive| drive.flush(at));
                }
            }
            if self.dirty.is_empty() {
                self.dirty = dirty;
            }
        }
    }

    fn flush(&mut self, at: usize) {
        let now = self.now;
        let Some(conn) = self.conns.get_mut(at) else { return };
        if conn.is_connecting() || (conn.blocked && !conn.stream.is_handshaking()) {
            return;
        }
        let before = conn.stream.waiting();
        let flushed = conn.stream.flush(&mut self.spares, self.poll.registry());
        let after = conn.stream.waiting();
        match flushed {
            Flushed::All => {
                conn.stalled_since = None;
                if conn.upgrade {
                    return self.begin_tls(at);
                }
                if conn.closing {
                    return self.linger(at);
                }
                self.unchoke(at);
                self.rpc_has_read(at);
            }
            Flushed::Blocked => {
                conn.blocked = !conn.stream.is_handshaking();
                if after < before || conn.stalled_since.is_none() {
                    conn.stalled_since = Some(now);
                }
                self.arm_client(at);
                self.unchoke(at);
            }
            Flushed::Broken => self.broken(at),
        }
    }

    fn broken(&mut self, at: usize) {
        match self.conns.get(at).map(|conn| &conn.kind) {
            Some(Kind::Upstream(_)) => self.upstream_lost(at, "the connection broke"),
            Some(Kind::Check(_)) => self.check_ends(at, Err("the connection broke".into())),
            Some(_) => self.close(at),
            None => {}
        }
    }

    fn begin_tls(&mut self, at: usize) {
        let Some(conn) = self.conns.get_mut(at) else { return };
        conn.upgrade = false;
        let listener = conn.ldap().map(|client| client.listener);
        let config = listener
            .and_then(|listener| self.listeners.get(&listener))
            .and_then(|listener| listener.tls.clone());
        match config.map(|config| conn.stream.accept_tls(config)) {
            Some(Ok(())) => {
                self.keep_inbox(at);
                self.look_at_again(at);
            }
            _ => self.close(at),
        }
    }

    /// Writes what waits, then closes.
    pub(super) fn close_when_written(&mut self, at: usize) {
        let Some(conn) = self.conns.get_mut(at) else { return };
        conn.closing = true;
        conn.inbox.zeroize();
        self.mark_dirty(at);
        self.end_turn(at);
        self.abandon_all(at, None);
    }

    /// Everything is written. Closing now could destroy it on its way (unread bytes make a reset), so what still comes is
    /// read and thrown away for a moment.
    fn linger(&mut self, at: usize) {
        let Some(conn) = self.conns.get_mut(at) else { return };
        conn.stream.shutdown();
        conn.lingering = true;
        self.arm(at, super::timers::LINGER);
        self.drain_lingering(at);
    }

    fn drain_lingering(&mut self, at: usize) {
        for _ in 0..16 {
            let Some(conn) = self.conns.get_mut(at) else { return };
            match conn.stream.read(&mut self.scratch) {
                Got::Bytes { drained, .. } if !drained => {}
                Got::End => return self.close(at),
                _ => return,
            }
        }
    }

    /// Cancels everything a client has, and releases the upstream that is or was its own.
    pub(super) fn abandon_all(&mut self, at: usize, own: Option<UpstreamId>) {
        let now = self.now;
        self.give_up_name(at);
        let Some(conn) = self.conns.get_mut(at) else { return };
        let Kind::Ldap(client) = &mut conn.kind else { return };
        let (index, pin) = (client.pool, own.or(client.session.pin()));
        client.session.forget_others(-1, &mut self.tickets);
        let held = client.session.drop_hold();
        let Some(Some(state)) = self.pools.get_mut(index) else {
            return self.tickets.clear();
        };
        for ticket in self.tickets.drain(..) {
            state.pool.cancel(ticket, now, &mut state.effects);
        }
        if let Some(pin) = pin {
            state.pool.release(pin, now, &mut state.effects);
        }
        if let Some(held) = held {
            state.pool.release(held, now, &mut state.effects);
        }
        self.carry_out(index, None);
    }

    /// The client is gone.
    pub(super) fn close(&mut self, at: usize) {
        let Some(conn) = self.conns.get(at) else {
            self.program_panicked(at);
            return self.helper_panicked(at);
        };
        match conn.kind {
            Kind::Upstream(_) => return self.upstream_lost(at, "closed"),
            Kind::Check(_) => return self.check_ends(at, Err("closed".into())),
            Kind::Ldap(_) => self.abandon_all(at, None),
            Kind::Rpc(_) => self.rpc_gone(at),
            Kind::Ask(_) => self.ask_gone(at),
        }
        self.remove(at);
    }

    /// Takes a connection out of the worker; the socket is closed.
    pub(super) fn remove(&mut self, at: usize) {
        let Some(mut conn) = self.conns.remove(at) else { return };
        if let Some((timer, _)) = conn.timer {
            self.wheel.cancel(timer);
        }
        conn.inbox.zeroize();
        if let Some(timer) = conn.ldap().and_then(|client| client.limited.take()?.leave_for_good()) {
            self.turns.cancel(timer);
        }
        if let Some(bid) = conn.ldap().and_then(|client| client.bid.take()) {
            self.bid_gone(at, conn.generation, &bid);
        }
        if conn.is_client() {
            self.shared.client_gone(self.number);
            self.shared
                .waiting_bytes
                .fetch_sub(conn.accounted, std::sync::atomic::Ordering::Relaxed);
            if let Some(choking) = conn.choking() {
                self.release_choked(choking);
            }
        }
        conn.stream.deregister(self.poll.registry());
    }

    /// The upstream that belonged to one client alone is gone.
    pub(super) fn pin_lost(&mut self, index: usize, id: UpstreamId) {
        let owner = self.conns.iter().find_map(|(at, conn)| match &conn.kind {
            Kind::Ldap(client) if client.pool == index && client.session.pin() == Some(id) => Some(at),
            _ => None,
        });
        if let Some(at) = owner
            && let Some(conn) = self.conns.get_mut(at)
            && let Kind::Ldap(client) = &mut conn.kind
        {
            let next = client.session.pin_lost(conn.stream.outbox(&mut self.spares));
            self.after(at, next);
        }
    }
}
