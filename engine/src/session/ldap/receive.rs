//! What a client says.

use super::assertion::Says;
use super::rules::{Action, Rules};
use super::stay::{self, Asked};
use super::{Next, Pending, Session, Settings, State, Submit, lane};
use crate::core::{Class, Drain, Route, Ticket};
use wire::frame::Malformed;
use wire::ldap::control::{self, oid as control_oid};
use wire::ldap::envelope::{Envelope, response_tag, tag};
use wire::ldap::grammar::{self, Auth, ExtendedRequest};
use wire::ldap::message::oid;
use wire::ldap::result::{self, code};
use wire::ldap::root_dse::OF_THE_CONNECTION;

/// What the controls of a request ask of the balancer.
struct Controls {
    /// Results are expected for as long as the client stays: no deadline.
    persistent: bool,
    /// Whether they say as whom the request is to be done.
    says: Says,
}

impl Session {
    /// One whole message. `is_sent` says of a ticket whether an upstream has it.
    pub fn receive(
        &mut self,
        env: &Envelope<'_>,
        settings: &Settings,
        is_sent: impl Fn(Ticket) -> bool,
        out: &mut Vec<u8>,
    ) -> Next {
        if self.state == State::Closing {
            return Next::Done;
        }
        if !self.takes_now(env.tag, settings) {
            return Next::Later;
        }
        // Whoever sends controls that cannot be read can still be answered: the borders of the message are sound.
        let malformed = match grammar::check_request(env, &settings.limits) {
            Ok(()) => false,
            Err(Malformed::BadControls) => true,
            Err(fault) => return self.poisoned(fault, out),
        };
        let Some(response) = response_tag(env.tag) else {
            return match env.tag {
                tag::UNBIND_REQUEST => {
                    self.state = State::Closing;
                    Next::Unbind
                }
                _ => self.abandon(env),
            };
        };
        if env.id == 0 || self.pending.contains(env.id) {
            return self.disconnect(code::PROTOCOL_ERROR, "message id is in use or zero", out);
        }
        if self.draining.is_some() {
            result::write_result(out, env.id, response, code::UNAVAILABLE, b"", "shutting down");
            return Next::Done;
        }
        if self.is_out_of_step(env.tag) {
            let why = "a SASL bind is under way";
            result::write_result(out, env.id, response, code::OPERATIONS_ERROR, b"", why);
            return Next::Done;
        }
        let (controls, asked) = inspect(env.controls, &settings.rules);
        let refusal = self.controls_refused(malformed, env.tag, &controls, asked, settings);
        if let Some((code, why)) = refusal {
            result::write_result(out, env.id, response, code, b"", why);
            return match env.tag {
                tag::BIND_REQUEST => self.bind_refused(),
                _ => Next::Done,
            };
        }
        // What is asked as somebody else is the servers' to answer.
        let asserts = controls.says == Says::Assertion;
        if let Some(readers) = &settings.monitor
            && !asserts
            && let Some(next) = self.monitor(env, readers, out)
        {
            return next;
        }
        match env.tag {
            tag::BIND_REQUEST => self.bind(env, settings, out),
            tag::EXTENDED_REQUEST => self.extended(env, (asked, asserts), settings, is_sent, out),
            tag::SEARCH_REQUEST => {
                let timeout = (!controls.persistent).then_some(settings.search_timeout);
                let submit = Submit {
                    timeout,
                    ..self.operation(true, settings.search_timeout)
                };
                self.route(env, submit, asked, settings)
            }
            tag::COMPARE_REQUEST => {
                let submit = self.operation(true, settings.operation_timeout);
                self.route(env, submit, asked, settings)
            }
            _ => {
                let submit = self.operation(false, settings.operation_timeout);
                self.route(env, submit, asked.and(Asked::write()), settings)
            }
        }
    }

