//! The request grammar of RFC 4511, whole: the guard before a connection that others share, and views of what passed it.
//!
//! Some servers close a connection on which they cannot decode a request, and so one client's malformed request would
//! end everybody's operations on it. [`check_request`] therefore walks a request to its leaves before it goes anywhere,
//! without allocating, in time linear in its size. It judges structure: tags, borders, ranges of numbers. Names,
//! attribute descriptions and values are opaque here; a server answers bad ones with a result and keeps the connection.
//!
//! Where RFC 4511 leaves room for extensions, this takes what it knows and refuses the rest, since a server that does
//! not know an extension may hang up. Known: scope `subordinate` (draft-sermersheim-ldap-subordinate-scope), the
//! modification `increment` (RFC 4525), the absolute true and false filters `(&)` and `(|)` (RFC 4526), and
//! authentication choices beyond simple and SASL, which are for the session to refuse by a result.
//!
//! The views ([`bind`], [`search`] and so on) are made from the same walk, so a view that was made is well formed in
//! all that it borrows, a search's filter excepted: that is walked by [`check_filter`].

use super::control::{self, is_numeric_oid};
use super::envelope::{Envelope, tag};
use super::message::PartialAttributes;
use crate::ber::{self, Reader, Strings};
use crate::frame::Malformed;

/// Tags of the choices inside requests.
const AUTH_SIMPLE: u8 = 0x80;
const AUTH_SASL: u8 = 0xA3;
const NEW_SUPERIOR: u8 = 0x80;
const REQUEST_NAME: u8 = 0x80;
const REQUEST_VALUE: u8 = 0x81;

/// Tags of the Filter CHOICE (RFC 4511 section 4.5.1.7).
pub mod filter_tag {
    /// and.
    pub const AND: u8 = 0xA0;
    /// or.
    pub const OR: u8 = 0xA1;
    /// not.
    pub const NOT: u8 = 0xA2;
    /// equalityMatch.
    pub const EQUALITY: u8 = 0xA3;
    /// substrings.
    pub const SUBSTRINGS: u8 = 0xA4;
    /// greaterOrEqual.
    pub const GREATER_OR_EQUAL: u8 = 0xA5;
    /// lessOrEqual.
    pub const LESS_OR_EQUAL: u8 = 0xA6;
    /// present.
    pub const PRESENT: u8 = 0x87;
    /// approxMatch.
    pub const APPROX: u8 = 0xA8;
    /// extensibleMatch.
    pub const EXTENSIBLE: u8 = 0xA9;
    /// initial, in substrings.
    pub const SUBSTRING_INITIAL: u8 = 0x80;
    /// any, in substrings.
    pub const SUBSTRING_ANY: u8 = 0x81;
    /// final, in substrings.
    pub const SUBSTRING_FINAL: u8 = 0x82;
    /// matchingRule, in extensibleMatch.
    pub const EXTENSIBLE_RULE: u8 = 0x81;
    /// type, in extensibleMatch.
    pub const EXTENSIBLE_TYPE: u8 = 0x82;
    /// matchValue, in extensibleMatch.
    pub const EXTENSIBLE_VALUE: u8 = 0x83;
    /// dnAttributes, in extensibleMatch.
    pub const EXTENSIBLE_DN_ATTRIBUTES: u8 = 0x84;
}

/// How much of a request is taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// How deep `and`, `or` and `not` may nest: 0 is a single item. At most 5,000 whatever is set here. Directory
    /// servers stop between 100 and 5,000 themselves; people's filters stay below 20.
    pub filter_depth_max: usize,
    /// How many controls a request may carry.
    pub controls_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            filter_depth_max: 1000,
            controls_max: 64,
        }
    }
}

/// Which entries a search looks at (RFC 4511 section 4.5.1.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Scope {
    /// baseObject.
    #[default]
    Base,
    /// singleLevel.
    One,
    /// wholeSubtree.
    Subtree,
    /// subordinateSubtree: the subtree without its base.
    Subordinate,
}

impl Scope {
    /// The number it has in a request.
    #[must_use]
    pub fn code(self) -> i32 {
        match self {
            Self::Base => 0,
            Self::One => 1,
            Self::Subtree => 2,
            Self::Subordinate => 3,
        }
    }

    /// The scope with this number.
    #[must_use]
    pub fn from_code(code: i32) -> Option<Self> {
        [Self::Base, Self::One, Self::Subtree, Self::Subordinate]
            .into_iter()
            .find(|scope| scope.code() == code)
    }
}

