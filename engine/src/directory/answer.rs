//! One request in, its whole answer out.

use std::sync::atomic::Ordering;

use wire::frame::Malformed;
use wire::ldap::control::{self, Control, oid};
use wire::ldap::dn;
use wire::ldap::envelope::{self, Envelope, tag};
use wire::ldap::grammar::{self, Auth};
use wire::ldap::message::oid as operation;
use wire::ldap::result::{self, code};

use super::rules::{Part, Rule};
use super::schema::split_description;
use super::search::{End, Place};
use super::{Bounds, Directory, LocalSession, Outcome};
use crate::password::{self, Verdict};

/// What writes are answered with.
const READ_ONLY: &str = "this directory is read-only";

impl Directory {
    /// Answers one request message (`frame` is exactly one) completely: appends responses with its id to `out`.
    ///
    /// What is no message at all is answered with a notice of disconnection; what is a message of an operation that
    /// this does not know, with protocolError.
    pub fn answer(&self, session: &mut LocalSession, frame: &[u8], out: &mut Vec<u8>, bounds: &Bounds) -> Outcome {
        let Ok(envelope) = envelope::peek(frame) else {
            return disconnect(out, "the request is not an LDAP message");
        };
        if matches!(envelope.tag, tag::UNBIND_REQUEST | tag::ABANDON_REQUEST) {
            return Outcome::NoAnswer;
        }
        let Some(response) = envelope::response_tag(envelope.tag) else {
            return disconnect(out, "the operation is not one of LDAP's");
        };
        let mut asker = Asker { proxied: None };
        let end = match self.read_controls(&envelope, bounds, &mut asker) {
            Ok(()) => self.operate(session, &envelope, &asker, out, bounds),
            Err(end) => Ok(end),
        };
        session.scratch.trim();
        let end = match end {
            Ok(Answer::Written(code)) => return Outcome::Answered { code },
            Ok(Answer::Write) => return Outcome::Write,
            Ok(Answer::Follow) => return Outcome::Follow,
            Ok(Answer::End(end)) => end,
            Err(_) => End::new(code::PROTOCOL_ERROR, "the request is malformed"),
        };
        result::write_result(out, envelope.id, response, end.code, end.matched_dn, end.diagnostic);
        Outcome::Answered { code: end.code }
    }

