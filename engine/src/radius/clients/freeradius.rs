//! FreeRADIUS 3's `clients.conf`.
//!
//! ```text
//! client switches {
//!         ipaddr = 192.0.2.0/24
//!         secret = "a long one"          # and what else it has
//! }
//! client 192.0.2.7 { secret = old; shortname = old-form }
//! $INCLUDE clients.d/
//! ```
//!
//! What would let a packet in that is kept out today is refused by its name; what changes nothing here is left out with a
//! notice. No message shows a secret.

mod lexer;

use std::net::IpAddr;

use wire::radius::dictionary::{Fault, Source};
use zeroize::Zeroizing;

use self::lexer::{Lexer, Token, Word};
use super::{Demand, Network};

/// Files in files, at most.
const INCLUDE_DEPTH_MAX: usize = 16;
/// Files of one list, at most.
const FILES_MAX: usize = 2_000;
/// Sections in sections, at most.
const SECTION_DEPTH_MAX: usize = 16;
/// Mistakes, and notices, that are told at most.
const FAULTS_MAX: usize = 100;

/// Finds files: told the name of the file that includes them (empty: none does) and what stands there. A folder is all of its
/// files. None at all: there is no such file. Err: it cannot be read, and why.
pub type Include<'f> = dyn FnMut(&str, &str) -> Result<Vec<Source>, String> + 'f;

/// A client as the file has it.
#[derive(Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its short name, or what stands behind `client`.
    pub name: String,
    /// From where it asks.
    pub network: Network,
    /// What it shares with us; never empty.
    pub secret: Zeroizing<Vec<u8>>,
    /// `auto` where the file says nothing.
    pub require_message_authenticator: Demand,
    /// `yes` where the file says nothing.
    pub limit_proxy_state: Demand,
    /// The file.
    pub file: String,
    /// The line on which it begins.
    pub line: usize,
}

impl std::fmt::Debug for Listed {
    /// Without the secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listed")
            .field("name", &self.name)
            .field("network", &self.network)
            .finish_non_exhaustive()
    }
}

/// What was read.
#[derive(Debug, Default)]
pub struct Loaded {
    /// The clients that are right, in the order of the file.
    pub clients: Vec<Listed>,
    /// All mistakes, up to 100.
    pub faults: Vec<Fault>,
    /// What was left out, up to 100.
    pub notices: Vec<Fault>,
}

/// Reads a file and all that it includes.
pub fn load(file: &str, include: &mut Include<'_>) -> Loaded {
    let mut reader = Reader {
        loaded: Loaded::default(),
        include,
        files: 0,
    };
    reader.include(("", 0), file, true, 0);
    reader.loaded
}

struct Reader<'f, 'i> {
    loaded: Loaded,
    include: &'f mut Include<'i>,
    files: usize,
}

/// A file, and a line of it.
type Place<'p> = (&'p str, usize);

/// A client that is being read.
struct Open {
    name: String,
    short: Option<String>,
    address: Option<(IpAddr, Option<u8>)>,
    netmask: Option<u8>,
    secret: Option<Zeroizing<Vec<u8>>>,
    require: Option<Demand>,
    limit: Option<Demand>,
    /// Something about it is wrong, and was told.
    is_wrong: bool,
}

impl Reader<'_, '_> {
    fn fault(&mut self, at: Place<'_>, found: impl Into<String>, right: impl Into<String>) {
        push(&mut self.loaded.faults, at, found.into(), right.into());
    }

    fn notice(&mut self, at: Place<'_>, found: impl Into<String>, right: impl Into<String>) {
        push(&mut self.loaded.notices, at, found.into(), right.into());
    }

