//! What a directory offers its clients of SASL and what they are told of it.

use std::time::Duration;

use wire::ldap::sasl::Mechanisms;

use super::diagnostic::{At, Problems};
use super::reader::Section;

const SASL_TIMEOUT: Duration = Duration::from_secs(10);

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sasl {
    /// Mechanisms that clients may use; others are answered with authMethodNotSupported (7).
    pub mechanisms: Mechanisms,
    /// Deadline of a client's SASL bind, all of its steps together, 10 s: so long a bind connection may be half-way.
    pub timeout: Duration,
    /// Whether the root DSE is told less what cannot work here, and with what is done here.
    pub filters_root_dse: bool,
}

impl Default for Sasl {
    /// What works through a balancer, and a root DSE that says so.
    fn default() -> Self {
        Sasl {
            mechanisms: Mechanisms::USUAL,
            timeout: SASL_TIMEOUT,
            filters_root_dse: true,
        }
    }
}

/// The settings written in a directory's section, defaults for the others.
pub(super) fn read(p: &mut Problems, section: &mut Section<'_>) -> Sasl {
    const ROOT_DSE: [(&str, bool); 2] = [("filter", true), ("pass", false)];
    let default = Sasl::default();
    let written = section.strings(p, "sasl");
    let timeout = section.duration(p, "sasl_timeout", Duration::from_millis(10), Duration::from_secs(3600));
    Sasl {
        mechanisms: written.map_or(default.mechanisms, |written| mechanisms(p, &written)),
        timeout: timeout.map_or(default.timeout, |at| at.value),
        filters_root_dse: section.choice(p, "root_dse", &ROOT_DSE, &[]).is_none_or(|at| at.value),
    }
}

fn mechanisms(p: &mut Problems, written: &At<Vec<At<String>>>) -> Mechanisms {
    let mut all = Mechanisms::NONE;
    for name in &written.value {
        let Some(one) = Mechanisms::of(name.value.as_bytes()) else {
            unknown(p, name);
            continue;
        };
        if one.may_protect() {
            p.warning(
                &name.place,
                format!("{} may put a security layer on the connection", name.value),
            )
            .label("messages in such a layer cannot be read here, and end the connection")
            .help("make the servers offer no layer (slapd: sasl-secprops maxssf=0), or remove it");
        }
        all = all.and(one);
    }
    all
}

fn unknown(p: &mut Problems, name: &At<String>) {
    if name.value.to_ascii_uppercase().ends_with("-PLUS") {
        p.error(&name.place, format!("{} cannot work through a balancer", name.value))
            .label("it binds to the TLS connection, of which there are two here")
            .help("remove it; without -PLUS it works");
        return;
    }
    let names = Mechanisms::all_names();
    let problem = p.error(&name.place, "no SASL mechanism of this name is known");
    problem.label(format!("found \"{}\"", name.value));
    problem.help(format!("one of {}", names.join(", ")));
}
