//! The attributes of a packet as the dictionary sees them: vendors' headers taken off, fragments joined, tags and hiding
//! removed.
//!
//! A [`Walk`] goes through a packet in order and allocates only where a value lies in pieces or was hidden. Attributes
//! inside a tlv are told between [`Event::Open`] and [`Event::Close`]; the several attributes that one Vendor-Specific may
//! hold are told one after the other. What has not the form that the dictionary wants, or cannot be revealed, is told raw: without a
//! definition, with the path as far as the form was right, and with all octets behind it.

use std::fmt;
use std::ops::Deref;

use zeroize::Zeroizing;

use super::authenticator::Secret;
use super::dictionary::{Definition, Dictionary, Format, Hiding, Path, Place, TOP};
use super::hidden;
use super::number;
use super::packet::{Attribute, Attributes, Packet};
use super::value::{DataType, Value};

/// Highest tag; an octet above it is no tag (RFC 2868 section 3.1).
pub(super) const TAG_MAX: u8 = 0x1f;
/// The bit that says that more fragments follow, in long-extended attributes and in vendors' continuation octets.
pub(super) const MORE: u8 = 0x80;

/// Octets of a value: the packet's own, or put together. What was put together is wiped when dropped.
#[derive(Clone, PartialEq, Eq)]
pub enum Octets<'a> {
    /// Where they lie.
    Borrowed(&'a [u8]),
    /// From pieces, or revealed.
    Owned(Zeroizing<Vec<u8>>),
}

impl Deref for Octets<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Octets::Borrowed(octets) => octets,
            Octets::Owned(octets) => octets,
        }
    }
}

impl fmt::Debug for Octets<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} octets", self.len())
    }
}

/// One attribute with a value.
#[derive(Clone, Debug)]
pub struct Pair<'d, 'a> {
    /// Where it is.
    pub path: Path,
    /// What is known of it. None: it is unknown, or has not its form.
    pub definition: Option<&'d Definition>,
    /// Its tag, if it has one.
    pub tag: Option<u8>,
    /// Its value, without tag and revealed; all octets if there is no definition.
    pub octets: Octets<'a>,
}

impl Pair<'_, '_> {
    /// The value.
    #[must_use]
    pub fn value(&self) -> Value<'_> {
        let decoded = self.definition.and_then(|definition| definition.decode(&self.octets));
        decoded.unwrap_or(Value::Octets(&self.octets))
    }
}

/// One step of a walk.
#[derive(Clone, Debug)]
pub enum Event<'d, 'a> {
    /// A value.
    Pair(Pair<'d, 'a>),
    /// A tlv begins; what is inside follows.
    Open(&'d Definition),
    /// It ends.
    Close,
}

/// By what hidden values are revealed. The authenticator is [`Packet::hiding_authenticator`].
#[derive(Clone, Copy, Debug)]
pub struct Reveal<'a> {
    /// The shared secret.
    pub secret: &'a Secret,
    /// The authenticator that belongs in.
    pub authenticator: &'a [u8; 16],
}

/// A packet's attributes, in order.
#[derive(Debug)]
pub struct Walk<'d, 'a> {
    dictionary: &'d Dictionary,
    reveal: Option<Reveal<'a>>,
    top: Attributes<'a>,
    only: Option<u8>,
    inside: Option<Inside<'a>>,
    /// What is around `inside`: empty, and so not allocated, unless there are tlvs.
    around: Vec<Inside<'a>>,
}

/// A row of attributes inside another. It was looked through before it was entered: every one is whole.
#[derive(Debug)]
struct Inside<'a> {
    octets: Octets<'a>,
    at: usize,
    path: Path,
    place: Option<Place>,
    row: Row,
}

/// What a row is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Row {
    /// A vendor's attributes.
    Vendor(Format),
    /// Number, length, value.
    Tlv,
    /// Values of so many octets, of the attribute itself.
    Array(usize),
}

impl<'a> Packet<'a> {
    /// All attributes as the dictionary sees them. Without `reveal` hidden values stay raw.
    #[must_use]
    pub fn walk<'d>(&self, dictionary: &'d Dictionary, reveal: Option<Reveal<'a>>) -> Walk<'d, 'a> {
        Walk {
            dictionary,
            reveal,
            top: self.attributes(),
            only: None,
            inside: None,
            around: Vec::new(),
        }
    }

    /// The values of one attribute, wherever the dictionary says that it is.
    pub fn values<'d>(
        &self,
        dictionary: &'d Dictionary,
        definition: &'d Definition,
        reveal: Option<Reveal<'a>>,
    ) -> impl Iterator<Item = Pair<'d, 'a>> + use<'a, 'd> {
        let mut walk = self.walk(dictionary, reveal);
        let first = definition.path.numbers().first().copied();
        // A number above 255 is never in a packet; then no attribute is looked at.
        walk.only = first.and_then(|first| u8::try_from(first).ok());
        if walk.only.is_none() {
            walk.top = Attributes::default();
        }
        walk.filter_map(move |event| match event {
            Event::Pair(pair) if pair.definition.is_some() && pair.path == definition.path => Some(pair),
            _ => None,
        })
    }
}