    fn include(&mut self, at: Place<'_>, name: &str, is_needed: bool, depth: usize) {
        let shown = if at.0.is_empty() { (name, 0) } else { at };
        if name.contains("${") {
            let right = "the name of the file, from the folder of this one: there is no radiusd.conf here";
            return self.fault(shown, format!("$INCLUDE {name}"), right);
        }
        let sources = match (self.include)(at.0, name) {
            Ok(sources) => sources,
            Err(why) => {
                return self.fault(
                    shown,
                    format!("{name} cannot be read: {why}"),
                    "a file that can be read",
                );
            }
        };
        if sources.is_empty() && is_needed {
            self.fault(
                shown,
                format!("there is no file {name}"),
                "the name of a file that is there",
            );
        }
        for source in sources {
            self.files += 1;
            if depth > INCLUDE_DEPTH_MAX || self.files > FILES_MAX {
                let right = format!("at most {INCLUDE_DEPTH_MAX} files in files, and {FILES_MAX} of them");
                return self.fault(shown, format!("$INCLUDE {name}, one file too many"), right);
            }
            let text = Zeroizing::new(source.text);
            self.file(&source.name, &text, depth);
        }
    }

    /// What stands in no section.
    fn file(&mut self, file: &str, text: &str, depth: usize) {
        let mut lexer = Lexer::new(text);
        loop {
            let line = lexer.line();
            let at = (file, line);
            match lexer.next() {
                Token::End => return,
                Token::Break => {}
                Token::Include(name, is_needed) => self.include(at, folders(&name), is_needed, depth + 1),
                Token::Close => self.fault(at, "a } without a section", "a { before it"),
                Token::Wrong(found, right) => self.fault(at, found, right),
                Token::Open | Token::Sign => {
                    self.fault(at, "a sign at the beginning of a line", "client NAME {");
                    lexer.skip_line();
                }
                Token::Word(word) => self.section((file, lexer.line()), &word, &mut lexer),
            }
        }
    }

    /// `client NAME {`, or something that is not for us.
    fn section(&mut self, at: Place<'_>, kind: &Word, lexer: &mut Lexer<'_>) {
        let kind = kind.text().unwrap_or_default();
        let name = match lexer.next() {
            Token::Sign => {
                lexer.skip_line();
                return self.notice(at, format!("{kind} = … is left out"), "only clients are read here");
            }
            Token::Open => None,
            Token::Word(name) => {
                let name = name.text();
                match lexer.next() {
                    Token::Open => name,
                    _ => {
                        lexer.skip_line();
                        return self.fault(at, format!("no {{ behind {kind}"), "client NAME {");
                    }
                }
            }
            _ => return self.fault(at, format!("nothing behind {kind}"), "client NAME {"),
        };
        match (kind.as_str(), name) {
            ("client", Some(name)) => self.client(at, name, lexer),
            ("client", None) => {
                self.fault(at, "a client without a name", "client NAME {");
                lexer.skip_section(SECTION_DEPTH_MAX);
            }
            ("clients", name) => {
                let found = format!("clients {} {{, a list of one listener", name.unwrap_or_default());
                self.fault(at, found, "a file of its own, named by the listener's clients_file");
                lexer.skip_section(SECTION_DEPTH_MAX);
            }
            _ => {
                self.notice(
                    at,
                    format!("the section {kind} is left out"),
                    "only clients are read here",
                );
                lexer.skip_section(SECTION_DEPTH_MAX);
            }
        }
    }

    fn client(&mut self, at: Place<'_>, name: String, lexer: &mut Lexer<'_>) {
        let mut open = Open {
            name,
            short: None,
            address: None,
            netmask: None,
            secret: None,
            require: None,
            limit: None,
            is_wrong: false,
        };
        loop {
            let here = (at.0, lexer.line());
            let wrong = match lexer.next() {
                Token::Break => continue,
                Token::Close => break,
                Token::End => {
                    self.fault(at, "a section that does not end", "a } behind it");
                    return;
                }
                Token::Word(key) => self.setting((at.0, lexer.line()), &key, lexer, &mut open),
                Token::Wrong(found, right) => Err((found, right)),
                Token::Include(name, _) => Err((
                    format!("$INCLUDE {name} inside a client"),
                    "the settings themselves".to_owned(),
                )),
                Token::Open | Token::Sign => {
                    lexer.skip_line();
                    Err((
                        "a sign at the beginning of a line".to_owned(),
                        "name = value".to_owned(),
                    ))
                }
            };
            if let Err((found, right)) = wrong {
                open.is_wrong = true;
                self.fault(here, found, right);
            }
        }
        match self.finish(at, open) {
            Ok(Some(listed)) => self.loaded.clients.push(listed),
            Ok(None) => {}
            Err((found, right)) => self.fault(at, found, right),
        }
    }

