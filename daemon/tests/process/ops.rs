//! Requests of RFC 4511, each the octets of a protocolOp.

use crate::ber::{boolean, int, seq, text, tlv};

pub(crate) const SEARCH_ENTRY: u8 = 0x64;
pub(crate) const SEARCH_DONE: u8 = 0x65;
pub(crate) const SEARCH_REFERENCE: u8 = 0x73;
pub(crate) const BIND_RESPONSE: u8 = 0x61;
pub(crate) const EXTENDED_RESPONSE: u8 = 0x78;
pub(crate) const INTERMEDIATE: u8 = 0x79;
pub(crate) const OID_DISCONNECTION: &str = "1.3.6.1.4.1.1466.20036";
pub(crate) const OID_START_TLS: &str = "1.3.6.1.4.1.1466.20037";
pub(crate) const OID_WHOAMI: &str = "1.3.6.1.4.1.4203.1.11.3";
pub(crate) const OID_PASSWORD_MODIFY: &str = "1.3.6.1.4.1.4203.1.11.1";
pub(crate) const OID_CANCEL: &str = "1.3.6.1.1.8";
pub(crate) const OID_PROXIED: &str = "2.16.840.1.113730.3.4.18";

/// Scopes of a search.
pub(crate) const BASE: i64 = 0;
pub(crate) const ONE: i64 = 1;
pub(crate) const SUB: i64 = 2;
pub(crate) const SUBORDINATE: i64 = 3;

pub(crate) fn bind(dn: &str, password: &str) -> Vec<u8> {
    bind_version(3, dn, password)
}

pub(crate) fn bind_version(version: i64, dn: &str, password: &str) -> Vec<u8> {
    seq(0x60, &[int(0x02, version), text(dn), tlv(0x80, password.as_bytes())])
}

pub(crate) fn unbind() -> Vec<u8> {
    tlv(0x42, &[])
}

pub(crate) fn abandon(id: i64) -> Vec<u8> {
    int(0x50, id)
}

/// A search; see [`Search`] for limits and the like.
pub(crate) fn search(base: &str, scope: i64, filter: &[u8], attributes: &[&str]) -> Vec<u8> {
    Search::default().op(base, scope, filter, attributes)
}

/// The rarer fields of a search.
#[derive(Default, Clone, Copy)]
pub(crate) struct Search {
    pub(crate) size_limit: i64,
    pub(crate) time_limit: i64,
    pub(crate) types_only: bool,
    pub(crate) dereference: i64,
}

impl Search {
    pub(crate) fn op(self, base: &str, scope: i64, filter: &[u8], attributes: &[&str]) -> Vec<u8> {
        let attributes: Vec<Vec<u8>> = attributes.iter().map(text).collect();
        seq(
            0x63,
            &[
                text(base),
                int(0x0A, scope),
                int(0x0A, self.dereference),
                int(0x02, self.size_limit),
                int(0x02, self.time_limit),
                boolean(self.types_only),
                filter.to_vec(),
                seq(0x30, &attributes),
            ],
        )
    }
}

pub(crate) fn present(attribute: &str) -> Vec<u8> {
    tlv(0x87, attribute.as_bytes())
}

pub(crate) fn equal(attribute: &str, value: &str) -> Vec<u8> {
    seq(0xA3, &[text(attribute), text(value)])
}

pub(crate) fn at_least(attribute: &str, value: &str) -> Vec<u8> {
    seq(0xA5, &[text(attribute), text(value)])
}

pub(crate) fn at_most(attribute: &str, value: &str) -> Vec<u8> {
    seq(0xA6, &[text(attribute), text(value)])
}

pub(crate) fn approximately(attribute: &str, value: &str) -> Vec<u8> {
    seq(0xA8, &[text(attribute), text(value)])
}

/// Substrings: the pieces between asterisks, as `pieces("cn", "a*b*c")`.
pub(crate) fn pieces(attribute: &str, pattern: &str) -> Vec<u8> {
    let parts: Vec<&str> = pattern.split('*').collect();
    let last = parts.len() - 1;
    let tag = |index| {
        if index == 0 {
            0x80
        } else if index == last {
            0x82
        } else {
            0x81
        }
    };
    let pieces = parts.iter().enumerate().filter(|(_, part)| !part.is_empty());
    let pieces: Vec<Vec<u8>> = pieces.map(|(index, part)| tlv(tag(index), part.as_bytes())).collect();
    seq(0xA4, &[text(attribute), seq(0x30, &pieces)])
}

