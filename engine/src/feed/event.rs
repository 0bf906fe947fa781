//! One change of a directory, as sinks are told it: borrowed while it is made and rendered, and in a compact binary form
//! while it waits in the outbox.
//!
//! What an event says is enough to apply it to a map of `uuid -> (dn, attributes)`: add, modify and move carry the entry's
//! name and *all* its attributes as they are then; delete carries the name it had. Key by uuid: while a refresh runs, two
//! entries may bear one name for a while (a name is deleted and added again, names are swapped), and the delete of the
//! older one comes after the add of the newer.
//!
//! Attributes are kept as the content of a PartialAttributeList (RFC 4511 section 4.1.7), nearly always the bytes that the
//! server sent, so that an entry is copied and not taken apart. One thing is our own: a redacted attribute has, in place
//! of the SET of its values, an element with the tag [`REDACTED`] and a digest in it, which is compared and never shown.

use std::fmt;

use wire::ber::{self, Reader, Strings};
use wire::frame::Malformed;

use super::codec::{Decoder, put_bytes, put_optional};

/// The 16 octets of an entryUUID (RFC 4530).
pub type Uuid = [u8; 16];

/// The tag in place of the SET of a redacted attribute's values; its content is a digest of them.
pub const REDACTED: u8 = 0x80;

/// The version of the binary form that [`Event::encode`] writes, its first octet.
const VERSION: u8 = 1;

/// What happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Op {
    /// The entry came into the content.
    Add,
    /// Its attributes changed, its name did not.
    Modify,
    /// Its name changed; so may its attributes.
    Move,
    /// It left the content.
    Delete,
    /// The content is complete: what was sent before is the directory at one moment. Concerns the feed and no entry.
    RefreshDone,
    /// Nothing happened, and the feed lives. Concerns the feed and no entry.
    Heartbeat,
}

impl Op {
    /// As JSON has it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Add => "add",
            Self::Modify => "modify",
            Self::Move => "move",
            Self::Delete => "delete",
            Self::RefreshDone => "refresh-done",
            Self::Heartbeat => "heartbeat",
        }
    }

    /// Whether it is about the feed as a whole and not about an entry. Such an event is on shard 0, and is delivered
    /// when everything before it, on every shard, is.
    #[must_use]
    pub fn is_feed_wide(self) -> bool {
        matches!(self, Self::RefreshDone | Self::Heartbeat)
    }

    fn code(self) -> u8 {
        match self {
            Self::Add => 1,
            Self::Modify => 2,
            Self::Move => 3,
            Self::Delete => 4,
            Self::RefreshDone => 5,
            Self::Heartbeat => 6,
        }
    }

    fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            1 => Self::Add,
            2 => Self::Modify,
            3 => Self::Move,
            4 => Self::Delete,
            5 => Self::RefreshDone,
            6 => Self::Heartbeat,
            _ => return None,
        })
    }
}

/// What a refresh came to, in a refresh-done event.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Entries in the content now.
    pub entries: u64,
    /// Entries that came.
    pub added: u64,
    /// Entries whose attributes changed.
    pub modified: u64,
    /// Entries whose names changed.
    pub moved: u64,
    /// Entries that went.
    pub deleted: u64,
    /// Entries that the provider mentioned and that were as kept.
    pub unchanged: u64,
}

/// One change, borrowed.
#[derive(Clone, Copy, Debug)]
pub struct Event<'a> {
    /// The sequence number: from 1, growing, given by the store; 0 while it has none.
    pub seq: u64,
    /// The shard it belongs to (`shards::shard_of`); events of one entry are always on one shard.
    pub shard: u16,
    /// What happened.
    pub op: Op,
    /// The entry's entryUUID; zeros in feed-wide events.
    pub uuid: Uuid,
    /// The entry's name; in a delete, the name it had; empty in feed-wide events.
    pub dn: &'a str,
    /// With a move: the name before.
    pub old_dn: Option<&'a str>,
    /// With add, modify and move: all attributes as they are now.
    pub attributes: Attributes<'a>,
    /// With modify and move: which attributes differ from what was known.
    pub changed: Names<'a>,
    /// Where old values are wanted: those of the changed attributes, or with a delete of all.
    pub before: Option<Attributes<'a>>,
    /// The change's number at the provider (entryCSN), where it says one.
    pub csn: Option<&'a str>,
    /// Milliseconds since 1970-01-01T00:00:00Z at which usherd learnt of it.
    pub time_ms: i64,
    /// With refresh-done.
    pub counts: Option<Counts>,
    /// With add: the entry came into a content that was complete, so that whoever knows all of that content has never heard
    /// of it. Not told to sinks.
    pub is_new: bool,
}