impl<'d, 'a> Iterator for Walk<'d, 'a> {
    type Item = Event<'d, 'a>;

    fn next(&mut self) -> Option<Event<'d, 'a>> {
        loop {
            if let Some(inside) = &mut self.inside {
                if let Some((number, octets)) = inside.take() {
                    let (path, place) = match number {
                        None => (Some(inside.path), inside.place),
                        Some(number) => (inside.path.below(number), self.dictionary.below(inside.place, number)),
                    };
                    // Rows are not entered deeper than a path goes.
                    return Some(self.leaf(path.unwrap_or_default(), place, octets));
                }
                let was = inside.row;
                self.inside = self.around.pop();
                if was == Row::Tlv {
                    return Some(Event::Close);
                }
                continue;
            }
            let attribute = self.top.next()?;
            if self.only.is_some_and(|only| only != attribute.number) {
                continue;
            }
            if let Some(event) = self.attribute(attribute) {
                return Some(event);
            }
        }
    }
}

impl<'d, 'a> Walk<'d, 'a> {
    /// None: a row was entered.
    fn attribute(&mut self, attribute: Attribute<'a>) -> Option<Event<'d, 'a>> {
        let number = u32::from(attribute.number);
        let path = Path::default().below(number).unwrap_or_default();
        let place = self.dictionary.child(TOP, number);
        match self.dictionary.data_type(place, &path) {
            Some(DataType::Vsa) => self.vendor(attribute, path, place),
            Some(DataType::Extended) => Some(self.extended(attribute, path, place, false)),
            Some(DataType::LongExtended) => Some(self.extended(attribute, path, place, true)),
            _ => {
                let joined = place
                    .and_then(|place| self.dictionary.definition(place))
                    .filter(|known| known.concat);
                let octets = match joined {
                    Some(_) => self.joined(attribute),
                    None => Octets::Borrowed(attribute.value),
                };
                Some(self.leaf(path, place, octets))
            }
        }
    }

