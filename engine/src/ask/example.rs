//! Entries for tests of sessions, which know nothing of LDAP but what is said here.

use wire::ldap::{envelope, message};

use super::Entry;

/// The message of a search result entry.
pub(crate) fn entry(dn: &str, attributes: &[(&str, &[&str])]) -> Vec<u8> {
    let mut out = Vec::new();
    let attributes = attributes
        .iter()
        .map(|(name, values)| (name.as_bytes(), values.iter().map(|value| value.as_bytes())));
    message::write_entry(&mut out, 1, dn.as_bytes(), attributes);
    out
}

/// The entry of such a message.
pub(crate) fn read(message: &[u8]) -> Entry<'_> {
    message::read_entry(envelope::peek(message).unwrap().op).unwrap()
}
