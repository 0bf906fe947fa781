//! `usherd radius run`.

use std::collections::BTreeMap;

use super::super::diagnostic::{At, Diagnostic, Place, Problems};
use super::super::plan::Plan;
use super::super::radius::raw::Backend;
use super::super::radius::raw_accounting::Accounting;
use super::super::raw::{self, Raw};
use super::{finish, flag};

/// What `usherd radius run` was told.
#[derive(Clone, Debug, Default)]
pub struct Radius {
    /// `--listen`, at least one.
    pub listen: Vec<String>,
    /// `--clients`.
    pub clients: String,
    /// `--users`.
    pub users: String,
    /// `--dictionary`.
    pub dictionary: Vec<String>,
    /// `--workers`.
    pub workers: Option<i64>,
    /// `--control`; else a private run-time folder.
    pub control: Option<String>,
    /// `--admin`.
    pub admin: Option<String>,
}

/// The plan of `usherd radius run`.
///
/// # Errors
/// Everything that is wrong with the flags, or with the files that they name.
pub fn radius(args: &Radius) -> Result<(Plan, Vec<Diagnostic>), Vec<Diagnostic>> {
    let raw = Raw {
        server: raw::Server {
            workers: args.workers.map(|workers| At::new(workers, Place::Flag("--workers"))),
            control: flag("--control", &args.control),
            admin: flag("--admin", &args.admin),
            ..raw::Server::default()
        },
        directories: Vec::new(),
        services: Vec::new(),
        feeds: Vec::new(),
        sinks: BTreeMap::new(),
        listeners: args.listen.iter().map(|address| listener(args, address)).collect(),
        audit: None,
    };
    finish(Problems::new(None), &raw, args.control.is_some())
}

fn listener(args: &Radius, address: &str) -> raw::Listen {
    let text = |name: &'static str, value: &String| At::new(value.clone(), Place::Flag(name));
    let mut listen = raw::Listen::empty(Place::Flag("--listen"));
    listen.protocol = Some(At::new(raw::Protocol::Radius, Place::Flag("--listen")));
    listen.address = Some(text("--listen", &address.to_owned()));
    listen.radius.clients_file = Some(text("--clients", &args.clients));
    let files: Vec<_> = args.dictionary.iter().map(|file| text("--dictionary", file)).collect();
    listen.radius.dictionary_files = (!files.is_empty()).then(|| At::new(files, Place::Flag("--dictionary")));
    // It is said in the manual.
    listen.radius.accounting = Some(Accounting::Discard);
    let mut users = Backend::nobody(Place::Flag("--users"));
    users.users_file = Some(text("--users", &args.users));
    listen.radius.chain.backends.push(users);
    listen
}