/// A bind request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BindRequest<'a> {
    /// 1 to 127; LDAP is 3.
    pub version: i32,
    /// The name to bind as, as typed.
    pub name: &'a [u8],
    /// How it is proved.
    pub auth: Auth<'a>,
}

/// How a bind is proved.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Auth<'a> {
    /// A password.
    Simple(&'a [u8]),
    /// One step of a SASL exchange.
    Sasl {
        /// The mechanism's name; empty ends an exchange (RFC 4511 section 4.2).
        mechanism: &'a [u8],
        /// What the mechanism sends, if it does.
        credentials: Option<&'a [u8]>,
    },
    /// Another choice, by its tag (Kerberos of LDAPv2, Windows's own): answer authMethodNotSupported.
    Other(u8),
}

/// A search request.
#[derive(Clone, Copy, Debug)]
pub struct SearchRequest<'a> {
    /// Where to begin.
    pub base: &'a [u8],
    /// How far to go.
    pub scope: Scope,
    /// derefAliases: never 0, in searching 1, finding the base 2, always 3.
    pub deref: i32,
    /// Entries wanted at most; 0 is no wish.
    pub size_limit: i32,
    /// Seconds wanted at most; 0 is no wish.
    pub time_limit: i32,
    /// Whether values are left out.
    pub types_only: bool,
    /// The whole element of the filter. Only its border was seen by [`search`].
    pub filter: &'a [u8],
    /// The attributes asked for; none means all of the user's.
    pub attributes: Strings<'a>,
}

/// A modify request.
#[derive(Clone, Copy, Debug)]
pub struct ModifyRequest<'a> {
    /// The entry.
    pub object: &'a [u8],
    /// The changes, in order.
    pub changes: Changes<'a>,
}

/// One change of a modify request.
#[derive(Clone, Copy, Debug)]
pub struct Change<'a> {
    /// add 0, delete 1, replace 2, increment 3 (RFC 4525).
    pub operation: i32,
    /// The attribute's description.
    pub name: &'a [u8],
    /// Its values.
    pub values: Strings<'a>,
}

/// The changes of a modify request, each seen to be whole.
#[derive(Clone, Copy, Debug)]
pub struct Changes<'a> {
    rest: Reader<'a>,
}

/// An add request.
#[derive(Clone, Copy, Debug)]
pub struct AddRequest<'a> {
    /// The new entry's name.
    pub entry: &'a [u8],
    /// Its attributes.
    pub attributes: PartialAttributes<'a>,
}

/// A modify DN request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ModifyDnRequest<'a> {
    /// The entry.
    pub entry: &'a [u8],
    /// Its new RDN.
    pub new_rdn: &'a [u8],
    /// Whether the values of the old RDN go.
    pub delete_old_rdn: bool,
    /// Its new parent, if it moves.
    pub new_superior: Option<&'a [u8]>,
}

/// A compare request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CompareRequest<'a> {
    /// The entry.
    pub dn: &'a [u8],
    /// The attribute's description.
    pub attribute: &'a [u8],
    /// The value to be found.
    pub value: &'a [u8],
}

/// An extended request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ExtendedRequest<'a> {
    /// Which operation: digits and dots.
    pub oid: &'a [u8],
    /// Its parameters, if it has any; opaque here.
    pub value: Option<&'a [u8]>,
}

/// Walks a whole request: operation and controls.
///
/// # Errors
/// Whatever is not as RFC 4511 has it or beyond `limits`; [`Malformed::BadOperation`] for what no client may send.
pub fn check_request(env: &Envelope<'_>, limits: &Limits) -> Result<(), Malformed> {
    match env.tag {
        tag::BIND_REQUEST => bind(env.op).map(drop)?,
        tag::UNBIND_REQUEST => unbind(env.op)?,
        tag::SEARCH_REQUEST => check_filter(search(env.op)?.filter, limits.filter_depth_max)?,
        tag::MODIFY_REQUEST => modify(env.op).map(drop)?,
        tag::ADD_REQUEST => add(env.op).map(drop)?,
        tag::DELETE_REQUEST => delete(env.op).map(drop)?,
        tag::MODIFY_DN_REQUEST => modify_dn(env.op).map(drop)?,
        tag::COMPARE_REQUEST => compare(env.op).map(drop)?,
        // Any number will do: one that names nothing abandons nothing.
        tag::ABANDON_REQUEST => match Reader::inside(env.op, tag::ABANDON_REQUEST)?.rest().len() {
            1..=4 => {}
            _ => return Err(Malformed::BadId),
        },
        tag::EXTENDED_REQUEST => extended(env.op).map(drop)?,
        _ => return Err(Malformed::BadOperation),
    }
    let mut count = 0;
    for control in control::controls(env.controls) {
        control?;
        count += 1;
        if count > limits.controls_max {
            return Err(Malformed::BadControls);
        }
    }
    Ok(())
}

