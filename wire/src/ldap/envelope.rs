//! The LDAPMessage around an operation (RFC 4511 section 4.1.1): find it, look at its id and operation, and write it
//! again with another id. Every message of every client passes here, so nothing allocates and nothing is looked at twice.
//!
//! [`peek`] promises that the borders are sound: the operation is one whole element, the controls are one level of
//! bytes, and nothing follows. What is inside of them it does not know; that is `grammar`'s part.

use crate::ber::{self, Reader};
use crate::frame::{Malformed, Step};

/// The tag bytes of protocolOp (RFC 4511 appendix B): APPLICATION class, primitive or constructed as each type is.
pub mod tag {
    /// BindRequest.
    pub const BIND_REQUEST: u8 = 0x60;
    /// BindResponse.
    pub const BIND_RESPONSE: u8 = 0x61;
    /// UnbindRequest.
    pub const UNBIND_REQUEST: u8 = 0x42;
    /// SearchRequest.
    pub const SEARCH_REQUEST: u8 = 0x63;
    /// SearchResultEntry.
    pub const SEARCH_ENTRY: u8 = 0x64;
    /// SearchResultDone.
    pub const SEARCH_DONE: u8 = 0x65;
    /// SearchResultReference.
    pub const SEARCH_REFERENCE: u8 = 0x73;
    /// ModifyRequest.
    pub const MODIFY_REQUEST: u8 = 0x66;
    /// ModifyResponse.
    pub const MODIFY_RESPONSE: u8 = 0x67;
    /// AddRequest.
    pub const ADD_REQUEST: u8 = 0x68;
    /// AddResponse.
    pub const ADD_RESPONSE: u8 = 0x69;
    /// DelRequest.
    pub const DELETE_REQUEST: u8 = 0x4A;
    /// DelResponse.
    pub const DELETE_RESPONSE: u8 = 0x6B;
    /// ModifyDNRequest.
    pub const MODIFY_DN_REQUEST: u8 = 0x6C;
    /// ModifyDNResponse.
    pub const MODIFY_DN_RESPONSE: u8 = 0x6D;
    /// CompareRequest.
    pub const COMPARE_REQUEST: u8 = 0x6E;
    /// CompareResponse.
    pub const COMPARE_RESPONSE: u8 = 0x6F;
    /// AbandonRequest.
    pub const ABANDON_REQUEST: u8 = 0x50;
    /// ExtendedRequest.
    pub const EXTENDED_REQUEST: u8 = 0x77;
    /// ExtendedResponse.
    pub const EXTENDED_RESPONSE: u8 = 0x78;
    /// IntermediateResponse.
    pub const INTERMEDIATE_RESPONSE: u8 = 0x79;
}

/// The tag of Controls in an LDAPMessage.
const CONTROLS: u8 = 0xA0;
/// The tag of responseName in an ExtendedResponse.
const RESPONSE_NAME: u8 = 0x8A;

/// One LDAPMessage, borrowed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Envelope<'a> {
    /// The message id, 0 to 2^31-1. 0 is for unsolicited notifications only.
    pub id: i32,
    /// The tag byte of protocolOp, one of [`tag`] or another of the APPLICATION class.
    pub tag: u8,
    /// The whole element of protocolOp, tag and length included.
    pub op: &'a [u8],
    /// The content of Controls; empty when there are none.
    pub controls: &'a [u8],
}

/// Finds the first LDAPMessage in `buf`, by its header alone.
///
/// `frame_bytes_max` bounds the whole message, header included; a longer one is refused as soon as its header is there.
#[inline]
#[must_use]
pub fn split(buf: &[u8], frame_bytes_max: usize) -> Step {
    match buf.first() {
        None => return Step::NeedMore { total: None },
        Some(&ber::tag::SEQUENCE) => {}
        Some(_) => return Step::Malformed(Malformed::NotASequence),
    }
    match ber::header(buf) {
        Err(malformed) => Step::Malformed(malformed),
        Ok(None) => Step::NeedMore { total: None },
        Ok(Some(header)) => match header.total_len() {
            len if len > frame_bytes_max => Step::Malformed(Malformed::TooLarge),
            len if len > buf.len() => Step::NeedMore { total: Some(len) },
            len => Step::Frame { len },
        },
    }
}

