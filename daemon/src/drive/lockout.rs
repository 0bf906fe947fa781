//! Binds under lockout: let in, held back while others are decided, or refused before a server is asked.

use std::net::SocketAddr;
use std::sync::Arc;

use engine::core::lockout::{Answer, Key, Outcome};
use engine::core::time::{Instant, Span};
use wire::ldap::envelope::Envelope;
use wire::ldap::grammar::{self, Auth};
use wire::ldap::result::code;

use super::conn::{ConnRef, Kind};
use super::{Drive, Job};
use crate::lockouts::{Lockout, Waiter};

/// A client's bind under lockout.
#[derive(Debug)]
pub struct Bid {
    lockout: Arc<Lockout>,
    keys: Vec<Key>,
    state: State,
    /// A bid that waits is given up then.
    until: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Its frame is held back.
    Waiting,
    /// It may try again.
    Woken,
    /// It is at the servers, or on its way.
    Reserved,
}

impl Bid {
    /// When it is given up, if it waits.
    pub fn due(&self) -> Option<Instant> {
        (self.state != State::Reserved).then_some(self.until)
    }
}

/// What becomes of a bind.
pub(super) enum Judged {
    /// It goes on.
    Go,
    /// It is held back and given again later.
    Hold,
    /// It is answered with this.
    Refused(u32, &'static str),
}

impl Drive {
    /// Whether a bind may go on. `patience`: for how long it is held back at most.
    pub(super) fn judge_bind(
        &mut self,
        at: usize,
        lockout: &Arc<Lockout>,
        env: &Envelope<'_>,
        patience: Span,
    ) -> Judged {
        let now = self.now;
        // A bind that ended without a word is none any more: while one is under way no other is looked at.
        if self.may_bind(at) {
            self.bid_ended(at, None);
        } else {
            return Judged::Go;
        }
        let Some(conn) = self.conns.get_mut(at) else {
            return Judged::Go;
        };
        let (peer, generation) = (conn.peer, conn.generation);
        let Kind::Ldap(client) = &mut conn.kind else {
            return Judged::Go;
        };
        let who = Waiter {
            worker: self.number,
            conn: ConnRef {
                at: u32::try_from(at).unwrap_or(u32::MAX),
                generation,
            },
        };
        let mut woken = Vec::new();
        let mut bid = match client.bid.take() {
            Some(bid) if bid.state == State::Waiting && now < bid.until => {
                client.bid = Some(bid);
                return Judged::Hold;
            }
            Some(bid) if now >= bid.until => {
                bid.lockout.leave(&bid.keys, who, now, &mut woken);
                self.wake_bids(&woken);
                return Judged::Refused(code::BUSY, "other binds of this name are not decided yet");
            }
            Some(bid) => bid,
            None => match begin(lockout, env, peer, now + patience) {
                Some(bid) => bid,
                None => return Judged::Go,
            },
        };
        let again = bid.state == State::Woken;
        let answer = bid.lockout.attempt(&bid.keys, who, again, now, &mut woken);
        let judged = match answer {
            Answer::Go => {
                bid.state = State::Reserved;
                client.bid = Some(bid);
                Judged::Go
            }
            Answer::Wait => {
                bid.state = State::Waiting;
                client.bid = Some(bid);
                self.arm_client(at);
                Judged::Hold
            }
            // The same words as a server's: nobody is told that there is a lock.
            Answer::Locked(_) => Judged::Refused(code::INVALID_CREDENTIALS, ""),
            Answer::Full => Judged::Refused(code::BUSY, "too many names are locked out"),
        };
        self.wake_bids(&woken);
        judged
    }

    fn may_bind(&self, at: usize) -> bool {
        let kind = self.conns.get(at).map(|conn| &conn.kind);
        matches!(kind, Some(Kind::Ldap(client)) if client.session.may_bind())
    }

    /// A client's bind has been answered with this code, or has ended without an answer.
    pub(super) fn bid_ended(&mut self, at: usize, answer: Option<u32>) {
        let now = self.now;
        let Some(client) = self.conns.get_mut(at).and_then(|conn| conn.ldap()) else {
            return;
        };
        let Some(bid) = client.bid.take() else { return };
        if bid.state != State::Reserved {
            // It is one that comes behind.
            client.bid = Some(bid);
            return;
        }
        let outcome = match answer {
            Some(code::SUCCESS) => Outcome::Right,
            Some(code::INVALID_CREDENTIALS) => Outcome::Wrong,
            _ => Outcome::Unknown,
        };
        let mut woken = Vec::new();
        bid.lockout.settle(&bid.keys, outcome, now, &mut woken);
        self.wake_bids(&woken);
    }

    /// A client has gone, with its bid.
    pub(super) fn bid_gone(&mut self, at: usize, generation: u32, bid: &Bid) {
        let now = self.now;
        let mut woken = Vec::new();
        if bid.state == State::Reserved {
            bid.lockout.settle(&bid.keys, Outcome::Unknown, now, &mut woken);
        } else {
            let conn = ConnRef {
                at: u32::try_from(at).unwrap_or(u32::MAX),
                generation,
            };
            let who = Waiter {
                worker: self.number,
                conn,
            };
            bid.lockout.leave(&bid.keys, who, now, &mut woken);
        }
        self.wake_bids(&woken);
    }

    /// A bind that was held back may try again.
    pub(super) fn bid_woken(&mut self, who: ConnRef) {
        let Some(client) = self.conn(who).and_then(|conn| conn.ldap()) else {
            return;
        };
        let Some(bid) = &mut client.bid else { return };
        if bid.state == State::Waiting {
            bid.state = State::Woken;
            self.resume(who.at as usize);
        }
    }

    /// A bind has been held back for as long as it may be.
    pub(super) fn bid_late(&mut self, at: usize) {
        self.resume(at);
    }

    fn wake_bids(&self, woken: &[Waiter]) {
        for who in woken {
            if let Some(inbox) = self.shared.inbox(who.worker) {
                inbox.push_always(Job::BidWoken(who.conn));
            }
        }
    }
}

/// A bind comes. None: nothing is tried by it, as by an anonymous one, or one that is refused anyway.
fn begin(lockout: &Arc<Lockout>, env: &Envelope<'_>, peer: Option<SocketAddr>, until: Instant) -> Option<Box<Bid>> {
    let bind = grammar::bind(env.op).ok()?;
    let keys = match bind.auth {
        Auth::Simple(password) if !password.is_empty() => lockout.keys(Some(bind.name), peer),
        Auth::Sasl { .. } => lockout.keys(None, peer),
        Auth::Simple(_) | Auth::Other(_) => return None,
    };
    (!keys.is_empty()).then(|| {
        Box::new(Bid {
            lockout: Arc::clone(lockout),
            keys,
            state: State::Waiting,
            until,
        })
    })
}
