//! One connection to an LDAP server: how it becomes ready, and what its messages mean.
//!
//! Phases: *connecting* (nothing may be said), *StartTLS* (asked, not answered), *TLS* (the handshake is the socket
//! owner's), *binding* (our own bind, in one step or several), *ready*. On a ready connection of the bind lane one client's bind is in flight at a
//! time; after its success the server is asked Who am I? on the same connection before the client is answered, unless the
//! answer for that name is known.

use std::sync::Arc;

use super::ids::Ids;
use super::sasl::{Account, CHANCE, Exchange, Turn, gssapi};
use crate::core::{Settlement, Ticket, Verdict};
use wire::frame::Malformed;
use wire::ldap::envelope::{self, Envelope, tag};
use wire::ldap::grammar::{self, Auth, Scope};
use wire::ldap::message::{self, SearchSpec, oid};
use wire::ldap::result::{self, code};

/// How TLS comes about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Security {
    /// It does not.
    Plain,
    /// From the first byte.
    Ldaps,
    /// By StartTLS; a refusal is the end.
    StartTlsRequired,
    /// By StartTLS; a refusal is borne.
    StartTlsTried,
}

/// The daemon's own bind.
#[derive(Clone, Copy)]
pub enum Own<'a> {
    /// By name and password.
    Simple {
        /// The name.
        dn: &'a [u8],
        /// The password.
        password: &'a [u8],
    },
    /// By SASL.
    Sasl {
        /// As whom, and how.
        account: &'a Arc<Account>,
        /// Whether a password may be sent as it is though there is no TLS.
        is_safe: bool,
        /// Octets that nobody can foresee, others at each call.
        chance: [u8; CHANCE],
    },
}

/// What the owner of the socket does next while the connection becomes ready.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// Write what is in the outbox and wait for an answer.
    Wait,
    /// Begin the TLS handshake; then `tls_done`.
    Tls,
    /// Ask GSS what `gss_request` gives, elsewhere; then `gss_replied`.
    Gss,
    /// The connection can be used.
    Ready,
    /// It never will; say why.
    Failed(&'static str),
    /// It never will: the server answered this request of ours with this result code.
    Refused(&'static str, u32),
}

/// What a message from the server means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// For this ticket.
    Reply {
        /// Whose.
        ticket: Ticket,
        /// Part or end.
        settlement: Settlement,
    },
    /// A client's SASL bind wants another step: the answer goes to the client, and the connection waits.
    BindStep {
        /// Whose bind.
        ticket: Ticket,
    },
    /// A client's bind succeeded, and the server can be asked who that is, as long as nobody else binds on this connection.
    BindKept {
        /// Whose bind.
        ticket: Ticket,
    },
    /// A client's bind succeeded and the server has been asked who that is; the answer to the bind is to be kept.
    BindHeld {
        /// Whose bind.
        ticket: Ticket,
    },
    /// Who the client is that bound; now the kept answer goes out. `known`: false where the server would not say.
    BindIdentity {
        /// Whose bind.
        ticket: Ticket,
        /// Whether the message's value is an identity.
        known: bool,
    },
    /// A probe was answered.
    Probe,
    /// The server will close the connection (RFC 4511 4.4.1).
    Disconnection,
    /// Nothing for anybody: an answer to what was given up, an unsolicited message of no meaning to us.
    Nothing,
}

/// When a server is asked who a client's bind has made it (Who am I?, RFC 4532).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ask {
    /// Never: that is known, or nobody.
    Never,
    /// As soon as the bind has succeeded, before its answer goes out.
    First,
    /// By [`Connection::ask_whoami`], if at all.
    Later,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Connecting,
    StartTls,
    Tls,
    Binding,
    Ready,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum What {
    Ticket { ticket: Ticket, response: u8 },
    Bind { ticket: Ticket, ask: Ask, steps: bool },
    WhoAmI { ticket: Ticket },
    Probe,
    Own,
}