/// Looks into `frame`, which is exactly one message.
///
/// # Errors
/// What [`Malformed`] says; also when anything but Controls follows the operation.
#[inline]
pub fn peek(frame: &[u8]) -> Result<Envelope<'_>, Malformed> {
    if frame.first() != Some(&ber::tag::SEQUENCE) {
        return Err(Malformed::NotASequence);
    }
    let mut message = Reader::inside(frame, ber::tag::SEQUENCE)?;
    let id = message_id(&mut message)?;
    let op = message.element()?;
    if op.tag & 0xC0 != 0x40 {
        return Err(Malformed::BadOperation);
    }
    let controls = if message.is_empty() {
        &[]
    } else {
        after_op(message, id, op.tag)?
    };
    Ok(Envelope {
        id,
        tag: op.tag,
        op: op.whole,
        controls,
    })
}

/// Whether this is a tag that a client sends.
#[inline]
#[must_use]
pub fn is_request(tag: u8) -> bool {
    response_tag(tag).is_some() || matches!(tag, tag::UNBIND_REQUEST | tag::ABANDON_REQUEST)
}

/// Whether this tag ends an operation: after it, nothing more comes for the message id.
#[inline]
#[must_use]
pub fn is_final_response(tag: u8) -> bool {
    matches!(
        tag,
        tag::BIND_RESPONSE
            | tag::SEARCH_DONE
            | tag::MODIFY_RESPONSE
            | tag::ADD_RESPONSE
            | tag::DELETE_RESPONSE
            | tag::MODIFY_DN_RESPONSE
            | tag::COMPARE_RESPONSE
            | tag::EXTENDED_RESPONSE
    )
}

/// The tag that finally answers a request tag; `None` for unbind, abandon, and what is no request.
#[inline]
#[must_use]
pub fn response_tag(request: u8) -> Option<u8> {
    Some(match request {
        tag::BIND_REQUEST => tag::BIND_RESPONSE,
        tag::SEARCH_REQUEST => tag::SEARCH_DONE,
        tag::MODIFY_REQUEST => tag::MODIFY_RESPONSE,
        tag::ADD_REQUEST => tag::ADD_RESPONSE,
        tag::DELETE_REQUEST => tag::DELETE_RESPONSE,
        tag::MODIFY_DN_REQUEST => tag::MODIFY_DN_RESPONSE,
        tag::COMPARE_REQUEST => tag::COMPARE_RESPONSE,
        tag::EXTENDED_REQUEST => tag::EXTENDED_RESPONSE,
        _ => return None,
    })
}

/// Appends one LDAPMessage.
///
/// `op` is a whole protocolOp and is copied as it is; `id` (0 to 2^31-1) and all lengths that are written here take the
/// fewest octets. The message's Controls are `controls` (the content of a client's Controls, as it was) followed by
/// `extra` (whole Control elements); when both are empty there are none.
#[inline]
pub fn write(out: &mut Vec<u8>, id: i32, op: &[u8], controls: &[u8], extra: &[u8]) {
    let content_len = content_len(id, op, controls, extra);
    out.reserve(ber::element_len(content_len));
    ber::write_header(out, ber::tag::SEQUENCE, content_len);
    ber::write_integer(out, ber::tag::INTEGER, id);
    out.extend_from_slice(op);
    let controls_len = controls.len() + extra.len();
    if controls_len > 0 {
        ber::write_header(out, CONTROLS, controls_len);
        out.extend_from_slice(controls);
        out.extend_from_slice(extra);
    }
}

/// How many bytes [`write()`] would append.
#[inline]
#[must_use]
pub fn written_len(id: i32, op: &[u8], controls: &[u8], extra: &[u8]) -> usize {
    ber::element_len(content_len(id, op, controls, extra))
}

