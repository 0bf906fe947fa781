//! Services: what runs them, and the bounds of their pools. What the process is given is in `check_process`.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::check::{Named, check_name};
use super::check_process;
use super::diagnostic::{At, Place, Problems};
use super::files::{self, Folder};
use super::helper_dbus;
use super::identity_helpers;
use super::plan::{self, Builtin, ServiceKind, Transport};
use super::raw::{self, Helper};
use super::sql;
use super::values::{show_duration, show_size};

/// Half of it is for requests, half for answers; less is not worth a page.
const SHARED_MEMORY_MIN: usize = 8 << 10;
const SHARED_MEMORY: usize = 128 << 10;
/// Less is what an empty process has.
const MEMORY_MIN: usize = 1 << 20;

/// All services.
pub(super) fn services(p: &mut Problems, raw: &[(At<String>, raw::Service)], folder: &Folder) -> Named<plan::Service> {
    let mut plans = Named::new();
    for (name, service) in raw {
        check_name(p, "service", name);
        if let Some(plan) = check_service(p, name, service, folder) {
            plans.insert(name.value.clone(), Arc::new(plan));
        }
    }
    plans
}

fn check_service(p: &mut Problems, name: &At<String>, raw: &raw::Service, folder: &Folder) -> Option<plan::Service> {
    let kind = kind(p, raw);
    let program = program(p, name, raw, folder);
    foreign_tables(p, raw);
    if kind == ServiceKind::Exec {
        for (key, place) in raw.stay.written() {
            p.error(place, format!("`{key}` is for helpers that stay"))
                .label(format!("`{}` is a program that is run for each request", name.value))
                .help(
                    "leave it out, or write a program that speaks the helper protocol and leave out helper = \"exec\"",
                );
        }
    }
    let (min, max, min_spare) = sizes(p, raw);
    let (queue_timeout, request_timeout) = timeouts(p, raw);
    let (retry_min, retry_max) = retries(p, raw);
    let stay = &raw.stay;
    let concurrency = count(&stay.concurrency, 1);
    let account = check_process::account(p, raw, rustix::process::geteuid().is_root());
    let service = plan::Service {
        name: name.value.clone(),
        kind,
        program: Vec::new(),
        min,
        max,
        min_spare,
        idle_timeout: length(&stay.idle_timeout, 60_000),
        spawn_rate: count(&stay.spawn_rate, 32),
        starting_max: count(&stay.starting_max, 8),
        start_timeout: length(&stay.start_timeout, 10_000),
        queue_max: count(&raw.queue_max, 1000),
        queue_timeout,
        request_timeout,
        grace: length(&raw.grace, 1000),
        requests_max: count(&stay.requests_max, 0),
        lifetime: length(&stay.lifetime, 0),
        memory_max: memory_max(p, stay.memory_max.as_ref()),
        crash_max: count(&stay.crash_max, 10),
        crash_window: length(&stay.crash_window, 60_000),
        retry_min,
        retry_max,
        concurrency,
        user: account.user,
        groups: account.groups,
        limits: raw.limits.clone(),
        sandbox: check_process::sandbox(p, raw, folder),
        directory: raw
            .directory
            .as_ref()
            .and_then(|at| check_process::working_directory(p, at, folder)),
        environment: check_process::environment(p, raw),
        dbus: helper_dbus::method(p, raw),
        shared_memory: shared_memory(p, kind, concurrency, stay.shared_memory.as_ref()),
        reply_bytes_max: count(&raw.reply_bytes_max, 16 << 20),
        slow_log: length(&raw.slow_log, 1000),
    };
    Some(plan::Service {
        program: program?,
        ..service
    })
}

/// What is written, or so many.
fn count(at: &Option<At<usize>>, default: usize) -> usize {
    at.as_ref().map_or(default, |at| at.value)
}

/// What is written, or so many milliseconds.
fn length(at: &Option<At<Duration>>, default_ms: u64) -> Duration {
    at.as_ref().map_or(Duration::from_millis(default_ms), |at| at.value)
}

