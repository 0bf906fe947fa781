//! Distinguished names in their string form (RFC 4514): walked without allocating, and brought to a form that can be
//! compared byte by byte.
//!
//! Why a *normal form* of our own: two strings name the same entry when each of their attribute values match by that
//! attribute's rule, which only a schema knows. So [`normalize`] asks its caller's [`Rules`] for names and values, and
//! takes care of everything else: escapes, hexadecimal values, spaces, the order inside a multi-valued RDN.
//!
//! Invariants of the normal form: the bytes `,` and `+` only ever separate (inside a value they are written `\2c` and
//! `\2b`); so a name lies within a base exactly when it ends in it at a comma ([`is_within`]), and the parent is what
//! follows the first comma ([`normal_parent`]). It is itself a valid RFC 4514 string, and normalising it changes nothing.

use std::borrow::Cow;
use std::fmt;

/// Why a string is no distinguished name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DnError {
    /// Byte offset, from 0, at which reading stopped.
    pub at: usize,
    /// What is wrong there, and what would be right.
    pub what: &'static str,
}

impl fmt::Display for DnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at byte {}: {}", self.at, self.what)
    }
}

impl std::error::Error for DnError {}

/// The value of one attribute-value assertion, as written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Value<'a> {
    /// A string (RFC 4514 section 2.4), outer spaces removed, escapes still in it and known to be right.
    Text(&'a [u8]),
    /// The content of the BER value written as `#` and hexadecimal digits: still digits, an even number of them.
    Hex(&'a [u8]),
}

impl<'a> Value<'a> {
    /// The value itself: borrowed where nothing is escaped.
    pub fn bytes(self) -> Cow<'a, [u8]> {
        match self {
            Value::Text(text) if !text.contains(&b'\\') => Cow::Borrowed(text),
            Value::Text(text) => Cow::Owned(unescape(text)),
            Value::Hex(digits) => Cow::Owned(hex_bytes(digits)),
        }
    }
}

/// One attribute-value assertion: `cn=Ada`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ava<'a> {
    /// The attribute's short name or OID, as written.
    pub attribute: &'a [u8],
    /// Its value.
    pub value: Value<'a>,
    /// Whether the RDN ends here (false before a `+`).
    pub ends_rdn: bool,
}

/// Walks the assertions of `dn` from left to right; after an error it ends. An empty name has none.
#[must_use]
pub fn avas(dn: &[u8]) -> Avas<'_> {
    Avas {
        dn,
        at: 0,
        state: if dn.iter().all(|b| *b == b' ') {
            State::Done
        } else {
            State::Expects
        },
    }
}

/// See [`avas`].
#[derive(Clone, Debug)]
pub struct Avas<'a> {
    dn: &'a [u8],
    at: usize,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// An assertion must follow: at the start, or behind a separator.
    Expects,
    Done,
}

impl<'a> Iterator for Avas<'a> {
    type Item = Result<Ava<'a>, DnError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.state == State::Done {
            return None;
        }
        let ava = self.ava();
        if ava.is_err() {
            self.state = State::Done;
        }
        Some(ava)
    }
}

