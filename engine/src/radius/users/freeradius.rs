//! FreeRADIUS's `users` file (users(5)), and `mods-config/files/authorize`, which is the same.
//!
//! ```text
//! bob     Cleartext-Password := "hello", NAS-Port-Type == Ethernet
//!         Reply-Message := "Hello",
//!         Session-Timeout = 3600
//! DEFAULT Auth-Type := Reject
//! $INCLUDE more
//! ```
//!
//! An entry's first line has the name and what is checked; the lines that begin with a blank are its answer. What would let
//! somebody in who is kept out today is refused by its name; what changes nothing here is left out with a notice.

mod line;

use wire::radius::dictionary::{Fault, Include, Source};
use wire::radius::{Content, DataType, Dictionary, Item, text};
use zeroize::Zeroizing;

use self::line::{Piece, Wrong, split};
use super::condition::{Condition, Test};
use super::{Entry, Fixed, Put, Users, stored};

/// Files in files, at most.
const INCLUDE_DEPTH_MAX: usize = 16;
/// Files of one list, at most.
const FILES_MAX: usize = 2_000;
/// Mistakes, and notices, that are told at most.
const FAULTS_MAX: usize = 100;

/// A list, and what is worth knowing of how it was read.
#[derive(Debug)]
pub struct Loaded {
    /// The list.
    pub users: Users,
    /// What was left out, and entries that are never reached.
    pub notices: Vec<Fault>,
}

/// Reads a file and all that it includes.
///
/// # Errors
/// All mistakes, up to 100. None of them shows a password.
pub fn load(file: &str, dictionary: &Dictionary, include: &mut Include<'_>) -> Result<Loaded, Vec<Fault>> {
    let mut reader = Reader {
        dictionary,
        users: Users::default(),
        faults: Vec::new(),
        notices: Vec::new(),
        files: 0,
    };
    reader.include(("", 0), file, 0, include);
    if reader.faults.is_empty() {
        Ok(Loaded {
            users: reader.users,
            notices: reader.notices,
        })
    } else {
        Err(reader.faults)
    }
}

struct Reader<'d> {
    dictionary: &'d Dictionary,
    users: Users,
    faults: Vec<Fault>,
    notices: Vec<Fault>,
    files: usize,
}

/// The entry that is being read.
struct Open {
    name: Option<Zeroizing<Vec<u8>>>,
    line: usize,
    entry: Entry,
    /// It asks for a Hint, and so is never for anybody.
    is_never: bool,
    /// The last line of its answer, and whether a comma ends it.
    reply: Option<(usize, bool)>,
}

