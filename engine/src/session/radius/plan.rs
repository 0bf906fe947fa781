//! What a listener's settings mean: everything that a request needs to be decided. A reload makes a new plan; a request is
//! answered by the plan that it was begun with.

use std::sync::Arc;

use wire::radius::Dictionary;

use crate::ask::Scope;
use crate::ask::template::Template;
use crate::core::time::Span;
use crate::radius::clients::Clients;
use crate::radius::duplicates;
use crate::radius::policy::Policy;
use crate::radius::trace::Traces;
use crate::radius::users::Users;

pub use super::groups::{DN_PLACE, GroupSearch, Groups};
pub use super::mac::Mac;
pub use super::reply::ReplyMap;

/// The place of a directory's filter ([`Template::dollars`]).
pub const USER_NAME_PLACE: &str = "User-Name";

/// What is answered on a listener.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Port {
    /// Access-Request and Status-Server (port 1812).
    Authentication,
    /// Accounting-Request and Status-Server (port 1813).
    Accounting,
    /// All of them.
    Both,
}

/// See the module.
#[derive(Debug)]
pub struct Plan {
    /// Its name, for services that are told where a request came in.
    pub listener: String,
    /// What is answered.
    pub port: Port,
    /// Who may ask; shared by all workers and listeners.
    pub clients: Arc<Clients>,
    /// What attributes are called and what their values are; that of the users' lists as well.
    pub dictionary: Arc<Dictionary>,
    /// Who can be asked, in turn.
    pub backends: Vec<Backend>,
    /// How they are asked.
    pub chains: Vec<Chain>,
    /// Index of the chain that is asked unless something says otherwise.
    pub chain: usize,
    /// Devices that are let in by their address; none: what looks like an address is a name like any other.
    pub mac: Option<Mac>,
    /// Rules that choose a chain, reject, and change what an accept carries; read by the same dictionary.
    pub policy: Arc<Policy>,
    /// Whether somebody wants to know a user's groups: otherwise nobody is asked for them.
    pub needs_groups: bool,
    /// Who is traced; shared by all workers and listeners.
    pub traces: Arc<Traces>,
    /// What becomes of accounting records.
    pub accounting: Accounting,
    /// Bounds.
    pub settings: Settings,
}

impl Plan {
    /// A plan that asks nobody and acknowledges accounting without keeping it; the rest is to be filled in.
    #[must_use]
    pub fn new(port: Port, clients: Arc<Clients>, dictionary: Arc<Dictionary>) -> Plan {
        Plan {
            listener: String::new(),
            port,
            clients,
            dictionary,
            backends: Vec::new(),
            chains: Vec::new(),
            chain: 0,
            mac: None,
            policy: Arc::default(),
            needs_groups: false,
            traces: Arc::default(),
            accounting: Accounting::Discard,
            settings: Settings::default(),
        }
    }
}

/// What becomes of accounting records.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Accounting {
    /// They are written ([`super::Effect::Record`]), and acknowledged once that is done.
    Write,
    /// They are acknowledged and thrown away.
    Discard,
}

/// Bounds of one listener on one worker.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Settings {
    /// Of repeated requests.
    pub duplicates: duplicates::Settings,
    /// Requests being answered at a time, at most.
    pub requests_max: usize,
    /// A request is given up so long after it came: its client does not wait any longer.
    pub request_timeout: Span,
    /// A request that has waited so long before it is looked at is not looked at; nor is one whose answer would take so long, by
    /// what answers take now.
    pub patience: Span,
    /// A reject is held back so long, so that guessing is slow.
    pub reject_delay: Span,
    /// Rejects that are held back at a time, at most; what is beyond is sent at once.
    pub delayed_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            duplicates: duplicates::Settings::default(),
            requests_max: 10_000,
            request_timeout: Span::from_secs(30),
            patience: Span::from_secs(10),
            reject_delay: Span::from_secs(1),
            delayed_max: 4_096,
        }
    }
}

/// Who can be asked.
#[derive(Debug)]
pub struct Backend {
    /// Its name in rules, chains and logs.
    pub name: String,
    /// What it is.
    pub kind: Kind,
}

/// What a back end is.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "few, and made once")]
pub enum Kind {
    /// A list of users, in process.
    Users(Arc<Users>),
    /// A directory.
    Directory(Directory),
    /// A service.
    Service(Service),
}

/// How a directory is asked about a user.
#[derive(Clone, Debug)]
pub struct Directory {
    /// The pool, as the owner knows it.
    pub pool: usize,
    /// Where the user is searched, in this order.
    pub bases: Vec<String>,
    /// How far below.
    pub scope: Scope,
    /// What finds the one entry; its one place is `{User-Name}` ([`USER_NAME_PLACE`]).
    pub filter: Template,
    /// How a password is checked.
    pub check: Check,
    /// Where the user's groups are found.
    pub groups: Option<Groups>,
    /// Attributes of the user's entry, and what of an accept their values are.
    pub reply: Vec<(String, ReplyMap)>,
}

/// How a directory checks a password.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Check {
    /// By a bind as the user's entry: the directory compares, and only passwords can be checked.
    Bind,
    /// The stored password is read, and compared here.
    Fetch {
        /// The attribute that holds it: clear, or in any form that [`crate::password`] knows.
        password: String,
        /// The attribute that holds the NT hash, by which MS-CHAP is answered where the password is not clear.
        nt: Option<String>,
    },
}

/// How a service is asked.
#[derive(Clone, Debug)]
pub struct Service {
    /// The pool, as the owner knows it.
    pub pool: usize,
    /// In which form.
    pub form: Form,
}

/// The form of a service's calls.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Form {
    /// `authenticate` with a password (docs/winbind.md).
    Winbind,
    /// `authenticate` with a password (docs/pam.md).
    Pam {
        /// The name of the PAM service; none: the helper's own.
        service: Option<String>,
    },
    /// The request's attributes as JSON (docs/radius-service.md).
    Json,
}

/// In which order back ends are asked, and what their answers mean for each other.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Chain {
    /// Its name in rules and logs.
    pub name: String,
    /// When the next one is asked.
    pub mode: Mode,
    /// Who is asked, in this order.
    pub links: Vec<Link>,
}

/// When the next one of a chain is asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// While the user is not known: the first one that knows the user decides.
    First,
    /// While nobody has said no: all must say yes.
    All,
    /// While nobody has said yes: a wrong password is tried with the next one, too.
    FallThrough,
}

/// One of a chain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Link {
    /// Index into the plan's back ends.
    pub backend: usize,
    /// What is done when it cannot be asked.
    pub unavailable: Unavailable,
}

/// What is done when a back end cannot be asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unavailable {
    /// The client gets no answer, and asks another server.
    Silence,
    /// The client is rejected.
    Reject,
    /// The next one is asked. If nobody decides after all, the client gets no answer.
    Next,
}
