//! Peer-to-peer D-Bus, as much of it as calling a helper needs: the messages of the D-Bus Specification ("Message
//! Protocol"), and the serving side of its handshake ([`auth`]).
//!
//! What is written is little-endian; what is read may be either. A header is read whole and strictly where its field is one
//! of the specification's, and passed over, within a bound on depth, where it is of a later one. Of bodies only those are
//! read that helpers and usherd exchange: bytes (`ay`), text (`s`), and the few arguments of our own interface. A payload is
//! never copied here: it is borrowed from the message that was read, and written by its owner between [`Around::head`] and
//! [`Around::tail`].

pub mod auth;
mod cursor;
mod names;
mod write;

use crate::frame::{Malformed, Step};
use cursor::Cursor;
pub use names::{is_interface, is_member, is_path};
pub use write::{Argument, Around, Method, Tail, write_call, write_message};

/// Bytes in front of the fields of a header.
pub const FIXED_BYTES: usize = 16;
/// The longest fields of a header that are read, in bytes: a path and five names do not fill it.
pub const FIELDS_BYTES_MAX: usize = 16 << 10;
/// The longest array, and so the longest payload (D-Bus Specification, "Container types").
pub const ARRAY_BYTES_MAX: usize = 64 << 20;
/// How deep the types of a header field may nest that is passed over (the specification allows 64 altogether).
const DEPTH_MAX: u32 = 64;

/// What a message is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// `METHOD_CALL`.
    Call,
    /// `METHOD_RETURN`.
    Return,
    /// `ERROR`.
    Error,
    /// `SIGNAL`.
    Signal,
    /// A kind of a later version: to be passed over.
    Other(u8),
}

/// A message. What its kind must have it has; every text is UTF-8 and has no zero byte.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Message<'a> {
    /// What it is.
    pub kind: Kind,
    /// The sender wants no reply (flag `NO_REPLY_EXPECTED`).
    pub no_reply: bool,
    /// Its number, not 0.
    pub serial: u32,
    /// Which call it answers; none where it is no answer.
    pub reply_serial: Option<u32>,
    /// The object.
    pub path: Option<&'a str>,
    /// The interface.
    pub interface: Option<&'a str>,
    /// The method or signal.
    pub member: Option<&'a str>,
    /// The name of an error.
    pub error: Option<&'a str>,
    /// The types of its body; empty: it has none.
    pub signature: &'a str,
    /// Its body.
    pub body: &'a [u8],
    /// The order of the bytes in its numbers.
    pub little_endian: bool,
}

impl<'a> Message<'a> {
    /// A message of which nothing is said but what it is and its number.
    #[must_use]
    pub fn new(kind: Kind, serial: u32) -> Self {
        Message {
            kind,
            no_reply: false,
            serial,
            reply_serial: None,
            path: None,
            interface: None,
            member: None,
            error: None,
            signature: "",
            body: &[],
            little_endian: true,
        }
    }

    /// The body where it is one array of bytes (`ay`).
    ///
    /// # Errors
    /// It is something else, or not as long as it says.
    pub fn bytes(&self) -> Result<&'a [u8], Malformed> {
        if self.signature != "ay" {
            return Err(Malformed::BadValue("a body of the type ay"));
        }
        let mut cursor = self.cursor();
        let bytes = cursor.array()?;
        cursor.end()?;
        Ok(bytes)
    }

    /// The body where it is one text (`s`).
    ///
    /// # Errors
    /// It is something else, not as long as it says, not UTF-8, or has a zero byte within.
    pub fn text(&self) -> Result<&'a str, Malformed> {
        if self.signature != "s" {
            return Err(Malformed::BadValue("a body of the type s"));
        }
        let mut cursor = self.cursor();
        let text = cursor.text()?;
        cursor.end()?;
        Ok(text)
    }

    /// The first argument where it is a text, which is how errors are told to people; none where it is none.
    #[must_use]
    pub fn first_text(&self) -> Option<&'a str> {
        self.signature.starts_with('s').then(|| self.cursor().text().ok())?
    }

    /// The arguments of the signal `Ready`: how many calls at once, the helper's name and version, and whether it wants the
    /// signal SIGINT with an interrupt (`usb`).
    ///
    /// # Errors
    /// They are others, or the number is 0.
    pub fn ready(&self) -> Result<(u32, &'a str, bool), Malformed> {
        const RIGHT: Malformed = Malformed::BadValue("the arguments usb: calls at once, at least 1, name, SIGINT");
        if self.signature != "usb" {
            return Err(RIGHT);
        }
        let mut cursor = self.cursor();
        let (concurrency, software, signals) = (cursor.number()?, cursor.text()?, cursor.number()?);
        cursor.end()?;
        if concurrency == 0 || signals > 1 {
            return Err(RIGHT);
        }
        Ok((concurrency, software, signals == 1))
    }

    fn cursor(&self) -> Cursor<'a> {
        Cursor::new(self.body, self.little_endian)
    }
}

/// Where a message ends. A body larger than `body_bytes_max` is [`Malformed::TooLarge`], but only once the whole header is
/// there, so that [`peek`] can say which call it would answer.
#[must_use]
pub fn split(buffer: &[u8], body_bytes_max: usize) -> Step {
    match head(buffer) {
        Err(fault) => Step::Malformed(fault),
        Ok(None) => Step::NeedMore { total: None },
        Ok(Some(Head { header, body })) => {
            if body > body_bytes_max {
                return if buffer.len() < header {
                    Step::NeedMore { total: None }
                } else {
                    Step::Malformed(Malformed::TooLarge)
                };
            }
            let len = header + body;
            if buffer.len() < len {
                Step::NeedMore { total: Some(len) }
            } else {
                Step::Frame { len }
            }
        }
    }
}

