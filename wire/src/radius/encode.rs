//! Writing attributes as the dictionary has them: the other direction of [`super::Walk`].

use std::fmt;

use zeroize::Zeroizing;

use super::authenticator::Secret;
use super::dictionary::{Definition, Dictionary, Format, Hiding, Path};
use super::hidden;
use super::number;
use super::value::DataType;
use super::walk::{MORE, TAG_MAX};
use super::writer::{Full, VALUE_BYTES_MAX, Writer};

/// An attribute to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Where it belongs.
    pub path: Path,
    /// Its tag.
    pub tag: Option<u8>,
    /// Its value, or what is inside.
    pub content: Content,
}

/// What an [`Item`] holds.
#[derive(Clone, PartialEq, Eq)]
pub enum Content {
    /// The value of an attribute that the dictionary knows, without tag, and not hidden.
    Value(Zeroizing<Vec<u8>>),
    /// Octets to be written as they are, behind the headers that the path asks for.
    Raw(Vec<u8>),
    /// The attributes inside a tlv.
    Inside(Vec<Item>),
}

impl fmt::Debug for Content {
    /// Without values: they may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Content::Value(octets) => write!(f, "{} octets", octets.len()),
            Content::Raw(octets) => write!(f, "{} raw octets", octets.len()),
            Content::Inside(items) => items.fmt(f),
        }
    }
}

/// By what values are hidden.
#[derive(Clone, Copy, Debug)]
pub struct Hide<'a> {
    /// The shared secret.
    pub secret: &'a Secret,
    /// A number that no other salted value of this packet has.
    pub salt: u16,
}

/// Why an attribute was not written. Nothing of it was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unwritable {
    /// It does not fit.
    Full(Full),
    /// Its value is hidden, and there is no secret to hide it by.
    NoSecret,
    /// It is a name for use inside, and never sent.
    Internal,
    /// It holds others, and is not written by itself; or the dictionary does not know it.
    NoValue,
}

impl fmt::Display for Unwritable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unwritable::Full(full) => full.fmt(f),
            Unwritable::NoSecret => f.write_str("the value is hidden with the shared secret, and there is none"),
            Unwritable::Internal => f.write_str("the attribute is for use inside, and never sent"),
            Unwritable::NoValue => f.write_str("the attribute has no value of its own"),
        }
    }
}

impl std::error::Error for Unwritable {}

impl From<Full> for Unwritable {
    fn from(full: Full) -> Self {
        Unwritable::Full(full)
    }
}