impl<'a> Avas<'a> {
    fn ava(&mut self) -> Result<Ava<'a>, DnError> {
        let attribute = self.attribute()?;
        self.skip_spaces();
        let value = if self.peek() == Some(b'#') {
            self.hex()?
        } else {
            self.text()?
        };
        self.skip_spaces();
        let ends_rdn = match self.peek() {
            None => {
                self.state = State::Done;
                true
            }
            Some(b',') => true,
            Some(b'+') => false,
            Some(_) => return Err(self.error("expected `,` or `+` behind the value")),
        };
        self.at += 1;
        Ok(Ava {
            attribute,
            value,
            ends_rdn,
        })
    }

    fn attribute(&mut self) -> Result<&'a [u8], DnError> {
        self.skip_spaces();
        let start = self.at;
        while self
            .peek()
            .is_some_and(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.')
        {
            self.at += 1;
        }
        let name = self.dn.get(start..self.at).unwrap_or_default();
        if !is_attribute_type(name) {
            self.at = start;
            return Err(self.error("expected an attribute name or OID, as in `cn=` or `2.5.4.3=`"));
        }
        self.skip_spaces();
        if self.peek() != Some(b'=') {
            return Err(self.error("expected `=` behind the attribute name"));
        }
        self.at += 1;
        Ok(name)
    }

    fn hex(&mut self) -> Result<Value<'a>, DnError> {
        let start = self.at + 1;
        self.at = start;
        while self.peek().is_some_and(|b| b.is_ascii_hexdigit()) {
            self.at += 1;
        }
        let digits = self.dn.get(start..self.at).unwrap_or_default();
        match ber_content(digits) {
            Some(content) => Ok(Value::Hex(content)),
            None => {
                self.at = start;
                Err(self.error("expected the hexadecimal digits of one whole BER value behind `#`"))
            }
        }
    }

    fn text(&mut self) -> Result<Value<'a>, DnError> {
        let start = self.at;
        // The end of the value without spaces that are neither escaped nor followed by something else.
        let mut end = start;
        while let Some(byte) = self.peek() {
            match byte {
                b',' | b'+' => break,
                b'\\' => {
                    self.at += 1;
                    match (self.peek(), self.dn.get(self.at + 1)) {
                        (Some(high), Some(low)) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => self.at += 1,
                        (Some(special), _) if is_special(special) => {}
                        _ => {
                            return Err(
                                self.error("expected a special character or two hexadecimal digits behind `\\`")
                            );
                        }
                    }
                    end = self.at + 1;
                }
                b'"' | b';' | b'<' | b'>' | 0 => {
                    return Err(self.error("this character must be escaped with `\\` in a name"));
                }
                b' ' => {}
                _ => end = self.at + 1,
            }
            self.at += 1;
        }
        Ok(Value::Text(self.dn.get(start..end).unwrap_or_default()))
    }

    fn peek(&self) -> Option<u8> {
        self.dn.get(self.at).copied()
    }

    fn skip_spaces(&mut self) {
        while self.peek() == Some(b' ') {
            self.at += 1;
        }
    }

    fn error(&self, what: &'static str) -> DnError {
        DnError { at: self.at, what }
    }
}

/// How the names and values inside a DN compare: what [`normalize`] asks of a schema.
pub trait Rules {
    /// Appends the one name by which this attribute is known, in lower case: `CommonName` and `2.5.4.3` give `cn`.
    fn attribute(&self, name: &[u8], out: &mut Vec<u8>);
    /// Appends the value such that equal values give equal bytes. A value that the attribute's syntax does not allow
    /// is appended in any form that keeps it distinct.
    fn value(&self, name: &[u8], value: &[u8], out: &mut Vec<u8>);
}

/// Rules for whoever has no schema: names in lower case, values without regard to case and repeated spaces.
/// It makes two different names equal where a schema would not, so it must decide nothing about identity.
#[derive(Clone, Copy, Debug)]
pub struct CaseIgnore;

impl Rules for CaseIgnore {
    fn attribute(&self, name: &[u8], out: &mut Vec<u8>) {
        out.extend(name.iter().map(u8::to_ascii_lowercase));
    }

    fn value(&self, _name: &[u8], value: &[u8], out: &mut Vec<u8>) {
        let mut space = false;
        let start = out.len();
        for chunk in value.utf8_chunks() {
            for c in chunk.valid().chars() {
                if c == ' ' {
                    space = true;
                    continue;
                }
                if std::mem::take(&mut space) && out.len() > start {
                    out.push(b' ');
                }
                for lower in c.to_lowercase() {
                    out.extend_from_slice(lower.encode_utf8(&mut [0; 4]).as_bytes());
                }
            }
            // A space stays before what it stood before: bytes must not meet and become a character.
            if !chunk.invalid().is_empty() && std::mem::take(&mut space) && out.len() > start {
                out.push(b' ');
            }
            out.extend_from_slice(chunk.invalid());
        }
    }
}