impl<'a> Event<'a> {
    /// An event of this kind about this entry, with everything else empty.
    #[must_use]
    pub fn new(op: Op, uuid: Uuid, dn: &'a str, time_ms: i64) -> Self {
        Self {
            seq: 0,
            shard: 0,
            op,
            uuid,
            dn,
            old_dn: None,
            attributes: Attributes::default(),
            changed: Names::default(),
            before: None,
            csn: None,
            time_ms,
            counts: None,
            is_new: false,
        }
    }

    /// A sign of life, which bears the number of the last event before it. It is not kept.
    #[must_use]
    pub fn heartbeat(seq: u64, time_ms: i64) -> Self {
        Self {
            seq,
            ..Self::new(Op::Heartbeat, [0; 16], "", time_ms)
        }
    }

    /// Appends the binary form: everything but the sequence number, which is the key it is kept under.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.reserve(64 + self.dn.len() + self.attributes.encoded().len());
        let flags = u8::from(self.old_dn.is_some())
            | u8::from(self.csn.is_some()) << 1
            | u8::from(self.before.is_some()) << 2
            | u8::from(self.counts.is_some()) << 3
            | u8::from(self.is_new) << 4;
        out.extend_from_slice(&[VERSION, self.op.code(), flags]);
        out.extend_from_slice(&self.shard.to_le_bytes());
        out.extend_from_slice(&self.uuid);
        out.extend_from_slice(&self.time_ms.to_le_bytes());
        put_bytes(out, self.dn.as_bytes());
        put_optional(out, self.old_dn.map(str::as_bytes));
        put_optional(out, self.csn.map(str::as_bytes));
        put_bytes(out, self.attributes.encoded());
        put_bytes(out, self.changed.encoded());
        put_optional(out, self.before.map(|before| before.encoded()));
        if let Some(counts) = &self.counts {
            counts.encode(out);
        }
    }

    /// What happened, of the event with this binary form; nothing else of it is looked at.
    ///
    /// # Errors
    /// As [`Event::decode`].
    pub fn op_of(bytes: &[u8]) -> Result<Op, Damaged> {
        let [version, op] = Decoder::new(bytes).array::<2>()?;
        if version != VERSION {
            return Err(Damaged("an event is of a version that is not read here"));
        }
        Op::from_code(op).ok_or(Damaged("an event has an unknown kind"))
    }

    /// Reads the binary form of the event with this number.
    ///
    /// # Errors
    /// The bytes are not whole, or of a version that is not read here. They come from our own store, so that means a
    /// damaged or a newer store, and trying again does not help.
    pub fn decode(seq: u64, bytes: &'a [u8]) -> Result<Self, Damaged> {
        let mut from = Decoder::new(bytes);
        let op = Self::op_of(bytes)?;
        let [_, _, flags] = from.array::<3>()?;
        let optional = |bit: u8| flags & 1 << bit != 0;
        let event = Self {
            seq,
            op,
            shard: u16::from_le_bytes(from.array()?),
            uuid: from.array()?,
            time_ms: i64::from_le_bytes(from.array()?),
            dn: from.text()?,
            old_dn: from.optional(optional(0), Decoder::text)?,
            csn: from.optional(optional(1), Decoder::text)?,
            attributes: Attributes::new(from.bytes()?)?,
            changed: Names::new(from.bytes()?)?,
            before: from.optional(optional(2), |from| Ok(Attributes::new(from.bytes()?)?))?,
            counts: from.optional(optional(3), Counts::decode)?,
            is_new: optional(4),
        };
        from.finish()?;
        Ok(event)
    }
}

impl Counts {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let numbers = [
            self.entries,
            self.added,
            self.modified,
            self.moved,
            self.deleted,
            self.unchanged,
        ];
        for number in numbers {
            out.extend_from_slice(&number.to_le_bytes());
        }
    }

    pub(super) fn decode(from: &mut Decoder<'_>) -> Result<Self, Damaged> {
        Ok(Self {
            entries: from.number()?,
            added: from.number()?,
            modified: from.number()?,
            moved: from.number()?,
            deleted: from.number()?,
            unchanged: from.number()?,
        })
    }
}

