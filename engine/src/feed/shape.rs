//! What is made of the attributes that a server sends, before they are kept: some are left out, renamed or redacted.
//!
//! Nothing is chosen by name here that the server chose already: which attributes an entry has is what the search asked
//! for. Left out is only what we ask for ourselves ([`Shape::asked`]), and entryUUID, which is the event's uuid. In the plain case the kept bytes are copies of whole encoded attributes.
//!
//! A redacted attribute is kept as a digest, so that its changes are seen and its values are nowhere on disk.

use sha2::{Digest, Sha256};
use wire::ber;
use wire::ldap::message::{PartialAttribute, PartialAttributes};

use super::event::{REDACTED, Uuid};

const ENTRY_CSN: &str = "entryCSN";
const ENTRY_UUID: &str = "entryUUID";
const CREATED: &str = "createTimestamp";
const HAS_BELOW: &str = "hasSubordinates";
/// Octets of a digest that stands for redacted values.
const DIGEST_BYTES: usize = 16;

/// What becomes of attributes.
#[derive(Clone, Debug, Default)]
pub struct Shape {
    wanted: Vec<Box<str>>,
    rename: Vec<(Box<str>, Box<str>)>,
    redact: Vec<Box<str>>,
    /// Attributes that are asked for and not kept.
    asides: Vec<&'static str>,
}

/// What an entry says beside its content.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Asides<'a> {
    /// entryCSN: the number of its last change.
    pub(super) csn: Option<&'a str>,
    /// createTimestamp.
    pub(super) created: Option<&'a str>,
    /// hasSubordinates: whether there are entries below it.
    pub(super) has_below: bool,
}

impl Shape {
    /// `wanted`: as in a search request, none for all of the user's; `rename`: old and new names; `redact`: names as the
    /// server has them. Names are without options, and stand for the attribute with any options.
    ///
    /// # Errors
    /// Two attributes would get one name; the text says which.
    pub fn new(wanted: &[String], rename: &[(String, String)], redact: &[String]) -> Result<Self, String> {
        for (place, (old, new)) in rename.iter().enumerate() {
            for (other_old, other_new) in rename.iter().skip(place + 1) {
                if old.eq_ignore_ascii_case(other_old) {
                    return Err(format!("{old:?} is renamed twice: give it one new name"));
                }
                if new.eq_ignore_ascii_case(other_new) {
                    return Err(format!(
                        "{old:?} and {other_old:?} are both renamed to {new:?}: give each a name of its own"
                    ));
                }
            }
        }
        let is_wanted = |name: &&str| {
            wanted
                .iter()
                .any(|wanted| wanted == "+" || wanted.eq_ignore_ascii_case(name))
        };
        let mut asides = vec![ENTRY_CSN, ENTRY_UUID, CREATED, HAS_BELOW];
        asides.retain(|name| !is_wanted(name));
        Ok(Self {
            asides,
            wanted: wanted.iter().map(|name| name.as_str().into()).collect(),
            rename: rename
                .iter()
                .map(|(old, new)| (old.as_str().into(), new.as_str().into()))
                .collect(),
            redact: redact.iter().map(|name| name.as_str().into()).collect(),
        })
    }

    /// The attributes to ask the server for: beside those that are wanted entryCSN, for the events' `csn`, and
    /// createTimestamp and hasSubordinates, by which a container is noticed that moves into the content with others below
    /// it, of which the provider says nothing.
    #[must_use]
    pub fn asked(&self) -> Vec<&str> {
        let mut asked: Vec<&str> = self.wanted.iter().map(AsRef::as_ref).collect();
        if asked.is_empty() {
            asked.push("*");
        }
        asked.extend(self.asides.iter().filter(|name| **name != ENTRY_UUID));
        asked
    }

    /// What of this decides what is kept, for [`fingerprint`].
    #[must_use]
    pub fn describe(&self) -> String {
        format!("{:?} {:?} {:?}", self.wanted, self.rename, self.redact)
    }

    /// Appends what is kept of an entry's attributes, and says what it says beside them.
    pub(super) fn apply<'a>(&self, uuid: &Uuid, sent: PartialAttributes<'a>, out: &mut Vec<u8>) -> Asides<'a> {
        let mut asides = Asides::default();
        for attribute in sent {
            // All that are looked for are of 8 to 15 letters; most others are not.
            if !(8..=15).contains(&attribute.name.len()) || !self.is_aside(&attribute, &mut asides) {
                self.keep(uuid, &attribute, out);
            }
        }
        asides
    }

    /// Whether the attribute is only asked for and not kept; what it says is noted.
    fn is_aside<'a>(&self, attribute: &PartialAttribute<'a>, asides: &mut Asides<'a>) -> bool {
        let is = |name: &str| attribute.name.eq_ignore_ascii_case(name.as_bytes());
        if is(ENTRY_CSN) {
            asides.csn = text(attribute);
        } else if is(CREATED) {
            asides.created = text(attribute);
        } else if is(HAS_BELOW) {
            asides.has_below = text(attribute).is_some_and(|value| value.eq_ignore_ascii_case("TRUE"));
        }
        self.asides.iter().any(|name| is(name))
    }

    fn keep(&self, uuid: &Uuid, attribute: &PartialAttribute<'_>, out: &mut Vec<u8>) {
        let (base, options) = split(attribute.name);
        let new = self.rename.iter().find(|(old, _)| is_name(old, base));
        let redacted = self.redact.iter().any(|name| is_name(name, base));
        if new.is_none() && !redacted {
            return out.extend_from_slice(attribute.whole);
        }
        ber::nest(out, ber::tag::SEQUENCE, |out| {
            match new {
                Some((_, new)) => ber::write_bytes(out, ber::tag::OCTET_STRING, &[new.as_bytes(), options].concat()),
                None => ber::write_bytes(out, ber::tag::OCTET_STRING, attribute.name),
            }
            if redacted {
                ber::write_bytes(out, REDACTED, &digest(uuid, attribute));
            } else {
                ber::write_bytes(out, ber::tag::SET, attribute.values.encoded());
            }
        });
    }
}

