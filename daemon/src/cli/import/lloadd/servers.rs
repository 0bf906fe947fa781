//! Tiers and their servers.

use super::lex::Line;
use super::model::{Model, Policy, Server, Settings, Tier};
use super::settings::one;
use super::told::{At, Told};
use crate::config::values::{self, Scheme};

/// Largest weight that we take.
const WEIGHT_MAX: u32 = 1_000_000;
/// Most connections of a server.
const CONNECTIONS_MAX: u64 = 10_000;

/// `tier TYPE`.
pub fn tier(model: &mut Model, line: &Line, told: &mut Told) {
    let Some(word) = one(line, told) else { return };
    let policy = match word.text.to_ascii_lowercase().as_str() {
        "roundrobin" => Policy::RoundRobin,
        "weighted" => Policy::Weighted,
        "bestof" => Policy::BestOf,
        other => {
            let found = format!("lloadd has no tier {other}");
            told.fault(&line.at_word(word), &found, "roundrobin is taken");
            Policy::RoundRobin
        }
    };
    model.tiers.push(Tier {
        at: line.at(),
        policy,
        servers: Vec::new(),
    });
}

/// `backend-server KEY=VALUE…`.
pub fn server(model: &mut Model, line: &Line, told: &mut Told) {
    let mut server = Server {
        at: line.at(),
        url: String::new(),
        weight: 0,
        settings: Settings::default(),
    };
    let mut scheme = None;
    let mut starttls = None;
    for word in &line.words {
        let at = line.at_word(word);
        let Some((key, value)) = word.text.split_once('=') else {
            let found = format!("`{}` of backend-server without a =", word.text.as_str());
            told.fault(&at, &found, "KEY=VALUE");
            continue;
        };
        match key.to_ascii_lowercase().as_str() {
            "uri" => scheme = uri(&mut server, value, &at, told),
            "starttls" => starttls = Some((value.to_ascii_lowercase(), at)),
            key => count(model, &mut server, key, value, &at, told),
        }
    }
    let Some(scheme) = scheme else {
        if server.url.is_empty() {
            told.fault(&line.at(), "a backend-server without a uri", "it is left out");
        }
        return;
    };
    if let Some((value, at)) = starttls {
        start_tls(&mut server, scheme, &value, &at, told);
    }
    let Some(tier) = model.tiers.last_mut() else {
        told.fault(&line.at(), "a backend-server before the first tier", "it is left out");
        return;
    };
    tier.servers.push(server);
}

fn uri(server: &mut Server, value: &str, at: &At, told: &mut Told) -> Option<Scheme> {
    let text = value.trim_end_matches('/');
    server.url = text.to_owned();
    match values::server_url(text) {
        Ok(url) => Some(url.scheme),
        Err(right) => {
            told.fault(at, &format!("uri={value}: the server is left out"), &right);
            None
        }
    }
}

fn start_tls(server: &mut Server, scheme: Scheme, value: &str, at: &At, told: &mut Told) {
    let here = match value {
        "no" => return,
        "yes" => "tried",
        "critical" => "required",
        _ => return told.fault(at, &format!("starttls={value}"), "yes or critical"),
    };
    if scheme == Scheme::Ldap {
        server.settings.text("starttls", here, format!("{at} starttls"));
    } else {
        told.notice(at, &format!("starttls={value} is left out"), "it is for ldap:// alone");
    }
}

fn count(model: &mut Model, server: &mut Server, key: &str, value: &str, at: &At, told: &mut Told) {
    let known = [
        "numconns",
        "bindconns",
        "retry",
        "max-pending-ops",
        "conn-max-pending",
        "weight",
    ];
    if !known.contains(&key) {
        return told.fault(at, &format!("a backend-server has no {key}="), "it is left out");
    }
    let Ok(number) = value.parse::<u64>() else {
        return told.fault(at, &format!("{key}={value}"), "a number");
    };
    let from = format!("{at} {key}");
    let connections = number.clamp(1, CONNECTIONS_MAX);
    match key {
        "numconns" => {
            server.settings.plain("connections", connections, from.clone());
            server.settings.plain("connections_max", connections, from);
        }
        "bindconns" => server.settings.plain("bind_connections_max", connections, from),
        "max-pending-ops" => server.settings.plain("pending_max", number, from),
        "conn-max-pending" => server.settings.plain("connection_pending_max", number, from),
        "weight" => server.weight = u32::try_from(number).unwrap_or(u32::MAX).min(WEIGHT_MAX),
        _ => model.retries.push((number, at.clone())),
    }
}

/// What the weights of a tier are here; none where they say nothing.
///
/// lloadd's `weighted` takes a larger one for more, and 0 for a little; `bestof` takes it as a factor of the latency: a
/// larger one for less.
pub fn weights(tier: &Tier, told: &mut Told) -> Option<Vec<u32>> {
    let written: Vec<u32> = tier.servers.iter().map(|server| server.weight).collect();
    let first = *written.first()?;
    if written.iter().all(|weight| *weight == first) {
        return None;
    }
    match tier.policy {
        Policy::RoundRobin => {
            let right = "it has no effect under roundrobin";
            told.notice(&tier.at, "the weights of this tier are left out", right);
            None
        }
        Policy::Weighted => {
            if written.contains(&0) {
                let right =
                    "here it is used only when nothing else of its tier is up; there it was chosen now and then";
                told.notice(&tier.at, "a server of this tier has the weight 0", right);
            }
            Some(written)
        }
        Policy::BestOf => {
            let right = "turned round: there a larger one is for less, here for more";
            told.notice(&tier.at, "the weights of this tier", right);
            let least = u64::from(written.iter().copied().filter(|weight| *weight > 0).min()?);
            let turned = written.iter().map(|weight| {
                let turned = least * 1000 / u64::from(*weight).max(least);
                u32::try_from(turned).unwrap_or(1).max(1)
            });
            Some(turned.collect())
        }
    }
}
