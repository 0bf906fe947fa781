//! `allow_own_assertion`: whether a client that is bound as the daemon itself is may assert another identity (RFC 4370).
//!
//! Its control then travels in place of ours on connections that the daemon has bound, so as whom these are bound must be known, and
//! be the same for every server.

use std::sync::Arc;

use engine::session::ldap::identities::Identities;

use super::diagnostic::Problems;
use super::plan::{Bind, Identity};
use super::raw;

/// As whom the daemon is bound, where that is allowed.
pub(super) fn check(
    p: &mut Problems,
    raw: &raw::Directory,
    identity: Identity,
    bind: Option<&Bind>,
) -> Option<Arc<Identities>> {
    let written = raw.allow_own_assertion.as_ref().filter(|at| at.value)?;
    if identity == Identity::Pinned {
        p.error(
            &written.place,
            "`allow_own_assertion` has no meaning with identity = \"pinned\"",
        )
        .label("on a connection of its own the server judges what a client asserts")
        .help("remove it");
        return None;
    }
    let mut servers = raw
        .servers
        .iter()
        .chain(raw.tiers.iter().flat_map(|tier| &tier.servers));
    if let Some(other) = servers.find(|server| server.ldif.is_some() || server.bind.is_written()) {
        let problem = p.error(
            &written.place,
            "`allow_own_assertion` needs one bind of the daemon's own for every server",
        );
        let place = other.ldif.as_ref().map(|at| &at.place);
        if let Some(place) = place.or_else(|| other.bind.places().next().map(|(_, place)| place)) {
            problem.also(place, "this server has another one, or none");
        }
        problem.help("write bind_dn and bind_password_file at the directory only, or remove it");
        return None;
    }
    let who = match bind? {
        Bind::Simple(simple) => format!("dn:{}", simple.dn),
        Bind::Sasl(sasl) => sasl.account.who().authzid.clone(),
    };
    if !who.starts_with("dn:") {
        p.error(&written.place, "`allow_own_assertion` needs to know who the daemon is")
            .label("only the server knows whom it takes for the name of SASL")
            .help("write bind_authzid = \"dn:…\", as Who am I? says it, or use bind_dn");
        return None;
    }
    // Its form was looked at with the bind.
    Identities::new([who.as_str()]).ok().flatten().map(Arc::new)
}
