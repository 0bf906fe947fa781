//! A translated configuration, before it is text.

use std::fmt;

use zeroize::Zeroizing;

use super::super::text::quoted;
use super::told::At;

/// One setting of ours, and what it comes from.
pub struct Setting {
    /// Our key.
    pub key: &'static str,
    /// As TOML.
    pub value: String,
    /// Where the other one stands, and its name; empty for one that we add.
    pub from: String,
}

/// Settings of one section; one that comes later takes the place of the earlier one, as with lloadd.
#[derive(Default)]
pub struct Settings(Vec<Setting>);

impl Settings {
    /// A text, to be quoted.
    pub fn text(&mut self, key: &'static str, text: &str, from: String) {
        self.put(key, quoted(text).to_string(), from);
    }

    /// Anything that TOML writes as it is shown.
    pub fn plain(&mut self, key: &'static str, value: impl fmt::Display, from: String) {
        self.put(key, value.to_string(), from);
    }

    fn put(&mut self, key: &'static str, value: String, from: String) {
        self.0.retain(|setting| setting.key != key);
        self.0.push(Setting { key, value, from });
    }

    /// Whether there is one of this name.
    pub fn has(&self, key: &str) -> bool {
        self.0.iter().any(|setting| setting.key == key)
    }

    /// In their order.
    pub fn all(&self) -> &[Setting] {
        &self.0
    }
}

/// A server.
pub struct Server {
    /// Where it is written.
    pub at: At,
    /// Its `url`.
    pub url: String,
    /// As written; 0 where nothing is.
    pub weight: u32,
    /// What else is said of it.
    pub settings: Settings,
}

/// How a tier chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// In turn.
    RoundRobin,
    /// By weight.
    Weighted,
    /// The better of two.
    BestOf,
}

impl Policy {
    /// What it is called here.
    pub fn name(self) -> &'static str {
        match self {
            Policy::RoundRobin => "round-robin",
            Policy::Weighted => "weighted",
            Policy::BestOf => "best-of-two",
        }
    }
}

/// A tier.
pub struct Tier {
    /// Where it is written.
    pub at: At,
    /// How it chooses.
    pub policy: Policy,
    /// Whom from.
    pub servers: Vec<Server>,
}

/// A listener.
pub struct Listener {
    /// As TOML understands it.
    pub address: String,
    /// Whether TLS is spoken from the first byte.
    pub is_ldaps: bool,
    /// A unix socket.
    pub is_unix: bool,
    /// Mode of a unix socket.
    pub mode: Option<String>,
}

/// How the servers are bound to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Method {
    /// Not at all.
    #[default]
    None,
    /// By name and password.
    Simple,
    /// By a mechanism.
    Sasl,
}

/// `bindconf`; several lines of it add up.
#[derive(Default)]
pub struct Bind {
    /// The last line.
    pub at: Option<At>,
    /// `bindmethod`.
    pub method: Method,
    /// `binddn`.
    pub dn: Option<(String, At)>,
    /// `credentials`.
    pub password: Option<Zeroizing<String>>,
    /// `saslmech`.
    pub mechanism: Option<(String, At)>,
    /// `authcid`.
    pub authcid: Option<(String, At)>,
    /// `authzid`.
    pub authzid: Option<(String, At)>,
    /// `realm`.
    pub realm: Option<(String, At)>,
    /// `secprops`.
    pub secprops: Option<(String, At)>,
    /// TLS towards servers.
    pub tls: ClientTls,
}

/// TLS towards servers.
#[derive(Default)]
pub struct ClientTls {
    /// `tls_cacert`.
    pub ca: Option<(String, At)>,
    /// `tls_cert`.
    pub cert: Option<(String, At)>,
    /// `tls_key`.
    pub key: Option<(String, At)>,
    /// Where it is said that certificates are not looked at.
    pub unverified: Option<At>,
}

/// Whether clients are asked for certificates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verify {
    /// No.
    #[default]
    Never,
    /// They may show one.
    Request,
    /// They must.
    Require,
}

/// TLS of listeners.
#[derive(Default)]
pub struct ServerTls {
    /// `TLSCACertificateFile`.
    pub ca: Option<(String, At)>,
    /// `TLSCertificateFile`.
    pub cert: Option<(String, At)>,
    /// `TLSCertificateKeyFile`.
    pub key: Option<(String, At)>,
    /// `TLSVerifyClient`.
    pub verify: Option<(Verify, At)>,
}

/// Rules by control and extended operation; one that comes later takes the place of the earlier one.
#[derive(Default)]
pub struct Rules([Vec<(String, String)>; 2]);

impl Rules {
    /// A rule for an object identifier.
    pub fn put(&mut self, extended: bool, oid: &str, action: &str) {
        let [controls, operations] = &mut self.0;
        let table = if extended { operations } else { controls };
        table.retain(|(known, _)| known != oid);
        table.push((oid.to_owned(), action.to_owned()));
    }

    /// The value of `restrict`, if there are any.
    pub fn text(&self) -> Option<String> {
        let tables: Vec<String> = ["control", "extended"]
            .into_iter()
            .zip(&self.0)
            .filter(|(_, rules)| !rules.is_empty())
            .map(|(name, rules)| {
                let rules: Vec<String> = rules
                    .iter()
                    .map(|(oid, action)| format!("{} = {}", *quoted(oid), *quoted(action)))
                    .collect();
                format!("{name} = {{ {} }}", rules.join(", "))
            })
            .collect();
        (!tables.is_empty()).then(|| format!("{{ {} }}", tables.join(", ")))
    }
}

/// All of it.
#[derive(Default)]
pub struct Model {
    /// `[server]`.
    pub server: Settings,
    /// `[directory.ldap]`.
    pub directory: Settings,
    /// What every `[[listen]]` has.
    pub listen: Settings,
    /// Tiers, empty ones included.
    pub tiers: Vec<Tier>,
    /// `listen`, where lloadd is a module of slapd.
    pub urls: Option<(String, At)>,
    /// The daemon's bind.
    pub bind: Bind,
    /// TLS of listeners.
    pub tls: ServerTls,
    /// `proxyauthz`, where it is named.
    pub proxies: Option<(bool, At)>,
    /// `retry` of servers, in milliseconds, and where.
    pub retries: Vec<(u64, At)>,
    /// Whether operations have a deadline of lloadd's.
    pub has_timeout: bool,
    /// What is done by control and extended operation.
    pub rules: Rules,
}
