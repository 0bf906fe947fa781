//! Results (RFC 4511 section 4.1.9): reading those of a server, and writing those that usherd answers itself.
//!
//! On the way through, only [`result_code`] is looked at; the message itself is passed on as it came. What follows the
//! known fields of a result is passed over, as RFC 4511 section 4 asks of receivers.

use super::envelope::{is_final_response, tag};
use super::message::oid;
use crate::ber::{self, Reader, Strings};
use crate::frame::Malformed;

/// Tags of the fields behind the common ones.
const REFERRAL: u8 = 0xA3;
const SERVER_SASL_CREDS: u8 = 0x87;
const RESPONSE_NAME: u8 = 0x8A;
const RESPONSE_VALUE: u8 = 0x8B;

/// Result codes (RFC 4511 appendix A.1, and the RFC named with each of the others).
pub mod code {
    /// success.
    pub const SUCCESS: u32 = 0;
    /// operationsError.
    pub const OPERATIONS_ERROR: u32 = 1;
    /// protocolError.
    pub const PROTOCOL_ERROR: u32 = 2;
    /// timeLimitExceeded.
    pub const TIME_LIMIT_EXCEEDED: u32 = 3;
    /// sizeLimitExceeded.
    pub const SIZE_LIMIT_EXCEEDED: u32 = 4;
    /// compareFalse.
    pub const COMPARE_FALSE: u32 = 5;
    /// compareTrue.
    pub const COMPARE_TRUE: u32 = 6;
    /// authMethodNotSupported.
    pub const AUTH_METHOD_NOT_SUPPORTED: u32 = 7;
    /// strongerAuthRequired.
    pub const STRONGER_AUTH_REQUIRED: u32 = 8;
    /// referral.
    pub const REFERRAL: u32 = 10;
    /// adminLimitExceeded.
    pub const ADMIN_LIMIT_EXCEEDED: u32 = 11;
    /// unavailableCriticalExtension.
    pub const UNAVAILABLE_CRITICAL_EXTENSION: u32 = 12;
    /// confidentialityRequired.
    pub const CONFIDENTIALITY_REQUIRED: u32 = 13;
    /// saslBindInProgress.
    pub const SASL_BIND_IN_PROGRESS: u32 = 14;
    /// noSuchAttribute.
    pub const NO_SUCH_ATTRIBUTE: u32 = 16;
    /// undefinedAttributeType.
    pub const UNDEFINED_ATTRIBUTE_TYPE: u32 = 17;
    /// inappropriateMatching.
    pub const INAPPROPRIATE_MATCHING: u32 = 18;
    /// constraintViolation.
    pub const CONSTRAINT_VIOLATION: u32 = 19;
    /// attributeOrValueExists.
    pub const ATTRIBUTE_OR_VALUE_EXISTS: u32 = 20;
    /// invalidAttributeSyntax.
    pub const INVALID_ATTRIBUTE_SYNTAX: u32 = 21;
    /// noSuchObject.
    pub const NO_SUCH_OBJECT: u32 = 32;
    /// aliasProblem.
    pub const ALIAS_PROBLEM: u32 = 33;
    /// invalidDNSyntax.
    pub const INVALID_DN_SYNTAX: u32 = 34;
    /// aliasDereferencingProblem.
    pub const ALIAS_DEREFERENCING_PROBLEM: u32 = 36;
    /// inappropriateAuthentication.
    pub const INAPPROPRIATE_AUTHENTICATION: u32 = 48;
    /// invalidCredentials.
    pub const INVALID_CREDENTIALS: u32 = 49;
    /// insufficientAccessRights.
    pub const INSUFFICIENT_ACCESS_RIGHTS: u32 = 50;
    /// busy.
    pub const BUSY: u32 = 51;
    /// unavailable.
    pub const UNAVAILABLE: u32 = 52;
    /// unwillingToPerform.
    pub const UNWILLING_TO_PERFORM: u32 = 53;
    /// loopDetect.
    pub const LOOP_DETECT: u32 = 54;
    /// namingViolation.
    pub const NAMING_VIOLATION: u32 = 64;
    /// objectClassViolation.
    pub const OBJECT_CLASS_VIOLATION: u32 = 65;
    /// notAllowedOnNonLeaf.
    pub const NOT_ALLOWED_ON_NON_LEAF: u32 = 66;
    /// notAllowedOnRDN.
    pub const NOT_ALLOWED_ON_RDN: u32 = 67;
    /// entryAlreadyExists.
    pub const ENTRY_ALREADY_EXISTS: u32 = 68;
    /// objectClassModsProhibited.
    pub const OBJECT_CLASS_MODS_PROHIBITED: u32 = 69;
    /// affectsMultipleDSAs.
    pub const AFFECTS_MULTIPLE_DSAS: u32 = 71;
    /// other.
    pub const OTHER: u32 = 80;
    /// canceled (RFC 3909).
    pub const CANCELED: u32 = 118;
    /// noSuchOperation (RFC 3909).
    pub const NO_SUCH_OPERATION: u32 = 119;
    /// tooLate (RFC 3909).
    pub const TOO_LATE: u32 = 120;
    /// cannotCancel (RFC 3909).
    pub const CANNOT_CANCEL: u32 = 121;
    /// assertionFailed (RFC 4528).
    pub const ASSERTION_FAILED: u32 = 122;
    /// authorizationDenied (RFC 4370).
    pub const AUTHORIZATION_DENIED: u32 = 123;
    /// e-syncRefreshRequired (RFC 4533).
    pub const SYNC_REFRESH_REQUIRED: u32 = 4096;
}