    fn operate<'a>(
        &'a self,
        session: &mut LocalSession,
        envelope: &Envelope<'_>,
        asker: &Asker<'_>,
        out: &mut Vec<u8>,
        bounds: &Bounds,
    ) -> Result<Answer<'a>, Malformed> {
        Ok(Answer::End(match envelope.tag {
            tag::SEARCH_REQUEST if sync_request(envelope.controls).is_some() => return Ok(Answer::Follow),
            tag::SEARCH_REQUEST => {
                let request = grammar::search(envelope.op)?;
                self.search(&mut session.scratch, &request, envelope.id, bounds, out)?
            }
            tag::BIND_REQUEST => self.bind(session, envelope)?,
            tag::COMPARE_REQUEST => self.compare(session, envelope)?,
            tag::EXTENDED_REQUEST => {
                let request = grammar::extended(envelope.op)?;
                if request.oid == operation::WHO_AM_I.as_bytes() {
                    return Ok(self.who_am_i(session, envelope.id, request.value, asker, out));
                }
                if request.oid == operation::PASSWORD_MODIFY.as_bytes() {
                    return Ok(self.to_be_written());
                } else {
                    End::new(
                        code::PROTOCOL_ERROR,
                        "this directory does not know that extended operation",
                    )
                }
            }
            tag::ADD_REQUEST | tag::MODIFY_REQUEST | tag::DELETE_REQUEST | tag::MODIFY_DN_REQUEST => {
                return Ok(self.to_be_written());
            }
            _ => End::new(code::PROTOCOL_ERROR, "this directory does not know that operation"),
        }))
    }

    fn to_be_written<'a>(&self) -> Answer<'a> {
        match self.writing {
            Some(_) => Answer::Write,
            None => end(code::UNWILLING_TO_PERFORM, READ_ONLY),
        }
    }

    fn bind(&self, session: &mut LocalSession, envelope: &Envelope<'_>) -> Result<End<'_>, Malformed> {
        // Whatever comes of it, the old identity ends here (RFC 4513 section 4).
        session.bound_dn.clear();
        let request = grammar::bind(envelope.op)?;
        if request.version != 3 {
            return Ok(End::new(code::PROTOCOL_ERROR, "only LDAP version 3 is spoken here"));
        }
        let Auth::Simple(offered) = request.auth else {
            return Ok(End::new(
                code::AUTH_METHOD_NOT_SUPPORTED,
                "only simple binds are taken here",
            ));
        };
        match (request.name.is_empty(), offered.is_empty()) {
            (true, true) => return Ok(End::SUCCESS),
            (true, false) => return Ok(End::new(code::INVALID_CREDENTIALS, "")),
            (false, true) => {
                return Ok(End::new(
                    code::UNWILLING_TO_PERFORM,
                    "a name with an empty password is no authentication",
                ));
            }
            (false, false) => {}
        }
        match self.place(request.name, &mut session.scratch.normal_dn) {
            Ok(Place::Tree(_, entry)) if self.has_password(entry.passwords(), offered) => {
                session.bound_dn.extend_from_slice(&entry.normal_dn);
                Ok(End::SUCCESS)
            }
            Err(End {
                code: code::INVALID_DN_SYNTAX,
                diagnostic,
                ..
            }) => Ok(End::new(code::INVALID_DN_SYNTAX, diagnostic)),
            // Not telling which: who does not know the password must not learn which names exist.
            _ => Ok(End::new(code::INVALID_CREDENTIALS, "")),
        }
    }

    pub(super) fn has_password(&self, stored: &[Vec<u8>], offered: &[u8]) -> bool {
        stored.iter().any(|stored| match password::verify(stored, offered) {
            Verdict::Match => true,
            Verdict::NoMatch => false,
            Verdict::Unknown => {
                self.unknown_passwords.fetch_add(1, Ordering::Relaxed);
                false
            }
        })
    }

    fn compare<'a>(&'a self, session: &mut LocalSession, envelope: &Envelope<'_>) -> Result<End<'a>, Malformed> {
        let request = grammar::compare(envelope.op)?;
        let entry = match self.place(request.dn, &mut session.scratch.normal_dn) {
            Ok(Place::Tree(_, entry) | Place::Alone(entry)) => entry,
            Err(end) => return Ok(end),
        };
        let (name, options) = split_description(request.attribute);
        let known = self
            .schema
            .find(name)
            .and_then(|kind| Some((kind, self.schema.get(kind)?)));
        let Some((kind, known)) = known else {
            return Ok(End::new(
                code::UNDEFINED_ATTRIBUTE_TYPE,
                "no such attribute type is known here",
            ));
        };
        let answer = |same| End::new(if same { code::COMPARE_TRUE } else { code::COMPARE_FALSE }, "");
        if &*known.name == "userPassword" {
            return Ok(match entry.passwords() {
                [] => End::new(code::NO_SUCH_ATTRIBUTE, ""),
                stored => answer(self.has_password(stored, request.value)),
            });
        }
        if known.rule == Rule::None {
            let diagnostic = "the attribute has no equality matching rule";
            return Ok(End::new(code::INAPPROPRIATE_MATCHING, diagnostic));
        }
        let mut form = Vec::new();
        if self
            .schema
            .normalize(kind, request.value, Part::Whole, &mut form)
            .is_err()
        {
            let diagnostic = "the value is not of the attribute's syntax";
            return Ok(End::new(code::INVALID_ATTRIBUTE_SYNTAX, diagnostic));
        }
        let about = entry.about(|of| self.schema.is_a(of, kind));
        let mut about = about
            .filter(|attribute| entry.has_options(attribute, options))
            .peekable();
        if about.peek().is_none() {
            return Ok(End::new(code::NO_SUCH_ATTRIBUTE, ""));
        }
        Ok(answer(
            about.any(|attribute| entry.forms(attribute).any(|value| value == form)),
        ))
    }

    fn who_am_i<'a>(
        &self,
        session: &LocalSession,
        id: i32,
        value: Option<&[u8]>,
        asker: &Asker<'_>,
        out: &mut Vec<u8>,
    ) -> Answer<'a> {
        if value.is_some() {
            return Answer::End(End::new(code::PROTOCOL_ERROR, "Who am I? takes no value"));
        }
        let mut authzid = Vec::new();
        let dn = match asker.proxied {
            Some(dn) => dn,
            None => match self.find(&session.bound_dn) {
                Some((_, node)) => &*node.entry.dn,
                None => b"",
            },
        };
        if !dn.is_empty() {
            authzid.extend_from_slice(b"dn:");
            authzid.extend_from_slice(dn);
        }
        result::write_extended(out, id, code::SUCCESS, "", None, Some(&authzid));
        Answer::Written(code::SUCCESS)
    }

    /// Takes the controls that are known; a critical one that is not ends the operation.
    pub(super) fn read_controls<'a>(
        &'a self,
        envelope: &Envelope<'a>,
        bounds: &Bounds,
        asker: &mut Asker<'a>,
    ) -> Result<(), Answer<'a>> {
        for control in control::controls(envelope.controls) {
            let Ok(control) = control else {
                return Err(end(code::PROTOCOL_ERROR, "the controls are malformed"));
            };
            if control.oid == oid::PROXIED_AUTHORIZATION.as_bytes() {
                asker.proxied = Some(self.proxied(envelope.tag, &control, bounds, asker)?);
                continue;
            }
            let is_sync = control.oid == oid::SYNC_REQUEST.as_bytes() && envelope.tag == tag::SEARCH_REQUEST;
            if control.critical && !is_sync && control.oid != oid::MANAGE_DSA_IT.as_bytes() {
                return Err(end(
                    code::UNAVAILABLE_CRITICAL_EXTENSION,
                    "this directory does not know a critical control",
                ));
            }
        }
        Ok(())
    }

    /// The name that a proxied authorization control gives its sender (RFC 4370).
    fn proxied<'a>(
        &'a self,
        operation: u8,
        control: &Control<'a>,
        bounds: &Bounds,
        asker: &Asker<'_>,
    ) -> Result<&'a [u8], Answer<'a>> {
        if !bounds.trusted_proxy {
            return Err(end(
                code::UNWILLING_TO_PERFORM,
                "proxied authorization is not accepted from here",
            ));
        }
        if operation == tag::BIND_REQUEST {
            return Err(end(code::PROTOCOL_ERROR, "a bind takes no proxied authorization"));
        }
        let (Some(authzid), true, None) = (control.value, control.critical, asker.proxied) else {
            return Err(end(
                code::PROTOCOL_ERROR,
                "proxied authorization must be critical, have a value and come once",
            ));
        };
        if authzid.is_empty() {
            return Ok(b"");
        }
        if let Some(dn) = authzid.strip_prefix(b"dn:") {
            return match dn::normalize(dn, &*self.schema, &mut Vec::new()) {
                Ok(()) => Ok(dn),
                Err(_) => Err(end(code::AUTHORIZATION_DENIED, "the authorization identity is no name")),
            };
        }
        let uid = authzid.strip_prefix(b"u:").unwrap_or_default();
        match self.by_uid(uid) {
            Some(dn) => Ok(dn),
            None => Err(end(
                code::AUTHORIZATION_DENIED,
                "the authorization identity is unknown here",
            )),
        }
    }

    /// The name of the one entry with this uid.
    fn by_uid(&self, uid: &[u8]) -> Option<&[u8]> {
        let kind = self.schema.find(b"uid")?;
        let mut form = Vec::new();
        self.schema.normalize(kind, uid, Part::Whole, &mut form).ok()?;
        let has_it = |entry: &&super::entry::Entry| {
            let about = |attribute: &&super::entry::Attribute| attribute.kind == kind;
            entry
                .attributes()
                .iter()
                .filter(about)
                .any(|a| entry.forms(a).any(|value| value == form))
        };
        let mut found = self
            .index
            .find(kind, &form)
            .iter()
            .filter_map(|id| self.entry(*id))
            .filter(has_it);
        match (found.next(), found.next()) {
            (Some(entry), None) => Some(&entry.dn),
            _ => None,
        }
    }
}

/// Who asks, when it is not who has bound.
pub(super) struct Asker<'a> {
    /// The name of a proxied authorization; empty is anonymous.
    pub(super) proxied: Option<&'a [u8]>,
}

pub(super) enum Answer<'a> {
    /// The final response is written; its code.
    Written(u32),
    /// It is a write, of which nothing has been done.
    Write,
    /// It is a search with the Sync Request control.
    Follow,
    /// It is to be written.
    End(End<'a>),
}

/// The value of the Sync Request control (RFC 4533), where there is one; empty where it has none.
pub(super) fn sync_request(controls: &[u8]) -> Option<&[u8]> {
    let mut all = control::controls(controls).flatten();
    let sync = all.find(|control| control.oid == oid::SYNC_REQUEST.as_bytes())?;
    Some(sync.value.unwrap_or_default())
}

fn end(code: u32, diagnostic: &'static str) -> Answer<'static> {
    Answer::End(End::new(code, diagnostic))
}

fn disconnect(out: &mut Vec<u8>, diagnostic: &'static str) -> Outcome {
    result::write_notice_of_disconnection(out, code::PROTOCOL_ERROR, diagnostic);
    Outcome::Answered {
        code: code::PROTOCOL_ERROR,
    }
}
