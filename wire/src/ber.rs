//! The subset of BER (X.690) that LDAP uses (RFC 4511 section 5.1), walked on slices.
//!
//! Lengths are definite and take at most four octets (not necessarily the fewest: some clients always send four), tags
//! are one octet. [`Reader`] goes through the elements of one level; it never looks past the slice it was given, so an
//! element that claims more than its parent has is [`Malformed::Truncated`]. Nothing recurses: depth is the business of
//! whoever opens the next level. What is written has the fewest length octets possible, because some clients misread more.

use crate::frame::Malformed;

/// UNIVERSAL tags in the form LDAP uses them.
pub mod tag {
    /// BOOLEAN.
    pub const BOOLEAN: u8 = 0x01;
    /// INTEGER.
    pub const INTEGER: u8 = 0x02;
    /// OCTET STRING, always primitive.
    pub const OCTET_STRING: u8 = 0x04;
    /// NULL.
    pub const NULL: u8 = 0x05;
    /// ENUMERATED.
    pub const ENUMERATED: u8 = 0x0A;
    /// SEQUENCE and SEQUENCE OF.
    pub const SEQUENCE: u8 = 0x30;
    /// SET and SET OF.
    pub const SET: u8 = 0x31;
}

/// The most length octets taken from the network.
const LENGTH_OCTETS_MAX: usize = 4;

/// The tag and length in front of an element's content.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// The identifier octet.
    pub tag: u8,
    /// Octets of identifier and length: 2 to 6.
    pub header_len: usize,
    /// Octets of content that should follow.
    pub content_len: usize,
}

impl Header {
    /// Octets of the whole element.
    #[inline]
    #[must_use]
    pub fn total_len(&self) -> usize {
        self.header_len.saturating_add(self.content_len)
    }
}

/// Reads the header at the beginning of `buf`; `None` when more bytes are needed to know it.
///
/// # Errors
/// A tag of several octets, the indefinite form, or more than four length octets.
#[inline]
pub fn header(buf: &[u8]) -> Result<Option<Header>, Malformed> {
    let [tag, rest @ ..] = buf else { return Ok(None) };
    if tag & 0x1F == 0x1F {
        return Err(Malformed::BadTag);
    }
    match rest {
        [] => Ok(None),
        [short @ 0..=0x7F, ..] => Ok(Some(Header {
            tag: *tag,
            header_len: 2,
            content_len: usize::from(*short),
        })),
        [long, octets @ ..] => long_header(*tag, usize::from(long & 0x7F), octets),
    }
}

fn long_header(tag: u8, count: usize, octets: &[u8]) -> Result<Option<Header>, Malformed> {
    match count {
        0 => return Err(Malformed::IndefiniteLength),
        1..=LENGTH_OCTETS_MAX => {}
        _ => return Err(Malformed::LengthTooLong),
    }
    let Some(octets) = octets.get(..count) else {
        return Ok(None);
    };
    let content_len = octets
        .iter()
        .fold(0u32, |length, octet| length << 8 | u32::from(*octet));
    let content_len = usize::try_from(content_len).map_err(|_| Malformed::TooLarge)?;
    Ok(Some(Header {
        tag,
        header_len: 2 + count,
        content_len,
    }))
}

/// One element: its tag, its content, and both with the length between them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Element<'a> {
    /// The identifier octet.
    pub tag: u8,
    /// What is inside.
    pub content: &'a [u8],
    /// Identifier, length and content.
    pub whole: &'a [u8],
}

