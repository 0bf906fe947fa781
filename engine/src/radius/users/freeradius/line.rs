//! One line of a `users` file, taken apart without looking at what its words mean.

use zeroize::Zeroizing;

/// `Name sign value`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Piece<'t> {
    /// With its tag.
    pub name: &'t str,
    pub sign: &'t str,
    /// As it stands, quotes included.
    pub value: &'t str,
}

impl Piece<'_> {
    /// As it stands, without the blanks between.
    pub(super) fn written(&self) -> Zeroizing<String> {
        let text = format!("{} {} {}", self.name, self.sign, self.value);
        Zeroizing::new(text.trim_end().to_owned())
    }
}

/// What was found, and what would be right.
pub(super) type Wrong = (String, String);

/// The longest first.
const SIGNS: [&str; 13] = [
    ":=", "==", "!=", ">=", "<=", "=~", "!~", "=*", "!*", "+=", "=", ">", "<",
];

/// The name at the beginning of a line, and what is behind it.
pub(super) fn name(line: &str) -> Result<(Zeroizing<Vec<u8>>, &str), Wrong> {
    let is_quoted = line.starts_with(['"', '\'']);
    let end = if is_quoted {
        quoted(line).ok_or_else(|| no_end("the name"))?
    } else {
        line.find([' ', '\t', ',', '#']).unwrap_or(line.len())
    };
    let (word, rest) = line.split_at_checked(end).unwrap_or((line, ""));
    if rest.starts_with(',') {
        let right = "a blank between the name and the checks; a comma only between checks";
        return Err(("a comma behind the name".to_owned(), right.to_owned()));
    }
    let inside = if is_quoted {
        word.get(1..word.len() - 1).unwrap_or_default()
    } else {
        word
    };
    let mut name = Zeroizing::new(Vec::with_capacity(inside.len()));
    let mut octets = inside.bytes();
    while let Some(octet) = octets.next() {
        let escaped = if is_quoted && octet == b'\\' {
            octets.next()
        } else {
            None
        };
        name.push(escaped.unwrap_or(octet));
    }
    Ok((name, rest))
}

/// The pieces of a line, and whether a comma ends it.
pub(super) fn split(line: &str) -> Result<(Vec<Piece<'_>>, bool), Wrong> {
    let mut pieces = Vec::new();
    let mut rest = line.trim_start();
    let mut comma = false;
    while !rest.is_empty() && !rest.starts_with('#') {
        let (piece, behind) = piece(rest)?;
        let behind = behind.trim_start();
        let next = behind.strip_prefix(',');
        if next.is_none() && !behind.is_empty() && !behind.starts_with('#') {
            let found = format!("something behind the value of {}", piece.name);
            let right = "a comma before the next attribute, and quotes around a value with blanks";
            return Err((found, right.to_owned()));
        }
        pieces.push(piece);
        comma = next.is_some();
        rest = next.unwrap_or("").trim_start();
    }
    Ok((pieces, comma))
}

fn piece(text: &str) -> Result<(Piece<'_>, &str), Wrong> {
    let octets = text.as_bytes();
    let is_name = |at: usize| {
        let next_is_digit = octets.get(at + 1).is_some_and(u8::is_ascii_digit);
        octets.get(at).is_some_and(|octet| {
            octet.is_ascii_alphanumeric()
                || matches!(octet, b'-' | b'_' | b'/' | b'.')
                || (*octet == b':' && next_is_digit)
        })
    };
    let end = (0..octets.len()).find(|at| !is_name(*at)).unwrap_or(octets.len());
    let (name, rest) = text.split_at_checked(end).unwrap_or((text, ""));
    let rest = rest.trim_start();
    if name.is_empty() {
        let right = "the name of an attribute, a sign like :=, and a value";
        return Err(("no name of an attribute".to_owned(), right.to_owned()));
    }
    let Some(sign) = SIGNS.into_iter().find(|sign| rest.starts_with(sign)) else {
        let right = format!("{name} := value, or another sign");
        return Err((format!("no sign behind {name}"), right));
    };
    let rest = rest.get(sign.len()..).unwrap_or_default().trim_start();
    if rest.starts_with('`') {
        let right = "a value in quotes: no program is run for it";
        return Err((format!("a value of {name} in backquotes"), right.to_owned()));
    }
    let end = if rest.starts_with(['"', '\'']) {
        quoted(rest).ok_or_else(|| no_end(name))?
    } else {
        rest.find([',', ' ', '\t']).unwrap_or(rest.len())
    };
    let (value, rest) = rest.split_at_checked(end).unwrap_or((rest, ""));
    if value.is_empty() && !sign.ends_with('*') {
        return Err((format!("{name} without a value"), format!("{name} {sign} value")));
    }
    Ok((Piece { name, sign, value }, rest))
}

/// How long a text in quotes is; none: it does not end.
fn quoted(text: &str) -> Option<usize> {
    let quote = text.bytes().next()?;
    let mut escaped = false;
    let end = text.bytes().skip(1).position(|octet| {
        let ends = octet == quote && !escaped;
        escaped = octet == b'\\' && !escaped && quote == b'"';
        ends
    })?;
    Some(end + 2)
}

fn no_end(name: &str) -> Wrong {
    (
        format!("a quote that does not end, at {name}"),
        "the same quote behind the text".to_owned(),
    )
}