/// A bind request's protocolOp.
///
/// # Errors
/// It is none, or malformed.
pub fn bind(op: &[u8]) -> Result<BindRequest<'_>, Malformed> {
    let mut fields = Reader::inside(op, tag::BIND_REQUEST)?;
    let version = match ber::natural(fields.take(ber::tag::INTEGER)?)? {
        version @ 1..=127 => version,
        _ => return Err(Malformed::BadValue("a version of 1 to 127")),
    };
    let name = fields.take(ber::tag::OCTET_STRING)?;
    let choice = fields.element()?;
    fields.finish()?;
    let auth = match choice.tag {
        AUTH_SIMPLE => Auth::Simple(choice.content),
        AUTH_SASL => {
            let mut sasl = Reader::new(choice.content);
            let mechanism = sasl.take(ber::tag::OCTET_STRING)?;
            let credentials = sasl.take_optional(ber::tag::OCTET_STRING)?;
            sasl.finish()?;
            Auth::Sasl { mechanism, credentials }
        }
        other if other & 0xC0 == 0x80 => Auth::Other(other),
        _ => return Err(Malformed::BadTag),
    };
    Ok(BindRequest { version, name, auth })
}

/// A search request's protocolOp. Of the filter only the border is seen; [`check_filter`] sees the rest.
///
/// # Errors
/// It is none, or malformed.
pub fn search(op: &[u8]) -> Result<SearchRequest<'_>, Malformed> {
    let mut fields = Reader::inside(op, tag::SEARCH_REQUEST)?;
    let base = fields.take(ber::tag::OCTET_STRING)?;
    let scope = Scope::from_code(ber::natural(fields.take(ber::tag::ENUMERATED)?)?)
        .ok_or(Malformed::BadValue("a search scope of 0 to 3"))?;
    let deref = match ber::natural(fields.take(ber::tag::ENUMERATED)?)? {
        deref @ 0..=3 => deref,
        _ => return Err(Malformed::BadValue("a derefAliases of 0 to 3")),
    };
    let size_limit = ber::natural(fields.take(ber::tag::INTEGER)?)?;
    let time_limit = ber::natural(fields.take(ber::tag::INTEGER)?)?;
    let types_only = ber::boolean(fields.take(ber::tag::BOOLEAN)?)?;
    let filter = fields.element()?.whole;
    let attributes = Strings::new(fields.take(ber::tag::SEQUENCE)?)?;
    fields.finish()?;
    Ok(SearchRequest {
        base,
        scope,
        deref,
        size_limit,
        time_limit,
        types_only,
        filter,
        attributes,
    })
}

/// A modify request's protocolOp.
///
/// # Errors
/// It is none, or malformed.
pub fn modify(op: &[u8]) -> Result<ModifyRequest<'_>, Malformed> {
    let mut fields = Reader::inside(op, tag::MODIFY_REQUEST)?;
    let object = fields.take(ber::tag::OCTET_STRING)?;
    let changes = Changes {
        rest: Reader::new(fields.take(ber::tag::SEQUENCE)?),
    };
    fields.finish()?;
    let mut walk = changes.rest;
    while !walk.is_empty() {
        change(&mut walk)?;
    }
    Ok(ModifyRequest { object, changes })
}

/// An add request's protocolOp.
///
/// # Errors
/// It is none, or malformed; also an attribute without values.
pub fn add(op: &[u8]) -> Result<AddRequest<'_>, Malformed> {
    let mut fields = Reader::inside(op, tag::ADD_REQUEST)?;
    let entry = fields.take(ber::tag::OCTET_STRING)?;
    let attributes = PartialAttributes::new(fields.take(ber::tag::SEQUENCE)?)?;
    fields.finish()?;
    if attributes.into_iter().any(|attribute| attribute.values.is_empty()) {
        return Err(Malformed::BadValue("at least one value of each attribute"));
    }
    Ok(AddRequest { entry, attributes })
}

/// A delete request's protocolOp: the entry's name.
///
/// # Errors
/// It is none.
pub fn delete(op: &[u8]) -> Result<&[u8], Malformed> {
    Reader::inside(op, tag::DELETE_REQUEST).map(|dn| dn.rest())
}

