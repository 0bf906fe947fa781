//! Filters made of parts. They are encoded at once, so that no value can be taken for a part of the filter.

use wire::ber;
use wire::ldap::grammar::filter_tag as tag;

/// Everything.
pub use wire::ldap::message::FILTER_ANY_ENTRY as ANY;

/// `(attribute=value)`
pub fn equal(attribute: &str, value: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(attribute.len() + value.len() + 8);
    ber::nest(&mut out, tag::EQUALITY, |out| {
        ber::write_bytes(out, ber::tag::OCTET_STRING, attribute.as_bytes());
        ber::write_bytes(out, ber::tag::OCTET_STRING, value);
    });
    out
}

/// All of these.
pub fn and<'f>(parts: impl IntoIterator<Item = &'f [u8]>) -> Vec<u8> {
    list(tag::AND, parts)
}

/// One of these.
pub fn or<'f>(parts: impl IntoIterator<Item = &'f [u8]>) -> Vec<u8> {
    list(tag::OR, parts)
}

/// Not this.
pub fn not(part: &[u8]) -> Vec<u8> {
    list(tag::NOT, [part])
}

/// `(attribute=*)`
pub fn present(attribute: &str) -> Vec<u8> {
    let mut out = Vec::new();
    ber::write_bytes(&mut out, tag::PRESENT, attribute.as_bytes());
    out
}

fn list<'f>(tag: u8, parts: impl IntoIterator<Item = &'f [u8]>) -> Vec<u8> {
    let mut out = Vec::new();
    ber::nest(&mut out, tag, |out| {
        for part in parts {
            out.extend_from_slice(part);
        }
    });
    out
}
