//! Questions to one server, over a connection that blocks.

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Instant;

use engine::upstream::sasl::gssapi::{Reply, Request};
use engine::upstream::sasl::{Exchange, Turn};
use wire::frame::Step;
use wire::ldap::grammar::Scope;
use wire::ldap::message::{self, SearchSpec, oid};
use wire::ldap::result::{self, code};
use wire::ldap::{control, envelope};

use super::{Stream, left, text};
use crate::config::plan::{Bind, Sasl, Target};
use crate::gssapi::{Bounds, Gss, Kerberos, Question, Server, Session};
use crate::net::own_bind;

/// Messages that a server may send in answer to one request here.
const MESSAGES_MAX: usize = 100;

/// Asks one thing after the other.
pub(super) struct Asker {
    pub(super) stream: Box<dyn Stream>,
    pub(super) buffer: Vec<u8>,
    pub(super) id: i32,
    pub(super) until: Instant,
    pub(super) bytes_max: usize,
}

/// A final result.
struct Answer {
    code: u32,
    /// What the server says to it, behind a colon; empty: nothing.
    diagnostic: String,
    credentials: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
}

impl Asker {
    /// The daemon's own bind; as whom. `is_safe`: a password may be sent as it is.
    pub(super) fn bind(
        &mut self,
        bind: &Bind,
        is_safe: bool,
        target: &Target,
        gssapi: Bounds,
    ) -> Result<String, String> {
        let simple = match bind {
            Bind::Simple(simple) => simple,
            Bind::Sasl(sasl) => return self.bind_by_sasl(sasl, is_safe, Ticket::new(sasl, target, gssapi)),
        };
        let mut request = zeroize::Zeroizing::new(Vec::new());
        let id = self.next();
        message::write_simple_bind(&mut request, id, simple.dn.as_bytes(), &simple.password);
        self.ask(id, &request, |_| {}).map(|()| simple.dn.clone())
    }

    fn bind_by_sasl(&mut self, sasl: &Sasl, is_safe: bool, mut kerberos: Ticket) -> Result<String, String> {
        let account = &sasl.account;
        let (mut exchange, mut turn) = Exchange::begin(account, is_safe, own_bind::chance()?);
        let mut diagnostic = String::new();
        loop {
            match turn {
                Turn::Send { mechanism, credentials } => {
                    let mut request = zeroize::Zeroizing::new(Vec::new());
                    let id = self.next();
                    message::write_sasl_bind(&mut request, id, b"", mechanism, Some(&credentials));
                    let answer = self.answer(id, &request, |_| {})?;
                    turn = exchange.answered(answer.code, answer.credentials.as_deref());
                    diagnostic = answer.diagnostic;
                }
                Turn::Ask(request) => turn = exchange.replied(kerberos.ask(request, self.until)?),
                Turn::Bound => break,
                Turn::Failed(why) => return Err(why.into()),
                Turn::Refused(_, code) => {
                    let advice = self.advice(code);
                    return Err(format!("{} ({code}){diagnostic}{advice}", result::name(code)));
                }
            }
        }
        let mechanism = exchange.mechanism().name();
        let mut request = Vec::new();
        let id = self.next();
        message::write_extended_request(&mut request, id, oid::WHO_AM_I, None);
        let value = self.answer(id, &request, |_| {})?.value;
        // Where the server does not say it, what we call ourselves is all there is.
        Ok(match value.filter(|value| !value.is_empty()) {
            Some(identity) => format!("{} by {mechanism}", String::from_utf8_lossy(&identity)),
            None => format!("{} by {mechanism}", account.who().authcid),
        })
    }

    /// What to do about a refused bind by SASL.
    fn advice(&mut self, code: u32) -> String {
        match code {
            code::INVALID_CREDENTIALS => {
                "; the name or the password is wrong, or the server's SASL finds nobody of this name".into()
            }
            code::AUTH_METHOD_NOT_SUPPORTED | code::INAPPROPRIATE_AUTHENTICATION | code::CONFIDENTIALITY_REQUIRED => {
                match self.mechanisms() {
                    Ok(offered) if offered.is_empty() => {
                        "; the server offers no SASL mechanism on this connection".into()
                    }
                    Ok(offered) => format!("; the server offers {}", offered.join(", ")),
                    Err(_) => String::new(),
                }
            }
            _ => String::new(),
        }
    }

    /// The mechanisms that the root entry names.
    fn mechanisms(&mut self) -> Result<Vec<String>, String> {
        let mut offered = Vec::new();
        self.search(b"", &["supportedSASLMechanisms"], |entry| {
            let attributes = message::read_entry(entry)
                .into_iter()
                .flat_map(|entry| entry.attributes);
            let values = attributes.flat_map(|attribute| attribute.values);
            offered.extend(values.map(|value| String::from_utf8_lossy(value).into_owned()));
        })?;
        Ok(offered)
    }

    /// Reads the root entry: whether proxied authorization is offered. A server that hides the entry offers nothing.
    pub(super) fn root(&mut self) -> Result<bool, String> {
        let mut offered = false;
        let outcome = self.search(b"", &["supportedControl", "namingContexts"], |entry| {
            // Among the values of one attribute, so that looking for the bytes is enough.
            let wanted = control::oid::PROXIED_AUTHORIZATION.as_bytes();
            offered |= entry.windows(wanted.len()).any(|bytes| bytes == wanted);
        });
        outcome
            .map(|()| offered)
            .map_err(|error| format!("search of the root entry: {error}"))
    }