impl Writer<'_> {
    /// Adds an attribute that the dictionary knows, in the headers that it wants: Vendor-Specific, extended, inside tlvs, in
    /// fragments, with tag and hidden.
    ///
    /// # Errors
    /// It does not fit, is hidden and `hide` is none, is never sent, or has no value.
    pub fn pair(
        &mut self,
        dictionary: &Dictionary,
        definition: &Definition,
        tag: Option<u8>,
        octets: &[u8],
        hide: Option<Hide<'_>>,
    ) -> Result<(), Unwritable> {
        check(definition, hide)?;
        let authenticator = self.hiding_authenticator();
        let write = |out: &mut Vec<u8>| content(out, definition, tag, octets, hide, &authenticator);
        if let &[number] = definition.path.numbers()
            && !definition.concat
            && let Ok(number) = u8::try_from(number)
        {
            return Ok(self.attribute_with(number, write)?);
        }
        if let &[first, vendor, number] = definition.path.numbers()
            && first == u32::from(number::VENDOR_SPECIFIC)
            && dictionary.format(vendor) == Format::default()
            && let Ok(number) = u8::try_from(number)
        {
            return Ok(self.vendor_with(vendor, number, write)?);
        }
        let mut value = Zeroizing::new(Vec::new());
        if !write(&mut value) {
            return Err(Full::Value.into());
        }
        Ok(self.value_at(dictionary, &definition.path, &value)?)
    }

    /// Adds an item. A salted value's salt is what `salt` gives.
    ///
    /// # Errors
    /// As [`Writer::pair`].
    pub fn item(
        &mut self,
        dictionary: &Dictionary,
        item: &Item,
        secret: Option<&Secret>,
        salt: &mut dyn FnMut() -> u16,
    ) -> Result<(), Unwritable> {
        let authenticator = self.hiding_authenticator();
        let mut value = Zeroizing::new(Vec::new());
        write_content(&mut value, dictionary, item, secret, salt, &authenticator)?;
        Ok(self.value_at(dictionary, &item.path, &value)?)
    }

    /// Adds a value behind the headers that its path asks for. A path that ends early, as `26.9`, wants the rest in the
    /// value.
    ///
    /// # Errors
    /// It does not fit.
    pub fn value_at(&mut self, dictionary: &Dictionary, path: &Path, value: &[u8]) -> Result<(), Full> {
        let numbers = path.numbers();
        let Some(first) = numbers.first().and_then(|first| u8::try_from(*first).ok()) else {
            return Err(Full::Value);
        };
        let top = Path::new(&[first.into()]).unwrap_or_default();
        let kind = dictionary.data_type(dictionary.place(top.numbers()), &top);
        let evs = numbers.get(1) == Some(&u32::from(number::VENDOR_SPECIFIC));
        let headers = match kind {
            Some(DataType::Vsa) => 3,
            Some(DataType::Extended | DataType::LongExtended) if evs => 4,
            Some(DataType::Extended | DataType::LongExtended) => 2,
            _ => 1,
        };
        let (head, tail) = numbers.split_at_checked(headers).unwrap_or((numbers, &[]));
        let mut wrapped = Zeroizing::new(value.to_vec());
        for number in tail.iter().rev() {
            let mut outer = Zeroizing::new(Vec::with_capacity(wrapped.len() + 2));
            tlv(&mut outer, *number, &wrapped)?;
            wrapped = outer;
        }
        match (kind, head) {
            (_, [_]) if wrapped.len() > VALUE_BYTES_MAX && dictionary.at(numbers).is_some_and(|known| known.concat) => {
                self.concat(first, &wrapped)
            }
            (Some(DataType::Vsa), &[_, vendor, number]) => {
                self.vendor_value(vendor, number, dictionary.format(vendor), &wrapped)
            }
            (Some(DataType::Vsa), &[_, vendor]) => self.parts(first, &[&vendor.to_be_bytes(), &wrapped]),
            (Some(DataType::Extended | DataType::LongExtended), &[_, inner, ref rest @ ..]) => {
                let inner = u8::try_from(inner).map_err(|_| Full::Value)?;
                let mut body = Zeroizing::new(Vec::with_capacity(wrapped.len() + 5));
                if let Some(vendor) = rest.first() {
                    body.extend_from_slice(&vendor.to_be_bytes());
                }
                if let Some(number) = rest.get(1) {
                    body.push(u8::try_from(*number).map_err(|_| Full::Value)?);
                }
                body.extend_from_slice(&wrapped);
                match kind {
                    Some(DataType::LongExtended) => self.long_extended(first, inner, &body),
                    _ => self.parts(first, &[&[inner], &body]),
                }
            }
            _ => self.attribute(first, &wrapped),
        }
    }

    fn parts(&mut self, number: u8, parts: &[&[u8]]) -> Result<(), Full> {
        self.attribute_with(number, |out| {
            parts.iter().for_each(|part| out.extend_from_slice(part));
            true
        })
    }

    /// Fragments where it is longer than one attribute (RFC 6929 section 2.2).
    fn long_extended(&mut self, number: u8, inner: u8, body: &[u8]) -> Result<(), Full> {
        self.pieces(body, VALUE_BYTES_MAX - 2, |writer, piece, more| {
            writer.parts(number, &[&[inner, if more { MORE } else { 0 }], piece])
        })
    }

    fn vendor_value(&mut self, vendor: u32, number: u32, format: Format, value: &[u8]) -> Result<(), Full> {
        let number_octets = usize::from(format.number_octets);
        let header = number_octets + usize::from(format.length_octets) + usize::from(format.continuation);
        let most = VALUE_BYTES_MAX - 4 - header;
        if value.len() > most && !format.continuation {
            return Err(Full::Value);
        }
        let digits = number.to_be_bytes();
        let number = digits.get(4_usize.saturating_sub(number_octets)..).unwrap_or_default();
        self.pieces(value, most, |writer, piece, more| {
            let length = (header + piece.len()).to_be_bytes();
            let length = length
                .get(length.len() - usize::from(format.length_octets)..)
                .unwrap_or_default();
            let flags: &[u8] = match (format.continuation, more) {
                (true, true) => &[MORE],
                (true, false) => &[0],
                (false, _) => &[],
            };
            writer.parts(
                number::VENDOR_SPECIFIC,
                &[&vendor.to_be_bytes(), number, length, flags, piece],
            )
        })
    }

    /// All pieces, or none.
    fn pieces(
        &mut self,
        value: &[u8],
        most: usize,
        mut write: impl FnMut(&mut Self, &[u8], bool) -> Result<(), Full>,
    ) -> Result<(), Full> {
        let before = self.bytes();
        let mut rest = value;
        loop {
            let (piece, behind) = rest.split_at_checked(most).unwrap_or((rest, &[]));
            if let Err(fault) = write(self, piece, !behind.is_empty()) {
                self.truncate(before);
                return Err(fault);
            }
            if behind.is_empty() {
                return Ok(());
            }
            rest = behind;
        }
    }
}

