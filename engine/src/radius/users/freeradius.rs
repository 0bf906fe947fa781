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
mod names;

use wire::radius::dictionary::{Fault, Include, Source};
use wire::radius::{Content, DataType, Dictionary, Item, text};
use zeroize::Zeroizing;

use self::line::{Piece, Wrong, split};
use self::names::{LEFT_OUT, refused};
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

/// One entry, and how its file writes it: for who writes the list in another form.
#[derive(Debug)]
pub struct Listed {
    /// None: it is for everybody.
    pub name: Option<Zeroizing<Vec<u8>>>,
    /// What it says.
    pub entry: Entry,
    /// Its file.
    pub file: String,
    /// The line on which it begins.
    pub line: usize,
    /// Each of its conditions: `NAS-Port < 100`.
    pub checks: Vec<Zeroizing<String>>,
    /// Each attribute of its answer: `Session-Timeout := 60`.
    pub replies: Vec<Zeroizing<String>>,
    /// Something about it is wrong, and is among the mistakes.
    pub is_wrong: bool,
    /// It asks for a Hint, and so is never for anybody.
    pub is_never: bool,
}

/// All entries, and what is to be said of them.
#[derive(Debug)]
pub struct Listing {
    /// In the order of the list.
    pub entries: Vec<Listed>,
    /// All mistakes, up to 100. None of them shows a password.
    pub faults: Vec<Fault>,
    /// What was left out.
    pub notices: Vec<Fault>,
}

/// Reads a file and all that it includes, entry by entry.
pub fn list(file: &str, dictionary: &Dictionary, include: &mut Include<'_>) -> Listing {
    let mut reader = Reader::new(dictionary);
    reader.include(("", 0), file, 0, include);
    Listing {
        entries: reader.entries,
        faults: reader.faults,
        notices: reader.notices,
    }
}

/// Reads a file and all that it includes.
///
/// # Errors
/// All mistakes, up to 100. None of them shows a password.
pub fn load(file: &str, dictionary: &Dictionary, include: &mut Include<'_>) -> Result<Loaded, Vec<Fault>> {
    let Listing {
        entries,
        faults,
        mut notices,
    } = list(file, dictionary, include);
    if !faults.is_empty() {
        return Err(faults);
    }
    let mut users = Users::default();
    for listed in entries {
        let name = listed.name.as_ref().map(|name| name.as_slice());
        if !users.append(name, listed.entry) {
            let name = name.map_or("DEFAULT".into(), String::from_utf8_lossy);
            let found = format!("{name} is never reached: an entry before it is for the same user and ends the list");
            let right = "Fall-Through = Yes in that one, or this one removed";
            push(&mut notices, (&listed.file, listed.line), found, right.to_owned());
        }
    }
    Ok(Loaded { users, notices })
}

/// Reads one comparison: `NAS-Port < 100`.
///
/// # Errors
/// What was found, and what would be right.
pub fn comparison(dictionary: &Dictionary, text: &str) -> Result<Condition, (String, String)> {
    let piece = only(text)?;
    if stored::is_password(piece.name) {
        let right = "`password`, which is no check";
        return Err((format!("{} as a check", piece.name), right.to_owned()));
    }
    let mut reader = Reader::new(dictionary);
    let mut entry = Entry::default();
    reader.check(("", 0), &piece, &mut entry)?;
    entry.conditions.pop().ok_or_else(|| {
        let right = "an attribute that requests carry";
        (format!("{} as a check", piece.name), right.to_owned())
    })
}

/// Reads one attribute of an answer: `Session-Timeout := 60`.
///
/// # Errors
/// What was found, and what would be right.
pub fn assignment(dictionary: &Dictionary, text: &str) -> Result<(Item, Put), (String, String)> {
    let piece = only(text)?;
    let mut reader = Reader::new(dictionary);
    let mut entry = Entry::default();
    reader.answer(("", 0), &piece, &mut entry)?;
    match (entry.user.reply.pop(), entry.puts.pop()) {
        (Some(item), Some(put)) => Ok((item, put)),
        _ => {
            let right = "an attribute that is sent";
            Err((format!("{} in an answer", piece.name), right.to_owned()))
        }
    }
}

fn only(text: &str) -> Result<Piece<'_>, Wrong> {
    match split(text)? {
        (pieces, false) if pieces.len() == 1 => pieces.into_iter().next(),
        _ => None,
    }
    .ok_or_else(|| {
        let right = "one attribute in each text: name, sign and value";
        ("more or less than one attribute".to_owned(), right.to_owned())
    })
}

struct Reader<'d> {
    dictionary: &'d Dictionary,
    entries: Vec<Listed>,
    faults: Vec<Fault>,
    notices: Vec<Fault>,
    files: usize,
    /// Mistakes, those that are not told any more included.
    wrong: usize,
}

/// The entry that is being read.
struct Open {
    listed: Listed,
    /// How many mistakes there were before it.
    wrong_before: usize,
    /// The last line of its answer, and whether a comma ends it.
    reply: Option<(usize, bool)>,
}

impl<'d> Reader<'d> {
    fn new(dictionary: &'d Dictionary) -> Self {
        Reader {
            dictionary,
            entries: Vec::new(),
            faults: Vec::new(),
            notices: Vec::new(),
            files: 0,
            wrong: 0,
        }
    }

    fn fault(&mut self, at: (&str, usize), found: impl Into<String>, right: impl Into<String>) {
        self.wrong += 1;
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
            listed: Listed {
                name: None,
                entry: Entry::default(),
                file: at.0.to_owned(),
                line: at.1,
                checks: Vec::new(),
                replies: Vec::new(),
                is_wrong: false,
                is_never: false,
            },
            wrong_before: self.wrong,
            reply: None,
        };
        let (name, rest) = match line::name(line) {
            Ok(found) => found,
            Err((found, right)) => {
                self.fault(at, found, right);
                return Some(open);
            }
        };
        let listed = &mut open.listed;
        listed.name = (name.as_slice() != b"DEFAULT").then_some(name);
        match split(rest) {
            Ok((pieces, false)) => {
                for piece in &pieces {
                    let before = listed.entry.conditions.len();
                    if let Some(hint) = self.hint(piece) {
                        listed.is_never = true;
                        listed.entry.conditions.push(hint);
                    } else if let Err((found, right)) = self.check(at, piece, &mut listed.entry) {
                        self.fault(at, found, right);
                    }
                    if listed.entry.conditions.len() > before {
                        listed.checks.push(piece.written());
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
                    let listed = &mut open.listed;
                    let before = listed.entry.user.reply.len();
                    if let Err((found, right)) = self.answer(at, piece, &mut listed.entry) {
                        self.fault(at, found, right);
                    }
                    if listed.entry.user.reply.len() > before {
                        listed.replies.push(piece.written());
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
        let Some(Open {
            mut listed,
            wrong_before,
            reply,
        }) = open
        else {
            return;
        };
        if let Some((line, true)) = reply {
            self.fault(
                (file, line),
                "a comma, and no more of the answer behind it",
                "no comma at the end of the last line",
            );
        }
        if listed.is_never && listed.entry.fixed == Some(Fixed::Reject) {
            let right = "the names that it keeps out, without Hint: there are no hints here";
            self.fault((file, listed.line), "an entry that rejects by a Hint", right);
        } else if listed.is_never {
            let right = "there are no hints here (mods-config/preprocess/hints)";
            self.notice((file, listed.line), "an entry for a Hint, which is left out", right);
        }
        listed.is_wrong = self.wrong > wrong_before;
        self.entries.push(listed);
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
