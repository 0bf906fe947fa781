//! The daemon's own bind by SASL (RFC 4422, RFC 4513 section 5.2), the client's side: which mechanism is tried, what is said
//! in it, and when the server is believed.
//!
//! An [`Exchange`] is told each answer of the server and says what comes next. Mechanisms are tried in the order that the
//! [`Account`] lists them; the next one only where the server says that it does not have the first. A mechanism has a fixed
//! number of steps: a server that wants more ends the exchange. Success counts only where the server has proved what the
//! mechanism lets it prove.

mod account;
pub mod gssapi;
pub mod scram;

use std::sync::Arc;

use wire::ldap::result::code;
use zeroize::Zeroizing;

pub use account::{Account, ITERATIONS_DEFAULT, ITERATIONS_MAX, ITERATIONS_MIN, Unfit, Who};

/// Octets of chance for one exchange.
pub const CHANCE: usize = 18;

/// A mechanism that the daemon can bind with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mechanism {
    /// SCRAM with SHA-256 (RFC 7677).
    ScramSha256,
    /// SCRAM with SHA-1 (RFC 5802).
    ScramSha1,
    /// The password in clear (RFC 4616).
    Plain,
    /// Whoever the connection says (RFC 4422 appendix A).
    External,
    /// Whoever the Kerberos ticket says (RFC 4752).
    Gssapi,
}

impl Mechanism {
    /// All of them; of those with a password the stronger first.
    pub const ALL: [Mechanism; 5] = [
        Mechanism::ScramSha256,
        Mechanism::ScramSha1,
        Mechanism::Plain,
        Mechanism::External,
        Mechanism::Gssapi,
    ];

    /// Its registered name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Mechanism::ScramSha256 => "SCRAM-SHA-256",
            Mechanism::ScramSha1 => "SCRAM-SHA-1",
            Mechanism::Plain => "PLAIN",
            Mechanism::External => "EXTERNAL",
            Mechanism::Gssapi => "GSSAPI",
        }
    }

    /// The one of this name; letters of either case are the same.
    #[must_use]
    pub fn of(name: &str) -> Option<Mechanism> {
        Mechanism::ALL
            .into_iter()
            .find(|known| known.name().eq_ignore_ascii_case(name))
    }

    /// Whether it takes a name and a password.
    #[must_use]
    pub fn has_password(self) -> bool {
        !matches!(self, Mechanism::External | Mechanism::Gssapi)
    }

    fn hash(self) -> Option<scram::Hash> {
        match self {
            Mechanism::ScramSha256 => Some(scram::Hash::Sha256),
            Mechanism::ScramSha1 => Some(scram::Hash::Sha1),
            Mechanism::Plain | Mechanism::External | Mechanism::Gssapi => None,
        }
    }

    /// What the server refuses, for a message.
    fn request(self) -> &'static str {
        match self {
            Mechanism::ScramSha256 => "our bind with SCRAM-SHA-256",
            Mechanism::ScramSha1 => "our bind with SCRAM-SHA-1",
            Mechanism::Plain => "our bind with PLAIN",
            Mechanism::External => "our bind with EXTERNAL",
            Mechanism::Gssapi => "our bind with GSSAPI",
        }
    }
}