/// A modify DN request's protocolOp.
///
/// # Errors
/// It is none, or malformed.
pub fn modify_dn(op: &[u8]) -> Result<ModifyDnRequest<'_>, Malformed> {
    let mut fields = Reader::inside(op, tag::MODIFY_DN_REQUEST)?;
    let entry = fields.take(ber::tag::OCTET_STRING)?;
    let new_rdn = fields.take(ber::tag::OCTET_STRING)?;
    let delete_old_rdn = ber::boolean(fields.take(ber::tag::BOOLEAN)?)?;
    let new_superior = fields.take_optional(NEW_SUPERIOR)?;
    fields.finish()?;
    Ok(ModifyDnRequest {
        entry,
        new_rdn,
        delete_old_rdn,
        new_superior,
    })
}

/// A compare request's protocolOp.
///
/// # Errors
/// It is none, or malformed.
pub fn compare(op: &[u8]) -> Result<CompareRequest<'_>, Malformed> {
    let mut fields = Reader::inside(op, tag::COMPARE_REQUEST)?;
    let dn = fields.take(ber::tag::OCTET_STRING)?;
    let (attribute, value) = assertion(fields.take(ber::tag::SEQUENCE)?)?;
    fields.finish()?;
    Ok(CompareRequest { dn, attribute, value })
}

/// An extended request's protocolOp.
///
/// # Errors
/// It is none, or malformed.
pub fn extended(op: &[u8]) -> Result<ExtendedRequest<'_>, Malformed> {
    let mut fields = Reader::inside(op, tag::EXTENDED_REQUEST)?;
    let oid = fields.take(REQUEST_NAME)?;
    if !is_numeric_oid(oid) {
        return Err(Malformed::BadValue("a numeric object identifier"));
    }
    let value = fields.take_optional(REQUEST_VALUE)?;
    fields.finish()?;
    Ok(ExtendedRequest { oid, value })
}

/// The message id that an abandon request names; `None` when it is no abandon, or names no possible id.
#[must_use]
pub fn abandon_id(env: &Envelope<'_>) -> Option<i32> {
    let id = Reader::inside(env.op, tag::ABANDON_REQUEST).ok()?;
    ber::natural_padded(id.rest())
}

/// The message id that the value of a Cancel request names (RFC 3909).
///
/// # Errors
/// It is no `SEQUENCE { cancelID MessageID }`.
pub fn cancel_id(value: &[u8]) -> Result<i32, Malformed> {
    let mut fields = Reader::inside(value, ber::tag::SEQUENCE)?;
    let id = ber::natural_padded(fields.take(ber::tag::INTEGER)?).ok_or(Malformed::BadId)?;
    fields.finish()?;
    Ok(id)
}

/// The name of the entry that a request is about; `None` where there is none (bind, unbind, abandon, extended) or the
/// request is malformed.
#[must_use]
pub fn target<'a>(env: &Envelope<'a>) -> Option<&'a [u8]> {
    match env.tag {
        tag::DELETE_REQUEST => delete(env.op).ok(),
        tag::SEARCH_REQUEST
        | tag::MODIFY_REQUEST
        | tag::ADD_REQUEST
        | tag::MODIFY_DN_REQUEST
        | tag::COMPARE_REQUEST => Reader::inside(env.op, env.tag).ok()?.take(ber::tag::OCTET_STRING).ok(),
        _ => None,
    }
}

/// Walks a filter, `whole` being its element, to its leaves.
///
/// # Errors
/// It is not as RFC 4511 section 4.5.1.7 has it, or nested deeper than `depth_max`.
pub fn check_filter(whole: &[u8], depth_max: usize) -> Result<(), Malformed> {
    let mut one = Reader::new(whole);
    let filter = one.element()?;
    one.finish()?;
    if !matches!(filter.tag, filter_tag::AND | filter_tag::OR | filter_tag::NOT) {
        return check_item(filter.tag, filter.content);
    }
    check_filters(Reader::new(whole), depth_max.min(FILTER_DEPTH_HARD_MAX))
}

impl<'a> Iterator for Changes<'a> {
    type Item = Change<'a>;

    fn next(&mut self) -> Option<Change<'a>> {
        change(&mut self.rest).ok()
    }
}

/// Bounds the stack that [`check_filters`] takes, whatever is configured: 5,000 levels are 313 calls of some hundred bytes.
const FILTER_DEPTH_HARD_MAX: usize = 5000;
/// Levels that one call of [`check_filters`] walks in a stack of its own; what lies deeper takes a call more. So a usual
/// filter costs one small array, and a deep one cannot exhaust the thread's stack.
const FILTER_LEVELS: usize = 16;

