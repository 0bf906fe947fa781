//! Packets as text, and back.
//!
//! ```text
//! Access-Request id=7 authenticator=0x… User-Name = "bob", Tunnel-Type:1 = VLAN, Outer = { Inner = 1 }, Attr-26.9.250 = 0x00
//! ```
//!
//! One packet is one line: its code, `id=`, `authenticator=` and, for a reply, `request=` (the Authenticator of its request),
//! then the attributes. A number behind a colon is a tag. What the dictionary does not know, or what has not the form that it
//! says, is `Attr-` and its numbers with its octets in hex, behind the headers that those numbers ask for. Printing what was
//! parsed gives the same text again, and parsing what was printed the same attributes.

use std::fmt::{self, Write};

use zeroize::Zeroizing;

use super::authenticator::Secret;
use super::dictionary::{DEPTH_MAX, Definition, Dictionary, Path, hex_octets};
use super::encode::{Content, Item, Unwritable};
use super::number;
use super::packet::{Code, Packet};
use super::value::{DataType, Value, hex, quoted};
use super::walk::{Event, Pair, TAG_MAX, Walk};
use super::writer::Writer;

/// Attributes of one line, at most: more do not fit a packet.
const ITEMS_MAX: usize = 2048;

/// What is wrong with a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// Characters before it, and one.
    pub column: usize,
    /// What was found.
    pub found: String,
    /// What would be right.
    pub right: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "column {}: {}; {}", self.column, self.found, self.right)
    }
}

impl std::error::Error for Mistake {}

/// A packet as a line says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// What it is.
    pub code: Code,
    /// Its identifier.
    pub identifier: u8,
    /// Its Authenticator, where the line gives one.
    pub authenticator: Option<[u8; 16]>,
    /// The Authenticator of the request that it answers.
    pub request: Option<[u8; 16]>,
    /// Its attributes.
    pub items: Vec<Item>,
}

/// Why a line is no packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsealed {
    /// An attribute cannot be written: which, from 0, and why.
    Item(usize, Unwritable),
    /// A reply that is to be sealed needs the Authenticator of its request.
    NoRequest,
    /// Without a secret the Authenticator is not known.
    NoAuthenticator,
}

impl fmt::Display for Unsealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unsealed::Item(at, why) => write!(f, "attribute {}: {why}", at + 1),
            Unsealed::NoRequest => f.write_str(
                "a reply's authenticator is made from its request's; give it as request=0x and 32 hex digits",
            ),
            Unsealed::NoAuthenticator => f.write_str(
                "the authenticator is made with the shared secret; give one, or authenticator=0x and 32 hex digits",
            ),
        }
    }
}

impl std::error::Error for Unsealed {}

impl Line {
    /// Reads a line.
    ///
    /// # Errors
    /// The first mistake.
    pub fn parse(dictionary: &Dictionary, text: &str) -> Result<Line, Mistake> {
        let mut scanner = Scanner { text, at: 0 };
        let word = scanner.word();
        let Some(code) = parse_code(word) else {
            let right = "the name of a code, like Access-Request, or Code- and its number";
            return Err(scanner.mistake_at(0, format!("code {word}"), right));
        };
        let mut line = Line {
            code,
            identifier: 0,
            authenticator: None,
            request: None,
            items: Vec::new(),
        };
        loop {
            scanner.blanks();
            let at = scanner.at;
            let word = scanner.word();
            match word.split_once('=') {
                Some(("id", number)) => match number.parse() {
                    Ok(identifier) => line.identifier = identifier,
                    Err(_) => return Err(scanner.mistake_at(at, word, "id= and a number of 0 to 255")),
                },
                Some((key @ ("authenticator" | "request"), octets)) => {
                    let octets = hex_octets(octets).and_then(|octets| octets.try_into().ok());
                    let Some(octets) = octets else {
                        let right = format!("{key}=0x and 32 hex digits");
                        return Err(scanner.mistake_at(at, word, right));
                    };
                    *(if key == "request" {
                        &mut line.request
                    } else {
                        &mut line.authenticator
                    }) = Some(octets);
                }
                _ => {
                    scanner.at = at;
                    break;
                }
            }
        }
        line.items = scanner.list(dictionary, None, 0)?;
        Ok(line)
    }

