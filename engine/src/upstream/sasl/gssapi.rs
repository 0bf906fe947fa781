//! GSSAPI (RFC 4752), the client's side: what is asked of GSS (RFC 2743), what is said to the server, and which of its answers count.
//!
//! GSS itself is not here: it reads files and asks over the network. A [`Client`] says what it is to be asked, as a [`Request`], and
//! is told the [`Reply`]. First come the tokens that make a context, in which both sides prove who they are; then the server names
//! the security layers that it has, in a message that the context protects, and is answered that there shall be none: TLS protects
//! the connection. A server is believed only when it has come to the end of this way. How long its tokens may be is for whoever
//! asks GSS ([`Request::said`]).

/// Tokens of ours, at most: Kerberos has one.
const TOKENS_MAX: u8 = 8;
/// The bit that stands for no security layer (RFC 4752 section 3.3).
const NO_LAYER: u8 = 1;

/// What GSS is to be asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Request {
    /// `GSS_Init_sec_context`, with the server's token; the first time there is none.
    Initiate(Option<Vec<u8>>),
    /// `GSS_Unwrap` of this message of the server's.
    Unwrap(Vec<u8>),
    /// `GSS_Wrap` of this message, without confidentiality.
    Wrap(Vec<u8>),
}

impl Request {
    /// What of the server's is in it.
    #[must_use]
    pub fn said(&self) -> &[u8] {
        match self {
            Request::Initiate(said) => said.as_deref().unwrap_or_default(),
            Request::Unwrap(sealed) => sealed,
            Request::Wrap(_) => &[],
        }
    }
}

/// What GSS answered. Its failures do not come here: they end the bind.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reply {
    /// To [`Request::Initiate`].
    Initiated {
        /// For the server; may be empty at the end.
        token: Vec<u8>,
        /// Whether another token of the server's is needed.
        context: Context,
    },
    /// What was in the server's message.
    Unwrapped(Vec<u8>),
    /// For the server.
    Wrapped(Vec<u8>),
}

/// How far a context is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Context {
    /// It needs another token.
    Begun,
    /// It is established.
    Established {
        /// The server has proved who it is.
        is_mutual: bool,
        /// Messages can be protected.
        has_integrity: bool,
    },
}

/// What comes next.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Next {
    /// GSS is asked.
    Ask(Request),
    /// This is sent to the server.
    Say(Vec<u8>),
    /// We are bound.
    Bound,
    /// It cannot go on.
    Failed(&'static str),
    /// The server's result code is none that this step may have.
    Refused,
}

/// What is awaited.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// A token of GSS's.
    Token,
    /// The server's answer to a token that left the context begun.
    Answer,
    /// The server's layers: the context is established.
    Layers,
    /// What is in them.
    Unwrapped,
    /// Our choice, protected.
    Wrapped,
    /// The server's last word.
    Verdict,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Client {
    state: State,
    tokens: u8,
}

const NO_TOKEN: &str = "the server's answer has no GSSAPI token in it";
const TOO_MANY: &str = "the server asks for more GSSAPI tokens than Kerberos has";
const NOT_MUTUAL: &str =
    "the server has not proved who it is (GSSAPI without mutual authentication): it is not to be trusted";
const UNPROVED: &str =
    "the server says success before GSSAPI is at its end: it has not proved who it is, and is not to be trusted";
const OUT_OF_TURN: &str = "the server's GSSAPI answer came out of turn";
const MALFORMED: &str = "the server's list of GSSAPI security layers is malformed";
const LAYER_WANTED: &str = "the server insists on a security layer of SASL (its minssf), and the daemon has none: let TLS protect \
                            the connection, and the server be content with that";
const TALKATIVE: &str = "the server's success carries a GSSAPI message that has no place there";

impl Client {
    /// Begins.
    pub(super) fn begin() -> (Client, Next) {
        let client = Client {
            state: State::Token,
            tokens: 0,
        };
        (client, Next::Ask(Request::Initiate(None)))
    }

    /// Whether nothing but the first token was said: a server without the mechanism answers so.
    pub(super) fn is_at_start(&self) -> bool {
        self.tokens == 1 && matches!(self.state, State::Answer | State::Layers)
    }

    /// The server wants to go on (saslBindInProgress).
    pub(super) fn challenged(&mut self, credentials: Option<&[u8]>) -> Next {
        let said = match credentials {
            Some(said) if !said.is_empty() => said.to_vec(),
            _ => return Next::Failed(NO_TOKEN),
        };
        match self.state {
            State::Answer => {
                self.state = State::Token;
                Next::Ask(Request::Initiate(Some(said)))
            }
            State::Layers => {
                self.state = State::Unwrapped;
                Next::Ask(Request::Unwrap(said))
            }
            State::Verdict => Next::Failed(super::MORE_STEPS),
            State::Token | State::Unwrapped | State::Wrapped => Next::Failed(OUT_OF_TURN),
        }
    }

    /// The server says success.
    pub(super) fn succeeded(&self, credentials: Option<&[u8]>) -> Next {
        match self.state {
            State::Verdict if credentials.is_none_or(<[u8]>::is_empty) => Next::Bound,
            State::Verdict => Next::Failed(TALKATIVE),
            _ => Next::Failed(UNPROVED),
        }
    }

    /// GSS has answered. `authzid`: as whom to act; empty: as whoever the ticket is for.
    pub(super) fn replied(&mut self, reply: Reply, authzid: &str) -> Next {
        match (self.state, reply) {
            (State::Token, Reply::Initiated { token, context }) => self.initiated(token, context),
            (State::Unwrapped, Reply::Unwrapped(layers)) => match choose(&layers, authzid) {
                Ok(choice) => {
                    self.state = State::Wrapped;
                    Next::Ask(Request::Wrap(choice))
                }
                Err(why) => Next::Failed(why),
            },
            (State::Wrapped, Reply::Wrapped(choice)) => {
                self.state = State::Verdict;
                Next::Say(choice)
            }
            _ => Next::Failed(OUT_OF_TURN),
        }
    }

    fn initiated(&mut self, token: Vec<u8>, context: Context) -> Next {
        self.state = match context {
            Context::Begun if token.is_empty() => return Next::Failed(OUT_OF_TURN),
            Context::Begun => State::Answer,
            Context::Established {
                is_mutual: true,
                has_integrity: true,
            } => State::Layers,
            Context::Established { .. } => return Next::Failed(NOT_MUTUAL),
        };
        self.tokens += 1;
        if self.tokens > TOKENS_MAX {
            return Next::Failed(TOO_MANY);
        }
        Next::Say(token)
    }
}

/// The answer to the server's list of layers: one octet of bits, and how much it takes at once (RFC 4752 section 3.1).
fn choose(layers: &[u8], authzid: &str) -> Result<Vec<u8>, &'static str> {
    let [bits, size @ ..] = <[u8; 4]>::try_from(layers).map_err(|_| MALFORMED)?;
    if bits & NO_LAYER == 0 {
        return Err(LAYER_WANTED);
    }
    // Without a layer there is nothing of which a size could be said.
    if bits == NO_LAYER && size != [0; 3] {
        return Err(MALFORMED);
    }
    let mut choice = vec![NO_LAYER, 0, 0, 0];
    choice.extend_from_slice(authzid.as_bytes());
    Ok(choice)
}

#[cfg(test)]
mod tests;
