//! The snapshot as figures with names and labels: of them `/metrics` is one form, and what LDAP clients read below
//! `cn=usherd,cn=monitor` another, so that the two can never disagree.

mod entries;
mod feeds;
mod guard;
mod page;
mod radius;

use page::Page;

use super::snapshot::{Count, Counters, Helper, Local, Server, Service, Snapshot};

/// Words of `usherd_upstream_state`; exactly one of them is 1 for each server.
const STATES: [&str; 4] = ["up", "suspect", "ejected", "down"];
const SCORES: [&str; 3] = ["available", "degraded", "down"];

/// The whole page, for Prometheus.
pub(super) fn text(snapshot: &Snapshot) -> String {
    page(snapshot).text()
}

pub use entries::directory;

fn page(snapshot: &Snapshot) -> Page {
    let mut page = Page::default();
    daemon(&mut page, snapshot);
    workers(&mut page, snapshot);
    listeners(&mut page, snapshot);
    directories(&mut page, snapshot);
    kept(&mut page, snapshot);
    upstreams(&mut page, snapshot);
    local(&mut page, snapshot);
    services(&mut page, snapshot);
    feeds::write(&mut page, snapshot);
    radius::write(&mut page, snapshot);
    guard::write(&mut page, snapshot);
    page
}

fn daemon(page: &mut Page, s: &Snapshot) {
    page.family("usherd_info", "gauge", "Version of the daemon.");
    page.line("usherd_info", &[("version", &s.version)], 1);
    page.family("usherd_ready", "gauge", "1 while every listener can be served.");
    page.line("usherd_ready", &[], u64::from(s.lifecycle == "ready"));
    let c = &s.counters;
    for (name, kind, help, value) in [
        (
            "usherd_uptime_seconds",
            "gauge",
            "Seconds since the daemon started.",
            s.uptime_s,
        ),
        ("usherd_workers", "gauge", "Worker threads.", s.workers as u64),
        (
            "usherd_workers_silent",
            "gauge",
            "Workers whose figures are missing here.",
            s.workers_silent as u64,
        ),
        ("usherd_clients", "gauge", "Clients connected.", s.clients),
        (
            "usherd_clients_accepted_total",
            "counter",
            "Clients accepted.",
            c.accepted,
        ),
        (
            "usherd_retries_total",
            "counter",
            "Reads sent a second time, to another connection.",
            c.retries,
        ),
        (
            "usherd_late_replies_total",
            "counter",
            "Replies dropped: their operation had ended.",
            c.late_replies,
        ),
        (
            "usherd_accept_pauses_total",
            "counter",
            "Pauses of accepting for want of descriptors.",
            c.accept_pauses,
        ),
        (
            "usherd_outbox_bytes",
            "gauge",
            "Bytes waiting for clients.",
            c.outbox_bytes,
        ),
        (
            "usherd_clients_stuck_closed_total",
            "counter",
            "Clients that were closed because they read nothing while others needed the memory.",
            c.stuck_closed,
        ),
        ("usherd_panics_total", "counter", "Panics contained.", c.panics),
    ] {
        page.family(name, kind, help);
        page.line(name, &[], value);
    }
    outcomes(page, c);
}

fn outcomes(page: &mut Page, c: &Counters) {
    page.family(
        "usherd_refusals_total",
        "counter",
        "Requests refused by the daemon itself, by reason.",
    );
    page.counts("usherd_refusals_total", None, "reason", &c.refusals);
    page.family(
        "usherd_reloads_total",
        "counter",
        "Reloads of the configuration, by outcome.",
    );
    page.counts("usherd_reloads_total", None, "outcome", &c.reloads);
    page.family(
        "usherd_upgrades_total",
        "counter",
        "Upgrades of this process: begun, and of those failed (it went on) or handed-over (another has its place).",
    );
    page.counts("usherd_upgrades_total", None, "outcome", &c.upgrades);
    page.family(
        "usherd_took_over",
        "gauge",
        "1 where this process has taken another's place by an upgrade.",
    );
    page.line("usherd_took_over", &[], c.took_over);
}

fn workers(page: &mut Page, s: &Snapshot) {
    page.family("usherd_worker_clients", "gauge", "Clients connected, by worker.");
    for one in &s.each_worker {
        page.line(
            "usherd_worker_clients",
            &[("worker", &one.worker.to_string())],
            one.clients,
        );
    }
    page.family("usherd_worker_panics_total", "counter", "Panics contained, by worker.");
    for one in &s.each_worker {
        page.line(
            "usherd_worker_panics_total",
            &[("worker", &one.worker.to_string())],
            one.panics,
        );
    }
}

fn listeners(page: &mut Page, s: &Snapshot) {
    page.family("usherd_listener_clients", "gauge", "Clients connected, by listener.");
    for one in &s.listeners {
        let labels = [
            ("address", one.address.as_str()),
            ("protocol", &one.protocol),
            ("directory", &one.directory),
        ];
        page.line("usherd_listener_clients", &labels, one.clients);
    }
}

