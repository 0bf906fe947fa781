//! Whom RADIUS knows by a list: a users file, in our form (`.toml`) or in that of FreeRADIUS (any other name).
//!
//! In our form `[user.NAME]` and `[[entry]]` are entries of one list, in the order in which they stand in the file; what an entry
//! is, engine/src/radius/users.rs says.

use engine::radius::users::freeradius::{assignment, comparison};
use engine::radius::users::{Entry, Fixed, Users, freeradius, with_scheme};
use toml::de::{DeTable, DeValue};
use wire::radius::{DataType, Dictionary};
use zeroize::Zeroizing;

use super::super::diagnostic::{At, Place, Problems};
use super::super::files::{self, Folder};
use super::super::keys::Kind;
use super::super::reader::{Section, place};
use super::clients::start;
use super::sources;

/// Reads a users file. None: something is wrong, and was told.
pub fn users(p: &mut Problems, folder: &Folder, file: &At<String>, dictionary: &Dictionary) -> Option<Users> {
    let (users, holds_secrets) = if sources::is_toml(file) {
        let read = |p: &mut Problems, folder: &Folder, table: &DeTable<'_>| in_toml(p, folder, table, dictionary);
        sources::toml(p, folder, file, "the users file", read)?
    } else {
        (in_freeradius(p, folder, file, dictionary)?, true)
    };
    if holds_secrets {
        files::warn_if_open(p, folder, file, "passwords");
    }
    Some(users)
}

fn in_freeradius(p: &mut Problems, folder: &Folder, file: &At<String>, dictionary: &Dictionary) -> Option<Users> {
    let path = folder.path(&file.value).display().to_string();
    match freeradius::load(&path, dictionary, &mut sources::include_exact) {
        Ok(loaded) => {
            p.take(loaded.notices.iter().map(sources::doubt));
            Some(loaded.users)
        }
        Err(faults) => {
            p.error(&file.place, format!("the users file {path} cannot be used"));
            p.take(faults.iter().map(sources::mistake));
            None
        }
    }
}

/// The list, and whether a password stands in the file.
fn in_toml(p: &mut Problems, folder: &Folder, table: &DeTable<'_>, dictionary: &Dictionary) -> (Users, bool) {
    let mut root = Section::new(Kind::RadiusUsers, "the users file", Place::Nowhere, table);
    let named = root.named(p, "user", Kind::RadiusUser);
    let entries = root.sections(p, "entry", Kind::RadiusEntry);
    root.finish(p);
    let named = named.into_iter().map(|(name, section)| (Some(name), section));
    let mut all: Vec<(Option<At<String>>, Section<'_>)> = named
        .chain(entries.into_iter().map(|section| (None, section)))
        .collect();
    all.sort_by_key(|(name, section)| start(name.as_ref().map_or(&section.place, |name| &name.place)));
    let mut reader = Reader {
        folder,
        dictionary,
        users: Users::default(),
        holds_secrets: false,
    };
    for (name, section) in all {
        reader.entry(p, name, section);
    }
    (reader.users, reader.holds_secrets)
}

struct Reader<'r> {
    folder: &'r Folder,
    dictionary: &'r Dictionary,
    users: Users,
    holds_secrets: bool,
}

