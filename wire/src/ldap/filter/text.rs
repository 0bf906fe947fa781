//! The string form of filters (RFC 4515).

use std::fmt::{self, Write as _};

use super::{Assertion, Filter, Filters, Piece, Pieces, read};
use crate::ber;
use crate::frame::Malformed;
use crate::ldap::grammar::filter_tag as tag;

/// The deepest nesting that [`parse`] and [`to_string`] take.
pub const DEPTH_MAX: usize = 200;

/// The string form of an encoded filter. [`parse`] reads it back to the same filter as long as the attribute
/// descriptions and rules in it are well formed (nothing can be escaped in those; odd bytes come out as they are).
///
/// # Errors
/// It is no filter, or nested deeper than [`DEPTH_MAX`].
pub fn to_string(filter: &[u8]) -> Result<String, Malformed> {
    let mut out = String::new();
    print(filter, DEPTH_MAX, &mut out)?;
    Ok(out)
}

fn print(filter: &[u8], depth: usize, out: &mut String) -> Result<(), Malformed> {
    let depth = depth.checked_sub(1).ok_or(Malformed::TooDeep)?;
    out.push('(');
    match read(filter)? {
        Filter::And(all) => print_all('&', all, depth, out)?,
        Filter::Or(all) => print_all('|', all, depth, out)?,
        Filter::Not(inner) => {
            out.push('!');
            print(inner, depth, out)?;
        }
        Filter::Equality(a) => print_assertion(a, "=", out),
        Filter::GreaterOrEqual(a) => print_assertion(a, ">=", out),
        Filter::LessOrEqual(a) => print_assertion(a, "<=", out),
        Filter::Approx(a) => print_assertion(a, "~=", out),
        Filter::Present(attribute) => {
            print_name(attribute, out);
            out.push_str("=*");
        }
        Filter::Substrings { attribute, pieces } => {
            print_name(attribute, out);
            out.push('=');
            print_pieces(pieces, out)?;
        }
        Filter::Extensible(e) => {
            print_name(e.attribute.unwrap_or_default(), out);
            if e.dn_attributes {
                out.push_str(":dn");
            }
            if let Some(rule) = e.rule {
                out.push(':');
                print_name(rule, out);
            }
            out.push_str(":=");
            escape_into(e.value, out);
        }
    }
    out.push(')');
    Ok(())
}

fn print_all(operator: char, all: Filters<'_>, depth: usize, out: &mut String) -> Result<(), Malformed> {
    out.push(operator);
    for filter in all {
        print(filter?, depth, out)?;
    }
    Ok(())
}

fn print_assertion(assertion: Assertion<'_>, operator: &str, out: &mut String) {
    print_name(assertion.attribute, out);
    out.push_str(operator);
    escape_into(assertion.value, out);
}

fn print_pieces(pieces: Pieces<'_>, out: &mut String) -> Result<(), Malformed> {
    let mut ended = false;
    for piece in pieces {
        match piece? {
            Piece::Initial(text) => escape_into(text, out),
            Piece::Any(text) => {
                out.push('*');
                escape_into(text, out);
            }
            Piece::Final(text) => {
                out.push('*');
                escape_into(text, out);
                ended = true;
            }
        }
    }
    if !ended {
        out.push('*');
    }
    Ok(())
}

fn print_name(name: &[u8], out: &mut String) {
    out.push_str(&String::from_utf8_lossy(name));
}

/// `value` written so that it can stand in a filter (RFC 4515 section 3): it matches itself and nothing else.
#[must_use]
pub fn escape(value: &[u8]) -> String {
    let mut out = String::with_capacity(value.len());
    escape_into(value, &mut out);
    out
}

fn escape_into(value: &[u8], out: &mut String) {
    for chunk in value.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\0' | '(' | ')' | '*' | '\\' => push_escaped(c as u8, out),
                _ => out.push(c),
            }
        }
        for byte in chunk.invalid() {
            push_escaped(*byte, out);
        }
    }
}

fn push_escaped(byte: u8, out: &mut String) {
    // Writing to a String cannot fail.
    let _ = write!(out, "\\{byte:02x}");
}

/// Why a string is no filter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FilterError {
    /// Byte offset, from 0, at which reading stopped.
    pub at: usize,
    /// What is wrong there, and what would be right.
    pub what: &'static str,
}

impl fmt::Display for FilterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at byte {} of the filter: {}", self.at, self.what)
    }
}

impl std::error::Error for FilterError {}

/// Encodes a filter given as a string. Spaces are taken between filters, and nowhere else.
///
/// # Errors
/// Where and why `text` is no RFC 4515 filter.
pub fn parse(text: &str) -> Result<Vec<u8>, FilterError> {
    let mut parser = Parser {
        text: text.as_bytes(),
        at: 0,
    };
    let mut out = Vec::with_capacity(text.len() + 16);
    parser.skip_spaces();
    parser.filter(DEPTH_MAX, &mut out)?;
    parser.skip_spaces();
    if parser.at < parser.text.len() {
        return parser.fail("expected nothing more behind the filter's last `)`");
    }
    Ok(out)
}

