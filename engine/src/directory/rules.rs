//! Matching rules (RFC 4517): each brings a value to a *normal form*, and two values match when their forms are equal
//! byte by byte.
//!
//! Why forms and not comparisons: a form is made once per stored value when the directory is loaded and once per
//! assertion when a filter arrives; after that every test, and the index, works on bytes. Ordering rules compare forms
//! too ([`Rule::compare`]), substrings search in them.
//!
//! Strings are prepared as RFC 4518 says, with NFKC by the `unicode-normalization` crate; ASCII takes a short way.

use std::cmp::Ordering;

use unicode_normalization::UnicodeNormalization as _;
use wire::ldap::dn;

use super::schema::Schema;
use super::time;

/// A family of matching rules over one syntax.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Rule {
    /// No equality rule: assertions are Undefined.
    None,
    /// caseIgnoreMatch
    CaseIgnore,
    /// caseExactMatch
    CaseExact,
    /// caseIgnoreIA5Match
    CaseIgnoreIa5,
    /// caseExactIA5Match
    CaseExactIa5,
    /// caseIgnoreListMatch, lines separated by `$`
    CaseIgnoreList,
    /// numericStringMatch
    NumericString,
    /// telephoneNumberMatch
    Telephone,
    /// integerMatch
    Integer,
    /// booleanMatch
    Boolean,
    /// distinguishedNameMatch
    DistinguishedName,
    /// uniqueMemberMatch
    UniqueMember,
    /// generalizedTimeMatch
    GeneralizedTime,
    /// octetStringMatch
    OctetString,
    /// bitStringMatch
    BitString,
    /// UUIDMatch (RFC 4530)
    Uuid,
    /// objectIdentifierMatch
    ObjectIdentifier,
}

/// Which part of a value a string stands for: decides whether its outer spaces count.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Part {
    /// All of it.
    Whole,
    /// Its beginning.
    Initial,
    /// Something inside.
    Any,
    /// Its end.
    Final,
}

/// Why a value is not of its attribute's syntax: what would be right.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct BadValue(pub(super) &'static str);

impl Rule {
    /// Appends the normal form of `value`.
    ///
    /// # Errors
    /// The value is not of this rule's syntax; `out` may then have a partial form at its end.
    pub(super) fn normalize(
        self,
        schema: &Schema,
        value: &[u8],
        part: Part,
        out: &mut Vec<u8>,
    ) -> Result<(), BadValue> {
        match self {
            Rule::CaseIgnore => string(value, true, part, out),
            Rule::CaseExact => string(value, false, part, out),
            Rule::CaseIgnoreIa5 => ascii(value, true, part, out),
            Rule::CaseExactIa5 => ascii(value, false, part, out),
            Rule::CaseIgnoreList => list(value, out),
            Rule::NumericString => numeric(value, out),
            Rule::Telephone => telephone(value, out),
            Rule::Integer => integer(value, out),
            Rule::Boolean => boolean(value, out),
            Rule::DistinguishedName => name(schema, value, out),
            Rule::UniqueMember => unique_member(schema, value, out),
            Rule::GeneralizedTime => generalized_time(value, out),
            Rule::BitString => bit_string(value, out),
            Rule::Uuid => uuid(value, out),
            Rule::ObjectIdentifier => schema.canonical_identifier(value, out),
            Rule::OctetString | Rule::None => {
                out.extend_from_slice(value);
                Ok(())
            }
        }
    }

    /// The order of two normal forms.
    #[must_use]
    pub(super) fn compare(self, a: &[u8], b: &[u8]) -> Ordering {
        match self {
            Rule::Integer => compare_integers(a, b),
            _ => a.cmp(b),
        }
    }

