//! A users file → users.toml.
//!
//! Who cannot be translated is kept out: better somebody who must be looked at again than somebody who gets in.

use std::collections::HashSet;
use std::fmt::Write as _;

use engine::radius::users::freeradius::{self, Listed, assignment, comparison};
use engine::radius::users::{Fixed, Put};
use wire::radius::dictionary::Fault;
use wire::radius::{Content, Dictionary};
use zeroize::Zeroizing;

use super::Translated;
use super::text::{comment, head, key, quoted};
use crate::config::radius::sources;
use crate::config::radius::users::text_pair;

/// Translates a file and all that it includes.
pub fn translate(file: &str, dictionary: &Dictionary) -> Translated {
    let freeradius::Listing {
        entries,
        mut faults,
        notices,
    } = freeradius::list(file, dictionary, &mut sources::include_exact);
    let mut body = Zeroizing::new(String::new());
    let mut seen: HashSet<&str> = HashSet::new();
    for listed in &entries {
        let mut fault = |found: String, right: &str| {
            faults.push(Fault {
                file: listed.file.clone(),
                line: listed.line,
                found,
                right: right.to_owned(),
            });
        };
        let name = match listed.name.as_ref().map(|name| std::str::from_utf8(name)) {
            Some(Err(_)) => {
                fault("a user whose name is no UTF-8".to_owned(), "a name in UTF-8");
                continue;
            }
            Some(Ok("")) => {
                fault("a user without a name".to_owned(), "a name");
                continue;
            }
            Some(Ok(name)) => Some(name),
            None => None,
        };
        let password = listed
            .entry
            .user
            .password
            .as_ref()
            .map(|stored| std::str::from_utf8(stored));
        let mut is_wrong = listed.is_wrong;
        if matches!(password, Some(Err(_) | Ok("" | "{CLEARTEXT}"))) {
            is_wrong = true;
            let found = "a password that is empty or no UTF-8".to_owned();
            fault(found, "one in UTF-8; any other in a file of its own, and password_file");
        }
        // A second entry of the same name, and DEFAULT as a name, have no table of their own.
        let has_table = name.is_some_and(|name| name != "DEFAULT" && seen.insert(name));
        let entry = Writing {
            listed,
            name,
            has_table,
            password: password.and_then(Result::ok),
        };
        if listed.is_never && !is_wrong {
            continue;
        }
        body.push('\n');
        body.push_str(&comment(&format!("{}:{}", listed.file, listed.line)));
        match (is_wrong, name) {
            (false, _) => entry.whole(&mut body, dictionary),
            (true, Some(_)) => entry.kept_out(&mut body),
            // One that keeps people out keeps out more of them now.
            (true, None) if listed.entry.fixed == Some(Fixed::Reject) && !listed.is_never => entry.kept_out(&mut body),
            (true, None) => body.push_str("# An entry for everybody is missing here: see above.\n"),
        }
    }
    let mut text = head("users", file, &faults, &notices);
    text.push_str(&body);
    Translated { text, faults, notices }
}

/// An entry that is being written.
struct Writing<'l> {
    listed: &'l Listed,
    /// None: everybody.
    name: Option<&'l str>,
    has_table: bool,
    password: Option<&'l str>,
}

