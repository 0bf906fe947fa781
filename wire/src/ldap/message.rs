//! Encoders of requests, for what usherd asks itself (handshakes, probes, the load generator, tests), and of entries, for
//! what it answers itself (the local directory); readers of what comes back between request and result.
//!
//! All take the message id, 0 to 2^31-1, and append one whole LDAPMessage with the shortest lengths. Controls are added
//! by sending the operation through [`super::envelope::write`].

use super::envelope::tag;
use super::grammar::Scope;
use crate::ber::{self, Reader, Strings};
use crate::frame::Malformed;

/// Object identifiers of extended operations and unsolicited notifications.
pub mod oid {
    /// StartTLS (RFC 4511 section 4.14).
    pub const START_TLS: &str = "1.3.6.1.4.1.1466.20037";
    /// Notice of disconnection (RFC 4511 section 4.4.1).
    pub const NOTICE_OF_DISCONNECTION: &str = "1.3.6.1.4.1.1466.20036";
    /// Who am I? (RFC 4532).
    pub const WHO_AM_I: &str = "1.3.6.1.4.1.4203.1.11.3";
    /// Password Modify (RFC 3062).
    pub const PASSWORD_MODIFY: &str = "1.3.6.1.4.1.4203.1.11.1";
    /// Cancel (RFC 3909).
    pub const CANCEL: &str = "1.3.6.1.1.8";
    /// Refresh of dynamic entries (RFC 2589).
    pub const REFRESH: &str = "1.3.6.1.4.1.1466.101.119.1";
    /// Start of a transaction (RFC 5805).
    pub const TRANSACTION_START: &str = "1.3.6.1.1.21.1";
    /// End of a transaction (RFC 5805).
    pub const TRANSACTION_END: &str = "1.3.6.1.1.21.3";
    /// Notice that a transaction was aborted (RFC 5805).
    pub const TRANSACTION_ABORTED: &str = "1.3.6.1.1.21.4";
    /// Verify Credentials (OpenLDAP).
    pub const VERIFY_CREDENTIALS: &str = "1.3.6.1.4.1.4203.666.6.5";
    /// Turn (RFC 4531): the two ends of a connection change places.
    pub const TURN: &str = "1.3.6.1.1.19";
    /// Active Directory's fast bind: from then on a connection is for checking passwords alone.
    pub const FAST_BIND: &str = "1.2.840.113556.1.4.1781";
    /// Sync info, an intermediate response (RFC 4533).
    pub const SYNC_INFO: &str = "1.3.6.1.4.1.4203.1.9.1.4";
}

/// What a search asks.
#[derive(Clone, Copy, Debug)]
pub struct SearchSpec<'a> {
    /// Where to begin.
    pub base: &'a [u8],
    /// How far to go.
    pub scope: Scope,
    /// derefAliases, 0 (never) to 3 (always).
    pub deref: i32,
    /// Entries at most; 0 is no limit.
    pub size_limit: i32,
    /// Seconds at most; 0 is no limit.
    pub time_limit: i32,
    /// Whether values are left out.
    pub types_only: bool,
    /// The whole encoded Filter.
    pub filter: &'a [u8],
    /// The attributes wanted; none means all of the user's.
    pub attributes: &'a [&'a str],
}

/// An encoded `(objectClass=*)`, which is true of every entry.
pub const FILTER_ANY_ENTRY: &[u8] = b"\x87\x0bobjectClass";

/// One change to be asked of a modify request.
#[derive(Clone, Copy, Debug)]
pub struct ChangeSpec<'a> {
    /// add 0, delete 1, replace 2, increment 3.
    pub operation: i32,
    /// The attribute's description.
    pub name: &'a [u8],
    /// Its values.
    pub values: &'a [&'a [u8]],
}

/// A simple bind. The password stands in `out` in clear; that buffer is the caller's to wipe.
pub fn write_simple_bind(out: &mut Vec<u8>, id: i32, dn: &[u8], password: &[u8]) {
    write_bind(out, id, dn, |out| ber::write_bytes(out, 0x80, password));
}

