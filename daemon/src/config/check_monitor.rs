//! `monitor` of a listener: who may read the daemon's figures there.

use std::sync::Arc;

use engine::session::ldap::identities::Identities;

use super::diagnostic::Problems;
use super::raw::{Listen, Protocol};

/// So many may be named.
const READERS_MAX: usize = 64;

/// What it means.
pub(super) fn listener(p: &mut Problems, listen: &Listen, protocol: Protocol) -> Option<Arc<Identities>> {
    const RIGHT: &str = "write monitor = [\"dn:uid=admin,dc=example,dc=com\"], as Who am I? says it";
    let written = listen.monitor.as_ref()?;
    if !matches!(protocol, Protocol::Ldap | Protocol::Ldaps) {
        p.error(&written.place, "`monitor` is for ldap and ldaps listeners")
            .help("remove it");
        return None;
    }
    if written.value.len() > READERS_MAX {
        p.error(&written.place, "`monitor` names too many")
            .label(format!("found {}", written.value.len()))
            .help(format!("name {READERS_MAX} at most"));
        return None;
    }
    let wrong = match Identities::new(written.value.iter().map(|one| one.value.as_str())) {
        Ok(readers) => return readers.map(Arc::new),
        Err(at) => written.value.get(at)?,
    };
    p.error(&wrong.place, "`monitor` is a list of authorization identities")
        .label(format!("found \"{}\"", wrong.value))
        .help(RIGHT);
    None
}