    /// Why a request is refused for its controls.
    fn controls_refused(
        &self,
        malformed: bool,
        tag: u8,
        controls: &Controls,
        asked: Asked,
        settings: &Settings,
    ) -> Option<(u32, &'static str)> {
        if malformed {
            return Some((code::PROTOCOL_ERROR, "malformed or too many controls"));
        }
        // On a connection of the client's own the server judges whom it may act for.
        let shares = settings.proxied || self.pin.is_none();
        let refused = self.saying_refused(controls.says, tag, settings).filter(|_| shares);
        let rejected = (asked.action == Action::Reject).then_some((
            code::UNWILLING_TO_PERFORM,
            "a control of this request is not allowed here",
        ));
        refused.or(rejected)
    }

    /// In place of [`Session::receive`]: a request that is refused before it is looked at, with this code.
    pub fn refuse(&mut self, env: &Envelope<'_>, with: u32, why: &str, out: &mut Vec<u8>) -> Next {
        if self.state != State::Open {
            return if self.state == State::Closing {
                Next::Done
            } else {
                Next::Later
            };
        }
        let Some(response) = response_tag(env.tag) else {
            return Next::Done;
        };
        if env.id == 0 || self.pending.contains(env.id) {
            return self.disconnect(code::PROTOCOL_ERROR, "message id is in use or zero", out);
        }
        result::write_result(out, env.id, response, with, b"", why);
        match env.tag {
            tag::BIND_REQUEST => self.bind_refused(),
            _ => Next::Done,
        }
    }

    /// The other side of the stream speaks no LDAP that can be followed: notice of disconnection, close.
    pub fn poisoned(&mut self, fault: Malformed, out: &mut Vec<u8>) -> Next {
        self.disconnect(code::PROTOCOL_ERROR, &fault.to_string(), out)
    }

    /// Tells the client that its connection ends (RFC 4511 4.4.1).
    pub fn disconnect(&mut self, code: u32, why: &str, out: &mut Vec<u8>) -> Next {
        if self.state != State::Closing {
            self.state = State::Closing;
            result::write_notice_of_disconnection(out, code, why);
        }
        Next::Close
    }

    /// The listener drains. `Close`: the client has been told.
    pub fn drain(&mut self, level: Drain, out: &mut Vec<u8>) -> Next {
        self.draining = Some(self.draining.map_or(level, |before| before.max(level)));
        if self.pending.is_empty() {
            self.disconnect(code::UNAVAILABLE, "shutting down", out)
        } else {
            Next::Done
        }
    }

    /// What would add to a client's pending operations waits for room; what takes from them does not, or a client whose
    /// searches have no end could never abandon one. Who leaves leaves at once, also amid a bind: others wait for its
    /// connection.
    pub fn takes_now(&self, tag: u8, settings: &Settings) -> bool {
        let takes_away = match self.state {
            State::Open => matches!(tag, tag::ABANDON_REQUEST | tag::UNBIND_REQUEST | tag::BIND_REQUEST),
            State::Binding { .. } => tag == tag::UNBIND_REQUEST,
            State::Closing => false,
        };
        takes_away || (self.waits_for_name(tag).is_none() && self.takes(settings))
    }

    /// A bind that goes no further. Nothing of the old identity may run on, be sent late under another one, or find a
    /// connection that is still bound.
    pub(super) fn bind_refused(&mut self) -> Next {
        self.anonymous();
        self.exchange.over();
        if self.pending.is_empty() && self.pin.is_none() && !self.exchange.is_held() && self.unnamed.is_none() {
            return Next::Done;
        }
        self.pin_gone = false;
        Next::StartOver(self.pin.take())
    }

    fn operation(&self, retry: bool, timeout: crate::core::time::Span) -> Submit {
        let lane = if self.pin.is_some() { lane::PINNED } else { lane::SHARED };
        Submit {
            class: Class { lane, retry },
            timeout: Some(timeout),
            queue_wait_max: timeout,
            pin: self.pin,
            bind: false,
            route: Route::default(),
        }
    }