/// Appends the normal form of `dn` to `out`; on an error, `out` is as it was.
///
/// # Errors
/// Where and why `dn` is no RFC 4514 string.
pub fn normalize(dn: &[u8], rules: &impl Rules, out: &mut Vec<u8>) -> Result<(), DnError> {
    let start = out.len();
    let mut avas = avas(dn);
    loop {
        let first = match avas.next() {
            None => return Ok(()),
            Some(Ok(ava)) => ava,
            Some(Err(error)) => {
                out.truncate(start);
                return Err(error);
            }
        };
        if out.len() > start {
            out.push(b',');
        }
        let rdn_start = out.len();
        normalize_ava(&first, rules, out);
        if !first.ends_rdn
            && let Err(error) = normalize_more_avas(&mut avas, rules, rdn_start, out)
        {
            out.truncate(start);
            return Err(error);
        }
    }
}

/// The parent of a name in normal form: what follows its first RDN; `None` for the empty name, empty for one RDN.
#[must_use]
pub fn normal_parent(normal: &[u8]) -> Option<&[u8]> {
    if normal.is_empty() {
        return None;
    }
    match normal.iter().position(|b| *b == b',') {
        Some(comma) => normal.get(comma + 1..),
        None => Some(b""),
    }
}

/// Whether `normal` is `base` or below it; both in normal form. Everything is within the empty name.
#[must_use]
pub fn is_within(normal: &[u8], base: &[u8]) -> bool {
    match normal.strip_suffix(base) {
        Some(rest) => rest.is_empty() || base.is_empty() || rest.ends_with(b","),
        None => false,
    }
}

/// The parent of a name as written: what follows the first comma that is not escaped; `None` for the empty name.
#[must_use]
pub fn parent(dn: &[u8]) -> Option<&[u8]> {
    if dn.is_empty() {
        return None;
    }
    let mut escaped = false;
    for (at, byte) in dn.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b',' => return dn.get(at + 1..).map(<[u8]>::trim_ascii_start),
            _ => {}
        }
    }
    Some(b"")
}

/// How many RDNs a name in normal form has.
#[must_use]
pub fn normal_depth(normal: &[u8]) -> usize {
    if normal.is_empty() {
        0
    } else {
        1 + normal.iter().filter(|b| **b == b',').count()
    }
}

/// `value` written so that it can stand in a DN: specials, and bytes that are not UTF-8, as `\` and two digits.
#[must_use]
pub fn escape(value: &[u8]) -> String {
    let mut out = Vec::with_capacity(value.len());
    escape_into(value, &mut out);
    String::from_utf8_lossy(&out).into_owned()
}

fn normalize_ava(ava: &Ava<'_>, rules: &impl Rules, out: &mut Vec<u8>) {
    rules.attribute(ava.attribute, out);
    out.push(b'=');
    let start = out.len();
    rules.value(ava.attribute, &ava.value.bytes(), out);
    let plain = out.get(start..).is_some_and(|value| {
        value
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'@' | b'/' | b':'))
    });
    if !plain {
        let value = out.split_off(start);
        escape_into(&value, out);
    }
}

/// The rest of a multi-valued RDN whose first assertion is in `out` from `start` on: all of it in sorted order.
fn normalize_more_avas(
    avas: &mut Avas<'_>,
    rules: &impl Rules,
    start: usize,
    out: &mut Vec<u8>,
) -> Result<(), DnError> {
    let mut all = vec![out.split_off(start)];
    for ava in avas {
        let ava = ava?;
        let mut one = Vec::new();
        normalize_ava(&ava, rules, &mut one);
        all.push(one);
        if ava.ends_rdn {
            break;
        }
    }
    all.sort();
    out.extend_from_slice(&all.join(&b'+'));
    Ok(())
}

