//! Accounting of a RADIUS listener: what was written, checked for its kind.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use wire::radius::Dictionary;

use super::super::diagnostic::{At, Place, Problems};
use super::super::files::Folder;
use super::super::plan::{Face, Listener};
use super::super::raw::{Listen, Raw};
use super::super::suggest::nearest;
use super::raw_accounting::{Accounting, Table};
use crate::accounting::FIELDS;
use crate::accounting::plan::{FilePlan, Format, PathTemplate, ServicePlan, Settings, SinkPlan, SpoolPlan, Statement};

const OF_FILES: [&str; 7] = ["file", "format", "sync", "rotate_bytes", "rotate_every", "keep", "mode"];
const OF_SERVICES: [&str; 5] = ["service", "statement", "parameters", "concurrency", "timeout"];
const COMMON: [&str; 4] = ["queue_max", "spool", "spool_max_bytes", "spool_after"];
const RIGHT: &str =
    "write accounting = { file = \"/var/log/usherd/accounting.json\" }, { service = \"NAME\" }, or \"discard\"";

/// What the checks need of the rest of the configuration.
pub struct Around<'a> {
    /// Of relative paths.
    pub folder: &'a Folder,
    /// The names of the services.
    pub services: &'a [&'a str],
    /// By which attributes have names.
    pub dictionary: &'a Dictionary,
    /// `state_dir`, where one is written: the spool is on then.
    pub state_dir: Option<&'a Path>,
    /// What the listener is called in file names: its address, for instance.
    pub listener: &'a str,
}

/// Where records go; None inside: nowhere. None outside: something is wrong, and was told.
#[expect(
    clippy::option_option,
    reason = "what is wrong, and what is to be done, are two things"
)]
pub fn check(p: &mut Problems, raw: &Accounting, around: &Around<'_>) -> Option<Option<Settings>> {
    let raw = match raw {
        Accounting::Discard => return Some(None),
        Accounting::Write(table) => table,
    };
    let sink = match (&raw.file, &raw.service) {
        (Some(_), Some(service)) => {
            p.error(&service.place, "`accounting` has a `file` and a `service`")
                .help(RIGHT);
            return None;
        }
        (None, None) => {
            if p.absent(&raw.place, "file") && p.absent(&raw.place, "service") {
                p.error(&raw.place, "`accounting` has neither a `file` nor a `service`")
                    .help(RIGHT);
            }
            return None;
        }
        (Some(path), None) => {
            refuse(p, raw, &OF_SERVICES, "service");
            file(p, raw, path, around).map(SinkPlan::File)
        }
        (None, Some(name)) => {
            refuse(p, raw, &OF_FILES, "file");
            service(p, raw, name, around).map(SinkPlan::Service)
        }
    };
    let spool = spool(p, raw, around);
    Some(Some(Settings {
        sink: sink?,
        queue_max: raw.queue_max.as_ref().map_or(65_536, |at| at.value),
        spool: spool?,
    }))
}

/// Listeners that write to the same file share one writer, and so must say the same of it.
pub fn same_files(p: &mut Problems, raw: &Raw, listeners: &[Arc<Listener>]) {
    let all = listeners.iter().filter_map(|listener| match &listener.face {
        Face::Radius(radius) => Some((&radius.plan.listener, radius.accounting.as_ref()?)),
        _ => None,
    });
    let all: Vec<(&String, &Settings)> = all.collect();
    let written = |name: &String| {
        let is_it = |listen: &&Listen| listen.address.as_ref().is_some_and(|address| address.value == *name);
        raw.listeners.iter().find(is_it)
    };
    for (at, (name, settings)) in all.iter().enumerate() {
        let mut before = all.iter().take(at);
        let Some((first, others)) = before.find(|(_, others)| settings.is_same_file(others)) else {
            continue;
        };
        let (Some(listen), Some(first)) = (written(name), written(first)) else {
            continue;
        };
        let files = |listen: &Listen| {
            let files = listen.radius.dictionary_files.as_ref();
            files.map(|files| files.value.iter().map(|file| file.value.clone()).collect::<Vec<_>>())
        };
        let differs = difference(settings, others);
        let differs = differs.or_else(|| (files(listen) != files(first)).then_some("dictionary_files"));
        if let (Some(key), Some(place)) = (differs, place_of_file(listen)) {
            let told = format!("two listeners write to this file, each with another `{key}`");
            p.error(place, told)
                .label("second here")
                .also(place_of_file(first).unwrap_or(place), "first here")
                .help("write the same for both, or give each a file of its own");
        }
    }
}

