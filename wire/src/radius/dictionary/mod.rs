//! What attributes are called, which numbers they have and what their values are.
//!
//! A [`Dictionary`] is a tree: attributes at the top by number, below Vendor-Specific (26) a vendor by its enterprise number
//! and below that its attributes; attributes of the types tlv, extended and long-extended have attributes below them too.
//! Looking up by number is one step into an array for each level, by name one look-up in a map (in upper or lower case).
//! [`Dictionary::standard`] is our own (the files in `wire/dictionaries/`); files in the syntax of FreeRADIUS 3 are put on
//! top of it, or of an empty one, with [`Dictionary::load`].
//!
//! Attributes above 255 that belong to no vendor (Auth-Type, Cleartext-Password…) are names for use inside: they are never
//! sent.

mod define;
mod load;
mod standard;
mod syntax;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::fmt;

pub use load::{Fault, Include, Loaded, Source};

use super::number;
use super::value::{DataType, Value};

/// The most numbers of one attribute's path: vendor, attribute and TLVs in TLVs.
pub const DEPTH_MAX: usize = 8;
/// The first number at the top that is never sent.
const INTERNAL: u32 = 256;
/// Numbers below this one are places in an array, those above are looked up in a map.
const DENSE: u32 = 512;

/// Where an attribute is: the numbers from the top, as in `26.9.1`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Path {
    numbers: [u32; DEPTH_MAX],
    length: u8,
}

impl Path {
    /// The path of these numbers. None: there are none, or more than [`DEPTH_MAX`].
    #[must_use]
    pub fn new(numbers: &[u32]) -> Option<Path> {
        let mut path = Path::default();
        for number in numbers {
            path = path.below(*number)?;
        }
        (!numbers.is_empty()).then_some(path)
    }

    /// One number more.
    #[must_use]
    pub fn below(mut self, number: u32) -> Option<Path> {
        *self.numbers.get_mut(usize::from(self.length))? = number;
        self.length += 1;
        Some(self)
    }

    /// The numbers.
    #[must_use]
    pub fn numbers(&self) -> &[u32] {
        self.numbers.get(..usize::from(self.length)).unwrap_or_default()
    }

    /// Reads `26.9.1`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Path> {
        let mut path = Path::default();
        for number in text.split('.') {
            path = path.below(super::value::unsigned(number, u32::MAX.into()).and_then(|n| u32::try_from(n).ok())?)?;
        }
        Some(path)
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, number) in self.numbers().iter().enumerate() {
            let dot = if at == 0 { "" } else { "." };
            write!(f, "{dot}{number}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// How a value is hidden.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hiding {
    /// `encrypt=1`: as User-Password (RFC 2865 section 5.2).
    Password,
    /// `encrypt=2`: with a salt, as Tunnel-Password (RFC 2868 section 3.5) and the MPPE keys (RFC 2548 section 2.4.2).
    Salted,
    /// `encrypt=3`: as Ascend-Send-Secret.
    Ascend,
}

/// Names one attribute of the dictionary that it comes from.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AttributeId(u32);

impl fmt::Debug for AttributeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "attribute #{}", self.0)
    }
}

/// What is known of one attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Definition {
    /// Its own handle.
    pub id: AttributeId,
    /// As it is written.
    pub name: Box<str>,
    /// Where it is.
    pub path: Path,
    /// What its value is.
    pub data_type: DataType,
    /// Octets of every value, where the dictionary says so (`octets[16]`).
    pub length: Option<usize>,
    /// Whether a tag may stand before the value (RFC 2868).
    pub has_tag: bool,
    /// How the value is hidden.
    pub hiding: Option<Hiding>,
    /// Whether a value that is too long becomes several attributes (RFC 8044 section 3.6).
    pub concat: bool,
    /// Whether several values may stand in one attribute, one after the other.
    pub array: bool,
    /// A name for use inside, never sent.
    pub internal: bool,
    /// Not to be shown to people.
    pub secret: bool,
    /// From our own files, which another dictionary may say otherwise.
    standard: bool,
    values: Values,
}

impl Definition {
    /// The name of a value.
    #[must_use]
    pub fn value_name(&self, number: u64) -> Option<&str> {
        let at = self
            .values
            .by_number
            .binary_search_by_key(&number, |(known, _)| *known)
            .ok()?;
        let (_, place) = self.values.by_number.get(at)?;
        self.values.names.get(*place).map(|(name, _)| &**name)
    }

    /// The number of a value's name, in upper or lower case.
    #[must_use]
    pub fn value_number(&self, name: &str) -> Option<u64> {
        let mut names = self.values.names.iter();
        let known = names.find(|(known, _)| known.eq_ignore_ascii_case(name));
        known.map(|(_, number)| *number)
    }

    /// All names of values, in the order of the dictionary.
    pub fn value_names(&self) -> impl Iterator<Item = (&str, u64)> {
        self.values.names.iter().map(|(name, number)| (&**name, *number))
    }

