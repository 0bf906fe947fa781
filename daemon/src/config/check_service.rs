//! Services: the program, its environment, and its bounds.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::check::{Named, check_name};
use super::diagnostic::{At, Problems};
use super::files::{self, Folder};
use super::plan;
use super::raw;
use super::values::show_duration;

/// What a program finds as PATH when its environment says nothing of it.
pub const PATH_DEFAULT: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

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
    if raw.helper.is_none() && p.absent(&raw.place, "helper") {
        p.error(
            &name.place,
            format!("the service `{}` does not say what runs it", name.value),
        )
        .help("add helper = \"exec\": `program` is run for each request, which it reads from its standard input");
    }
    let program = program(p, name, raw, folder);
    let directory = raw.directory.as_ref().and_then(|at| working_directory(p, at, folder));
    let environment = environment(p, &raw.environment);
    let seconds = |at: &Option<At<Duration>>, default| at.as_ref().map_or(Duration::from_secs(default), |at| at.value);
    let (queue_timeout, request_timeout) = (seconds(&raw.queue_timeout, 10), seconds(&raw.request_timeout, 30));
    if let Some(written) = raw.queue_timeout.as_ref().filter(|_| queue_timeout > request_timeout) {
        p.warning(&written.place, "`queue_timeout` is longer than `request_timeout`")
            .label(format!(
                "a request lives for {}, in the queue and out of it",
                show_duration(request_timeout)
            ));
    }
    raw.helper.as_ref()?;
    Some(plan::Service {
        name: name.value.clone(),
        program: program?,
        max: raw.max.as_ref().map_or(16, |at| at.value),
        queue_max: raw.queue_max.as_ref().map_or(1000, |at| at.value),
        queue_timeout,
        request_timeout,
        grace: seconds(&raw.grace, 1),
        reply_bytes_max: raw.reply_bytes_max.as_ref().map_or(16 << 20, |at| at.value),
        directory,
        environment,
    })
}

fn program(p: &mut Problems, name: &At<String>, raw: &raw::Service, folder: &Folder) -> Option<Vec<String>> {
    const RIGHT: &str = "write program = [\"/usr/bin/tr\", \"a-z\", \"A-Z\"]: a list, because no shell reads it";
    let Some(written) = &raw.program else {
        if p.absent(&raw.place, "program") {
            p.error(&name.place, format!("the service `{}` has no program", name.value))
                .help(RIGHT);
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

fn working_directory(p: &mut Problems, at: &At<String>, folder: &Folder) -> Option<std::path::PathBuf> {
    let path = folder.path(&at.value);
    let failure = match std::fs::metadata(&path) {
        Ok(found) if found.is_dir() => return Some(path),
        Ok(_) => "it is not a folder".to_owned(),
        Err(error) => files::plain(&error),
    };
    p.error(
        &at.place,
        format!("the working directory {} cannot be used", path.display()),
    )
    .label(failure);
    None
}

fn environment(p: &mut Problems, raw: &[(At<String>, At<String>)]) -> BTreeMap<String, String> {
    let mut environment = BTreeMap::from([("PATH".to_owned(), PATH_DEFAULT.to_owned())]);
    for (name, value) in raw {
        if name.value.is_empty() || name.value.contains(['=', '\0']) {
            p.error(
                &name.place,
                format!("`{}` cannot be the name of a variable", name.value.escape_debug()),
            );
        }
        if value.value.contains('\0') {
            p.error(&value.place, "a variable cannot contain a zero byte");
        }
        environment.insert(name.value.clone(), value.value.clone());
    }
    environment
}