fn place_of_file(listen: &Listen) -> Option<&Place> {
    match &listen.radius.accounting {
        Some(Accounting::Write(table)) => table.file.as_ref().map(|file| &file.place),
        _ => None,
    }
}

/// The first setting that differs; the folder of the spool is each one's own.
fn difference(one: &Settings, two: &Settings) -> Option<&'static str> {
    let (SinkPlan::File(file), SinkPlan::File(other)) = (&one.sink, &two.sink) else {
        return None;
    };
    let spool = |settings: &Settings| settings.spool.as_ref().map(|spool| (spool.bytes_max, spool.after));
    let (kept, others) = (spool(one), spool(two));
    let differ = [
        ("format", file.format != other.format),
        ("sync", file.sync != other.sync),
        ("rotate_bytes", file.rotate_bytes != other.rotate_bytes),
        ("rotate_every", file.rotate_every != other.rotate_every),
        ("keep", file.keep != other.keep),
        ("mode", file.mode != other.mode),
        ("queue_max", one.queue_max != two.queue_max),
        ("spool", kept.is_some() != others.is_some()),
        ("spool_max_bytes", kept.map(|kept| kept.0) != others.map(|kept| kept.0)),
        ("spool_after", kept.map(|kept| kept.1) != others.map(|kept| kept.1)),
    ];
    differ.into_iter().find_map(|(key, differs)| differs.then_some(key))
}

fn refuse(p: &mut Problems, raw: &Table, others: &[&str], owner: &str) {
    for (key, place) in raw.written.iter().filter(|(key, _)| others.contains(key)) {
        let known = if owner == "file" {
            &OF_SERVICES[..]
        } else {
            &OF_FILES[..]
        };
        p.error(place, format!("`{key}` is for accounting with a `{owner}`"))
            .help(format!("it knows {}, {}", known.join(", "), COMMON.join(", ")));
    }
}

fn file(p: &mut Problems, raw: &Table, path: &At<String>, around: &Around<'_>) -> Option<FilePlan> {
    let whole = around.folder.path(&path.value);
    let template = match whole.to_str().map(PathTemplate::parse) {
        Some(Ok(template)) => template,
        Some(Err(found)) => {
            p.error(&path.place, "`file` has a place that is not known")
                .label(format!("found {found}"))
                .help("it knows %Y, %m, %d, %H, %{client}, and %% for a %");
            return None;
        }
        None => {
            p.error(&path.place, "`file` is relative to a folder whose name is not UTF-8");
            return None;
        }
    };
    if path.value.is_empty() || path.value.ends_with('/') || template.is_plain() && whole.is_dir() {
        p.error(&path.place, "`file` names a folder and not a file")
            .label(format!("found \"{}\"", path.value));
        return None;
    }
    // Folders with places in their names are made when they are needed.
    let fixed = template.before_places();
    let fixed = fixed.rsplit_once('/').map_or("/", |(folder, _)| folder);
    if !fixed.is_empty() && !Path::new(fixed).is_dir() {
        p.error(&path.place, format!("there is no folder {fixed}"))
            .help("make it first, with the right owner");
        return None;
    }
    Some(FilePlan {
        path: template,
        format: raw.format.as_ref().map_or(Format::Json, |at| at.value),
        sync: raw.sync.as_ref().is_none_or(|at| at.value),
        rotate_bytes: raw.rotate_bytes.as_ref().map_or(0, |at| at.value as u64),
        rotate_every: raw.rotate_every.as_ref().map_or(Duration::ZERO, |at| at.value),
        keep: raw.keep.as_ref().map_or(30, |at| at.value),
        mode: raw.mode.as_ref().map_or(0o600, |at| at.value),
    })
}