    /// Whether an assertion by this rule makes sense for values of `syntax`'s syntax.
    #[must_use]
    pub(super) fn applies_to(self, syntax: Rule) -> bool {
        use Rule::{CaseExact, CaseExactIa5, CaseIgnore, CaseIgnoreIa5, NumericString, Telephone};
        match self {
            CaseIgnore | CaseExact => matches!(syntax, CaseIgnore | CaseExact | Telephone | NumericString),
            CaseIgnoreIa5 | CaseExactIa5 => matches!(syntax, CaseIgnoreIa5 | CaseExactIa5),
            other => other == syntax,
        }
    }

    /// The rule that a filter names, by name or OID, and what it asks of the values.
    #[must_use]
    pub(super) fn by_name(name: &[u8]) -> Option<(Rule, Test)> {
        const NAME_BYTES_MAX: usize = 48;
        if name.len() > NAME_BYTES_MAX {
            return None;
        }
        let name = name.to_ascii_lowercase();
        Some(match name.as_slice() {
            b"objectidentifiermatch" | b"2.5.13.0" => (Rule::ObjectIdentifier, Test::Equal),
            b"distinguishednamematch" | b"2.5.13.1" => (Rule::DistinguishedName, Test::Equal),
            b"caseignorematch" | b"2.5.13.2" => (Rule::CaseIgnore, Test::Equal),
            b"caseignoreorderingmatch" | b"2.5.13.3" => (Rule::CaseIgnore, Test::Less),
            b"caseexactmatch" | b"2.5.13.5" => (Rule::CaseExact, Test::Equal),
            b"caseexactorderingmatch" | b"2.5.13.6" => (Rule::CaseExact, Test::Less),
            b"numericstringmatch" | b"2.5.13.8" => (Rule::NumericString, Test::Equal),
            b"numericstringorderingmatch" | b"2.5.13.9" => (Rule::NumericString, Test::Less),
            b"caseignorelistmatch" | b"2.5.13.11" => (Rule::CaseIgnoreList, Test::Equal),
            b"booleanmatch" | b"2.5.13.13" => (Rule::Boolean, Test::Equal),
            b"integermatch" | b"2.5.13.14" => (Rule::Integer, Test::Equal),
            b"integerorderingmatch" | b"2.5.13.15" => (Rule::Integer, Test::Less),
            b"bitstringmatch" | b"2.5.13.16" => (Rule::BitString, Test::Equal),
            b"octetstringmatch" | b"2.5.13.17" => (Rule::OctetString, Test::Equal),
            b"octetstringorderingmatch" | b"2.5.13.18" => (Rule::OctetString, Test::Less),
            b"telephonenumbermatch" | b"2.5.13.20" => (Rule::Telephone, Test::Equal),
            b"uniquemembermatch" | b"2.5.13.23" => (Rule::UniqueMember, Test::Equal),
            b"generalizedtimematch" | b"2.5.13.27" => (Rule::GeneralizedTime, Test::Equal),
            b"generalizedtimeorderingmatch" | b"2.5.13.28" => (Rule::GeneralizedTime, Test::Less),
            b"caseexactia5match" | b"1.3.6.1.4.1.1466.109.114.1" => (Rule::CaseExactIa5, Test::Equal),
            b"caseignoreia5match" | b"1.3.6.1.4.1.1466.109.114.2" => (Rule::CaseIgnoreIa5, Test::Equal),
            b"uuidmatch" | b"1.3.6.1.1.16.2" => (Rule::Uuid, Test::Equal),
            b"uuidorderingmatch" | b"1.3.6.1.1.16.3" => (Rule::Uuid, Test::Less),
            b"integerbitandmatch" | b"1.2.840.113556.1.4.803" => (Rule::Integer, Test::AllBits),
            b"integerbitormatch" | b"1.2.840.113556.1.4.804" => (Rule::Integer, Test::SomeBit),
            b"dnonelevelmatch" | b"1.3.6.1.4.1.4203.666.4.8" => (Rule::DistinguishedName, Test::ChildOf),
            b"dnsubtreematch" | b"1.3.6.1.4.1.4203.666.4.9" => (Rule::DistinguishedName, Test::Within),
            b"dnsubordinatematch" | b"1.3.6.1.4.1.4203.666.4.10" => (Rule::DistinguishedName, Test::Below),
            b"dnsuperiormatch" | b"1.3.6.1.4.1.4203.666.4.11" => (Rule::DistinguishedName, Test::Above),
            _ => return None,
        })
    }

