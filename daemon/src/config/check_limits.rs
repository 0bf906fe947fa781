//! `[listen.limits]`: what was written of it, and what it means. `[listen.lockout]` is read beside it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use engine::core::limits::{Quota, Rate};
use engine::radius::clients::Network;

use super::check_lockout::{self, Lockout};
use super::check_proxy::network;
use super::diagnostic::{At, Place, Problems};
use super::keys::Kind;
use super::raw::{Listen, Protocol};
use super::reader::Section;
use crate::limits::{LimitsPlan, Over, SearchCaps, SearchOverride, SearchPlan};
use crate::lockouts::normal;

/// The settings that it has.
pub const KEYS: [&str; 18] = [
    "connections_max",
    "connect_rate",
    "connect_burst",
    "address_rate",
    "address_burst",
    "address_pending_max",
    "dn_rate",
    "dn_burst",
    "dn_pending_max",
    "search_entries_max",
    "search_time_max",
    "over",
    "delay_max",
    "exempt",
    "override",
    "entries_max",
    "prefix_v4",
    "prefix_v6",
];
/// Those of an override.
pub const OVERRIDE_KEYS: [&str; 10] = [
    "network",
    "dn",
    "connections_max",
    "connect_rate",
    "connect_burst",
    "rate",
    "burst",
    "pending_max",
    "search_entries_max",
    "search_time_max",
];

