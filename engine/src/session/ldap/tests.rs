//! What a client sees, in sentences. The pool's part is played by the tests: they hand out tickets and say how each ends.

mod assertion;
mod binds;
mod ends;
mod extended;
mod requests;
mod sasl;

use std::collections::HashSet;

use super::*;
use crate::core::Reason;
use crate::core::arena::Handle;
use wire::ber;
use wire::frame::Step;
use wire::ldap::control::{oid as control_oid, write_control};
use wire::ldap::envelope::{self, peek, tag};
use wire::ldap::message::{self, SearchSpec, oid};
use wire::ldap::result::{self, code};

/// What a client read: id, tag, result code where it is a final response.
type Heard = (i32, u8, Option<u32>);

/// A session, its outbox, and what the pool would know.
struct Client {
    session: Session,
    settings: Settings,
    out: Vec<u8>,
    tickets: u64,
    /// Tickets that an upstream has.
    sent: HashSet<Ticket>,
}

impl Client {
    fn new() -> Self {
        Self::with(Settings::default())
    }

    fn with(settings: Settings) -> Self {
        Client {
            session: Session::new(false),
            settings,
            out: Vec::new(),
            tickets: 0,
            sent: HashSet::new(),
        }
    }

    /// A client of a directory whose clients keep connections of their own.
    fn pinned() -> Self {
        Self::with(Settings {
            proxied: false,
            ..Settings::default()
        })
    }

    /// One message, taken as the worker takes it.
    fn says(&mut self, frame: &[u8]) -> Next {
        let env = peek(frame).unwrap();
        let sent = &self.sent;
        let next = self
            .session
            .receive(&env, &self.settings, |ticket| sent.contains(&ticket), &mut self.out);
        if let Next::Submit(submit) = next {
            if submit.bind {
                self.session.forget_others(env.id, &mut Vec::new());
            }
            self.tickets += 1;
            let ticket = Ticket(Handle::from_bits(self.tickets));
            self.session.submitted(env.id, env.tag, ticket);
        }
        next
    }

    /// Everything that was written since.
    fn hears(&mut self) -> Vec<Heard> {
        frames(&std::mem::take(&mut self.out))
    }

    /// The one answer that was written, as its id and code.
    fn answer(&mut self) -> (i32, u32) {
        let heard = self.hears();
        let &[(id, _, Some(code))] = heard.as_slice() else {
            panic!("{heard:?} is not one answer")
        };
        (id, code)
    }

    /// The ticket of the newest request.
    fn ticket(&self) -> Ticket {
        Ticket(Handle::from_bits(self.tickets))
    }

    /// Binds with success, as somebody the server names.
    fn bind_as(&mut self, id: i32, dn: &str, authzid: &str) {
        assert!(matches!(self.says(&bind(id, dn, "secret")), Next::Submit(s) if s.bind));
        assert_eq!(self.session.answered(id, tag::BIND_REQUEST), Ended::Deliver);
        self.session.bound(Bound::As(authzid.as_bytes()));
    }

    /// Binds with success on a connection of its own.
    fn bind_on(&mut self, id: i32, dn: &str, upstream: u64) -> UpstreamId {
        let upstream = UpstreamId(Handle::from_bits(upstream));
        assert!(matches!(self.says(&bind(id, dn, "secret")), Next::Submit(_)));
        self.session.pinned(upstream);
        assert_eq!(self.session.answered(id, tag::BIND_REQUEST), Ended::Deliver);
        self.session.bound(Bound::AsTyped);
        upstream
    }
}

fn frames(mut bytes: &[u8]) -> Vec<Heard> {
    let mut heard = Vec::new();
    while !bytes.is_empty() {
        let Step::Frame { len } = envelope::split(bytes, 1 << 20) else {
            panic!("the outbox holds something else than messages: {bytes:02x?}")
        };
        let env = peek(&bytes[..len]).unwrap();
        let code = envelope::is_final_response(env.tag).then(|| result::read_result(env.op).unwrap().code);
        heard.push((env.id, env.tag, code));
        bytes = &bytes[len..];
    }
    heard
}

fn written(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out);
    out
}

fn bind(id: i32, dn: &str, password: &str) -> Vec<u8> {
    written(|out| message::write_simple_bind(out, id, dn.as_bytes(), password.as_bytes()))
}

fn search(id: i32) -> Vec<u8> {
    let spec = SearchSpec {
        base: b"dc=example",
        scope: wire::ldap::grammar::Scope::Subtree,
        deref: 0,
        size_limit: 0,
        time_limit: 0,
        types_only: false,
        filter: message::FILTER_ANY_ENTRY,
        attributes: &[],
    };
    written(|out| message::write_search(out, id, &spec))
}

fn delete(id: i32) -> Vec<u8> {
    written(|out| message::write_delete(out, id, b"cn=x"))
}

fn abandon(id: i32, target: i32) -> Vec<u8> {
    written(|out| message::write_abandon(out, id, target))
}

fn extended(id: i32, oid: &str, value: Option<&[u8]>) -> Vec<u8> {
    written(|out| message::write_extended_request(out, id, oid, value))
}

/// One of each operation that has a response and is not answered here, the bind last.
fn operations(id: i32) -> [Vec<u8>; 8] {
    [
        search(id),
        written(|out| message::write_compare(out, id, b"cn=x", b"cn", b"x")),
        written(|out| message::write_modify(out, id, b"cn=x", &[])),
        written(|out| message::write_add(out, id, b"cn=x", &[(b"cn", &[b"x"])])),
        delete(id),
        written(|out| message::write_modify_dn(out, id, b"cn=x", b"cn=y", true, None)),
        written(|out| message::write_password_modify(out, id, None, None, None)),
        bind(id, "cn=x", "secret"),
    ]
}

/// The message with these controls, whole or not.
fn with_controls(frame: &[u8], controls: &[u8]) -> Vec<u8> {
    let env = peek(frame).unwrap();
    written(|out| envelope::write(out, env.id, env.op, controls, b""))
}

fn controlled(frame: &[u8], oid: &str) -> Vec<u8> {
    with_controls(frame, &written(|out| write_control(out, oid, true, None)))
}

/// The tag that answers a request.
fn answers(frame: &[u8]) -> u8 {
    envelope::response_tag(peek(frame).unwrap().tag).unwrap()
}

const NOTICE: (i32, u8, Option<u32>) = (0, tag::EXTENDED_RESPONSE, Some(code::PROTOCOL_ERROR));
const GOODBYE: (i32, u8, Option<u32>) = (0, tag::EXTENDED_RESPONSE, Some(code::UNAVAILABLE));
