//! What an entry of a list, or a rule, asks of a request's attributes.

use regex::bytes::{Regex, RegexBuilder};
use wire::radius::dictionary::{Definition, Path};
use wire::radius::{Dictionary, Packet, Pair, Value, text};

/// Memory of one compiled pattern, at most.
const PATTERN_BYTES_MAX: usize = 1 << 20;

/// How an attribute is looked at. All but [`Test::Absent`] fail where the attribute is not there, and hold where one of
/// several does what is asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Test {
    /// `==`
    Equal,
    /// `!=`
    Differs,
    /// `<`
    Less,
    /// `<=`
    AtMost,
    /// `>`
    Greater,
    /// `>=`
    AtLeast,
    /// `=~`: a regular expression is found in its text.
    Matches,
    /// `!~`
    MatchesNot,
    /// `=*`: it is there.
    Present,
    /// `!*`: it is not.
    Absent,
}

impl Test {
    /// As FreeRADIUS writes them; none: it is no comparison.
    #[must_use]
    pub fn read(sign: &str) -> Option<Test> {
        Some(match sign {
            "==" => Test::Equal,
            "!=" => Test::Differs,
            "<" => Test::Less,
            "<=" => Test::AtMost,
            ">" => Test::Greater,
            ">=" => Test::AtLeast,
            "=~" => Test::Matches,
            "!~" => Test::MatchesNot,
            "=*" => Test::Present,
            "!*" => Test::Absent,
            _ => return None,
        })
    }

    fn needs_number(self) -> bool {
        matches!(self, Test::Less | Test::AtMost | Test::Greater | Test::AtLeast)
    }
}

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Condition {
    path: Path,
    test: Test,
    wanted: Wanted,
}

#[derive(Clone, Debug)]
enum Wanted {
    Nothing,
    Octets(Vec<u8>),
    Pattern(Regex),
}

impl PartialEq for Wanted {
    /// Patterns are the same where they are written the same.
    fn eq(&self, other: &Wanted) -> bool {
        match (self, other) {
            (Wanted::Nothing, Wanted::Nothing) => true,
            (Wanted::Octets(one), Wanted::Octets(other)) => one == other,
            (Wanted::Pattern(one), Wanted::Pattern(other)) => one.as_str() == other.as_str(),
            _ => false,
        }
    }
}

impl Eq for Wanted {}

impl Condition {
    /// An attribute is compared with a value, as octets behind tag and hiding; [`Condition::matches`] makes those with a pattern.
    ///
    /// # Errors
    /// What would be right.
    pub fn compare(definition: &Definition, test: Test, value: &[u8]) -> Result<Condition, String> {
        let number = definition.decode(value).and_then(|value| value.number());
        if test.needs_number() && number.is_none() {
            return Err(format!("== or !=: the values of {} have no order", definition.name));
        }
        Ok(Condition {
            path: definition.path,
            test,
            wanted: Wanted::Octets(value.to_vec()),
        })
    }

    /// An attribute is there, or is not.
    #[must_use]
    pub fn presence(definition: &Definition, is_there: bool) -> Condition {
        Condition {
            path: definition.path,
            test: if is_there { Test::Present } else { Test::Absent },
            wanted: Wanted::Nothing,
        }
    }

    /// Never holds: an attribute of FreeRADIUS's own that nothing sets here.
    #[must_use]
    pub fn never(definition: &Definition) -> Condition {
        Condition {
            path: definition.path,
            test: Test::Equal,
            wanted: Wanted::Nothing,
        }
    }

    /// A pattern is found in an attribute's text, or is not.
    ///
    /// # Errors
    /// What is wrong with the pattern.
    pub fn matches(definition: &Definition, is_found: bool, pattern: &str) -> Result<Condition, String> {
        let built = RegexBuilder::new(pattern)
            .size_limit(PATTERN_BYTES_MAX)
            .dfa_size_limit(PATTERN_BYTES_MAX)
            .build();
        let pattern = built.map_err(|why| why.to_string().lines().last().unwrap_or_default().to_owned())?;
        Ok(Condition {
            path: definition.path,
            test: if is_found { Test::Matches } else { Test::MatchesNot },
            wanted: Wanted::Pattern(pattern),
        })
    }

    /// Whether it holds for this request.
    #[must_use]
    pub fn holds(&self, packet: &Packet<'_>, dictionary: &Dictionary) -> bool {
        let Some(definition) = dictionary.at(self.path.numbers()) else {
            return false;
        };
        let mut values = packet.values(dictionary, definition, None);
        match self.test {
            Test::Present => values.next().is_some(),
            Test::Absent => values.next().is_none(),
            _ => values.any(|pair| self.one_does(definition, &pair)),
        }
    }

    fn one_does(&self, definition: &Definition, pair: &Pair<'_, '_>) -> bool {
        match &self.wanted {
            Wanted::Nothing => false,
            Wanted::Pattern(pattern) => (self.test == Test::Matches) == is_found(pattern, pair),
            Wanted::Octets(wanted) => match self.test {
                Test::Equal => *pair.octets == **wanted,
                Test::Differs => *pair.octets != **wanted,
                test => {
                    let wanted = definition.decode(wanted).and_then(|value| value.number());
                    let (Some(found), Some(wanted)) = (pair.value().number(), wanted) else {
                        return false;
                    };
                    match test {
                        Test::Less => found < wanted,
                        Test::AtMost => found <= wanted,
                        Test::Greater => found > wanted,
                        Test::AtLeast => found >= wanted,
                        _ => false,
                    }
                }
            },
        }
    }
}

/// A text is looked at as it is; anything else as it is printed.
fn is_found(pattern: &Regex, pair: &Pair<'_, '_>) -> bool {
    if let Value::Text(text) = pair.value() {
        return pattern.is_match(text);
    }
    let mut shown = String::new();
    text::print_value(&mut shown, pair).is_ok() && pattern.is_match(shown.as_bytes())
}
