//! The one-line commands: a plan from flags, by the same way a file takes.
//!
//! They have no admin address unless one is given, and their control socket stands in a private run-time folder.

mod radius;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use super::diagnostic::{At, Diagnostic, Place, Problems};
use super::plan::{self, Identity, Plan, Transport};
use super::raw::{self, Raw, StartTls};
use super::{files, limits, raw_feed, run_dir};
use engine::core::policy::Kind as Policy;
use engine::feed::settings::Profile;
use wire::ldap::grammar::Scope;

pub use radius::{Radius, radius};

/// The name of the directory that a one-line balancer makes.
pub const DIRECTORY: &str = "ldap";
/// The control socket in a feed's state folder.
pub const CONTROL: &str = "control.sock";
/// The rpc socket in a private folder, beside the control socket.
const SOCKET: &str = "rpc.sock";

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
    let control = control(&mut problems, args.control.as_ref());
    let raw = Raw {
        server: raw::Server {
            workers: args.workers.map(|workers| At::new(workers, Place::Flag("--workers"))),
            control,
            admin: flag("--admin", &args.admin),
            ..raw::Server::default()
        },
        directories: vec![(files::nowhere(DIRECTORY.to_owned()), directory(args))],
        services: Vec::new(),
        feeds: Vec::new(),
        sinks: BTreeMap::new(),
        listeners: args.listen.iter().map(|address| listener(args, address)).collect(),
        audit: None,
    };
    finish(problems, &raw, args.control.is_some())
}

/// What `usherd service run` was told; where nothing was said, the defaults of `[service.NAME]` hold.
#[derive(Clone, Debug, Default)]
pub struct Service {
    /// `NAME`.
    pub name: String,
    /// `--listen`; none: a socket beside the control socket.
    pub listen: Vec<String>,
    /// `--helper`: the program speaks the helper protocol; else it is run for each call.
    pub helper: bool,
    /// `--dbus`: the program stays as a helper that speaks D-Bus.
    pub dbus: bool,
    /// The program and its arguments.
    pub program: Vec<String>,
    /// `--min`.
    pub min: Option<usize>,
    /// `--max`.
    pub max: Option<usize>,
    /// `--min-spare`.
    pub min_spare: Option<usize>,
    /// `--pass`: variables of our own environment that it is given.
    pub pass: Vec<String>,
    /// Its working directory: where the command was typed.
    pub directory: Option<String>,
    /// `--request-timeout`.
    pub request_timeout: Option<Duration>,
    /// `--token-file`.
    pub token_file: Option<String>,
    /// `--cert-file`: certificate of the TCP listeners.
    pub cert_file: Option<String>,
    /// `--key-file`: its key.
    pub key_file: Option<String>,
    /// `--control`; else a private run-time folder.
    pub control: Option<String>,
    /// `--admin`.
    pub admin: Option<String>,
}

/// The plan of `usherd service run`.
///
/// # Errors
/// Everything that is wrong with the flags.
pub fn service(args: &Service) -> Result<(Plan, Vec<Diagnostic>), Vec<Diagnostic>> {
    let mut problems = Problems::new(None);
    let control = control(&mut problems, args.control.as_ref());
    let mut listen = args.listen.clone();
    if let (true, Some(control)) = (listen.is_empty(), &control) {
        let beside = Path::new(&control.value).with_file_name(SOCKET);
        listen.push(format!("unix:{}", beside.display()));
    }
    let raw = Raw {
        server: raw::Server {
            // All services live on one worker.
            workers: Some(files::nowhere(1)),
            control,
            admin: flag("--admin", &args.admin),
            ..raw::Server::default()
        },
        directories: Vec::new(),
        services: vec![(At::new(args.name.clone(), Place::Flag("NAME")), pool(args))],
        feeds: Vec::new(),
        sinks: BTreeMap::new(),
        listeners: listen.iter().map(|address| rpc_listener(args, address)).collect(),
        audit: None,
    };
    finish(problems, &raw, args.control.is_some())
}

/// A listener that has sockets for datagrams, with every setting of others at its default.
pub fn datagrams(address: plan::Address, face: plan::Face) -> plan::Listener {
    plan::Listener {
        address,
        nth: 0,
        face,
        tls: None,
        tls_first: false,
        proxy: None,
        partial_timeout: Duration::from_secs(10),
        write_timeout: Duration::from_secs(10),
        idle_timeout: None,
        outbox_bytes_max: 1 << 20,
        turn_messages_max: 32,
        tcp: Default::default(),
        clients_max: None,
        audit: false,
        lockout: None,
        monitor: None,
        limits: None,
    }
}