impl Reader<'_> {
    fn fault(&mut self, at: (&str, usize), found: impl Into<String>, right: impl Into<String>) {
        push(&mut self.faults, at, found.into(), right.into());
    }

    fn notice(&mut self, at: (&str, usize), found: impl Into<String>, right: impl Into<String>) {
        push(&mut self.notices, at, found.into(), right.into());
    }

    /// Reads a file that is named at this place.
    fn include(&mut self, at: (&str, usize), file: &str, depth: usize, include: &mut Include<'_>) {
        self.files += 1;
        if depth > INCLUDE_DEPTH_MAX || self.files > FILES_MAX {
            let right = format!("at most {INCLUDE_DEPTH_MAX} files in files, and {FILES_MAX} of them");
            return self.fault(at, format!("$INCLUDE {file}, one file too many"), right);
        }
        let shown = if at.0.is_empty() { (file, 0) } else { at };
        match include(at.0, file) {
            Ok(Some(Source { name, text })) => {
                let text = Zeroizing::new(text);
                self.read(&name, &text, depth, include);
            }
            Ok(None) => self.fault(
                shown,
                format!("there is no file {file}"),
                "the name of a file that is there",
            ),
            Err(why) => self.fault(
                shown,
                format!("{file} cannot be read: {why}"),
                "a file that can be read",
            ),
        }
    }

    fn read(&mut self, file: &str, text: &str, depth: usize, include: &mut Include<'_>) {
        let mut open: Option<Open> = None;
        for (at, line) in (1..).zip(text.lines()) {
            let inner = line.trim();
            if inner.is_empty() || inner.starts_with('#') {
                continue;
            }
            if line.starts_with(char::is_whitespace) {
                match &mut open {
                    Some(open) => self.reply_line((file, at), inner, open),
                    None => self.fault(
                        (file, at),
                        "a line that begins with a blank, and no user before it",
                        "the name of a user at the beginning of the line",
                    ),
                }
                continue;
            }
            self.close(file, open.take());
            if let Some(name) = inner
                .strip_prefix("$INCLUDE")
                .filter(|rest| rest.starts_with([' ', '\t']))
            {
                let name = name.trim().trim_matches('"');
                self.include((file, at), name, depth + 1, include);
            } else {
                open = self.first_line((file, at), inner);
            }
        }
        self.close(file, open);
    }

    /// The line with the name and the checks. What cannot be read of it is told; the entry is kept, so that what belongs to it
    /// is read as well.
    fn first_line(&mut self, at: (&str, usize), line: &str) -> Option<Open> {
        let mut open = Open {
            name: None,
            line: at.1,
            entry: Entry::default(),
            is_never: false,
            reply: None,
        };
        let (name, rest) = match line::name(line) {
            Ok(found) => found,
            Err((found, right)) => {
                self.fault(at, found, right);
                return Some(open);
            }
        };
        open.name = (name.as_slice() != b"DEFAULT").then_some(name);
        match split(rest) {
            Ok((pieces, false)) => {
                for piece in &pieces {
                    if let Some(hint) = self.hint(piece) {
                        open.is_never = true;
                        open.entry.conditions.push(hint);
                    } else if let Err((found, right)) = self.check(at, piece, &mut open.entry) {
                        self.fault(at, found, right);
                    }
                }
            }
            Ok((_, true)) => self.fault(
                at,
                "a comma at the end of the checks",
                "no comma: checks stand on one line, and the answer on those below",
            ),
            Err((found, right)) => self.fault(at, found, right),
        }
        Some(open)
    }

    fn reply_line(&mut self, at: (&str, usize), line: &str, open: &mut Open) {
        if let Some((before, false)) = open.reply {
            self.fault(
                (at.0, before),
                "no comma at the end of the line, and one more line of the same answer behind it",
                "a comma at the end of every line of an answer but the last",
            );
        }
        match split(line) {
            Ok((pieces, comma)) => {
                open.reply = Some((at.1, comma));
                for piece in &pieces {
                    if let Err((found, right)) = self.answer(at, piece, &mut open.entry) {
                        self.fault(at, found, right);
                    }
                }
            }
            Err((found, right)) => {
                open.reply = None;
                self.fault(at, found, right);
            }
        }
    }

    fn close(&mut self, file: &str, open: Option<Open>) {
        let Some(open) = open else { return };
        if let Some((line, true)) = open.reply {
            self.fault(
                (file, line),
                "a comma, and no more of the answer behind it",
                "no comma at the end of the last line",
            );
        }
        if open.is_never && open.entry.fixed == Some(Fixed::Reject) {
            let right = "the names that it keeps out, without Hint: there are no hints here";
            self.fault((file, open.line), "an entry that rejects by a Hint", right);
        } else if open.is_never {
            let right = "there are no hints here (mods-config/preprocess/hints)";
            self.notice((file, open.line), "an entry for a Hint, which is left out", right);
        }
        let name = open.name.as_ref().map(|name| name.as_slice());
        if !self.users.append(name, open.entry) {
            let name = name.map_or("DEFAULT".into(), String::from_utf8_lossy);
            let found = format!("{name} is never reached: an entry before it is for the same user and ends the list");
            self.notice(
                (file, open.line),
                found,
                "Fall-Through = Yes in that one, or this one removed",
            );
        }
    }

    fn check(&mut self, at: (&str, usize), piece: &Piece<'_>, entry: &mut Entry) -> Result<(), Wrong> {
        let Piece { name, sign, .. } = *piece;
        if stored::is_password(name) {
            sets(piece)?;
            let value = self.text(piece)?;
            let stored = stored::stored(name, &value).map_err(|right| (format!("a value of {name}"), right))?;
            entry.user.password = Some(stored);
            return Ok(());
        }
        if name.eq_ignore_ascii_case("Auth-Type") {
            return self.auth_type(at, piece, entry);
        }
        if let Some(right) = refused(name) {
            return Err((format!("{name} as a check"), right.to_owned()));
        }
        if let Some(why) = LEFT_OUT.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)) {
            self.notice(at, format!("{name} is left out"), why.1);
            return Ok(());
        }
        let definition = self.dictionary.named(name).ok_or_else(|| self.unknown(name))?;
        if definition.internal || definition.hiding.is_some() || definition.secret {
            let right = "an attribute that requests carry, and that is not hidden";
            return Err((format!("{name} as a check"), right.to_owned()));
        }
        let Some(test) = Test::read(sign) else {
            return Err((format!("{name} {sign}"), format!("a comparison, like {name} == value")));
        };
        entry.conditions.push(match test {
            Test::Present | Test::Absent => Condition::presence(definition, test == Test::Present),
            Test::Matches | Test::MatchesNot => {
                let pattern = self.text(piece)?;
                let pattern =
                    std::str::from_utf8(&pattern).map_err(|_| (format!("{name} {sign}"), "UTF-8".to_owned()))?;
                Condition::matches(definition, test == Test::Matches, pattern).map_err(|why| {
                    (
                        format!("{name} {sign} {}: {why}", piece.value),
                        "a regular expression".to_owned(),
                    )
                })?
            }
            _ => {
                let Content::Value(value) = self.item(piece)?.content else {
                    return Err((
                        format!("{name} {sign}"),
                        "an attribute with a value of its own".to_owned(),
                    ));
                };
                Condition::compare(definition, test, &value).map_err(|right| (format!("{name} {sign}"), right))?
            }
        });
        Ok(())
    }

    /// The list that comes with FreeRADIUS has entries for `Hint == "SLIP"`: without hints they are for nobody.
    fn hint(&self, piece: &Piece<'_>) -> Option<Condition> {
        let is_hint = piece.sign == "==" && piece.name.eq_ignore_ascii_case("Hint");
        self.dictionary.named("Hint").filter(|_| is_hint).map(Condition::never)
    }

    fn auth_type(&mut self, at: (&str, usize), piece: &Piece<'_>, entry: &mut Entry) -> Result<(), Wrong> {
        sets(piece)?;
        let value = piece.value.trim_matches(['"', '\'']);
        let is = |known: &[&str]| known.iter().any(|known| known.eq_ignore_ascii_case(value));
        if is(&["Accept"]) {
            entry.fixed = Some(Fixed::Accept);
        } else if is(&["Reject"]) {
            entry.fixed = Some(Fixed::Reject);
        } else if is(&["Local", "PAP", "CHAP", "MS-CHAP", "MSCHAP", "MS-CHAPv2"]) {
            let right = "the packet itself shows how it proves its user";
            self.notice(at, format!("Auth-Type {value} is left out"), right);
        } else {
            let right = "Accept or Reject; who else answers is said in the listener's settings";
            return Err((format!("Auth-Type {value}"), right.to_owned()));
        }
        Ok(())
    }

    fn answer(&mut self, at: (&str, usize), piece: &Piece<'_>, entry: &mut Entry) -> Result<(), Wrong> {
        let Piece { name, sign, value } = *piece;
        if name.eq_ignore_ascii_case("Fall-Through") {
            entry.falls_through = match value.trim_matches('"').to_ascii_lowercase().as_str() {
                "yes" | "1" => true,
                "no" | "0" => false,
                _ => return Err((format!("Fall-Through {sign} {value}"), "Yes or No".to_owned())),
            };
            return Ok(());
        }
        let put = match sign {
            "=" => Put::IfAbsent,
            ":=" => Put::Replace,
            "+=" => Put::Add,
            _ => return Err((format!("{name} {sign} in an answer"), "=, := or +=".to_owned())),
        };
        let bare = name.split(':').next().unwrap_or(name);
        if stored::is_password(bare) || bare.eq_ignore_ascii_case("Auth-Type") || refused(bare).is_some() {
            let right = "on the line with the user's name, among the checks";
            return Err((format!("{name} in an answer"), right.to_owned()));
        }
        if self.dictionary.named(bare).is_some_and(|known| known.internal) {
            self.notice(
                at,
                format!("{name} is left out"),
                "it is for use inside FreeRADIUS, and never sent",
            );
            return Ok(());
        }
        if value.starts_with('"') && value.contains("%{") {
            let right = "a value as it is to be sent (rules can put in what the request says)";
            return Err((format!("{name} with an expansion, %{{…}}"), right.to_owned()));
        }
        entry.user.reply.push(self.item(piece)?);
        entry.puts.push(put);
        Ok(())
    }

    /// Reads a value by the dictionary.
    fn item(&self, piece: &Piece<'_>) -> Result<Item, Wrong> {
        let name = piece.name;
        let bare = !piece.value.starts_with(['"', '\'']);
        let odd = |c: char| matches!(c, '{' | '}' | '=' | '"' | '\'');
        let is_tlv = || {
            self.dictionary
                .named(name)
                .is_some_and(|known| known.data_type == DataType::Tlv)
        };
        let line = if bare && piece.value.contains(odd) && !is_tlv() {
            let escaped = piece.value.replace('\\', "\\\\").replace('"', "\\\"");
            format!("{name} = \"{escaped}\"")
        } else {
            format!("{name} = {}", piece.value)
        };
        let line = Zeroizing::new(line);
        let items = text::parse_list(self.dictionary, &line).map_err(|wrong| (wrong.found, wrong.right))?;
        let one = <[Item; 1]>::try_from(items);
        one.map(|[item]| item)
            .map_err(|_| (format!("{name} without a value"), format!("{name} = value")))
    }

    /// The octets of a text: read as a password is, so that no message shows it.
    fn text(&self, piece: &Piece<'_>) -> Result<Zeroizing<Vec<u8>>, Wrong> {
        if piece.value.starts_with('"') && piece.value.contains("%{") {
            let right = "a value as it is; in single quotes, if it has a %{ of its own";
            return Err((format!("{} with an expansion, %{{…}}", piece.name), right.to_owned()));
        }
        let read = Piece {
            name: "User-Password",
            ..*piece
        };
        let item = self.item(&read).map_err(|(found, right)| {
            let found = found.replace("User-Password", piece.name);
            (found, right)
        })?;
        match item.content {
            Content::Value(value) => Ok(value),
            _ => Err((piece.name.to_owned(), "a text".to_owned())),
        }
    }

    fn unknown(&self, name: &str) -> Wrong {
        let right = match self.dictionary.suggestions(name).as_slice() {
            [] => "an attribute of the dictionary".to_owned(),
            near => near.join(" or "),
        };
        (format!("unknown attribute {name}"), right)
    }
}