fn local(page: &mut Page, s: &Snapshot) {
    type Figure = fn(&Local) -> u64;
    let families: [(&str, &str, &str, Figure); 5] = [
        (
            "usherd_local_entries",
            "gauge",
            "Entries of a local directory.",
            |one| one.entries,
        ),
        (
            "usherd_local_changes_total",
            "counter",
            "Changes made to a local directory since its file was loaded.",
            |one| one.changes,
        ),
        (
            "usherd_local_unsaved_changes",
            "gauge",
            "Changes of a local directory that are not in its file yet.",
            |one| one.unsaved,
        ),
        (
            "usherd_local_file_writes_total",
            "counter",
            "Times that changes were written to a local directory's file.",
            |one| one.writes,
        ),
        (
            "usherd_local_file_write_failures_total",
            "counter",
            "Times that changes could not be written to a local directory's file.",
            |one| one.failures,
        ),
    ];
    for (name, kind, help, figure) in families {
        page.family(name, kind, help);
        for one in &s.local {
            page.line(name, &[("file", &one.file)], figure(one));
        }
    }
}

fn directories(page: &mut Page, s: &Snapshot) {
    page.family(
        "usherd_queue",
        "gauge",
        "Requests waiting for a connection, by directory.",
    );
    for one in &s.directories {
        page.line("usherd_queue", &[("directory", &one.name)], one.queue);
    }
    let help = "Operations finished, by directory, class and class of result.";
    page.family("usherd_operations_total", "counter", help);
    for one in &s.directories {
        for kind in &one.operations {
            let labels = [
                ("directory", one.name.as_str()),
                ("class", &kind.class),
                ("result", &kind.result),
            ];
            page.line("usherd_operations_total", &labels, kind.count);
        }
    }
    page.family(
        "usherd_operation_seconds",
        "histogram",
        "Time from receiving a request to its final reply.",
    );
    for one in &s.directories {
        page.histogram("usherd_operation_seconds", ("directory", &one.name), &one.seconds);
    }
    page.family(
        "usherd_malformed_total",
        "counter",
        "Requests that break the grammar, by directory.",
    );
    for one in &s.directories {
        page.line("usherd_malformed_total", &[("directory", &one.name)], one.malformed);
    }
    page.family(
        "usherd_whoami_total",
        "counter",
        "Binds under a name that is not known: the server was asked who that is, or never had to be.",
    );
    for one in &s.directories {
        for (outcome, count) in [("asked", one.names_asked), ("spared", one.names_spared)] {
            let labels = [("directory", &*one.name), ("outcome", outcome)];
            page.line("usherd_whoami_total", &labels, count);
        }
    }
    page.family(
        "usherd_slow_readers_total",
        "counter",
        "Clients whose operations were given up: they did not read.",
    );
    for one in &s.directories {
        page.line(
            "usherd_slow_readers_total",
            &[("directory", &one.name)],
            one.slow_readers,
        );
    }
}

/// Clients whose operations keep to something by a rule.
fn kept(page: &mut Page, s: &Snapshot) {
    page.family(
        "usherd_clients_kept",
        "gauge",
        "Clients whose operations keep to a connection of their own (isolate), a shared one (connection) or a server (backend), by a rule.",
    );
    for one in &s.directories {
        page.counts("usherd_clients_kept", Some(("directory", &one.name)), "by", &one.kept);
    }
}