fn kind(p: &mut Problems, raw: &raw::Service) -> ServiceKind {
    let builtin = match raw.helper.as_ref().map(|at| at.value) {
        Some(Helper::Exec) => return ServiceKind::Exec,
        Some(Helper::Winbind) => Some(Builtin::Winbind),
        Some(Helper::Pam) => Some(Builtin::Pam),
        Some(Helper::Sql) => Some(Builtin::Sql),
        None => None,
    };
    let written = raw.stay.transport.as_ref();
    if let (Some(written), Some(helper)) = (written.filter(|at| at.value == Transport::Dbus), &raw.helper) {
        let what = format!("the helper `{}` does not speak D-Bus", helper.value.word());
        p.error(&written.place, what).help("leave `transport` out");
    }
    ServiceKind::Helper {
        transport: written.map_or(Transport::Seqpacket, |at| at.value),
        builtin,
    }
}

fn sizes(p: &mut Problems, raw: &raw::Service) -> (usize, usize, usize) {
    let max = count(&raw.max, 16);
    for (key, written) in [("min", &raw.stay.min), ("min_spare", &raw.stay.min_spare)] {
        if let Some(written) = written.as_ref().filter(|at| at.value > max) {
            let problem = p.error(&written.place, format!("`{key}` is larger than `max`"));
            problem.label(format!("{key} is {}, max is {max}", written.value));
            if let Some(max) = &raw.max {
                problem.also(&max.place, "`max` here");
            }
            problem.help(format!("make `{key}` at most `max`"));
        }
    }
    (count(&raw.stay.min, 1.min(max)), max, count(&raw.stay.min_spare, 0))
}

fn timeouts(p: &mut Problems, raw: &raw::Service) -> (Duration, Duration) {
    let (queue, request) = (length(&raw.queue_timeout, 10_000), length(&raw.request_timeout, 30_000));
    if let Some(written) = raw.queue_timeout.as_ref().filter(|_| queue > request) {
        p.warning(&written.place, "`queue_timeout` is longer than `request_timeout`")
            .label(format!(
                "a request lives for {}, in the queue and out of it",
                show_duration(request)
            ));
    }
    (queue, request)
}

fn retries(p: &mut Problems, raw: &raw::Service) -> (Duration, Duration) {
    let (min, max) = (length(&raw.stay.retry_min, 500), length(&raw.stay.retry_max, 30_000));
    let place = |at: &Option<At<Duration>>| at.as_ref().map(|at| at.place.clone());
    if min > max {
        let at = place(&raw.stay.retry_min).or(place(&raw.stay.retry_max));
        p.error(&at.unwrap_or(Place::Nowhere), "`retry_min` is longer than `retry_max`")
            .label(format!(
                "retry_min is {}, retry_max is {}",
                show_duration(min),
                show_duration(max)
            ))
            .help("make `retry_min` at most `retry_max`");
    }
    (min, max)
}

fn memory_max(p: &mut Problems, written: Option<&At<usize>>) -> usize {
    let Some(written) = written else { return 0 };
    if (1..MEMORY_MIN).contains(&written.value) {
        p.error(&written.place, "`memory_max` is less than any process has")
            .label(format!("found {}", show_size(written.value)))
            .help(format!(
                "it may be {} or more, or 0 for no bound",
                show_size(MEMORY_MIN)
            ));
    }
    written.value
}

fn shared_memory(p: &mut Problems, kind: ServiceKind, concurrency: usize, written: Option<&At<usize>>) -> usize {
    let transport = match kind {
        ServiceKind::Exec => return 0,
        ServiceKind::Helper { transport, .. } => transport,
    };
    let none = transport == Transport::Dbus || concurrency > 1;
    let Some(written) = written.filter(|at| at.value > 0) else {
        return if none || written.is_some() { 0 } else { SHARED_MEMORY };
    };
    if none {
        p.error(&written.place, "`shared_memory` has no use here")
            .label(if transport == Transport::Dbus {
                "D-Bus carries every payload itself"
            } else {
                "helpers that take several calls at once share no memory"
            })
            .help("leave it out");
    } else if written.value < SHARED_MEMORY_MIN {
        p.error(&written.place, "`shared_memory` is too small to be of use")
            .label(format!("found {}", show_size(written.value)))
            .help(format!(
                "it may be {} to 1GiB, or 0 for none",
                show_size(SHARED_MEMORY_MIN)
            ));
    }
    written.value
}