/// One step of a SASL bind.
pub fn write_sasl_bind(out: &mut Vec<u8>, id: i32, dn: &[u8], mechanism: &str, credentials: Option<&[u8]>) {
    write_bind(out, id, dn, |out| {
        ber::nest(out, 0xA3, |out| {
            ber::write_bytes(out, ber::tag::OCTET_STRING, mechanism.as_bytes());
            if let Some(credentials) = credentials {
                ber::write_bytes(out, ber::tag::OCTET_STRING, credentials);
            }
        });
    });
}

/// An unbind.
pub fn write_unbind(out: &mut Vec<u8>, id: i32) {
    write_message(out, id, |out| ber::write_bytes(out, tag::UNBIND_REQUEST, b""));
}

/// An abandon of the operation with the id `target`.
pub fn write_abandon(out: &mut Vec<u8>, id: i32, target: i32) {
    write_message(out, id, |out| ber::write_integer(out, tag::ABANDON_REQUEST, target));
}

/// A search.
pub fn write_search(out: &mut Vec<u8>, id: i32, search: &SearchSpec<'_>) {
    write_op(out, id, tag::SEARCH_REQUEST, |out| {
        ber::write_bytes(out, ber::tag::OCTET_STRING, search.base);
        ber::write_integer(out, ber::tag::ENUMERATED, search.scope.code());
        ber::write_integer(out, ber::tag::ENUMERATED, search.deref);
        ber::write_integer(out, ber::tag::INTEGER, search.size_limit);
        ber::write_integer(out, ber::tag::INTEGER, search.time_limit);
        ber::write_boolean(out, ber::tag::BOOLEAN, search.types_only);
        out.extend_from_slice(search.filter);
        ber::nest(out, ber::tag::SEQUENCE, |out| {
            write_strings(out, search.attributes.iter().map(|name| name.as_bytes()))
        });
    });
}

/// A compare.
pub fn write_compare(out: &mut Vec<u8>, id: i32, dn: &[u8], attribute: &[u8], value: &[u8]) {
    write_op(out, id, tag::COMPARE_REQUEST, |out| {
        ber::write_bytes(out, ber::tag::OCTET_STRING, dn);
        ber::nest(out, ber::tag::SEQUENCE, |out| write_strings(out, [attribute, value]));
    });
}

/// An add of an entry with these attributes, each with its values.
pub fn write_add(out: &mut Vec<u8>, id: i32, dn: &[u8], attributes: &[(&[u8], &[&[u8]])]) {
    write_op(out, id, tag::ADD_REQUEST, |out| {
        ber::write_bytes(out, ber::tag::OCTET_STRING, dn);
        ber::nest(out, ber::tag::SEQUENCE, |out| {
            attributes
                .iter()
                .for_each(|(name, values)| write_attribute(out, name, values.iter().copied()));
        });
    });
}

