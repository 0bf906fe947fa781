//! RADIUS listeners: who may ask, who is asked, and what becomes of accounting.

pub mod accounting;
mod backends;
pub mod clients;
pub mod raw;
pub mod raw_accounting;
pub mod raw_rules;
pub mod rules;
pub mod sources;
pub mod users;

use std::sync::Arc;
use std::time::Duration;

use engine::radius::mac::Format;
use engine::radius::policy::Policy;
use engine::session::radius::plan::{Accounting, Chain, Mac, Plan, Port, Settings};
use wire::radius::Dictionary;

use super::diagnostic::{At, Place, Problems};
use super::files::Folder;
use super::plan::{Face, Radius};
use super::raw::{Listen, Raw};
use crate::accounting::plan::Settings as RecordSettings;
use crate::drive::span;
use accounting::Around;
use backends::Gathered;

/// Of each socket: some thousand requests that wait while a worker is at something else.
const RECEIVE_BUFFER_BYTES: usize = 4 << 20;
/// The kernel makes a tenth of a millisecond of it.
const MODERATION: Duration = Duration::from_micros(50);

/// Settings that only these listeners have.
pub(super) fn refuse(p: &mut Problems, listen: &Listen) {
    for (key, place) in raw::KEYS.iter().zip(&listen.radius.places) {
        if let Some(place) = place {
            p.error(place, format!("`{key}` is for radius listeners"))
                .help("remove it");
        }
    }
}

/// Settings of the others.
fn refuse_others(p: &mut Problems, listen: &Listen) {
    fn at<T>(written: &Option<At<T>>) -> Option<&Place> {
        written.as_ref().map(|at| &at.place)
    }
    let written = [
        ("directory", at(&listen.directory)),
        ("service", at(&listen.service)),
        ("tls", listen.tls.as_ref().map(|tls| &tls.place)),
        ("starttls", at(&listen.starttls)),
        ("mode", at(&listen.mode)),
        ("partial_timeout", at(&listen.partial_timeout)),
        ("write_timeout", at(&listen.write_timeout)),
        ("idle_timeout", at(&listen.idle_timeout)),
        ("outbox_bytes_max", at(&listen.outbox_bytes_max)),
        ("tcp_unsent_bytes_max", at(&listen.unsent_bytes_max)),
        ("turn_messages_max", at(&listen.turn_messages_max)),
        ("clients_max", at(&listen.clients_max)),
    ];
    for (key, place) in written.into_iter().chain(listen.tcp.places()) {
        let Some(place) = place else { continue };
        let problem = p.error(place, format!("`{key}` is not for radius listeners"));
        problem.help(match key {
            "directory" | "service" => format!("write authenticate = {{ {key} = \"NAME\" }}"),
            "tls" => "RADIUS over TLS (RFC 6614) is to come; remove it".to_owned(),
            _ => "remove it".to_owned(),
        });
    }
}

/// The face of a radius listener.
pub(super) fn face(p: &mut Problems, raw: &Raw, listen: &Listen, folder: &Folder) -> Option<Face> {
    refuse_others(p, listen);
    let written = &listen.radius;
    let clients = match &written.clients_file {
        Some(file) => clients::clients(p, folder, file),
        None => {
            if p.absent(&listen.place, "clients_file") {
                p.error(&listen.place, "a radius listener without clients")
                    .help("add clients_file = \"clients.toml\": who may ask, and what each shares with us");
            }
            None
        }
    };
    let dictionary = match &written.dictionary_files {
        Some(files) => sources::dictionary(p, folder, &files.value)?,
        None => Arc::new(Dictionary::standard()),
    };
    let port = written.answer.as_ref().map_or(Port::Both, |at| at.value);
    let mut gathered = Gathered {
        raw,
        folder,
        dictionary: Arc::clone(&dictionary),
        backends: Vec::new(),
        targets: Vec::new(),
        users: Vec::new(),
    };
    let chains = if port == Port::Accounting {
        refuse_authentication(p, written);
        Vec::new()
    } else {
        chains(p, listen, &mut gathered)
    };
    let mac = mac(p, written.mac.as_ref(), &chains);
    // As written: a chain that is wrong is told once, and not again by each rule that names it.
    let others = written.chains.iter().map(|(name, _)| name.value.as_str());
    let names: Vec<&str> = std::iter::once("default").chain(others).collect();
    let policy = if port == Port::Accounting {
        Policy::default()
    } else {
        rules::rules(p, &written.rules, &dictionary, &names)
    };
    let mut plan = Plan::new(port, Arc::new(clients?), dictionary);
    plan.listener = listen.address.as_ref().map_or_else(String::new, |at| at.value.clone());
    plan.backends = gathered.backends;
    plan.chains = chains;
    plan.mac = mac;
    plan.needs_groups = policy.needs_groups();
    plan.policy = Arc::new(policy);
    plan.settings = settings(written);
    let accounting = accounting(p, raw, listen, folder, &plan)?;
    if accounting.is_some() {
        plan.accounting = Accounting::Write;
    }
    let face = Radius {
        plan: Arc::new(plan),
        targets: gathered.targets,
        accounting,
        receive_buffer_bytes: written
            .receive_buffer_bytes
            .as_ref()
            .map_or(RECEIVE_BUFFER_BYTES, |at| at.value),
        moderation: written.moderation.as_ref().map_or(MODERATION, |at| at.value),
    };
    (!p.has_errors()).then(|| Face::Radius(Arc::new(face)))
}