    /// The name of this family's equality rule and its syntax, for the subschema.
    #[must_use]
    pub(super) fn published(self) -> (Option<&'static str>, &'static str) {
        match self {
            Rule::None => (None, "1.3.6.1.4.1.1466.115.121.1.40"),
            Rule::CaseIgnore => (Some("caseIgnoreMatch"), "1.3.6.1.4.1.1466.115.121.1.15"),
            Rule::CaseExact => (Some("caseExactMatch"), "1.3.6.1.4.1.1466.115.121.1.15"),
            Rule::CaseIgnoreIa5 => (Some("caseIgnoreIA5Match"), "1.3.6.1.4.1.1466.115.121.1.26"),
            Rule::CaseExactIa5 => (Some("caseExactIA5Match"), "1.3.6.1.4.1.1466.115.121.1.26"),
            Rule::CaseIgnoreList => (Some("caseIgnoreListMatch"), "1.3.6.1.4.1.1466.115.121.1.41"),
            Rule::NumericString => (Some("numericStringMatch"), "1.3.6.1.4.1.1466.115.121.1.36"),
            Rule::Telephone => (Some("telephoneNumberMatch"), "1.3.6.1.4.1.1466.115.121.1.50"),
            Rule::Integer => (Some("integerMatch"), "1.3.6.1.4.1.1466.115.121.1.27"),
            Rule::Boolean => (Some("booleanMatch"), "1.3.6.1.4.1.1466.115.121.1.7"),
            Rule::DistinguishedName => (Some("distinguishedNameMatch"), "1.3.6.1.4.1.1466.115.121.1.12"),
            Rule::UniqueMember => (Some("uniqueMemberMatch"), "1.3.6.1.4.1.1466.115.121.1.34"),
            Rule::GeneralizedTime => (Some("generalizedTimeMatch"), "1.3.6.1.4.1.1466.115.121.1.24"),
            Rule::OctetString => (Some("octetStringMatch"), "1.3.6.1.4.1.1466.115.121.1.40"),
            Rule::BitString => (Some("bitStringMatch"), "1.3.6.1.4.1.1466.115.121.1.6"),
            Rule::Uuid => (Some("UUIDMatch"), "1.3.6.1.1.16.1"),
            Rule::ObjectIdentifier => (Some("objectIdentifierMatch"), "1.3.6.1.4.1.1466.115.121.1.38"),
        }
    }
}

/// What an assertion asks of a value, both in normal form.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Test {
    /// Equal.
    Equal,
    /// The value is less than or equal to the assertion (`<=`).
    LessOrEqual,
    /// The value is greater than or equal to the assertion (`>=`).
    GreaterOrEqual,
    /// The value is less than the assertion: what an ordering rule says in an extensible match.
    Less,
    /// All bits of the assertion are set in the value.
    AllBits,
    /// At least one bit is.
    SomeBit,
    /// The value is directly below the asserted name.
    ChildOf,
    /// The value is the asserted name or below it.
    Within,
    /// The value is below the asserted name.
    Below,
    /// The value is above the asserted name.
    Above,
}

impl Test {
    /// Whether `value` passes.
    #[must_use]
    pub(super) fn passes(self, rule: Rule, value: &[u8], assertion: &[u8]) -> bool {
        match self {
            Test::Equal => value == assertion,
            Test::LessOrEqual => rule.compare(value, assertion).is_le(),
            Test::GreaterOrEqual => rule.compare(value, assertion).is_ge(),
            Test::Less => rule.compare(value, assertion).is_lt(),
            Test::AllBits => bits(value, assertion).is_some_and(|(value, mask)| value & mask == mask),
            Test::SomeBit => bits(value, assertion).is_some_and(|(value, mask)| value & mask != 0),
            Test::ChildOf => dn::normal_parent(value) == Some(assertion),
            Test::Within => dn::is_within(value, assertion),
            Test::Below => value != assertion && dn::is_within(value, assertion),
            Test::Above => value != assertion && dn::is_within(assertion, value),
        }
    }
}

