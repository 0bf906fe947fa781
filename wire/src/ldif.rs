//! LDIF (RFC 2849): a file of entries or of changes, read record by record.
//!
//! [`Reader`] borrows: a value that is neither folded nor base64 is a slice of the file. It is strict where a slip would
//! otherwise become data (a line that belongs nowhere, text that is not UTF-8), and lenient where files in use are: CRLF,
//! values with trailing spaces, a last modification without its `-`.
//!
//! Not read, and refused with a message: values from `file:` URLs (`attribute:< file:///…`), because whoever writes a
//! data file must not make the reader open others; and `control:` lines.
//!
//! Invariant: after an error the reader ends; an error names the line where the person has to look, and never shows what
//! stands behind `userPassword`.

use std::borrow::Cow;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Why a file is not LDIF.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LdifError {
    /// The line, from 1; for a folded line the first.
    pub line: usize,
    /// What stands there.
    pub found: String,
    /// What would be right.
    pub expected: String,
}

impl fmt::Display for LdifError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "line {}: found {}; expected {}",
            self.line, self.found, self.expected
        )
    }
}

impl std::error::Error for LdifError {}

/// One record of the file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record<'a> {
    /// The line of its `dn:`, from 1.
    pub line: usize,
    /// The name, unescaped from LDIF only (it is still an RFC 4514 string, not checked here).
    pub dn: Cow<'a, [u8]>,
    /// What it says about that name.
    pub content: Content<'a>,
}

/// What a record says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Content<'a> {
    /// An entry as it is: the attribute lines in their order.
    Entry(Vec<Field<'a>>),
    /// `changetype: add`
    Add(Vec<Field<'a>>),
    /// `changetype: delete`
    Delete,
    /// `changetype: modify`
    Modify(Vec<Modification<'a>>),
    /// `changetype: modrdn` or `moddn`
    ModifyDn {
        /// `newrdn:`
        new_rdn: Cow<'a, [u8]>,
        /// `deleteoldrdn:`
        delete_old_rdn: bool,
        /// `newsuperior:`
        new_superior: Option<Cow<'a, [u8]>>,
    },
}

/// One `attribute: value` line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Field<'a> {
    /// Its line, from 1.
    pub line: usize,
    /// The attribute description, well formed: a name or OID and options.
    pub attribute: Cow<'a, str>,
    /// The value, decoded.
    pub value: Cow<'a, [u8]>,
}

/// One group of a `changetype: modify` record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Modification<'a> {
    /// The line of `add:`, `delete:`, `replace:` or `increment:`, from 1.
    pub line: usize,
    /// What to do.
    pub operation: Operation,
    /// The attribute description that it is done to.
    pub attribute: Cow<'a, str>,
    /// With these values.
    pub values: Vec<Cow<'a, [u8]>>,
}

/// What a modification does (RFC 4511 section 4.6, and RFC 4525).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operation {
    /// Adds values.
    Add,
    /// Deletes these values, or all when none is given.
    Delete,
    /// Replaces all values by these.
    Replace,
    /// Adds the one value to the integer that is there.
    Increment,
}

/// Reads the records of a file.
#[derive(Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
    /// The number of the line at which `rest` begins, from 1.
    line: usize,
    started: bool,
    /// Whether what came before was a password, so that a stray line must not be shown.
    secret: bool,
}

impl<'a> Reader<'a> {
    /// A reader of the whole text of a file.
    #[must_use]
    pub fn new(text: &'a [u8]) -> Self {
        let rest = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
        Self {
            rest,
            line: 1,
            started: false,
            secret: false,
        }
    }
}

impl<'a> Iterator for Reader<'a> {
    type Item = Result<Record<'a>, LdifError>;

    fn next(&mut self) -> Option<Self::Item> {
        let record = self.record().transpose()?;
        if record.is_err() {
            self.rest = b"";
        }
        Some(record)
    }
}

/// A line after unfolding.
struct Line<'a> {
    number: usize,
    text: Cow<'a, [u8]>,
}