/// Where records go.
#[expect(
    clippy::option_option,
    reason = "what is wrong, and what is to be done, are two things"
)]
fn accounting(
    p: &mut Problems,
    raw: &Raw,
    listen: &Listen,
    folder: &Folder,
    plan: &Plan,
) -> Option<Option<RecordSettings>> {
    let Some(written) = &listen.radius.accounting else {
        if !p.absent(&listen.place, "accounting") {
            return None;
        }
        if plan.port != Port::Authentication {
            p.warning(&listen.place, "accounting is acknowledged and thrown away").help(
                "add accounting = { file = \"/var/log/usherd/accounting.json\" }; or write accounting = \"discard\", or \
                 answer = \"authentication\"",
            );
        }
        return Some(None);
    };
    if plan.port == Port::Authentication {
        let at = raw::KEYS.iter().position(|other| *other == "accounting");
        let place = at
            .and_then(|at| listen.radius.places.get(at)?.as_ref())
            .unwrap_or(&listen.place);
        p.error(place, "`accounting` where only authentication is answered")
            .help("remove it, or write answer = \"both\"");
        return None;
    }
    let services: Vec<&str> = raw.services.iter().map(|(name, _)| name.value.as_str()).collect();
    let state_dir = raw.server.state_dir.as_ref().map(|at| folder.path(&at.value));
    let around = Around {
        folder,
        services: &services,
        dictionary: &plan.dictionary,
        state_dir: state_dir.as_deref(),
        listener: &plan.listener,
    };
    accounting::check(p, written, &around)
}

/// Who is asked where nobody asks for authentication.
fn refuse_authentication(p: &mut Problems, written: &raw::Radius) {
    for key in ["authenticate", "ask", "chain", "mac", "rule"] {
        let at = raw::KEYS.iter().position(|other| *other == key);
        if let Some(place) = at.and_then(|at| written.places.get(at)?.as_ref()) {
            p.error(place, format!("`{key}` where only accounting is answered"))
                .help("remove it, or write answer = \"both\"");
        }
    }
}

fn chains(p: &mut Problems, listen: &Listen, gathered: &mut Gathered<'_>) -> Vec<Chain> {
    let written = &listen.radius;
    let mut chains = Vec::new();
    chains.extend(gathered.chain(p, "default", &written.chain, &listen.place));
    for (name, chain) in &written.chains {
        super::check::check_name(p, "chain", name);
        if name.value == "default" {
            p.error(&name.place, "`default` is the chain of `authenticate` itself")
                .help("give it another name");
        }
        chains.extend(gathered.chain(p, &name.value, chain, &name.place));
    }
    chains
}

fn mac(p: &mut Problems, written: Option<&raw::Mac>, chains: &[Chain]) -> Option<Mac> {
    let written = written?;
    let chain = match &written.chain {
        Some(name) => chain_named(p, chains, name),
        None => {
            if p.absent(&written.place, "chain") {
                p.error(&written.place, "it is not said who knows the devices").help(
                    "add chain = \"devices\", and [listen.chain.devices] authenticate = { … }: whoever is asked there \
                     lets in every address that it knows",
                );
            }
            None
        }
    };
    let format = match written.format.as_ref().map(|at| (at, Format::read(&at.value))) {
        None => Format::default(),
        Some((_, Ok(format))) => format,
        Some((at, Err(right))) => {
            p.error(&at.place, "`format` is not how an address is written")
                .label(format!("found \"{}\"", at.value))
                .help(format!("write {right}"));
            return None;
        }
    };
    Some(Mac { chain: chain?, format })
}

/// The index of a chain that is named.
pub(super) fn chain_named(p: &mut Problems, chains: &[Chain], name: &At<String>) -> Option<usize> {
    let names: Vec<&str> = chains.iter().map(|chain| chain.name.as_str()).collect();
    if !super::check::named(p, "listen.chain", &names, name) {
        return None;
    }
    names.iter().position(|other| *other == name.value)
}

fn settings(written: &raw::Radius) -> Settings {
    let mut settings = Settings::default();
    for (slot, from) in [
        (&mut settings.request_timeout, &written.request_timeout),
        (&mut settings.patience, &written.patience),
        (&mut settings.reject_delay, &written.reject_delay),
        (&mut settings.duplicates.cleanup_delay, &written.cleanup_delay),
    ] {
        if let Some(from) = from {
            *slot = span(from.value);
        }
    }
    for (slot, from) in [
        (&mut settings.delayed_max, &written.rejects_delayed_max),
        (&mut settings.requests_max, &written.requests_max),
        (&mut settings.duplicates.bytes_max, &written.duplicates_bytes_max),
    ] {
        if let Some(from) = from {
            *slot = from.value;
        }
    }
    settings
}