/// Goes through the elements of one level, in order.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// A reader of the elements in `content`.
    #[inline]
    #[must_use]
    pub fn new(content: &'a [u8]) -> Self {
        Self { rest: content }
    }

    /// A reader of what is inside the one element that `whole` is.
    ///
    /// # Errors
    /// `whole` is not exactly one element with this tag.
    #[inline]
    pub fn inside(whole: &'a [u8], tag: u8) -> Result<Self, Malformed> {
        let mut outer = Self::new(whole);
        let content = outer.take(tag)?;
        outer.finish()?;
        Ok(Self::new(content))
    }

    /// Whether all elements were taken.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// What was not taken yet.
    #[inline]
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The next element's tag.
    #[inline]
    #[must_use]
    pub fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    /// The next element, whatever it is.
    ///
    /// # Errors
    /// There is none, it is longer than what is left, or its header is malformed.
    #[inline]
    pub fn element(&mut self) -> Result<Element<'a>, Malformed> {
        let header = header(self.rest)?.ok_or(Malformed::Truncated)?;
        let (whole, rest) = self
            .rest
            .split_at_checked(header.total_len())
            .ok_or(Malformed::Truncated)?;
        let content = whole.get(header.header_len..).ok_or(Malformed::Truncated)?;
        self.rest = rest;
        Ok(Element {
            tag: header.tag,
            content,
            whole,
        })
    }

    /// The content of the next element, which must have this tag.
    ///
    /// # Errors
    /// As [`Reader::element`], and [`Malformed::BadTag`] for another tag.
    #[inline]
    pub fn take(&mut self, tag: u8) -> Result<&'a [u8], Malformed> {
        let element = self.element()?;
        if element.tag == tag {
            Ok(element.content)
        } else {
            Err(Malformed::BadTag)
        }
    }

    /// The content of the next element if it has this tag; otherwise takes nothing.
    ///
    /// # Errors
    /// As [`Reader::element`], for an element that has the tag.
    #[inline]
    pub fn take_optional(&mut self, tag: u8) -> Result<Option<&'a [u8]>, Malformed> {
        if self.peek() == Some(tag) {
            self.take(tag).map(Some)
        } else {
            Ok(None)
        }
    }

    /// Ends the level.
    ///
    /// # Errors
    /// [`Malformed::TrailingBytes`] when something was not taken.
    #[inline]
    pub fn finish(&self) -> Result<(), Malformed> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(Malformed::TrailingBytes)
        }
    }
}

/// The OCTET STRINGs of one level, each seen to be whole when this was made, so that going through them cannot fail.
#[derive(Clone, Copy, Debug)]
pub struct Strings<'a> {
    rest: Reader<'a>,
}

impl<'a> Strings<'a> {
    /// The strings in `content`, the content of a SEQUENCE OF or SET OF.
    ///
    /// # Errors
    /// Something in it is no whole OCTET STRING.
    pub fn new(content: &'a [u8]) -> Result<Self, Malformed> {
        let strings = Self {
            rest: Reader::new(content),
        };
        let mut walk = strings.rest;
        while !walk.is_empty() {
            walk.take(tag::OCTET_STRING)?;
        }
        Ok(strings)
    }

    /// As [`Strings::new`], where they were seen to be whole before. Were one not, it would be the end.
    #[inline]
    #[must_use]
    pub fn of_whole(content: &'a [u8]) -> Self {
        Self {
            rest: Reader::new(content),
        }
    }

    /// Whether there are none left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The encoded strings that are left.
    #[must_use]
    pub fn encoded(&self) -> &'a [u8] {
        self.rest.rest()
    }
}

impl<'a> Iterator for Strings<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        self.rest.take(tag::OCTET_STRING).ok()
    }
}

/// Reads the content of an INTEGER or ENUMERATED of at most 32 bits.
///
/// # Errors
/// Empty, longer than the value needs (X.690 section 8.3.2), or above 32 bits.
#[inline]
pub fn integer(content: &[u8]) -> Result<i32, Malformed> {
    let [first, rest @ ..] = content else {
        return Err(Malformed::BadValue("an integer of at least one octet"));
    };
    if let [second, ..] = rest {
        let padded = (*first == 0 && *second < 0x80) || (*first == 0xFF && *second >= 0x80);
        if padded {
            return Err(Malformed::BadValue("an integer in the fewest octets"));
        }
        if content.len() > 4 {
            return Err(Malformed::BadValue("an integer of at most 32 bits"));
        }
    }
    Ok(rest.iter().fold(i32::from(first.cast_signed()), |value, octet| {
        value << 8 | i32::from(*octet)
    }))
}

/// Reads the content of an INTEGER of 0 to 2^31-1, the range of RFC 4511's `maxInt`.
///
/// # Errors
/// As [`integer`], and for a negative one.
#[inline]
pub fn natural(content: &[u8]) -> Result<i32, Malformed> {
    match integer(content)? {
        value @ 0.. => Ok(value),
        _ => Err(Malformed::BadValue("an integer of 0 to 2147483647")),
    }
}