fn program(p: &mut Problems, name: &At<String>, raw: &raw::Service, folder: &Folder) -> Option<Vec<String>> {
    const RIGHT: &str = "write program = [\"/usr/bin/tr\", \"a-z\", \"A-Z\"]: a list, because no shell reads it";
    if let Some(helper) = raw.helper.as_ref().filter(|at| at.value != Helper::Exec) {
        if let Some(written) = &raw.program {
            p.error(
                &written.place,
                format!("the helper `{}` is built in", helper.value.word()),
            )
            .label("it has no program of yours")
            .help("leave `program` out, or leave `helper` out where your program speaks the helper protocol");
        }
        return builtin_program(p, helper, raw, folder);
    }
    let Some(written) = &raw.program else {
        if p.absent(&raw.place, "program") {
            p.error(&name.place, format!("the service `{}` has no program", name.value))
                .help(RIGHT)
                .help("or name a helper that is built in: helper = \"winbind\", \"pam\" or \"sql\"");
        }
        return None;
    };
    let Some((first, arguments)) = written.value.split_first() else {
        p.error(&written.place, "`program` is an empty list").help(RIGHT);
        return None;
    };
    if let Some(argument) = written.value.iter().find(|argument| argument.value.contains('\0')) {
        p.error(&argument.place, "an argument cannot contain a zero byte");
        return None;
    }
    if arguments.is_empty() && first.value.contains(' ') && !folder.path(&first.value).exists() {
        p.error(&first.place, "`program` looks like a command line")
            .label(format!("found \"{}\"", first.value))
            .help(RIGHT);
        return None;
    }
    let path = files::program(p, folder, first)?;
    let mut program = vec![path.to_str()?.to_owned()];
    program.extend(arguments.iter().map(|argument| argument.value.clone()));
    Some(program)
}

/// This daemon itself, as `usherd helper NAME`.
fn builtin_program(p: &mut Problems, helper: &At<Helper>, raw: &raw::Service, folder: &Folder) -> Option<Vec<String>> {
    let found = std::env::current_exe();
    let path = found.as_deref().ok().and_then(Path::to_str);
    if path.is_none() {
        p.error(&helper.place, "the daemon does not find its own program")
            .label("built-in helpers are run by it");
    }
    let arguments = match helper.value {
        Helper::Winbind => identity_helpers::winbind_arguments(p, raw.winbind.as_ref()),
        Helper::Pam => identity_helpers::pam_arguments(p, raw.pam.as_ref()),
        Helper::Sql => sql_arguments(p, helper, raw, folder)?,
        Helper::Exec => Vec::new(),
    };
    let mut program = vec![path?.to_owned(), "helper".to_owned(), helper.value.word().to_owned()];
    program.extend(arguments);
    Some(program)
}

/// Tables of built-in helpers that the service does not use.
fn foreign_tables(p: &mut Problems, raw: &raw::Service) {
    let own = raw.helper.as_ref().map(|at| at.value);
    let tables = [
        (Helper::Winbind, raw.winbind.as_ref().map(|table| &table.place)),
        (Helper::Pam, raw.pam.as_ref().map(|table| &table.place)),
        (Helper::Sql, raw.sql.as_ref().map(|table| &table.place)),
    ];
    for (helper, place) in tables {
        if let Some(place) = place.filter(|_| own != Some(helper)) {
            let word = helper.word();
            p.error(place, format!("the table `{word}` is for helper = \"{word}\""))
                .help(format!("leave it out, or write helper = \"{word}\""));
        }
    }
}

/// Database and statements of the helper `sql`.
fn sql_arguments(p: &mut Problems, helper: &At<Helper>, raw: &raw::Service, folder: &Folder) -> Option<Vec<String>> {
    let Some(written) = &raw.sql else {
        if p.absent(&raw.place, "sql") {
            p.error(&helper.place, "the helper `sql` needs a database and statements")
                .help("add [service.NAME.sql] with `url`, and [service.NAME.sql.statement.find] with `sql`");
        }
        return None;
    };
    sql::arguments(p, written, folder, count(&raw.reply_bytes_max, 16 << 20))
}