/// See the module.
#[derive(Debug)]
pub struct Connection {
    phase: Phase,
    security: Security,
    /// TLS is up.
    is_tls: bool,
    /// Our own bind by SASL, while it goes on.
    exchange: Option<Box<Exchange>>,
    /// What GSS is to be asked for it, until it is taken.
    gss: Option<gssapi::Request>,
    ids: Ids<What>,
}

impl Connection {
    /// A connection that is being made.
    pub fn new(security: Security) -> Self {
        Connection {
            phase: Phase::Connecting,
            security,
            is_tls: false,
            exchange: None,
            gss: None,
            ids: Ids::default(),
        }
    }

    /// Whether requests may be sent.
    pub fn is_ready(&self) -> bool {
        self.phase == Phase::Ready
    }

    /// The socket is connected. `bind`: our own bind, where we have one.
    pub fn connected(&mut self, bind: Option<Own<'_>>, out: &mut Vec<u8>) -> Step {
        match self.security {
            Security::Ldaps => {
                self.phase = Phase::Tls;
                Step::Tls
            }
            Security::StartTlsRequired | Security::StartTlsTried => {
                self.phase = Phase::StartTls;
                let id = self.ids.allocate(What::Own);
                message::write_extended_request(out, id, oid::START_TLS, None);
                Step::Wait
            }
            Security::Plain => self.bind(bind, out),
        }
    }

    /// The TLS handshake is done and the server's name verified.
    pub fn tls_done(&mut self, bind: Option<Own<'_>>, out: &mut Vec<u8>) -> Step {
        self.is_tls = true;
        self.bind(bind, out)
    }

    /// A message before the connection is ready.
    pub fn handshake(&mut self, env: &Envelope<'_>, bind: Option<Own<'_>>, out: &mut Vec<u8>) -> Step {
        if env.id == 0 {
            return Step::Failed("the server disconnected");
        }
        if self.ids.remove(env.id).is_none() {
            return Step::Wait;
        }
        let answer = result::result_code(env.op);
        let succeeded = answer == Some(code::SUCCESS);
        let refused = |what| Step::Refused(what, answer.unwrap_or(code::OTHER));
        match (self.phase, env.tag) {
            (Phase::StartTls, tag::EXTENDED_RESPONSE) if succeeded => {
                self.phase = Phase::Tls;
                Step::Tls
            }
            (Phase::StartTls, tag::EXTENDED_RESPONSE) if self.security == Security::StartTlsTried => {
                self.bind(bind, out)
            }
            (Phase::StartTls, tag::EXTENDED_RESPONSE) => refused("StartTLS"),
            (Phase::Binding, tag::BIND_RESPONSE) if self.exchange.is_some() => self.bind_goes_on(env, out),
            (Phase::Binding, tag::BIND_RESPONSE) if succeeded => {
                self.phase = Phase::Ready;
                Step::Ready
            }
            (Phase::Binding, tag::BIND_RESPONSE) => refused("our bind"),
            _ => Step::Failed("the server answered out of turn"),
        }
    }

    /// What GSS is to be asked, after [`Step::Gss`]; once.
    pub fn gss_request(&mut self) -> Option<gssapi::Request> {
        self.gss.take()
    }

    /// GSS has answered.
    pub fn gss_replied(&mut self, reply: gssapi::Reply, out: &mut Vec<u8>) -> Step {
        let Some(exchange) = &mut self.exchange else {
            return Step::Failed("GSS answered what it was not asked");
        };
        let turn = exchange.replied(reply);
        self.turn(turn, out)
    }

    /// Whether bytes behind the last message are an injection: StartTLS was answered and the handshake not begun
    /// (CVE-2011-0411).
    pub fn expects_tls(&self) -> bool {
        self.phase == Phase::Tls
    }

    /// Writes a request under an id of ours, which is handed back. `request_tag` decides what ends it.
    #[inline]
    pub fn send(&mut self, ticket: Ticket, env: &Envelope<'_>, extra: &[u8], out: &mut Vec<u8>) -> i32 {
        let response = envelope::response_tag(env.tag).unwrap_or(tag::EXTENDED_RESPONSE);
        let id = self.ids.allocate(What::Ticket { ticket, response });
        envelope::write(out, id, env.op, env.controls, extra);
        id
    }