/// An attribute's first value, as text.
fn text<'a>(attribute: &PartialAttribute<'a>) -> Option<&'a str> {
    attribute
        .values
        .clone()
        .next()
        .and_then(|value| std::str::from_utf8(value).ok())
}

/// A digest of everything that decides what the content is: base, scope, filter, [`Shape::describe`], identity.
#[must_use]
pub fn fingerprint(parts: &[&str]) -> [u8; 16] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part.as_bytes());
    }
    first(&hash.finalize())
}

/// The same values in any order give the same; the uuid is in it so that equal secrets of two entries do not show.
fn digest(uuid: &Uuid, attribute: &PartialAttribute<'_>) -> [u8; DIGEST_BYTES] {
    let mut values: Vec<&[u8]> = attribute.values.collect();
    values.sort_unstable();
    let mut hash = Sha256::new();
    hash.update(uuid);
    for value in values {
        hash.update((value.len() as u64).to_le_bytes());
        hash.update(value);
    }
    first(&hash.finalize())
}

fn first(hash: &[u8]) -> [u8; DIGEST_BYTES] {
    hash.first_chunk().copied().unwrap_or_default()
}

/// A description's name and its options, which begin with `;`.
fn split(description: &[u8]) -> (&[u8], &[u8]) {
    let end = description
        .iter()
        .position(|byte| *byte == b';')
        .unwrap_or(description.len());
    description.split_at_checked(end).unwrap_or((description, &[]))
}

fn is_name(name: &str, base: &[u8]) -> bool {
    name.as_bytes().eq_ignore_ascii_case(base)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feed::event::Attributes;
    use wire::ldap::message::write_attribute;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_string()).collect()
    }

    fn kept(shape: &Shape, uuid: u8, attributes: &[(&str, &[&str])]) -> Vec<u8> {
        let mut sent = Vec::new();
        for (name, values) in attributes {
            write_attribute(&mut sent, name.as_bytes(), values.iter().map(|value| value.as_bytes()));
        }
        let mut out = Vec::new();
        shape.apply(&[uuid; 16], PartialAttributes::new(&sent).unwrap(), &mut out);
        out
    }

    #[test]
    fn what_is_asked_for_beside_the_wanted_is_not_kept() {
        let shape = Shape::new(&[], &[], &[]).unwrap();
        assert_eq!(shape.asked(), ["*", "entryCSN", "createTimestamp", "hasSubordinates"]);
        let plain: (&str, &[&str]) = ("cn", &["a"]);
        let asides: [(&str, &[&str]); 4] = [
            ("EntryCSN", &["1"]),
            ("entryUUID", &["2"]),
            ("createTimestamp", &["3"]),
            ("hasSubordinates", &["TRUE"]),
        ];
        let all = [&[plain], &asides[..]].concat();
        assert_eq!(kept(&shape, 1, &all), kept(&shape, 1, &[plain]));
        let shape = Shape::new(&names(&["cn", "entrycsn"]), &[], &[]).unwrap();
        assert_eq!(shape.asked(), ["cn", "entrycsn", "createTimestamp", "hasSubordinates"]);
        let encoded = kept(&shape, 1, &all);
        let seen: Vec<&[u8]> = Attributes::new(&encoded).unwrap().map(|a| a.name).collect();
        assert_eq!(seen, [&b"cn"[..], b"EntryCSN"]);
    }

    #[test]
    fn a_new_name_keeps_the_options() {
        let rename = [("mail".to_string(), "email".to_string())];
        let shape = Shape::new(&[], &rename, &[]).unwrap();
        let encoded = kept(&shape, 1, &[("Mail;x-a;lang-de", &["m"]), ("mailbox", &["n"])]);
        let seen: Vec<&[u8]> = Attributes::new(&encoded).unwrap().map(|a| a.name).collect();
        assert_eq!(seen, [&b"email;x-a;lang-de"[..], b"mailbox"]);
    }

    #[test]
    fn a_digest_tells_changes_and_nothing_else() {
        let shape = Shape::new(&[], &[], &names(&["userPassword"])).unwrap();
        let of = |uuid, values: &[&str]| kept(&shape, uuid, &[("userPassword", values)]);
        assert_eq!(of(1, &["a", "b"]), of(1, &["b", "a"]));
        assert_ne!(of(1, &["a", "b"]), of(1, &["ab"]));
        assert_ne!(of(1, &["a"]), of(2, &["a"]), "equal secrets of two entries do not show");
        let encoded = of(1, &["a"]);
        let attribute = Attributes::new(&encoded).unwrap().next().unwrap();
        assert_eq!(attribute.redacted.map(<[u8]>::len), Some(DIGEST_BYTES));
    }

    #[test]
    fn one_name_for_two_is_refused() {
        let pair = |old: &str, new: &str| (old.to_string(), new.to_string());
        assert!(Shape::new(&[], &[pair("a", "x"), pair("b", "X")], &[]).is_err());
        assert!(Shape::new(&[], &[pair("a", "x"), pair("A", "y")], &[]).is_err());
        assert!(Shape::new(&[], &[pair("a", "b"), pair("b", "a")], &[]).is_ok());
    }

    #[test]
    fn a_fingerprint_knows_where_its_parts_end() {
        assert_ne!(fingerprint(&["ab", "c"]), fingerprint(&["a", "bc"]));
        assert_eq!(fingerprint(&["a"]), fingerprint(&["a"]));
    }
}