/// What `usherd feed run` was told; where nothing was said, the defaults of `[feed.NAME]` hold.
#[derive(Clone, Debug, Default)]
pub struct Feed {
    /// `URL`, at least one; all in one tier.
    pub server: Vec<String>,
    /// `--state`.
    pub state: String,
    /// `--name`.
    pub name: String,
    /// `--bind-dn`.
    pub bind_dn: Option<String>,
    /// `--bind-password-file`.
    pub bind_password_file: Option<String>,
    /// `--base`.
    pub base: Option<String>,
    /// `--scope`.
    pub scope: Option<Scope>,
    /// `--filter`.
    pub filter: Option<String>,
    /// `--attributes`.
    pub attributes: Vec<String>,
    /// `--before`.
    pub before: bool,
    /// `--no-initial`.
    pub no_initial: bool,
    /// `--profile`.
    pub profile: Option<Profile>,
    /// `--max-deletes`.
    pub max_deletes: Option<usize>,
    /// `--audit-interval`.
    pub audit_interval: Option<Duration>,
    /// `--partitions`; else one, so that lines come in the order of their numbers.
    pub partitions: Option<usize>,
    /// `--sink`; else lines on standard output.
    pub sink: Option<String>,
    /// `--authkey-file`.
    pub authkey_file: Option<String>,
    /// `--ca-file`.
    pub ca_file: Option<String>,
    /// `--starttls`.
    pub starttls: Option<StartTls>,
    /// `--control`; else a socket in the state folder.
    pub control: Option<String>,
    /// `--admin`.
    pub admin: Option<String>,
}

/// The plan of `usherd feed run`.
///
/// # Errors
/// Everything that is wrong with the flags.
pub fn feed(args: &Feed) -> Result<(Plan, Vec<Diagnostic>), Vec<Diagnostic>> {
    let mut problems = Problems::new(None);
    let text = args.sink.as_deref().unwrap_or("ndjson");
    let sink = super::check_sink::one_line(&mut problems, "--sink", text, args.authkey_file.as_deref());
    let control = args.control.clone().unwrap_or_else(|| {
        let path = Path::new(&args.state).join(CONTROL);
        path.display().to_string()
    });
    let name = At::new(args.name.clone(), Place::Flag("--name"));
    let mut directory = directory(&Ldap {
        server: args.server.clone(),
        bind_dn: args.bind_dn.clone(),
        bind_password_file: args.bind_password_file.clone(),
        identity: Some(Identity::Pinned),
        ca_file: args.ca_file.clone(),
        starttls: args.starttls,
        ..Ldap::default()
    });
    for server in &mut directory.servers {
        // Beside the feed's own, one that tells whether the server lives.
        server.connections = Some(files::nowhere(1));
        server.url = server.url.take().map(|url| At::new(url.value, Place::Flag("URL")));
    }
    let raw = Raw {
        server: raw::Server {
            workers: Some(files::nowhere(1)),
            control: Some(At::new(control, Place::Flag("--state"))),
            admin: flag("--admin", &args.admin),
            ..raw::Server::default()
        },
        directories: vec![(files::nowhere(DIRECTORY.to_owned()), directory)],
        services: Vec::new(),
        feeds: vec![(name, followed(args))],
        sinks: sink.into_iter().map(|sink| (args.name.clone(), sink)).collect(),
        listeners: Vec::new(),
        audit: None,
    };
    finish(problems, &raw, true)
}

fn followed(args: &Feed) -> raw_feed::Feed {
    let count = |name: &'static str, value: Option<usize>| value.map(|value| At::new(value, Place::Flag(name)));
    let attributes = args.attributes.iter();
    let attributes: Vec<_> = attributes
        .map(|name| At::new(name.clone(), Place::Flag("--attributes")))
        .collect();
    let mut feed = raw_feed::Feed::nothing(Place::Nowhere);
    feed.directory = Some(files::nowhere(DIRECTORY.to_owned()));
    feed.base = flag("--base", &args.base);
    feed.scope = args.scope.map(|scope| At::new(scope, Place::Flag("--scope")));
    feed.filter = flag("--filter", &args.filter);
    feed.attributes = (!attributes.is_empty()).then(|| At::new(attributes, Place::Flag("--attributes")));
    feed.before = args.before.then(|| At::new(true, Place::Flag("--before")));
    feed.initial = args.no_initial.then(|| At::new(false, Place::Flag("--no-initial")));
    feed.profile = args.profile.map(|profile| At::new(profile, Place::Flag("--profile")));
    feed.max_deletes = count("--max-deletes", args.max_deletes);
    feed.audit_interval = args
        .audit_interval
        .map(|length| At::new(length, Place::Flag("--audit-interval")));
    feed.partitions = Some(At::new(args.partitions.unwrap_or(1), Place::Flag("--partitions")));
    feed.workers = Some(files::nowhere(0));
    feed.state = Some(At::new(args.state.clone(), Place::Flag("--state")));
    feed
}

