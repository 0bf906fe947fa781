//! Controls (RFC 4511 section 4.1.11): going through those of a message, and writing the one that usherd adds itself.

use crate::ber::{self, Reader};
use crate::frame::Malformed;

/// Object identifiers of controls that a balancer has to know by name.
pub mod oid {
    /// Proxied authorization (RFC 4370).
    pub const PROXIED_AUTHORIZATION: &str = "2.16.840.1.113730.3.4.18";
    /// Proxied authorization, version 1 (draft-weltman-ldapv3-proxy-04).
    pub const PROXIED_AUTHORIZATION_V1: &str = "2.16.840.1.113730.3.4.12";
    /// Group authorization (IBM): the groups that whoever asks is in, as the connection's owner says.
    pub const GROUP_AUTHORIZATION: &str = "1.3.18.0.2.10.21";
    /// Retain identity (UnboundID): a bind after which the connection is whose it was before.
    pub const RETAIN_IDENTITY: &str = "1.3.6.1.4.1.30221.2.5.3";
    /// Paged results (RFC 2696); its cookie lives on a connection.
    pub const PAGED_RESULTS: &str = "1.2.840.113556.1.4.319";
    /// Server-side sorting, request (RFC 2891).
    pub const SORT_REQUEST: &str = "1.2.840.113556.1.4.473";
    /// Server-side sorting, response (RFC 2891).
    pub const SORT_RESPONSE: &str = "1.2.840.113556.1.4.474";
    /// Virtual list view, request (draft-ietf-ldapext-ldapv3-vlv-09).
    pub const VIRTUAL_LIST_VIEW_REQUEST: &str = "2.16.840.1.113730.3.4.9";
    /// Virtual list view, response (draft-ietf-ldapext-ldapv3-vlv-09).
    pub const VIRTUAL_LIST_VIEW_RESPONSE: &str = "2.16.840.1.113730.3.4.10";
    /// Persistent search (draft-ietf-ldapext-psearch-03).
    pub const PERSISTENT_SEARCH: &str = "2.16.840.1.113730.3.4.3";
    /// Entry change notification of a persistent search (draft-ietf-ldapext-psearch-03).
    pub const ENTRY_CHANGE_NOTIFICATION: &str = "2.16.840.1.113730.3.4.7";
    /// Sync request (RFC 4533).
    pub const SYNC_REQUEST: &str = "1.3.6.1.4.1.4203.1.9.1.1";
    /// Sync state, with each entry (RFC 4533).
    pub const SYNC_STATE: &str = "1.3.6.1.4.1.4203.1.9.1.2";
    /// Sync done, with the result (RFC 4533).
    pub const SYNC_DONE: &str = "1.3.6.1.4.1.4203.1.9.1.3";
    /// Manage DSA IT (RFC 3296).
    pub const MANAGE_DSA_IT: &str = "2.16.840.1.113730.3.4.2";
    /// Subentries (RFC 3672).
    pub const SUBENTRIES: &str = "1.3.6.1.4.1.4203.1.10.1";
    /// Assertion (RFC 4528).
    pub const ASSERTION: &str = "1.3.6.1.1.12";
    /// Pre-read entry (RFC 4527).
    pub const PRE_READ: &str = "1.3.6.1.1.13.1";
    /// Post-read entry (RFC 4527).
    pub const POST_READ: &str = "1.3.6.1.1.13.2";
    /// Transaction specification (RFC 5805).
    pub const TRANSACTION_SPECIFICATION: &str = "1.3.6.1.1.21.2";
    /// Authorization identity, request (RFC 3829).
    pub const AUTHORIZATION_IDENTITY_REQUEST: &str = "2.16.840.1.113730.3.4.16";
    /// Authorization identity, response (RFC 3829).
    pub const AUTHORIZATION_IDENTITY_RESPONSE: &str = "2.16.840.1.113730.3.4.15";
    /// Password policy (draft-behera-ldap-password-policy-10).
    pub const PASSWORD_POLICY: &str = "1.3.6.1.4.1.42.2.27.8.5.1";
    /// Session tracking (draft-wahl-ldap-session-03).
    pub const SESSION_TRACKING: &str = "1.3.6.1.4.1.21008.108.63.1";
    /// What a session tracking control carries where that is the name of a user (section 3.2 of the same).
    pub const SESSION_TRACKING_USER_NAME: &str = "1.3.6.1.4.1.21008.108.63.1.3";
    /// Don't use copy (RFC 6171).
    pub const DONT_USE_COPY: &str = "1.3.6.1.1.22";
    /// No-Op (draft-zeilenga-ldap-noop-12).
    pub const NO_OP: &str = "1.3.6.1.4.1.4203.1.10.2";
    /// Active Directory's change notification.
    pub const CHANGE_NOTIFICATION: &str = "1.2.840.113556.1.4.528";
    /// Active Directory's DirSync.
    pub const DIR_SYNC: &str = "1.2.840.113556.1.4.841";
}