fn escape_into(value: &[u8], out: &mut Vec<u8>) {
    let utf8 = std::str::from_utf8(value).is_ok();
    let last = value.len().saturating_sub(1);
    for (at, byte) in value.iter().enumerate() {
        let hidden = match byte {
            b',' | b'+' | b'"' | b'\\' | b'<' | b'>' | b';' | b'=' | 0x00..=0x1f | 0x7f => true,
            b' ' => at == 0 || at == last,
            b'#' => at == 0,
            0x80.. => !utf8,
            _ => false,
        };
        if hidden {
            out.push(b'\\');
            out.push(hex_digit(byte >> 4));
            out.push(hex_digit(byte & 0xf));
        } else {
            out.push(*byte);
        }
    }
}

fn unescape(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.iter();
    while let Some(byte) = rest.next() {
        if *byte != b'\\' {
            out.push(*byte);
            continue;
        }
        match rest.as_slice() {
            [high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                out.push(hex_value(*high) << 4 | hex_value(*low));
                rest.next();
                rest.next();
            }
            [special, ..] => {
                out.push(*special);
                rest.next();
            }
            [] => {}
        }
    }
    out
}

/// The digits of the content of the one BER value that `digits` encode.
fn ber_content(digits: &[u8]) -> Option<&[u8]> {
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    let octet = |at: usize| {
        let pair = digits.get(at * 2..at * 2 + 2)?;
        Some(usize::from(hex_value(*pair.first()?) << 4 | hex_value(*pair.last()?)))
    };
    let (length, header) = match octet(1)? {
        short @ 0..=0x7f => (short, 2),
        0x81 => (octet(2)?, 3),
        0x82 => (octet(2)? << 8 | octet(3)?, 4),
        _ => return None,
    };
    let content = digits.get(header * 2..)?;
    (content.len() == length * 2).then_some(content)
}

fn hex_bytes(digits: &[u8]) -> Vec<u8> {
    let (pairs, _) = digits.as_chunks::<2>();
    pairs
        .iter()
        .map(|[high, low]| hex_value(*high) << 4 | hex_value(*low))
        .collect()
}

fn hex_value(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        b'A'..=b'F' => digit - b'A' + 10,
        _ => 0,
    }
}

fn hex_digit(nibble: u8) -> u8 {
    if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 }
}

fn is_special(byte: u8) -> bool {
    matches!(
        byte,
        b',' | b'+' | b'"' | b'\\' | b'<' | b'>' | b';' | b' ' | b'#' | b'='
    )
}

