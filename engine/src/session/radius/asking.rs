//! Whether a user is let in: the back ends of the plan's first chain are asked in their order, about a name and a password.
//!
//! One back end is asked at a time. A directory is searched for the one entry, and bound to as that entry; a service is called.
//! What a client sent in another form than a password (CHAP, MS-CHAP, EAP) nobody here can answer: that is a reject.

use serde_json::Value;
use wire::radius::{Packet, number};

use super::plan::{Chain, Directory, Form, Kind, Mode, Plan, Service, USER_NAME_PLACE, Unavailable};
use crate::ask::{Asks, Event, Object, Question, Search, To, Verdict, bind_verdict, code};
use crate::radius::clients::Client;

/// How far a request is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Step {
    Wait,
    Accept,
    Reject,
    Silence,
}

/// What a back end said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Said {
    Yes,
    No,
    NotFound,
    Nothing,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Asking {
    asks: Asks,
    pool: usize,
    link: usize,
    base: usize,
    /// The question that is waited for; others are of a back end that was left.
    open: u32,
    stage: Stage,
    found: Option<Vec<u8>>,
    ambiguous: bool,
    /// Some back end could not be asked, and the next one was.
    passed_over: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Stage {
    #[default]
    Idle,
    Finding,
    Binding,
    Calling,
}

impl Asking {
    /// The next question, and the pool that is to answer it.
    pub(super) fn question(&mut self) -> Option<(usize, Question)> {
        Some((self.pool, self.asks.take()?))
    }

    pub(super) fn begin(&mut self, packet: &Packet<'_>, client: &Client, plan: &Plan) -> Step {
        let name = packet.find(number::USER_NAME).unwrap_or_default();
        let password = packet.user_password(&client.secret);
        // An empty password would be taken for nobody's by a directory (RFC 4513 section 5.1.2).
        if name.is_empty() || password.is_none_or(|password| password.as_bytes().is_empty()) {
            return Step::Reject;
        }
        self.ask(packet, client, plan)
    }

    /// Asks the back end whose turn it is.
    fn ask(&mut self, packet: &Packet<'_>, client: &Client, plan: &Plan) -> Step {
        let link = plan.chains.first().and_then(|chain| chain.links.get(self.link));
        let Some(backend) = link.and_then(|link| plan.backends.get(link.backend)) else {
            return Step::Silence;
        };
        (self.base, self.found, self.ambiguous) = (0, None, false);
        match &backend.kind {
            Kind::Directory(directory) => self.find(directory, packet, client, plan),
            Kind::Service(service) => self.call(service, packet, client, plan),
        }
    }

    pub(super) fn told(
        &mut self,
        question: u32,
        event: &Event<'_>,
        packet: &Packet<'_>,
        client: &Client,
        plan: &Plan,
    ) -> Step {
        if question != self.open {
            return Step::Wait;
        }
        let link = plan.chains.first().and_then(|chain| chain.links.get(self.link));
        let kind = link
            .and_then(|link| plan.backends.get(link.backend))
            .map(|backend| &backend.kind);
        match (self.stage, event, kind) {
            (Stage::Finding, Event::Entry(entry), _) => {
                self.ambiguous |= self.found.as_deref().is_some_and(|found| found != entry.dn);
                self.found = Some(entry.dn.to_vec());
                Step::Wait
            }
            (Stage::Finding, Event::Done(end), Some(Kind::Directory(directory))) => match end.code {
                code::SUCCESS | code::NO_SUCH_OBJECT => {
                    self.base += 1;
                    self.find(directory, packet, client, plan)
                }
                code::SIZE_LIMIT_EXCEEDED => self.said(Said::No, packet, client, plan),
                _ => self.said(Said::Nothing, packet, client, plan),
            },
            (Stage::Binding, Event::Done(end), _) => {
                let said = match bind_verdict(end) {
                    Verdict::Right(bound) if !bound.must_change => Said::Yes,
                    Verdict::Unavailable => Said::Nothing,
                    _ => Said::No,
                };
                self.said(said, packet, client, plan)
            }
            (Stage::Calling, Event::Answer(answer), _) => self.said(status(answer), packet, client, plan),
            _ => self.said(Said::Nothing, packet, client, plan),
        }
    }

    /// Searches the next base; once all have been searched, binds.
    fn find(&mut self, directory: &Directory, packet: &Packet<'_>, client: &Client, plan: &Plan) -> Step {
        let name = packet.find(number::USER_NAME).unwrap_or_default();
        self.pool = directory.pool;
        if self.ambiguous {
            return self.said(Said::No, packet, client, plan);
        }
        if let Some(base) = directory.bases.get(self.base) {
            debug_assert_eq!(USER_NAME_PLACE, "User-Name");
            let Some(filter) = directory.filter.fill(|_| name) else {
                return self.said(Said::NotFound, packet, client, plan);
            };
            self.stage = Stage::Finding;
            self.open = self.asks.search(&Search {
                base: base.as_bytes(),
                scope: directory.scope,
                filter: &filter,
                attributes: &["1.1"],
                size_limit: 2,
            });
            return Step::Wait;
        }
        match (&self.found, packet.user_password(&client.secret)) {
            (Some(dn), Some(password)) => {
                self.stage = Stage::Binding;
                self.open = self.asks.bind(To::Bind, dn, password.as_bytes());
                Step::Wait
            }
            _ => self.said(Said::NotFound, packet, client, plan),
        }
    }

    fn call(&mut self, service: &Service, packet: &Packet<'_>, client: &Client, plan: &Plan) -> Step {
        let name = packet.find(number::USER_NAME).unwrap_or_default();
        let Some(password) = packet.user_password(&client.secret) else {
            return Step::Reject;
        };
        let mut call = Object::new("authenticate");
        if !call.bytes("name", name) || !call.bytes("password", password.as_bytes()) {
            return self.said(Said::No, packet, client, plan);
        }
        if let Form::Pam { service: Some(service) } = &service.form {
            call.text("service", service);
        }
        self.pool = service.pool;
        self.stage = Stage::Calling;
        self.open = self.asks.call(call.end());
        Step::Wait
    }

    /// What a back end's word means for the chain.
    fn said(&mut self, said: Said, packet: &Packet<'_>, client: &Client, plan: &Plan) -> Step {
        self.stage = Stage::Idle;
        let Some(chain) = plan.chains.first() else {
            return Step::Silence;
        };
        let next = match (said, chain.mode) {
            (Said::Yes, Mode::All) if !self.is_last(chain) => true,
            // One that had to say yes was not asked.
            (Said::Yes, Mode::All) if self.passed_over => return Step::Silence,
            (Said::Yes, _) => return Step::Accept,
            (Said::No, Mode::First | Mode::All) | (Said::NotFound, Mode::All) => return Step::Reject,
            (Said::No | Said::NotFound, _) => true,
            (Said::Nothing, _) => match chain.links.get(self.link).map(|link| link.unavailable) {
                Some(Unavailable::Next) => {
                    self.passed_over = true;
                    true
                }
                Some(Unavailable::Reject) => return Step::Reject,
                _ => return Step::Silence,
            },
        };
        if next && !self.is_last(chain) {
            self.link += 1;
            return self.ask(packet, client, plan);
        }
        if self.passed_over { Step::Silence } else { Step::Reject }
    }

    fn is_last(&self, chain: &Chain) -> bool {
        self.link + 1 >= chain.links.len()
    }
}

/// What a service's answer says (docs/identity-calls.md).
fn status(answer: &[u8]) -> Said {
    let answer = serde_json::from_slice::<Value>(answer).unwrap_or_default();
    match answer.get("status").and_then(Value::as_str) {
        Some("ok") => Said::Yes,
        Some("not-found") => Said::NotFound,
        Some(
            "wrong-password" | "disabled" | "expired" | "password-expired" | "must-change" | "locked-out"
            | "restricted" | "denied",
        ) => Said::No,
        _ => Said::Nothing,
    }
}