    fn setting(&mut self, at: Place<'_>, key: &Word, lexer: &mut Lexer<'_>, open: &mut Open) -> Result<(), Wrong> {
        let key = key.text().unwrap_or_default().to_ascii_lowercase();
        let value = match lexer.next() {
            Token::Sign => match lexer.value() {
                Token::Word(value) => value,
                Token::Wrong(found, right) => {
                    lexer.skip_line();
                    return Err((format!("{key}: {found}"), right));
                }
                _ => return Err((format!("{key} without a value"), format!("{key} = value"))),
            },
            Token::Open => {
                lexer.skip_section(SECTION_DEPTH_MAX);
                self.notice(
                    at,
                    format!("{key} {{ … }} is left out"),
                    "it concerns connections over TCP and TLS",
                );
                return Ok(());
            }
            _ => {
                lexer.skip_line();
                return Err((format!("no = behind {key}"), format!("{key} = value")));
            }
        };
        if !matches!(lexer.peek(), Token::Break | Token::Close | Token::End) {
            lexer.skip_line();
            return Err((
                format!("something behind the value of {key}"),
                "the end of the line, and quotes around a value with blanks".to_owned(),
            ));
        }
        if value.is_expanded() {
            return Err((
                format!("{key} with an expansion, ${{…}}"),
                "the value itself".to_owned(),
            ));
        }
        match key.as_str() {
            "secret" => once(&mut open.secret, "secret", value.into_octets()),
            _ => {
                let value = value
                    .text()
                    .ok_or_else(|| (format!("a value of {key}"), "UTF-8".to_owned()))?;
                self.plain_setting(at, &key, &value, open)
            }
        }
    }

    fn plain_setting(&mut self, at: Place<'_>, key: &str, value: &str, open: &mut Open) -> Result<(), Wrong> {
        let demand = || Demand::read(value).map_err(|right| (format!("{key} = {value}"), right.to_owned()));
        match key {
            "ipaddr" | "ipv4addr" | "ipv6addr" => {
                let address = address(key, value)?;
                once(&mut open.address, "ipaddr, ipv4addr or ipv6addr", address)?;
            }
            "netmask" => {
                let prefix = value.parse();
                let prefix = prefix.map_err(|_| (format!("netmask = {value}"), "the length of a prefix".to_owned()))?;
                once(&mut open.netmask, "netmask", prefix)?;
            }
            "shortname" => once(&mut open.short, "shortname", value.to_owned())?,
            "require_message_authenticator" => once(&mut open.require, "require_message_authenticator", demand()?)?,
            "limit_proxy_state" => once(&mut open.limit, "limit_proxy_state", demand()?)?,
            "proto" if matches!(value, "udp" | "*") => {}
            "proto" => {
                return Err((
                    format!("proto = {value}"),
                    "udp, which is what is served here".to_owned(),
                ));
            }
            "virtual_server" => {
                let right = "a listener of its own for these clients, with a clients file of its own";
                return Err((format!("virtual_server = {value}"), right.to_owned()));
            }
            "nas_type" | "nastype" | "login" | "password" | "response_window" => {
                self.notice(at, format!("{key} is left out"), "nothing here asks for it");
            }
            "coa_server" => {
                self.notice(
                    at,
                    format!("{key} is left out"),
                    "coa = \"ADDRESS:PORT\" in a clients file in TOML",
                );
            }
            "dynamic_clients" | "lifetime" => {
                return Err((format!("{key} = {value}"), "clients that the file names".to_owned()));
            }
            _ => self.notice(at, format!("{key} is left out"), "no setting that is known"),
        }
        Ok(())
    }