fn push(list: &mut Vec<Fault>, (file, line): (&str, usize), found: String, right: String) {
    if list.len() < FAULTS_MAX {
        list.push(Fault {
            file: file.to_owned(),
            line,
            found,
            right,
        });
    }
}

/// What is not compared with the request, but set.
fn sets(piece: &Piece<'_>) -> Result<(), Wrong> {
    if matches!(piece.sign, ":=" | "=" | "+=") {
        return Ok(());
    }
    let right = format!("{} := and its value", piece.name);
    Err((format!("{} {}", piece.name, piece.sign), right))
}

/// Checks that keep somebody out, and that are not made here. Left out, they would let that user in.
fn refused(name: &str) -> Option<&'static str> {
    let all: [(&[&str], &str); 6] = [
        (
            &["User-Password", "Password", "CHAP-Password"],
            "the known password as Cleartext-Password := \"…\"",
        ),
        (
            &["LM-Password"],
            "NT-Password: an LM hash protects nothing, and no request is compared with one",
        ),
        (
            &["Simultaneous-Use"],
            "no such check: sessions are not counted here; let the network's own equipment bound them",
        ),
        (
            &["Login-Time", "Current-Time", "Time-Of-Day", "Expiration"],
            "a rule of the policy with a time",
        ),
        (
            &[
                "Group",
                "Group-Name",
                "Ldap-Group",
                "LDAP-Group",
                "SQL-Group",
                "Unix-Group",
                "Huntgroup-Name",
            ],
            "a rule of the policy that matches groups or clients",
        ),
        (
            &[
                "Prefix",
                "Suffix",
                "Hint",
                "Strip-User-Name",
                "Stripped-User-Name",
                "Realm",
                "Proxy-To-Realm",
            ],
            "the name as the request has it: names are not taken apart here",
        ),
    ];
    let known = |(names, _): &&(&[&str], &str)| names.iter().any(|known| known.eq_ignore_ascii_case(name));
    all.iter().find(known).map(|(_, right)| *right)
}

/// What keeps nobody out.
const LEFT_OUT: [(&str, &str); 7] = [
    ("Pool-Name", "addresses are not given out here"),
    ("Autz-Type", "there are no such sections here"),
    ("Acct-Type", "there are no such sections here"),
    ("Session-Type", "there are no such sections here"),
    ("Post-Auth-Type", "there are no such sections here"),
    ("Pre-Acct-Type", "there are no such sections here"),
    ("Fall-Through", "it belongs to the answer, on a line of its own below"),
];