impl Writing<'_> {
    fn header(&self, text: &mut String) {
        match self.name {
            Some(name) if self.has_table => {
                let _ = writeln!(text, "[user.{}]", *key(name));
            }
            Some(name) => {
                let _ = writeln!(text, "[[entry]]\nuser = {}", *quoted(name));
            }
            None => text.push_str("[[entry]]\n"),
        }
    }

    fn kept_out(&self, text: &mut String) {
        text.push_str("# Not all of it could be translated, see above: until it is mended, its users are kept out.\n");
        self.header(text);
        text.push_str("disabled = true\n");
    }

    fn whole(&self, text: &mut String, dictionary: &Dictionary) {
        self.header(text);
        let entry = &self.listed.entry;
        if let Some(password) = self.password {
            let _ = writeln!(text, "password = {}", *quoted(password));
        }
        if !entry.conditions.is_empty() {
            let table = self.checks(dictionary);
            let _ = writeln!(text, "check = {}", *table.unwrap_or_else(|| list(&self.listed.checks)));
        }
        if !entry.user.reply.is_empty() {
            let table = self.replies(dictionary);
            let _ = writeln!(text, "reply = {}", *table.unwrap_or_else(|| list(&self.listed.replies)));
        }
        match entry.fixed {
            Some(Fixed::Accept) => text.push_str("accept_without_password = true\n"),
            Some(Fixed::Reject) => text.push_str("disabled = true\n"),
            None => {}
        }
        if entry.falls_through {
            text.push_str("fall_through = true\n");
        }
    }

    /// As a table, where that says the same.
    fn checks(&self, dictionary: &Dictionary) -> Option<Zeroizing<String>> {
        let mut pairs = Vec::new();
        for (text, condition) in self.listed.checks.iter().zip(&self.listed.entry.conditions) {
            let (name, value) = text.split_once(" == ")?;
            let value = plain(value)?;
            let read = comparison(dictionary, &text_pair(dictionary, name, "==", value)).ok()?;
            if read != *condition || pairs.iter().any(|(other, _)| *other == name) {
                return None;
            }
            pairs.push((name, quoted(value)));
        }
        Some(table(&pairs))
    }

    /// As a table, where that says the same.
    fn replies(&self, dictionary: &Dictionary) -> Option<Zeroizing<String>> {
        let entry = &self.listed.entry;
        let mut groups: Vec<(&str, Vec<Zeroizing<String>>)> = Vec::new();
        for ((text, item), put) in self.listed.replies.iter().zip(&entry.user.reply).zip(&entry.puts) {
            let (name, value) = text.split_once(" = ").filter(|_| *put == Put::IfAbsent)?;
            let octets = match &item.content {
                Content::Value(octets) => std::str::from_utf8(octets).ok(),
                _ => None,
            };
            // Of a text what it says, of anything else how it is written.
            let value = [octets, plain(value)].into_iter().flatten().find(|value| {
                let read = assignment(dictionary, &text_pair(dictionary, name, "=", value));
                read.is_ok_and(|(read, _)| read == *item)
            })?;
            // What belongs together in the table must stand together in the list.
            let is_next = groups.last().is_some_and(|(last, _)| *last == name);
            if !is_next && groups.iter().any(|(other, _)| *other == name) {
                return None;
            }
            if !is_next {
                groups.push((name, Vec::new()));
            }
            if let Some((_, values)) = groups.last_mut() {
                values.push(quoted(value));
            }
        }
        let pairs: Vec<(&str, Zeroizing<String>)> = groups
            .into_iter()
            .map(|(name, values)| match <[_; 1]>::try_from(values) {
                Ok([one]) => (name, one),
                Err(several) => (name, row(several.iter().map(|value| value.as_str()))),
            })
            .collect();
        Some(table(&pairs))
    }
}

/// A value without its quotes; none where it has escapes.
fn plain(value: &str) -> Option<&str> {
    let quote = value.chars().next().filter(|first| matches!(first, '"' | '\''));
    match quote {
        None => Some(value),
        Some(quote) => value
            .strip_prefix(quote)?
            .strip_suffix(quote)
            .filter(|inner| !inner.contains('\\')),
    }
}

fn table(pairs: &[(&str, Zeroizing<String>)]) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::from("{ "));
    for (at, (name, value)) in pairs.iter().enumerate() {
        text.push_str(if at == 0 { "" } else { ", " });
        text.push_str(&key(name));
        text.push_str(" = ");
        text.push_str(value);
    }
    text.push_str(" }");
    text
}

fn list(texts: &[Zeroizing<String>]) -> Zeroizing<String> {
    let texts: Vec<Zeroizing<String>> = texts.iter().map(|text| quoted(text)).collect();
    row(texts.iter().map(|text| text.as_str()))
}

fn row<'t>(texts: impl Iterator<Item = &'t str>) -> Zeroizing<String> {
    let mut row = Zeroizing::new(String::from("["));
    for (at, text) in texts.enumerate() {
        row.push_str(if at == 0 { "" } else { ", " });
        row.push_str(text);
    }
    row.push(']');
    row
}