fn check(definition: &Definition, hide: Option<Hide<'_>>) -> Result<(), Unwritable> {
    if definition.internal {
        return Err(Unwritable::Internal);
    }
    if definition.data_type.is_container() {
        return Err(Unwritable::NoValue);
    }
    if definition.hiding.is_some() && hide.is_none() {
        return Err(Unwritable::NoSecret);
    }
    Ok(())
}

/// Appends a value with tag and hidden. False: it is too long to be hidden.
fn content(
    out: &mut Vec<u8>,
    definition: &Definition,
    tag: Option<u8>,
    octets: &[u8],
    hide: Option<Hide<'_>>,
    authenticator: &[u8; 16],
) -> bool {
    if definition.has_tag {
        let always = definition.hiding.is_some() || definition.data_type == DataType::Integer;
        let looks_like_one = octets.first().is_some_and(|octet| *octet <= TAG_MAX);
        match tag {
            Some(tag) => out.push(tag),
            // Without a tag before it, the value's own first octet would be taken for one.
            None if always || looks_like_one => out.push(0),
            None => {}
        }
    }
    match (definition.hiding, hide) {
        (Some(Hiding::Password), Some(hide)) => hidden::hide_password(out, octets, hide.secret, authenticator),
        (Some(Hiding::Salted), Some(hide)) => hidden::hide_salted(out, octets, hide.salt, hide.secret, authenticator),
        (Some(Hiding::Ascend), Some(hide)) => hidden::hide_ascend(out, octets, hide.secret, authenticator),
        _ => {
            out.extend_from_slice(octets);
            true
        }
    }
}

fn write_content(
    out: &mut Vec<u8>,
    dictionary: &Dictionary,
    item: &Item,
    secret: Option<&Secret>,
    salt: &mut dyn FnMut() -> u16,
    authenticator: &[u8; 16],
) -> Result<(), Unwritable> {
    match &item.content {
        Content::Raw(octets) => out.extend_from_slice(octets),
        Content::Value(octets) => {
            let definition = dictionary.at(item.path.numbers()).ok_or(Unwritable::NoValue)?;
            let hide = secret.map(|secret| Hide { secret, salt: salt() });
            check(definition, hide)?;
            if !content(out, definition, item.tag, octets, hide, authenticator) {
                return Err(Full::Value.into());
            }
        }
        Content::Inside(items) => {
            for inner in items {
                let mut value = Zeroizing::new(Vec::new());
                write_content(&mut value, dictionary, inner, secret, salt, authenticator)?;
                let number = inner.path.numbers().last().copied().unwrap_or_default();
                tlv(out, number, &value)?;
            }
        }
    }
    Ok(())
}

fn tlv(out: &mut Vec<u8>, number: u32, value: &[u8]) -> Result<(), Full> {
    let (Ok(number), Ok(length)) = (u8::try_from(number), u8::try_from(value.len() + 2)) else {
        return Err(Full::Value);
    };
    out.extend_from_slice(&[number, length]);
    out.extend_from_slice(value);
    Ok(())
}
