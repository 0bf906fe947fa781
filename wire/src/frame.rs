//! Where a message ends: the same answer for every protocol.
//!
//! A reader keeps bytes in a buffer, asks a protocol's `split` and gets a [`Step`]. The answer depends on nothing but
//! the bytes, costs the same however long the message is, and is final as soon as it is known: a message that would be
//! too large is refused by its header, before its body is waited for.

use std::fmt;

/// What the first bytes of a buffer are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// Not yet a whole message.
    NeedMore {
        /// Bytes the whole message will have, header included, once its header is there. Never above the bound given
        /// to `split`.
        total: Option<usize>,
    },
    /// The first `len` bytes of the buffer are one message; `len` is at least 1 and at most the buffer's length.
    Frame {
        /// Bytes of the message, header included.
        len: usize,
    },
    /// No message can begin like this. Nothing behind it can be found either: the stream is lost.
    Malformed(Malformed),
}

/// Why bytes are not a message. The fault is always the sender's, and sending the same again will not help.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Malformed {
    /// A message does not begin with the tag of a SEQUENCE (0x30).
    NotASequence,
    /// A length in the indefinite form, which RFC 4511 section 5.1 forbids.
    IndefiniteLength,
    /// A length in more than four octets, more than any message may have.
    LengthTooLong,
    /// The message is longer than the receiver takes.
    TooLarge,
    /// An element claims more bytes than what holds it has left.
    Truncated,
    /// The message id is no integer of 0 to 2^31-1.
    BadId,
    /// The operation is none that this protocol has, or none that this side may send.
    BadOperation,
    /// The controls are not a list of controls.
    BadControls,
    /// Bytes are left where the message should end.
    TrailingBytes,
    /// Nested deeper than the receiver takes.
    TooDeep,
    /// An element's tag is not the one that belongs in its place.
    BadTag,
    /// The frame does not begin with this protocol's mark.
    BadMagic,
    /// The frame is of a version that is not spoken here.
    BadVersion,
    /// A value has the right tag and a content that its type does not allow; the text says what was expected.
    BadValue(&'static str),
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotASequence => "the message does not begin with a SEQUENCE",
            Self::IndefiniteLength => "a length is in the indefinite form",
            Self::LengthTooLong => "a length takes more than four octets",
            Self::TooLarge => "the message is larger than allowed",
            Self::Truncated => "an element is longer than what holds it",
            Self::BadId => "the message id is not an integer of 0 to 2147483647",
            Self::BadOperation => "the operation is unknown or not allowed here",
            Self::BadControls => "the controls are malformed",
            Self::TrailingBytes => "bytes are left where the message should end",
            Self::TooDeep => "the message is nested deeper than allowed",
            Self::BadTag => "an element has a tag that does not belong there",
            Self::BadMagic => "the frame does not begin with the protocol's mark",
            Self::BadVersion => "the frame is of a version that is not spoken here",
            Self::BadValue(expected) => return write!(f, "bad value: expected {expected}"),
        })
    }
}

impl std::error::Error for Malformed {}