    /// Appends the packet. With a secret it is sealed; without, its Authenticator is the one that the line gives and no
    /// attribute may be hidden. `fresh`: the Authenticator of an Access-Request or Status-Server that gives none.
    ///
    /// # Errors
    /// An attribute cannot be written, or an Authenticator is missing.
    pub fn write(
        &self,
        dictionary: &Dictionary,
        secret: Option<&Secret>,
        fresh: &[u8; 16],
        salt: &mut dyn FnMut() -> u16,
        out: &mut Vec<u8>,
    ) -> Result<(), Unsealed> {
        let random = self.code.is_request() && !self.code.is_signed_request();
        let given = if random {
            self.authenticator.or(Some(*fresh))
        } else {
            self.request
        };
        let authenticator = match (secret, given) {
            (Some(_), Some(given)) => given,
            (Some(_), None) if self.code.is_signed_request() => [0; 16],
            (Some(_), None) => return Err(Unsealed::NoRequest),
            (None, _) if random => self.authenticator.unwrap_or(*fresh),
            (None, _) => self.authenticator.ok_or(Unsealed::NoAuthenticator)?,
        };
        let mut writer = Writer::bare(out, self.code, self.identifier, &authenticator);
        for (at, item) in self.items.iter().enumerate() {
            let sealed = secret.is_some() && item.path.numbers() == [u32::from(number::MESSAGE_AUTHENTICATOR)];
            let written = if sealed {
                writer.message_authenticator().map_err(Unwritable::Full)
            } else {
                writer.item(dictionary, item, secret, salt)
            };
            written.map_err(|why| Unsealed::Item(at, why))?;
        }
        let finished = match secret {
            Some(secret) => writer.finish(secret),
            None => writer.finish_unsealed(&authenticator),
        };
        finished
            .map(|_| ())
            .map_err(|full| Unsealed::Item(self.items.len(), full.into()))
    }
}

fn parse_code(word: &str) -> Option<Code> {
    let number = || word.strip_prefix("Code-")?.parse().ok().map(Code);
    Code::named(word).or_else(number)
}

/// Reads attributes: `Name = value, Name = value`.
///
/// # Errors
/// The first mistake.
pub fn parse_list(dictionary: &Dictionary, text: &str) -> Result<Vec<Item>, Mistake> {
    Scanner { text, at: 0 }.list(dictionary, None, 0)
}

/// Prints the head of a packet's line, up to its attributes. `request`: of the request that it answers.
///
/// # Errors
/// `out` does not take it.
pub fn print_head(out: &mut impl Write, packet: &Packet<'_>, request: Option<&[u8; 16]>) -> fmt::Result {
    write!(out, "{} id={} authenticator=", packet.code(), packet.identifier())?;
    hex(out, packet.authenticator())?;
    if let Some(request) = request {
        out.write_str(" request=")?;
        hex(out, request)?;
    }
    Ok(())
}

/// Prints attributes: `Name = value, Name = value`.
///
/// # Errors
/// `out` does not take it.
pub fn print_list(out: &mut impl Write, walk: Walk<'_, '_>) -> fmt::Result {
    let mut first = true;
    for event in walk {
        let is_end = matches!(event, Event::Close);
        if !first && !is_end {
            out.write_str(", ")?;
        }
        first = matches!(event, Event::Open(_));
        match event {
            Event::Pair(pair) => print_pair(out, &pair)?,
            Event::Open(definition) => write!(out, "{} = {{ ", definition.name)?,
            Event::Close => out.write_str(" }")?,
        }
    }
    Ok(())
}

