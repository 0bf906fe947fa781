//! The daemon's own bind to a server.

use std::sync::Arc;

use engine::upstream::sasl::Account;
use zeroize::Zeroizing;

use super::plan::Target;
use crate::gssapi::Kerberos;

/// See the module.
#[derive(Clone, PartialEq, Debug)]
pub enum Bind {
    /// By name and password.
    Simple(Simple),
    /// By SASL.
    Sasl(Sasl),
}

/// A name and its password.
#[derive(Clone, PartialEq)]
pub struct Simple {
    /// Distinguished name.
    pub dn: String,
    /// Read from `bind_password_file` (one trailing newline removed), zeroized on drop, never printed.
    pub password: Zeroizing<Vec<u8>>,
}

/// An account, and how it may be used.
#[derive(Clone, PartialEq, Debug)]
pub struct Sasl {
    /// Mechanisms, names, password.
    pub account: Arc<Account>,
    /// Whether PLAIN may be used where nothing protects the connection.
    pub in_clear: bool,
    /// Of GSSAPI, where it is one of the mechanisms.
    pub kerberos: Option<Arc<Kerberos>>,
}

impl Bind {
    /// As whom, for a person to read.
    pub fn name(&self) -> String {
        let Bind::Sasl(Sasl { account, .. }) = self else {
            return self.simple().map(|simple| simple.dn.clone()).unwrap_or_default();
        };
        let principal = self.principal();
        let mechanisms: Vec<&str> = account.mechanisms().map(|one| one.name()).collect();
        let mut name = mechanisms.join(" or ");
        let who = account.who();
        if let Some(who) = Some(who.authcid.as_str()).filter(|name| !name.is_empty()).or(principal) {
            name = format!("{who} by {name}");
        }
        if !who.authzid.is_empty() {
            name = format!("{} ({name})", who.authzid);
        }
        name
    }

    /// As whom, whatever the mechanism: a feed asks for everything anew where it differs.
    pub fn identity(&self) -> String {
        match self {
            Bind::Simple(simple) => simple.dn.clone(),
            Bind::Sasl(Sasl { account, .. }) => {
                let who = account.who();
                let names = [who.authzid.as_str(), &who.authcid, self.principal().unwrap_or_default()];
                let name = names.into_iter().find(|name| !name.is_empty());
                // EXTERNAL, or GSSAPI without a principal.
                let nameless = account.mechanisms().last().map(|one| one.name());
                format!("sasl:{}", name.or(nameless).unwrap_or_default())
            }
        }
    }

    /// What GSSAPI takes.
    pub fn kerberos(&self) -> Option<&Arc<Kerberos>> {
        match self {
            Bind::Simple(_) => None,
            Bind::Sasl(sasl) => sasl.kerberos.as_ref(),
        }
    }

    /// Whose tickets GSSAPI shows, where that is written.
    fn principal(&self) -> Option<&str> {
        self.kerberos()?.principal.as_deref()
    }

    /// The name and password of a simple bind.
    pub fn simple(&self) -> Option<&Simple> {
        match self {
            Bind::Simple(simple) => Some(simple),
            Bind::Sasl(_) => None,
        }
    }

    /// Whether a password may be sent to such a server as it is, where there is no TLS.
    pub fn is_safe(&self, target: &Target) -> bool {
        matches!(self, Bind::Sasl(sasl) if sasl.in_clear) || target.is_here()
    }
}

impl Target {
    /// Whether what is sent to it does not leave this machine.
    pub fn is_here(&self) -> bool {
        match self {
            Target::Unix(_) | Target::Local(_) => true,
            Target::Tcp { host, .. } => is_loopback(host),
            Target::Srv { .. } => false,
        }
    }
}

/// Whether a name or address stands for this machine.
pub fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
}

impl std::fmt::Debug for Simple {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Simple").field("dn", &self.dn).finish_non_exhaustive()
    }
}