#[inline]
fn content_len(id: i32, op: &[u8], controls: &[u8], extra: &[u8]) -> usize {
    let controls_len = match controls.len() + extra.len() {
        0 => 0,
        len => ber::element_len(len),
    };
    2 + ber::integer_octets(id) + op.len() + controls_len
}

#[inline]
fn message_id(message: &mut Reader<'_>) -> Result<i32, Malformed> {
    let id = message.element()?;
    if id.tag != ber::tag::INTEGER {
        return Err(Malformed::BadId);
    }
    ber::natural_padded(id.content).ok_or(Malformed::BadId)
}

/// What follows the operation: Controls and nothing else.
///
/// Some servers (Active Directory is said to be one) put the name of a notice of disconnection here rather than into the
/// operation, so that is passed over, in a notice only.
#[inline(never)]
fn after_op(mut message: Reader<'_>, id: i32, op: u8) -> Result<&[u8], Malformed> {
    if id == 0 && op == tag::EXTENDED_RESPONSE {
        message.take_optional(RESPONSE_NAME)?;
    }
    let controls = message.take_optional(CONTROLS)?;
    message.finish()?;
    Ok(controls.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// ldapsearch -x -b dc=example,dc=com "(uid=ada)", as message 2.
    const SEARCH: &[u8] = b"\x30\x35\x02\x01\x02\x63\x30\x04\x11dc=example,dc=com\x0a\x01\x02\x0a\x01\x00\x02\x01\x00\
        \x02\x01\x00\x01\x01\x00\xa3\x0a\x04\x03uid\x04\x03ada\x30\x00";

    #[test]
    fn a_search_is_found_seen_and_rewritten() {
        assert_eq!(split(SEARCH, SEARCH.len()), Step::Frame { len: SEARCH.len() });
        let envelope = peek(SEARCH).unwrap();
        assert_eq!(
            (envelope.id, envelope.tag, envelope.controls),
            (2, tag::SEARCH_REQUEST, &[][..])
        );
        assert_eq!(envelope.op, &SEARCH[5..]);
        let mut out = Vec::new();
        write(&mut out, 300, envelope.op, b"", b"");
        assert_eq!(&out[..6], [0x30, 0x36, 0x02, 0x02, 0x01, 0x2C]);
        assert_eq!(&out[6..], envelope.op);
    }

    #[test]
    fn a_header_alone_decides() {
        assert_eq!(split(&[], 100), Step::NeedMore { total: None });
        assert_eq!(split(&[0x30], 100), Step::NeedMore { total: None });
        assert_eq!(split(&[0x30, 0x82, 0x01], 1000), Step::NeedMore { total: None });
        assert_eq!(split(&[0x30, 0x10], 100), Step::NeedMore { total: Some(18) });
        assert_eq!(split(&[0x30, 0x10], 17), Step::Malformed(Malformed::TooLarge));
        assert_eq!(
            split(&[0x30, 0x84, 0xFF, 0xFF, 0xFF, 0xFF], 4 << 20),
            Step::Malformed(Malformed::TooLarge)
        );
        assert_eq!(split(&[0x30, 0x80], 100), Step::Malformed(Malformed::IndefiniteLength));
        assert_eq!(split(&[0x30, 0x88], 100), Step::Malformed(Malformed::LengthTooLong));
        assert_eq!(split(b"GET / HTTP/1.1", 100), Step::Malformed(Malformed::NotASequence));
        assert_eq!(split(&[0x16, 3, 1], 100), Step::Malformed(Malformed::NotASequence));
    }

    #[test]
    fn envelopes_that_are_refused() {
        for (bytes, why) in [
            (&b"\x30\x00"[..], Malformed::Truncated),
            (b"\x30\x03\x02\x01\x01", Malformed::Truncated),
            (b"\x30\x05\x02\x01\xff\x42\x00", Malformed::BadId),
            (b"\x30\x04\x02\x00\x42\x00", Malformed::BadId),
            (b"\x30\x09\x02\x05\x00\x80\x00\x00\x00\x42\x00", Malformed::BadId),
            (b"\x30\x05\x0a\x01\x01\x42\x00", Malformed::BadId),
            (b"\x30\x05\x02\x01\x01\x04\x00", Malformed::BadOperation),
            (b"\x30\x05\x02\x01\x01\x42\x01", Malformed::Truncated),
            (b"\x30\x05\x02\x01\x01\x42\x00\x00", Malformed::TrailingBytes),
            (b"\x30\x07\x02\x01\x01\x42\x00\x04\x00", Malformed::TrailingBytes),
            (b"\x30\x07\x02\x01\x01\x42\x00\x80\x00", Malformed::TrailingBytes),
            (
                b"\x30\x09\x02\x01\x01\x42\x00\xa0\x00\xa0\x00",
                Malformed::TrailingBytes,
            ),
            (b"\x30\x07\x02\x01\x01\x42\x00\xa0\x01", Malformed::Truncated),
            (b"\x30\x07\x02\x01\x01\x78\x00\x8a\x00", Malformed::TrailingBytes),
            (b"\x31\x05\x02\x01\x01\x42\x00", Malformed::NotASequence),
        ] {
            assert_eq!(peek(bytes), Err(why), "{bytes:02x?}");
        }
        // Tolerated: an id in more octets than needed, and a name beside a notice of disconnection.
        assert_eq!(peek(b"\x30\x08\x02\x04\x00\x00\x00\x07\x42\x00").map(|e| e.id), Ok(7));
        assert_eq!(peek(b"\x30\x07\x02\x01\x00\x78\x00\x8a\x00").map(|e| e.id), Ok(0));
    }

    #[test]
    fn requests_and_their_answers() {
        let requests: Vec<u8> = (0..=255).filter(|&tag| is_request(tag)).collect();
        assert_eq!(requests, [0x42, 0x4A, 0x50, 0x60, 0x63, 0x66, 0x68, 0x6C, 0x6E, 0x77]);
        let finals: Vec<u8> = (0..=255).filter(|&tag| is_final_response(tag)).collect();
        let mut answers: Vec<u8> = requests.into_iter().filter_map(response_tag).collect();
        answers.sort_unstable();
        assert_eq!(finals, answers);
    }

    fn op() -> impl Strategy<Value = Vec<u8>> {
        (0x40..0x5Fu8, any::<bool>(), prop::collection::vec(any::<u8>(), 0..400)).prop_map(
            |(tag, constructed, content)| {
                let mut op = Vec::new();
                ber::write_bytes(&mut op, tag | if constructed { 0x20 } else { 0 }, &content);
                op
            },
        )
    }

    proptest! {
        #[test]
        fn what_is_written_is_seen(
            id in 0..=i32::MAX, op in op(),
            controls in prop::collection::vec(any::<u8>(), 0..200), extra in prop::collection::vec(any::<u8>(), 0..50),
            behind in prop::collection::vec(any::<u8>(), 0..20),
        ) {
            let mut out = Vec::new();
            write(&mut out, id, &op, &controls, &extra);
            let len = out.len();
            prop_assert_eq!(len, written_len(id, &op, &controls, &extra));
            let envelope = peek(&out).unwrap();
            prop_assert_eq!((envelope.id, envelope.tag, envelope.op), (id, op[0], &op[..]));
            prop_assert_eq!(envelope.controls, [&controls[..], &extra].concat());
            // Alone, cut, and with something behind it.
            for cut in 0..len {
                let step = split(&out[..cut], len);
                let waits = step == Step::NeedMore { total: Some(len) } || (cut < 6 && step == Step::NeedMore { total: None });
                prop_assert!(waits);
                prop_assert!(peek(&out[..cut]).is_err());
            }
            prop_assert_eq!(split(&out, len - 1), Step::Malformed(Malformed::TooLarge));
            out.extend_from_slice(&behind);
            prop_assert_eq!(split(&out, len), Step::Frame { len });
        }

        #[test]
        fn any_bytes_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..64), max in 0..128usize) {
            if let Step::Frame { len } = split(&bytes, max) {
                prop_assert!(len <= bytes.len() && len <= max);
                let _ = peek(&bytes[..len]);
            }
            let _ = peek(&bytes);
        }
    }
}