/// Prints `Name = value`.
///
/// # Errors
/// `out` does not take it.
pub fn print_pair(out: &mut impl Write, pair: &Pair<'_, '_>) -> fmt::Result {
    match (pair.definition, pair.tag) {
        (Some(definition), Some(tag)) => write!(out, "{}:{tag} = ", definition.name)?,
        (Some(definition), None) => write!(out, "{} = ", definition.name)?,
        (None, _) => write!(out, "Attr-{} = ", pair.path)?,
    }
    print_value(out, pair)
}

/// Prints a value, by its name if it has one.
///
/// # Errors
/// `out` does not take it.
pub fn print_value(out: &mut impl Write, pair: &Pair<'_, '_>) -> fmt::Result {
    let value = pair.value();
    let number = match value {
        Value::Unsigned(number) => Some(number),
        Value::Signed(number) => u64::try_from(number).ok(),
        _ => None,
    };
    let name = number.and_then(|number| pair.definition?.value_name(number));
    match name {
        Some(name) if name.bytes().all(is_bare) => out.write_str(name),
        Some(name) => quoted(out, name.as_bytes()),
        None => write!(out, "{value}"),
    }
}

/// Whether an octet may stand in a word without quotes.
fn is_bare(octet: u8) -> bool {
    !octet.is_ascii_whitespace() && !matches!(octet, b',' | b'{' | b'}' | b'"' | b'\'' | b'=')
}

struct Scanner<'t> {
    text: &'t str,
    at: usize,
}

/// The value of a pair as it stands.
enum Written<'t> {
    Bare(&'t str),
    Quoted(Zeroizing<Vec<u8>>),
}

