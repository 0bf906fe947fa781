//! Where the operations of a directory's clients may go: rules by control and extended operation, what clients keep to, and
//! which servers reads and writes go to.

use std::sync::Arc;
use std::time::Duration;

use engine::session::ldap::mark;
use engine::session::ldap::rules::{Action, OTHERS, Rules};
use wire::ldap::control::{is_numeric_oid, oid};
use wire::ldap::message::oid as extended;

use super::diagnostic::{At, Place, Problems};
use super::keys::Kind;
use super::plan::{Affinity, Identity, Routing};
use super::reader::Section;

const HOUR: Duration = Duration::from_secs(3600);
/// Rules of one table at most.
const RULES_MAX: usize = 256;

/// The words of a rule.
const ACTIONS: [(&str, Action); 6] = [
    ("ignore", Action::Ignore),
    ("write", Action::Write),
    ("backend", Action::Backend),
    ("connection", Action::Connection),
    ("isolate", Action::Isolate),
    ("reject", Action::Reject),
];

/// The words of `affinity`.
const AFFINITIES: [(&str, Affinity); 4] = [
    ("none", Affinity::None),
    ("connection", Affinity::Connection),
    ("address", Affinity::Address),
    ("bind-dn", Affinity::BindDn),
];

/// As written.
#[derive(Debug, Default)]
pub struct Raw {
    /// `restrict.control`.
    pub controls: Vec<(At<String>, At<String>)>,
    /// `restrict.extended`.
    pub extended: Vec<(At<String>, At<String>)>,
    /// See `plan::Routing`.
    pub write_coherence: Option<At<Duration>>,
    /// See `plan::Routing`.
    pub affinity: Option<At<Affinity>>,
    /// See `plan::Routing`; true: replicas.
    pub reads: Option<At<bool>>,
    /// See `plan::Routing`; true: primaries.
    pub writes: Option<At<bool>>,
    /// See `plan::Routing`.
    pub isolated_max: Option<At<usize>>,
    /// See `plan::Routing`.
    pub isolated_idle_timeout: Option<At<Duration>>,
}

/// Reads what stands in a directory's section.
pub fn read(p: &mut Problems, section: &mut Section<'_>) -> Raw {
    let restrict = section.section(p, "restrict", Kind::Restrict);
    let (mut controls, mut extended) = (Vec::new(), Vec::new());
    if let Some(mut restrict) = restrict {
        controls = restrict.string_table(p, "control").unwrap_or_default();
        extended = restrict.string_table(p, "extended").unwrap_or_default();
        restrict.finish(p);
    }
    Raw {
        controls,
        extended,
        write_coherence: section.duration(p, "write_coherence", Duration::ZERO, 24 * HOUR),
        affinity: section.choice(p, "affinity", &AFFINITIES, &[]),
        reads: section.choice(p, "reads", &[("any", false), ("replicas", true)], &[]),
        writes: section.choice(p, "writes", &[("any", false), ("primary", true)], &[]),
        isolated_max: section.count(p, "isolated_max", 1, 10_000),
        isolated_idle_timeout: section.duration(p, "isolated_idle_timeout", Duration::from_millis(100), 24 * HOUR),
    }
}

/// What holds where nothing is written.
pub fn defaults() -> Routing {
    Routing {
        rules: Arc::default(),
        write_coherence: Duration::ZERO,
        affinity: Affinity::None,
        reads: 0,
        writes: 0,
        isolated_max: 64,
        isolated_idle_timeout: Duration::from_secs(60),
    }
}

/// The marks of a server by its `role`.
pub const ROLES: [(&str, u8); 2] = [("primary", mark::PRIMARY), ("replica", mark::REPLICA)];