struct Parser<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Parser<'a> {
    fn filter(&mut self, depth: usize, out: &mut Vec<u8>) -> Result<(), FilterError> {
        self.expect(
            b'(',
            "expected `(`: a filter is written in parentheses, as in `(uid=ada)`",
        )?;
        let Some(depth) = depth.checked_sub(1) else {
            return self.fail("nested too deep");
        };
        match self.peek() {
            Some(b'&') => self.list(tag::AND, depth, out)?,
            Some(b'|') => self.list(tag::OR, depth, out)?,
            Some(b'!') => {
                self.at += 1;
                self.skip_spaces();
                let mut inner = Vec::new();
                self.filter(depth, &mut inner)?;
                ber::write_bytes(out, tag::NOT, &inner);
                self.skip_spaces();
            }
            _ => self.item(out)?,
        }
        self.expect(b')', "expected `)`")
    }

    fn list(&mut self, tag: u8, depth: usize, out: &mut Vec<u8>) -> Result<(), FilterError> {
        self.at += 1;
        self.skip_spaces();
        let mut inner = Vec::new();
        while self.peek() == Some(b'(') {
            self.filter(depth, &mut inner)?;
            self.skip_spaces();
        }
        ber::write_bytes(out, tag, &inner);
        Ok(())
    }

    fn item(&mut self, out: &mut Vec<u8>) -> Result<(), FilterError> {
        let attribute = self.description()?;
        let tag = match (self.peek(), self.text.get(self.at + 1)) {
            (Some(b':'), _) => return self.extensible(attribute, out),
            (Some(b'='), _) if !attribute.is_empty() => return self.equality(attribute, out),
            (Some(b'~'), Some(b'=')) => tag::APPROX,
            (Some(b'>'), Some(b'=')) => tag::GREATER_OR_EQUAL,
            (Some(b'<'), Some(b'=')) => tag::LESS_OR_EQUAL,
            _ if attribute.is_empty() => return self.fail("expected an attribute name, `&`, `|` or `!`"),
            _ => return self.fail("expected `=`, `~=`, `>=`, `<=` or `:=` behind the attribute name"),
        };
        if attribute.is_empty() {
            return self.fail("expected an attribute name");
        }
        self.at += 2;
        let value = self.value()?;
        write_assertion(out, tag, attribute, &value);
        Ok(())
    }

    /// Everything that begins `attribute=`: equality, presence and substrings.
    fn equality(&mut self, attribute: &[u8], out: &mut Vec<u8>) -> Result<(), FilterError> {
        self.at += 1;
        let first = self.value()?;
        if self.peek() != Some(b'*') {
            write_assertion(out, tag::EQUALITY, attribute, &first);
            return Ok(());
        }
        let mut pieces = Vec::new();
        if !first.is_empty() {
            ber::write_bytes(&mut pieces, tag::SUBSTRING_INITIAL, &first);
        }
        while self.peek() == Some(b'*') {
            self.at += 1;
            let piece = self.value()?;
            match (piece.is_empty(), self.peek() == Some(b'*')) {
                (false, true) => ber::write_bytes(&mut pieces, tag::SUBSTRING_ANY, &piece),
                (false, false) => ber::write_bytes(&mut pieces, tag::SUBSTRING_FINAL, &piece),
                (true, true) => return self.fail("two `*` with nothing between them"),
                (true, false) => {}
            }
        }
        if pieces.is_empty() {
            ber::write_bytes(out, tag::PRESENT, attribute);
        } else {
            let mut content = Vec::with_capacity(pieces.len() + attribute.len() + 8);
            ber::write_bytes(&mut content, ber::tag::OCTET_STRING, attribute);
            ber::write_bytes(&mut content, ber::tag::SEQUENCE, &pieces);
            ber::write_bytes(out, tag::SUBSTRINGS, &content);
        }
        Ok(())
    }

    fn extensible(&mut self, attribute: &[u8], out: &mut Vec<u8>) -> Result<(), FilterError> {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let dn_attributes = match rest {
            [b':', d, n, b':', ..] => d.eq_ignore_ascii_case(&b'd') && n.eq_ignore_ascii_case(&b'n'),
            _ => false,
        };
        if dn_attributes {
            self.at += 3;
        }
        self.expect(b':', "expected `:`")?;
        let mut rule: &[u8] = b"";
        if self.peek() != Some(b'=') {
            rule = self.description()?;
            if rule.is_empty() || rule.contains(&b';') {
                return self.fail("expected a matching rule's name or OID, or `=`");
            }
            self.expect(b':', "expected `:=` behind the matching rule")?;
        }
        self.expect(b'=', "expected `:=`")?;
        if rule.is_empty() && attribute.is_empty() {
            return self.fail("expected an attribute or a matching rule before `:=`");
        }
        let value = self.value()?;
        let mut content = Vec::with_capacity(value.len() + attribute.len() + rule.len() + 16);
        if !rule.is_empty() {
            ber::write_bytes(&mut content, tag::EXTENSIBLE_RULE, rule);
        }
        if !attribute.is_empty() {
            ber::write_bytes(&mut content, tag::EXTENSIBLE_TYPE, attribute);
        }
        ber::write_bytes(&mut content, tag::EXTENSIBLE_VALUE, &value);
        if dn_attributes {
            ber::write_boolean(&mut content, tag::EXTENSIBLE_DN_ATTRIBUTES, true);
        }
        ber::write_bytes(out, tag::EXTENSIBLE, &content);
        Ok(())
    }

    /// A name or OID with options, perhaps empty.
    fn description(&mut self) -> Result<&'a [u8], FilterError> {
        let start = self.at;
        while self
            .peek()
            .is_some_and(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b';'))
        {
            self.at += 1;
        }
        let name = self.text.get(start..self.at).unwrap_or_default();
        let well_formed = match name.first() {
            Some(b'-' | b'.' | b';') => false,
            _ => !name.ends_with(b";"),
        };
        if !well_formed {
            self.at = start;
            return self.fail("expected an attribute name or OID");
        }
        Ok(name)
    }

    /// A value up to the next `*`, `)` or the end, unescaped.
    fn value(&mut self) -> Result<Vec<u8>, FilterError> {
        let mut out = Vec::new();
        while let Some(byte) = self.peek() {
            match byte {
                b'*' | b')' => break,
                b'(' | 0 => return self.fail("this character must be escaped: `(` is `\\28`, NUL is `\\00`"),
                b'\\' => {
                    let digit = |at: usize| char::from(*self.text.get(at)?).to_digit(16);
                    let (Some(high), Some(low)) = (digit(self.at + 1), digit(self.at + 2)) else {
                        return self.fail("expected two hexadecimal digits behind `\\`; a backslash itself is `\\5c`");
                    };
                    out.extend(u8::try_from(high << 4 | low));
                    self.at += 3;
                }
                _ => {
                    out.push(byte);
                    self.at += 1;
                }
            }
        }
        Ok(out)
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn skip_spaces(&mut self) {
        while self.peek().is_some_and(|b| b.is_ascii_whitespace()) {
            self.at += 1;
        }
    }

    fn expect(&mut self, byte: u8, what: &'static str) -> Result<(), FilterError> {
        if self.peek() == Some(byte) {
            self.at += 1;
            Ok(())
        } else {
            self.fail(what)
        }
    }

    fn fail<T>(&self, what: &'static str) -> Result<T, FilterError> {
        Err(FilterError { at: self.at, what })
    }
}