    /// None: what is wrong with it was told.
    fn finish(&mut self, at: Place<'_>, open: Open) -> Result<Option<Listed>, Wrong> {
        let section = open.name;
        if open.is_wrong {
            return Ok(None);
        }
        let (found, prefix) = match open.address {
            Some(address) => address,
            // The old form: what stands behind `client` is the address.
            None => address("client", &section)?,
        };
        let whole = if found.is_ipv4() { 32 } else { 128 };
        let all = if found.is_unspecified() { 0 } else { whole };
        let prefix = match prefix.or(open.netmask).unwrap_or(all) {
            // The address 0.0.0.0 alone is nobody's: all are meant.
            prefix if prefix == whole => all,
            prefix => prefix,
        };
        let network = Network::around(found, prefix)
            .ok_or_else(|| (format!("a prefix of {prefix} bits"), format!("at most {whole}")))?;
        let Some(secret) = open.secret.filter(|secret| !secret.is_empty()) else {
            return Err((
                format!("the client {section} has no secret"),
                "secret = \"…\"".to_owned(),
            ));
        };
        let mut name = open
            .short
            .filter(|short| !short.is_empty())
            .unwrap_or_else(|| section.clone());
        if name != section && self.loaded.clients.iter().any(|other| other.name == name) {
            let found = format!("the short name {name} is another client's already");
            self.notice(at, found, format!("it is called {section}"));
            name = section;
        }
        Ok(Some(Listed {
            name,
            network,
            secret,
            require_message_authenticator: open.require.unwrap_or(Demand::Auto),
            limit_proxy_state: open.limit.unwrap_or(Demand::Yes),
            file: at.0.to_owned(),
            line: at.1,
        }))
    }
}

/// What was found, and what would be right.
type Wrong = (String, String);

fn once<T>(slot: &mut Option<T>, what: &str, value: T) -> Result<(), Wrong> {
    if slot.replace(value).is_some() {
        return Err((format!("{what} twice"), "one of them".to_owned()));
    }
    Ok(())
}

/// An address, and the length of its prefix where one is written.
fn address(key: &str, value: &str) -> Result<(IpAddr, Option<u8>), Wrong> {
    let wrong = || {
        let right = match key {
            "ipv4addr" => "an address like 192.0.2.7 or 192.0.2.0/24",
            "ipv6addr" => "an address like 2001:db8::7 or 2001:db8::/32",
            _ => "an address like 192.0.2.7, 192.0.2.0/24 or 2001:db8::/32: names are not looked up here",
        };
        (format!("{key} {value}"), right.to_owned())
    };
    let (address, prefix) = match value.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix.parse().map_err(|_| wrong())?)),
        None => (value, None),
    };
    let address = match (address, key) {
        ("*", "ipv6addr") => "::",
        ("*", _) => "0.0.0.0",
        (address, _) => address,
    };
    let address: IpAddr = address.parse().map_err(|_| wrong())?;
    let fits = match key {
        "ipv4addr" => address.is_ipv4(),
        "ipv6addr" => address.is_ipv6(),
        _ => true,
    };
    if fits { Ok((address, prefix)) } else { Err(wrong()) }
}

/// The folder of FreeRADIUS's configuration, by its names: it is where the file is that names it.
fn folders(name: &str) -> &str {
    let rest = ["${confdir}/", "${raddbdir}/"]
        .iter()
        .find_map(|folder| name.strip_prefix(folder));
    rest.unwrap_or(name)
}

fn push(list: &mut Vec<Fault>, (file, line): Place<'_>, found: String, right: String) {
    if list.len() < FAULTS_MAX {
        list.push(Fault {
            file: file.to_owned(),
            line,
            found,
            right,
        });
    }
}

#[cfg(test)]
mod tests;
