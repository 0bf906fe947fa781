//! What one connection does: become ready, ask, take answers, and ask again.
//!
//! A connection goes Closed -> Connecting -> (StartTls ->) (Binding ->) Ready; in mode connect the answer to its bind
//! is the end of an operation and it goes back to Closed. A mixed load binds again now and then: since nothing may be
//! pending then (RFC 4511 section 4.2.1), the connection first takes no more operations, then goes Ready -> Rebinding
//! -> Ready.

use std::io::{self, ErrorKind};

use wire::frame::Step;
use wire::ldap::envelope::{self, Envelope};
use wire::ldap::{message, result};

use super::ledger::{Asked, Fault, Kind, Verdict};
use super::load::{Load, Stage};
use super::plan::{Mix, Mode};
use super::shared::Phase;
use super::template::Digits;

/// No server answers a search for one entry with a larger message.
const FRAME_BYTES_MAX: usize = 16 << 20;
/// Ids of requests that are not answered, beyond those of the ledger.
const ABANDON_ID: i32 = i32::MAX - 1;
const UNBIND_ID: i32 = i32::MAX;

impl Load<'_> {
    /// Sends one operation on a connection that can take one; false when no further one can follow now. It is written
    /// out by the next flush.
    pub(super) fn issue(&mut self, at: usize, start_ns: u64) -> bool {
        match self.plan.mode {
            Mode::Search => self.ask(at, Kind::Search, start_ns).is_some(),
            Mode::Bind => self.ask(at, Kind::Bind, start_ns).is_some(),
            Mode::Mixed(mix) => self.issue_mixed(at, mix, start_ns),
            Mode::Connect => {
                self.open(at, start_ns);
                false
            }
            Mode::Idle => false,
        }
    }

    /// The connection is made: says what has to be said before operations.
    pub(super) fn connected(&mut self, at: usize) {
        let Some(connection) = self.connections.get_mut(at) else {
            return;
        };
        if self.plan.starttls {
            connection.stage = Stage::StartTls;
            let start_ns = connection.start_ns;
            self.ask(at, Kind::StartTls, start_ns);
        } else {
            if let (Some(tls), Some(stream)) = (&self.plan.tls, &mut connection.stream)
                && let Err(error) = stream.start_tls(tls)
            {
                return self.lose(at, &error);
            }
            self.introduce(at);
        }
        self.flush(at);
    }

    /// Takes what arrived: whole messages at once, the beginning of another into its connection's keeping. False when
    /// the connection was closed over it.
    ///
    /// # Errors
    /// The bytes are no LDAP messages.
    pub(super) fn take(&mut self, at: usize, bytes: &[u8], now: u64) -> io::Result<bool> {
        let Some(connection) = self.connections.get_mut(at) else {
            return Ok(false);
        };
        let mut partial = std::mem::take(&mut connection.partial);
        if partial.is_empty() {
            let Some(used) = self.take_messages(at, bytes, now)? else {
                return Ok(false);
            };
            partial.extend_from_slice(bytes.get(used..).unwrap_or_default());
        } else {
            partial.extend_from_slice(bytes);
            let Some(used) = self.take_messages(at, &partial, now)? else {
                return Ok(false);
            };
            partial.drain(..used);
        }
        if let Some(connection) = self.connections.get_mut(at) {
            connection.partial = partial;
        }
        Ok(true)
    }

    /// Unbinds, if there is someone to say it to; to be written out by closing.
    pub(super) fn farewell(&mut self, at: usize) {
        let Some(connection) = self.connections.get_mut(at) else {
            return;
        };
        if !matches!(connection.stage, Stage::Closed | Stage::Connecting | Stage::StartTls) {
            message::write_unbind(&mut connection.out, UNBIND_ID);
            self.flush(at);
        }
    }

    /// Binds before operations, if the plan has it so.
    fn introduce(&mut self, at: usize) {
        let now = self.now_ns();
        let Some(connection) = self.connections.get_mut(at) else {
            return;
        };
        if self.plan.binds || self.plan.mode == Mode::Connect {
            connection.stage = Stage::Binding;
            let start_ns = connection.start_ns;
            self.ask(at, Kind::Bind, start_ns);
        } else {
            self.made_ready(at, now);
        }
    }

    fn issue_mixed(&mut self, at: usize, mix: Mix, start_ns: u64) -> bool {
        self.abandon_now(at);
        let Some(connection) = self.connections.get_mut(at) else {
            return false;
        };
        let mut draw = self.random.below(100);
        let mut falls = |share: u32| {
            let hit = draw < share;
            draw = draw.wrapping_sub(share);
            hit
        };
        if falls(mix.bind) {
            connection.wants_bind = Some(start_ns);
            self.bind_if_idle(at);
            return false;
        }
        if falls(mix.compare) {
            let holds = self.random.below(2) == 0;
            return self.ask(at, Kind::Compare { holds }, start_ns).is_some();
        }
        if falls(mix.whoami) && connection.bound_as.is_some() {
            return self.ask(at, Kind::WhoAmI, start_ns).is_some();
        }
        let abandon = falls(mix.abandon);
        let Some(id) = self.ask(at, Kind::Search, start_ns) else {
            return false;
        };
        if abandon {
            if let Some(connection) = self.connections.get_mut(at) {
                connection.abandon_later = Some(id);
            }
            // Half of them at once, in the same write; half after other operations have gone by.
            if self.random.below(2) == 0 {
                self.abandon_now(at);
            }
        }
        true
    }

    /// Abandons what was marked for it; also when it has been answered meanwhile, which must be harmless.
    fn abandon_now(&mut self, at: usize) {
        let Some(connection) = self.connections.get_mut(at) else {
            return;
        };
        let Some(id) = connection.abandon_later.take() else {
            return;
        };
        if connection.ledger.abandon(id) {
            self.tally.abandoned += 1;
        }
        message::write_abandon(&mut connection.out, ABANDON_ID, id);
    }

    /// Sends the bind that a connection has waited for, once nothing is pending on it.
    fn bind_if_idle(&mut self, at: usize) {
        let Some(connection) = self.connections.get_mut(at) else {
            return;
        };
        if connection.ledger.pending() > 0 {
            return;
        }
        if let Some(start_ns) = connection.wants_bind.take() {
            connection.stage = Stage::Rebinding;
            self.ask(at, Kind::Bind, start_ns);
            self.flush(at);
        }
    }

    /// Encodes one request into the connection's buffer; gives its id.
    fn ask(&mut self, at: usize, kind: Kind, start_ns: u64) -> Option<i32> {
        let (first, last) = self.plan.range;
        let drawn = first + self.random.below(last - first + 1);
        let connection = self.connections.get_mut(at)?;
        let n = if kind == Kind::WhoAmI {
            connection.bound_as?
        } else {
            drawn
        };
        let stencil = self.plan.requests.of(kind)?;
        let id = connection.ledger.open(Asked { kind, n, start_ns })?;
        let digits = Digits::of(n);
        let op = stencil.op(&digits);
        envelope::write(&mut connection.out, id, op, &[], &[]);
        let start = connection.out.len().checked_sub(op.len())?;
        stencil.fill(&digits, connection.out.get_mut(start..)?);
        Some(id)
    }

    /// Takes each whole message in `bytes`; gives how many bytes they were, or none if the connection was closed.
    fn take_messages(&mut self, at: usize, bytes: &[u8], now: u64) -> io::Result<Option<usize>> {
        let mut used = 0;
        loop {
            let rest = bytes.get(used..).unwrap_or_default();
            let len = match envelope::split(rest, FRAME_BYTES_MAX) {
                Step::NeedMore { .. } => return Ok(Some(used)),
                Step::Malformed(malformed) => return Err(malformed_error(&malformed)),
                Step::Frame { len } => len,
            };
            let (frame, behind) = rest.split_at_checked(len).unwrap_or((rest, &[]));
            let message = envelope::peek(frame).map_err(|malformed| malformed_error(&malformed))?;
            if !self.take_message(at, &message, behind, now)? {
                return Ok(None);
            }
            used += len;
        }
    }

    fn take_message(&mut self, at: usize, message: &Envelope<'_>, behind: &[u8], now: u64) -> io::Result<bool> {
        let Some(connection) = self.connections.get_mut(at) else {
            return Ok(false);
        };
        match connection.ledger.receive(message, &self.plan.truth) {
            Verdict::Part => {}
            Verdict::AfterAbandon => self.tally.after_abandon += 1,
            Verdict::Notice { code } => *self.tally.notices.entry(code).or_default() += 1,
            Verdict::Faulty(fault) => {
                self.tally.fault(fault);
                self.failed += 1;
            }
            Verdict::Final {
                asked,
                code,
                fulfilled,
                entry_missing,
                misdelivered,
            } => {
                if misdelivered {
                    self.tally.fault(Fault::Misdelivered);
                }
                let good = fulfilled && !misdelivered && !entry_missing;
                match (connection.stage, self.plan.mode) {
                    (Stage::StartTls, _) => return self.secured(at, good, code, behind),
                    (Stage::Binding, Mode::Connect) => {
                        let start_ns = connection.start_ns;
                        self.account(&Asked { start_ns, ..asked }, code, good, entry_missing, now);
                        self.farewell(at);
                        if let Some(connection) = self.connections.get_mut(at) {
                            connection.shut();
                        }
                        self.offer(at, now);
                        return Ok(false);
                    }
                    (Stage::Binding, _) => return Ok(self.introduced(at, asked.n, good, code, now)),
                    (stage, _) => {
                        if stage == Stage::Rebinding {
                            connection.stage = Stage::Ready;
                            // A bind that failed leaves the connection anonymous (RFC 4511 section 4.2.1).
                            connection.bound_as = good.then_some(asked.n);
                        }
                        self.account(&asked, code, good, entry_missing, now);
                        self.bind_if_idle(at);
                    }
                }
            }
        }
        Ok(true)
    }

    /// StartTLS was answered (RFC 4511 section 4.14).
    fn secured(&mut self, at: usize, good: bool, code: u32, behind: &[u8]) -> io::Result<bool> {
        if !good {
            let why = format!("{} refuses StartTLS: {} ({code})", self.plan.url, result::name(code));
            self.lose_for(at, "StartTLS refused", why);
            return Ok(false);
        }
        if !behind.is_empty() {
            // Whoever put it there is not the server that TLS is about to prove.
            return Err(io::Error::new(
                ErrorKind::InvalidData,
                "bytes in the clear behind the answer to StartTLS",
            ));
        }
        if let (Some(tls), Some(connection)) = (&self.plan.tls, self.connections.get_mut(at))
            && let Some(stream) = &mut connection.stream
        {
            stream.start_tls(tls)?;
        }
        self.introduce(at);
        self.flush(at);
        Ok(true)
    }

    /// The bind that makes a connection ready was answered; false when the connection is closed over it.
    fn introduced(&mut self, at: usize, n: u32, good: bool, code: u32, now: u64) -> bool {
        if !good {
            let dn = self.plan.bind_dn.render(&n.to_string());
            let why = format!(
                "{} refuses to bind {dn:?}: {} ({code})",
                self.plan.url,
                result::name(code)
            );
            if code == result::code::BUSY {
                self.lose_busy(at, now, why);
            } else {
                self.lose_for(at, "bind refused", why);
            }
            return false;
        }
        if let Some(connection) = self.connections.get_mut(at) {
            connection.bound_as = Some(n);
        }
        self.made_ready(at, now);
        true
    }

    /// Counts one final result.
    fn account(&mut self, asked: &Asked, code: u32, good: bool, entry_missing: bool, now: u64) {
        self.answered += 1;
        self.failed += u64::from(!good);
        if self.phase != Phase::Measure || self.is_quota_spent() {
            return;
        }
        self.tally.latency.record(now.saturating_sub(asked.start_ns));
        *self.tally.codes.entry(code).or_default() += 1;
        self.tally.unfulfilled += u64::from(!good && !entry_missing);
        self.tally.entry_missing += u64::from(entry_missing);
        self.measured();
    }
}

fn malformed_error(malformed: &wire::frame::Malformed) -> io::Error {
    io::Error::new(
        ErrorKind::InvalidData,
        format!("the server sent no LDAP message: {malformed}"),
    )
}