fn write_assertion(out: &mut Vec<u8>, tag: u8, attribute: &[u8], value: &[u8]) {
    let content_len = ber::element_len(attribute.len()) + ber::element_len(value.len());
    ber::write_header(out, tag, content_len);
    ber::write_bytes(out, ber::tag::OCTET_STRING, attribute);
    ber::write_bytes(out, ber::tag::OCTET_STRING, value);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn round(text: &str) -> String {
        to_string(&parse(text).unwrap()).unwrap()
    }

    fn fails_at(text: &str) -> usize {
        parse(text).unwrap_err().at
    }

    #[test]
    fn the_examples_of_rfc_4515_are_read_and_written() {
        for text in [
            "(cn=Babs Jensen)",
            "(!(cn=Tim Howes))",
            "(&(objectClass=Person)(|(sn=Jensen)(cn=Babs J*)))",
            "(o=univ*of*mich*)",
            "(seeAlso=)",
            "(cn:caseExactMatch:=Fred Flintstone)",
            "(cn:=Betty Rubble)",
            "(sn:dn:2.4.6.8.10:=Barney Rubble)",
            "(o:dn:=Ace Industry)",
            "(:1.2.3:=Wilma Flintstone)",
            "(:dn:2.4.6.8.10:=Dino)",
            "(o=Parens R Us \\28for all your parenthetical needs\\29)",
            "(cn=*\\2a*)",
            "(filename=C:\\5cMyFile)",
            "(sn=Lučić)",
            "(1.3.6.1.4.1.1466.0=\u{4}\u{2}Hi)",
            "(&)",
            "(|)",
            "(uidNumber>=1000)",
            "(uidNumber<=1000)",
            "(cn~=Ada)",
            "(description;lang-de=*)",
            "(cn=*a)",
        ] {
            assert_eq!(round(text), text);
        }
        assert_eq!(round("(bin=\\00\\00\\00\\04)"), "(bin=\\00\\00\\00\u{4})");
        assert_eq!(round("(bin=\\ff)"), "(bin=\\ff)");
        assert_eq!(round(" (& (a=1) (b=2) ) "), "(&(a=1)(b=2))");
    }

    #[test]
    fn the_encoding_is_that_of_rfc_4511() {
        assert_eq!(parse("(uid=a)").unwrap(), b"\xa3\x08\x04\x03uid\x04\x01a");
        assert_eq!(parse("(uid=*)").unwrap(), b"\x87\x03uid");
        assert_eq!(
            parse("(u=a*b*c)").unwrap(),
            b"\xa4\x0e\x04\x01u\x30\x09\x80\x01a\x81\x01b\x82\x01c"
        );
        assert_eq!(parse("(:dn:r:=x)").unwrap(), b"\xa9\x09\x81\x01r\x83\x01x\x84\x01\xff");
        assert_eq!(parse("(!(&))").unwrap(), b"\xa2\x02\xa0\x00");
    }

    #[test]
    fn what_is_no_filter_says_where() {
        assert_eq!(fails_at("uid=a"), 0);
        assert_eq!(fails_at("(uid=a"), 6);
        assert_eq!(fails_at("(uid=a))"), 7);
        assert_eq!(fails_at("(uid)"), 4);
        assert_eq!(fails_at("()"), 1);
        assert_eq!(fails_at("(=a)"), 1);
        assert_eq!(fails_at("(:=a)"), 3);
        assert_eq!(fails_at("(uid=a(b)"), 6);
        assert_eq!(fails_at("(uid=a\\zz)"), 6);
        assert_eq!(fails_at("(uid=a**b)"), 7);
        assert_eq!(fails_at("(!(a=1)(b=2))"), 7);
        assert_eq!(fails_at("(uid>=a*)"), 7);
        assert_eq!(fails_at("(cn;=a)"), 1);
        assert!(parse(&"(!".repeat(100_000)).is_err());
    }

    #[test]
    fn malformed_encodings_are_refused() {
        let seeds: [&[u8]; 7] = [
            b"",
            b"\xa3\x00",
            b"\xa4\x05\x04\x01u\x30\x00",
            b"\xa9\x03\x83\x01x",
            b"\x87\x03uidx",
            b"\xaa\x00",
            b"\xa2\x00",
        ];
        for bytes in seeds {
            assert!(to_string(bytes).is_err(), "{bytes:?}");
        }
        // final before any
        assert!(to_string(b"\xa4\x0b\x04\x01u\x30\x06\x82\x01c\x81\x01b").is_err());
    }

    fn any_filter() -> impl Strategy<Value = String> {
        let value = proptest::collection::vec(any::<u8>(), 1..8).prop_map(|v| escape(&v));
        let name = prop_oneof![Just("cn"), Just("uid"), Just("1.2.840"), Just("cn;lang-de")];
        let leaf = prop_oneof![
            (
                name.clone(),
                prop_oneof![Just("="), Just(">="), Just("<="), Just("~=")],
                value.clone()
            )
                .prop_map(|(n, o, v)| format!("({n}{o}{v})")),
            name.clone().prop_map(|n| format!("({n}=*)")),
            (name.clone(), value.clone(), value.clone(), value.clone())
                .prop_map(|(n, a, b, c)| format!("({n}={a}*{b}*{c})")),
            (name.clone(), value.clone()).prop_map(|(n, a)| format!("({n}=*{a}*)")),
            (name, value).prop_map(|(n, a)| format!("({n}:dn:caseExactMatch:={a})")),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(|all| format!("(&{})", all.concat())),
                proptest::collection::vec(inner.clone(), 0..4).prop_map(|all| format!("(|{})", all.concat())),
                inner.prop_map(|one| format!("(!{one})")),
            ]
        })
    }

    proptest! {
        #[test]
        fn parsing_what_is_displayed_gives_the_same(text in any_filter()) {
            let encoded = parse(&text).unwrap();
            let shown = to_string(&encoded).unwrap();
            prop_assert_eq!(&shown, &text);
            prop_assert_eq!(parse(&shown).unwrap(), encoded);
        }

        #[test]
        fn an_escaped_value_is_one_assertion(value in proptest::collection::vec(any::<u8>(), 0..40)) {
            let encoded = parse(&format!("(cn={})", escape(&value))).unwrap();
            match read(&encoded).unwrap() {
                Filter::Equality(a) => prop_assert_eq!(a.value, &value[..]),
                other => prop_assert!(false, "{:?}", other),
            }
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64), text in ".{0,40}") {
            let _ = to_string(&bytes);
            let _ = parse(&text);
        }
    }
}
