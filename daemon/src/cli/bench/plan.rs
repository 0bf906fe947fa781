//! Flags become a plan: resolved, checked and encoded once, then only read.
//!
//! Every refusal names the flag, what it was given, and what would be right.

use std::fs;
use std::net::ToSocketAddrs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use wire::ldap::envelope;
use wire::ldap::filter;
use wire::ldap::grammar::Scope;
use wire::ldap::message::{self, SearchSpec, oid};
use wire::ldap::url::{Host, Scheme, Url};
use zeroize::Zeroizing;

use super::ledger::{DEPTH_MAX, Expected, Kind, Truth};
use super::stream::{Address, Tls};
use super::template::{Stencil, Template};
use super::tls::tls;
use super::{LdapArgs, ModeName};

/// The load that a run makes.
pub(super) struct Plan {
    /// The URL as it was given, for messages.
    pub(super) url: String,
    /// Where it leads.
    pub(super) address: Address,
    /// How to speak TLS, when it is spoken.
    pub(super) tls: Option<Tls>,
    /// TLS begins by StartTLS, not by itself.
    pub(super) starttls: bool,
    /// What is done.
    pub(super) mode: Mode,
    /// Connections in all.
    pub(super) connections: u32,
    /// Operations pending on one connection, at most.
    pub(super) depth: u32,
    /// Threads.
    pub(super) threads: u32,
    /// Operations a second, intended; none for a closed loop.
    pub(super) rate: Option<u64>,
    /// Operations to measure, instead of a time.
    pub(super) operations: Option<u64>,
    /// The measured time, unless `operations` says otherwise.
    pub(super) duration: Duration,
    /// Load before it is measured.
    pub(super) warmup: Duration,
    /// How long outstanding answers are waited for.
    pub(super) grace: Duration,
    /// From where n is drawn, both ends included.
    pub(super) range: (u32, u32),
    /// Of the draws.
    pub(super) seed: u64,
    /// Connections bind before they are used.
    pub(super) binds: bool,
    /// As whom.
    pub(super) bind_dn: Template,
    /// The requests.
    pub(super) requests: Requests,
    /// The right answers.
    pub(super) truth: Truth,
}

/// What is done over and over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// A search for the entry of n.
    Search,
    /// A bind as n.
    Bind,
    /// Connect, bind, unbind, close.
    Connect,
    /// Several operations side by side, each answer checked.
    Mixed(Mix),
    /// Nothing: connections are held.
    Idle,
}

/// Of 100 operations, how many are …; the rest are searches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mix {
    /// … binds as another user.
    pub(super) bind: u32,
    /// … comparisons, half of them with something that is not so.
    pub(super) compare: u32,
    /// … Who Am I?
    pub(super) whoami: u32,
    /// … searches that are abandoned.
    pub(super) abandon: u32,
}

const MIX: Mix = Mix {
    bind: 5,
    compare: 15,
    whoami: 5,
    abandon: 5,
};
/// An abandoned operation is done at once: were all to be abandoned, sending would never end.
const ABANDON_MAX: u32 = 50;

/// Encoded requests of each kind that the mode needs.
#[derive(Default)]
pub(super) struct Requests {
    search: Option<Stencil>,
    bind: Option<Stencil>,
    compare_true: Option<Stencil>,
    compare_false: Option<Stencil>,
    whoami: Option<Stencil>,
    starttls: Option<Stencil>,
}

impl Requests {
    /// The request of a kind.
    pub(super) fn of(&self, kind: Kind) -> Option<&Stencil> {
        match kind {
            Kind::Search => self.search.as_ref(),
            Kind::Bind => self.bind.as_ref(),
            Kind::Compare { holds: true } => self.compare_true.as_ref(),
            Kind::Compare { holds: false } => self.compare_false.as_ref(),
            Kind::WhoAmI => self.whoami.as_ref(),
            Kind::StartTls => self.starttls.as_ref(),
        }
    }
}

/// What falls to one thread.
pub(super) struct Share {
    /// Its connections.
    pub(super) connections: u32,
    /// Its operations to measure.
    pub(super) operations: Option<u64>,
}

