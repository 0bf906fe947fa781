//! What a rule asks of a request's attributes. The dictionary's type says what can be asked: texts are compared with patterns, numbers with
//! ranges, addresses with networks. Everything is read when the rule is; a request is only compared.

use std::fmt;
use std::net::IpAddr;

use wire::radius::dictionary::{Definition, Path};
use wire::radius::{DataType, Dictionary, Packet, Pair, Value, number, text};

use super::pattern::Pattern;
use crate::radius::clients::Network;

/// Values that are shown of a request's attribute, at most.
const SHOWN_MAX: usize = 4;

/// Highest tag (RFC 2868 section 3.1).
const TAG_MAX: u8 = 0x1f;

/// A value as a person writes it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Written<'t> {
    /// Text.
    Text(&'t str),
    /// A number.
    Number(i64),
}

impl fmt::Display for Written<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Written::Text(text) => f.write_str(text),
            Written::Number(number) => number.fmt(f),
        }
    }
}

/// An attribute as a rule names it: `Name`, or `Name:1` for one of that tag.
///
/// # Errors
/// What was found and what would be right.
pub fn attribute<'d>(dictionary: &'d Dictionary, text: &str) -> Result<(&'d Definition, Option<u8>), (String, String)> {
    let (name, tag) = text
        .split_once(':')
        .map_or((text, None), |(name, tag)| (name, Some(tag)));
    let Some(definition) = dictionary.named(name) else {
        let right = match dictionary.suggestions(name).as_slice() {
            [] => "an attribute of the dictionary; `dictionary_files` adds to it".to_owned(),
            near => format!("did you mean {}?", near.join(" or ")),
        };
        return Err((format!("unknown attribute `{name}`"), right));
    };
    let Some(tag) = tag else { return Ok((definition, None)) };
    if !definition.has_tag {
        return Err((
            format!("`{text}`: {} has no tag", definition.name),
            format!("write {}", definition.name),
        ));
    }
    match tag.parse().ok().filter(|tag| (1..=TAG_MAX).contains(tag)) {
        Some(tag) => Ok((definition, Some(tag))),
        None => Err((
            format!("`{text}` has no such tag"),
            format!("a tag is a number of 1 to {TAG_MAX}"),
        )),
    }
}

/// One attribute, and what is asked of it. It holds where one of several does what is asked.
#[derive(Clone, Debug)]
pub struct Condition {
    path: Path,
    tag: Option<u8>,
    name: Box<str>,
    test: Test,
}

#[derive(Clone, Debug)]
enum Test {
    Present,
    Absent,
    AnyOf(Vec<One>),
}

#[derive(Clone, Debug)]
struct One {
    written: Box<str>,
    wanted: Wanted,
}

#[derive(Clone, Debug)]
enum Wanted {
    Like(Pattern),
    Octets(Vec<u8>),
    /// Both ends included.
    Range(i128, i128),
    Within(Network),
}

impl Condition {
    /// An attribute is there, or is not.
    ///
    /// # Errors
    /// What would be right.
    pub fn presence(definition: &Definition, tag: Option<u8>, is_there: bool) -> Result<Condition, String> {
        sent(definition)?;
        if definition.hiding.is_some() && top(definition.path).is_none() {
            return Err(format!("another attribute: {} is hidden", definition.name));
        }
        Ok(Condition {
            path: definition.path,
            tag,
            name: definition.name.clone(),
            test: if is_there { Test::Present } else { Test::Absent },
        })
    }