/// One control, borrowed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Control<'a> {
    /// The control's type: a numeric object identifier, checked to be digits and dots.
    pub oid: &'a [u8],
    /// Whether the operation must fail where this control is not understood.
    pub critical: bool,
    /// The content of controlValue, if there is one.
    pub value: Option<&'a [u8]>,
    /// The whole Control element as it was sent.
    pub whole: &'a [u8],
}

/// Goes through the controls of a message; after an error there is nothing more.
#[derive(Clone, Copy, Debug)]
pub struct Controls<'a> {
    rest: Reader<'a>,
}

/// The controls in `content`, the content of a message's Controls ([`super::envelope::Envelope::controls`]).
#[inline]
#[must_use]
pub fn controls(content: &[u8]) -> Controls<'_> {
    Controls {
        rest: Reader::new(content),
    }
}

impl<'a> Iterator for Controls<'a> {
    type Item = Result<Control<'a>, Malformed>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let control = control(&mut self.rest).map_err(|_| Malformed::BadControls);
        if control.is_err() {
            self.rest = Reader::new(&[]);
        }
        Some(control)
    }
}

/// Appends one critical proxied authorization control (RFC 4370), to be handed to [`super::envelope::write`] as `extra`.
///
/// `authzid` is an authorization identity of RFC 4513 section 5.2.1.8 (`dn:…`, `u:…`); empty means anonymous.
#[inline]
pub fn proxied_authorization(out: &mut Vec<u8>, authzid: &[u8]) {
    write_control(out, oid::PROXIED_AUTHORIZATION, true, Some(authzid));
}

/// Appends a session tracking control (draft-wahl-ldap-session-03): the address that a client has, empty where none is known;
/// the name of who adds the control; the client's identity, empty while it is anonymous. The texts are UTF-8 without control
/// characters, `source` of at most 128 octets.
pub fn session_tracking(out: &mut Vec<u8>, source: &[u8], name: &[u8], identity: &[u8]) {
    let parts = [source, name, oid::SESSION_TRACKING_USER_NAME.as_bytes(), identity];
    let inner_len = parts.iter().map(|part| ber::element_len(part.len())).sum();
    let value_len = ber::element_len(inner_len);
    let content_len = ber::element_len(oid::SESSION_TRACKING.len()) + ber::element_len(value_len);
    out.reserve(ber::element_len(content_len));
    ber::write_header(out, ber::tag::SEQUENCE, content_len);
    ber::write_bytes(out, ber::tag::OCTET_STRING, oid::SESSION_TRACKING.as_bytes());
    ber::write_header(out, ber::tag::OCTET_STRING, value_len);
    ber::write_header(out, ber::tag::SEQUENCE, inner_len);
    for part in parts {
        ber::write_bytes(out, ber::tag::OCTET_STRING, part);
    }
}

/// The value of a paged results control (RFC 2696): size and cookie. None where it is no such value.
#[must_use]
pub fn paged_results(value: &[u8]) -> Option<(i32, &[u8])> {
    let mut fields = Reader::inside(value, ber::tag::SEQUENCE).ok()?;
    let size = ber::integer(fields.take(ber::tag::INTEGER).ok()?).ok()?;
    let cookie = fields.take(ber::tag::OCTET_STRING).ok()?;
    fields.finish().ok()?;
    Some((size, cookie))
}

/// Appends one whole Control element. Criticality is written only when true, as RFC 4511 section 5.1 asks of defaults.
#[inline]
pub fn write_control(out: &mut Vec<u8>, oid: &str, critical: bool, value: Option<&[u8]>) {
    let content_len = ber::element_len(oid.len())
        + if critical { 3 } else { 0 }
        + value.map_or(0, |value| ber::element_len(value.len()));
    out.reserve(ber::element_len(content_len));
    ber::write_header(out, ber::tag::SEQUENCE, content_len);
    ber::write_bytes(out, ber::tag::OCTET_STRING, oid.as_bytes());
    if critical {
        ber::write_boolean(out, ber::tag::BOOLEAN, true);
    }
    if let Some(value) = value {
        ber::write_bytes(out, ber::tag::OCTET_STRING, value);
    }
}

/// Whether `oid` has the shape of a numericoid (RFC 4512 section 1.4): numbers without leading zeros between single dots. Each
/// has one spelling, so that nobody can mean one that is looked for and write another.
#[inline]
#[must_use]
pub fn is_numeric_oid(oid: &[u8]) -> bool {
    oid.split(|octet| *octet == b'.')
        .all(|number| matches!(number, [b'0'] | [b'1'..=b'9', ..]) && number.iter().all(u8::is_ascii_digit))
}

