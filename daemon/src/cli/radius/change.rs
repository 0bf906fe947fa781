//! `usherd radius disconnect` and `usherd radius coa`: what an access server is told about a session that it has (RFC 5176).

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Args;
use serde_json::{Value as Json, json};
use wire::radius::{Code, Packet, Secret, Writer, number};

use super::exchange::{Ended, Peer, Whom};
use super::random;
use crate::cli::{print, show};
use crate::config::suggest::nearest;
use crate::config::{radius, render};

/// Where access servers listen for it (RFC 5176 section 2.1).
const PORT: u16 = 3799;

const EXAMPLES: &str = "\
Examples:
  usherd radius disconnect --to ap7 --secret-file secret --user bob --session 0000004711
  usherd radius coa --client ap7 --clients /etc/usherd/clients.toml --session 0000004711 --attribute 'Session-Timeout = 600'";

/// The flags of both.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Change {
    /// The access server; without a port 3799
    #[arg(
        long,
        value_name = "HOST[:PORT]",
        required_unless_present = "client",
        conflicts_with = "client",
        requires = "secret_file"
    )]
    to: Option<String>,
    /// The file with the secret that is shared with it; one trailing newline is not part of it
    #[arg(long, value_name = "FILE", requires = "to")]
    secret_file: Option<PathBuf>,
    /// The access server by its name in the clients file, which has its secret and its address
    #[arg(long, value_name = "NAME", requires = "clients")]
    client: Option<String>,
    /// The clients file; in FreeRADIUS's own form where its name does not end in .toml
    #[arg(long, value_name = "FILE", requires = "client")]
    clients: Option<String>,
    #[command(flatten)]
    peer: Peer,
    /// Whose session: User-Name
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// Which session: Acct-Session-Id
    #[arg(long, value_name = "ID")]
    session: Option<String>,
}

impl Change {
    pub(super) fn run(&self, code: Code) -> Result<ExitCode, String> {
        let known = self.peer.known(self.whom()?)?;
        if self.user.is_none() && self.session.is_none() && !known.gives_any() {
            return Err("nothing says which session; --user, --session or --attribute is right".to_string());
        }
        let [identifier] = random()?;
        let mut request = Vec::new();
        // Its Authenticator is a hash: the zeroes are not looked at.
        let mut writer = Writer::request(&mut request, code, identifier, &[0; 16]);
        let mut put = |number: u8, value: &[u8]| writer.attribute(number, value).map_err(|full| full.to_string());
        if let Some(user) = &self.user {
            put(number::USER_NAME, user.as_bytes())?;
        }
        if let Some(session) = &self.session {
            put(number::ACCT_SESSION_ID, session.as_bytes())?;
        }
        if !known.gives(number::EVENT_TIMESTAMP) {
            put(number::EVENT_TIMESTAMP, &now().to_be_bytes())?;
        }
        known.write(&mut writer)?;
        writer.finish(&known.secret).map_err(|full| full.to_string())?;

        let (ack, nak) = match code {
            Code::DISCONNECT_REQUEST => (Code::DISCONNECT_ACK, Code::DISCONNECT_NAK),
            _ => (Code::COA_ACK, Code::COA_NAK),
        };
        let answer = match known.ask(&request, &[ack, nak])? {
            Ended::Answered(answer) => answer,
            Ended::Silent(why) => return known.silent(why),
        };
        let packet = answer.packet()?;
        let asked = Packet::parse(&request).map_err(|malformed| malformed.to_string())?;
        let cause = packet.find(number::ERROR_CAUSE).and_then(|value| value.try_into().ok());
        let cause = cause.map(u32::from_be_bytes);
        let more = json!({
            "acknowledged": packet.code() == ack,
            "error_cause": cause,
            "reason": cause.map_or(Json::Null, |cause| words(cause).into()),
        });
        let shown = known.show(&answer, &asked, more)?;
        let text = match cause {
            _ if self.peer.json => shown,
            None => format!("{} from {}\n{shown}", packet.code(), known.address),
            Some(cause) => {
                let words = words(cause);
                format!("{} from {}: {words} ({cause})\n{shown}", packet.code(), known.address)
            }
        };
        print(text.as_bytes())?;
        Ok(if packet.code() == ack {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}

impl Change {
    /// By address and secret, or by a name that has both.
    fn whom(&self) -> Result<Whom, String> {
        match (&self.to, &self.secret_file, &self.client, &self.clients) {
            (Some(to), Some(secret), ..) => Ok(Whom::named(to, secret, PORT)),
            (.., Some(name), Some(file)) => by_client(name, file),
            _ => Err("--to and --secret-file, or --client and --clients, is right".to_owned()),
        }
    }
}

/// Where a client takes such requests: its `coa`, or else port 3799 of its address, if it is only one.
fn by_client(name: &str, file: &str) -> Result<Whom, String> {
    let (clients, doubts) = radius::clients::alone(file).map_err(|found| render(&found, false))?;
    show(&doubts);
    let Some(client) = clients.named(name) else {
        let names: Vec<&str> = clients.iter().map(|(_, client)| client.name.as_str()).collect();
        return Err(match nearest(name, names.iter().copied()) {
            Some(near) => format!("{file}: no client is called {name:?}; did you mean {near:?}?"),
            None => {
                let some: Vec<&str> = names.into_iter().take(20).collect();
                format!("{file}: no client is called {name:?}; there are: {}", some.join(", "))
            }
        });
    };
    let address = match (client.coa, clients.only_address(&client.name)) {
        (Some(address), _) => Ok(address),
        (None, Some(address)) => Ok(SocketAddr::new(address, PORT)),
        (None, None) => Err(format!(
            "{file}: client {name} has more than one address; coa = \"ADDRESS\" of the client, or --to and --secret-file, is right"
        )),
    };
    let secret = Ok(Secret::new(client.secret.as_bytes()));
    Ok(Whom { address, secret })
}

/// What an Error-Cause means (RFC 5176 section 3.6; 509: RFC 5580 section 4.8; 601: RFC 7930 section 4).
fn words(cause: u32) -> &'static str {
    match cause {
        201 => "the session had ended, and what was left of it is removed",
        202 => "it takes no EAP packet like this one",
        401 => "it does not support one of the attributes",
        402 => "an attribute is missing that it needs",
        403 => "the attributes name another access server",
        404 => "it takes no request like this one",
        405 => "it does not support this Service-Type",
        406 => "it does not support this extension",
        407 => "the value of an attribute is not what it takes",
        501 => "it is not allowed here",
        502 => "a proxy does not know the way to the access server",
        503 => "it has no such session",
        504 => "it has this session, and cannot end it",
        505 => "a proxy could not process it",
        506 => "it has no resources left for it",
        507 => "it asks the RADIUS server itself now, as the request wanted",
        508 => "several sessions fit, and it does only one at a time",
        509 => "it needs to be told the location",
        601 => "its answer would be too big",
        _ => "a cause without a name",
    }
}

/// Seconds since 1970, as an Event-Timestamp has them.
pub(super) fn now() -> u32 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u32::try_from(since.as_secs()).unwrap_or(u32::MAX)
}