    /// An attribute, of this tag if one is given, has one of these values.
    ///
    /// # Errors
    /// Which of them are wrong, and what would be right.
    pub fn any_of(
        definition: &Definition,
        tag: Option<u8>,
        values: &[Written<'_>],
    ) -> Result<Condition, Vec<(usize, String)>> {
        let refused = sent(definition).and_then(|()| shown(definition)).err();
        let refused = refused.or(values.is_empty().then(|| definition.expected()));
        if let Some(right) = refused {
            return Err(vec![(0, right)]);
        }
        let (mut all, mut wrong) = (Vec::with_capacity(values.len()), Vec::new());
        for (at, value) in values.iter().enumerate() {
            let written = value.to_string();
            match wanted(definition, &written) {
                Ok(wanted) => all.push(One {
                    written: written.into(),
                    wanted,
                }),
                Err(right) => wrong.push((at, right)),
            }
        }
        if !wrong.is_empty() {
            return Err(wrong);
        }
        Ok(Condition {
            path: definition.path,
            tag,
            name: definition.name.clone(),
            test: Test::AnyOf(all),
        })
    }

    /// Whether it holds for this request.
    #[must_use]
    pub fn holds(&self, packet: &Packet<'_>, dictionary: &Dictionary) -> bool {
        match &self.test {
            Test::Present => self.is_there(packet, dictionary),
            Test::Absent => !self.is_there(packet, dictionary),
            Test::AnyOf(all) => self
                .values(packet, dictionary)
                .any(|pair| all.iter().any(|one| one.wanted.is(&pair))),
        }
    }

    /// Whether it holds whenever the other does. False where that cannot be told.
    #[must_use]
    pub fn covers(&self, other: &Condition) -> bool {
        let same_place = self.path == other.path && (self.tag.is_none() || self.tag == other.tag);
        same_place
            && match (&self.test, &other.test) {
                (Test::Present, Test::Present | Test::AnyOf(_)) => true,
                (Test::Absent, Test::Absent) => self.tag == other.tag,
                (Test::AnyOf(own), Test::AnyOf(others)) => others
                    .iter()
                    .all(|other| own.iter().any(|own| own.wanted.covers(&other.wanted))),
                _ => false,
            }
    }

    /// Appends what the request has instead, for people.
    ///
    /// # Errors
    /// `out` does not take it.
    pub fn show_found(&self, out: &mut impl fmt::Write, packet: &Packet<'_>, dictionary: &Dictionary) -> fmt::Result {
        let mut values = self.values(packet, dictionary);
        let mut shown = 0;
        for pair in values.by_ref().take(SHOWN_MAX) {
            out.write_str(if shown == 0 { "is " } else { ", " })?;
            shown += 1;
            text::print_value(out, &pair)?;
        }
        match (shown, values.next()) {
            (0, _) if self.is_there(packet, dictionary) => out.write_str("is there"),
            (0, _) => out.write_str("is not there"),
            (_, Some(_)) => out.write_str(", …"),
            _ => Ok(()),
        }
    }

    fn is_there(&self, packet: &Packet<'_>, dictionary: &Dictionary) -> bool {
        match (top(self.path), self.tag) {
            // Even if it is hidden, or has not the form that it should.
            (Some(number), None) => packet.find(number).is_some(),
            _ => self.values(packet, dictionary).next().is_some(),
        }
    }

    fn values<'d, 'a>(&self, packet: &Packet<'a>, dictionary: &'d Dictionary) -> impl Iterator<Item = Pair<'d, 'a>> {
        let definition = dictionary.at(self.path.numbers());
        let tag = self.tag;
        let values = definition.map(|definition| packet.values(dictionary, definition, None));
        values
            .into_iter()
            .flatten()
            .filter(move |pair| tag.is_none() || pair.tag == tag)
    }
}

impl fmt::Display for Condition {
    /// What is asked: `NAS-Port = 1-48 or 100`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        if let Some(tag) = self.tag {
            write!(f, ":{tag}")?;
        }
        match &self.test {
            Test::Present => f.write_str(" there"),
            Test::Absent => f.write_str(" not there"),
            Test::AnyOf(all) => {
                for (at, one) in all.iter().enumerate() {
                    write!(f, "{} {}", if at == 0 { " =" } else { " or" }, one.written)?;
                }
                Ok(())
            }
        }
    }
}

impl Wanted {
    fn is(&self, pair: &Pair<'_, '_>) -> bool {
        match (self, pair.value()) {
            (Wanted::Like(pattern), _) => pattern.matches(&pair.octets),
            (Wanted::Octets(wanted), _) => *pair.octets == **wanted,
            (Wanted::Range(from, to), value) => as_number(&value).is_some_and(|found| (*from..=*to).contains(&found)),
            (Wanted::Within(network), Value::Address(address)) => network.contains(address),
            (Wanted::Within(network), Value::Prefix(address, bits)) => {
                bits >= network.prefix() && network.contains(address)
            }
            (Wanted::Within(_), _) => false,
        }
    }

    fn covers(&self, other: &Wanted) -> bool {
        match (self, other) {
            (Wanted::Like(own), Wanted::Like(other)) => own.covers(other),
            (Wanted::Octets(own), Wanted::Octets(other)) => own == other,
            (Wanted::Like(own), Wanted::Octets(other)) => own.matches(other),
            (Wanted::Range(from, to), Wanted::Range(first, last)) => from <= first && last <= to,
            (Wanted::Within(own), Wanted::Within(other)) => {
                own.prefix() <= other.prefix() && own.contains(other.address())
            }
            _ => false,
        }
    }
}

/// Its number, where a path is one of those at the top.
fn top(path: Path) -> Option<u8> {
    match path.numbers() {
        [number] => u8::try_from(*number).ok(),
        _ => None,
    }
}

/// Only what is sent can be asked for.
fn sent(definition: &Definition) -> Result<(), String> {
    if definition.internal || (definition.path.numbers().len() == 1 && top(definition.path).is_none()) {
        return Err("an attribute of requests: this one is a name for use inside, and is never sent".into());
    }
    Ok(())
}

