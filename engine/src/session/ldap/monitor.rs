//! The daemon's own figures, as entries below `cn=usherd,cn=monitor`: who may read them, and who hears what in their place.
//!
//! Where nobody may, there is nothing of the kind: such names are a server's business as all others are.

use wire::ldap::dn;
use wire::ldap::envelope::{Envelope, response_tag, tag};
use wire::ldap::grammar;
use wire::ldap::result::{self, code};

use super::identities::Identities;
use super::{Next, Session};
use crate::core::Ticket;

/// The entry of the daemon itself; all others are below it.
pub const BASE: &str = "cn=usherd,cn=monitor";
/// How [`BASE`] ends, for a first look at a name.
const ENDING: &[u8] = b"monitor";

/// Whether a request asks about an entry here.
fn is_asked(env: &Envelope<'_>) -> bool {
    let name = match env.tag {
        tag::SEARCH_REQUEST => grammar::search(env.op).map(|request| request.base),
        tag::COMPARE_REQUEST => grammar::compare(env.op).map(|request| request.dn),
        _ => return false,
    };
    let Ok(name) = name else { return false };
    let end = name.trim_ascii_end();
    let ending = end.len().checked_sub(ENDING.len()).and_then(|at| end.get(at..));
    if !ending.is_some_and(|ending| ending.eq_ignore_ascii_case(ENDING)) {
        return false;
    }
    let (mut asked, mut base) = (Vec::new(), Vec::new());
    dn::normalize(name, &dn::CaseIgnore, &mut asked).is_ok()
        && dn::normalize(BASE.as_bytes(), &dn::CaseIgnore, &mut base).is_ok()
        && dn::is_within(&asked, &base)
}

impl Session {
    /// A request that is about the daemon's figures: what is done with it. None: it is about something else.
    pub(super) fn monitor(&mut self, env: &Envelope<'_>, readers: &Identities, out: &mut Vec<u8>) -> Option<Next> {
        if !is_asked(env) {
            return None;
        }
        if readers.has(&self.authzid) {
            // No pool has it, so that nothing of a pool's can end it.
            self.submitted(env.id, env.tag, Ticket::NONE);
            return Some(Next::Monitor);
        }
        // Who has not said who he is need not know what is here.
        let (code, why) = if self.authzid.is_empty() {
            (code::NO_SUCH_OBJECT, "")
        } else {
            (code::INSUFFICIENT_ACCESS_RIGHTS, "the figures are for others")
        };
        if let Some(response) = response_tag(env.tag) {
            result::write_result(out, env.id, response, code, b"", why);
        }
        Some(Next::Done)
    }
}
