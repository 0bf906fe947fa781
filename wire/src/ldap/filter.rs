//! Search filters: the encoded form (RFC 4511 section 4.5.1.7) walked one node at a time, and the string form
//! (RFC 4515) read, written and escaped.
//!
//! Why no tree of owned nodes: a filter arrives encoded, is looked at once, and goes. [`read`] gives the node at the top
//! and borrows everything from the encoded bytes; its children are encoded filters again. Nothing here recurses on bytes
//! from the network except [`to_string`], which stops at [`DEPTH_MAX`].

use crate::ber;
use crate::frame::Malformed;
use crate::ldap::grammar::filter_tag as tag;

mod text;

pub use text::{DEPTH_MAX, FilterError, escape, parse, to_string};

/// One node of an encoded filter.
#[derive(Clone, Copy, Debug)]
pub enum Filter<'a> {
    /// All of these; true when there are none (RFC 4526).
    And(Filters<'a>),
    /// One of these; false when there are none (RFC 4526).
    Or(Filters<'a>),
    /// Not this encoded filter.
    Not(&'a [u8]),
    /// `(attribute=value)`
    Equality(Assertion<'a>),
    /// `(attribute=initial*any*final)`
    Substrings {
        /// The attribute description.
        attribute: &'a [u8],
        /// The pieces, in order, at least one.
        pieces: Pieces<'a>,
    },
    /// `(attribute>=value)`
    GreaterOrEqual(Assertion<'a>),
    /// `(attribute<=value)`
    LessOrEqual(Assertion<'a>),
    /// `(attribute=*)`
    Present(&'a [u8]),
    /// `(attribute~=value)`
    Approx(Assertion<'a>),
    /// `(attribute:dn:rule:=value)`
    Extensible(Extensible<'a>),
}

/// An attribute description and an assertion value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Assertion<'a> {
    /// The attribute description, with its options.
    pub attribute: &'a [u8],
    /// The value, unescaped.
    pub value: &'a [u8],
}

/// A matching rule assertion.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Extensible<'a> {
    /// The matching rule's name or OID; the attribute's equality rule when absent.
    pub rule: Option<&'a [u8]>,
    /// The attribute description; every attribute that the rule applies to when absent.
    pub attribute: Option<&'a [u8]>,
    /// The value, unescaped.
    pub value: &'a [u8],
    /// Whether the attributes in the entry's name count as well.
    pub dn_attributes: bool,
}

/// The encoded filters inside an and or an or.
#[derive(Clone, Copy, Debug)]
pub struct Filters<'a> {
    rest: ber::Reader<'a>,
}

impl<'a> Iterator for Filters<'a> {
    type Item = Result<&'a [u8], Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let element = self.rest.element();
        if element.is_err() {
            self.rest = ber::Reader::new(b"");
        }
        Some(element.map(|e| e.whole))
    }
}

/// One piece of a substring assertion.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Piece<'a> {
    /// What the value begins with.
    Initial(&'a [u8]),
    /// What it contains, behind the pieces before.
    Any(&'a [u8]),
    /// What it ends with.
    Final(&'a [u8]),
}

/// The pieces of a substring assertion: an initial one only first, a final one only last.
#[derive(Clone, Copy, Debug)]
pub struct Pieces<'a> {
    rest: ber::Reader<'a>,
    first: bool,
}

impl<'a> Iterator for Pieces<'a> {
    type Item = Result<Piece<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let piece = self.piece();
        if piece.is_err() {
            self.rest = ber::Reader::new(b"");
        }
        Some(piece)
    }
}

impl<'a> Pieces<'a> {
    fn piece(&mut self) -> Result<Piece<'a>, Malformed> {
        let first = std::mem::take(&mut self.first);
        let element = self.rest.element()?;
        match element.tag {
            tag::SUBSTRING_INITIAL if first => Ok(Piece::Initial(element.content)),
            tag::SUBSTRING_ANY => Ok(Piece::Any(element.content)),
            tag::SUBSTRING_FINAL if self.rest.is_empty() => Ok(Piece::Final(element.content)),
            _ => Err(Malformed::BadValue("initial, any and final substrings in this order")),
        }
    }
}

/// The node at the top of an encoded filter, which must be exactly one element. What is inside an and, an or, a not or
/// the substrings is read when it is asked for.
///
/// # Errors
/// It is no filter in the sense of RFC 4511.
pub fn read(filter: &[u8]) -> Result<Filter<'_>, Malformed> {
    let mut outer = ber::Reader::new(filter);
    let element = outer.element()?;
    outer.finish()?;
    let content = element.content;
    Ok(match element.tag {
        tag::AND => Filter::And(Filters {
            rest: ber::Reader::new(content),
        }),
        tag::OR => Filter::Or(Filters {
            rest: ber::Reader::new(content),
        }),
        tag::NOT => Filter::Not(content),
        tag::EQUALITY => Filter::Equality(assertion(content)?),
        tag::SUBSTRINGS => substrings(content)?,
        tag::GREATER_OR_EQUAL => Filter::GreaterOrEqual(assertion(content)?),
        tag::LESS_OR_EQUAL => Filter::LessOrEqual(assertion(content)?),
        tag::PRESENT => Filter::Present(content),
        tag::APPROX => Filter::Approx(assertion(content)?),
        tag::EXTENSIBLE => Filter::Extensible(extensible(content)?),
        _ => return Err(Malformed::BadTag),
    })
}

fn assertion(content: &[u8]) -> Result<Assertion<'_>, Malformed> {
    let mut inside = ber::Reader::new(content);
    let attribute = inside.take(ber::tag::OCTET_STRING)?;
    let value = inside.take(ber::tag::OCTET_STRING)?;
    inside.finish()?;
    Ok(Assertion { attribute, value })
}

fn substrings(content: &[u8]) -> Result<Filter<'_>, Malformed> {
    let mut inside = ber::Reader::new(content);
    let attribute = inside.take(ber::tag::OCTET_STRING)?;
    let pieces = inside.take(ber::tag::SEQUENCE)?;
    inside.finish()?;
    if pieces.is_empty() {
        return Err(Malformed::BadValue("at least one substring"));
    }
    Ok(Filter::Substrings {
        attribute,
        pieces: Pieces {
            rest: ber::Reader::new(pieces),
            first: true,
        },
    })
}

fn extensible(content: &[u8]) -> Result<Extensible<'_>, Malformed> {
    let mut inside = ber::Reader::new(content);
    let rule = inside.take_optional(tag::EXTENSIBLE_RULE)?;
    let attribute = inside.take_optional(tag::EXTENSIBLE_TYPE)?;
    let value = inside.take(tag::EXTENSIBLE_VALUE)?;
    let dn_attributes = match inside.take_optional(tag::EXTENSIBLE_DN_ATTRIBUTES)? {
        Some(flag) => ber::boolean(flag)?,
        None => false,
    };
    inside.finish()?;
    if rule.is_none() && attribute.is_none() {
        return Err(Malformed::BadValue("a matching rule or an attribute"));
    }
    Ok(Extensible {
        rule,
        attribute,
        value,
        dn_attributes,
    })
}