/// Secrets, and what holds the conversation together, are no values to be compared.
fn shown(definition: &Definition) -> Result<(), String> {
    let apart = [
        number::CHAP_PASSWORD,
        number::CHAP_CHALLENGE,
        number::STATE,
        number::PROXY_STATE,
        number::EAP_MESSAGE,
        number::MESSAGE_AUTHENTICATOR,
    ];
    let is_apart = top(definition.path).is_some_and(|number| apart.contains(&number));
    if is_apart || definition.hiding.is_some() || definition.secret {
        return Err("{ present = true } or { present = false }: its value is nothing for a rule".into());
    }
    Ok(())
}

fn wanted(definition: &Definition, text: &str) -> Result<Wanted, String> {
    match definition.data_type {
        DataType::Text => Pattern::read(text).map(Wanted::Like),
        DataType::Octets if !text.starts_with("0x") => Pattern::read(text).map(Wanted::Like),
        DataType::Octets | DataType::Ifid | DataType::Ether => octets(definition, text).map(Wanted::Octets),
        DataType::Ipv4Addr | DataType::Ipv6Addr | DataType::ComboIp | DataType::Ipv4Prefix | DataType::Ipv6Prefix => {
            network(definition, text)
        }
        DataType::Tlv | DataType::Vsa | DataType::Extended | DataType::LongExtended | DataType::Evs => {
            Err("an attribute with a value: those inside this one have names of their own".into())
        }
        _ => numbers(definition, text),
    }
}

/// The octets of a value. What begins as hexadecimal digits do is meant as such.
pub(super) fn octets(definition: &Definition, text: &str) -> Result<Vec<u8>, String> {
    let octets = definition.parse(text)?;
    if definition.data_type == DataType::Octets && text.starts_with("0x") && octets == text.as_bytes() {
        return Err(definition.expected());
    }
    Ok(octets)
}

fn network(definition: &Definition, text: &str) -> Result<Wanted, String> {
    let (v4, right) = match definition.data_type {
        DataType::Ipv4Addr | DataType::Ipv4Prefix => (Some(true), "192.0.2.7 or 192.0.2.0/24"),
        DataType::Ipv6Addr | DataType::Ipv6Prefix => (Some(false), "2001:db8::7 or 2001:db8::/32"),
        _ => (None, "192.0.2.7, 192.0.2.0/24 or 2001:db8::/32"),
    };
    let right = format!("an address or a network: {right}");
    if text == "*" {
        return Err(format!("{right}; {{ present = true }} for any"));
    }
    let network = match Network::read(text) {
        Ok(network) => network,
        Err(why) if text.contains('/') => return Err(format!("{right} ({why})")),
        Err(_) => return Err(right),
    };
    if v4.is_some_and(|v4| v4 != matches!(network.address(), IpAddr::V4(_))) {
        return Err(right);
    }
    Ok(Wanted::Within(network))
}

/// A number, the name of one, a range, or a comparison.
fn numbers(definition: &Definition, text: &str) -> Result<Wanted, String> {
    let right = || {
        format!(
            "{}; or a range like 1-48; or >=, >, <=, < and a number",
            definition.expected()
        )
    };
    let operand = |text: &str| {
        let octets = definition.parse(text.trim()).ok()?;
        as_number(&definition.decode(&octets)?)
    };
    if let Some(number) = operand(text) {
        return Ok(Wanted::Range(number, number));
    }
    let (least, most) = (i128::from(i64::MIN), i128::from(u64::MAX));
    let compared = ["<=", ">=", "<", ">"]
        .iter()
        .find_map(|sign| Some((*sign, text.trim().strip_prefix(sign)?)));
    let range = match compared {
        Some((sign, rest)) => {
            let number = operand(rest).ok_or_else(right)?;
            match sign {
                "<=" => (least, number),
                "<" => (least, number - 1),
                ">=" => (number, most),
                _ => (number + 1, most),
            }
        }
        None => {
            let is_digit = |text: &str| text.trim().ends_with(|c: char| c.is_ascii_digit());
            let dashes = text.match_indices('-').map(|(at, _)| text.split_at(at));
            let mut ends = dashes.filter_map(|(from, to)| {
                let to = to.strip_prefix('-')?;
                (is_digit(from) && is_digit(to)).then_some((operand(from)?, operand(to)?))
            });
            ends.next()
                .filter(|_| definition.data_type != DataType::Time)
                .ok_or_else(right)?
        }
    };
    let is_unsigned = definition.data_type != DataType::Signed;
    if range.0 > range.1 || (is_unsigned && range.1 < 0) {
        return Err(format!(
            "a range in which there are numbers: its first one is not above its last ({})",
            right()
        ));
    }
    Ok(Wanted::Range(range.0, range.1))
}

fn as_number(value: &Value<'_>) -> Option<i128> {
    match value {
        Value::Signed(number) => Some(i128::from(*number)),
        value => value.number().map(i128::from),
    }
}