    /// Reads a value, behind tag and hiding. None: it is not of the type or length, or a container.
    #[must_use]
    pub fn decode<'a>(&self, octets: &'a [u8]) -> Option<Value<'a>> {
        if self.length.is_some_and(|length| length != octets.len()) {
            return None;
        }
        match (self.has_tag, self.data_type, octets) {
            // The tag has taken the first octet's place (RFC 2868 section 3.1).
            (true, DataType::Integer, &[a, b, c]) => Some(Value::Unsigned(u32::from_be_bytes([0, a, b, c]).into())),
            (true, DataType::Integer, _) => None,
            (_, data_type, octets) => Value::decode(data_type, octets),
        }
    }

    /// Reads a value as a person writes it, without quotes: the octets behind tag and hiding. `0x` and hex digits are
    /// octets where the type is octets.
    ///
    /// # Errors
    /// It is not of the type; the text says what would be right.
    pub fn parse(&self, text: &str) -> Result<Vec<u8>, String> {
        let refuse = || Err(self.expected());
        if self.data_type == DataType::Octets
            && let Some(octets) = hex_octets(text)
        {
            return self.fitting(octets);
        }
        let named = self.data_type.is_number().then(|| self.value_number(text)).flatten();
        let value = match named {
            Some(number) if self.data_type == DataType::Signed => i32::try_from(number).ok().map(Value::Signed),
            Some(number) => Some(Value::Unsigned(number)),
            None => Value::parse(self.data_type, text),
        };
        let Some(value) = value else { return refuse() };
        let mut octets = Vec::new();
        value.encode(self.data_type, &mut octets);
        if self.has_tag && self.data_type == DataType::Integer {
            match octets.split_first() {
                Some((0, rest)) => octets = rest.to_vec(),
                _ => return Err("a number of 0 to 16777215: a tag stands in its first octet's place".to_string()),
            }
        }
        self.fitting(octets)
    }

    fn fitting(&self, octets: Vec<u8>) -> Result<Vec<u8>, String> {
        match self.length {
            Some(length) if length != octets.len() => Err(format!("exactly {length} octets, not {}", octets.len())),
            _ => Ok(octets),
        }
    }

    /// What a text of a value looks like.
    #[must_use]
    pub fn expected(&self) -> String {
        let names: Vec<&str> = self.value_names().map(|(name, _)| name).take(9).collect();
        match names.as_slice() {
            [] => self.data_type.expected().to_string(),
            [.., _] if names.len() == 9 => format!("a number, or a name of a value ({}, …)", names.join(", ")),
            _ => format!("a number, or one of {}", names.join(", ")),
        }
    }
}

/// Octets of `0x` and hex digits.
pub(super) fn hex_octets(text: &str) -> Option<Vec<u8>> {
    let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"))?.as_bytes();
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    let digit = |octet: u8| {
        char::from(octet)
            .to_digit(16)
            .and_then(|digit| u8::try_from(digit).ok())
    };
    let pairs = digits.chunks_exact(2).map(|pair| match pair {
        &[high, low] => Some(digit(high)? << 4 | digit(low)?),
        _ => None,
    });
    pairs.collect()
}

/// Names of values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Values {
    names: Vec<(Box<str>, u64)>,
    /// Number, and which of the names is shown: the last that the dictionary gave it. In order.
    by_number: Vec<(u64, usize)>,
}

/// A vendor: who it is and what its attributes' headers are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vendor {
    /// Its name.
    pub name: Box<str>,
    /// Its private enterprise number.
    pub number: u32,
    /// The header of its attributes.
    pub format: Format,
    standard: bool,
}

/// The header of a vendor's attributes: `format=1,1` is what RFC 2865 section 5.26 recommends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    /// Octets of the number: 1, 2 or 4.
    pub number_octets: u8,
    /// Octets of the length: 0, 1 or 2.
    pub length_octets: u8,
    /// Whether an octet follows that says, with its highest bit, that the value goes on in the next attribute.
    pub continuation: bool,
}

impl Default for Format {
    fn default() -> Self {
        Format {
            number_octets: 1,
            length_octets: 1,
            continuation: false,
        }
    }
}

/// One place of the tree.
#[derive(Clone, Debug, Default)]
struct Node {
    definition: Option<Box<Definition>>,
    dense: Vec<u32>,
    sparse: BTreeMap<u32, u32>,
}

/// Where in the tree a walk is. Zero is the top.
pub(super) type Place = u32;
/// The top of the tree.
pub(super) const TOP: Place = 0;

/// All that is known.
#[derive(Clone, Debug)]
pub struct Dictionary {
    nodes: Vec<Node>,
    names: HashMap<Box<str>, AttributeId>,
    vendors: BTreeMap<u32, Vendor>,
    vendor_names: HashMap<Box<str>, u32>,
}

impl Default for Dictionary {
    fn default() -> Self {
        Self::empty()
    }
}