fn bits(value: &[u8], assertion: &[u8]) -> Option<(i64, i64)> {
    let number = |bytes| std::str::from_utf8(bytes).ok()?.parse().ok();
    Some((number(value)?, number(assertion)?))
}

fn string(value: &[u8], fold: bool, part: Part, out: &mut Vec<u8>) -> Result<(), BadValue> {
    if value.is_ascii() {
        spaced(value.iter().map(|b| char::from(*b)), fold, part, out);
        return Ok(());
    }
    let text = std::str::from_utf8(value).map_err(|_| BadValue("text in UTF-8"))?;
    if fold {
        // Lower case first: folding can leave characters that NFKC still has to compose.
        spaced(
            text.chars()
                .flat_map(char::to_lowercase)
                .nfkc()
                .flat_map(char::to_lowercase),
            false,
            part,
            out,
        );
    } else {
        spaced(text.nfkc(), false, part, out);
    }
    Ok(())
}

fn ascii(value: &[u8], fold: bool, part: Part, out: &mut Vec<u8>) -> Result<(), BadValue> {
    if !value.is_ascii() {
        return Err(BadValue("ASCII text"));
    }
    spaced(value.iter().map(|b| char::from(*b)), fold, part, out);
    Ok(())
}

/// Appends the characters with every run of white space as one space, outer spaces as `part` says, what RFC 4518 maps
/// to nothing left out, and ASCII letters in lower case when `fold`.
fn spaced(chars: impl Iterator<Item = char>, fold: bool, part: Part, out: &mut Vec<u8>) {
    let start = out.len();
    let keep_leading = matches!(part, Part::Any | Part::Final);
    let mut space = false;
    for c in chars {
        if c.is_whitespace() {
            space = true;
            continue;
        }
        if c.is_control()
            || matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}' | '\u{fe00}'..='\u{fe0f}')
        {
            continue;
        }
        if std::mem::take(&mut space) && (keep_leading || out.len() > start) {
            out.push(b' ');
        }
        if c.is_ascii() {
            let byte = c as u8;
            out.push(if fold { byte.to_ascii_lowercase() } else { byte });
        } else {
            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        }
    }
    if space && matches!(part, Part::Any | Part::Initial) {
        out.push(b' ');
    }
}

fn list(value: &[u8], out: &mut Vec<u8>) -> Result<(), BadValue> {
    for (at, line) in value.split(|b| *b == b'$').enumerate() {
        if at > 0 {
            out.push(b'$');
        }
        string(line, true, Part::Whole, out)?;
    }
    Ok(())
}

fn numeric(value: &[u8], out: &mut Vec<u8>) -> Result<(), BadValue> {
    if !value.iter().all(|b| b.is_ascii_digit() || *b == b' ') {
        return Err(BadValue("digits and spaces"));
    }
    out.extend(value.iter().filter(|b| **b != b' '));
    Ok(())
}

fn telephone(value: &[u8], out: &mut Vec<u8>) -> Result<(), BadValue> {
    if !value.iter().all(|b| b.is_ascii_graphic() || *b == b' ') {
        return Err(BadValue(
            "a telephone number in printable ASCII, as in `+44 20 7946 0000`",
        ));
    }
    out.extend(
        value
            .iter()
            .filter(|b| !matches!(b, b' ' | b'-'))
            .map(u8::to_ascii_lowercase),
    );
    Ok(())
}