/// RFC 4512: a keystring, or a dotted number.
fn is_attribute_type(name: &[u8]) -> bool {
    match name.first() {
        Some(b'a'..=b'z' | b'A'..=b'Z') => !name.contains(&b'.'),
        Some(b'0'..=b'9') => name
            .split(|b| *b == b'.')
            .all(|part| !part.is_empty() && part.iter().all(u8::is_ascii_digit)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn normal(dn: &str) -> String {
        let mut out = Vec::new();
        normalize(dn.as_bytes(), &CaseIgnore, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn error(dn: &str) -> DnError {
        normalize(dn.as_bytes(), &CaseIgnore, &mut Vec::new()).unwrap_err()
    }

    #[test]
    fn names_that_differ_only_in_writing_are_one() {
        assert_eq!(normal("UID=jsmith,DC=example,DC=net"), "uid=jsmith,dc=example,dc=net");
        assert_eq!(
            normal(" uid = JSmith , dc=example ,dc = net "),
            "uid=jsmith,dc=example,dc=net"
        );
        assert_eq!(
            normal("OU=Sales+CN=J.  Smith,DC=example"),
            "cn=j. smith+ou=sales,dc=example"
        );
        assert_eq!(
            normal("CN=James \\\"Jim\\\" Smith\\, III,DC=net"),
            "cn=james \\22jim\\22 smith\\2c iii,dc=net"
        );
        assert_eq!(normal("1.3.6.1.4.1.1466.0=#04024869"), "1.3.6.1.4.1.1466.0=hi");
        assert_eq!(normal("CN=Lu\\C4\\8Di\\C4\\87"), "cn=lučić");
        assert_eq!(
            normal("cn=\\ a\\ "),
            normal("cn=a"),
            "outer spaces do not count by caseIgnore"
        );
        assert_eq!(normal(""), "");
        assert_eq!(normal("cn="), "cn=");
        assert_eq!(normal("a=b=c"), "a=b\\3dc");
    }

    #[test]
    fn what_stands_in_the_buffer_already_stays() {
        let mut out = b"kept".to_vec();
        normalize(b"b=1+a=2,c=3+b=4", &CaseIgnore, &mut out).unwrap();
        assert_eq!(out, b"kepta=2+b=1,b=4+c=3");
        assert!(normalize(b"b=1+a=2,c=3+b", &CaseIgnore, &mut out).is_err());
        assert_eq!(out, b"kepta=2+b=1,b=4+c=3");
    }

    #[test]
    fn what_is_no_name_says_where() {
        assert_eq!(error("cn").at, 2);
        assert_eq!(error("cn=a,").at, 5);
        assert_eq!(error("cn=a+").at, 5);
        assert_eq!(error("=a").at, 0);
        assert_eq!(error("cn=a\\").at, 5);
        assert_eq!(error("cn=a\\zz").at, 5);
        assert_eq!(error("cn=a;b=c").at, 4);
        assert_eq!(error("cn=#0402486").at, 4);
        assert_eq!(error("cn=#04034869").at, 4);
        assert_eq!(error("1..2=x").at, 0);
        assert_eq!(error("cn;lang-de=x").at, 2);
        assert_eq!(error("cn=#040148 x").at, 11);
    }

    #[test]
    fn parents_and_bases() {
        assert_eq!(normal_parent(b"a=b,c=d,e=f"), Some(&b"c=d,e=f"[..]));
        assert_eq!(normal_parent(b"a=b"), Some(&b""[..]));
        assert_eq!(normal_parent(b""), None);
        assert_eq!(parent(b"cn=a\\,b, c=d"), Some(&b"c=d"[..]));
        assert_eq!(parent(b"cn=a\\\\,c=d"), Some(&b"c=d"[..]));
        assert!(is_within(b"a=b,c=d", b"c=d") && is_within(b"c=d", b"c=d") && is_within(b"c=d", b""));
        assert!(!is_within(b"a=bc=d", b"c=d") && !is_within(b"c=d", b"a=b,c=d"));
        assert_eq!(normal_depth(b"a=b,c=d"), 2);
        assert_eq!(normal_depth(b""), 0);
    }

    proptest! {
        #[test]
        fn an_escaped_value_reads_back_as_one_assertion(value in proptest::collection::vec(any::<u8>(), 0..40)) {
            let dn = format!("cn={},dc=x", escape(&value));
            let read: Vec<_> = avas(dn.as_bytes()).collect::<Result<_, _>>().unwrap();
            prop_assert_eq!(read.len(), 2);
            prop_assert_eq!(read[0].value.bytes().into_owned(), value);
        }

        #[test]
        fn the_normal_form_is_stable(dn in "[a-c]{1,2}=[ ,+\\\\aAé#=0]{0,6}(,[a-c]=[ \\\\aAé0]{0,5}){0,3}") {
            let mut once = Vec::new();
            if normalize(dn.as_bytes(), &CaseIgnore, &mut once).is_ok() {
                let mut twice = Vec::new();
                normalize(&once, &CaseIgnore, &mut twice).unwrap();
                prop_assert_eq!(&once, &twice);
                let rdns = avas(dn.as_bytes()).filter(|a| a.as_ref().unwrap().ends_rdn).count();
                prop_assert_eq!(normal_depth(&once), rdns);
            }
        }

        #[test]
        fn no_bytes_panic(dn in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = normalize(&dn, &CaseIgnore, &mut Vec::new());
            let _ = parent(&dn);
        }
    }
}
