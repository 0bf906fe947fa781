//! Typed reading of TOML tables that never stops at a mistake.
//!
//! A [`Section`] is asked for its settings one by one; each answers with the value and its place, or with nothing after
//! recording what is wrong with it. [`Section::finish`] then refuses what nobody asked for, with the nearest right
//! spelling. (serde's derived readers stop at the first mistake, which is why they are not used here.)

use std::time::Duration;

use toml::Spanned;
use toml::de::{DeInteger, DeString, DeTable, DeValue};
use zeroize::Zeroizing;

use super::diagnostic::{At, Diagnostic, Place, Problems};
use super::keys::Kind;
use super::suggest::nearest;
use super::values;

/// A table of the file that is being read.
pub struct Section<'t> {
    kind: Kind,
    /// As it is called in messages: `[directory.corp]`.
    pub title: String,
    /// Where it starts: its header or its first brace.
    pub place: Place,
    table: &'t DeTable<'t>,
    asked: Vec<&'static str>,
}

pub(super) type Value<'t> = &'t Spanned<DeValue<'t>>;

impl<'t> Section<'t> {
    /// A section of a kind, called `title` in messages.
    pub fn new(kind: Kind, title: impl Into<String>, place: Place, table: &'t DeTable<'t>) -> Section<'t> {
        Section {
            kind,
            title: title.into(),
            place,
            table,
            asked: Vec::new(),
        }
    }

    /// Whether a setting is written at all.
    pub fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// Whether a setting is written, as a text.
    pub fn is_text(&self, key: &str) -> bool {
        self.table
            .get(key)
            .is_some_and(|value| matches!(value.get_ref(), DeValue::String(_)))
    }

    /// The place of a setting's value, or of the section where it is not written.
    pub fn place_of(&self, key: &str) -> Place {
        self.table.get(key).map_or_else(|| self.place.clone(), place)
    }

    /// Text.
    pub fn string(&mut self, p: &mut Problems, key: &'static str) -> Option<At<String>> {
        let value = self.ask(key)?;
        match value.get_ref() {
            DeValue::String(text) => Some(At::new(text.to_string(), place(value))),
            other => self.wrong(p, key, value, "text in quotes", &quoted(other)),
        }
    }

    /// Text that is not for showing, whatever is wrong with it.
    pub fn secret(&mut self, p: &mut Problems, key: &'static str) -> Option<At<Zeroizing<String>>> {
        let value = self.ask(key)?;
        match value.get_ref() {
            DeValue::String(text) => Some(At::new(Zeroizing::new(text.to_string()), place(value))),
            _ => {
                let message = format!("`{key}` in {} must be text in quotes", self.title);
                self.fail(p, key, &place(value), message);
                None
            }
        }
    }

    /// A value that its own reader takes apart, and its place.
    pub(super) fn value(&mut self, key: &'static str) -> Option<(Value<'t>, Place)> {
        let value = self.ask(key)?;
        Some((value, place(value)))
    }

    /// `true` or `false`.
    pub fn boolean(&mut self, p: &mut Problems, key: &'static str) -> Option<At<bool>> {
        let value = self.ask(key)?;
        match value.get_ref() {
            DeValue::Boolean(yes) => Some(At::new(*yes, place(value))),
            _ => self.wrong(p, key, value, "true or false", ""),
        }
    }

    /// A whole number within bounds, both included.
    pub fn integer(&mut self, p: &mut Problems, key: &'static str, min: i64, max: i64) -> Option<At<i64>> {
        let value = self.ask(key)?;
        let DeValue::Integer(number) = value.get_ref() else {
            let help = match value.get_ref() {
                DeValue::String(text) if text.parse::<i64>().is_ok() => format!("write {text}, without quotes"),
                _ => String::new(),
            };
            return self.wrong(p, key, value, "a whole number", &help);
        };
        match integer(number).filter(|number| (min..=max).contains(number)) {
            Some(number) => Some(At::new(number, place(value))),
            None => {
                self.fail(
                    p,
                    key,
                    &place(value),
                    format!("`{key}` is out of bounds in {}", self.title),
                )
                .label(format!("found {number}"))
                .help(format!("it may be {min} to {max}"));
                None
            }
        }
    }

    /// A count within bounds.
    pub fn count(&mut self, p: &mut Problems, key: &'static str, min: usize, max: usize) -> Option<At<usize>> {
        let bound = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        let found = self.integer(p, key, bound(min), bound(max))?;
        Some(found.map(|n| usize::try_from(n).unwrap_or_default()))
    }

    /// A duration within bounds: `"10s"`, or an integer of seconds.
    pub fn duration(
        &mut self,
        p: &mut Problems,
        key: &'static str,
        min: Duration,
        max: Duration,
    ) -> Option<At<Duration>> {
        let value = self.ask(key)?;
        let parsed = match value.get_ref() {
            DeValue::String(text) => values::duration(text),
            DeValue::Integer(number) => match integer(number).and_then(|n| u64::try_from(n).ok()) {
                Some(seconds) => Ok(Duration::from_secs(seconds)),
                None => Err("seconds are a whole number, not negative".into()),
            },
            _ => {
                return self.wrong(
                    p,
                    key,
                    value,
                    "a duration",
                    "write \"10s\", \"500ms\", \"5m\", or seconds",
                );
            }
        };
        let length = self.parsed(p, key, value, parsed)?;
        if (min..=max).contains(&length.value) {
            return Some(length);
        }
        let show = values::show_duration;
        self.fail(
            p,
            key,
            &length.place,
            format!("`{key}` is out of bounds in {}", self.title),
        )
        .label(format!("found {}", show(length.value)))
        .help(format!("it may be {} to {}", show(min), show(max)));
        None
    }

    /// A number of bytes within bounds: `"1MiB"`, or an integer.
    pub fn size(&mut self, p: &mut Problems, key: &'static str, min: usize, max: usize) -> Option<At<usize>> {
        let value = self.ask(key)?;
        let parsed = match value.get_ref() {
            DeValue::String(text) => values::size(text),
            DeValue::Integer(number) => match integer(number).and_then(|n| usize::try_from(n).ok()) {
                Some(bytes) => Ok(bytes),
                None => Err("bytes are a whole number, not negative".into()),
            },
            _ => return self.wrong(p, key, value, "a size", "write \"64KiB\", \"1MiB\", or bytes"),
        };
        let bytes = self.parsed(p, key, value, parsed)?;
        if (min..=max).contains(&bytes.value) {
            return Some(bytes);
        }
        let show = values::show_size;
        self.fail(
            p,
            key,
            &bytes.place,
            format!("`{key}` is out of bounds in {}", self.title),
        )
        .label(format!("found {}", show(bytes.value)))
        .help(format!("it may be {} to {}", show(min), show(max)));
        None
    }

    /// One of some words. `not_yet`: words of the design that this version does not know.
    pub fn choice<T: Copy>(
        &mut self,
        p: &mut Problems,
        key: &'static str,
        words: &[(&str, T)],
        not_yet: &[&str],
    ) -> Option<At<T>> {
        let list: Vec<String> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
        let value = self.ask(key)?;
        let DeValue::String(text) = value.get_ref() else {
            return self.wrong(p, key, value, &format!("one of {}", list.join(", ")), "");
        };
        let found = At::new(text.to_string(), place(value));
        if let Some((_, meaning)) = words.iter().find(|(word, _)| *word == found.value) {
            return Some(At::new(*meaning, found.place));
        }
        if not_yet.contains(&found.value.as_str()) {
            self.fail(
                p,
                key,
                &found.place,
                format!("{key} \"{}\" is not part of this version", found.value),
            )
            .help(format!("this version has {}", list.join(", ")));
            return None;
        }
        let problem = self
            .fail(
                p,
                key,
                &found.place,
                format!("unknown {key} \"{}\" in {}", found.value, self.title),
            )
            .label("not one of the choices");
        if let Some(near) = nearest(&found.value, words.iter().map(|(word, _)| *word)) {
            problem.help(format!("did you mean \"{near}\"?"));
        }
        problem.help(format!("it may be {}", list.join(", ")));
        None
    }

    /// A file mode: `"0660"`, or the TOML integer `0o660`.
    pub fn mode(&mut self, p: &mut Problems, key: &'static str) -> Option<At<u32>> {
        let value = self.ask(key)?;
        let bits = match value.get_ref() {
            DeValue::String(text) => u32::from_str_radix(text.trim_start_matches("0o"), 8).ok(),
            DeValue::Integer(number) if number.radix() == 8 => u32::from_str_radix(number.as_str(), 8).ok(),
            _ => None,
        };
        match bits.filter(|bits| *bits <= 0o777) {
            Some(bits) => Some(At::new(bits, place(value))),
            None => self.wrong(p, key, value, "a file mode", "write it in octal: \"0660\""),
        }
    }

    /// A list of texts.
    pub fn strings(&mut self, p: &mut Problems, key: &'static str) -> Option<At<Vec<At<String>>>> {
        let value = self.ask(key)?;
        let DeValue::Array(items) = value.get_ref() else {
            return self.wrong(p, key, value, "a list of texts", "write [\"…\", \"…\"]");
        };
        let mut texts = Vec::with_capacity(items.len());
        for item in items.iter() {
            match item.get_ref() {
                DeValue::String(text) => texts.push(At::new(text.to_string(), place(item))),
                other => return self.wrong(p, key, item, "a list of texts", &quoted(other)),
            }
        }
        Some(At::new(texts, place(value)))
    }

    /// One text, or a list of them.
    pub fn string_or_strings(&mut self, p: &mut Problems, key: &'static str) -> Option<At<Vec<At<String>>>> {
        match self.table.get(key).map(Spanned::get_ref) {
            Some(DeValue::String(_)) => {
                let one = self.string(p, key)?;
                let place = one.place.clone();
                Some(At::new(vec![one], place))
            }
            _ => self.strings(p, key),
        }
    }

    /// A table of texts, such as an environment.
    pub fn string_table(&mut self, p: &mut Problems, key: &'static str) -> Option<Vec<(At<String>, At<String>)>> {
        let value = self.ask(key)?;
        let DeValue::Table(table) = value.get_ref() else {
            return self.wrong(p, key, value, "a table of texts", "write { NAME = \"value\" }");
        };
        let mut pairs = Vec::with_capacity(table.len());
        for (name, item) in table.iter() {
            match item.get_ref() {
                DeValue::String(text) => {
                    let name = At::new(name.get_ref().to_string(), Place::Text(name.span()));
                    pairs.push((name, At::new(text.to_string(), place(item))));
                }
                other => return self.wrong(p, key, item, "a table of texts", &quoted(other)),
            }
        }
        Some(pairs)
    }

    /// A table within this one.
    pub fn section(&mut self, p: &mut Problems, key: &'static str, kind: Kind) -> Option<Section<'t>> {
        let value = self.ask(key)?;
        match value.get_ref() {
            DeValue::Table(table) => Some(Section::new(kind, self.title_of(key, kind), place(value), table)),
            DeValue::Array(_) if self.kind == Kind::Root => {
                self.wrong(p, key, value, "one table", &format!("write [{key}], not [[{key}]]"))
            }
            _ => self.wrong(p, key, value, "a table", &format!("write {key} = {{ … }}")),
        }
    }

    /// A list of tables: `[[listen]]`, or `server = [{ … }, { … }]`.
    pub fn sections(&mut self, p: &mut Problems, key: &'static str, kind: Kind) -> Vec<Section<'t>> {
        let Some(value) = self.ask(key) else { return Vec::new() };
        let help = match kind {
            Kind::Upstream => format!("write {key} = [{{ url = \"ldap://…\" }}]"),
            Kind::Authenticate => format!("write {key} = {{ … }}, or [{{ … }}, {{ … }}]"),
            _ => format!("write [[{}]] above each", self.path_of(key)),
        };
        let DeValue::Array(items) = value.get_ref() else {
            self.wrong::<()>(p, key, value, "a list of tables", &help);
            return Vec::new();
        };
        let mut sections = Vec::with_capacity(items.len());
        for item in items.iter() {
            match item.get_ref() {
                DeValue::Table(table) => {
                    sections.push(Section::new(kind, self.title_of(key, kind), place(item), table));
                }
                _ => {
                    self.wrong::<()>(p, key, item, "a list of tables", &help);
                }
            }
        }
        sections
    }

    /// One table, or a list of them: `authenticate = { … }`, or `authenticate = [{ … }, { … }]`.
    pub fn one_or_more(&mut self, p: &mut Problems, key: &'static str, kind: Kind) -> Vec<Section<'t>> {
        match self.table.get(key).map(Spanned::get_ref) {
            Some(DeValue::Table(_)) => self.section(p, key, kind).into_iter().collect(),
            _ => self.sections(p, key, kind),
        }
    }

    /// Named tables: `[directory.NAME]`.
    pub fn named(&mut self, p: &mut Problems, key: &'static str, kind: Kind) -> Vec<(At<String>, Section<'t>)> {
        let Some(value) = self.ask(key) else { return Vec::new() };
        let help = format!("write [{}.NAME]", self.path_of(key));
        let DeValue::Table(table) = value.get_ref() else {
            self.wrong::<()>(p, key, value, "a table of named tables", &help);
            return Vec::new();
        };
        let mut sections = Vec::with_capacity(table.len());
        for (name, item) in table.iter() {
            let at = At::new(name.get_ref().to_string(), Place::Text(name.span()));
            match item.get_ref() {
                DeValue::Table(table) => {
                    let title = format!("[{}.{}]", self.path_of(key), at.value);
                    sections.push((at, Section::new(kind, title, place(item), table)));
                }
                other => {
                    p.error(&at.place, format!("`{}` stands directly in [{key}]", at.value))
                        .label(format!("found {}", describe(other)))
                        .help(format!("a {key} has a name: {help} above its settings"));
                }
            }
        }
        sections
    }

    /// Refuses what nobody asked for.
    pub fn finish(self, p: &mut Problems) {
        let keys = self.kind.keys();
        debug_assert!(
            keys.iter().all(|key| self.asked.contains(key)),
            "{}: a listed setting is never read",
            self.title
        );
        for (key, _) in self
            .table
            .iter()
            .filter(|(key, _)| !keys.contains(&key.get_ref().as_ref()))
        {
            self.unknown(p, key);
        }
    }

    fn unknown(&self, p: &mut Problems, key: &Spanned<DeString<'_>>) {
        let name = key.get_ref().as_ref();
        let at = Place::Text(key.span());
        if let Some(instead) = self.kind.not_yet(name) {
            p.error(&at, format!("`{name}` is not part of this version"))
                .help(instead);
            return;
        }
        let is_secret = name.contains("password") || name.contains("secret") || name == "credentials";
        if is_secret && !self.kind.holds_secrets() {
            let problem = p.error(
                &at,
                format!("`{name}` in {}: a secret does not stand in this file", self.title),
            );
            problem.secret = true;
            problem.help("put it into a file that only the daemon may read, and name that: bind_password_file = \"…\"");
            return;
        }
        let problem = p.error(&at, format!("unknown setting `{name}` in {}", self.title));
        problem.label("not a setting here");
        if let Some(near) = nearest(name, self.kind.keys().iter().copied()) {
            problem.help(format!("did you mean `{near}`?"));
        } else if let Some(kind) = self.kind.elsewhere(name) {
            problem.help(format!("`{name}` is a setting of {}", kind.title()));
        } else {
            problem.help(format!("it knows {}", self.kind.keys().join(", ")));
        }
    }

    fn ask(&mut self, key: &'static str) -> Option<Value<'t>> {
        debug_assert!(
            self.kind.keys().contains(&key),
            "`{key}` is not listed for {}",
            self.kind.title()
        );
        self.asked.push(key);
        self.table.get(key)
    }

    /// A value that is written but cannot be used: nothing later may call it missing.
    fn fail<'p>(&self, p: &'p mut Problems, key: &'static str, at: &Place, message: String) -> &'p mut Diagnostic {
        p.spoil(&self.place, key);
        p.error(at, message)
    }

    fn parsed<T>(
        &self,
        p: &mut Problems,
        key: &'static str,
        value: Value<'_>,
        parsed: Result<T, String>,
    ) -> Option<At<T>> {
        match parsed {
            Ok(parsed) => Some(At::new(parsed, place(value))),
            Err(right) => {
                self.fail(
                    p,
                    key,
                    &place(value),
                    format!("`{key}` cannot be read in {}", self.title),
                )
                .label(format!("found {}", describe(value.get_ref())))
                .help(right);
                None
            }
        }
    }

    fn wrong<T>(&self, p: &mut Problems, key: &'static str, value: Value<'_>, right: &str, help: &str) -> Option<T> {
        let problem = self.fail(
            p,
            key,
            &place(value),
            format!("`{key}` in {} must be {right}", self.title),
        );
        problem.label(format!("found {}", describe(value.get_ref())));
        if !help.is_empty() {
            problem.help(help);
        }
        None
    }

    fn path_of(&self, key: &str) -> String {
        let inner = self.title.trim_matches(['[', ']']);
        if self.kind.is_file() {
            key.to_owned()
        } else {
            format!("{inner}.{key}")
        }
    }

    fn title_of(&self, key: &str, kind: Kind) -> String {
        match kind {
            Kind::Server => "[server]".into(),
            Kind::Listen => "[[listen]]".into(),
            Kind::Audit => "[audit]".into(),
            Kind::Lockout | Kind::ClientLimits | Kind::LimitsOverride => kind.title().into(),
            Kind::RadiusEntry => "[[entry]]".into(),
            Kind::Sql => format!("[{}]", self.path_of(key)),
            Kind::RadiusRule => format!("[[{}]]", self.path_of(key)),
            Kind::Tier => format!("[[{}]]", self.path_of(key)),
            Kind::Upstream => format!("a server of {}", self.title),
            _ => format!("`{key}` of {}", self.title),
        }
    }
}

/// The place of a value.
pub(super) fn place(value: Value<'_>) -> Place {
    Place::Text(value.span())
}

pub(super) fn integer(number: &DeInteger<'_>) -> Option<i64> {
    i64::from_str_radix(number.as_str(), number.radix()).ok()
}

fn describe(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) if text.chars().count() <= 40 => format!("\"{text}\""),
        DeValue::String(_) => "a text".into(),
        DeValue::Integer(number) => format!("the number {number}"),
        DeValue::Float(number) => format!("the number {number}"),
        DeValue::Boolean(yes) => format!("{yes}"),
        DeValue::Datetime(_) => "a date".into(),
        DeValue::Array(_) => "a list".into(),
        DeValue::Table(_) => "a table".into(),
    }
}

fn quoted(value: &DeValue<'_>) -> String {
    match value {
        DeValue::Integer(number) => format!("write \"{number}\", in quotes"),
        DeValue::Boolean(yes) => format!("write \"{yes}\", in quotes"),
        _ => String::new(),
    }
}