/// What comes next in an exchange.
#[derive(Debug)]
pub enum Turn {
    /// A bind request with these credentials.
    Send {
        /// Its mechanism.
        mechanism: &'static str,
        /// There always are some, be they empty: without any the server would ask for them.
        credentials: Zeroizing<Vec<u8>>,
    },
    /// GSS is to be asked this, elsewhere, for it takes its time; then [`Exchange::replied`].
    Ask(gssapi::Request),
    /// We are bound, and the server is who it should be, as far as the mechanism can tell.
    Bound,
    /// The server answered this request of ours with this result code.
    Refused(&'static str, u32),
    /// The exchange cannot go on, or its end is not to be believed; why.
    Failed(&'static str),
}

/// What was sent last.
#[derive(Debug)]
enum Stage {
    /// All that the mechanism has to say.
    Single,
    /// SCRAM's first message.
    First(scram::Client),
    /// SCRAM's proof; what the server must answer.
    Last(scram::Proof),
    /// Nothing, for the server has proved itself and yet asked for more.
    Proved,
    /// One of the steps of GSSAPI.
    Gssapi(gssapi::Client),
}

/// One bind; see the module.
#[derive(Debug)]
pub struct Exchange {
    account: Arc<Account>,
    /// Which of the account's mechanisms.
    at: usize,
    mechanism: Mechanism,
    /// Whether a password may be sent as it is.
    is_safe: bool,
    chance: [u8; CHANCE],
    stage: Stage,
}

const MORE_STEPS: &str = "the server asks for more steps than the mechanism has";
const UNPROVED: &str =
    "the server says success without having proved that it knows the password: it is not to be trusted";
const IN_CLEAR: &str = "PLAIN is not used: nothing protects the connection, and the password would be read on its way";

impl Exchange {
    /// Begins. `is_safe`: a password may be sent as it is. `chance`: octets that nobody can foresee, and never the same.
    #[must_use]
    pub fn begin(account: &Arc<Account>, is_safe: bool, chance: [u8; CHANCE]) -> (Exchange, Turn) {
        let mut exchange = Exchange {
            account: Arc::clone(account),
            at: 0,
            mechanism: account.first(),
            is_safe,
            chance,
            stage: Stage::Single,
        };
        let turn = exchange.start();
        (exchange, turn)
    }

    /// The server answered the bind request with this code and these credentials.
    pub fn answered(&mut self, answer: u32, credentials: Option<&[u8]>) -> Turn {
        let goes_on = answer == code::SASL_BIND_IN_PROGRESS;
        match std::mem::replace(&mut self.stage, Stage::Single) {
            Stage::Single | Stage::First(_) if is_unavailable(answer) => self.another(answer),
            Stage::Gssapi(client) if client.is_at_start() && is_unavailable(answer) => self.another(answer),
            Stage::Gssapi(mut client) => {
                let next = match answer {
                    code::SASL_BIND_IN_PROGRESS => client.challenged(credentials),
                    code::SUCCESS => client.succeeded(credentials),
                    _ => gssapi::Next::Refused,
                };
                self.by_gssapi(client, next, answer)
            }
            Stage::First(client) if goes_on => {
                match client.challenged(credentials.unwrap_or_default(), &self.account) {
                    Ok((said, proof)) => self.send(Stage::Last(proof), said.into()),
                    Err(why) => Turn::Failed(why),
                }
            }
            Stage::First(_) if answer == code::SUCCESS => Turn::Failed(UNPROVED),
            Stage::Last(proof) if goes_on || answer == code::SUCCESS => match credentials {
                None if goes_on => Turn::Failed(MORE_STEPS),
                None => Turn::Failed(UNPROVED),
                Some(said) => match proof.verify(said) {
                    Err(why) => Turn::Failed(why),
                    Ok(()) if goes_on => self.send(Stage::Proved, Zeroizing::default()),
                    Ok(()) => Turn::Bound,
                },
            },
            Stage::Single | Stage::Proved if answer == code::SUCCESS => Turn::Bound,
            Stage::Single | Stage::Proved if goes_on => Turn::Failed(MORE_STEPS),
            _ => Turn::Refused(self.mechanism.request(), answer),
        }
    }

    /// GSS has answered what it was asked. A failure of its is not told here: it ends the exchange, and with it the connection.
    pub fn replied(&mut self, reply: gssapi::Reply) -> Turn {
        match std::mem::replace(&mut self.stage, Stage::Single) {
            Stage::Gssapi(mut client) => {
                let next = client.replied(reply, &self.account.who().authzid);
                self.by_gssapi(client, next, code::OTHER)
            }
            _ => Turn::Failed("GSS answered what it was not asked"),
        }
    }

    /// The mechanism that is tried.
    #[must_use]
    pub fn mechanism(&self) -> Mechanism {
        self.mechanism
    }

    /// The server does not have this mechanism.
    fn another(&mut self, answer: u32) -> Turn {
        match self.account.mechanism(self.at + 1) {
            Some(next) => {
                self.at += 1;
                self.mechanism = next;
                // What the server has seen is not said to it again.
                if let Some(octet) = self.chance.first_mut() {
                    *octet = octet.wrapping_add(1);
                }
                self.start()
            }
            None => Turn::Refused(self.mechanism.request(), answer),
        }
    }

    fn start(&mut self) -> Turn {
        if let Some(hash) = self.mechanism.hash() {
            let (client, said) = scram::Client::begin(hash, self.account.who(), &self.chance);
            return self.send(Stage::First(client), said.into());
        }
        if self.mechanism == Mechanism::Gssapi {
            let (client, next) = gssapi::Client::begin();
            return self.by_gssapi(client, next, code::OTHER);
        }
        if self.mechanism == Mechanism::External {
            let authzid = self.account.who().authzid.as_bytes().to_vec();
            return self.send(Stage::Single, authzid.into());
        }
        if !self.is_safe {
            return Turn::Failed(IN_CLEAR);
        }
        let plain = self.account.plain();
        self.send(Stage::Single, plain)
    }

    fn by_gssapi(&mut self, client: gssapi::Client, next: gssapi::Next, answer: u32) -> Turn {
        let stage = Stage::Gssapi(client);
        match next {
            gssapi::Next::Say(token) => self.send(stage, token.into()),
            gssapi::Next::Ask(request) => {
                self.stage = stage;
                Turn::Ask(request)
            }
            gssapi::Next::Bound => Turn::Bound,
            gssapi::Next::Failed(why) => Turn::Failed(why),
            gssapi::Next::Refused => Turn::Refused(self.mechanism.request(), answer),
        }
    }

    fn send(&mut self, stage: Stage, credentials: Zeroizing<Vec<u8>>) -> Turn {
        self.stage = stage;
        Turn::Send {
            mechanism: self.mechanism.name(),
            credentials,
        }
    }
}

/// Whether the mechanism is not to be had: it is not known, or not on this connection or for this account, as some servers say.
fn is_unavailable(answer: u32) -> bool {
    matches!(
        answer,
        code::AUTH_METHOD_NOT_SUPPORTED | code::INAPPROPRIATE_AUTHENTICATION | code::CONFIDENTIALITY_REQUIRED
    )
}

#[cfg(test)]
mod tests;