impl Reader<'_> {
    fn entry(&mut self, p: &mut Problems, name: Option<At<String>>, mut section: Section<'_>) {
        let is_named = name.is_some();
        let name = name.or_else(|| section.string(p, "user"));
        if let Some(name) = name.as_ref().filter(|name| is_named && name.value == "DEFAULT") {
            p.error(
                &name.place,
                "[user.DEFAULT] is the user of this name, and not everybody",
            )
            .help("[[entry]] without `user` is for everybody");
        }
        if let Some(name) = name.as_ref().filter(|name| name.value.is_empty()) {
            p.error(&name.place, "a user without a name");
        }
        let mut entry = Entry::default();
        entry.user.password = self.password(p, &mut section);
        self.check(p, &mut section, &mut entry);
        self.reply(p, &mut section, &mut entry);
        if let Some(groups) = section.strings(p, "groups") {
            let groups = groups.value.into_iter().map(|group| group.value.into_boxed_str());
            entry.user.groups = groups.collect();
        }
        let disabled = section.boolean(p, "disabled").is_some_and(|found| found.value);
        let accepted = section.boolean(p, "accept_without_password");
        let accepted = accepted.filter(|found| found.value);
        if let Some(found) = accepted.as_ref().filter(|_| disabled) {
            let message = format!("{} is disabled, and accepted without a password", section.title);
            p.error(&found.place, message).help("one of them");
        }
        entry.fixed = if disabled {
            Some(Fixed::Reject)
        } else {
            accepted.map(|_| Fixed::Accept)
        };
        entry.falls_through = section.boolean(p, "fall_through").is_some_and(|found| found.value);
        let has_password = ["password", "password_file", "nt_hash"]
            .iter()
            .any(|key| section.has(key));
        if is_named && !has_password && entry.fixed.is_none() && !entry.falls_through {
            p.warning(
                &section.place,
                format!("{} has no password, and is rejected whatever is offered", section.title),
            )
            .help("password, password_file or nt_hash; disabled = true where that is meant");
        }
        let at = name.as_ref().map_or(&section.place, |name| &name.place);
        let octets = name.as_ref().map(|name| name.value.as_bytes());
        if !self.users.append(octets, entry) {
            p.warning(
                at,
                format!(
                    "{} is never reached: one before it is for the same user and ends the list",
                    section.title
                ),
            )
            .help("fall_through = true in that one, or this one removed");
        }
        section.finish(p);
    }

    fn password(&mut self, p: &mut Problems, section: &mut Section<'_>) -> Option<Zeroizing<Vec<u8>>> {
        let clear = section.secret(p, "password");
        let file = section.string(p, "password_file");
        let hash = section.secret(p, "nt_hash");
        self.holds_secrets |= clear.is_some() || hash.is_some();
        if [clear.is_some(), file.is_some(), hash.is_some()]
            .iter()
            .filter(|one| **one)
            .count()
            > 1
        {
            p.error(&section.place, format!("{} has more than one password", section.title))
                .help("one of password, password_file and nt_hash");
            return None;
        }
        if let Some(hash) = hash {
            let stored = Zeroizing::new(format!("{{NT}}{}", hash.value.to_ascii_uppercase()));
            let known = with_scheme(stored.as_bytes());
            if known.is_err() {
                p.error(&hash.place, format!("`nt_hash` of {} is none", section.title))
                    .help("32 hexadecimal digits");
            }
            return known.ok();
        }
        let (octets, at) = match (clear, file) {
            (Some(clear), _) => (Zeroizing::new(clear.value.as_bytes().to_vec()), clear.place),
            (None, Some(file)) => {
                let octets = files::one_line(p, self.folder, &file, "the password file", "a password")?;
                (octets, file.place)
            }
            (None, None) => return None,
        };
        if octets.is_empty() {
            p.error(&at, format!("the password of {} is empty", section.title))
                .help("accept_without_password = true where that is meant");
            return None;
        }
        let known = with_scheme(&octets);
        if let Err(right) = &known {
            p.error(
                &at,
                format!("nobody can be compared with the password of {}", section.title),
            )
            .help(right.as_str());
        }
        known.ok()
    }

    fn check(&self, p: &mut Problems, section: &mut Section<'_>, entry: &mut Entry) {
        for (text, at) in written(p, section, "check", self.dictionary) {
            match comparison(self.dictionary, &text) {
                Ok(condition) => entry.conditions.push(condition),
                Err((found, right)) => wrong(p, &at, found, right),
            }
        }
    }

    fn reply(&self, p: &mut Problems, section: &mut Section<'_>, entry: &mut Entry) {
        for (text, at) in written(p, section, "reply", self.dictionary) {
            match assignment(self.dictionary, &text) {
                Ok((item, put)) => {
                    entry.user.reply.push(item);
                    entry.puts.push(put);
                }
                Err((found, right)) => wrong(p, &at, found, right),
            }
        }
    }
}

