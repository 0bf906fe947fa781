//! `usherd radius test`: what a configuration would answer one request, and why. The request goes through everything that
//! a request of a client goes through, on a listener of its own on this machine; who is asked is asked really.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde_json::json;
use wire::radius::{Code, Packet, Secret, Writer, number};

use super::credentials::{Method, Proof};
use super::exchange::{Ended, Known, Trial};
use super::{random, secret_octets};
use crate::boot::radius_test::{self, Wanted};
use crate::cli::{CONFIG_DEFAULT, print, say, show};
use crate::config;

const EXAMPLES: &str = "\
Examples:
  usherd radius test ada --password-file password
  usherd radius test ada --password-file password -c usherd.toml --client wlan-7
                     --attribute 'NAS-Port-Type = Wireless-802.11, Called-Station-Id = \"00-53-00-12-34-56:guest\"'

Ends with 0 for Access-Accept, 1 for Access-Reject, 4 without an answer, 5 for Access-Challenge.";

/// No answer, and a challenge.
const SILENT: u8 = 4;
const CHALLENGED: u8 = 5;

/// The flags.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Test {
    /// Whose request: User-Name
    #[arg(value_name = "USER")]
    user: String,
    /// The configuration file
    #[arg(short, long, value_name = "FILE", default_value = CONFIG_DEFAULT)]
    config: PathBuf,
    /// The file with the user's password; one trailing newline is not part of it
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// How the password is shown
    #[arg(long, value_enum, default_value = "pap", requires = "password_file")]
    method: Method,
    /// Which listener, by its address as it is written [default: the first that answers authentication]
    #[arg(long, value_name = "ADDRESS")]
    listener: Option<String>,
    /// As which client, by its name in the clients file [default: the first one]
    #[arg(long, value_name = "NAME")]
    client: Option<String>,
    /// An attribute, or several: 'Name = value, Name = value' (repeatable)
    #[arg(long, value_name = "ATTRIBUTE")]
    attribute: Vec<String>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Test {
    /// Tries it.
    pub(super) fn run(&self) -> Result<ExitCode, String> {
        let (plan, warnings) = match config::load(&self.config) {
            Ok(loaded) => loaded,
            Err(found) => {
                show(&found);
                return Ok(ExitCode::from(2));
            }
        };
        show(&warnings);
        let secret: [u8; 16] = random()?;
        let wanted = Wanted {
            listener: self.listener.clone(),
            client: self.client.clone(),
            secret: secret.to_vec(),
        };
        let dictionary = radius_test::dictionary(&plan, &wanted)?;
        let proof = match &self.password_file {
            Some(file) => {
                let password = secret_octets(file, "a password")?;
                Some(Proof::new(self.method, self.user.as_bytes(), &password, &random()?)?)
            }
            None => None,
        };
        let trial = Trial::new(&self.attribute, self.json, Secret::new(&secret), dictionary)?;
        let mut answered = None;
        let mut as_client = String::new();
        let lines = radius_test::run(plan, &wanted, |address, client, may_be| {
            client.clone_into(&mut as_client);
            let known = trial.known(address);
            let request = self.request(&known, proof.as_ref())?;
            let codes = [Code::ACCESS_ACCEPT, Code::ACCESS_REJECT, Code::ACCESS_CHALLENGE];
            if let Ended::Answered(answer) = known.ask_while(&request, &codes, may_be)? {
                let packet = Packet::parse(&request).map_err(|malformed| malformed.to_string())?;
                let code = answer.packet()?.code();
                answered = Some((code, known.show(&answer, &packet, json!({}))?));
            }
            Ok(())
        })?;
        self.tell(&as_client, &lines, answered)
    }

    fn request(&self, known: &Known<'_>, proof: Option<&Proof>) -> Result<Vec<u8>, String> {
        let [identifier] = random()?;
        let mut request = Vec::new();
        let mut writer = Writer::request(&mut request, Code::ACCESS_REQUEST, identifier, &random()?);
        let full = |full: wire::radius::Full| full.to_string();
        writer.message_authenticator().map_err(full)?;
        writer
            .attribute(number::USER_NAME, self.user.as_bytes())
            .map_err(full)?;
        if let Some(proof) = proof {
            proof.write(&mut writer, &known.secret).map_err(full)?;
        }
        known.write(&mut writer)?;
        writer.finish(&known.secret).map_err(full)?;
        Ok(request)
    }

    fn tell(&self, client: &str, lines: &[String], answered: Option<(Code, String)>) -> Result<ExitCode, String> {
        let (code, text) = match answered {
            Some((code, text)) => (Some(code), text),
            None => (None, String::new()),
        };
        if self.json {
            let answer: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
            let answer = answer.get("answer").cloned().unwrap_or_default();
            let object = json!({ "client": client, "answered": code.is_some(), "answer": answer, "trace": lines });
            print(format!("{object}\n").as_bytes())?;
        } else {
            let mut all = format!("as client {client}\n");
            for line in lines {
                all.push_str(line);
                all.push('\n');
            }
            all.push_str(&text);
            print(all.as_bytes())?;
        }
        if code.is_none() {
            say("usherd: there is no answer: a client would ask another server");
        }
        Ok(match code {
            None => ExitCode::from(SILENT),
            Some(Code::ACCESS_REJECT) => ExitCode::FAILURE,
            Some(Code::ACCESS_CHALLENGE) => ExitCode::from(CHALLENGED),
            Some(_) => ExitCode::SUCCESS,
        })
    }
}