const MILLISECOND: Duration = Duration::from_millis(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const COUNT_MAX: usize = 1_000_000;
const SEARCH_ENTRIES_MAX: usize = 1_000_000_000;
const OVERS: [(&str, Over); 2] = [("delay", Over::Delay), ("busy", Over::Busy)];
const NETWORK: &str = "write network = \"192.0.2.0/24\", an address or a network";

/// What keeps watch over a listener's clients, as written.
#[derive(Debug, Default)]
pub struct Guard {
    /// `[listen.lockout]`.
    pub lockout: Option<Lockout>,
    limits: Option<Limits>,
}

/// `[listen.limits]`, as written; see `LimitsPlan`.
#[derive(Debug)]
struct Limits {
    place: Place,
    address: Numbers,
    name: Numbers,
    search: Search,
    over: Option<At<Over>>,
    delay_max: Option<At<Duration>>,
    exempt: Option<At<Vec<At<String>>>>,
    overrides: Vec<Override>,
    entries_max: Option<At<usize>>,
    prefix_v4: Option<At<usize>>,
    prefix_v6: Option<At<usize>>,
}

/// A `Quota`, as written.
#[derive(Debug, Default)]
struct Numbers {
    connections_max: Option<At<usize>>,
    connects: Pace,
    operations: Pace,
    pending_max: Option<At<usize>>,
}

#[derive(Debug, Default)]
struct Pace {
    rate: Option<At<usize>>,
    burst: Option<At<usize>>,
}

/// A `SearchOverride`, as written.
#[derive(Debug, Default)]
struct Search {
    entries_max: Option<At<usize>>,
    time_max: Option<At<Duration>>,
}

#[derive(Debug)]
struct Override {
    place: Place,
    network: Option<At<String>>,
    dn: Option<At<String>>,
    numbers: Numbers,
    search: Search,
}

/// Reads both sections.
pub fn read(p: &mut Problems, section: &mut Section<'_>) -> Guard {
    let lockout = section.section(p, "lockout", Kind::Lockout);
    let limits = section.section(p, "limits", Kind::ClientLimits);
    Guard {
        lockout: lockout.map(|section| check_lockout::read(p, section)),
        limits: limits.map(|section| read_limits(p, section)),
    }
}

fn read_limits(p: &mut Problems, mut section: Section<'_>) -> Limits {
    let overrides = section.sections(p, "override", Kind::LimitsOverride);
    let limits = Limits {
        place: section.place.clone(),
        address: Numbers {
            connections_max: section.count(p, "connections_max", 0, COUNT_MAX),
            connects: pace(p, &mut section, "connect_rate", "connect_burst"),
            operations: pace(p, &mut section, "address_rate", "address_burst"),
            pending_max: section.count(p, "address_pending_max", 0, COUNT_MAX),
        },
        name: Numbers {
            operations: pace(p, &mut section, "dn_rate", "dn_burst"),
            pending_max: section.count(p, "dn_pending_max", 0, COUNT_MAX),
            ..Numbers::default()
        },
        search: search(p, &mut section),
        over: section.choice(p, "over", &OVERS, &[]),
        delay_max: section.duration(p, "delay_max", MILLISECOND, MINUTE),
        exempt: section.strings(p, "exempt"),
        overrides: overrides.into_iter().map(|section| read_override(p, section)).collect(),
        entries_max: section.count(p, "entries_max", 16, 10_000_000),
        prefix_v4: section.count(p, "prefix_v4", 8, 32),
        prefix_v6: section.count(p, "prefix_v6", 16, 128),
    };
    section.finish(p);
    limits
}

fn read_override(p: &mut Problems, mut section: Section<'_>) -> Override {
    let one = Override {
        place: section.place.clone(),
        network: section.string(p, "network"),
        dn: section.string(p, "dn"),
        numbers: Numbers {
            connections_max: section.count(p, "connections_max", 0, COUNT_MAX),
            connects: pace(p, &mut section, "connect_rate", "connect_burst"),
            operations: pace(p, &mut section, "rate", "burst"),
            pending_max: section.count(p, "pending_max", 0, COUNT_MAX),
        },
        search: search(p, &mut section),
    };
    section.finish(p);
    one
}

fn search(p: &mut Problems, section: &mut Section<'_>) -> Search {
    Search {
        entries_max: section.count(p, "search_entries_max", 0, SEARCH_ENTRIES_MAX),
        time_max: section.duration(p, "search_time_max", Duration::ZERO, HOUR),
    }
}

fn pace(p: &mut Problems, section: &mut Section<'_>, rate: &'static str, burst: &'static str) -> Pace {
    let pace = Pace {
        rate: section.count(p, rate, 0, COUNT_MAX),
        burst: section.count(p, burst, 1, COUNT_MAX),
    };
    if let (None, Some(written)) = (&pace.rate, &pace.burst)
        && p.absent(&section.place, rate)
    {
        p.error(&written.place, format!("`{burst}` without `{rate}`"))
            .help(format!("add `{rate}`, or remove `{burst}`"));
    }
    pace
}

/// What it means.
pub(super) fn listener(p: &mut Problems, listen: &Listen, protocol: Protocol) -> Option<Arc<LimitsPlan>> {
    let limits = listen.guard.limits.as_ref()?;
    if !matches!(protocol, Protocol::Ldap | Protocol::Ldaps) {
        p.error(&limits.place, "`limits` is for ldap and ldaps listeners")
            .help("remove it");
        return None;
    }
    let prefix = |at: &Option<At<usize>>, default| {
        at.as_ref()
            .map_or(default, |at| u8::try_from(at.value).unwrap_or(default))
    };
    let mut plan = LimitsPlan {
        address: limits.address.over(Quota::default()),
        name: limits.name.over(Quota::default()),
        search: SearchPlan {
            general: limits.search.caps(),
            ..SearchPlan::default()
        },
        over: limits.over.as_ref().map_or(Over::Delay, |at| at.value),
        delay_max: limits.delay_max.as_ref().map_or(Duration::from_secs(5), |at| at.value),
        exempt: exempt(p, limits.exempt.as_ref()),
        networks: Vec::new(),
        names: BTreeMap::new(),
        entries_max: limits.entries_max.as_ref().map_or(100_000, |at| at.value),
        prefix_v4: prefix(&limits.prefix_v4, 32),
        prefix_v6: prefix(&limits.prefix_v6, 64),
    };
    for one in &limits.overrides {
        one.add(p, &mut plan);
    }
    plan.networks
        .sort_by_key(|(network, _)| std::cmp::Reverse(network.prefix()));
    plan.search
        .networks
        .sort_by_key(|(network, _)| std::cmp::Reverse(network.prefix()));
    let quotas = plan.networks.iter().map(|(_, quota)| quota).chain(plan.names.values());
    if quotas
        .chain([&plan.address, &plan.name])
        .all(|quota| quota.is_unlimited())
        && plan.search.is_unlimited()
    {
        p.warning(&limits.place, "[listen.limits] limits nothing")
            .help("write connections_max = 100, address_rate = 200 or another limit");
    }
    Some(Arc::new(plan))
}

fn exempt(p: &mut Problems, written: Option<&At<Vec<At<String>>>>) -> Vec<Network> {
    let mut networks = Vec::new();
    for text in written.map_or(&[][..], |at| &at.value) {
        match network(&text.value) {
            Ok(network) => networks.push(network),
            Err(right) => {
                p.error(&text.place, "`exempt` is a list of networks")
                    .label(format!("found \"{}\"", text.value))
                    .help(right);
            }
        }
    }
    networks
}

impl Numbers {
    /// What is written, and of `general` what is not.
    fn over(&self, general: Quota) -> Quota {
        Quota {
            connections_max: self
                .connections_max
                .as_ref()
                .map_or(general.connections_max, |at| at.value),
            connects: self.connects.over(general.connects),
            operations: self.operations.over(general.operations),
            pending_max: self.pending_max.as_ref().map_or(general.pending_max, |at| at.value),
        }
    }
}

impl Search {
    fn written(&self) -> SearchOverride {
        let entries = |at: &At<usize>| u32::try_from(at.value).unwrap_or(u32::MAX);
        SearchOverride {
            entries_max: self.entries_max.as_ref().map(entries),
            time_max: self.time_max.as_ref().map(|at| at.value),
        }
    }

    fn caps(&self) -> SearchCaps {
        let written = self.written();
        SearchCaps {
            entries_max: written.entries_max.unwrap_or_default(),
            time_max: written.time_max.unwrap_or_default(),
        }
    }
}

impl Pace {
    fn over(&self, general: Option<Rate>) -> Option<Rate> {
        let Some(rate) = &self.rate else { return general };
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let burst = self.burst.as_ref().map_or(rate.value, |at| at.value);
        (rate.value > 0).then(|| Rate::new(number(rate.value), number(burst)))
    }

    fn place(&self) -> Option<&Place> {
        self.rate.as_ref().or(self.burst.as_ref()).map(|at| &at.place)
    }
}

impl Override {
    fn add(&self, p: &mut Problems, plan: &mut LimitsPlan) {
        match (&self.network, &self.dn) {
            (Some(written), None) => self.add_network(p, plan, written),
            (None, Some(written)) => self.add_name(p, plan, written),
            (Some(_), Some(dn)) => {
                p.error(&dn.place, "an override is of a `network` or of a `dn`, not of both")
                    .help("write one [[listen.limits.override]] for each");
            }
            (None, None) if p.absent(&self.place, "network") && p.absent(&self.place, "dn") => {
                p.error(&self.place, "an override of nobody")
                    .help("add network = \"192.0.2.0/24\", or dn = \"cn=app,dc=example,dc=com\"");
            }
            (None, None) => {}
        }
    }

    fn add_network(&self, p: &mut Problems, plan: &mut LimitsPlan, written: &At<String>) {
        let found = match network(&written.value) {
            Ok(network) => network,
            Err(right) => {
                p.error(&written.place, "`network` is no network")
                    .label(format!("found \"{}\"", written.value))
                    .help(right);
                return;
            }
        };
        let (key, prefix) = if found.address().is_ipv4() {
            ("prefix_v4", plan.prefix_v4)
        } else {
            ("prefix_v6", plan.prefix_v6)
        };
        if found.prefix() > prefix {
            p.error(&written.place, "`network` is smaller than what counts as one address")
                .label(format!("`{key}` is {prefix}"))
                .help(format!("{NETWORK} of at most {prefix} bits, or raise `{key}`"));
        } else if plan.networks.iter().any(|(other, _)| *other == found) {
            p.error(&written.place, "this network has an override already")
                .help("write all of it in one");
        } else {
            plan.networks.push((found, self.numbers.over(plan.address)));
            plan.search.networks.push((found, self.search.written()));
        }
    }

    fn add_name(&self, p: &mut Problems, plan: &mut LimitsPlan, written: &At<String>) {
        let only_of_addresses = self.numbers.connections_max.as_ref().map(|at| &at.place);
        if let Some(place) = only_of_addresses.or(self.numbers.connects.place()) {
            p.error(place, "connections are counted by address, not by name")
                .help("remove it here");
            return;
        }
        let name = normal(written.value.as_bytes());
        if name.is_empty() {
            p.error(&written.place, "`dn` is empty")
                .help("anonymous clients are counted by their address only");
        } else if plan.names.insert(name.clone(), self.numbers.over(plan.name)).is_some() {
            p.error(&written.place, "this name has an override already")
                .help("write all of it in one");
        } else {
            plan.search.names.insert(name, self.search.written());
        }
    }
}
