//! A client's own controls that say as whom to act, where its operations travel on connections that clients share.
//!
//! Whatever comes on such a connection is judged by the rights of whoever bound it, and that is the daemon: a client that could say
//! there as whom to act would have those rights. One client has them anyway: the one that is bound as the very identity of these
//! connections. What it says in a proxied authorization control it could say to the server itself, so where the directory allows
//! it ([`Settings::assertions`]) its control travels in place of ours. Nobody else's ever does.

use super::identities::Identities;
use super::{Session, Settings};
use wire::ldap::control::{self, Control, oid};
use wire::ldap::envelope::tag;
use wire::ldap::result::code;

/// What the controls of a request say of whom it is to be done as.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Says {
    Nothing,
    /// One proxied authorization as RFC 4370 has it (critical, with a value), and nothing else of the kind.
    Assertion,
    /// Anything else of the kind.
    Other,
}

const OF_ANOTHER_KIND: [&str; 3] = [
    oid::PROXIED_AUTHORIZATION_V1,
    oid::GROUP_AUTHORIZATION,
    oid::RETAIN_IDENTITY,
];

impl Says {
    /// With one more control.
    pub(super) fn and(self, control: &Control<'_>) -> Self {
        let is = |oid: &str| control.oid == oid.as_bytes();
        if is(oid::PROXIED_AUTHORIZATION) {
            let sound = control.critical && control.value.is_some() && self == Says::Nothing;
            return if sound { Says::Assertion } else { Says::Other };
        }
        if OF_ANOTHER_KIND.into_iter().any(is) {
            return Says::Other;
        }
        self
    }
}

impl Session {
    /// Whether this request's own control goes to the server, on a connection that the daemon has bound as one of `own`, and ours
    /// does not. To be asked again when it is sent.
    #[must_use]
    pub fn asserts(&self, controls: &[u8], own: &Identities) -> bool {
        let all = control::controls(controls).flatten();
        all.fold(Says::Nothing, |says, control| says.and(&control)) == Says::Assertion && self.is_bound_as(own)
    }

    /// Who that is was said by a server after a bind: of who came by EXTERNAL only we say so.
    fn is_bound_as(&self, own: &Identities) -> bool {
        !self.is_external() && own.has(&self.authzid)
    }

    /// Why what a request says of whom it is to be done as is refused on connections that clients share.
    pub(super) fn saying_refused(&self, says: Says, tag: u8, settings: &Settings) -> Option<(u32, &'static str)> {
        const NOT_HERE: (u32, &str) = (
            code::UNWILLING_TO_PERFORM,
            "a control that says as whom to act is not passed on here",
        );
        match (says, &settings.assertions) {
            (Says::Nothing, _) => None,
            // RFC 4370 section 3: never with a bind.
            (Says::Assertion, Some(own)) if tag != tag::BIND_REQUEST => (!self.is_bound_as(own)).then_some((
                code::PROTOCOL_ERROR,
                // With ours there would be two of them. Clients know this answer from slapd, by these words.
                "proxy authorization control specified multiple times",
            )),
            _ => Some(NOT_HERE),
        }
    }
}