impl Plan {
    /// Resolves and checks the flags.
    ///
    /// # Errors
    /// A sentence that names the flag, what was found and what would be right.
    pub(super) fn new(args: &LdapArgs) -> Result<Self, String> {
        let mode = mode(args)?;
        let bind_dn = Template::new(args.bind_dn.as_deref().unwrap_or_default());
        check(args, mode, &bind_dn)?;
        let (address, host, scheme) = target(&args.url)?;
        if args.starttls && scheme != Scheme::Ldap {
            return Err(format!("--starttls is for ldap:// only, and the URL is {}", args.url));
        }
        if scheme != Scheme::Ldaps && !args.starttls {
            let flag = [
                ("--no-resumption", args.no_resumption),
                ("--tls-suite", args.tls_suite.is_some()),
            ];
            if let Some((flag, _)) = flag.into_iter().find(|(_, given)| *given) {
                return Err(format!(
                    "{flag} is for ldaps:// or --starttls, and the URL is {}",
                    args.url
                ));
            }
        }
        let tls = match (scheme, args.starttls) {
            (Scheme::Ldaps, _) | (_, true) => Some(tls(&host, args)?),
            _ => None,
        };
        Ok(Plan {
            url: args.url.clone(),
            address,
            tls,
            starttls: args.starttls,
            mode,
            connections: args.connections,
            depth: args.depth,
            threads: args.threads,
            rate: args.rate,
            operations: args.operations,
            duration: args.duration,
            warmup: if mode == Mode::Idle {
                Duration::ZERO
            } else {
                args.warmup
            },
            grace: args.grace,
            range: args.range,
            seed: args.seed,
            binds: args.bind_dn.is_some() && !matches!(mode, Mode::Bind),
            requests: requests(args, mode, &bind_dn)?,
            truth: Truth {
                entry: expected(args),
                identity: Some(bind_dn.clone()),
            },
            bind_dn,
        })
    }

    /// What falls to a thread: equal parts, the first ones taking what is over.
    pub(super) fn share(&self, thread: u32) -> Share {
        let part = |whole: u64| {
            let (threads, thread) = (u64::from(self.threads.max(1)), u64::from(thread));
            whole / threads + u64::from(thread < whole % threads)
        };
        let connections = u32::try_from(part(u64::from(self.connections))).unwrap_or(u32::MAX);
        Share {
            connections,
            operations: self.operations.map(part),
        }
    }
}

fn mode(args: &LdapArgs) -> Result<Mode, String> {
    if args.mix.is_some() && args.mode != ModeName::Mixed {
        return Err("--mix is for --mode mixed only".to_owned());
    }
    Ok(match args.mode {
        ModeName::Search => Mode::Search,
        ModeName::Bind => Mode::Bind,
        ModeName::Connect => Mode::Connect,
        ModeName::Idle => Mode::Idle,
        ModeName::Mixed => Mode::Mixed(args.mix.as_deref().map_or(Ok(MIX), mix)?),
    })
}

/// `bind=5,compare=15`: what is not named is 0, the rest of 100 is searches.
fn mix(text: &str) -> Result<Mix, String> {
    let wrong = |part: &str, why: &str| {
        format!("--mix {text}: {part:?} {why}; right would be --mix bind=5,compare=15,whoami=5,abandon=5")
    };
    let mut mix = Mix {
        bind: 0,
        compare: 0,
        whoami: 0,
        abandon: 0,
    };
    for part in text.split(',') {
        let (name, share) = part.split_once('=').ok_or_else(|| wrong(part, "is not name=percent"))?;
        let share: u32 = share
            .parse()
            .map_err(|_| wrong(part, "does not end in a whole number of percent"))?;
        match name {
            "bind" => mix.bind = share,
            "compare" => mix.compare = share,
            "whoami" => mix.whoami = share,
            "abandon" if share > ABANDON_MAX => return Err(wrong(part, "is more than 50 percent")),
            "abandon" => mix.abandon = share,
            _ => return Err(wrong(part, "is none of bind, compare, whoami, abandon")),
        }
    }
    let sum = [mix.bind, mix.compare, mix.whoami, mix.abandon]
        .into_iter()
        .fold(0, u32::saturating_add);
    if sum > 100 {
        return Err(format!(
            "--mix {text}: that is {sum} percent; at most 100, the rest are searches"
        ));
    }
    Ok(mix)
}