/// The name of a result code as its RFC spells it; `unknown` for others.
#[must_use]
pub fn name(code: u32) -> &'static str {
    match code {
        code::SUCCESS => "success",
        code::OPERATIONS_ERROR => "operationsError",
        code::PROTOCOL_ERROR => "protocolError",
        code::TIME_LIMIT_EXCEEDED => "timeLimitExceeded",
        code::SIZE_LIMIT_EXCEEDED => "sizeLimitExceeded",
        code::COMPARE_FALSE => "compareFalse",
        code::COMPARE_TRUE => "compareTrue",
        code::AUTH_METHOD_NOT_SUPPORTED => "authMethodNotSupported",
        code::STRONGER_AUTH_REQUIRED => "strongerAuthRequired",
        code::REFERRAL => "referral",
        code::ADMIN_LIMIT_EXCEEDED => "adminLimitExceeded",
        code::UNAVAILABLE_CRITICAL_EXTENSION => "unavailableCriticalExtension",
        code::CONFIDENTIALITY_REQUIRED => "confidentialityRequired",
        code::SASL_BIND_IN_PROGRESS => "saslBindInProgress",
        code::NO_SUCH_ATTRIBUTE => "noSuchAttribute",
        code::UNDEFINED_ATTRIBUTE_TYPE => "undefinedAttributeType",
        code::INAPPROPRIATE_MATCHING => "inappropriateMatching",
        code::CONSTRAINT_VIOLATION => "constraintViolation",
        code::ATTRIBUTE_OR_VALUE_EXISTS => "attributeOrValueExists",
        code::INVALID_ATTRIBUTE_SYNTAX => "invalidAttributeSyntax",
        code::NO_SUCH_OBJECT => "noSuchObject",
        code::ALIAS_PROBLEM => "aliasProblem",
        code::INVALID_DN_SYNTAX => "invalidDNSyntax",
        code::ALIAS_DEREFERENCING_PROBLEM => "aliasDereferencingProblem",
        code::INAPPROPRIATE_AUTHENTICATION => "inappropriateAuthentication",
        code::INVALID_CREDENTIALS => "invalidCredentials",
        code::INSUFFICIENT_ACCESS_RIGHTS => "insufficientAccessRights",
        code::BUSY => "busy",
        code::UNAVAILABLE => "unavailable",
        code::UNWILLING_TO_PERFORM => "unwillingToPerform",
        code::LOOP_DETECT => "loopDetect",
        code::NAMING_VIOLATION => "namingViolation",
        code::OBJECT_CLASS_VIOLATION => "objectClassViolation",
        code::NOT_ALLOWED_ON_NON_LEAF => "notAllowedOnNonLeaf",
        code::NOT_ALLOWED_ON_RDN => "notAllowedOnRDN",
        code::ENTRY_ALREADY_EXISTS => "entryAlreadyExists",
        code::OBJECT_CLASS_MODS_PROHIBITED => "objectClassModsProhibited",
        code::AFFECTS_MULTIPLE_DSAS => "affectsMultipleDSAs",
        code::OTHER => "other",
        code::CANCELED => "canceled",
        code::NO_SUCH_OPERATION => "noSuchOperation",
        code::TOO_LATE => "tooLate",
        code::CANNOT_CANCEL => "cannotCancel",
        code::ASSERTION_FAILED => "assertionFailed",
        code::AUTHORIZATION_DENIED => "authorizationDenied",
        code::SYNC_REFRESH_REQUIRED => "syncRefreshRequired",
        _ => "unknown",
    }
}

