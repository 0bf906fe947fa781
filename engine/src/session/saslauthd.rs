//! One client of Cyrus SASL's saslauthd protocol: a name and a password, yes or no.
//!
//! A directory answers by a search and a bind, a service by `authenticate` (`docs/identity-calls.md`). A password that is
//! right but must be changed, or has expired, is a no here: the protocol has no way to change it. Where nobody can be asked
//! the connection is closed without an answer.

use serde_json::Value;
use wire::saslauthd::{Request, write_answer};
use zeroize::Zeroizing;

use crate::ask::template::Template;
use crate::ask::{Asks, Event, Object, Question, Scope, Search, To, Verdict, bind_verdict, code};

/// Places in a filter: the login name, its part before `@`, its part behind it, realm, service.
pub const PLACES: [&str; 5] = ["u", "U", "d", "r", "s"];

/// Who answers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answers {
    /// A directory.
    Directory {
        /// Searched in this order.
        bases: Vec<String>,
        /// How far below.
        scope: Scope,
        /// What finds the one entry.
        filter: Template,
    },
    /// A service.
    Service,
}

/// What is to be done. Questions to be asked are had from [`Session::question`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    /// Submit what is to be asked, and wait.
    Wait,
    /// Write what is in the outbox, then close.
    Close,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Session {
    frame: Zeroizing<Vec<u8>>,
    stage: Stage,
    base: usize,
    found: Option<Vec<u8>>,
    ambiguous: bool,
    asks: Asks,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Stage {
    #[default]
    New,
    Finding,
    Binding,
    Calling,
    Over,
}

impl Session {
    /// Whether a question is being answered.
    pub fn is_asking(&self) -> bool {
        !matches!(self.stage, Stage::New | Stage::Over)
    }

    /// The next question to be submitted.
    pub fn question(&mut self) -> Option<Question> {
        self.asks.take()
    }

    /// One whole question of the client's.
    pub fn receive(&mut self, frame: &[u8], answers: &Answers, out: &mut Vec<u8>) -> Next {
        let (Stage::New, Ok(request)) = (self.stage, Request::read(frame)) else {
            return self.leave();
        };
        // An empty password would be taken for nobody's by a directory (RFC 4513 section 5.1.2).
        if request.login.is_empty() || request.password.is_empty() {
            return self.say(false, "a name or password is missing", out);
        }
        self.frame.extend_from_slice(frame);
        match answers {
            Answers::Directory { .. } => self.find(answers, out),
            Answers::Service => {
                let mut call = Object::new("authenticate");
                let whole = call.bytes("name", &full_name(&request)) && call.bytes("password", request.password);
                if !whole || (!request.service.is_empty() && !call.bytes("service", request.service)) {
                    return self.say(false, "name or password cannot be read", out);
                }
                self.stage = Stage::Calling;
                self.asks.call(call.end());
                Next::Wait
            }
        }
    }

    /// What came of a question.
    pub fn told(&mut self, event: &Event<'_>, answers: &Answers, out: &mut Vec<u8>) -> Next {
        match (self.stage, event) {
            (Stage::Finding, Event::Entry(entry)) => {
                self.ambiguous |= self.found.as_deref().is_some_and(|found| found != entry.dn);
                self.found = Some(entry.dn.to_vec());
                Next::Wait
            }
            (Stage::Finding, Event::Done(end)) => match end.code {
                code::SUCCESS | code::NO_SUCH_OBJECT => {
                    self.base += 1;
                    self.find(answers, out)
                }
                code::SIZE_LIMIT_EXCEEDED => self.say(false, "more than one entry has this name", out),
                _ => self.leave(),
            },
            (Stage::Binding, Event::Done(end)) => {
                let (right, why) = match bind_verdict(end) {
                    Verdict::Right(bound) if bound.must_change => (false, "the password must be changed"),
                    Verdict::Right(_) => (true, ""),
                    Verdict::Wrong => (false, "wrong password"),
                    Verdict::PasswordExpired => (false, "the password has expired"),
                    Verdict::MustChange => (false, "the password must be changed"),
                    Verdict::LockedOut => (false, "too many wrong passwords"),
                    Verdict::Disabled => (false, "the account is disabled"),
                    Verdict::Expired => (false, "the account has expired"),
                    Verdict::Restricted | Verdict::Denied => (false, "refused by the directory"),
                    Verdict::Unavailable => return self.leave(),
                };
                self.say(right, why, out)
            }
            (Stage::Calling, Event::Answer(answer)) => {
                let answer = serde_json::from_slice::<Value>(answer).unwrap_or_default();
                match answer.get("status").and_then(Value::as_str) {
                    Some("ok") => self.say(true, "", out),
                    Some("not-found") => self.say(false, "no such user", out),
                    Some("wrong-password") => self.say(false, "wrong password", out),
                    Some(
                        status @ ("disabled" | "expired" | "password-expired" | "must-change" | "locked-out"
                        | "restricted" | "denied"),
                    ) => self.say(false, status, out),
                    _ => self.leave(),
                }
            }
            _ => self.leave(),
        }
    }

    /// The client is gone, or nothing more is said to it.
    pub fn leave(&mut self) -> Next {
        self.stage = Stage::Over;
        self.frame = Zeroizing::new(Vec::new());
        self.asks.clear();
        Next::Close
    }

    fn say(&mut self, right: bool, why: &str, out: &mut Vec<u8>) -> Next {
        write_answer(out, right, why);
        self.leave()
    }

    /// Searches the next base; once all have been searched, binds.
    fn find(&mut self, answers: &Answers, out: &mut Vec<u8>) -> Next {
        let Answers::Directory { bases, scope, filter } = answers else {
            return self.leave();
        };
        let Ok(request) = Request::read(&self.frame) else {
            return self.leave();
        };
        if self.ambiguous {
            return self.say(false, "more than one entry has this name", out);
        }
        if let Some(base) = bases.get(self.base) {
            let parts = split_name(request.login);
            let filled = filter.fill(|place| match place {
                "u" => request.login,
                "U" => parts.0,
                "d" => parts.1,
                "r" => request.realm,
                _ => request.service,
            });
            let Some(filter) = filled else { return self.leave() };
            self.stage = Stage::Finding;
            self.asks.search(&Search {
                base: base.as_bytes(),
                scope: *scope,
                filter: &filter,
                attributes: &["1.1"],
                size_limit: 2,
            });
            return Next::Wait;
        }
        match &self.found {
            Some(dn) => {
                self.stage = Stage::Binding;
                self.asks.bind(To::Bind, dn, request.password);
                Next::Wait
            }
            None => self.say(false, "no such user", out),
        }
    }
}

/// `alice@example.com` in its two parts.
fn split_name(login: &[u8]) -> (&[u8], &[u8]) {
    match login.iter().position(|byte| *byte == b'@') {
        Some(at) => (
            login.get(..at).unwrap_or_default(),
            login.get(at + 1..).unwrap_or_default(),
        ),
        None => (login, b""),
    }
}

/// A service is told the realm as a part of the name.
fn full_name(request: &Request<'_>) -> Vec<u8> {
    if request.realm.is_empty() || request.login.contains(&b'@') {
        return request.login.to_vec();
    }
    [request.login, b"@", request.realm].concat()
}