/// A modify.
pub fn write_modify(out: &mut Vec<u8>, id: i32, dn: &[u8], changes: &[ChangeSpec<'_>]) {
    write_op(out, id, tag::MODIFY_REQUEST, |out| {
        ber::write_bytes(out, ber::tag::OCTET_STRING, dn);
        ber::nest(out, ber::tag::SEQUENCE, |out| {
            for change in changes {
                ber::nest(out, ber::tag::SEQUENCE, |out| {
                    ber::write_integer(out, ber::tag::ENUMERATED, change.operation);
                    write_attribute(out, change.name, change.values.iter().copied());
                });
            }
        });
    });
}

/// A delete.
pub fn write_delete(out: &mut Vec<u8>, id: i32, dn: &[u8]) {
    write_message(out, id, |out| ber::write_bytes(out, tag::DELETE_REQUEST, dn));
}

/// A modify DN, under `new_superior` where it moves.
pub fn write_modify_dn(
    out: &mut Vec<u8>,
    id: i32,
    dn: &[u8],
    new_rdn: &[u8],
    delete_old_rdn: bool,
    new_superior: Option<&[u8]>,
) {
    write_op(out, id, tag::MODIFY_DN_REQUEST, |out| {
        write_strings(out, [dn, new_rdn]);
        ber::write_boolean(out, ber::tag::BOOLEAN, delete_old_rdn);
        if let Some(new_superior) = new_superior {
            ber::write_bytes(out, 0x80, new_superior);
        }
    });
}

/// An extended request.
pub fn write_extended_request(out: &mut Vec<u8>, id: i32, oid: &str, value: Option<&[u8]>) {
    write_op(out, id, tag::EXTENDED_REQUEST, |out| {
        ber::write_bytes(out, 0x80, oid.as_bytes());
        if let Some(value) = value {
            ber::write_bytes(out, 0x81, value);
        }
    });
}

/// A Cancel (RFC 3909) of the operation with the id `target`.
pub fn write_cancel(out: &mut Vec<u8>, id: i32, target: i32) {
    let mut value = Vec::with_capacity(8);
    ber::nest(&mut value, ber::tag::SEQUENCE, |out| {
        ber::write_integer(out, ber::tag::INTEGER, target)
    });
    write_extended_request(out, id, oid::CANCEL, Some(&value));
}

/// A Password Modify (RFC 3062); what is not given, the server chooses. The passwords stand in `out` in clear.
pub fn write_password_modify(
    out: &mut Vec<u8>,
    id: i32,
    user: Option<&[u8]>,
    old_password: Option<&[u8]>,
    new_password: Option<&[u8]>,
) {
    write_op(out, id, tag::EXTENDED_REQUEST, |out| {
        ber::write_bytes(out, 0x80, oid::PASSWORD_MODIFY.as_bytes());
        ber::nest(out, 0x81, |out| {
            ber::nest(out, ber::tag::SEQUENCE, |out| {
                for (tag, field) in [(0x80, user), (0x81, old_password), (0x82, new_password)] {
                    if let Some(field) = field {
                        ber::write_bytes(out, tag, field);
                    }
                }
            });
        });
    });
}

/// A search result entry with these attributes; an attribute without values is written with its name alone.
pub fn write_entry<'v, A, V>(out: &mut Vec<u8>, id: i32, dn: &[u8], attributes: A)
where
    A: IntoIterator<Item = (&'v [u8], V)>,
    V: IntoIterator<Item = &'v [u8]>,
{
    write_entry_with(out, id, dn, |out| {
        attributes
            .into_iter()
            .for_each(|(name, values)| write_attribute(out, name, values));
    });
}

/// A search result entry whose attributes `fill` appends, each by [`write_attribute`] or already encoded.
pub fn write_entry_with(out: &mut Vec<u8>, id: i32, dn: &[u8], fill: impl FnOnce(&mut Vec<u8>)) {
    write_op(out, id, tag::SEARCH_ENTRY, |out| {
        ber::write_bytes(out, ber::tag::OCTET_STRING, dn);
        ber::nest(out, ber::tag::SEQUENCE, fill);
    });
}

/// One PartialAttribute: not a message, but a part of an entry.
pub fn write_attribute<'v>(out: &mut Vec<u8>, name: &[u8], values: impl IntoIterator<Item = &'v [u8]>) {
    ber::nest(out, ber::tag::SEQUENCE, |out| {
        ber::write_bytes(out, ber::tag::OCTET_STRING, name);
        ber::nest(out, ber::tag::SET, |out| write_strings(out, values));
    });
}

/// A search result reference to these URIs.
pub fn write_search_reference<'u>(out: &mut Vec<u8>, id: i32, uris: impl IntoIterator<Item = &'u [u8]>) {
    write_op(out, id, tag::SEARCH_REFERENCE, |out| write_strings(out, uris));
}

/// An intermediate response.
pub fn write_intermediate(out: &mut Vec<u8>, id: i32, name: Option<&str>, value: Option<&[u8]>) {
    write_op(out, id, tag::INTERMEDIATE_RESPONSE, |out| {
        for (tag, field) in [(0x80, name.map(str::as_bytes)), (0x81, value)] {
            if let Some(field) = field {
                ber::write_bytes(out, tag, field);
            }
        }
    });
}

/// A search result entry, borrowed.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// Its name.
    pub dn: &'a [u8],
    /// Its attributes.
    pub attributes: PartialAttributes<'a>,
}

