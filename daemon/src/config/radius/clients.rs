//! Who may ask in RADIUS: a clients file, in our form (`.toml`) or as FreeRADIUS's `clients.conf` (any other name).

use std::net::{IpAddr, SocketAddr};

use engine::radius::clients::{Client, Clients, Demand, Network, Rate, freeradius};
use toml::de::{DeTable, DeValue};
use zeroize::Zeroizing;

use super::super::diagnostic::{At, Diagnostic, Place, Problems};
use super::super::files::{self, Folder};
use super::super::keys::Kind;
use super::super::reader::{Section, place};
use super::sources;

/// The port of Disconnect and CoA (RFC 5176).
const COA_PORT: u16 = 3799;
/// Packets of one client in a second, at most: more than one is let send.
const RATE_MAX: i64 = 10_000_000;
/// A shorter secret is found by trying (RFC 2865 section 3 asks for 16).
const SECRET_BYTES_GOOD: usize = 8;
/// What FreeRADIUS's own example has.
const SECRET_KNOWN: &[u8] = b"testing123";

const DEMANDS: [(&str, Demand); 3] = [("auto", Demand::Auto), ("yes", Demand::Yes), ("no", Demand::No)];

/// Reads a clients file. None: something is wrong, and was told.
pub fn clients(p: &mut Problems, folder: &Folder, file: &At<String>) -> Option<Clients> {
    let (clients, holds_secrets) = if sources::is_toml(file) {
        sources::toml(p, folder, file, "the clients file", in_toml)?
    } else {
        (in_freeradius(p, folder, file)?, true)
    };
    if holds_secrets {
        files::warn_if_open(p, folder, file, "shared secrets");
    }
    if clients.iter().len() == 0 {
        let path = folder.path(&file.value);
        p.warning(&file.place, format!("no client in {}: nobody may ask", path.display()))
            .help("[client.NAME] with address and secret_file");
    }
    Some(clients)
}

/// Reads a clients file for itself, named on a command line; and what is doubtful in it.
///
/// # Errors
/// All that is wrong with it.
pub fn alone(file: &str) -> Result<(Clients, Vec<Diagnostic>), Vec<Diagnostic>> {
    let mut p = Problems::new(None);
    let folder = Folder::new(std::path::Path::new(""));
    let found = clients(&mut p, &folder, &At::new(file.to_owned(), Place::Flag("--clients")));
    let wrong = p.has_errors();
    let list = p.into_list();
    match found {
        Some(clients) if !wrong => Ok((clients, list)),
        _ => Err(list),
    }
}

/// What is worth knowing of a client, whatever its file looks like: what is doubtful, and what would be right.
pub fn doubts(
    name: &str,
    secret: &[u8],
    networks: &[Network],
    demands: (Demand, Demand),
) -> Vec<(String, &'static str)> {
    let mut told = Vec::new();
    let make = "make one with: head -c 24 /dev/urandom | base64";
    if secret == SECRET_KNOWN {
        if !networks.iter().all(|network| network.is_loopback()) {
            told.push((
                format!("the secret of client {name} is the example that everybody knows"),
                make,
            ));
        }
    } else if secret.len() < SECRET_BYTES_GOOD {
        told.push((
            format!(
                "the secret of client {name} has {} octets, and can be found by trying",
                secret.len()
            ),
            make,
        ));
    }
    if demands == (Demand::No, Demand::No) {
        let found = format!("answers to client {name} can be forged (CVE-2024-3596): nothing protects its requests");
        told.push((
            found,
            "require_message_authenticator or limit_proxy_state, as auto or yes",
        ));
    }
    told
}

fn in_freeradius(p: &mut Problems, folder: &Folder, file: &At<String>) -> Option<Clients> {
    let path = folder.path(&file.value).display().to_string();
    let loaded = freeradius::load(&path, &mut sources::include_all);
    let mut clients = Clients::default();
    let mut is_right = loaded.faults.is_empty();
    if !is_right {
        p.error(&file.place, format!("the clients file {path} cannot be used"));
    }
    p.take(loaded.faults.iter().map(sources::mistake));
    p.take(loaded.notices.iter().map(sources::doubt));
    for listed in &loaded.clients {
        let at = format!("{}:{}", listed.file, listed.line);
        let demands = (listed.require_message_authenticator, listed.limit_proxy_state);
        for (found, right) in doubts(&listed.name, &listed.secret, &[listed.network], demands) {
            let mut doubt = Diagnostic::warning(format!("{at}: {found}"));
            doubt.help(right);
            p.take([doubt]);
        }
        let mut client = Client::new(&listed.name, &listed.secret);
        (client.require_message_authenticator, client.limit_proxy_state) = demands;
        if let Err(why) = clients.add(client, &[listed.network]) {
            p.take([Diagnostic::error(format!("{at}: {why}"))]);
            is_right = false;
        }
    }
    is_right.then_some(clients)
}

/// The clients, and whether a secret stands in the file.
fn in_toml(p: &mut Problems, folder: &Folder, table: &DeTable<'_>) -> (Clients, bool) {
    let mut root = Section::new(Kind::RadiusClients, "the clients file", Place::Nowhere, table);
    let mut sections = root.named(p, "client", Kind::RadiusClient);
    root.finish(p);
    // The table is in the order of its names.
    sections.sort_by_key(|(name, _)| start(&name.place));
    let mut clients = Clients::default();
    let mut holds_secrets = false;
    for (name, mut section) in sections {
        holds_secrets |= section.has("secret");
        let read = client(p, folder, &name, &mut section);
        section.finish(p);
        if let Some((client, networks)) = read
            && let Err(why) = clients.add(client, &networks)
        {
            p.error(&name.place, why);
        }
    }
    (clients, holds_secrets)
}

