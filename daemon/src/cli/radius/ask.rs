//! `usherd radius ask`: a client for one request, so that a server can be tried without other programs.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use serde_json::json;
use wire::radius::{Code, MessageAuthenticator, Packet, Writer, number};

use super::change::now;
use super::credentials::{Method, Proof};
use super::exchange::{Ended, Known, Peer, Whom};
use super::{random, secret_octets};
use crate::cli::{print, say};

/// Where servers listen (RFC 2865 section 3), and where for accounting (RFC 2866 section 3).
const PORT: u16 = 1812;
const ACCOUNTING_PORT: u16 = 1813;
/// The server wants to know more before it decides.
const CHALLENGED: u8 = 5;
/// What a client that is no access server calls itself: a request needs one of three attributes (RFC 2865 section 4.1).
const NAS_IDENTIFIER: &[u8] = b"usherd";

const EXAMPLES: &str = "\
Examples:
  usherd radius ask --to 127.0.0.1 --secret-file secret --user bob --password-file password
  usherd radius ask --to radius1 --secret-file secret --user bob --password-file password --method mschapv2
                    --attribute 'NAS-Port-Type = Wireless-802.11, Called-Station-Id = \"00-53-00-12-34-56:wifi\"'
  usherd radius ask --to radius1 --secret-file secret --user bob --accounting start
  usherd radius ask --to radius1 --secret-file secret --status

Ends with 0 for Access-Accept, Accounting-Response and an answer to Status-Server, 1 for Access-Reject, 4 without an answer, 5 for
Access-Challenge.";

/// What has happened to a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Event {
    /// It begins
    Start,
    /// It has ended
    Stop,
    /// It goes on
    Interim,
}

impl Event {
    /// Its Acct-Status-Type (RFC 2866 section 5.1).
    fn status_type(self) -> u32 {
        match self {
            Event::Start => 1,
            Event::Stop => 2,
            Event::Interim => 3,
        }
    }
}

/// The flags.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Ask {
    /// Whom to ask; without a port that of the protocol
    #[arg(long, value_name = "HOST[:PORT]")]
    to: String,
    /// The file with the secret that is shared with it; one trailing newline is not part of it
    #[arg(long, value_name = "FILE")]
    secret_file: PathBuf,
    #[command(flatten)]
    peer: Peer,
    /// Whom it is about: User-Name
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// The file with the user's password; one trailing newline is not part of it
    #[arg(long, value_name = "FILE", requires = "user", conflicts_with_all = ["accounting", "status"])]
    password_file: Option<PathBuf>,
    /// How the password is shown
    #[arg(long, value_enum, default_value = "pap", requires = "password_file")]
    method: Method,
    /// Tell about a session (Accounting-Request) in place of asking who somebody is
    #[arg(long, value_enum, value_name = "EVENT", conflicts_with = "status")]
    accounting: Option<Event>,
    /// Ask whether the server is there (Status-Server)
    #[arg(long, conflicts_with = "user")]
    status: bool,
}

impl Ask {
    pub(super) fn run(&self) -> Result<ExitCode, String> {
        let port = if self.accounting.is_some() {
            ACCOUNTING_PORT
        } else {
            PORT
        };
        let known = self.peer.known(Whom::named(&self.to, &self.secret_file, port))?;
        let (code, answers): (_, &[Code]) = if self.accounting.is_some() {
            (Code::ACCOUNTING_REQUEST, &[Code::ACCOUNTING_RESPONSE])
        } else if self.status {
            // What is said depends on the port (RFC 5997 section 3).
            (Code::STATUS_SERVER, &[Code::ACCESS_ACCEPT, Code::ACCOUNTING_RESPONSE])
        } else {
            let answers = &[Code::ACCESS_ACCEPT, Code::ACCESS_REJECT, Code::ACCESS_CHALLENGE];
            (Code::ACCESS_REQUEST, answers)
        };
        if !self.status && self.user.is_none() && !known.gives_any() {
            return Err("nothing says about whom; --user and --password-file, or --attribute, is right".to_string());
        }
        let proof = self.proof()?;
        let request = self.request(&known, code, proof.as_ref())?;
        let answer = match known.ask(&request, answers)? {
            Ended::Answered(answer) => answer,
            Ended::Silent(why) => return known.silent(why),
        };
        let asked = Packet::parse(&request).map_err(|malformed| malformed.to_string())?;
        print(known.show(&answer, &asked, json!({}))?.as_bytes())?;
        let packet = answer.packet()?;
        if code != Code::ACCOUNTING_REQUEST
            && packet.check_message_authenticator(&known.secret, Some(asked.authenticator()))
                == MessageAuthenticator::Absent
        {
            say(
                "usherd: the answer has no Message-Authenticator: somebody on the way could have forged it (CVE-2024-3596)",
            );
        }
        Ok(match packet.code() {
            Code::ACCESS_REJECT => ExitCode::FAILURE,
            Code::ACCESS_CHALLENGE => ExitCode::from(CHALLENGED),
            Code::ACCESS_ACCEPT if proof.is_some_and(|proof| !proof.is_mutual(&packet)) => {
                say(
                    "usherd: the server accepts without showing that it knows the password: its MS-CHAP2-Success is wrong or missing",
                );
                ExitCode::FAILURE
            }
            _ => ExitCode::SUCCESS,
        })
    }

    fn proof(&self) -> Result<Option<Proof>, String> {
        let (Some(user), Some(file)) = (&self.user, &self.password_file) else {
            return Ok(None);
        };
        let password = secret_octets(file, "a password")?;
        Proof::new(self.method, user.as_bytes(), &password, &random()?).map(Some)
    }

    fn request(&self, known: &Known<'_>, code: Code, proof: Option<&Proof>) -> Result<Vec<u8>, String> {
        let [identifier] = random()?;
        let mut request = Vec::new();
        let mut writer = Writer::request(&mut request, code, identifier, &random()?);
        let full = |full: wire::radius::Full| full.to_string();
        if let Some(user) = &self.user {
            writer.attribute(number::USER_NAME, user.as_bytes()).map_err(full)?;
        }
        if let Some(proof) = proof {
            proof.write(&mut writer, &known.secret).map_err(full)?;
        }
        if let Some(event) = self.accounting {
            let mut put = |number: u8, value: &[u8]| match known.gives(number) {
                true => Ok(()),
                false => writer.attribute(number, value).map_err(full),
            };
            put(number::ACCT_STATUS_TYPE, &event.status_type().to_be_bytes())?;
            let session: [u8; 4] = random()?;
            put(
                number::ACCT_SESSION_ID,
                format!("{:08x}", u32::from_be_bytes(session)).as_bytes(),
            )?;
            put(number::EVENT_TIMESTAMP, &now().to_be_bytes())?;
        }
        let names = [number::NAS_IDENTIFIER, number::NAS_IP_ADDRESS, number::NAS_IPV6_ADDRESS];
        if !names.into_iter().any(|number| known.gives(number)) {
            writer.attribute(number::NAS_IDENTIFIER, NAS_IDENTIFIER).map_err(full)?;
        }
        known.write(&mut writer)?;
        writer.finish(&known.secret).map_err(full)?;
        Ok(request)
    }
}