    /// Writes a client's bind, or a step of it, with further controls in `extra`.
    pub fn send_bind(&mut self, ticket: Ticket, env: &Envelope<'_>, ask: Ask, extra: &[u8], out: &mut Vec<u8>) -> i32 {
        let steps =
            ask == Ask::First && matches!(grammar::bind(env.op), Ok(bind) if matches!(bind.auth, Auth::Sasl { .. }));
        let id = self.ids.allocate(What::Bind { ticket, ask, steps });
        envelope::write(out, id, env.op, env.controls, extra);
        id
    }

    /// Asks who the client is whose bind was the last one here.
    pub fn ask_whoami(&mut self, ticket: Ticket, out: &mut Vec<u8>) {
        let id = self.ids.allocate(What::WhoAmI { ticket });
        message::write_extended_request(out, id, oid::WHO_AM_I, None);
    }

    /// Whether an id stands for a request of this ticket. One that moved here and ended before it was written has no id here;
    /// the number that it had elsewhere is somebody else's, and not to be abandoned.
    pub fn stands_for(&self, id: i32, ticket: Ticket) -> bool {
        matches!(self.ids.get(id), Some(What::Ticket { ticket: of, .. } | What::Bind { ticket: of, .. }) if of == ticket)
    }

    /// Tells the server that nobody waits for this id any more; of binds it is not told (RFC 4511 4.11).
    pub fn abandon(&mut self, id: i32, out: &mut Vec<u8>) {
        if matches!(self.ids.get(id), Some(What::Ticket { .. })) && self.ids.remove(id).is_some() {
            // An Abandon has no response: its own id stands for nothing.
            let own = self.ids.allocate(What::Own);
            self.ids.remove(own);
            message::write_abandon(out, own, id);
        }
    }

    /// Takes leave.
    pub fn unbind(&mut self, out: &mut Vec<u8>) {
        let id = self.ids.allocate(What::Own);
        message::write_unbind(out, id);
    }

    /// Asks for the root DSE and nothing of it.
    pub fn probe(&mut self, out: &mut Vec<u8>) {
        let id = self.ids.allocate(What::Probe);
        let search = SearchSpec {
            base: b"",
            scope: Scope::Base,
            filter: message::FILTER_ANY_ENTRY,
            attributes: &["1.1"],
            deref: 0,
            size_limit: 0,
            time_limit: 0,
            types_only: false,
        };
        message::write_search(out, id, &search);
    }

    /// A message on a ready connection. What Who am I? asks for is appended to `out`.
    #[inline]
    pub fn receive(&mut self, env: &Envelope<'_>, out: &mut Vec<u8>) -> Result<Event, Malformed> {
        if env.id == 0 {
            let notice = env.tag == tag::EXTENDED_RESPONSE
                && result::read_result(env.op).is_ok_and(|r| result::is_notice_of_disconnection(0, &r));
            return Ok(if notice { Event::Disconnection } else { Event::Nothing });
        }
        let Some(what) = self.ids.get(env.id) else {
            return if envelope::is_request(env.tag) {
                Err(Malformed::BadOperation)
            } else {
                Ok(Event::Nothing)
            };
        };
        match what {
            What::Ticket { ticket, response } => self.reply(env, ticket, response),
            What::Bind { ticket, ask, steps } => self.bind_answered(env, ticket, (ask, steps), out),
            What::WhoAmI { ticket } => {
                if !envelope::is_final_response(env.tag) {
                    return Ok(Event::Nothing);
                }
                self.ids.remove(env.id);
                let known = env.tag == tag::EXTENDED_RESPONSE && result::result_code(env.op) == Some(code::SUCCESS);
                Ok(Event::BindIdentity { ticket, known })
            }
            What::Probe => {
                if !envelope::is_final_response(env.tag) {
                    return Ok(Event::Nothing);
                }
                self.ids.remove(env.id);
                Ok(Event::Probe)
            }
            What::Own => Ok(Event::Nothing),
        }
    }