/// extensibleMatch: rule, attribute, value, DN attributes.
pub(crate) fn extensible(rule: Option<&str>, attribute: Option<&str>, value: &str, dn: bool) -> Vec<u8> {
    let mut parts = Vec::new();
    parts.extend(rule.map(|rule| tlv(0x81, rule.as_bytes())));
    parts.extend(attribute.map(|attribute| tlv(0x82, attribute.as_bytes())));
    parts.push(tlv(0x83, value.as_bytes()));
    if dn {
        parts.push(tlv(0x84, &[0xFF]));
    }
    seq(0xA9, &parts)
}

pub(crate) fn and(parts: &[Vec<u8>]) -> Vec<u8> {
    seq(0xA0, parts)
}

pub(crate) fn or(parts: &[Vec<u8>]) -> Vec<u8> {
    seq(0xA1, parts)
}

pub(crate) fn not(part: Vec<u8>) -> Vec<u8> {
    seq(0xA2, &[part])
}

pub(crate) fn compare(dn: &str, attribute: &str, value: &str) -> Vec<u8> {
    seq(0x6E, &[text(dn), seq(0x30, &[text(attribute), text(value)])])
}

/// Attributes and their values.
type Attributes<'a> = &'a [(&'a str, &'a [&'a str])];

fn attribute(name: &str, values: &[&str]) -> Vec<u8> {
    let values: Vec<Vec<u8>> = values.iter().map(text).collect();
    seq(0x30, &[text(name), seq(0x31, &values)])
}

pub(crate) fn add(dn: &str, attributes: Attributes<'_>) -> Vec<u8> {
    let list: Vec<Vec<u8>> = attributes
        .iter()
        .map(|(name, values)| attribute(name, values))
        .collect();
    seq(0x68, &[text(dn), seq(0x30, &list)])
}

/// What a modification does.
pub(crate) const ADD: i64 = 0;
pub(crate) const DELETE: i64 = 1;
pub(crate) const REPLACE: i64 = 2;

pub(crate) fn modify(dn: &str, changes: &[(i64, &str, &[&str])]) -> Vec<u8> {
    let change = |(kind, name, values): &(i64, &str, &[&str])| seq(0x30, &[int(0x0A, *kind), attribute(name, values)]);
    let list: Vec<Vec<u8>> = changes.iter().map(change).collect();
    seq(0x66, &[text(dn), seq(0x30, &list)])
}

pub(crate) fn delete(dn: &str) -> Vec<u8> {
    tlv(0x4A, dn.as_bytes())
}

pub(crate) fn rename(dn: &str, new_rdn: &str, delete_old: bool, new_parent: Option<&str>) -> Vec<u8> {
    let mut parts = vec![text(dn), text(new_rdn), boolean(delete_old)];
    parts.extend(new_parent.map(|parent| tlv(0x80, parent.as_bytes())));
    seq(0x6C, &parts)
}

pub(crate) fn extended(oid: &str, value: Option<&[u8]>) -> Vec<u8> {
    let mut parts = vec![tlv(0x80, oid.as_bytes())];
    parts.extend(value.map(|value| tlv(0x81, value)));
    seq(0x77, &parts)
}

pub(crate) fn start_tls() -> Vec<u8> {
    extended(OID_START_TLS, None)
}

pub(crate) fn whoami() -> Vec<u8> {
    extended(OID_WHOAMI, None)
}

/// RFC 3909.
pub(crate) fn cancel(id: i64) -> Vec<u8> {
    extended(OID_CANCEL, Some(&seq(0x30, &[int(0x02, id)])))
}

/// RFC 3062.
pub(crate) fn password_modify(user: Option<&str>, old: Option<&str>, new: Option<&str>) -> Vec<u8> {
    let fields = [(0x80, user), (0x81, old), (0x82, new)];
    let parts: Vec<Vec<u8>> = fields
        .iter()
        .filter_map(|(tag, field)| field.map(|field| tlv(*tag, field.as_bytes())))
        .collect();
    extended(OID_PASSWORD_MODIFY, Some(&seq(0x30, &parts)))
}
