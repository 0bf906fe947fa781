//! What can be known of a sync cookie: OpenLDAP's form, and how two of them become one.
//!
//! OpenLDAP's is text: `rid=001,sid=002,csn=CSN;CSN`, each part optional. A CSN (change sequence number) names the last
//! change of one server, `20261126192216.123456Z#000000#001#000000`: time, count, server id (hexadecimal), modification.
//! After a change the provider says only the CSN of the server where it happened, and with many writers often none. So the
//! last cookie alone is no use, but the *largest CSN of each server* is, on any provider of the same data.
//!
//! `sid` is left out of what is sent back: it would tell a provider that the consumer is that server, and changes made
//! there would not be sent.

/// A cookie in OpenLDAP's form.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct OpenLdap<'a> {
    /// The consumer's own number of its session, three digits, echoed by the provider.
    pub rid: Option<&'a str>,
    /// The largest CSN of each server, by server id.
    csns: Vec<Csn<'a>>,
}

/// A change sequence number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Csn<'a> {
    /// The server where the change was made, 0 to 0xfff.
    pub server: u16,
    /// The whole number; later changes of one server have larger ones, byte by byte.
    pub text: &'a str,
}

impl<'a> Csn<'a> {
    /// Reads a CSN; `None` where the text is none.
    #[must_use]
    pub fn parse(text: &'a str) -> Option<Self> {
        let mut fields = text.split('#');
        let (time, count, server, modification) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
        let digits = time.strip_suffix('Z')?;
        let hexadecimal = |field: &str, len: usize| field.len() == len && field.bytes().all(|b| b.is_ascii_hexdigit());
        let whole = fields.next().is_none()
            && digits.len() >= 14
            && digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
            && hexadecimal(count, 6)
            && hexadecimal(server, 3)
            && hexadecimal(modification, 6);
        let server = u16::from_str_radix(server, 16).ok()?;
        whole.then_some(Self { server, text })
    }
}

impl<'a> OpenLdap<'a> {
    /// Reads a cookie; `None` where it is not of this form, and so opaque.
    #[must_use]
    pub fn parse(cookie: &'a [u8]) -> Option<Self> {
        let mut parsed = Self::default();
        for part in std::str::from_utf8(cookie).ok()?.split(',') {
            match part.split_once('=')? {
                ("rid", rid) if !rid.is_empty() && rid.bytes().all(|byte| byte.is_ascii_digit()) => {
                    parsed.rid = Some(rid);
                }
                ("sid", sid) if sid.bytes().all(|byte| byte.is_ascii_hexdigit()) => {}
                ("csn", "") => {}
                ("csn", csns) => {
                    for csn in csns.split(';') {
                        parsed.add(Csn::parse(csn)?);
                    }
                }
                ("delcsn", csn) => {
                    Csn::parse(csn)?;
                }
                _ => return None,
            }
        }
        Some(parsed)
    }

    /// The CSNs, one for each server, by server id.
    #[must_use]
    pub fn csns(&self) -> &[Csn<'a>] {
        &self.csns
    }

    /// Takes a CSN in, where it is larger than the one known of its server.
    pub fn add(&mut self, csn: Csn<'a>) {
        match self.csns.binary_search_by_key(&csn.server, |known| known.server) {
            Ok(place) => {
                if let Some(known) = self.csns.get_mut(place)
                    && known.text < csn.text
                {
                    *known = csn;
                }
            }
            Err(place) => self.csns.insert(place, csn),
        }
    }

    /// Appends the cookie: `rid=000` where there is no other, and the CSNs.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"rid=");
        out.extend_from_slice(self.rid.unwrap_or("000").as_bytes());
        for (place, csn) in self.csns.iter().enumerate() {
            out.extend_from_slice(if place == 0 { b",csn=" } else { b";" });
            out.extend_from_slice(csn.text.as_bytes());
        }
    }
}

/// What is known after `kept` when `new` comes: `None` when that is no more than `kept`, which then stays.
///
/// An empty cookie, and one of OpenLDAP's form without a CSN, says nothing. Two of OpenLDAP's form give the largest CSN
/// of each server. Anything else is opaque, and replaces what was.
#[must_use]
pub fn merge(kept: &[u8], new: &[u8]) -> Option<Vec<u8>> {
    if new.is_empty() {
        return None;
    }
    let Some(said) = OpenLdap::parse(new) else {
        return (new != kept).then(|| new.to_vec());
    };
    if said.csns.is_empty() {
        return None;
    }
    let mut merged = OpenLdap::parse(kept).unwrap_or_default();
    merged.rid = merged.rid.or(said.rid);
    for csn in &said.csns {
        merged.add(*csn);
    }
    let mut out = Vec::with_capacity(kept.len().max(new.len()));
    merged.write(&mut out);
    (out != kept).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD_1: &str = "20261126192216.123456Z#000000#001#000000";
    const NEW_1: &str = "20261126192216.123456Z#000001#001#000000";
    const ON_2: &str = "20261126000000.000000Z#000000#002#000000";
    const ON_A: &str = "20261126000000.000000Z#000000#00a#000000";

    fn merged(kept: &str, new: &str) -> Option<String> {
        merge(kept.as_bytes(), new.as_bytes()).map(|cookie| String::from_utf8(cookie).unwrap())
    }

    #[test]
    fn the_largest_number_of_each_server_is_kept() {
        let kept = format!("rid=001,csn={OLD_1};{ON_2}");
        assert_eq!(
            merged(&kept, &format!("rid=000,sid=001,csn={NEW_1}")),
            Some(format!("rid=001,csn={NEW_1};{ON_2}"))
        );
        assert_eq!(
            merged(&kept, &format!("rid=000,csn={ON_A}")),
            Some(format!("rid=001,csn={OLD_1};{ON_2};{ON_A}"))
        );
        // An older number takes nothing back.
        assert_eq!(merged(&format!("rid=001,csn={NEW_1}"), &format!("csn={OLD_1}")), None);
    }

    #[test]
    fn what_says_nothing_changes_nothing() {
        let kept = format!("rid=001,csn={OLD_1}");
        for nothing in ["", "rid=000", "rid=000,csn=", "rid=001,sid=002"] {
            assert_eq!(merged(&kept, nothing), None, "{nothing}");
            assert_eq!(merged("", nothing), None, "{nothing}");
        }
        assert_eq!(merged(&kept, &kept), None);
    }

    #[test]
    fn the_first_cookie_loses_the_providers_own_id() {
        assert_eq!(
            merged("", &format!("rid=000,sid=001,csn={OLD_1}")),
            Some(format!("rid=000,csn={OLD_1}"))
        );
    }

    #[test]
    fn anything_else_is_opaque_and_replaces() {
        let server = "ldap.example.com:389#cn=feed:dc=example,dc=com:(objectClass=*)#42";
        assert_eq!(merged("", server), Some(server.to_string()));
        assert_eq!(
            merged(&format!("rid=000,csn={OLD_1}"), server),
            Some(server.to_string())
        );
        assert_eq!(merged(server, server), None);
        assert_eq!(
            merged(server, &format!("csn={OLD_1}")),
            Some(format!("rid=000,csn={OLD_1}"))
        );
        for opaque in [
            "rid=x",
            "csn=abc",
            "rid=001,other=1",
            "csn=20261126192216Z#0#1#0",
            "\u{e9}",
        ] {
            assert_eq!(OpenLdap::parse(opaque.as_bytes()), None, "{opaque}");
        }
        assert_eq!(OpenLdap::parse(b"\xff"), None);
    }
}
