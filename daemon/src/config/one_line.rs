//! The one-line commands: a plan from flags, by the same way a file takes.
//!
//! They have no admin address unless one is given, and their control socket stands in a private run-time folder.

use std::path::Path;

use super::diagnostic::{At, Diagnostic, Place, Problems};
use super::plan::{Identity, Plan};
use super::raw::{self, Raw, StartTls};
use super::{files, limits, run_dir};
use engine::core::policy::Kind as Policy;

/// The name of the directory that a one-line balancer makes.
pub const DIRECTORY: &str = "ldap";

/// What `usherd ldap run` was told.
#[derive(Clone, Debug, Default)]
pub struct Ldap {
    /// `--listen`, at least one.
    pub listen: Vec<String>,
    /// `--server`, at least one; all in one tier.
    pub server: Vec<String>,
    /// `--bind-dn`.
    pub bind_dn: Option<String>,
    /// `--bind-password-file`.
    pub bind_password_file: Option<String>,
    /// `--identity`; else proxied with a bind DN, pinned without.
    pub identity: Option<Identity>,
    /// `--workers`.
    pub workers: Option<i64>,
    /// `--policy`.
    pub policy: Option<Policy>,
    /// `--ca-file`: authorities of the servers' certificates.
    pub ca_file: Option<String>,
    /// `--starttls`: towards every `ldap://` server.
    pub starttls: Option<StartTls>,
    /// `--cert-file`: certificate of the listeners.
    pub cert_file: Option<String>,
    /// `--key-file`: its key.
    pub key_file: Option<String>,
    /// `--control`; else a private run-time folder.
    pub control: Option<String>,
    /// `--admin`.
    pub admin: Option<String>,
}

/// The plan of `usherd ldap run`.
///
/// # Errors
/// Everything that is wrong with the flags.
pub fn ldap(args: &Ldap) -> Result<(Plan, Vec<Diagnostic>), Vec<Diagnostic>> {
    let mut problems = Problems::new(None);
    let flag = |name: &'static str, value: &Option<String>| {
        value.as_ref().map(|value| At::new(value.clone(), Place::Flag(name)))
    };
    let control = match &args.control {
        Some(_) => flag("--control", &args.control),
        None => match run_dir::make() {
            Ok(path) => Some(files::nowhere(path.display().to_string())),
            Err(error) => {
                problems
                    .error(&Place::Nowhere, "no private folder for the control socket can be made")
                    .label(files::plain(&error))
                    .help("name a path: --control PATH");
                None
            }
        },
    };
    let raw = Raw {
        server: raw::Server {
            workers: args.workers.map(|workers| At::new(workers, Place::Flag("--workers"))),
            control,
            admin: flag("--admin", &args.admin),
            ..raw::Server::default()
        },
        directories: vec![(files::nowhere(DIRECTORY.to_owned()), directory(args))],
        services: Vec::new(),
        listeners: args.listen.iter().map(|address| listener(args, address)).collect(),
    };
    match super::finish(&mut problems, &raw, Path::new("")) {
        Some(plan) => Ok((plan, problems.into_list())),
        None => {
            if let (None, Some(made)) = (&args.control, &raw.server.control) {
                run_dir::remove(Path::new(&made.value));
            }
            Err(problems.into_list())
        }
    }
}

fn directory(args: &Ldap) -> raw::Directory {
    let flag = |name: &'static str, value: &Option<String>| {
        value.as_ref().map(|value| At::new(value.clone(), Place::Flag(name)))
    };
    let tls = flag("--ca-file", &args.ca_file).map(|ca_file| raw::TlsClient {
        place: Place::Flag("--ca-file"),
        ca_file: Some(ca_file),
        cert_file: None,
        key_file: None,
        server_name: None,
        verify: None,
    });
    let server = |url: &String| raw::Upstream {
        place: Some(Place::Flag("--server")),
        url: Some(At::new(url.clone(), Place::Flag("--server"))),
        starttls: args
            .starttls
            .filter(|_| url.starts_with("ldap://"))
            .map(|starttls| At::new(starttls, Place::Flag("--starttls"))),
        ..raw::Upstream::default()
    };
    raw::Directory {
        place: Place::Nowhere,
        base: None,
        identity: args
            .identity
            .map(|identity| At::new(identity, Place::Flag("--identity"))),
        bind: raw::Bind {
            dn: flag("--bind-dn", &args.bind_dn),
            password_file: flag("--bind-password-file", &args.bind_password_file),
        },
        tls,
        policy: args.policy.map(|policy| At::new(policy, Place::Flag("--policy"))),
        servers: args.server.iter().map(server).collect(),
        tiers: Vec::new(),
        limits: limits::defaults(),
    }
}

/// With a certificate, every plain listener offers StartTLS.
fn listener(args: &Ldap, address: &str) -> raw::Listen {
    let here = Place::Flag("--listen");
    let mut listen = raw::Listen::empty(here.clone());
    listen.address = Some(At::new(address.to_owned(), here.clone()));
    if !address.contains("://") {
        listen.protocol = Some(At::new(raw::Protocol::Ldap, here));
    }
    if args.cert_file.is_some() || args.key_file.is_some() {
        let flag = |name: &'static str, value: &Option<String>| {
            value.as_ref().map(|value| At::new(value.clone(), Place::Flag(name)))
        };
        let place = Place::Flag("--cert-file");
        if !address.starts_with("ldaps://") {
            listen.starttls = Some(At::new(true, place.clone()));
        }
        listen.tls = Some(raw::TlsServer {
            place,
            cert_file: flag("--cert-file", &args.cert_file),
            key_file: flag("--key-file", &args.key_file),
            client_ca_file: None,
            client_cert: None,
        });
    }
    listen
}