/// What one flag demands of another.
fn check(args: &LdapArgs, mode: Mode, bind_dn: &Template) -> Result<(), String> {
    if args.threads > args.connections {
        return Err(format!(
            "--threads {} with --connections {}: a thread needs at least one connection",
            args.threads, args.connections
        ));
    }
    if matches!(mode, Mode::Search | Mode::Mixed(_)) && args.base.is_none() {
        return Err("--base is missing: where the searches begin, for instance --base dc=example,dc=com".to_owned());
    }
    if matches!(mode, Mode::Bind | Mode::Mixed(_)) && args.bind_dn.is_none() {
        return Err("--bind-dn is missing: whom to bind as, for instance --bind-dn \
                    'uid=user{n},ou=people,dc=example,dc=com', and --password-file"
            .to_owned());
    }
    if matches!(mode, Mode::Mixed(_)) && !bind_dn.is_drawn() {
        return Err(format!(
            "--bind-dn {:?} has no {{n}}: a mixed load binds as different users and compares their entries",
            args.bind_dn.as_deref().unwrap_or_default()
        ));
    }
    if args.bind_dn.is_some() != args.password_file.is_some() {
        return Err(
            "--bind-dn and --password-file belong together; without both, connections stay anonymous".to_owned(),
        );
    }
    if args.depth > 1 && matches!(mode, Mode::Bind | Mode::Connect) {
        return Err(format!(
            "--depth {} with --mode {}: a connection has one bind at a time (RFC 4511 section 4.2.1); use more --connections",
            args.depth,
            args.mode.name()
        ));
    }
    if args.depth > DEPTH_MAX {
        return Err(format!("--depth {}: at most {DEPTH_MAX}", args.depth));
    }
    if mode == Mode::Idle && (args.rate.is_some() || args.operations.is_some()) {
        return Err("--mode idle sends nothing: it takes --duration, neither --rate nor --operations".to_owned());
    }
    Ok(())
}

/// Where the URL leads, whom a certificate there must name, and by which scheme.
fn target(text: &str) -> Result<(Address, String, Scheme), String> {
    let url: Url = text.parse().map_err(|error| format!("{text}: {error}"))?;
    if !url.is_only_a_place() {
        return Err(format!(
            "{text}: only the place is taken from the URL; --base, --scope and --filter say the rest"
        ));
    }
    if let Scheme::Ldapi = url.scheme {
        let path = url.path.ok_or_else(|| {
            format!(
                "{text}: names no socket; its path stands percent-encoded in the place of the host, as in \
                     ldapi://%2Frun%2Fslapd%2Fldapi"
            )
        })?;
        return Ok((Address::Unix(PathBuf::from(path)), String::new(), url.scheme));
    }
    let host = match &url.host {
        Some(Host::Address(address)) => address.to_string(),
        Some(Host::Name(name)) => name.clone(),
        None => "localhost".to_owned(),
    };
    let port = url.port_or_default().unwrap_or(389);
    let mut addresses = (host.as_str(), port)
        .to_socket_addrs()
        .map_err(|error| format!("{text}: {host} has no address: {error}"))?;
    let address = addresses
        .next()
        .ok_or_else(|| format!("{text}: {host} has no address"))?;
    Ok((Address::Tcp(address), host, url.scheme))
}

