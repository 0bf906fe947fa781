//! What clients send.

use wire::ber;
use wire::ldap::control::{self, oid as control_oid};
use wire::ldap::envelope::{peek, tag, write};
use wire::ldap::grammar::Scope;
use wire::ldap::message::{self, SearchSpec, oid};

/// The bytes that decide.
pub(crate) struct Bytes<'a>(pub(crate) &'a [u8]);

impl Bytes<'_> {
    pub(crate) fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    /// Below `n`; 0 at the end.
    pub(crate) fn pick(&mut self, n: usize) -> usize {
        usize::from(self.next().unwrap_or(0)) % n
    }
}

/// An operation that is passed on, about `token`.
pub(crate) fn operation(bytes: &mut Bytes<'_>, id: i32, token: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    match bytes.pick(12) {
        0 => message::write_compare(&mut out, id, token, b"cn", b"x"),
        1 => message::write_modify(&mut out, id, token, &[]),
        2 => message::write_add(&mut out, id, token, &[(b"cn", &[b"x"])]),
        3 => message::write_delete(&mut out, id, token),
        4 => message::write_modify_dn(&mut out, id, token, b"cn=y", true, None),
        5 => message::write_extended_request(&mut out, id, "1.2.3.4", Some(token)),
        _ => {
            let spec = SearchSpec {
                base: token,
                scope: Scope::Subtree,
                deref: 0,
                size_limit: 0,
                time_limit: 0,
                types_only: false,
                filter: message::FILTER_ANY_ENTRY,
                attributes: &[],
            };
            message::write_search(&mut out, id, &spec);
        }
    }
    controls(bytes, &out)
}

/// A bind of any kind.
pub(crate) fn bind(bytes: &mut Bytes<'_>, id: i32) -> Vec<u8> {
    let name = format!("cn={}", bytes.pick(4));
    let mut out = Vec::new();
    match bytes.pick(12) {
        0 => message::write_simple_bind(&mut out, id, b"", b""),
        1 => message::write_simple_bind(&mut out, id, name.as_bytes(), b""),
        2 => message::write_sasl_bind(&mut out, id, b"", "PLAIN", Some(b"x")),
        3 => {
            message::write_simple_bind(&mut out, id, name.as_bytes(), b"secret");
            if let Some(at) = out.windows(3).rposition(|three| three == [2, 1, 3]) {
                out[at + 2] = 2;
            }
        }
        _ => message::write_simple_bind(&mut out, id, name.as_bytes(), b"secret"),
    }
    controls(bytes, &out)
}

pub(crate) fn abandon(id: i32, target: i32) -> Vec<u8> {
    let mut out = Vec::new();
    message::write_abandon(&mut out, id, target);
    out
}

pub(crate) fn cancel(id: i32, target: i32) -> Vec<u8> {
    let mut out = Vec::new();
    message::write_cancel(&mut out, id, target);
    out
}

pub(crate) fn unbind(id: i32) -> Vec<u8> {
    let mut out = Vec::new();
    message::write_unbind(&mut out, id);
    out
}

/// Who am I? or StartTLS.
pub(crate) fn ours(bytes: &mut Bytes<'_>, id: i32) -> Vec<u8> {
    let (mut out, value) = (Vec::new(), (bytes.pick(8) == 0).then_some(&b""[..]));
    let oid = if bytes.pick(4) == 0 {
        oid::START_TLS
    } else {
        oid::WHO_AM_I
    };
    message::write_extended_request(&mut out, id, oid, value);
    controls(bytes, &out)
}

/// One bit of it is another, or it ends early.
pub(crate) fn mutated(bytes: &mut Bytes<'_>, mut frame: Vec<u8>) -> Vec<u8> {
    let (at, bit) = (bytes.pick(256) % frame.len().max(1), bytes.pick(9));
    match frame.get_mut(at) {
        Some(byte) if bit < 8 => *byte ^= 1 << bit,
        _ => frame.truncate(at),
    }
    frame
}

/// The message, one time in four with controls.
fn controls(bytes: &mut Bytes<'_>, frame: &[u8]) -> Vec<u8> {
    let mut controls = Vec::new();
    let mut with = |oid: &str| control::write_control(&mut controls, oid, false, Some(b"\x30\x03\x0a\x01\x03"));
    match bytes.pick(24) {
        0 => with(control_oid::MANAGE_DSA_IT),
        1 => with(control_oid::SYNC_REQUEST),
        2 => with(control_oid::PERSISTENT_SEARCH),
        3 => with(control_oid::PROXIED_AUTHORIZATION),
        4 => {
            with(control_oid::MANAGE_DSA_IT);
            with(control_oid::PROXIED_AUTHORIZATION_V1);
        }
        5 => controls.extend_from_slice(b"\x30\x05"),
        _ => return frame.to_vec(),
    }
    let env = peek(frame).expect("what is written is a message");
    let mut out = Vec::new();
    write(&mut out, env.id, env.op, &controls, b"");
    out
}

/// What a request is about, as far as an answer can show it.
pub(crate) fn token(tag: u8, op: &[u8]) -> Vec<u8> {
    let env = wire::ldap::envelope::Envelope {
        id: 1,
        tag,
        op,
        controls: b"",
    };
    match tag {
        tag::EXTENDED_REQUEST => wire::ldap::grammar::extended(op)
            .ok()
            .and_then(|extended| extended.value),
        _ => wire::ldap::grammar::target(&env),
    }
    .unwrap_or_default()
    .to_vec()
}

/// An operation with one bit changed.
pub(crate) fn broken(op: &[u8], at: usize) -> Vec<u8> {
    let mut op = op.to_vec();
    let bits = op.len().max(1) * 8;
    let at = at % bits;
    match op.get_mut(at / 8) {
        Some(byte) => *byte ^= 1 << (at % 8),
        None => ber::write_bytes(&mut op, 0x5E, b""),
    }
    op
}