type Figure = (&'static str, &'static str, &'static str, fn(&Server) -> u64);

const UPSTREAM_FIGURES: [Figure; 10] = [
    ("usherd_upstream_connections", "gauge", "Shared connections.", |one| {
        one.connections
    }),
    (
        "usherd_upstream_bind_connections",
        "gauge",
        "Connections for binds.",
        |one| one.bind_connections,
    ),
    (
        "usherd_upstream_pinned_connections",
        "gauge",
        "Connections that stay with the client whose bind they carried.",
        |one| one.pinned,
    ),
    (
        "usherd_upstream_isolated_connections",
        "gauge",
        "Connections for one client at a time, by a rule: in use, or kept ready.",
        |one| one.isolated,
    ),
    ("usherd_upstream_pending", "gauge", "Operations in flight.", |one| {
        one.pending
    }),
    (
        "usherd_upstream_operations_total",
        "counter",
        "Operations sent.",
        |one| one.operations,
    ),
    (
        "usherd_upstream_failures_total",
        "counter",
        "Connections lost or refused, and failed probes.",
        |one| one.failures,
    ),
    (
        "usherd_upstream_checks_failed_total",
        "counter",
        "Checks that failed.",
        |one| one.checks_failed,
    ),
    (
        "usherd_upstream_latency_microseconds",
        "gauge",
        "Estimate of the time an operation takes.",
        |one| one.latency_us,
    ),
    ("usherd_upstream_weight", "gauge", "Configured weight.", |one| {
        u64::from(one.weight)
    }),
];

fn upstreams(page: &mut Page, s: &Snapshot) {
    let every = || {
        s.directories
            .iter()
            .flat_map(|one| one.servers.iter().map(|server| (one.name.as_str(), server)))
    };
    page.family("usherd_upstream_state", "gauge", "1 for the state that a server is in.");
    for (directory, server) in every() {
        for state in STATES {
            let labels = [("directory", directory), ("server", &server.name), ("state", state)];
            page.line("usherd_upstream_state", &labels, u64::from(server.state == state));
        }
    }
    page.family("usherd_upstream_score", "gauge", "1 for how well a server does.");
    for (directory, server) in every() {
        for score in SCORES {
            let labels = [("directory", directory), ("server", &server.name), ("score", score)];
            page.line("usherd_upstream_score", &labels, u64::from(server.score == score));
        }
    }
    for (name, kind, help, value) in UPSTREAM_FIGURES {
        page.family(name, kind, help);
        for (directory, server) in every() {
            let tier = server.tier.to_string();
            let labels = [
                ("directory", directory),
                ("server", server.name.as_str()),
                ("tier", &tier),
            ];
            page.line(name, &labels, value(server));
        }
    }
}

type ServiceFigure = (&'static str, &'static str, &'static str, fn(&Service) -> u64);
type HelperFigure = (&'static str, &'static str, &'static str, fn(&Helper) -> u64);
type ServiceCounts = (&'static str, &'static str, &'static str, fn(&Service) -> &Vec<Count>);

const SERVICE_FIGURES: [ServiceFigure; 8] = [
    (
        "usherd_service_queue",
        "gauge",
        "Calls waiting for a helper, by service.",
        |one| one.queued,
    ),
    ("usherd_service_queue_max", "gauge", "Calls that may wait.", |one| {
        one.queue_max
    }),
    (
        "usherd_service_queue_oldest_milliseconds",
        "gauge",
        "How long the oldest waiting call has waited.",
        |one| one.oldest_ms,
    ),
    (
        "usherd_service_helpers_max",
        "gauge",
        "Helper processes at once, at most.",
        |one| one.max,
    ),
    (
        "usherd_service_max_reached_total",
        "counter",
        "Times that one more helper was wanted than there may be.",
        |one| one.max_reached,
    ),
    (
        "usherd_service_starts_total",
        "counter",
        "Helper processes started.",
        |one| one.starts,
    ),
    (
        "usherd_service_interrupts_total",
        "counter",
        "Calls interrupted.",
        |one| one.interrupted,
    ),
    (
        "usherd_service_kills_total",
        "counter",
        "Helper processes killed because they did not heed an interrupt.",
        |one| one.killed,
    ),
];
const SERVICE_COUNTS: [ServiceCounts; 3] = [
    (
        "usherd_calls_total",
        "outcome",
        "Calls finished, by service and outcome.",
        |one| &one.outcomes,
    ),
    (
        "usherd_service_refusals_total",
        "reason",
        "Calls that no helper had, by reason.",
        |one| &one.refusals,
    ),
    (
        "usherd_service_exits_total",
        "reason",
        "Helper processes that have ended, by reason.",
        |one| &one.exits,
    ),
];

fn services(page: &mut Page, s: &Snapshot) {
    page.family(
        "usherd_service_helpers",
        "gauge",
        "Helper processes, by service and state.",
    );
    for one in &s.services {
        for (state, helpers) in [
            ("starting", one.starting),
            ("idle", one.idle),
            ("busy", one.busy),
            ("stopping", one.stopping),
        ] {
            let labels = [("service", one.name.as_str()), ("state", state)];
            page.line("usherd_service_helpers", &labels, helpers);
        }
    }
    for (name, kind, help, value) in SERVICE_FIGURES {
        page.family(name, kind, help);
        for one in &s.services {
            page.line(name, &[("service", &one.name)], value(one));
        }
    }
    for (name, label, help, counts) in SERVICE_COUNTS {
        page.family(name, "counter", help);
        for one in &s.services {
            page.counts(name, Some(("service", &one.name)), label, counts(one));
        }
    }
    page.family(
        "usherd_service_queue_seconds",
        "histogram",
        "Time from a call's coming to its being given to a helper.",
    );
    for one in &s.services {
        page.histogram("usherd_service_queue_seconds", ("service", &one.name), &one.queue_wait);
    }
    page.family(
        "usherd_service_seconds",
        "histogram",
        "Time for which a helper has a call.",
    );
    for one in &s.services {
        page.histogram("usherd_service_seconds", ("service", &one.name), &one.service_time);
    }
    helpers(page, s);
}

fn helpers(page: &mut Page, s: &Snapshot) {
    const FIGURES: [HelperFigure; 3] = [
        (
            "usherd_helper_requests_total",
            "counter",
            "Calls that this helper process has ended.",
            |one| one.requests,
        ),
        (
            "usherd_helper_memory_bytes",
            "gauge",
            "Resident memory of this helper process.",
            |one| one.memory,
        ),
        (
            "usherd_helper_call_milliseconds",
            "gauge",
            "For how long this helper process has had its oldest call.",
            |one| one.call_ms,
        ),
    ];
    for (name, kind, help, value) in FIGURES {
        page.family(name, kind, help);
        for service in &s.services {
            for one in &service.helpers {
                let pid = one.pid.to_string();
                page.line(name, &[("service", service.name.as_str()), ("pid", &pid)], value(one));
            }
        }
    }
}