impl Dictionary {
    /// One that knows nothing.
    #[must_use]
    pub fn empty() -> Self {
        Dictionary {
            nodes: vec![Node::default()],
            names: HashMap::new(),
            vendors: BTreeMap::new(),
            vendor_names: HashMap::new(),
        }
    }

    /// The attribute of this name, in upper or lower case.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<&Definition> {
        let id = self.names.get(name.to_ascii_lowercase().as_str())?;
        self.get(*id)
    }

    /// The attribute of this handle.
    #[must_use]
    pub fn get(&self, id: AttributeId) -> Option<&Definition> {
        self.definition(id.0)
    }

    /// The attribute of this number at the top.
    #[must_use]
    pub fn numbered(&self, number: u32) -> Option<&Definition> {
        self.definition(self.child(TOP, number)?)
    }

    /// The attribute at this path: `[26, 9, 1]`.
    #[must_use]
    pub fn at(&self, path: &[u32]) -> Option<&Definition> {
        self.definition(self.place(path)?)
    }

    /// The vendor of this enterprise number.
    #[must_use]
    pub fn vendor(&self, number: u32) -> Option<&Vendor> {
        self.vendors.get(&number)
    }

    /// The vendor of this name, in upper or lower case.
    #[must_use]
    pub fn vendor_named(&self, name: &str) -> Option<&Vendor> {
        self.vendor(*self.vendor_names.get(name.to_ascii_lowercase().as_str())?)
    }

    /// Every attribute, in the order in which they were read.
    pub fn attributes(&self) -> impl Iterator<Item = &Definition> {
        self.nodes.iter().filter_map(|node| node.definition.as_deref())
    }

    /// Names nearly like this one, the nearest first: what was meant, perhaps.
    #[must_use]
    pub fn suggestions(&self, name: &str) -> Vec<&str> {
        let near = self
            .attributes()
            .map(|definition| (distance(name, &definition.name), &*definition.name));
        let mut near: Vec<(usize, &str)> = near.filter(|(distance, _)| *distance <= DISTANCE_MAX).collect();
        near.sort_unstable();
        near.into_iter().map(|(_, name)| name).take(3).collect()
    }

    pub(super) fn definition(&self, place: Place) -> Option<&Definition> {
        self.nodes.get(usize::try_from(place).ok()?)?.definition.as_deref()
    }

    pub(super) fn child(&self, place: Place, number: u32) -> Option<Place> {
        let node = self.nodes.get(usize::try_from(place).ok()?)?;
        if number >= DENSE {
            return node.sparse.get(&number).copied();
        }
        let child = node.dense.get(usize::try_from(number).ok()?).copied();
        child.filter(|child| *child != TOP)
    }

    /// As [`Dictionary::child`], of a place that may be unknown.
    pub(super) fn below(&self, place: Option<Place>, number: u32) -> Option<Place> {
        self.child(place?, number)
    }

    pub(super) fn place(&self, path: &[u32]) -> Option<Place> {
        path.iter().try_fold(TOP, |place, number| self.child(place, *number))
    }

    pub(super) fn format(&self, vendor: u32) -> Format {
        self.vendor(vendor).map(|vendor| vendor.format).unwrap_or_default()
    }

    /// What the attribute at this path is a container of, whether or not the dictionary knows it: 26 is always Vendor-Specific.
    pub(super) fn data_type(&self, place: Option<Place>, path: &Path) -> Option<DataType> {
        let known = place
            .and_then(|place| self.definition(place))
            .map(|definition| definition.data_type);
        known.or((path.numbers() == [u32::from(number::VENDOR_SPECIFIC)]).then_some(DataType::Vsa))
    }
}

/// How different a name that was meant may be.
const DISTANCE_MAX: usize = 3;
/// Longer names are not looked at for others like them.
const MEANT_BYTES_MAX: usize = 64;

/// How many letters must be changed to make one of the other (Levenshtein), upper and lower case being the same.
fn distance(a: &str, b: &str) -> usize {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    if a.len().abs_diff(b.len()) > DISTANCE_MAX || a.len().max(b.len()) > MEANT_BYTES_MAX {
        return usize::MAX;
    }
    let mut row = [0; MEANT_BYTES_MAX + 1];
    row.iter_mut().enumerate().for_each(|(at, cell)| *cell = at);
    for (i, x) in a.iter().enumerate() {
        let (mut diagonal, mut left) = (i, i + 1);
        let mut nearest = left;
        for (cell, y) in row.iter_mut().skip(1).zip(b) {
            let changed = diagonal + usize::from(!x.eq_ignore_ascii_case(y));
            diagonal = *cell;
            left = changed.min(left + 1).min(*cell + 1);
            *cell = left;
            nearest = nearest.min(left);
        }
        if nearest > DISTANCE_MAX {
            return usize::MAX;
        }
    }
    let last = row.get(b.len()).copied();
    if a.is_empty() {
        b.len()
    } else {
        last.unwrap_or(usize::MAX)
    }
}