/// A final response, borrowed.
#[derive(Clone, Copy, Debug)]
pub struct LdapResult<'a> {
    /// One of [`code`] or another.
    pub code: u32,
    /// The part of the asked name that exists, where the code says so.
    pub matched_dn: &'a [u8],
    /// Text for a human; UTF-8 by the RFC, anything in practice.
    pub diagnostic: &'a [u8],
    /// URIs of other servers, with the code `referral`.
    pub referral: Option<Strings<'a>>,
    /// responseName of an extended response.
    pub name: Option<&'a [u8]>,
    /// responseValue of an extended response.
    pub value: Option<&'a [u8]>,
    /// serverSaslCreds of a bind response.
    pub server_sasl_creds: Option<&'a [u8]>,
}

/// Reads the whole protocolOp of a final response.
///
/// # Errors
/// It is none, or a field of it is malformed. Fields behind those of its type are passed over.
pub fn read_result(op: &[u8]) -> Result<LdapResult<'_>, Malformed> {
    let mut outer = Reader::new(op);
    let response = outer.element()?;
    outer.finish()?;
    if !is_final_response(response.tag) {
        return Err(Malformed::BadOperation);
    }
    let mut fields = Reader::new(response.content);
    let code = ber::natural(fields.take(ber::tag::ENUMERATED)?)?.cast_unsigned();
    let matched_dn = fields.take(ber::tag::OCTET_STRING)?;
    let diagnostic = fields.take(ber::tag::OCTET_STRING)?;
    let referral = fields.take_optional(REFERRAL)?.map(Strings::new).transpose()?;
    let mut result = LdapResult {
        code,
        matched_dn,
        diagnostic,
        referral,
        name: None,
        value: None,
        server_sasl_creds: None,
    };
    match response.tag {
        tag::BIND_RESPONSE => result.server_sasl_creds = fields.take_optional(SERVER_SASL_CREDS)?,
        tag::EXTENDED_RESPONSE => {
            result.name = fields.take_optional(RESPONSE_NAME)?;
            result.value = fields.take_optional(RESPONSE_VALUE)?;
        }
        _ => {}
    }
    while !fields.is_empty() {
        fields.element()?;
    }
    Ok(result)
}

/// The result code of a final response's protocolOp, and nothing else of it; `None` when it has none.
#[inline]
#[must_use]
pub fn result_code(op: &[u8]) -> Option<u32> {
    let header = ber::header(op).ok()??;
    let mut fields = Reader::new(op.get(header.header_len..)?);
    let code = fields.take(ber::tag::ENUMERATED).ok()?;
    ber::natural(code).ok().map(i32::cast_unsigned)
}

/// Appends a final response; `tag` is its protocolOp's tag ([`super::envelope::response_tag`]).
pub fn write_result(out: &mut Vec<u8>, id: i32, tag: u8, code: u32, matched_dn: &[u8], diagnostic: &str) {
    write_fields(out, id, tag, code, matched_dn, diagnostic, &[]);
}

/// Appends a bind response, with the server's part of a SASL exchange where there is one.
pub fn write_bind(out: &mut Vec<u8>, id: i32, code: u32, diagnostic: &str, server_sasl_creds: Option<&[u8]>) {
    write_fields(
        out,
        id,
        tag::BIND_RESPONSE,
        code,
        b"",
        diagnostic,
        &[(SERVER_SASL_CREDS, server_sasl_creds)],
    );
}

/// Appends an extended response.
pub fn write_extended(
    out: &mut Vec<u8>,
    id: i32,
    code: u32,
    diagnostic: &str,
    name: Option<&str>,
    value: Option<&[u8]>,
) {
    let tail = [(RESPONSE_NAME, name.map(str::as_bytes)), (RESPONSE_VALUE, value)];
    write_fields(out, id, tag::EXTENDED_RESPONSE, code, b"", diagnostic, &tail);
}

/// Appends a notice of disconnection (RFC 4511 section 4.4.1): unsolicited, so with id 0. The connection is closed next.
pub fn write_notice_of_disconnection(out: &mut Vec<u8>, code: u32, diagnostic: &str) {
    write_extended(out, 0, code, diagnostic, Some(oid::NOTICE_OF_DISCONNECTION), None);
}

/// Whether this extended response is a notice of disconnection: unsolicited, and named so or not named at all.
#[must_use]
pub fn is_notice_of_disconnection(id: i32, result: &LdapResult<'_>) -> bool {
    id == 0
        && result
            .name
            .is_none_or(|name| name == oid::NOTICE_OF_DISCONNECTION.as_bytes())
}