    /// The value and those of the attributes of the same number right behind it.
    fn joined(&mut self, first: Attribute<'a>) -> Octets<'a> {
        let mut whole: Option<Zeroizing<Vec<u8>>> = None;
        while let Some(next) = self.top.clone().next().filter(|next| next.number == first.number) {
            whole
                .get_or_insert_with(|| Zeroizing::new(first.value.to_vec()))
                .extend_from_slice(next.value);
            self.top.next();
        }
        whole.map_or(Octets::Borrowed(first.value), Octets::Owned)
    }

    fn vendor(&mut self, attribute: Attribute<'a>, path: Path, place: Option<Place>) -> Option<Event<'d, 'a>> {
        let Some((vendor, octets)) = super::packet::split_vendor(attribute.value) else {
            return Some(raw(path, Octets::Borrowed(attribute.value)));
        };
        let path = path.below(vendor).unwrap_or_default();
        let place = self.dictionary.below(place, vendor);
        let format = self.dictionary.format(vendor);
        if let Some((number, value)) = fragment(octets, format) {
            return Some(match self.vendor_fragments(vendor, format, number, value) {
                Some(whole) => {
                    let place = self.dictionary.below(place, number);
                    self.leaf(path.below(number).unwrap_or_default(), place, Octets::Owned(whole))
                }
                None => raw(path, Octets::Borrowed(octets)),
            });
        }
        let octets = Octets::Borrowed(octets);
        match self.enter(octets, path, place, Row::Vendor(format)) {
            Ok(()) => None,
            Err(octets) => Some(raw(path, octets)),
        }
    }

    /// Joins what the vendor's continuation octet says belongs together. None: the last piece is not there.
    fn vendor_fragments(
        &mut self,
        vendor: u32,
        format: Format,
        number: u32,
        first: &[u8],
    ) -> Option<Zeroizing<Vec<u8>>> {
        let mut top = self.top.clone();
        let mut whole = Zeroizing::new(first.to_vec());
        loop {
            let next = top.next().filter(|next| next.number == number::VENDOR_SPECIFIC)?;
            let (_, octets) = super::packet::split_vendor(next.value).filter(|(of, _)| *of == vendor)?;
            let last = match fragment(octets, format) {
                Some((of, value)) if of == number => {
                    whole.extend_from_slice(value);
                    false
                }
                Some(_) => return None,
                None => {
                    let (of, value, used) = header(octets, format)?;
                    (of == number && used == octets.len()).then_some(())?;
                    whole.extend_from_slice(octets.get(value)?);
                    true
                }
            };
            if last {
                self.top = top;
                return Some(whole);
            }
        }
    }

    fn extended(&mut self, attribute: Attribute<'a>, path: Path, place: Option<Place>, long: bool) -> Event<'d, 'a> {
        let refused = raw(path, Octets::Borrowed(attribute.value));
        let (number, data) = match (long, attribute.value) {
            (false, [number, data @ ..]) => (*number, Octets::Borrowed(data)),
            (true, [number, flags, data @ ..]) if flags & MORE == 0 => (*number, Octets::Borrowed(data)),
            (true, [number, _, data @ ..]) => match self.long_fragments(attribute.number, *number, data) {
                Some(whole) => (*number, Octets::Owned(whole)),
                None => return refused,
            },
            _ => return refused,
        };
        let number = u32::from(number);
        let path = path.below(number).unwrap_or_default();
        let place = self.dictionary.below(place, number);
        if number != u32::from(number::VENDOR_SPECIFIC) {
            return self.leaf(path, place, data);
        }
        let Some((vendor, &[number, ..])) = super::packet::split_vendor(&data) else {
            return raw(path, data);
        };
        let number = u32::from(number);
        let path = path
            .below(vendor)
            .and_then(|path| path.below(number))
            .unwrap_or_default();
        let place = self.dictionary.below(self.dictionary.below(place, vendor), number);
        self.leaf(path, place, data.part(5..data.len()))
    }

    /// Joins fragments (RFC 6929 section 2.2). None: the last one is not there.
    fn long_fragments(&mut self, number: u8, inner: u8, first: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let mut top = self.top.clone();
        let mut whole = Zeroizing::new(first.to_vec());
        loop {
            let next = top.next().filter(|next| next.number == number)?;
            let [of, flags, data @ ..] = next.value else {
                return None;
            };
            (*of == inner).then_some(())?;
            whole.extend_from_slice(data);
            if flags & MORE == 0 {
                self.top = top;
                return Some(whole);
            }
        }
    }

    /// Enters a row if all of it is whole; otherwise gives its octets back.
    fn enter(&mut self, octets: Octets<'a>, path: Path, place: Option<Place>, row: Row) -> Result<(), Octets<'a>> {
        let mut inside = Inside {
            octets,
            at: 0,
            path,
            place,
            row,
        };
        if inside.octets.is_empty() || path.below(0).is_none() || !inside.is_whole() {
            return Err(inside.octets);
        }
        inside.at = 0;
        if let Some(around) = self.inside.replace(inside) {
            self.around.push(around);
        }
        Ok(())
    }

    fn leaf(&mut self, path: Path, place: Option<Place>, octets: Octets<'a>) -> Event<'d, 'a> {
        let Some(definition) = place.and_then(|place| self.dictionary.definition(place)) else {
            return raw(path, octets);
        };
        if definition.data_type == DataType::Tlv {
            return match self.enter(octets, path, place, Row::Tlv) {
                Ok(()) => Event::Open(definition),
                Err(octets) => raw(path, octets),
            };
        }
        if let Some(size) = definition.data_type.octets()
            && definition.array
            && octets.len() > size
            && octets.len().is_multiple_of(size)
        {
            let first = octets.part(0..size);
            let rest = octets.part(size..octets.len());
            return match self.enter(rest, path, place, Row::Array(size)) {
                Ok(()) => self.pair(path, definition, first),
                Err(_) => raw(path, octets),
            };
        }
        self.pair(path, definition, octets)
    }

    fn pair(&self, path: Path, definition: &'d Definition, octets: Octets<'a>) -> Event<'d, 'a> {
        match self.shown(definition, &octets) {
            Some((tag, octets)) => Event::Pair(Pair {
                path,
                definition: Some(definition),
                tag,
                octets,
            }),
            None => raw(path, octets),
        }
    }

    /// Takes tag and hiding off, and sees whether the rest is of the type.
    fn shown(&self, definition: &Definition, octets: &Octets<'a>) -> Option<(Option<u8>, Octets<'a>)> {
        let always = definition.hiding.is_some() || definition.data_type == DataType::Integer;
        let (tag, octets) = match octets.first() {
            Some(&tag) if definition.has_tag && (always || tag <= TAG_MAX) => {
                (tag <= TAG_MAX).then_some(())?;
                (
                    Some(tag).filter(|tag| *tag != 0 || !always),
                    octets.part(1..octets.len()),
                )
            }
            _ => (None, octets.clone()),
        };
        let octets = match definition.hiding {
            None => octets,
            Some(hiding) => Octets::Owned(self.revealed(hiding, definition, &octets)?),
        };
        definition.decode(&octets)?;
        Some((tag, octets))
    }

    fn revealed(&self, hiding: Hiding, definition: &Definition, octets: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let Reveal { secret, authenticator } = self.reveal?;
        let plain = match (hiding, definition.length.or(definition.data_type.octets())) {
            (Hiding::Salted, _) => hidden::reveal_salted(octets, secret, authenticator)?,
            (Hiding::Password, Some(length)) => {
                let plain = hidden::reveal_blocks(octets, secret, authenticator)?;
                return Some(Zeroizing::new(plain.as_bytes().get(..length)?.to_vec()));
            }
            (Hiding::Password, None) => hidden::reveal_password(octets, secret, authenticator)?,
            (Hiding::Ascend, _) => hidden::reveal_ascend(octets, secret, authenticator)?,
        };
        Some(Zeroizing::new(plain.as_bytes().to_vec()))
    }
}

fn raw<'d, 'a>(path: Path, octets: Octets<'a>) -> Event<'d, 'a> {
    Event::Pair(Pair {
        path,
        definition: None,
        tag: None,
        octets,
    })
}

impl<'a> Octets<'a> {
    fn part(&self, range: std::ops::Range<usize>) -> Octets<'a> {
        match self {
            Octets::Borrowed(octets) => Octets::Borrowed(octets.get(range).unwrap_or_default()),
            Octets::Owned(octets) => {
                let part = octets.get(range).unwrap_or_default();
                Octets::Owned(Zeroizing::new(part.to_vec()))
            }
        }
    }
}

impl<'a> Inside<'a> {
    /// The next attribute of the row: its number, if it has one, and its value. None: the row ends, or is not whole.
    fn take(&mut self) -> Option<(Option<u32>, Octets<'a>)> {
        let rest = self.octets.get(self.at..).filter(|rest| !rest.is_empty())?;
        let (number, value, used) = match self.row {
            Row::Array(size) => (None, 0..size, size),
            Row::Tlv => {
                let (number, value, used) = header(rest, Format::default())?;
                (Some(number), value, used)
            }
            Row::Vendor(format) => {
                let (number, value, used) = header(rest, format)?;
                (Some(number), value, used)
            }
        };
        let value = self.octets.part(self.at + value.start..self.at + value.end);
        self.at += used;
        Some((number, value))
    }