impl<'a> Reader<'a> {
    fn record(&mut self) -> Result<Option<Record<'a>>, LdifError> {
        let first = loop {
            match self.field()? {
                Some(field) if !self.started && field.attribute.eq_ignore_ascii_case("version") => {
                    self.started = true;
                    check_version(&field)?;
                }
                Some(field) => break field,
                None if self.rest.is_empty() => return Ok(None),
                None => {}
            }
        };
        self.started = true;
        if !first.attribute.eq_ignore_ascii_case("dn") {
            return Err(error(
                first.line,
                format!("`{}:`", first.attribute),
                "`dn:`, which every record begins with",
            ));
        }
        if std::str::from_utf8(&first.value).is_err() {
            return Err(error(first.line, "a name that is not UTF-8", "UTF-8, in base64 or not"));
        }
        let content = self.content()?;
        Ok(Some(Record {
            line: first.line,
            dn: first.value,
            content,
        }))
    }

    fn content(&mut self) -> Result<Content<'a>, LdifError> {
        let Some(first) = self.field()? else {
            return Ok(Content::Entry(Vec::new()));
        };
        if first.attribute.eq_ignore_ascii_case("control") {
            return Err(error(
                first.line,
                "`control:`",
                "a record without controls, which are not supported",
            ));
        }
        if !first.attribute.eq_ignore_ascii_case("changetype") {
            let mut fields = vec![first];
            self.fields(&mut fields)?;
            return Ok(Content::Entry(fields));
        }
        match first.value.to_ascii_lowercase().as_slice() {
            b"add" => {
                let mut fields = Vec::new();
                self.fields(&mut fields)?;
                Ok(Content::Add(fields))
            }
            b"delete" => match self.field()? {
                None => Ok(Content::Delete),
                Some(field) => Err(error(
                    field.line,
                    format!("`{}:`", field.attribute),
                    "an empty line: nothing follows `changetype: delete`",
                )),
            },
            b"modify" => self.modifications().map(Content::Modify),
            b"modrdn" | b"moddn" => self.new_name(first.line),
            other => Err(error(
                first.line,
                format!("`changetype: {}`", excerpt(other)),
                "`add`, `delete`, `modify`, `modrdn` or `moddn`",
            )),
        }
    }

    fn fields(&mut self, out: &mut Vec<Field<'a>>) -> Result<(), LdifError> {
        while let Some(field) = self.field()? {
            if field.attribute.eq_ignore_ascii_case("dn") {
                return Err(error(
                    field.line,
                    "`dn:` inside a record",
                    "an empty line between two records",
                ));
            }
            out.push(field);
        }
        Ok(())
    }

    fn modifications(&mut self) -> Result<Vec<Modification<'a>>, LdifError> {
        let mut out = Vec::new();
        let mut more = true;
        while more {
            let Some(head) = self.field()? else { break };
            let operation = match head.attribute.to_ascii_lowercase().as_str() {
                "add" => Operation::Add,
                "delete" => Operation::Delete,
                "replace" => Operation::Replace,
                "increment" => Operation::Increment,
                _ => {
                    let found = format!("`{}:`", head.attribute);
                    return Err(error(head.line, found, "`add:`, `delete:`, `replace:` or `increment:`"));
                }
            };
            let attribute = into_text(head.value)
                .filter(|name| is_description(name))
                .ok_or_else(|| error(head.line, "no attribute description", "`add: attribute`"))?;
            let mut values = Vec::new();
            more = loop {
                let Some(line) = self.line()? else { break false };
                if *line.text == *b"-" {
                    break true;
                }
                let field = self.field_of(line)?;
                if !field.attribute.eq_ignore_ascii_case(&attribute) {
                    let found = format!("`{}:`", field.attribute);
                    return Err(error(
                        field.line,
                        found,
                        format!("`{attribute}: value`, or `-` to end the group"),
                    ));
                }
                values.push(field.value);
            };
            out.push(Modification {
                line: head.line,
                operation,
                attribute,
                values,
            });
        }
        Ok(out)
    }

    fn new_name(&mut self, line: usize) -> Result<Content<'a>, LdifError> {
        let mut next = |name: &str| match self.field()? {
            Some(field) if field.attribute.eq_ignore_ascii_case(name) => Ok(Some(field)),
            Some(field) => Err(error(
                field.line,
                format!("`{}:`", field.attribute),
                format!("`{name}:`"),
            )),
            None => Ok(None),
        };
        let new_rdn = next("newrdn")?.ok_or_else(|| error(line, "no `newrdn:`", "`newrdn:` behind the changetype"))?;
        let flag = next("deleteoldrdn")?
            .ok_or_else(|| error(line, "no `deleteoldrdn:`", "`deleteoldrdn: 0` or `deleteoldrdn: 1`"))?;
        let delete_old_rdn = match &*flag.value {
            b"0" => false,
            b"1" => true,
            other => return Err(error(flag.line, format!("`{}`", excerpt(other)), "`0` or `1`")),
        };
        let new_superior = next("newsuperior")?.map(|field| field.value);
        if new_superior.is_some() && next("")?.is_some() {
            return Err(error(line, "more lines", "nothing behind `newsuperior:`"));
        }
        Ok(Content::ModifyDn {
            new_rdn: new_rdn.value,
            delete_old_rdn,
            new_superior,
        })
    }

    /// The next `attribute: value` of this record; `None` at its end, which is taken.
    fn field(&mut self) -> Result<Option<Field<'a>>, LdifError> {
        match self.line()? {
            Some(line) => self.field_of(line).map(Some),
            None => Ok(None),
        }
    }

    fn field_of(&mut self, line: Line<'a>) -> Result<Field<'a>, LdifError> {
        let number = line.number;
        let Some(colon) = line.text.iter().position(|b| *b == b':') else {
            let found = if self.secret {
                "a line without `:`".to_owned()
            } else {
                format!("`{}`", excerpt(&line.text))
            };
            return Err(error(
                number,
                found,
                "`attribute: value` (a value that goes on begins its next line with one space)",
            ));
        };
        let (name, value) = split(line.text, colon);
        let Some(attribute) = into_text(name).filter(|name| is_description(name)) else {
            return Err(error(
                number,
                "something that is no attribute name before `:`",
                "a name or OID, as in `cn: Ada`",
            ));
        };
        self.secret = is_secret(&attribute);
        let value = match value.first() {
            Some(b':') => Cow::Owned(decode(number, &attribute, &value)?),
            Some(b'<') => {
                return Err(error(
                    number,
                    format!("`{attribute}:<`"),
                    "the value itself: URLs are not followed",
                ));
            }
            _ => {
                let spaces = value.iter().take_while(|b| **b == b' ').count();
                let (_, value) = split_at(value, spaces);
                check_text(number, &attribute, &value)?;
                value
            }
        };
        Ok(Field {
            line: number,
            attribute,
            value,
        })
    }

    /// The next line, unfolded, without comments; `None` at an empty line (taken) or the end of the file.
    fn line(&mut self) -> Result<Option<Line<'a>>, LdifError> {
        loop {
            let number = self.line;
            let Some(first) = self.physical_line() else {
                return Ok(None);
            };
            if first.is_empty() {
                return Ok(None);
            }
            if first.first() == Some(&b' ') {
                return Err(error(
                    number,
                    "a continuation of nothing",
                    "`attribute: value`, or an empty line",
                ));
            }
            let mut text = Cow::Borrowed(first);
            while self.rest.first() == Some(&b' ') {
                let more = self.physical_line().unwrap_or_default();
                text.to_mut().extend_from_slice(more.get(1..).unwrap_or_default());
            }
            if text.first() != Some(&b'#') {
                return Ok(Some(Line { number, text }));
            }
        }
    }

    fn physical_line(&mut self) -> Option<&'a [u8]> {
        if self.rest.is_empty() {
            return None;
        }
        let end = self.rest.iter().position(|b| *b == b'\n').unwrap_or(self.rest.len());
        let (line, rest) = self.rest.split_at_checked(end)?;
        self.rest = rest.get(1..).unwrap_or_default();
        self.line += 1;
        Some(line.strip_suffix(b"\r").unwrap_or(line))
    }
}