    #[inline]
    fn reply(&mut self, env: &Envelope<'_>, ticket: Ticket, response: u8) -> Result<Event, Malformed> {
        let settlement = if env.tag == response {
            self.ids.remove(env.id);
            let code = result::result_code(env.op).ok_or(Malformed::BadValue("a result code"))?;
            Settlement::Done(verdict(code))
        } else {
            let part = match env.tag {
                tag::INTERMEDIATE_RESPONSE => true,
                tag::SEARCH_ENTRY | tag::SEARCH_REFERENCE => response == tag::SEARCH_DONE,
                _ => false,
            };
            if !part {
                return Err(Malformed::BadOperation);
            }
            Settlement::Part
        };
        Ok(Event::Reply { ticket, settlement })
    }

    fn bind_answered(
        &mut self,
        env: &Envelope<'_>,
        ticket: Ticket,
        (ask, steps): (Ask, bool),
        out: &mut Vec<u8>,
    ) -> Result<Event, Malformed> {
        if env.tag == tag::INTERMEDIATE_RESPONSE {
            return Ok(Event::Reply {
                ticket,
                settlement: Settlement::Part,
            });
        }
        if env.tag != tag::BIND_RESPONSE {
            return Err(Malformed::BadOperation);
        }
        self.ids.remove(env.id);
        let code = result::result_code(env.op).ok_or(Malformed::BadValue("a result code"))?;
        if steps && code == code::SASL_BIND_IN_PROGRESS {
            return Ok(Event::BindStep { ticket });
        }
        match ask {
            Ask::First if code == code::SUCCESS => {
                self.ask_whoami(ticket, out);
                return Ok(Event::BindHeld { ticket });
            }
            Ask::Later if code == code::SUCCESS => return Ok(Event::BindKept { ticket }),
            _ => {}
        }
        Ok(Event::Reply {
            ticket,
            settlement: Settlement::Done(verdict(code)),
        })
    }

    fn bind(&mut self, bind: Option<Own<'_>>, out: &mut Vec<u8>) -> Step {
        self.phase = Phase::Binding;
        match bind {
            None => {
                self.phase = Phase::Ready;
                Step::Ready
            }
            Some(Own::Simple { dn, password }) => {
                let id = self.ids.allocate(What::Own);
                message::write_simple_bind(out, id, dn, password);
                Step::Wait
            }
            Some(Own::Sasl {
                account,
                is_safe,
                chance,
            }) => {
                let (exchange, turn) = Exchange::begin(account, is_safe || self.is_tls, chance);
                self.exchange = Some(Box::new(exchange));
                self.turn(turn, out)
            }
        }
    }

    /// The server has answered a step of our bind by SASL.
    fn bind_goes_on(&mut self, env: &Envelope<'_>, out: &mut Vec<u8>) -> Step {
        let (Some(exchange), Ok(answer)) = (&mut self.exchange, result::read_result(env.op)) else {
            return Step::Failed("the server's answer to our bind is malformed");
        };
        let turn = exchange.answered(answer.code, answer.server_sasl_creds);
        self.turn(turn, out)
    }

    fn turn(&mut self, turn: Turn, out: &mut Vec<u8>) -> Step {
        match turn {
            Turn::Send { mechanism, credentials } => {
                let id = self.ids.allocate(What::Own);
                message::write_sasl_bind(out, id, b"", mechanism, Some(&credentials));
                Step::Wait
            }
            Turn::Ask(request) => {
                self.gss = Some(request);
                Step::Gss
            }
            Turn::Bound => {
                self.exchange = None;
                self.phase = Phase::Ready;
                Step::Ready
            }
            Turn::Refused(what, code) => Step::Refused(what, code),
            Turn::Failed(why) => Step::Failed(why),
        }
    }
}

fn verdict(code: u32) -> Verdict {
    match code {
        code::BUSY | code::UNAVAILABLE => Verdict::Unwell,
        _ => Verdict::Well,
    }
}

#[cfg(test)]
mod tests;