fn service(p: &mut Problems, raw: &Table, name: &At<String>, around: &Around<'_>) -> Option<ServicePlan> {
    if !around.services.contains(&name.value.as_str()) {
        let problem = p.error(&name.place, format!("no service has the name \"{}\"", name.value));
        match nearest(&name.value, around.services.iter().copied()) {
            Some(near) => problem.help(format!("did you mean \"{near}\"?")),
            None => problem.help(format!("write [service.{}] and what it is", name.value)),
        };
        return None;
    }
    let statement = match (&raw.statement, &raw.parameters) {
        (None, None) => None,
        (Some(name), Some(parameters)) => {
            let mut names = Vec::with_capacity(parameters.value.len());
            for parameter in &parameters.value {
                names.push(field_or_attribute(p, parameter, around.dictionary)?);
            }
            let name = name.value.clone();
            Some(Statement {
                name,
                parameters: names,
            })
        }
        (Some(alone), None) => {
            p.error(&alone.place, "`statement` is called without `parameters`")
                .help("write parameters = [\"session_key\", \"status\", \"User-Name\"], in the order of the statement's own");
            return None;
        }
        (None, Some(alone)) => {
            p.error(&alone.place, "`parameters` without a `statement`")
                .help("name the statement of the helper sql: statement = \"…\"");
            return None;
        }
    };
    Some(ServicePlan {
        service: name.value.clone(),
        statement,
        concurrency: raw.concurrency.as_ref().map_or(8, |at| at.value),
        timeout: raw.timeout.as_ref().map_or(Duration::from_secs(5), |at| at.value),
    })
}

fn field_or_attribute(p: &mut Problems, parameter: &At<String>, dictionary: &Dictionary) -> Option<String> {
    let name = parameter.value.as_str();
    if FIELDS.contains(&name) || dictionary.named(name).is_some() {
        return Some(name.to_owned());
    }
    let near = dictionary.suggestions(name);
    let near = near.first().copied().or_else(|| nearest(name, FIELDS));
    let problem = p.error(
        &parameter.place,
        format!("\"{name}\" is no field of a record, and no attribute"),
    );
    match near {
        Some(near) => problem.help(format!("did you mean \"{near}\"?")),
        None => problem.help(format!("fields are {}", FIELDS.join(", "))),
    };
    None
}

/// None inside: none is wanted.
#[expect(
    clippy::option_option,
    reason = "what is wrong, and what is to be done, are two things"
)]
fn spool(p: &mut Problems, raw: &Table, around: &Around<'_>) -> Option<Option<SpoolPlan>> {
    let wanted = raw.spool.as_ref().map(|at| at.value);
    let sizes = raw
        .written
        .iter()
        .find(|(key, _)| *key == "spool_max_bytes" || *key == "spool_after");
    let on = wanted.unwrap_or(around.state_dir.is_some());
    let Some(state) = around.state_dir.filter(|_| on) else {
        if let (Some(at), true) = (&raw.spool, on) {
            p.error(&at.place, "there is no place for the spool")
                .help("write state_dir = \"/var/lib/usherd\" in [server]");
            return None;
        }
        if let Some((key, place)) = sizes {
            p.error(place, format!("`{key}` is for a spool, and there is none"))
                .help("write state_dir in [server], and spool = true here");
            return None;
        }
        return Some(None);
    };
    let listener = around
        .listener
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' });
    let listener: String = listener.collect();
    Some(Some(SpoolPlan {
        folder: state.join("accounting").join(listener.trim_matches('-')),
        bytes_max: raw.spool_max_bytes.as_ref().map_or(1 << 30, |at| at.value as u64),
        after: raw.spool_after.as_ref().map_or(Duration::from_secs(1), |at| at.value),
    }))
}