fn requests(args: &LdapArgs, mode: Mode, bind_dn: &Template) -> Result<Requests, String> {
    let n_max = args.range.1;
    let fixed = |oid: &str| {
        let extended = |_: &str| operation(|out| message::write_extended_request(out, 1, oid, None));
        Stencil::new(false, 1, extended)
    };
    let mut requests = Requests::default();
    if args.starttls {
        requests.starttls = Some(fixed(oid::START_TLS)?);
    }
    if args.bind_dn.is_some() || mode == Mode::Connect {
        let password = password(args.password_file.as_deref())?;
        let drawn = bind_dn.is_drawn() || password.contains("{n}");
        let bind = |n: &str| {
            let password = Zeroizing::new(password.replace("{n}", n));
            operation(|out| message::write_simple_bind(out, 1, bind_dn.render(n).as_bytes(), password.as_bytes()))
        };
        requests.bind = Some(Stencil::new(drawn, n_max, bind)?);
    }
    if matches!(mode, Mode::Search | Mode::Mixed(_)) {
        requests.search = Some(search(args)?);
    }
    if let Mode::Mixed(_) = mode {
        let dn = args.bind_dn.as_deref().unwrap_or_default();
        let (attribute, value) = dn
            .split(',')
            .next()
            .and_then(|rdn| rdn.split_once('='))
            .ok_or_else(|| {
                format!("--bind-dn {dn:?} does not begin with attribute=value, which a mixed load compares")
            })?;
        let compare = |value: String| {
            let value = Template::new(&value);
            Stencil::new(true, n_max, move |n| {
                let (dn, value) = (bind_dn.render(n), value.render(n));
                operation(|out| message::write_compare(out, 1, dn.as_bytes(), attribute.as_bytes(), value.as_bytes()))
            })
        };
        requests.compare_true = Some(compare(value.to_owned())?);
        requests.compare_false = Some(compare(format!("{value}-is-another"))?);
        requests.whoami = Some(fixed(oid::WHO_AM_I)?);
    }
    Ok(requests)
}

fn search(args: &LdapArgs) -> Result<Stencil, String> {
    let base = Template::new(args.base.as_deref().unwrap_or_default());
    let filter_text = Template::new(&args.filter);
    let attributes: Vec<&str> = args.attribute.iter().map(String::as_str).collect();
    let encode = |n: &str| {
        let filter =
            filter::parse(&filter_text.render(n)).map_err(|error| format!("--filter {:?}: {error}", args.filter))?;
        let base = base.render(n);
        let spec = SearchSpec {
            base: base.as_bytes(),
            scope: args.scope.scope(),
            deref: 0,
            size_limit: 0,
            time_limit: 0,
            types_only: false,
            filter: &filter,
            attributes: &attributes,
        };
        operation(|out| message::write_search(out, 1, &spec))
    };
    Stencil::new(base.is_drawn() || filter_text.is_drawn(), args.range.1, encode)
}

/// The protocolOp of the message that `write` appends.
fn operation(write: impl FnOnce(&mut Vec<u8>)) -> Result<Zeroizing<Vec<u8>>, String> {
    let mut whole = Zeroizing::new(Vec::new());
    write(&mut whole);
    let message = envelope::peek(&whole).map_err(|malformed| format!("a request cannot be encoded: {malformed}"))?;
    Ok(Zeroizing::new(message.op.to_vec()))
}

/// The file's text without the line end that editors put behind it; empty without a file.
fn password(file: Option<&Path>) -> Result<Zeroizing<String>, String> {
    let Some(path) = file else {
        return Ok(Zeroizing::new(String::new()));
    };
    let wrong = |what: &dyn std::fmt::Display| format!("--password-file {}: {what}", path.display());
    let text = Zeroizing::new(fs::read_to_string(path).map_err(|error| wrong(&error))?);
    let password = text.strip_suffix('\n').unwrap_or(&text);
    let password = password.strip_suffix('\r').unwrap_or(password);
    if password.is_empty() {
        return Err(wrong(
            &"is empty; a bind with an empty password is no authentication (RFC 4513 section 5.1.2)",
        ));
    }
    Ok(Zeroizing::new(password.to_owned()))
}

/// How an answer can be told from another's: by the searched value, where the filter is a plain equality, or by the
/// base, where that is the entry itself.
fn expected(args: &LdapArgs) -> Option<Expected> {
    let base = Template::new(args.base.as_deref()?);
    if base.is_drawn() && args.scope.scope() == Scope::Base {
        return Some(Expected::Dn(base));
    }
    let plain = args
        .filter
        .trim()
        .strip_prefix('(')
        .and_then(|filter| filter.strip_suffix(')'))
        .unwrap_or(&args.filter);
    let (attribute, value) = plain.split_once('=')?;
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
    if !value.contains("{n}") || value.contains(['*', '\\', '(', ')']) || !attribute.chars().all(is_name) {
        return None;
    }
    Some(Expected::Value {
        attribute: attribute.to_owned(),
        rdn: Template::new(&format!("{attribute}={value}")),
        value: Template::new(value),
    })
}