fn integer(value: &[u8], out: &mut Vec<u8>) -> Result<(), BadValue> {
    let digits = value.strip_prefix(b"-").unwrap_or(value);
    let right = match digits {
        [b'0'] => digits.len() == value.len(),
        [b'1'..=b'9', rest @ ..] => rest.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    if !right {
        return Err(BadValue("an integer in decimal digits without leading zeros"));
    }
    out.extend_from_slice(value);
    Ok(())
}

fn compare_integers(a: &[u8], b: &[u8]) -> Ordering {
    match (a.strip_prefix(b"-"), b.strip_prefix(b"-")) {
        (None, None) => a.len().cmp(&b.len()).then_with(|| a.cmp(b)),
        (Some(a), Some(b)) => b.len().cmp(&a.len()).then_with(|| b.cmp(a)),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
    }
}

fn boolean(value: &[u8], out: &mut Vec<u8>) -> Result<(), BadValue> {
    if !matches!(value, b"TRUE" | b"FALSE") {
        return Err(BadValue("`TRUE` or `FALSE`"));
    }
    out.extend_from_slice(value);
    Ok(())
}

fn name(schema: &Schema, value: &[u8], out: &mut Vec<u8>) -> Result<(), BadValue> {
    dn::normalize(value, schema, out)
        .map_err(|_| BadValue("a distinguished name, as in `uid=ada,ou=people,dc=example`"))
}

fn unique_member(schema: &Schema, value: &[u8], out: &mut Vec<u8>) -> Result<(), BadValue> {
    let uid = match value.strip_suffix(b"'B") {
        Some(rest) => rest.windows(2).rposition(|pair| pair == b"#'"),
        None => None,
    };
    let (dn, uid) = value
        .split_at_checked(uid.unwrap_or(value.len()))
        .unwrap_or((value, b""));
    name(schema, dn, out)?;
    out.extend_from_slice(uid);
    Ok(())
}

fn generalized_time(value: &[u8], out: &mut Vec<u8>) -> Result<(), BadValue> {
    let (seconds, nanoseconds) = time::parse(value).ok_or(BadValue("a time, as in `20261231235959Z`"))?;
    // Shifted so that times before 1970 (back to the year 0) sort as text too.
    const YEAR_0: i64 = 62_167_219_200;
    out.extend_from_slice(format!("{:014}", seconds.saturating_add(YEAR_0).max(0)).as_bytes());
    if nanoseconds > 0 {
        out.extend_from_slice(format!(".{nanoseconds:09}").as_bytes());
    }
    Ok(())
}

fn bit_string(value: &[u8], out: &mut Vec<u8>) -> Result<(), BadValue> {
    let bits = value.strip_prefix(b"'").and_then(|rest| rest.strip_suffix(b"'B"));
    match bits {
        Some(bits) if bits.iter().all(|b| matches!(b, b'0' | b'1')) => {
            out.extend_from_slice(bits);
            Ok(())
        }
        _ => Err(BadValue("bits, as in `'0101'B`")),
    }
}

fn uuid(value: &[u8], out: &mut Vec<u8>) -> Result<(), BadValue> {
    let right = value.len() == 36
        && value.iter().enumerate().all(|(at, b)| match at {
            8 | 13 | 18 | 23 => *b == b'-',
            _ => b.is_ascii_hexdigit(),
        });
    if !right {
        return Err(BadValue("a UUID, as in `597ae2f6-16a6-1027-98f4-d28b5365dc14`"));
    }
    out.extend(value.iter().map(u8::to_ascii_lowercase));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(rule: Rule, value: &str) -> String {
        let mut out = Vec::new();
        rule.normalize(&Schema::new(), value.as_bytes(), Part::Whole, &mut out)
            .unwrap();
        String::from_utf8(out).unwrap()
    }

    fn wrong(rule: Rule, value: &str) -> bool {
        rule.normalize(&Schema::new(), value.as_bytes(), Part::Whole, &mut Vec::new())
            .is_err()
    }

    #[test]
    fn strings_that_match_have_one_form() {
        assert_eq!(form(Rule::CaseIgnore, "  Ada \t LOVELACE "), "ada lovelace");
        assert_eq!(form(Rule::CaseIgnore, "GRA\u{308}FIN"), "gräfin");
        assert_eq!(form(Rule::CaseIgnore, "ﬁnance\u{a0}Ⅷ\u{ad}"), "finance viii");
        assert_eq!(form(Rule::CaseExact, "Ada  L"), "Ada L");
        assert_eq!(form(Rule::Telephone, "+44 20-7946 0000"), "+442079460000");
        assert_eq!(form(Rule::NumericString, "12 34"), "1234");
        assert_eq!(form(Rule::CaseIgnoreList, "1 High St $ Town"), "1 high st$town");
        assert!(wrong(Rule::CaseIgnoreIa5, "é"));
        assert!(wrong(Rule::NumericString, "12a"));
    }

    #[test]
    fn the_ends_of_a_substring_keep_the_spaces_that_count() {
        let part = |text: &str, part| {
            let mut out = Vec::new();
            Rule::CaseIgnore
                .normalize(&Schema::new(), text.as_bytes(), part, &mut out)
                .unwrap();
            String::from_utf8(out).unwrap()
        };
        assert_eq!(part("  A  B ", Part::Initial), "a b ");
        assert_eq!(part("  A  B ", Part::Any), " a b ");
        assert_eq!(part("  A  B ", Part::Final), " a b");
    }

    #[test]
    fn integers_compare_as_numbers() {
        let ordered = ["-100", "-99", "-1", "0", "2", "10", "18446744073709551616"];
        assert!(
            ordered
                .windows(2)
                .all(|w| Rule::Integer.compare(w[0].as_bytes(), w[1].as_bytes()).is_lt())
        );
        assert!(wrong(Rule::Integer, "") && wrong(Rule::Integer, "-") && wrong(Rule::Integer, "1.0"));
        assert!(wrong(Rule::Integer, "007") && wrong(Rule::Integer, "-0") && wrong(Rule::Integer, "+1"));
    }

    #[test]
    fn times_compare_as_moments() {
        assert_eq!(
            form(Rule::GeneralizedTime, "20260101020000+0200"),
            form(Rule::GeneralizedTime, "20260101000000Z")
        );
        let ordered = [
            "00000101000000Z",
            "19691231235959Z",
            "20260101000000Z",
            "20260101000000.5Z",
            "20260101000001Z",
        ];
        let forms: Vec<_> = ordered.map(|t| form(Rule::GeneralizedTime, t)).into();
        assert!(forms.windows(2).all(|w| w[0] < w[1]), "{forms:?}");
    }

    #[test]
    fn names_compare_by_their_attributes_rules() {
        assert_eq!(
            form(Rule::DistinguishedName, "CommonName=A  B , 2.5.4.10=X"),
            "cn=a b,o=x"
        );
        assert_eq!(form(Rule::DistinguishedName, "uidNumber=7,DC=X"), "uidnumber=7,dc=x");
        assert_eq!(form(Rule::UniqueMember, "CN=a#'01'B"), "cn=a#'01'B");
        assert!(wrong(Rule::DistinguishedName, "rubbish"));
    }

    #[test]
    fn extensible_tests() {
        assert!(Test::AllBits.passes(Rule::Integer, b"7", b"6") && !Test::AllBits.passes(Rule::Integer, b"5", b"6"));
        assert!(Test::SomeBit.passes(Rule::Integer, b"5", b"6") && !Test::SomeBit.passes(Rule::Integer, b"8", b"6"));
        assert!(Test::Below.passes(Rule::DistinguishedName, b"a=1,b=2", b"b=2"));
        assert!(!Test::Below.passes(Rule::DistinguishedName, b"b=2", b"b=2"));
        assert!(Test::Above.passes(Rule::DistinguishedName, b"b=2", b"a=1,b=2"));
        assert!(Test::ChildOf.passes(Rule::DistinguishedName, b"a=1,b=2", b"b=2"));
    }
}
