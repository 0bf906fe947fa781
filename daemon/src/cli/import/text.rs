//! TOML as it is written here, and the configuration that goes with the translated files.

use std::fmt::Write as _;
use std::path::PathBuf;

use wire::radius::dictionary::Fault;
use zeroize::Zeroizing;

/// A text in quotes.
pub fn quoted(text: &str) -> Zeroizing<String> {
    let mut written = Zeroizing::new(String::with_capacity(text.len() + 2));
    written.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                written.push('\\');
                written.push(c);
            }
            c if c.is_control() => {
                let _ = write!(*written, "\\u{:04X}", u32::from(c));
            }
            c => written.push(c),
        }
    }
    written.push('"');
    written
}

/// A part of a name: in quotes where it needs them.
pub fn key(name: &str) -> Zeroizing<String> {
    let is_bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if !name.is_empty() && name.chars().all(is_bare) {
        Zeroizing::new(name.to_owned())
    } else {
        quoted(name)
    }
}

/// A comment, whatever is in it.
pub fn comment(text: &str) -> String {
    let plain: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    format!("# {plain}\n")
}

/// The head of a translated file.
pub fn head(what: &str, file: &str, faults: &[Fault], notices: &[Fault]) -> Zeroizing<String> {
    let mut text = Zeroizing::new(comment(&format!(
        "The {what} of {file}, translated by `usherd import freeradius`."
    )));
    text.push_str("# This file holds secrets: nobody but the daemon should read it.\n");
    lists(&mut text, faults, notices);
    text
}

/// What could not be translated, and what is worth knowing.
pub fn lists(text: &mut String, faults: &[Fault], notices: &[Fault]) {
    for (title, list) in [
        ("Missing, because it has no counterpart here:", faults),
        ("Worth knowing; what is left out changes nothing:", notices),
    ] {
        if !list.is_empty() {
            text.push_str("#\n");
            text.push_str(&comment(title));
            list.iter()
                .for_each(|fault| text.push_str(&comment(&format!("  {fault}"))));
        }
    }
}

/// `usherd.toml` beside clients.toml and users.toml.
pub fn configuration(dictionaries: &[PathBuf]) -> String {
    let mut authentication = String::new();
    if !dictionaries.is_empty() {
        let names: Vec<String> = dictionaries
            .iter()
            .map(|path| quoted(&path.display().to_string()).to_string())
            .collect();
        authentication = format!("dictionary_files = [{}]\n", names.join(", "));
    }
    format!(
        "\
# A RADIUS server with the clients and users that `usherd import freeradius` has translated.
# Look at clients.toml and users.toml first; then:
#
#   usherd check -c usherd.toml      every mistake at once
#   usherd run -c usherd.toml        the daemon, in the foreground

# Access-Request and Status-Server.
[[listen]]
protocol = \"radius\"
address = \"[::]:1812\"               # IPv6 and IPv4
answer = \"authentication\"
clients_file = \"clients.toml\"       # who may ask, and their secrets
{authentication}authenticate = {{ users_file = \"users.toml\" }}

# Accounting-Request: a line of JSON each, acknowledged once it is written. Beside this file; /var/log is a better place.
[[listen]]
protocol = \"radius\"
address = \"[::]:1813\"
answer = \"accounting\"
clients_file = \"clients.toml\"
{authentication}accounting = {{ file = \"accounting.json\" }}
"
    )
}