    fn is_whole(&mut self) -> bool {
        if let Row::Array(_) = self.row {
            return true;
        }
        let format = match self.row {
            Row::Vendor(format) => format,
            _ => Format::default(),
        };
        let mut rest: &[u8] = &self.octets;
        while !rest.is_empty() {
            let Some((_, _, used)) = header(rest, format) else {
                return false;
            };
            rest = rest.get(used..).unwrap_or_default();
        }
        true
    }
}

/// The first attribute of a row: its number, where its value is, and how many octets it has. None: it is not whole, or
/// goes on in another attribute.
fn header(octets: &[u8], format: Format) -> Option<(u32, std::ops::Range<usize>, usize)> {
    let (number, value, used, more) = any_header(octets, format)?;
    (!more).then_some((number, value, used))
}

/// The number and value of what goes on in the next attribute.
fn fragment(octets: &[u8], format: Format) -> Option<(u32, &[u8])> {
    let (number, value, used, more) = any_header(octets, format).filter(|_| format.continuation)?;
    (more && used == octets.len()).then_some(())?;
    Some((number, octets.get(value)?))
}

fn any_header(octets: &[u8], format: Format) -> Option<(u32, std::ops::Range<usize>, usize, bool)> {
    let (number, rest) = octets.split_at_checked(usize::from(format.number_octets))?;
    let number = number.iter().fold(0, |number, octet| number << 8 | u32::from(*octet));
    let (length, rest) = rest.split_at_checked(usize::from(format.length_octets))?;
    let used = match length {
        [] => octets.len(),
        length => length.iter().fold(0, |length, octet| length << 8 | usize::from(*octet)),
    };
    let more = format.continuation && rest.first()? & MORE != 0;
    let start = octets.len() - rest.len() + usize::from(format.continuation);
    (start <= used && used <= octets.len()).then_some((number, start..used, used, more))
}