fn pool(args: &Service) -> raw::Service {
    let program = Place::Flag("PROGRAM");
    let words = args.program.iter();
    let words = words.map(|word| At::new(word.clone(), program.clone())).collect();
    let count = |name: &'static str, value: Option<usize>| value.map(|value| At::new(value, Place::Flag(name)));
    let mut service = raw::Service::empty(Place::Nowhere);
    service.helper = (!args.helper && !args.dbus).then(|| files::nowhere(raw::Helper::Exec));
    service.stay.transport = args.dbus.then(|| At::new(Transport::Dbus, Place::Flag("--dbus")));
    service.program = Some(At::new(words, program));
    service.stay.min = count("--min", args.min);
    service.stay.min_spare = count("--min-spare", args.min_spare);
    service.max = count("--max", args.max);
    let pass = Place::Flag("--pass");
    let names = args.pass.iter().map(|name| At::new(name.clone(), pass.clone()));
    service.environment_pass = Some(At::new(names.collect(), pass.clone()));
    service.directory = args.directory.clone().map(files::nowhere);
    service.request_timeout = args
        .request_timeout
        .map(|timeout| At::new(timeout, Place::Flag("--request-timeout")));
    service
}

fn rpc_listener(args: &Service, address: &str) -> raw::Listen {
    let here = Place::Flag("--listen");
    let mut listen = raw::Listen::empty(here.clone());
    listen.address = Some(At::new(address.to_owned(), here.clone()));
    listen.protocol = Some(At::new(raw::Protocol::Rpc, here));
    listen.token_file = flag("--token-file", &args.token_file);
    let certified = args.cert_file.is_some() || args.key_file.is_some();
    if certified && !address.starts_with("unix:") {
        listen.tls = Some(certificate(&args.cert_file, &args.key_file));
    }
    listen
}

fn flag(name: &'static str, value: &Option<String>) -> Option<At<String>> {
    value.as_ref().map(|value| At::new(value.clone(), Place::Flag(name)))
}

fn certificate(cert_file: &Option<String>, key_file: &Option<String>) -> raw::TlsServer {
    raw::TlsServer {
        place: Place::Flag("--cert-file"),
        cert_file: flag("--cert-file", cert_file),
        key_file: flag("--key-file", key_file),
        client_ca_file: None,
        client_crl_file: None,
        client_crl_check: None,
        client_cert: None,
    }
}

/// The control socket that was named, or one in a private folder that is made for it.
fn control(problems: &mut Problems, named: Option<&String>) -> Option<At<String>> {
    if let Some(named) = named {
        return Some(At::new(named.clone(), Place::Flag("--control")));
    }
    match run_dir::make() {
        Ok(path) => Some(files::nowhere(path.display().to_string())),
        Err(error) => {
            problems
                .error(&Place::Nowhere, "no private folder for the control socket can be made")
                .label(files::plain(&error))
                .help("name a path: --control PATH");
            None
        }
    }
}

/// The plan; where there is none, a folder that was made for it goes again.
fn finish(mut problems: Problems, raw: &Raw, named: bool) -> Result<(Plan, Vec<Diagnostic>), Vec<Diagnostic>> {
    match super::finish(&mut problems, raw, Path::new("")) {
        Some(plan) => Ok((plan, problems.into_list())),
        None => {
            if let (false, Some(made)) = (named, &raw.server.control) {
                run_dir::remove(Path::new(&made.value));
            }
            Err(problems.into_list())
        }
    }
}

fn directory(args: &Ldap) -> raw::Directory {
    let tls = flag("--ca-file", &args.ca_file).map(|ca_file| raw::TlsClient {
        place: Place::Flag("--ca-file"),
        ca_file: Some(ca_file),
        cert_file: None,
        key_file: None,
        server_name: None,
        verify: None,
        crl_file: None,
        crl_check: None,
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
            ..raw::Bind::default()
        },
        tls,
        policy: args.policy.map(|policy| At::new(policy, Place::Flag("--policy"))),
        servers: args.server.iter().map(server).collect(),
        tiers: Vec::new(),
        resolve_interval: None,
        allow_own_assertion: None,
        session_tracking: None,
        routing: super::routing::Raw::default(),
        check: None,
        tcp: Default::default(),
        sasl: super::sasl::Sasl::default(),
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
        if !address.starts_with("ldaps://") {
            listen.starttls = Some(At::new(true, Place::Flag("--cert-file")));
        }
        listen.tls = Some(certificate(&args.cert_file, &args.key_file));
    }
    listen
}