    pub(super) fn base(&mut self, base: &str) -> Result<(), String> {
        let mut found = false;
        self.search(base.as_bytes(), &["1.1"], |_| found = true)
            .map_err(|error| format!("search of {base}: {error}"))?;
        if found {
            Ok(())
        } else {
            Err(format!("{base} is not shown to this bind"))
        }
    }

    fn search(&mut self, base: &[u8], attributes: &[&str], each: impl FnMut(&[u8])) -> Result<(), String> {
        let mut request = Vec::new();
        let id = self.next();
        let search = SearchSpec {
            base,
            scope: Scope::Base,
            deref: 0,
            size_limit: 0,
            time_limit: 0,
            types_only: false,
            filter: message::FILTER_ANY_ENTRY,
            attributes,
        };
        message::write_search(&mut request, id, &search);
        self.ask(id, &request, each)
    }

    pub(super) fn unbind(&mut self) {
        let mut request = Vec::new();
        let id = self.next();
        message::write_unbind(&mut request, id);
        // The server has answered everything that was asked; how it takes leave is not part of the probe.
        let _ = self.stream.write_all(&request);
    }

    fn next(&mut self) -> i32 {
        self.id += 1;
        self.id
    }

    /// Sends a request, gives each search entry's bytes to `each`; an error unless the final result is success.
    pub(super) fn ask(&mut self, id: i32, request: &[u8], each: impl FnMut(&[u8])) -> Result<(), String> {
        let answer = self.answer(id, request, each)?;
        match answer.code {
            code::SUCCESS => Ok(()),
            other => Err(format!("{} ({other}){}", result::name(other), answer.diagnostic)),
        }
    }

    /// As [`Asker::ask`], whatever the final result is. A server that takes its leave answers nothing.
    fn answer(&mut self, id: i32, request: &[u8], mut each: impl FnMut(&[u8])) -> Result<Answer, String> {
        self.stream
            .write_all(request)
            .and_then(|()| self.stream.flush())
            .map_err(text)?;
        for _ in 0..MESSAGES_MAX {
            let len = self.receive()?;
            let frame = self.buffer.get(..len).unwrap_or_default();
            let envelope = envelope::peek(frame).map_err(|error| format!("the answer is not LDAP: {error}"))?;
            if envelope.id == id && envelope.tag == envelope::tag::SEARCH_ENTRY {
                each(envelope.op);
            } else if envelope.id == id && envelope::is_final_response(envelope.tag) || envelope.id == 0 {
                let result = result::read_result(envelope.op).map_err(|error| format!("not LDAP: {error}"))?;
                let why = String::from_utf8_lossy(result.diagnostic);
                let answer = Answer {
                    code: result.code,
                    diagnostic: if why.is_empty() {
                        String::new()
                    } else {
                        format!(": {why}")
                    },
                    credentials: result.server_sasl_creds.map(<[u8]>::to_vec),
                    value: result.value.map(<[u8]>::to_vec),
                };
                let is_ours = envelope.id == id;
                self.buffer.drain(..len);
                if !is_ours {
                    let name = result::name(answer.code);
                    return Err(format!("{name} ({}){}", answer.code, answer.diagnostic));
                }
                return Ok(answer);
            }
            self.buffer.drain(..len);
        }
        Err(format!("more than {MESSAGES_MAX} messages in answer to one request"))
    }

    fn receive(&mut self) -> Result<usize, String> {
        let mut piece = [0; 16 * 1024];
        loop {
            match envelope::split(&self.buffer, self.bytes_max) {
                Step::Frame { len } => return Ok(len),
                Step::Malformed(error) => return Err(format!("the answer is not LDAP: {error}")),
                Step::NeedMore { .. } => {}
            }
            left(self.until)?;
            match self.stream.read(&mut piece).map_err(text)? {
                0 => return Err("the server closed the connection".into()),
                read => self.buffer.extend_from_slice(piece.get(..read).unwrap_or_default()),
            }
        }
    }
}

/// Kerberos, on a thread of its own, for nothing but the clock ends what it does.
struct Ticket {
    gss: Gss,
    who: Option<(Arc<Kerberos>, Arc<Server>)>,
    session: Option<Session>,
}

impl Ticket {
    fn new(sasl: &Sasl, target: &Target, bounds: Bounds) -> Ticket {
        let who = |kerberos: &Arc<Kerberos>| Some((Arc::clone(kerberos), Arc::new(kerberos.server(target)?)));
        Ticket {
            gss: Gss::new(bounds),
            who: sasl.kerberos.as_ref().and_then(who),
            session: None,
        }
    }

    fn ask(&mut self, request: Request, until: Instant) -> Result<Reply, String> {
        let (kerberos, server) = self.who.clone().ok_or("it is not said how to bind with GSSAPI")?;
        let wanted = Arc::new(());
        let question = Question {
            kerberos,
            server,
            session: self.session.take(),
            request,
            wanted: Arc::downgrade(&wanted),
        };
        let (to, from) = channel();
        self.gss.ask(
            question,
            Box::new(move |outcome| {
                let _ = to.send(outcome);
            }),
        );
        let answer = from.recv_timeout(left(until)?);
        let (session, reply) =
            answer.map_err(|_| "Kerberos has not answered within connect_timeout: is its KDC in reach?")??;
        self.session = Some(session);
        Ok(reply)
    }
}