#[inline]
fn control<'a>(level: &mut Reader<'a>) -> Result<Control<'a>, Malformed> {
    let whole = level.element()?;
    if whole.tag != ber::tag::SEQUENCE {
        return Err(Malformed::BadTag);
    }
    let mut fields = Reader::new(whole.content);
    let oid = fields.take(ber::tag::OCTET_STRING)?;
    if !is_numeric_oid(oid) {
        return Err(Malformed::BadValue("a numeric object identifier"));
    }
    let critical = fields
        .take_optional(ber::tag::BOOLEAN)?
        .map_or(Ok(false), ber::boolean)?;
    let value = fields.take_optional(ber::tag::OCTET_STRING)?;
    fields.finish()?;
    Ok(Control {
        oid,
        critical,
        value,
        whole: whole.whole,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_numeric_oid_has_one_spelling() {
        for right in ["0", "1.1", "2.16.840.1.113730.3.4.18", "0.9.2342.19200300.100.1.25"] {
            assert!(is_numeric_oid(right.as_bytes()), "{right}");
        }
        for wrong in [
            "",
            ".",
            "1.",
            ".1",
            "1..1",
            "01",
            "2.16.840.1.113730.3.4.018",
            "1.00",
            "1.1 ",
            "1.a",
        ] {
            assert!(!is_numeric_oid(wrong.as_bytes()), "{wrong}");
        }
    }

    #[test]
    fn proxied_authorization_is_as_rfc_4370_has_it() {
        let mut out = Vec::new();
        proxied_authorization(&mut out, b"dn:uid=ada");
        let mut expected = vec![0x30, 0x29, 0x04, 0x18];
        expected.extend_from_slice(b"2.16.840.1.113730.3.4.18");
        expected.extend_from_slice(&[0x01, 0x01, 0xFF, 0x04, 0x0A]);
        expected.extend_from_slice(b"dn:uid=ada");
        assert_eq!(out, expected);

        // Anonymous is an empty value, not an absent one.
        let mut out = Vec::new();
        proxied_authorization(&mut out, b"");
        let control = controls(&out).next().unwrap().unwrap();
        assert_eq!((control.critical, control.value), (true, Some(&b""[..])));
    }

    #[test]
    fn session_tracking_is_as_the_draft_has_it() {
        let mut out = Vec::new();
        session_tracking(&mut out, b"192.0.2.1", b"app.example.com", b"ada");
        let mut found = controls(&out);
        let control = found.next().unwrap().unwrap();
        assert_eq!(found.next(), None);
        // It never is critical.
        assert_eq!(
            (control.oid, control.critical),
            (oid::SESSION_TRACKING.as_bytes(), false)
        );
        let mut expected = b"\x30\x3f\x04\x09192.0.2.1\x04\x0fapp.example.com\x04\x1c".to_vec();
        expected.extend_from_slice(b"1.3.6.1.4.1.21008.108.63.1.3\x04\x03ada");
        assert_eq!(control.value, Some(&expected[..]));
    }

    #[test]
    fn a_paged_results_value_is_as_rfc_2696_has_it() {
        assert_eq!(
            paged_results(b"\x30\x08\x02\x01\x0a\x04\x03abc"),
            Some((10, &b"abc"[..]))
        );
        assert_eq!(paged_results(b"\x30\x05\x02\x01\x00\x04\x00"), Some((0, &b""[..])));
        for bad in [
            &b""[..],
            b"\x30\x03\x02\x01\x00",
            b"\x30\x07\x02\x01\x00\x04\x00\x05\x00",
            b"\x31\x05\x02\x01\x00\x04\x00",
        ] {
            assert_eq!(paged_results(bad), None, "{bad:02x?}");
        }
    }

    #[test]
    fn controls_are_gone_through_in_order() {
        let mut content = Vec::new();
        write_control(&mut content, oid::MANAGE_DSA_IT, false, None);
        write_control(
            &mut content,
            oid::PAGED_RESULTS,
            true,
            Some(b"\x30\x05\x02\x01\x0a\x04\x00"),
        );
        let seen: Vec<_> = controls(&content).map(Result::unwrap).collect();
        assert_eq!(seen.len(), 2);
        assert_eq!(
            (seen[0].oid, seen[0].critical, seen[0].value),
            (oid::MANAGE_DSA_IT.as_bytes(), false, None)
        );
        assert_eq!((seen[1].oid, seen[1].critical), (oid::PAGED_RESULTS.as_bytes(), true));
        assert_eq!([seen[0].whole, seen[1].whole].concat(), content);
        assert_eq!(controls(b"").count(), 0);
    }

    #[test]
    fn malformed_controls_are_refused_once() {
        for bad in [
            &b"\x30\x05"[..],
            b"\x31\x05\x04\x031.1",
            b"\x30\x00",
            b"\x30\x05\x04\x031..",
            b"\x30\x05\x04\x03abc",
            b"\x30\x02\x04\x00",
            b"\x30\x09\x04\x031.1\x01\x02\xff\xff",
            b"\x30\x07\x04\x031.1\x01\x00",
            b"\x30\x07\x04\x031.1\x05\x00",
            b"\x30\x09\x04\x031.1\x04\x00\x01\x00",
            b"\x30\x09\x04\x031.1\x04\x00\x04\x00",
        ] {
            let seen: Vec<_> = controls(bad).collect();
            assert_eq!(seen, [Err(Malformed::BadControls)], "{bad:02x?}");
        }
    }
}