/// Where something stands in its file.
pub(in crate::config) fn start(place: &Place) -> usize {
    match place {
        Place::Text(span) => span.start,
        Place::Flag(_) | Place::Nowhere => usize::MAX,
    }
}

fn client(
    p: &mut Problems,
    folder: &Folder,
    name: &At<String>,
    section: &mut Section<'_>,
) -> Option<(Client, Vec<Network>)> {
    let networks = networks(p, section);
    let secret = secret(p, folder, section);
    let require = section.choice(p, "require_message_authenticator", &DEMANDS, &[]);
    let limit = section.choice(p, "limit_proxy_state", &DEMANDS, &[]);
    let rate = rate(p, section);
    let tags = section.strings(p, "tags");
    let coa = section.string(p, "coa").and_then(|written| coa(p, &written));
    if name.value.trim().is_empty() {
        p.error(&name.place, "a client without a name").help("[client.NAME]");
        return None;
    }
    let (networks, secret) = (networks?, secret?);
    let mut client = Client::new(&name.value, &secret.value);
    if let Some(require) = require {
        client.require_message_authenticator = require.value;
    }
    if let Some(limit) = limit {
        client.limit_proxy_state = limit.value;
    }
    client.rate = rate;
    client.tags = tags.map_or_else(Vec::new, |tags| tags.value.into_iter().map(|tag| tag.value).collect());
    client.coa = coa;
    let demands = (client.require_message_authenticator, client.limit_proxy_state);
    for (found, right) in doubts(&name.value, &secret.value, &networks, demands) {
        p.warning(&secret.place, found).help(right);
    }
    Some((client, networks))
}

/// `address`: one, or several.
fn networks(p: &mut Problems, section: &mut Section<'_>) -> Option<Vec<Network>> {
    let Some((value, at)) = section.value("address") else {
        p.error(&section.place, format!("{} has no `address`", section.title))
            .help("address = \"192.0.2.7\", or [\"192.0.2.0/24\", \"2001:db8::/32\"]");
        return None;
    };
    let written: Vec<(Option<&str>, Place)> = match value.get_ref() {
        DeValue::String(text) => vec![(Some(text), at.clone())],
        DeValue::Array(items) => {
            let texts = items.iter().map(|item| match item.get_ref() {
                DeValue::String(text) => (Some(&**text), place(item)),
                _ => (None, place(item)),
            });
            texts.collect()
        }
        _ => vec![(None, at.clone())],
    };
    if written.is_empty() {
        p.error(&at, format!("`address` in {} is empty", section.title))
            .help("at least one address or network");
        return None;
    }
    let mut networks = Vec::with_capacity(written.len());
    for (text, at) in &written {
        match text.map(Network::read) {
            Some(Ok(network)) => networks.push(network),
            Some(Err(why)) => {
                p.error(at, why);
            }
            None => {
                p.error(
                    at,
                    format!(
                        "`address` in {} must be text in quotes, or a list of such",
                        section.title
                    ),
                );
            }
        }
    }
    (networks.len() == written.len()).then_some(networks)
}

fn secret(p: &mut Problems, folder: &Folder, section: &mut Section<'_>) -> Option<At<Zeroizing<Vec<u8>>>> {
    let file = section.string(p, "secret_file");
    let inline = section.secret(p, "secret");
    let found = match (file, inline) {
        (Some(file), None) => {
            let secret = files::one_line(p, folder, &file, "the secret file", "a shared secret")?;
            At::new(secret, file.place)
        }
        (None, Some(inline)) => inline.map(|text| Zeroizing::new(text.as_bytes().to_vec())),
        (Some(file), Some(_)) => {
            p.error(
                &file.place,
                format!("{} has a `secret` and a `secret_file`", section.title),
            )
            .help("one of them");
            return None;
        }
        (None, None) => {
            let is_absent = p.absent(&section.place, "secret_file") && p.absent(&section.place, "secret");
            if is_absent {
                p.error(&section.place, format!("{} has no secret", section.title))
                    .help("secret_file = \"…\", or secret = \"…\"");
            }
            return None;
        }
    };
    if found.value.is_empty() {
        p.error(&found.place, format!("the secret of {} is empty", section.title));
        return None;
    }
    Some(found)
}

fn rate(p: &mut Problems, section: &mut Section<'_>) -> Option<Rate> {
    let rate = section.integer(p, "rate", 1, RATE_MAX);
    let burst = section.integer(p, "burst", 1, RATE_MAX);
    let number = |written: i64| u32::try_from(written).unwrap_or(u32::MAX);
    match (rate, burst) {
        (Some(rate), burst) => Some(Rate {
            per_sec: number(rate.value),
            burst: number(burst.map_or(rate.value, |burst| burst.value)),
        }),
        (None, Some(burst)) => {
            if p.absent(&section.place, "rate") {
                p.error(&burst.place, format!("`burst` in {} without a `rate`", section.title))
                    .help("rate = 500, the packets of a second");
            }
            None
        }
        (None, None) => None,
    }
}

fn coa(p: &mut Problems, written: &At<String>) -> Option<SocketAddr> {
    let text = &written.value;
    let found = text
        .parse()
        .or_else(|_| text.parse::<IpAddr>().map(|address| SocketAddr::new(address, COA_PORT)));
    if found.is_err() {
        p.error(&written.place, format!("`coa` is no address: {text}"))
            .help(format!(
                "an address and a port like 192.0.2.1:{COA_PORT} or [2001:db8::1]:{COA_PORT}"
            ));
    }
    found.ok()
}
