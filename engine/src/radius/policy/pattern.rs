//! Patterns as a shell has them: `*` is any text, `?` any one letter, `\` takes the meaning from what follows. Upper and lower case are
//! the same, because directories take them for the same: a rule that keeps `mallory` out keeps `Mallory` out as well.

use std::fmt;

/// Letters of a pattern, at most: no value of an attribute is longer.
const LETTERS_MAX: usize = 253;
/// Octets that are no UTF-8 are letters above all others.
const ODD: u32 = 0x11_0000;

/// See the module.
#[derive(Clone, Debug)]
pub struct Pattern {
    written: Box<str>,
    symbols: Vec<Symbol>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Symbol {
    Any,
    One,
    Letter(u32),
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// What would be right.
    pub fn read(text: &str) -> Result<Pattern, String> {
        let mut symbols = Vec::new();
        let mut letters = text.chars();
        while let Some(letter) = letters.next() {
            let symbol = match letter {
                '*' if symbols.last() == Some(&Symbol::Any) => continue,
                '*' => Symbol::Any,
                '?' => Symbol::One,
                '\\' => Symbol::Letter(fold(
                    letters
                        .next()
                        .ok_or("a letter behind `\\`; `\\\\` is the sign itself")?,
                )),
                letter => Symbol::Letter(fold(letter)),
            };
            symbols.push(symbol);
        }
        if symbols.is_empty() || symbols.len() > LETTERS_MAX {
            return Err(format!(
                "a text of 1 to {LETTERS_MAX} letters, with * and ? in it where they are of use"
            ));
        }
        Ok(Pattern {
            written: text.into(),
            symbols,
        })
    }

    /// Whether a text is meant.
    #[must_use]
    pub fn matches(&self, text: &[u8]) -> bool {
        let (mut at, mut rest) = (0, text);
        // Where to go on if the last `*` must take one letter more.
        let mut retry = None;
        loop {
            let same = match (self.symbols.get(at), letter(rest)) {
                (None, None) => return true,
                (Some(Symbol::Any), _) => {
                    retry = Some((at + 1, rest));
                    Some(rest)
                }
                (Some(Symbol::One), Some((_, behind))) => Some(behind),
                (Some(Symbol::Letter(wanted)), Some((found, behind))) if *wanted == found => Some(behind),
                _ => None,
            };
            (at, rest) = match (same, retry) {
                (Some(behind), _) => (at + 1, behind),
                (None, Some((star, from))) => {
                    let Some((_, behind)) = letter(from) else { return false };
                    retry = Some((star, behind));
                    (star, behind)
                }
                (None, None) => return false,
            };
        }
    }

    /// Whether everything that the other means is meant by this one as well. False where that cannot be told.
    #[must_use]
    pub fn covers(&self, other: &Pattern) -> bool {
        if self.symbols == other.symbols || self.symbols == [Symbol::Any] {
            return true;
        }
        let letter = |symbol: &Symbol| match symbol {
            Symbol::Letter(letter) => char::from_u32(*letter),
            _ => None,
        };
        let literal = other.symbols.iter().map(letter).collect::<Option<String>>();
        literal.is_some_and(|literal| self.matches(literal.as_bytes()))
    }
}

impl fmt::Display for Pattern {
    /// As it was written.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written)
    }
}

/// The first letter, and what stands behind it.
fn letter(text: &[u8]) -> Option<(u32, &[u8])> {
    let (first, behind) = text.split_first()?;
    let octets = match *first {
        octet if octet.is_ascii() => return Some((octet.to_ascii_lowercase().into(), behind)),
        0xc2..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf4 => 4,
        _ => 1,
    };
    let whole = text.split_at_checked(octets).and_then(|(letter, behind)| {
        let letter = std::str::from_utf8(letter).ok()?.chars().next()?;
        Some((fold(letter), behind))
    });
    whole.or(Some((ODD + u32::from(*first), behind)))
}

fn fold(letter: char) -> u32 {
    let mut lower = letter.to_lowercase();
    match (lower.next(), lower.next()) {
        (Some(lower), None) => lower.into(),
        // Few letters become two; those are only themselves.
        _ => letter.into(),
    }
}
