//! The figures of the audit log, of lockouts and of limits, of look-ups of names, and of Kerberos.

use super::Page;
use crate::admin::snapshot::{Gssapi, Limits, Lockout, Lookups, Snapshot};

type Figure = (&'static str, &'static str, &'static str, fn(&Lockout) -> u64);

const LOCKOUTS: [Figure; 4] = [
    (
        "usherd_lockout_locks_total",
        "counter",
        "Locks after failed binds.",
        |one| one.locks,
    ),
    (
        "usherd_lockout_refused_total",
        "counter",
        "Binds refused by a lockout.",
        |one| one.refused,
    ),
    (
        "usherd_lockout_entries",
        "gauge",
        "Names and addresses that a lockout remembers.",
        |one| one.entries,
    ),
    (
        "usherd_lockout_locked",
        "gauge",
        "Names and addresses that are locked out.",
        |one| one.locked,
    ),
];

const REFUSED_CONNECTIONS: &str = "usherd_limits_connections_refused_total";

type LimitsFigure = (&'static str, &'static str, &'static str, fn(&Limits) -> u64);

const LIMITS: [LimitsFigure; 6] = [
    (
        "usherd_limits_operations_delayed_total",
        "counter",
        "Operations that were held back by limits of clients.",
        |one| one.delayed,
    ),
    (
        "usherd_limits_operations_refused_total",
        "counter",
        "Operations that were answered busy by limits of clients.",
        |one| one.refused,
    ),
    (
        "usherd_limits_searches_too_large_total",
        "counter",
        "Searches that were ended because they brought more entries than they may.",
        |one| one.searches_too_large,
    ),
    (
        "usherd_limits_searches_too_long_total",
        "counter",
        "Searches that were ended because they took longer than they may.",
        |one| one.searches_too_long,
    ),
    (
        "usherd_limits_addresses",
        "gauge",
        "Addresses that limits of clients remember.",
        |one| one.addresses,
    ),
    (
        "usherd_limits_names",
        "gauge",
        "Names that limits of clients remember.",
        |one| one.names,
    ),
];

fn lookups(page: &mut Page, all: &Lookups) {
    const NAME: &str = "usherd_name_lookups_total";
    page.family(NAME, "counter", "Look-ups of services and of servers' addresses.");
    for (kind, outcome, count) in [
        ("service", "answered", all.services),
        ("service", "failed", all.services_failed),
        ("address", "answered", all.addresses),
        ("address", "failed", all.addresses_failed),
    ] {
        page.line(NAME, &[("kind", kind), ("outcome", outcome)], count);
    }
}

fn gssapi(page: &mut Page, all: &Gssapi) {
    const NAME: &str = "usherd_gssapi_questions_total";
    page.family(
        NAME,
        "counter",
        "Questions to Kerberos, for the daemon's own binds by GSSAPI.",
    );
    for (outcome, count) in [
        ("answered", all.answered),
        ("failed", all.failed),
        ("refused", all.refused),
        ("too-long", all.too_long),
        ("late", all.late),
    ] {
        page.line(NAME, &[("outcome", outcome)], count);
    }
    for (name, help, value) in [
        (
            "usherd_gssapi_waiting",
            "Questions to Kerberos that wait for a thread.",
            all.waiting,
        ),
        (
            "usherd_gssapi_running",
            "Questions to Kerberos that keep a thread.",
            all.running,
        ),
    ] {
        page.family(name, "gauge", help);
        page.line(name, &[], value);
    }
}

fn limits(page: &mut Page, all: &[Limits]) {
    page.family(
        REFUSED_CONNECTIONS,
        "counter",
        "Connections refused by limits of clients.",
    );
    for one in all {
        for count in &one.refused_connections {
            let labels = [("listener", one.listener.as_str()), ("reason", count.label.as_str())];
            page.line(REFUSED_CONNECTIONS, &labels, count.count);
        }
    }
    for (name, kind, help, figure) in LIMITS {
        page.family(name, kind, help);
        for one in all {
            page.line(name, &[("listener", one.listener.as_str())], figure(one));
        }
    }
}

pub(super) fn write(page: &mut Page, snapshot: &Snapshot) {
    limits(page, &snapshot.limits);
    lookups(page, &snapshot.lookups);
    gssapi(page, &snapshot.gssapi);
    let audit = &snapshot.audit;
    for (name, kind, help, value) in [
        (
            "usherd_audit_lines_total",
            "counter",
            "Lines written to the audit log.",
            audit.written,
        ),
        (
            "usherd_audit_lost_total",
            "counter",
            "Lines of the audit log that found no room, or could not be written.",
            audit.lost,
        ),
        (
            "usherd_audit_queue",
            "gauge",
            "Lines that wait to be written to the audit log.",
            audit.queue,
        ),
    ] {
        page.family(name, kind, help);
        page.line(name, &[], value);
    }
    for (name, kind, help, figure) in LOCKOUTS {
        page.family(name, kind, help);
        for one in &snapshot.lockouts {
            page.line(name, &[("listener", one.listener.as_str())], figure(one));
        }
    }
}