/// Reads one whole message.
///
/// # Errors
/// It is none: see [`Malformed`].
pub fn read(frame: &[u8]) -> Result<Message<'_>, Malformed> {
    let message = peek(frame)?.ok_or(Malformed::Truncated)?;
    let body = head(frame)?.map_or(0, |head| head.body);
    match message.body.len().cmp(&body) {
        std::cmp::Ordering::Less => Err(Malformed::Truncated),
        std::cmp::Ordering::Equal => Ok(message),
        std::cmp::Ordering::Greater => Err(Malformed::TrailingBytes),
    }
}

/// Reads a message whose header is whole, with as much of its body as there is; none: it is not.
///
/// # Errors
/// The header is none.
pub fn peek(buffer: &[u8]) -> Result<Option<Message<'_>>, Malformed> {
    let Some(Head { header, .. }) = head(buffer)? else {
        return Ok(None);
    };
    let Some((fields, body)) = buffer.split_at_checked(header) else {
        return Ok(None);
    };
    let little_endian = is_little(buffer)?;
    let [_, kind, flags, ..] = *fields else {
        return Ok(None);
    };
    let mut cursor = Cursor::new(fields, little_endian);
    cursor.skip(8)?;
    let serial = cursor.number()?;
    let kind = match kind {
        0 => return Err(Malformed::BadOperation),
        1 => Kind::Call,
        2 => Kind::Return,
        3 => Kind::Error,
        4 => Kind::Signal,
        other => Kind::Other(other),
    };
    if serial == 0 {
        return Err(Malformed::BadId);
    }
    let mut message = Message {
        no_reply: flags & 1 != 0,
        body,
        little_endian,
        ..Message::new(kind, serial)
    };
    read_fields(&mut message, &mut cursor)?;
    complete(&message)?;
    Ok(Some(message))
}

/// Where the two parts of a message end.
struct Head {
    /// Bytes of the header, its padding included.
    header: usize,
    /// Bytes of the body.
    body: usize,
}

fn is_little(buffer: &[u8]) -> Result<bool, Malformed> {
    match buffer.first() {
        None | Some(b'l') => Ok(true),
        Some(b'B') => Ok(false),
        Some(_) => Err(Malformed::BadMagic),
    }
}

/// The lengths in the first bytes of a message; none: they are not there yet.
fn head(buffer: &[u8]) -> Result<Option<Head>, Malformed> {
    let little = is_little(buffer)?;
    if buffer.get(3).is_some_and(|version| *version != 1) {
        return Err(Malformed::BadVersion);
    }
    let Some(fixed) = buffer.first_chunk::<FIXED_BYTES>() else {
        return Ok(None);
    };
    let mut cursor = Cursor::new(fixed, little);
    cursor.skip(4)?;
    let body = cursor.number()? as usize;
    cursor.skip(4)?;
    let fields = cursor.number()? as usize;
    if fields > FIELDS_BYTES_MAX {
        return Err(Malformed::TooLarge);
    }
    let header = (FIXED_BYTES + fields).next_multiple_of(8);
    // The specification's largest message is twice the largest array.
    if body > 2 * ARRAY_BYTES_MAX - header {
        return Err(Malformed::TooLarge);
    }
    Ok(Some(Head { header, body }))
}

fn read_fields<'a>(message: &mut Message<'a>, cursor: &mut Cursor<'a>) -> Result<(), Malformed> {
    let end = cursor.number()? as usize + FIXED_BYTES;
    while cursor.at() < end {
        cursor.align(8)?;
        let code = cursor.byte()?;
        let types = cursor.signature()?;
        match (code, types) {
            (0, _) => return Err(Malformed::BadTag),
            (1, "o") => message.path = Some(cursor.text()?),
            (2, "s") => message.interface = Some(cursor.text()?),
            (3, "s") => message.member = Some(cursor.text()?),
            (4, "s") => message.error = Some(cursor.text()?),
            (5, "u") => message.reply_serial = Some(cursor.number()?).filter(|serial| *serial != 0),
            (8, "g") => message.signature = cursor.signature()?,
            // Who it is for and from, which between two is said already; no descriptor was allowed by the handshake.
            (6 | 7, "s") => {
                cursor.text()?;
            }
            (9, "u") => {
                cursor.number()?;
            }
            (1..=9, _) => return Err(Malformed::BadTag),
            (_, types) => cursor.pass_over(types, DEPTH_MAX)?,
        }
    }
    if cursor.at() != end {
        return Err(Malformed::Truncated);
    }
    cursor.align(8)?;
    cursor.end()
}

/// What the specification demands of each kind.
fn complete(message: &Message<'_>) -> Result<(), Malformed> {
    let named = message.path.is_some() && message.member.is_some();
    let answers = message.reply_serial.is_some();
    let whole = match message.kind {
        Kind::Call => named,
        Kind::Return => answers,
        Kind::Error => answers && message.error.is_some(),
        Kind::Signal => named && message.interface.is_some(),
        Kind::Other(_) => true,
    };
    if whole {
        Ok(())
    } else {
        Err(Malformed::BadValue("the header fields that its kind of message has"))
    }
}

#[cfg(test)]
mod tests;
