//! Authorization identities (RFC 4513 section 5.2.1.8) that a setting names, and whether a client is one of them.

use wire::ldap::dn;

/// See the module. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identities(Vec<Box<[u8]>>);

/// Names of attributes match without regard to case, values only as they are. A directory may see less difference between
/// two names; whom it would take for one of these, and this does not, is refused, and nobody is let in for another.
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

impl Identities {
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
        Ok((!all.is_empty()).then_some(Identities(all)))
    }

    /// Whether this is one of them.
    #[must_use]
    pub fn has(&self, authzid: &[u8]) -> bool {
        normal(authzid).is_some_and(|authzid| self.0.contains(&authzid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn those(identities: &[&str]) -> Identities {
        Identities::new(identities.iter().copied()).unwrap().unwrap()
    }

    #[test]
    fn an_identity_is_one_however_it_is_spaced_and_nobody_else_by_case() {
        let those = those(&["dn:UID=admin, dc=example,dc=com", "u:watch"]);
        for may in [
            "dn:uid=admin,dc=example,dc=com",
            "dn:Uid=admin,DC=example , dc=com",
            "dn:uid=\\61dmin,dc=example,dc=com",
            "u:watch",
        ] {
            assert!(those.has(may.as_bytes()), "{may}");
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
            assert!(!those.has(may_not.as_bytes()), "{may_not}");
        }
        assert_eq!(Identities::new(std::iter::empty()), Ok(None));
        for (at, wrong) in [(1, ["u:a", "admin"]), (0, ["dn:", "u:a"]), (1, ["u:a", "dn:admin"])] {
            assert_eq!(Identities::new(wrong), Err(at), "{wrong:?}");
        }
    }
}