fn check_filters(mut level: Reader<'_>, depth_left: usize) -> Result<(), Malformed> {
    let mut parents = [Reader::new(&[]); FILTER_LEVELS];
    let mut depth: usize = 0;
    loop {
        if level.is_empty() {
            let Some(up) = depth.checked_sub(1) else { return Ok(()) };
            depth = up;
            level = parents.get(depth).copied().ok_or(Malformed::TooDeep)?;
            continue;
        }
        let item = level.element()?;
        match item.tag {
            filter_tag::AND | filter_tag::OR => {}
            filter_tag::NOT => exactly_one(item.content)?,
            _ => {
                check_item(item.tag, item.content)?;
                continue;
            }
        }
        if depth >= depth_left {
            return Err(Malformed::TooDeep);
        }
        match parents.get_mut(depth) {
            Some(parent) => {
                *parent = level;
                depth += 1;
                level = Reader::new(item.content);
            }
            None => check_filters(Reader::new(item.content), depth_left - depth - 1)?,
        }
    }
}

fn check_item(tag: u8, content: &[u8]) -> Result<(), Malformed> {
    match tag {
        filter_tag::EQUALITY | filter_tag::GREATER_OR_EQUAL | filter_tag::LESS_OR_EQUAL | filter_tag::APPROX => {
            assertion(content).map(drop)
        }
        filter_tag::SUBSTRINGS => check_substrings(content),
        filter_tag::PRESENT => Ok(()),
        filter_tag::EXTENSIBLE => check_extensible(content),
        _ => Err(Malformed::BadTag),
    }
}

/// At least one piece, initial only first, final only last.
fn check_substrings(content: &[u8]) -> Result<(), Malformed> {
    let mut fields = Reader::new(content);
    fields.take(ber::tag::OCTET_STRING)?;
    let mut pieces = Reader::new(fields.take(ber::tag::SEQUENCE)?);
    fields.finish()?;
    let mut first = true;
    loop {
        let piece = pieces.element()?;
        match piece.tag {
            filter_tag::SUBSTRING_INITIAL if first => {}
            filter_tag::SUBSTRING_ANY => {}
            filter_tag::SUBSTRING_FINAL => return pieces.finish(),
            _ => return Err(Malformed::BadTag),
        }
        if pieces.is_empty() {
            return Ok(());
        }
        first = false;
    }
}

fn check_extensible(content: &[u8]) -> Result<(), Malformed> {
    let mut fields = Reader::new(content);
    let rule = fields.take_optional(filter_tag::EXTENSIBLE_RULE)?;
    let attribute = fields.take_optional(filter_tag::EXTENSIBLE_TYPE)?;
    if rule.is_none() && attribute.is_none() {
        return Err(Malformed::BadValue(
            "a matching rule or an attribute in an extensible match",
        ));
    }
    fields.take(filter_tag::EXTENSIBLE_VALUE)?;
    if let Some(flag) = fields.take_optional(filter_tag::EXTENSIBLE_DN_ATTRIBUTES)? {
        ber::boolean(flag)?;
    }
    fields.finish()
}

fn exactly_one(content: &[u8]) -> Result<(), Malformed> {
    let mut one = Reader::new(content);
    one.element()?;
    one.finish()
}

fn assertion(content: &[u8]) -> Result<(&[u8], &[u8]), Malformed> {
    let mut fields = Reader::new(content);
    let attribute = fields.take(ber::tag::OCTET_STRING)?;
    let value = fields.take(ber::tag::OCTET_STRING)?;
    fields.finish()?;
    Ok((attribute, value))
}

fn change<'a>(level: &mut Reader<'a>) -> Result<Change<'a>, Malformed> {
    let mut fields = Reader::new(level.take(ber::tag::SEQUENCE)?);
    let operation = match ber::natural(fields.take(ber::tag::ENUMERATED)?)? {
        operation @ 0..=3 => operation,
        _ => return Err(Malformed::BadValue("a modification of 0 to 3")),
    };
    let mut attribute = Reader::new(fields.take(ber::tag::SEQUENCE)?);
    fields.finish()?;
    let name = attribute.take(ber::tag::OCTET_STRING)?;
    let values = Strings::new(attribute.take(ber::tag::SET)?)?;
    attribute.finish()?;
    Ok(Change {
        operation,
        name,
        values,
    })
}

fn unbind(op: &[u8]) -> Result<(), Malformed> {
    Reader::inside(op, tag::UNBIND_REQUEST)?.finish()
}

#[cfg(test)]
#[path = "grammar_tests.rs"]
mod tests;