fn wrong(p: &mut Problems, at: &Place, found: String, right: String) {
    let told = p.error(at, found);
    if !right.is_empty() {
        told.help(right);
    }
}

/// The attributes of `check` or `reply`, each as FreeRADIUS writes one, and its place: a table of names and values, or a list of
/// texts with their signs.
fn written(
    p: &mut Problems,
    section: &mut Section<'_>,
    key: &'static str,
    dictionary: &Dictionary,
) -> Vec<(Zeroizing<String>, Place)> {
    let Some((value, at)) = section.value(key) else {
        return Vec::new();
    };
    let (sign, example) = match key {
        "check" => ("==", "{ NAS-Port-Type = \"Ethernet\" }, or [\"NAS-Port < 100\"]"),
        _ => ("=", "{ Session-Timeout = 3600 }, or [\"Session-Timeout := 3600\"]"),
    };
    let mut all = Vec::new();
    match value.get_ref() {
        DeValue::Table(table) => {
            let mut pairs: Vec<_> = table.iter().collect();
            // The table is in the order of its names.
            pairs.sort_by_key(|(name, _)| name.span().start);
            for (name, value) in pairs {
                let at = Place::Text(name.span());
                let name = name.get_ref().as_ref();
                let values = match value.get_ref() {
                    DeValue::Array(items) if key == "reply" => items.iter().map(|item| item.get_ref()).collect(),
                    other => vec![other],
                };
                for value in values {
                    match pair(dictionary, name, sign, value) {
                        Some(text) => all.push((text, at.clone())),
                        None => {
                            p.error(&at, format!("`{name}` in `{key}` of {} has no such value", section.title))
                                .help(match key {
                                    "check" => "a text in quotes or a number; for more, a list of comparisons: check = [\"NAS-Port < 100\"]",
                                    _ => "a text in quotes, a number, or a list of those",
                                });
                        }
                    }
                }
            }
        }
        DeValue::Array(items) => {
            for item in items.iter() {
                match item.get_ref() {
                    DeValue::String(text) => all.push((Zeroizing::new(text.to_string()), place(item))),
                    _ => {
                        p.error(
                            &place(item),
                            format!("`{key}` of {} has more than texts in its list", section.title),
                        )
                        .help(example);
                    }
                }
            }
        }
        _ => {
            p.error(
                &at,
                format!("`{key}` of {} must be attributes and their values", section.title),
            )
            .help(example);
        }
    }
    all
}

/// An attribute of a table, as FreeRADIUS writes it. None: its value is neither text nor a number.
fn pair(dictionary: &Dictionary, name: &str, sign: &str, value: &DeValue<'_>) -> Option<Zeroizing<String>> {
    match value {
        DeValue::String(text) => Some(text_pair(dictionary, name, sign, text)),
        DeValue::Integer(number) => {
            let number = i64::from_str_radix(number.as_str(), number.radix()).ok()?;
            Some(Zeroizing::new(format!("{name} {sign} {number}")))
        }
        _ => None,
    }
}

/// An attribute and a value as a table has it, as FreeRADIUS writes it: octets as `0x` and digits are octets.
pub fn text_pair(dictionary: &Dictionary, name: &str, sign: &str, text: &str) -> Zeroizing<String> {
    let bare = name.split(':').next().unwrap_or(name);
    let takes_hex = dictionary
        .named(bare)
        .is_some_and(|known| known.data_type == DataType::Octets);
    let is_hex = |digits: &str| digits.bytes().all(|octet| octet.is_ascii_hexdigit());
    if takes_hex && text.strip_prefix("0x").is_some_and(is_hex) {
        return Zeroizing::new(format!("{name} {sign} {text}"));
    }
    let mut written = Zeroizing::new(format!("{name} {sign} \""));
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                written.push('\\');
                written.push(c);
            }
            c if c.is_ascii_control() => written.push_str(&format!("\\{:03o}", u32::from(c))),
            c => written.push(c),
        }
    }
    written.push('"');
    written
}