impl<'t> Scanner<'t> {
    fn rest(&self) -> &'t str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn blanks(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start().len();
    }

    /// What stands up to the next blank.
    fn word(&mut self) -> &'t str {
        self.blanks();
        let word = self.rest().split(char::is_whitespace).next().unwrap_or_default();
        self.at += word.len();
        word
    }

    fn take_while(&mut self, allowed: impl Fn(u8) -> bool) -> &'t str {
        let rest = self.rest();
        let end = rest.bytes().position(|octet| !allowed(octet)).unwrap_or(rest.len());
        // Only ASCII ends it, so this is between characters.
        let (word, _) = rest.split_at_checked(end).unwrap_or((rest, ""));
        self.at += word.len();
        word
    }

    fn sign(&mut self, sign: char) -> bool {
        self.blanks();
        let found = self.rest().starts_with(sign);
        self.at += if found { sign.len_utf8() } else { 0 };
        found
    }

    fn mistake(&self, found: impl Into<String>, right: impl Into<String>) -> Mistake {
        self.mistake_at(self.at, found, right)
    }

    fn mistake_at(&self, at: usize, found: impl Into<String>, right: impl Into<String>) -> Mistake {
        let before = self.text.get(..at).unwrap_or(self.text);
        Mistake {
            column: before.chars().count() + 1,
            found: found.into(),
            right: right.into(),
        }
    }

    /// The attributes up to the end of the text or, inside a tlv, up to the brace. `within`: the path of that tlv.
    fn list(&mut self, dictionary: &Dictionary, within: Option<Path>, depth: usize) -> Result<Vec<Item>, Mistake> {
        let mut items = Vec::new();
        loop {
            self.blanks();
            if within.is_some() && self.sign('}') {
                return Ok(items);
            }
            if self.rest().is_empty() {
                return match within {
                    None => Ok(items),
                    Some(_) => Err(self.mistake("the end of the line", "} and what else there is")),
                };
            }
            if items.len() >= ITEMS_MAX {
                return Err(self.mistake("one attribute more", format!("at most {ITEMS_MAX} attributes")));
            }
            let item = self.item(dictionary, within, depth)?;
            put(
                dictionary,
                &mut items,
                item,
                within.map_or(0, |path| path.numbers().len()),
            );
            self.blanks();
            let more = self.sign(',');
            self.blanks();
            if !more && !self.rest().is_empty() && !self.rest().starts_with('}') {
                let found: String = self.rest().chars().take(20).collect();
                return Err(self.mistake(found, "a comma before the next attribute"));
            }
            if within.is_none() && self.rest().starts_with('}') {
                return Err(self.mistake("}", "a { before it"));
            }
        }
    }

    fn item(&mut self, dictionary: &Dictionary, within: Option<Path>, depth: usize) -> Result<Item, Mistake> {
        let at = self.at;
        let name = self.take_while(|octet| is_bare(octet) && octet != b':');
        let tag = match self.rest().strip_prefix(':') {
            None => None,
            Some(_) => {
                self.at += 1;
                let digits = self.take_while(|octet| octet.is_ascii_digit());
                match digits.parse().ok().filter(|tag| *tag <= TAG_MAX) {
                    Some(tag) => Some(tag),
                    None => return Err(self.mistake(format!("tag {digits}"), format!("a number of 0 to {TAG_MAX}"))),
                }
            }
        };
        let raw = name.strip_prefix("Attr-").and_then(Path::parse);
        let definition = if raw.is_some() { None } else { dictionary.named(name) };
        let Some(path) = raw.or(definition.map(|definition| definition.path)) else {
            let right = match dictionary.suggestions(name).as_slice() {
                [] => "an attribute of the dictionary, or Attr- and its number".to_string(),
                near => near.join(" or "),
            };
            return Err(self.mistake_at(at, format!("unknown attribute {name}"), right));
        };
        if let Some(within) = within
            && path
                .numbers()
                .strip_prefix(within.numbers())
                .is_none_or(<[u32]>::is_empty)
        {
            let right = format!("an attribute inside the tlv {within}");
            return Err(self.mistake_at(at, format!("{name}, which is {path}"), right));
        }
        if tag.is_some() && !definition.is_some_and(|definition| definition.has_tag) {
            return Err(self.mistake_at(
                at,
                format!("a tag at {name}"),
                "no tag: the dictionary does not say has_tag",
            ));
        }
        if !self.sign('=') {
            return Err(self.mistake("no = behind the name", format!("{name} = value")));
        }
        self.blanks();
        let content = match definition {
            None => self.raw_value()?,
            Some(definition) if definition.data_type == DataType::Tlv => {
                if !self.sign('{') || depth >= DEPTH_MAX {
                    return Err(self.mistake(format!("{name} without a brace"), DataType::Tlv.expected()));
                }
                let items = self.list(dictionary, Some(path), depth + 1)?;
                if items.is_empty() {
                    return Err(self.mistake(format!("{name} without attributes"), "at least one attribute inside"));
                }
                Content::Inside(items)
            }
            Some(definition) => self.value(definition)?,
        };
        let always = definition.is_some_and(|known| known.hiding.is_some() || known.data_type == DataType::Integer);
        let tag = tag.filter(|tag| *tag != 0 || !always);
        Ok(Item { path, tag, content })
    }

    fn raw_value(&mut self) -> Result<Content, Mistake> {
        let at = self.at;
        let word = self.take_while(is_bare);
        match hex_octets(word) {
            Some(octets) => Ok(Content::Raw(octets)),
            None => Err(self.mistake_at(at, word, "octets as 0x and pairs of hex digits")),
        }
    }

    fn value(&mut self, definition: &Definition) -> Result<Content, Mistake> {
        let at = self.at;
        let written = self.written()?;
        let text = match &written {
            Written::Quoted(octets) if matches!(definition.data_type, DataType::Text | DataType::Octets) => {
                if definition.length.is_some_and(|length| length != octets.len()) {
                    let found = format!("{} octets for {}", octets.len(), definition.name);
                    return Err(self.mistake_at(
                        at,
                        found,
                        format!("exactly {}", definition.length.unwrap_or_default()),
                    ));
                }
                return Ok(Content::Value(octets.clone()));
            }
            Written::Quoted(octets) => std::str::from_utf8(octets).unwrap_or_default(),
            Written::Bare(text) => text,
        };
        match definition.parse(text) {
            Ok(octets) => Ok(Content::Value(Zeroizing::new(octets))),
            Err(right) if text.is_empty() => {
                Err(self.mistake_at(at, format!("no value for {}", definition.name), right))
            }
            // A password that was written without quotes does not belong into a message.
            Err(right) if definition.hiding.is_some() || definition.secret => {
                Err(self.mistake_at(at, format!("a value of {}", definition.name), right))
            }
            Err(right) => Err(self.mistake_at(at, format!("{} = {text}", definition.name), right)),
        }
    }

    fn written(&mut self) -> Result<Written<'t>, Mistake> {
        let quote = match self.rest().chars().next() {
            Some(quote @ ('"' | '\'')) => quote,
            _ => return Ok(Written::Bare(self.take_while(is_bare))),
        };
        let open = self.at;
        self.at += 1;
        let mut octets = Zeroizing::new(Vec::new());
        loop {
            let Some(c) = self.rest().chars().next() else {
                return Err(self.mistake_at(open, "a quote that does not end", format!("{quote} behind the text")));
            };
            self.at += c.len_utf8();
            match c {
                c if c == quote => return Ok(Written::Quoted(octets)),
                '\\' if quote == '"' => octets.push(self.escape()?),
                c => octets.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
    }

    fn escape(&mut self) -> Result<u8, Mistake> {
        let rest = self.rest();
        let digits = |from: usize, to: usize, radix| {
            let digits = rest
                .get(from..to)
                .filter(|digits| digits.bytes().all(|octet| octet.is_ascii_alphanumeric()))?;
            u8::from_str_radix(digits, radix).ok()
        };
        let (octet, used) = match rest.bytes().next() {
            Some(b'n') => (Some(b'\n'), 1),
            Some(b'r') => (Some(b'\r'), 1),
            Some(b't') => (Some(b'\t'), 1),
            Some(b'x') => (digits(1, 3, 16), 3),
            Some(b'0'..=b'3') => (digits(0, 3, 8), 3),
            Some(octet @ (b'"' | b'\'' | b'\\')) => (Some(octet), 1),
            _ => (None, 0),
        };
        let Some(octet) = octet else {
            let right = "one of \\\\ \\\" \\' \\n \\r \\t, \\ and three octal digits, or \\x and two hex digits";
            return Err(self.mistake("an unknown escape", right));
        };
        self.at += used;
        Ok(octet)
    }
}

/// Adds an item to those of a packet. One that is written without the tlvs around it gets them; those that follow each other share
/// them.
pub fn add(dictionary: &Dictionary, items: &mut Vec<Item>, item: Item) {
    put(dictionary, items, item, 0);
}

fn put(dictionary: &Dictionary, items: &mut Vec<Item>, item: Item, outer: usize) {
    let tlv = (outer + 1..item.path.numbers().len()).find_map(|length| {
        let path = Path::new(item.path.numbers().get(..length)?)?;
        let known = dictionary.at(path.numbers())?;
        (known.data_type == DataType::Tlv).then_some(path)
    });
    let Some(path) = tlv else {
        items.push(item);
        return;
    };
    let depth = path.numbers().len();
    if let Some(Item {
        path: last,
        content: Content::Inside(inner),
        ..
    }) = items.last_mut()
        && *last == path
    {
        put(dictionary, inner, item, depth);
        return;
    }
    let mut inner = Vec::new();
    put(dictionary, &mut inner, item, depth);
    items.push(Item {
        path,
        tag: None,
        content: Content::Inside(inner),
    });
}