fn write_fields(
    out: &mut Vec<u8>,
    id: i32,
    tag: u8,
    code: u32,
    matched_dn: &[u8],
    diagnostic: &str,
    tail: &[(u8, Option<&[u8]>)],
) {
    // Codes are our own constants; one above what the wire can carry would be a slip of ours, told as "other".
    let code = i32::try_from(code).unwrap_or(code::OTHER.cast_signed());
    let fields_len = 2
        + ber::integer_octets(code)
        + ber::element_len(matched_dn.len())
        + ber::element_len(diagnostic.len())
        + tail
            .iter()
            .filter_map(|(_, field)| *field)
            .map(|field| ber::element_len(field.len()))
            .sum::<usize>();
    let message_len = 2 + ber::integer_octets(id) + ber::element_len(fields_len);
    out.reserve(ber::element_len(message_len));
    ber::write_header(out, ber::tag::SEQUENCE, message_len);
    ber::write_integer(out, ber::tag::INTEGER, id);
    ber::write_header(out, tag, fields_len);
    ber::write_integer(out, ber::tag::ENUMERATED, code);
    ber::write_bytes(out, ber::tag::OCTET_STRING, matched_dn);
    ber::write_bytes(out, ber::tag::OCTET_STRING, diagnostic.as_bytes());
    for (tag, field) in tail {
        if let Some(field) = field {
            ber::write_bytes(out, *tag, field);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ldap::envelope::peek;

    #[test]
    fn a_result_is_written_as_the_rfc_has_it() {
        let mut out = Vec::new();
        write_result(&mut out, 5, tag::SEARCH_DONE, code::NO_SUCH_OBJECT, b"dc=org", "no");
        assert_eq!(out, b"\x30\x14\x02\x01\x05\x65\x0f\x0a\x01\x20\x04\x06dc=org\x04\x02no");
        let result = read_result(peek(&out).unwrap().op).unwrap();
        assert_eq!(
            (result.code, result.matched_dn, result.diagnostic),
            (32, &b"dc=org"[..], &b"no"[..])
        );
    }

    #[test]
    fn every_final_response_is_read_back() {
        for tag in (0..=255).filter(|&tag| is_final_response(tag)) {
            for code in [0, 49, 123, 128, 4096] {
                let mut out = Vec::new();
                write_result(&mut out, 70_000, tag, code, b"", "");
                let envelope = peek(&out).unwrap();
                assert_eq!((envelope.id, envelope.tag), (70_000, tag));
                assert_eq!(result_code(envelope.op), Some(code));
                assert_eq!(read_result(envelope.op).unwrap().code, code);
            }
        }
    }

    #[test]
    fn a_notice_of_disconnection_has_id_0_and_its_name() {
        let mut out = Vec::new();
        write_notice_of_disconnection(&mut out, code::UNAVAILABLE, "draining");
        let mut expected = b"\x30\x2d\x02\x01\x00\x78\x28\x0a\x01\x34\x04\x00\x04\x08draining\x8a\x16".to_vec();
        expected.extend_from_slice(b"1.3.6.1.4.1.1466.20036");
        expected[1] = u8::try_from(expected.len() - 2).unwrap();
        expected[6] = u8::try_from(expected.len() - 7).unwrap();
        assert_eq!(out, expected);
        let envelope = peek(&out).unwrap();
        assert!(is_notice_of_disconnection(
            envelope.id,
            &read_result(envelope.op).unwrap()
        ));
    }

    #[test]
    fn credentials_values_and_referrals_are_read() {
        let mut out = Vec::new();
        write_bind(&mut out, 1, code::SASL_BIND_IN_PROGRESS, "", Some(b"challenge"));
        assert_eq!(
            read_result(peek(&out).unwrap().op).unwrap().server_sasl_creds,
            Some(&b"challenge"[..])
        );

        let mut out = Vec::new();
        write_extended(&mut out, 1, code::SUCCESS, "", None, Some(b"dn:cn=x"));
        let result = read_result(peek(&out).unwrap().op).unwrap();
        assert_eq!((result.name, result.value), (None, Some(&b"dn:cn=x"[..])));

        let op = b"\x65\x13\x0a\x01\x0a\x04\x00\x04\x00\xa3\x0a\x04\x08ldap://x";
        let referral = read_result(op).unwrap().referral.unwrap();
        assert_eq!(referral.collect::<Vec<_>>(), [b"ldap://x"]);
        // An extension behind the known fields.
        assert_eq!(
            read_result(b"\x65\x09\x0a\x01\x00\x04\x00\x04\x00\x99\x00")
                .unwrap()
                .code,
            0
        );
    }

    #[test]
    fn malformed_results_have_no_code() {
        for bad in [
            &b""[..],
            b"\x65",
            b"\x65\x00",
            b"\x65\x03\x02\x01\x00",
            b"\x65\x03\x0a\x01\xff",
            b"\x65\x02\x0a\x00",
        ] {
            assert_eq!(result_code(bad), None, "{bad:02x?}");
            assert!(read_result(bad).is_err(), "{bad:02x?}");
        }
        assert_eq!(
            read_result(b"\x64\x07\x0a\x01\x00\x04\x00\x04\x00").err(),
            Some(Malformed::BadOperation)
        );
    }
}