    fn abandon(&mut self, env: &Envelope<'_>) -> Next {
        let Some(id) = grammar::abandon_id(env) else {
            return Next::Done;
        };
        match self.pending.get(id) {
            Some(pending) if pending.tag != tag::BIND_REQUEST => {
                let ticket = pending.ticket;
                self.pending.remove(id);
                self.stay.lost(id);
                Next::Abandon(ticket)
            }
            _ => Next::Done,
        }
    }

    fn bind(&mut self, env: &Envelope<'_>, settings: &Settings, out: &mut Vec<u8>) -> Next {
        let bind = match grammar::bind(env.op) {
            Ok(bind) => bind,
            Err(fault) => return self.poisoned(fault, out),
        };
        // RFC 4513 section 4: whatever becomes of it, the old identity is gone.
        self.anonymous();
        if bind.version != 3 {
            result::write_bind(out, env.id, code::PROTOCOL_ERROR, "only LDAPv3 is spoken here", None);
            self.state = State::Closing;
            return Next::Close;
        }
        let mut name = bind.name;
        match bind.auth {
            Auth::Simple(password)
                if password.is_empty() && !bind.name.is_empty() && !settings.allow_unauthenticated_bind =>
            {
                let why = "unauthenticated bind (a DN with an empty password) is refused";
                result::write_bind(out, env.id, code::UNWILLING_TO_PERFORM, why, None);
                return self.bind_refused();
            }
            // RFC 4513 5.1.2: whatever DN it shows, such a client stays anonymous.
            Auth::Simple([]) => name = b"",
            Auth::Simple(_) => {}
            Auth::Sasl { mechanism, credentials } => {
                self.bind_name.clear();
                return self.sasl_bind(env, (mechanism, credentials), settings, out);
            }
            Auth::Other(_) => {
                let why = "only simple and SASL binds are known here";
                result::write_bind(out, env.id, code::AUTH_METHOD_NOT_SUPPORTED, why, None);
                return self.bind_refused();
            }
        }
        self.exchange.over();
        self.state = State::Binding { id: env.id };
        self.bind_name.clear();
        self.bind_name.extend_from_slice(name);
        let lane = if settings.proxied { lane::BIND } else { lane::PINNED };
        Next::Submit(Submit {
            class: Class {
                lane,
                retry: self.pin.is_none(),
            },
            timeout: Some(settings.operation_timeout),
            queue_wait_max: settings.operation_timeout,
            pin: self.pin,
            bind: true,
            route: Route {
                prefers: settings.reads,
                ..Route::default()
            },
        })
    }

    fn extended(
        &mut self,
        env: &Envelope<'_>,
        (asked, asserts): (Asked, bool),
        settings: &Settings,
        is_sent: impl Fn(Ticket) -> bool,
        out: &mut Vec<u8>,
    ) -> Next {
        let request = match grammar::extended(env.op) {
            Ok(request) => request,
            Err(fault) => return self.poisoned(fault, out),
        };
        let refuse = |out: &mut Vec<u8>| {
            let why = "this extended operation is not allowed here";
            result::write_extended(out, env.id, code::UNWILLING_TO_PERFORM, why, None, None);
            Next::Done
        };
        let of_connection = OF_THE_CONNECTION.iter().any(|oid| oid.as_bytes() == request.oid);
        let shares = settings.proxied || self.pin.is_none();
        if settings.rules.refuses(request.oid) || (of_connection && shares) {
            return refuse(out);
        }
        if request.oid == oid::START_TLS.as_bytes() {
            return self.start_tls(env.id, &request, settings, out);
        }
        if request.oid == oid::CANCEL.as_bytes() {
            return self.cancel(env.id, &request, is_sent, out);
        }
        if request.oid == oid::WHO_AM_I.as_bytes() && self.pin.is_none() && !self.is_external() && !asserts {
            let (code, why, value) = match request.value {
                None => (code::SUCCESS, "", Some(&*self.authzid)),
                Some(_) => (code::PROTOCOL_ERROR, "Who am I? takes no value", None),
            };
            result::write_extended(out, env.id, code, why, None, value);
            return Next::Done;
        }
        let asked = asked.and(Asked {
            action: settings.rules.extended(request.oid),
            purpose: stay::purpose_of_extended(request.oid),
        });
        if asked.action == Action::Reject {
            return refuse(out);
        }
        let submit = self.operation(false, settings.operation_timeout);
        self.route(env, submit, asked, settings)
    }