/// Reads the content of an INTEGER of 0 to 2^31-1 that may have leading zeros within four octets: some clients always
/// send four. Only for numbers that are rewritten before anyone else sees them.
#[inline]
#[must_use]
pub fn natural_padded(content: &[u8]) -> Option<i32> {
    match content {
        [first @ 0..=0x7F, rest @ ..] if rest.len() < 4 => Some(
            rest.iter()
                .fold(i32::from(*first), |value, octet| value << 8 | i32::from(*octet)),
        ),
        _ => None,
    }
}

/// Reads the content of a BOOLEAN. Any octet but zero is true, as in BER at large: clients send 0x01 too.
///
/// # Errors
/// Not exactly one octet.
#[inline]
pub fn boolean(content: &[u8]) -> Result<bool, Malformed> {
    match content {
        [octet] => Ok(*octet != 0),
        _ => Err(Malformed::BadValue("a boolean of one octet")),
    }
}

/// Octets that the length `len` takes, in the fewest octets.
#[inline]
#[must_use]
pub fn length_octets(len: usize) -> usize {
    match len {
        0..=0x7F => 1,
        0x80..=0xFF => 2,
        0x100..=0xFFFF => 3,
        0x1_0000..=0xFF_FFFF => 4,
        _ => 1 + size_of::<usize>() - len.leading_zeros() as usize / 8,
    }
}

/// Octets of an element with this much content.
#[inline]
#[must_use]
pub fn element_len(content_len: usize) -> usize {
    (1 + length_octets(content_len)).saturating_add(content_len)
}

/// Octets of the content of `value` as an INTEGER.
#[inline]
#[must_use]
pub fn integer_octets(value: i32) -> usize {
    let magnitude = if value < 0 { !value } else { value };
    1 + (32 - magnitude.leading_zeros() as usize) / 8
}

/// Appends a tag and a length.
#[inline]
pub fn write_header(out: &mut Vec<u8>, tag: u8, content_len: usize) {
    out.push(tag);
    write_length(out, content_len);
}

/// Appends a length in the fewest octets.
#[inline]
pub fn write_length(out: &mut Vec<u8>, len: usize) {
    if len <= 0x7F {
        out.push(low_octet(len));
    } else {
        let count = length_octets(len) - 1;
        out.push(0x80 | low_octet(count));
        out.extend_from_slice(lowest(&len.to_be_bytes(), count));
    }
}

/// Appends an element with this content.
#[inline]
pub fn write_bytes(out: &mut Vec<u8>, tag: u8, content: &[u8]) {
    write_header(out, tag, content.len());
    out.extend_from_slice(content);
}

/// Appends an INTEGER (or ENUMERATED, by its tag) in the fewest octets.
#[inline]
pub fn write_integer(out: &mut Vec<u8>, tag: u8, value: i32) {
    let count = integer_octets(value);
    out.extend_from_slice(&[tag, low_octet(count)]);
    out.extend_from_slice(lowest(&value.to_be_bytes(), count));
}

/// Appends a BOOLEAN: 0xFF for true (RFC 4511 section 5.1).
#[inline]
pub fn write_boolean(out: &mut Vec<u8>, tag: u8, value: bool) {
    out.extend_from_slice(&[tag, 1, if value { 0xFF } else { 0 }]);
}

/// Appends an element whose content is what `fill` appends.
///
/// The length is written behind the fact, so content of 128 octets and more is moved once by up to a few octets.
pub fn nest(out: &mut Vec<u8>, tag: u8, fill: impl FnOnce(&mut Vec<u8>)) {
    out.extend_from_slice(&[tag, 0]);
    let start = out.len();
    fill(out);
    let len = out.len().saturating_sub(start);
    let count = length_octets(len);
    if let Some(gap @ 1..) = count.checked_sub(1) {
        out.resize(start + len + gap, 0);
        out.copy_within(start..start + len, start + gap);
        let octets = len.to_be_bytes();
        let lowest = octets.iter().skip(size_of::<usize>() - gap);
        out.iter_mut()
            .skip(start)
            .zip(lowest)
            .for_each(|(place, octet)| *place = *octet);
    }
    if let Some(place) = out.get_mut(start - 1) {
        *place = if count == 1 {
            low_octet(len)
        } else {
            0x80 | low_octet(count - 1)
        };
    }
}