fn check_version(field: &Field<'_>) -> Result<(), LdifError> {
    if *field.value == *b"1" {
        return Ok(());
    }
    Err(error(
        field.line,
        format!("`version: {}`", excerpt(&field.value)),
        "`version: 1`",
    ))
}

fn decode(line: usize, attribute: &str, value: &[u8]) -> Result<Vec<u8>, LdifError> {
    let text = value.get(1..).unwrap_or_default().trim_ascii();
    STANDARD.decode(text).map_err(|e| {
        error(
            line,
            format!("`{attribute}::` with bad base64 ({e})"),
            "base64 (RFC 4648), padded with `=`",
        )
    })
}

fn check_text(line: usize, attribute: &str, value: &[u8]) -> Result<(), LdifError> {
    let problem = match std::str::from_utf8(value) {
        Err(e) => {
            let byte = value.get(e.valid_up_to()).copied().unwrap_or_default();
            format!("`{attribute}:` with a byte that is not UTF-8 (0x{byte:02x})")
        }
        Ok(text) if text.contains(['\0', '\r']) => format!("`{attribute}:` with a control character"),
        Ok(_) => return Ok(()),
    };
    Err(error(
        line,
        problem,
        format!("UTF-8 text, or `{attribute}::` and base64"),
    ))
}