    fn start_tls(&mut self, id: i32, request: &ExtendedRequest<'_>, settings: &Settings, out: &mut Vec<u8>) -> Next {
        let (code, why) = if request.value.is_some() {
            (code::PROTOCOL_ERROR, "StartTLS takes no value")
        } else if self.tls {
            (code::OPERATIONS_ERROR, "TLS is active already")
        } else if !self.pending.is_empty() {
            (code::OPERATIONS_ERROR, "operations are pending")
        } else if self.pin.is_some() {
            // Its own connection would go on as who it was in clear.
            (code::OPERATIONS_ERROR, "StartTLS comes before a bind here")
        } else if !settings.starttls {
            (code::UNAVAILABLE, "TLS is not configured here")
        } else {
            // Who the client was in clear it is not under TLS.
            self.anonymous();
            (code::SUCCESS, "")
        };
        result::write_extended(out, id, code, why, Some(oid::START_TLS), None);
        if code == code::SUCCESS {
            Next::StartTls
        } else {
            Next::Done
        }
    }

    /// RFC 3909. What only reads, or was not sent yet, is ended here and now; what may have changed something is too late.
    fn cancel(
        &mut self,
        id: i32,
        request: &ExtendedRequest<'_>,
        is_sent: impl Fn(Ticket) -> bool,
        out: &mut Vec<u8>,
    ) -> Next {
        let answer = |code: u32, why: &str, out: &mut Vec<u8>| {
            result::write_extended(out, id, code, why, None, None);
            Next::Done
        };
        let Some(Ok(target)) = request.value.map(grammar::cancel_id) else {
            return answer(code::PROTOCOL_ERROR, "Cancel wants the message id to cancel", out);
        };
        let Some(Pending { ticket, tag, .. }) = self.pending.get(target) else {
            return answer(code::NO_SUCH_OPERATION, "no such operation is pending", out);
        };
        if tag == tag::BIND_REQUEST {
            return answer(code::CANNOT_CANCEL, "a bind cannot be cancelled", out);
        }
        let reads = matches!(tag, tag::SEARCH_REQUEST | tag::COMPARE_REQUEST);
        if !reads && is_sent(ticket) {
            return answer(code::TOO_LATE, "the operation is being carried out", out);
        }
        self.pending.remove(target);
        self.stay.lost(target);
        if let Some(response) = response_tag(tag) {
            result::write_result(out, target, response, code::CANCELED, b"", "");
        }
        answer(code::SUCCESS, "", out);
        Next::Abandon(ticket)
    }
}

fn inspect(content: &[u8], rules: &Rules) -> (Controls, Asked) {
    let (mut found, mut asked) = (
        Controls {
            persistent: false,
            says: Says::Nothing,
        },
        Asked::NOTHING,
    );
    for control in control::controls(content).flatten() {
        let is = |oid: &str| control.oid == oid.as_bytes();
        found.says = found.says.and(&control);
        found.persistent |=
            is(control_oid::PERSISTENT_SEARCH) || is(control_oid::SYNC_REQUEST) || is(control_oid::CHANGE_NOTIFICATION);
        asked = asked.and(Asked {
            action: rules.control(control.oid),
            purpose: stay::purpose(control.oid),
        });
    }
    (found, asked)
}