/// An attribute of an entry, borrowed.
#[derive(Clone, Copy, Debug)]
pub struct PartialAttribute<'a> {
    /// Its description.
    pub name: &'a [u8],
    /// Its values.
    pub values: Strings<'a>,
    /// The whole encoded attribute.
    pub whole: &'a [u8],
}

/// The attributes of an entry, each seen to be whole when this was made, so that going through them cannot fail.
#[derive(Clone, Copy, Debug)]
pub struct PartialAttributes<'a> {
    rest: Reader<'a>,
}

/// An intermediate response, borrowed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Intermediate<'a> {
    /// responseName.
    pub name: Option<&'a [u8]>,
    /// responseValue.
    pub value: Option<&'a [u8]>,
}

/// Reads a search result entry's protocolOp.
///
/// # Errors
/// It is none, or malformed.
pub fn read_entry(op: &[u8]) -> Result<Entry<'_>, Malformed> {
    let mut fields = Reader::inside(op, tag::SEARCH_ENTRY)?;
    let dn = fields.take(ber::tag::OCTET_STRING)?;
    let attributes = PartialAttributes::new(fields.take(ber::tag::SEQUENCE)?)?;
    fields.finish()?;
    Ok(Entry { dn, attributes })
}

/// Reads a search result reference's protocolOp: URIs.
///
/// # Errors
/// It is none, or malformed.
pub fn read_search_reference(op: &[u8]) -> Result<Strings<'_>, Malformed> {
    Strings::new(Reader::inside(op, tag::SEARCH_REFERENCE)?.rest())
}

/// Reads an intermediate response's protocolOp.
///
/// # Errors
/// It is none, or malformed.
pub fn read_intermediate(op: &[u8]) -> Result<Intermediate<'_>, Malformed> {
    let mut fields = Reader::inside(op, tag::INTERMEDIATE_RESPONSE)?;
    let name = fields.take_optional(0x80)?;
    let value = fields.take_optional(0x81)?;
    fields.finish()?;
    Ok(Intermediate { name, value })
}

impl<'a> PartialAttributes<'a> {
    /// The attributes in `content`, the content of a list of attributes.
    ///
    /// # Errors
    /// Something in it is no whole attribute.
    pub fn new(content: &'a [u8]) -> Result<Self, Malformed> {
        let attributes = Self {
            rest: Reader::new(content),
        };
        let mut walk = attributes.rest;
        while !walk.is_empty() {
            attribute(&mut walk, Strings::new)?;
        }
        Ok(attributes)
    }
}

impl<'a> Iterator for PartialAttributes<'a> {
    type Item = PartialAttribute<'a>;

    fn next(&mut self) -> Option<PartialAttribute<'a>> {
        attribute(&mut self.rest, |content| Ok(Strings::of_whole(content))).ok()
    }
}

#[inline]
fn attribute<'a>(
    level: &mut Reader<'a>,
    strings: impl FnOnce(&'a [u8]) -> Result<Strings<'a>, Malformed>,
) -> Result<PartialAttribute<'a>, Malformed> {
    let outer = level.element()?;
    if outer.tag != ber::tag::SEQUENCE {
        return Err(Malformed::BadTag);
    }
    let mut fields = Reader::new(outer.content);
    let name = fields.take(ber::tag::OCTET_STRING)?;
    let values = strings(fields.take(ber::tag::SET)?)?;
    fields.finish()?;
    Ok(PartialAttribute {
        name,
        values,
        whole: outer.whole,
    })
}

fn write_message(out: &mut Vec<u8>, id: i32, op: impl FnOnce(&mut Vec<u8>)) {
    ber::nest(out, ber::tag::SEQUENCE, |out| {
        ber::write_integer(out, ber::tag::INTEGER, id);
        op(out);
    });
}

fn write_op(out: &mut Vec<u8>, id: i32, tag: u8, fields: impl FnOnce(&mut Vec<u8>)) {
    write_message(out, id, |out| ber::nest(out, tag, fields));
}

