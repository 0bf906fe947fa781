//! What a RADIUS server decides by: who may ask, what was asked before, who is listed as a user, by which rules, and how the
//! responses of MS-CHAP are computed.
//!
//! These are values and tables that know no request's life; that is `session/radius/`, which uses them. Nothing here knows a
//! socket or a clock: addresses are values, the time comes in.

pub mod clients;
pub mod duplicates;
pub mod mac;
pub mod mschap;
pub mod policy;
pub mod trace;
pub mod users;

use std::net::{IpAddr, SocketAddr};

/// Where a packet came from, and which of our addresses it was sent to where that is known. An answer goes the same way back.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Path {
    /// The peer.
    pub from: SocketAddr,
    /// Our address: a listener on all addresses must answer from the one that was asked.
    pub to: Option<IpAddr>,
}

/// Why a packet was dropped without an answer. Each is counted by client; the first of a kind is worth a line in the log.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub enum Dropped {
    /// No client has this address.
    UnknownClient,
    /// It is no RADIUS packet.
    Malformed,
    /// A code that is not answered on this port.
    UnexpectedCode,
    /// More packets than the client's rate allows.
    RateLimited,
    /// The Request Authenticator of a signed packet is wrong: another secret.
    WrongAuthenticator,
    /// The Message-Authenticator is wrong: another secret, or somebody has changed the packet.
    WrongMessageAuthenticator,
    /// There is no Message-Authenticator, and this client must send one.
    NoMessageAuthenticator,
    /// There is a Proxy-State, and no Message-Authenticator.
    ProxyStateUnprotected,
    /// There is an EAP-Message, and no Message-Authenticator (RFC 3579 section 3.1).
    EapUnprotected,
    /// It came again while it is being answered.
    Duplicate,
    /// Its client has asked something else under the same identifier, or does not wait any longer.
    Cancelled,
    /// It waited for longer than its client does before it could be looked at, or would.
    Stale,
    /// Too much is being answered already.
    Full,
    /// Who could have answered could not be asked.
    Unavailable,
    /// An accounting record could not be written.
    NotWritten,
}

impl Dropped {
    /// All of them, in the order of their labels' columns.
    pub const ALL: [Dropped; 15] = [
        Dropped::UnknownClient,
        Dropped::Malformed,
        Dropped::UnexpectedCode,
        Dropped::RateLimited,
        Dropped::WrongAuthenticator,
        Dropped::WrongMessageAuthenticator,
        Dropped::NoMessageAuthenticator,
        Dropped::ProxyStateUnprotected,
        Dropped::EapUnprotected,
        Dropped::Duplicate,
        Dropped::Cancelled,
        Dropped::Stale,
        Dropped::Full,
        Dropped::Unavailable,
        Dropped::NotWritten,
    ];

    /// One word for metrics.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Dropped::UnknownClient => "unknown_client",
            Dropped::Malformed => "malformed",
            Dropped::UnexpectedCode => "unexpected_code",
            Dropped::RateLimited => "rate_limited",
            Dropped::WrongAuthenticator => "wrong_authenticator",
            Dropped::WrongMessageAuthenticator => "wrong_message_authenticator",
            Dropped::NoMessageAuthenticator => "no_message_authenticator",
            Dropped::ProxyStateUnprotected => "proxy_state_unprotected",
            Dropped::EapUnprotected => "eap_unprotected",
            Dropped::Duplicate => "duplicate",
            Dropped::Cancelled => "cancelled",
            Dropped::Stale => "stale",
            Dropped::Full => "full",
            Dropped::Unavailable => "unavailable",
            Dropped::NotWritten => "not_written",
        }
    }

    /// What it means for the people who run the client, and what would be right; none where one packet more or less is
    /// nothing to write about.
    #[must_use]
    pub fn advice(self) -> Option<&'static str> {
        Some(match self {
            Dropped::UnknownClient => "no client has this address: add it to the clients file, or find out who asks",
            Dropped::Malformed => "this is no RADIUS packet",
            Dropped::UnexpectedCode => "this port does not answer such packets: is it the port of accounting?",
            Dropped::RateLimited => "the client sends more packets than its rate allows",
            Dropped::WrongAuthenticator => {
                "the Request Authenticator is wrong: client and server have different secrets"
            }
            Dropped::WrongMessageAuthenticator => {
                "the Message-Authenticator is wrong: client and server have different secrets, or the packet was changed"
            }
            Dropped::NoMessageAuthenticator => {
                "no Message-Authenticator, which this client must send: update it, or set require_message_authenticator = \
                 \"no\" and know that its answers can be forged (CVE-2024-3596)"
            }
            Dropped::ProxyStateUnprotected => {
                "a Proxy-State without Message-Authenticator, by which answers can be forged (CVE-2024-3596): update the \
                 proxy, or set limit_proxy_state = \"no\""
            }
            Dropped::EapUnprotected => "an EAP-Message without Message-Authenticator (RFC 3579 section 3.1)",
            Dropped::Stale => "requests wait for longer than their clients do: the server is overloaded",
            Dropped::Full => "more requests are being answered than requests_max allows",
            Dropped::Unavailable => "who could answer cannot be asked",
            Dropped::NotWritten => "an accounting record could not be written: the client will send it again",
            Dropped::Duplicate | Dropped::Cancelled => return None,
        })
    }
}
