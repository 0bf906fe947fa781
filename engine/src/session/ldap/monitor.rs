//! The daemon's own figures, as entries below `cn=usherd,cn=monitor`: who may read them, and who hears what in their place.
//!
//! Where nobody may, there is nothing of the kind: such names are a server's business as all others are.

use wire::ldap::dn;
use wire::ldap::envelope::{Envelope, response_tag, tag};
use wire::ldap::grammar;
use wire::ldap::result::{self, code};

use super::{Next, Session};
use crate::core::Ticket;

/// The entry of the daemon itself; all others are below it.
pub const BASE: &str = "cn=usherd,cn=monitor";
/// How [`BASE`] ends, for a first look at a name.
const ENDING: &[u8] = b"monitor";

/// The identities that may read. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Readers(Vec<Box<[u8]>>);

/// Names of attributes match without regard to case, values only as they are. A directory may see less difference between
/// two names; whom it would take for a reader, and this does not, is refused, and nobody is let in for another.
struct Exactly;

impl dn::Rules for Exactly {
    fn attribute(&self, name: &[u8], out: &mut Vec<u8>) {
        out.extend(name.iter().map(u8::to_ascii_lowercase));
    }

    fn value(&self, _name: &[u8], value: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(value);
    }
}

/// In the one form in which two are compared; none: it is no identity.
fn normal(authzid: &[u8]) -> Option<Box<[u8]>> {
    match authzid.strip_prefix(b"dn:") {
        Some(name) => {
            let mut out = b"dn:".to_vec();
            dn::normalize(name, &Exactly, &mut out).ok()?;
            (out.len() > b"dn:".len()).then(|| out.into())
        }
        None => (authzid.len() > 2 && authzid.starts_with(b"u:")).then(|| authzid.into()),
    }
}

impl Readers {
    /// From authorization identities (RFC 4513 section 5.2.1.8), `dn:…` or `u:…`; none where there is none of them.
    ///
    /// # Errors
    /// The place in the list of one that is no identity.
    pub fn new<'a>(identities: impl IntoIterator<Item = &'a str>) -> Result<Option<Self>, usize> {
        let all: Vec<_> = identities
            .into_iter()
            .enumerate()
            .map(|(at, identity)| normal(identity.as_bytes()).ok_or(at))
            .collect::<Result<_, _>>()?;
        Ok((!all.is_empty()).then_some(Readers(all)))
    }

    fn has(&self, authzid: &[u8]) -> bool {
        normal(authzid).is_some_and(|authzid| self.0.contains(&authzid))
    }
}

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
    pub(super) fn monitor(&mut self, env: &Envelope<'_>, readers: &Readers, out: &mut Vec<u8>) -> Option<Next> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn readers(identities: &[&str]) -> Readers {
        Readers::new(identities.iter().copied()).unwrap().unwrap()
    }

    #[test]
    fn an_identity_is_one_however_it_is_spaced_and_nobody_else_by_case() {
        let readers = readers(&["dn:UID=admin, dc=example,dc=com", "u:watch"]);
        for may in [
            "dn:uid=admin,dc=example,dc=com",
            "dn:Uid=admin,DC=example , dc=com",
            "dn:uid=\\61dmin,dc=example,dc=com",
            "u:watch",
        ] {
            assert!(readers.has(may.as_bytes()), "{may}");
        }
        for may_not in [
            "",
            "dn:",
            "u:",
            "dn:uid=Admin,dc=example,dc=com",
            "dn:uid=admin",
            "dn:uid=admin,dc=example,dc=com,dc=org",
            "u:Watch",
            "u:watch2",
            "dn:not a name",
            "uid=admin,dc=example,dc=com",
        ] {
            assert!(!readers.has(may_not.as_bytes()), "{may_not}");
        }
        assert_eq!(Readers::new(std::iter::empty()), Ok(None));
        for (at, wrong) in [(1, ["u:a", "admin"]), (0, ["dn:", "u:a"]), (1, ["u:a", "dn:admin"])] {
            assert_eq!(Readers::new(wrong), Err(at), "{wrong:?}");
        }
    }
}
