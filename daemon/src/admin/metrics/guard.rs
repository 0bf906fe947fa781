//! The figures of the audit log and of lockouts.

use super::Page;
use crate::admin::snapshot::{Lockout, Snapshot};

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

pub(super) fn write(page: &mut Page, snapshot: &Snapshot) {
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
