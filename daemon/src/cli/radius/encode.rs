//! `usherd radius encode`: attributes as text to packets in hex.

use std::process::ExitCode;

use clap::Args;
use wire::radius::text::Line;

use super::{Common, lines, random, salts};
use crate::cli::print;

/// `usherd radius encode`.
#[derive(Args, Debug)]
pub struct Encode {
    #[command(flatten)]
    common: Common,
}

impl Encode {
    pub(super) fn run(&self) -> Result<ExitCode, String> {
        let (secret, dictionary) = (self.common.secret()?, self.common.dictionary()?);
        lines(|line| {
            let mut line = Line::parse(&dictionary, line).map_err(|mistake| mistake.to_string())?;
            if !line.code.is_request() {
                line.request = line.request.or(self.common.request_authenticator);
            }
            let authenticator = random()?;
            let mut salt = salts()?;
            let mut out = Vec::new();
            line.write(&dictionary, secret.as_ref(), &authenticator, &mut salt, &mut out)
                .map_err(|why| why.to_string())?;
            let mut text = String::with_capacity(out.len() * 2 + 1);
            for octet in out {
                text.push_str(&format!("{octet:02x}"));
            }
            text.push('\n');
            print(text.as_bytes())
        })
    }
}