/// Bytes of our own store that cannot be read: the text says what was found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Damaged(pub &'static str);

impl fmt::Display for Damaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the kept state is damaged, or written by a newer version: {}",
            self.0
        )
    }
}

impl std::error::Error for Damaged {}

impl From<Malformed> for Damaged {
    fn from(_: Malformed) -> Self {
        Self("a list of attributes is not whole")
    }
}

/// One attribute of an entry, borrowed.
#[derive(Clone, Copy, Debug)]
pub struct Attribute<'a> {
    /// Its description, options included (`title;lang-de`).
    pub name: &'a [u8],
    /// Its values; none where it is redacted.
    pub values: Strings<'a>,
    /// Where it is redacted: the digest that stands for its values.
    pub redacted: Option<&'a [u8]>,
    /// The whole encoded attribute.
    pub whole: &'a [u8],
}

/// The attributes of an entry, each seen to be whole when this was made, so that going through them cannot fail.
#[derive(Clone, Copy, Debug)]
pub struct Attributes<'a> {
    rest: Reader<'a>,
}

impl Default for Attributes<'_> {
    fn default() -> Self {
        Self { rest: Reader::new(&[]) }
    }
}

impl<'a> Attributes<'a> {
    /// The attributes in `content`, the content of a list of attributes as this module's head describes it.
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

    /// As [`Attributes::new`], of what was put together from whole attributes just now. Were something in it no whole one,
    /// it would be the end.
    pub(super) fn of_whole(content: &'a [u8]) -> Self {
        Self {
            rest: Reader::new(content),
        }
    }

    /// The bytes that are left.
    #[must_use]
    pub fn encoded(&self) -> &'a [u8] {
        self.rest.rest()
    }

    /// The first attribute with this description, in any case.
    #[must_use]
    pub fn find(mut self, name: &[u8]) -> Option<Attribute<'a>> {
        Iterator::find(&mut self, |attribute| attribute.name.eq_ignore_ascii_case(name))
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Attribute<'a>;

    #[inline]
    fn next(&mut self) -> Option<Attribute<'a>> {
        attribute(&mut self.rest, |content| Ok(Strings::of_whole(content))).ok()
    }
}

#[inline]
fn attribute<'a>(
    level: &mut Reader<'a>,
    strings: impl FnOnce(&'a [u8]) -> Result<Strings<'a>, Malformed>,
) -> Result<Attribute<'a>, Malformed> {
    let outer = level.element()?;
    if outer.tag != ber::tag::SEQUENCE {
        return Err(Malformed::BadTag);
    }
    let mut fields = Reader::new(outer.content);
    let name = fields.take(ber::tag::OCTET_STRING)?;
    let values = fields.element()?;
    fields.finish()?;
    let (values, redacted) = match values.tag {
        ber::tag::SET => (strings(values.content)?, None),
        REDACTED => (Strings::of_whole(&[]), Some(values.content)),
        _ => return Err(Malformed::BadTag),
    };
    Ok(Attribute {
        name,
        values,
        redacted,
        whole: outer.whole,
    })
}

/// Names of attributes, borrowed: OCTET STRINGs, seen to be whole when this was made.
#[derive(Clone, Copy, Debug)]
pub struct Names<'a> {
    rest: Reader<'a>,
}

impl Default for Names<'_> {
    fn default() -> Self {
        Self { rest: Reader::new(&[]) }
    }
}

impl<'a> Names<'a> {
    /// The names in `content`, a run of OCTET STRINGs.
    ///
    /// # Errors
    /// Something in it is none.
    pub fn new(content: &'a [u8]) -> Result<Self, Malformed> {
        let rest = Reader::new(Strings::new(content)?.encoded());
        Ok(Self { rest })
    }

    /// The bytes that are left.
    #[must_use]
    pub fn encoded(&self) -> &'a [u8] {
        self.rest.rest()
    }
}

impl<'a> Iterator for Names<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        self.rest.take(ber::tag::OCTET_STRING).ok()
    }
}

#[cfg(test)]
#[path = "event_tests.rs"]
mod tests;
