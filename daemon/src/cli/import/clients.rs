//! clients.conf → clients.toml.

use std::fmt::Write as _;

use engine::radius::clients::freeradius::{self, Listed};
use engine::radius::clients::{Client, Clients, Demand};
use wire::radius::dictionary::Fault;

use super::Translated;
use super::text::{comment, head, key, quoted};
use crate::config::radius::{clients, sources};

/// Translates a file and all that it includes.
pub fn translate(file: &str) -> Translated {
    let freeradius::Loaded {
        clients,
        mut faults,
        mut notices,
    } = freeradius::load(file, &mut sources::include_all);
    let mut known = Clients::default();
    let mut body = Vec::with_capacity(clients.len());
    for listed in &clients {
        let fault = |found: String, right: &str| Fault {
            file: listed.file.clone(),
            line: listed.line,
            found,
            right: right.to_owned(),
        };
        if listed.name.trim().is_empty() {
            faults.push(fault("a client without a name".to_owned(), "client NAME {"));
            continue;
        }
        let Ok(secret) = std::str::from_utf8(&listed.secret) else {
            let found = format!("the secret of client {} is no UTF-8", listed.name);
            faults.push(fault(found, "a file of its own, and secret_file"));
            continue;
        };
        if let Err(why) = known.add(Client::new(&listed.name, &listed.secret), &[listed.network]) {
            let (found, right) = why.split_once(": ").unwrap_or((&why, "one of them"));
            faults.push(fault(found.to_owned(), right));
            continue;
        }
        let demands = (listed.require_message_authenticator, listed.limit_proxy_state);
        let doubts = clients::doubts(&listed.name, &listed.secret, &[listed.network], demands);
        notices.extend(doubts.into_iter().map(|(found, right)| fault(found, right)));
        body.push((listed, secret));
    }
    let mut text = head("clients", file, &faults, &notices);
    for (listed, secret) in body {
        client(&mut text, listed, secret);
    }
    Translated { text, faults, notices }
}

fn client(text: &mut String, listed: &Listed, secret: &str) {
    text.push('\n');
    text.push_str(&comment(&format!("{}:{}", listed.file, listed.line)));
    let _ = writeln!(text, "[client.{}]", *key(&listed.name));
    let _ = writeln!(text, "address = \"{}\"", listed.network);
    let _ = writeln!(text, "secret = {}", *quoted(secret));
    if listed.require_message_authenticator != Demand::Auto {
        let word = word(listed.require_message_authenticator);
        let _ = writeln!(text, "require_message_authenticator = \"{word}\"");
    }
    if listed.limit_proxy_state != Demand::Yes {
        let _ = writeln!(text, "limit_proxy_state = \"{}\"", word(listed.limit_proxy_state));
    }
}

fn word(demand: Demand) -> &'static str {
    match demand {
        Demand::Yes => "yes",
        Demand::No => "no",
        Demand::Auto => "auto",
    }
}