/// The last `count` of some octets.
#[inline]
fn lowest(octets: &[u8], count: usize) -> &[u8] {
    octets.get(octets.len().saturating_sub(count)..).unwrap_or_default()
}

#[inline]
fn low_octet(value: usize) -> u8 {
    let [low, ..] = value.to_le_bytes();
    low
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_written_in_the_fewest_octets_and_read_back() {
        for len in [
            0,
            1,
            0x7F,
            0x80,
            0xFF,
            0x100,
            0xFFFF,
            0x1_0000,
            0xFF_FFFF,
            0x100_0000,
            0xFFFF_FFFF,
        ] {
            let mut out = Vec::new();
            write_header(&mut out, 0x04, len);
            assert_eq!(out.len(), 1 + length_octets(len));
            let expected = Header {
                tag: 0x04,
                header_len: out.len(),
                content_len: len,
            };
            assert_eq!(header(&out), Ok(Some(expected)));
            for cut in 0..out.len() {
                assert_eq!(header(&out[..cut]), Ok(None));
            }
            if out.len() > 2 {
                assert_ne!(out[2], 0, "no leading zero");
            }
        }
    }

    #[test]
    fn forbidden_headers_are_named() {
        assert_eq!(header(&[0x30, 0x80]), Err(Malformed::IndefiniteLength));
        assert_eq!(header(&[0x30, 0x85]), Err(Malformed::LengthTooLong));
        assert_eq!(header(&[0x30, 0xFF, 0, 0, 0]), Err(Malformed::LengthTooLong));
        assert_eq!(header(&[0x3F, 0x01, 0x00]), Err(Malformed::BadTag));
        // Longer than needed is allowed.
        assert_eq!(
            header(&[0x30, 0x84, 0, 0, 0, 1]),
            Ok(Some(Header {
                tag: 0x30,
                header_len: 6,
                content_len: 1
            }))
        );
    }

    #[test]
    fn integers_are_minimal_both_ways() {
        for value in [
            0,
            1,
            127,
            128,
            255,
            256,
            32767,
            32768,
            8_388_607,
            8_388_608,
            i32::MAX,
            -1,
            -128,
            -129,
            i32::MIN,
        ] {
            let mut out = Vec::new();
            write_integer(&mut out, tag::INTEGER, value);
            assert_eq!(out.len(), 2 + integer_octets(value));
            assert_eq!(integer(&out[2..]), Ok(value));
        }
        for bad in [&[][..], &[0, 1], &[0xFF, 0x80], &[0, 0x80, 0, 0, 0], &[1, 0, 0, 0, 0]] {
            assert!(integer(bad).is_err(), "{bad:?}");
        }
        assert!(natural(&[0x80]).is_err());
        assert_eq!(natural(&[0x7F, 0xFF, 0xFF, 0xFF]), Ok(i32::MAX));
    }

    #[test]
    fn nesting_writes_what_a_known_length_would() {
        for len in [0, 1, 127, 128, 255, 256, 65535, 65536] {
            let content = vec![7; len];
            let (mut nested, mut plain) = (vec![1, 2], vec![1, 2]);
            nest(&mut nested, 0x30, |out| out.extend_from_slice(&content));
            write_bytes(&mut plain, 0x30, &content);
            assert_eq!(nested, plain);
        }
    }

    #[test]
    fn a_child_cannot_reach_past_its_parent() {
        // The inner OCTET STRING claims 3 octets where the SEQUENCE has 2 left, though the buffer has more.
        let bytes = [0x30, 0x04, 0x04, 0x03, 1, 2, 3, 4];
        let mut outer = Reader::new(&bytes);
        let mut inner = Reader::new(outer.take(tag::SEQUENCE).unwrap());
        assert_eq!(inner.take(tag::OCTET_STRING), Err(Malformed::Truncated));
    }
}
