//! The daemon's own bind to a server, as the connection's machine wants it: with chance of the operating system's.

use engine::upstream::ldap::Own;
use engine::upstream::sasl::CHANCE;

use crate::config::plan::{Bind, Target};

/// Chance for one exchange.
pub fn chance() -> Result<[u8; CHANCE], &'static str> {
    let mut chance = [0; CHANCE];
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    match provider.secure_random.fill(&mut chance) {
        Ok(()) => Ok(chance),
        Err(_) => Err("the system gives no random numbers"),
    }
}

/// A bind to such a server.
pub fn own<'b>(bind: &'b Bind, target: &Target) -> Result<Own<'b>, &'static str> {
    Ok(match bind {
        Bind::Simple(simple) => Own::Simple {
            dn: simple.dn.as_bytes(),
            password: &simple.password,
        },
        Bind::Sasl(sasl) => Own::Sasl {
            account: &sasl.account,
            is_safe: bind.is_safe(target),
            chance: chance()?,
        },
    })
}