fn split<'a>(text: Cow<'a, [u8]>, colon: usize) -> (Cow<'a, [u8]>, Cow<'a, [u8]>) {
    let (name, rest) = split_at(text, colon);
    let (_, value) = split_at(rest, 1);
    (name, value)
}

fn split_at(text: Cow<'_, [u8]>, at: usize) -> (Cow<'_, [u8]>, Cow<'_, [u8]>) {
    let at = at.min(text.len());
    match text {
        Cow::Borrowed(text) => {
            let (head, tail) = text.split_at_checked(at).unwrap_or((text, b""));
            (Cow::Borrowed(head), Cow::Borrowed(tail))
        }
        Cow::Owned(mut head) => {
            let tail = head.split_off(at);
            (Cow::Owned(head), Cow::Owned(tail))
        }
    }
}

fn into_text(bytes: Cow<'_, [u8]>) -> Option<Cow<'_, str>> {
    match bytes {
        Cow::Borrowed(bytes) => std::str::from_utf8(bytes).ok().map(Cow::Borrowed),
        Cow::Owned(bytes) => String::from_utf8(bytes).ok().map(Cow::Owned),
    }
}

/// RFC 4512 section 2.5: a keystring or OID, and options.
fn is_description(text: &str) -> bool {
    let mut parts = text.split(';');
    let name = parts.next().unwrap_or_default();
    let name_is_right = match name.as_bytes().first() {
        Some(b'0'..=b'9') => name
            .split('.')
            .all(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit())),
        Some(first) => first.is_ascii_alphabetic() && is_key(name),
        None => false,
    };
    name_is_right && parts.all(|option| !option.is_empty() && is_key(option))
}

// An underscore is in no RFC, but in attribute names that are in use.
fn is_key(text: &str) -> bool {
    text.bytes()
        .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

fn is_secret(attribute: &str) -> bool {
    let name = attribute.split(';').next().unwrap_or_default();
    name.eq_ignore_ascii_case("userPassword") || name == "2.5.4.35"
}

fn excerpt(bytes: &[u8]) -> String {
    const CHARS_MAX: usize = 40;
    let text = String::from_utf8_lossy(bytes);
    let mut out: String = text.chars().take(CHARS_MAX).flat_map(char::escape_debug).collect();
    if text.chars().nth(CHARS_MAX).is_some() {
        out.push('…');
    }
    out
}

fn error(line: usize, found: impl Into<String>, expected: impl Into<String>) -> LdifError {
    LdifError {
        line,
        found: found.into(),
        expected: expected.into(),
    }
}

#[cfg(test)]
#[path = "ldif_tests.rs"]
mod tests;
