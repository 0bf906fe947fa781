//! RADIUS over a reload, and how it stands.

use engine::core::Histogram;
use engine::core::time::Instant;
use engine::session::radius::Method;

use super::records::{self, Writers};
use super::snapshot::{count, seconds, show};
use super::{Plan, State};
use crate::admin::snapshot::{Count, Radius, RadiusBackend, RadiusVerdicts};
use crate::config::plan::Face;
use crate::drive::{RadiusReport, WorkerReport, listener_id};
use crate::traces;

/// What was learnt of clients is not forgotten, and traces go on.
pub(super) fn inherit(old: &Plan, new: &Plan, now: Instant) {
    for listener in &new.listeners {
        let id = listener_id(listener);
        let before = old.listeners.iter().find(|other| listener_id(other) == id);
        if let (Face::Radius(new), Some(Face::Radius(old))) = (&listener.face, before.map(|other| &other.face)) {
            new.plan.clients.inherit(&old.plan.clients);
        }
    }
    traces::inherit(old, new, now);
}

/// Every RADIUS listener, all workers together.
pub(super) fn snapshot(state: &State, reports: &[WorkerReport], writers: &Writers) -> Vec<Radius> {
    let listeners = state.plan.listeners.iter();
    let radius = listeners.filter(|listener| matches!(listener.face, Face::Radius(_)));
    radius
        .map(|listener| {
            let id = listener_id(listener);
            let all = reports.iter().flat_map(|report| &report.radius);
            let address = show(state.bound.get(&id).unwrap_or(&listener.address));
            let mut sum = Radius {
                address,
                ..Radius::default()
            };
            let mut took = Histogram::default();
            for report in all.filter(|report| report.listener == id) {
                add(&mut sum, report);
                took.add(&report.figures.took);
            }
            sum.took = seconds(&took);
            sum.records = records::snapshot(writers, id);
            sum
        })
        .collect()
}

fn add(sum: &mut Radius, report: &RadiusReport) {
    let figures = &report.figures;
    for method in Method::ALL {
        let verdicts = figures.method(method);
        if verdicts.accepts + verdicts.rejects == 0 {
            continue;
        }
        let label = method.label();
        let at = sum.methods.iter().position(|known| known.method == label);
        let at = at.unwrap_or_else(|| {
            sum.methods.push(RadiusVerdicts {
                method: label.to_owned(),
                ..RadiusVerdicts::default()
            });
            sum.methods.len() - 1
        });
        if let Some(known) = sum.methods.get_mut(at) {
            known.accepts += verdicts.accepts;
            known.rejects += verdicts.rejects;
        }
    }
    sum.challenges += figures.challenges;
    sum.recorded += figures.recorded;
    sum.statuses += figures.statuses;
    sum.unwritable += figures.unwritable;
    sum.waiting += report.waiting as u64;
    sum.begun += report.duplicates.begun;
    sum.resent += report.duplicates.resent;
    sum.replaced += report.duplicates.replaced;
    sum.evicted += report.duplicates.evicted;
    sum.kernel_drops += report.kernel_drops;
    sum.unsent += report.unsent;
    sum.service_time_us = sum.service_time_us.max(report.service_time_us);
    for (client, why, dropped) in &report.dropped {
        more(&mut sum.dropped, why, *dropped);
        if let Some(client) = client {
            more(&mut sum.clients_dropped, client, *dropped);
        }
    }
    for (backend, us) in figures.backends.iter().zip(&report.backends_us) {
        let at = sum.backends.iter().position(|known| known.name == backend.name);
        let at = at.unwrap_or_else(|| {
            sum.backends.push(RadiusBackend {
                name: backend.name.clone(),
                ..RadiusBackend::default()
            });
            sum.backends.len() - 1
        });
        if let Some(known) = sum.backends.get_mut(at) {
            known.yes += backend.yes;
            known.no += backend.no;
            known.not_found += backend.not_found;
            known.unavailable += backend.unavailable;
            known.pending += u64::from(backend.in_flight);
            known.service_time_us = known.service_time_us.max(*us);
        }
    }
}

fn more(counts: &mut Vec<Count>, label: &str, by: u64) {
    match counts.iter_mut().find(|known| known.label == label) {
        Some(known) => known.count += by,
        None => counts.push(count(label, by)),
    }
}