/// The plan. `roles`: the marks of all servers of the directory.
pub fn check(
    p: &mut Problems,
    raw: &Raw,
    place: &Place,
    identity: Identity,
    policy: Option<&Place>,
    roles: &[u8],
) -> Routing {
    let default = defaults();
    let controls = rules(p, "control", &raw.controls);
    let operations = rules(p, "extended", &raw.extended);
    if identity == Identity::Proxied {
        shared_transactions(p, "control", &[oid::TRANSACTION_SPECIFICATION], &raw.controls);
        let both = [extended::TRANSACTION_START, extended::TRANSACTION_END];
        shared_transactions(p, "extended", &both, &raw.extended);
    }
    let rules = Rules::new(
        controls.iter().map(|(oid, action)| (oid.as_str(), *action)),
        operations.iter().map(|(oid, action)| (oid.as_str(), *action)),
    );
    let split = [
        ("reads", &raw.reads, "replicas", mark::REPLICA, "replica"),
        ("writes", &raw.writes, "primary", mark::PRIMARY, "primary"),
    ];
    let mut marks = [0; 2];
    for ((key, written, word, mark, role), marks) in split.into_iter().zip(&mut marks) {
        let Some(at) = written.as_ref().filter(|at| at.value) else {
            continue;
        };
        if identity == Identity::Pinned {
            p.error(
                &at.place,
                format!("{key} = \"{word}\" cannot be had with identity = \"pinned\""),
            )
            .label("with `pinned` all that a client asks goes over one connection, to one server")
            .help("use identity = \"proxied\"");
        } else if !roles.iter().any(|marks| marks & mark != 0) {
            p.error(&at.place, format!("{key} = \"{word}\", and no server is a {role}"))
                .help(format!("write role = \"{role}\" with each that is one"));
        }
        *marks = mark;
    }
    if marks == [0, 0] && roles.iter().any(|marks| *marks != 0) {
        p.warning(place, "`role` has no effect without `reads` or `writes`")
            .help("write writes = \"primary\" or reads = \"replicas\"");
    }
    if let (Some(affinity), Some(policy)) = (&raw.affinity, policy)
        && affinity.value != Affinity::None
    {
        p.error(&affinity.place, "`affinity` chooses the server, and so does `policy`")
            .also(policy, "the policy")
            .help("remove `policy`: with affinity servers are chosen by hash");
    }
    let [reads, writes] = marks;
    let count = |at: &Option<At<usize>>, default| at.as_ref().map_or(default, |at| at.value);
    let length = |at: &Option<At<Duration>>, default| at.as_ref().map_or(default, |at| at.value);
    Routing {
        rules: Arc::new(rules),
        write_coherence: length(&raw.write_coherence, default.write_coherence),
        affinity: raw.affinity.as_ref().map_or(default.affinity, |at| at.value),
        reads,
        writes,
        isolated_max: count(&raw.isolated_max, default.isolated_max),
        isolated_idle_timeout: length(&raw.isolated_idle_timeout, default.isolated_idle_timeout),
    }
}

/// Servers take the start and the end of a transaction without proxied authorization only (slapd answers 12 else), which is safe only
/// where nobody else uses the connection; and they keep one transaction for a connection, whoever begins it.
fn shared_transactions(p: &mut Problems, table: &str, of: &[&str], written: &[(At<String>, At<String>)]) {
    let shares = |word: &str| matches!(word, "write" | "backend" | "connection");
    for (oid, word) in written {
        if of.contains(&oid.value.as_str()) && shares(&word.value) {
            p.error(
                &word.place,
                format!(
                    "rule \"{}\" for {} in restrict.{table}: a transaction needs a connection that is its client's alone",
                    word.value, oid.value
                ),
            )
            .label("over a connection that others use, too, every transaction would fail")
            .help("write \"isolate\", which holds without a rule, too, or \"reject\"");
        }
    }
}

fn rules(p: &mut Problems, table: &str, written: &[(At<String>, At<String>)]) -> Vec<(String, Action)> {
    let mut rules = Vec::with_capacity(written.len());
    if let Some((oid, _)) = written.get(RULES_MAX) {
        p.error(
            &oid.place,
            format!("restrict.{table} has {} rules, of {RULES_MAX} at most", written.len()),
        );
    }
    for (oid, word) in written {
        if !is_numeric_oid(oid.value.as_bytes()) {
            p.error(&oid.place, format!("restrict.{table} is a table of object identifiers"))
                .label(format!("found \"{}\"", oid.value))
                .help(format!(
                    "as in \"1.2.840.113556.1.4.319\" = \"reject\"; \"{OTHERS}\" stands for all that are not named"
                ));
            continue;
        }
        match ACTIONS.iter().find(|(name, _)| *name == word.value) {
            Some((_, action)) => rules.push((oid.value.clone(), *action)),
            None => {
                let words: Vec<String> = ACTIONS.iter().map(|(name, _)| format!("\"{name}\"")).collect();
                p.error(
                    &word.place,
                    format!("unknown rule \"{}\" for {} in restrict.{table}", word.value, oid.value),
                )
                .label("not one of the choices")
                .help(format!("it may be {}", words.join(", ")));
            }
        }
    }
    rules
}