fn write_bind(out: &mut Vec<u8>, id: i32, dn: &[u8], auth: impl FnOnce(&mut Vec<u8>)) {
    write_op(out, id, tag::BIND_REQUEST, |out| {
        ber::write_integer(out, ber::tag::INTEGER, 3);
        ber::write_bytes(out, ber::tag::OCTET_STRING, dn);
        auth(out);
    });
}

fn write_strings<'v>(out: &mut Vec<u8>, strings: impl IntoIterator<Item = &'v [u8]>) {
    strings
        .into_iter()
        .for_each(|string| ber::write_bytes(out, ber::tag::OCTET_STRING, string));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ldap::envelope::peek;

    #[test]
    fn an_entry_is_written_and_read() {
        let long = vec![b'x'; 300];
        let mut out = Vec::new();
        let attributes: [(&[u8], &[&[u8]]); 3] = [
            (b"cn", &[b"Ada", b"Ada Lovelace"]),
            (b"jpegPhoto", &[&long]),
            (b"uid", &[]),
        ];
        write_entry(
            &mut out,
            3,
            b"uid=ada",
            attributes.map(|(name, values)| (name, values.iter().copied())),
        );
        let envelope = peek(&out).unwrap();
        assert_eq!((envelope.id, envelope.tag), (3, tag::SEARCH_ENTRY));
        let entry = read_entry(envelope.op).unwrap();
        assert_eq!(entry.dn, b"uid=ada");
        let seen: Vec<(&[u8], Vec<&[u8]>)> = entry
            .attributes
            .map(|attribute| (attribute.name, attribute.values.collect()))
            .collect();
        assert_eq!(seen, attributes.map(|(name, values)| (name, values.to_vec())));
        for cut in 0..envelope.op.len() {
            assert!(read_entry(&envelope.op[..cut]).is_err());
        }
    }

    #[test]
    fn references_and_intermediates_are_written_and_read() {
        let mut out = Vec::new();
        write_search_reference(&mut out, 4, [&b"ldap://a/"[..], b"ldap://b/"]);
        assert_eq!(out, b"\x30\x1b\x02\x01\x04\x73\x16\x04\x09ldap://a/\x04\x09ldap://b/");
        let uris: Vec<_> = read_search_reference(peek(&out).unwrap().op).unwrap().collect();
        assert_eq!(uris, [b"ldap://a/", b"ldap://b/"]);

        let mut out = Vec::new();
        write_intermediate(&mut out, 5, Some(oid::SYNC_INFO), Some(b"\x80\x01c"));
        let seen = read_intermediate(peek(&out).unwrap().op).unwrap();
        assert_eq!(
            seen,
            Intermediate {
                name: Some(oid::SYNC_INFO.as_bytes()),
                value: Some(b"\x80\x01c")
            }
        );
    }

    /// What OpenLDAP's tools send, byte for byte.
    #[test]
    fn requests_are_what_other_clients_send() {
        let mut out = Vec::new();
        write_simple_bind(&mut out, 1, b"cn=admin,dc=org", b"secret");
        assert_eq!(
            out,
            b"\x30\x21\x02\x01\x01\x60\x1c\x02\x01\x03\x04\x0fcn=admin,dc=org\x80\x06secret"
        );
        out.clear();
        write_unbind(&mut out, 3);
        assert_eq!(out, b"\x30\x05\x02\x01\x03\x42\x00");
        out.clear();
        write_abandon(&mut out, 6, 5);
        assert_eq!(out, b"\x30\x06\x02\x01\x06\x50\x01\x05");
        out.clear();
        write_extended_request(&mut out, 1, oid::WHO_AM_I, None);
        assert_eq!(out, b"\x30\x1e\x02\x01\x01\x77\x19\x80\x171.3.6.1.4.1.4203.1.11.3");
        out.clear();
        write_delete(&mut out, 2, b"cn=x");
        assert_eq!(out, b"\x30\x09\x02\x01\x02\x4a\x04cn=x");
        out.clear();
        write_cancel(&mut out, 9, 8);
        assert_eq!(
            out,
            b"\x30\x19\x02\x01\x09\x77\x14\x80\x0b1.3.6.1.1.8\x81\x05\x30\x03\x02\x01\x08"
        );
    }
}
