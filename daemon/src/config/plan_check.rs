//! What a check asks of a server.

use std::time::Duration;

use wire::ldap::grammar::Scope;

use super::plan::Bind;

/// A check of a server: a connection, a bind where there is a name to bind with, one search.
#[derive(Clone, Debug, PartialEq)]
pub struct Check {
    /// From the beginning of one to that of the next, 10 s.
    pub interval: Duration,
    /// Connect, TLS, bind and search together, 2 s.
    pub timeout: Duration,
    /// Successes in a row that bring a server back, 2.
    pub rise: u32,
    /// Failures in a row that put it aside, 3.
    pub fall: u32,
    /// As whom it asks; none: under the daemon's own bind to this server, else anonymously.
    pub bind: Option<Bind>,
    /// Where it searches; empty: the root DSE.
    pub base: String,
    /// How far.
    pub scope: Scope,
    /// An encoded filter.
    pub filter: Vec<u8>,
    /// What must come.
    pub expect: Expect,
}

/// What must come of a check's search.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expect {
    /// At least one entry.
    Entry,
    /// An entry that has this value, upper or lower case aside.
    Value {
        /// The attribute's description.
        attribute: String,
        /// One of its values.
        value: String,
    },
}
