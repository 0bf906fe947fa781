//! `usherd radius encode`: attributes as text to packets in hex.

use std::process::ExitCode;

use clap::Args;
use wire::radius::text::Line;

use super::{Common, lines};
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
        let random = rustls::crypto::aws_lc_rs::default_provider().secure_random;
        lines(|line| {
            let mut line = Line::parse(&dictionary, line).map_err(|mistake| mistake.to_string())?;
            if !line.code.is_request() {
                line.request = line.request.or(self.common.request_authenticator);
            }
            let mut fresh = [0; 18];
            random
                .fill(&mut fresh)
                .map_err(|_| "the system gives no random numbers".to_string())?;
            let [salt @ .., high, low] = fresh;
            let (authenticator, mut next) = (salt, u16::from_be_bytes([high, low]));
            // One after the other, none is the same twice in a packet.
            let mut salt = || {
                next = next.wrapping_add(1);
                next
            };
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
