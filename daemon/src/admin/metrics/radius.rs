//! The figures of RADIUS listeners.

use super::Page;
use crate::admin::snapshot::{Radius, RadiusBackend, RadiusRecords, Snapshot};

type Figure = (&'static str, &'static str, &'static str, fn(&Radius) -> u64);
type RecordsFigure = (&'static str, &'static str, &'static str, fn(&RadiusRecords) -> u64);
type BackendFigure = (&'static str, &'static str, &'static str, fn(&RadiusBackend) -> u64);

const FIGURES: [Figure; 12] = [
    (
        "usherd_radius_requests_total",
        "counter",
        "Requests taken, each once however often it came.",
        |one| one.begun,
    ),
    (
        "usherd_radius_waiting",
        "gauge",
        "Requests that are being answered.",
        |one| one.waiting,
    ),
    (
        "usherd_radius_challenges_total",
        "counter",
        "Access-Challenges sent.",
        |one| one.challenges,
    ),
    (
        "usherd_radius_recorded_total",
        "counter",
        "Accounting requests acknowledged.",
        |one| one.recorded,
    ),
    (
        "usherd_radius_statuses_total",
        "counter",
        "Status-Server requests answered.",
        |one| one.statuses,
    ),
    (
        "usherd_radius_unwritable_total",
        "counter",
        "Accepts that became rejects because their attributes did not fit a packet.",
        |one| one.unwritable,
    ),
    (
        "usherd_radius_resent_total",
        "counter",
        "Answers sent again to a client that asked again.",
        |one| one.resent,
    ),
    (
        "usherd_radius_replaced_total",
        "counter",
        "Requests given up because their identifier was used for another one.",
        |one| one.replaced,
    ),
    (
        "usherd_radius_evicted_total",
        "counter",
        "Answers and peers forgotten before their time for want of room.",
        |one| one.evicted,
    ),
    (
        "usherd_radius_kernel_drops_total",
        "counter",
        "Datagrams that the kernel dropped because they were not read in time.",
        |one| one.kernel_drops,
    ),
    (
        "usherd_radius_unsent_total",
        "counter",
        "Answers that the kernel did not take.",
        |one| one.unsent,
    ),
    (
        "usherd_radius_service_time_microseconds",
        "gauge",
        "What an answer takes now, from the receipt of its request, by the slowest worker.",
        |one| one.service_time_us,
    ),
];

const BACKENDS: [BackendFigure; 2] = [
    (
        "usherd_radius_backend_pending",
        "gauge",
        "Users that a back end is being asked about.",
        |one| one.pending,
    ),
    (
        "usherd_radius_backend_service_time_microseconds",
        "gauge",
        "What a back end's answer takes now, or how long it has been silent.",
        |one| one.service_time_us,
    ),
];

const RECORDS: [RecordsFigure; 8] = [
    (
        "usherd_radius_records_written_total",
        "counter",
        "Accounting records that their sink has taken when they came.",
        |one| one.written,
    ),
    (
        "usherd_radius_records_spooled_total",
        "counter",
        "Accounting records that went to the spool.",
        |one| one.spooled,
    ),
    (
        "usherd_radius_records_replayed_total",
        "counter",
        "Accounting records that the sink has taken from the spool.",
        |one| one.replayed,
    ),
    (
        "usherd_radius_records_refused_total",
        "counter",
        "Accounting records that were not acknowledged.",
        |one| one.refused,
    ),
    (
        "usherd_radius_records_set_aside_total",
        "counter",
        "Accounting records that the service will not have.",
        |one| one.set_aside,
    ),
    (
        "usherd_radius_records_queue",
        "gauge",
        "Accounting records that wait to be written.",
        |one| one.queue,
    ),
    (
        "usherd_radius_spool_records",
        "gauge",
        "Accounting records in the spool.",
        |one| one.spool_records,
    ),
    ("usherd_radius_spool_bytes", "gauge", "Bytes of the spool.", |one| {
        one.spool_bytes
    }),
];

pub(super) fn write(page: &mut Page, s: &Snapshot) {
    for (name, kind, help, value) in FIGURES {
        page.family(name, kind, help);
        for one in &s.radius {
            page.line(name, &[("listener", &one.address)], value(one));
        }
    }
    page.family(
        "usherd_radius_verdicts_total",
        "counter",
        "Accepts and rejects, by method.",
    );
    for one in &s.radius {
        for method in &one.methods {
            for (verdict, count) in [("accept", method.accepts), ("reject", method.rejects)] {
                let labels = [
                    ("listener", one.address.as_str()),
                    ("method", &method.method),
                    ("verdict", verdict),
                ];
                page.line("usherd_radius_verdicts_total", &labels, count);
            }
        }
    }
    let dropped = "usherd_radius_dropped_total";
    page.family(dropped, "counter", "Packets that got no answer, by reason.");
    for one in &s.radius {
        page.counts(dropped, Some(("listener", &one.address)), "reason", &one.dropped);
    }
    let dropped = "usherd_radius_client_dropped_total";
    page.family(dropped, "counter", "Packets that got no answer, by client.");
    for one in &s.radius {
        page.counts(
            dropped,
            Some(("listener", &one.address)),
            "client",
            &one.clients_dropped,
        );
    }
    page.family(
        "usherd_radius_seconds",
        "histogram",
        "From the receipt of a request to its answer.",
    );
    for one in &s.radius {
        page.histogram("usherd_radius_seconds", ("listener", &one.address), &one.took);
    }
    backends(page, s);
    for (name, kind, help, value) in RECORDS {
        page.family(name, kind, help);
        for one in &s.radius {
            if let Some(records) = &one.records {
                page.line(name, &[("listener", &one.address)], value(records));
            }
        }
    }
}

fn backends(page: &mut Page, s: &Snapshot) {
    for (name, kind, help, value) in BACKENDS {
        page.family(name, kind, help);
        for one in &s.radius {
            for backend in &one.backends {
                let labels = [("listener", one.address.as_str()), ("backend", &backend.name)];
                page.line(name, &labels, value(backend));
            }
        }
    }
    page.family(
        "usherd_radius_backend_answers_total",
        "counter",
        "What back ends said of users.",
    );
    for one in &s.radius {
        for backend in &one.backends {
            for (word, count) in [
                ("yes", backend.yes),
                ("no", backend.no),
                ("not-found", backend.not_found),
                ("unavailable", backend.unavailable),
            ] {
                let labels = [
                    ("listener", one.address.as_str()),
                    ("backend", &backend.name),
                    ("answer", word),
                ];
                page.line("usherd_radius_backend_answers_total", &labels, count);
            }
        }
    }
}
