//! The root DSE (RFC 4512 section 5.1) as whoever stands between may pass it on: what a server says that it can do, less what
//! cannot work through a balancer, and with what the balancer does itself.
//!
//! Only the root DSE has an empty name, so it is known by its entry; what has another is told apart by its first octets.

use super::message::{self, PartialAttribute};
use super::sasl::{EXTERNAL, Mechanisms};
use super::{control, envelope, grammar};
use crate::ber;
use crate::frame::Malformed;

const MECHANISMS: &[u8] = b"supportedSASLMechanisms";
const EXTENSIONS: &[u8] = b"supportedExtension";
const CONTROLS: &[u8] = b"supportedControl";

/// Extended operations that change whose a connection is, so that they cannot travel on one that others share.
pub const OF_THE_CONNECTION: [&str; 2] = [message::oid::FAST_BIND, message::oid::TURN];

/// What becomes of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rules {
    /// Mechanisms that may be named.
    pub mechanisms: Mechanisms,
    /// The balancer itself offers EXTERNAL to this client; else it is not named, whatever the server says.
    pub external: bool,
    /// StartTLS is offered to this client.
    pub starttls: bool,
    /// Operations travel on shared connections under proxied authorization: the balancer answers Who am I? and Cancel, and
    /// what belongs to a connection or names another identity does not work.
    pub shared: bool,
}

/// Whether a message's protocolOp is the root DSE's entry.
#[inline]
#[must_use]
pub fn is_root_dse(env: &envelope::Envelope<'_>) -> bool {
    env.tag == envelope::tag::SEARCH_ENTRY && names_nobody(env.op)
}

#[inline]
fn names_nobody(op: &[u8]) -> bool {
    let Ok(Some(header)) = ber::header(op) else {
        return false;
    };
    // In either way of writing no octets.
    let content = op.get(header.header_len..).unwrap_or_default();
    content.starts_with(&[ber::tag::OCTET_STRING, 0]) || content.starts_with(&[ber::tag::OCTET_STRING, 0x81, 0])
}

/// Appends the protocolOp of the entry in `op` by the rules. `request` is the search that it answers, as a whole message, where
/// that is at hand: an attribute that the server does not have is added only where it was asked for.
///
/// # Errors
/// The entry cannot be read; nothing was appended.
pub fn rewrite(op: &[u8], request: Option<&[u8]>, rules: &Rules, out: &mut Vec<u8>) -> Result<(), Malformed> {
    let entry = message::read_entry(op)?;
    let (asked, values) = request.map_or((Asked::default(), true), asked);
    let mut found = Asked::default();
    ber::nest(out, envelope::tag::SEARCH_ENTRY, |out| {
        ber::write_bytes(out, ber::tag::OCTET_STRING, entry.dn);
        ber::nest(out, ber::tag::SEQUENCE, |out| {
            for attribute in entry.attributes {
                if !values {
                    out.extend_from_slice(attribute.whole);
                    continue;
                }
                write(&attribute, rules, &mut found, out);
            }
            if values && asked.mechanisms && !found.mechanisms && rules.external {
                message::write_attribute(out, MECHANISMS, [EXTERNAL.as_bytes()]);
            }
            if values && asked.extensions && !found.extensions && (rules.shared || rules.starttls) {
                message::write_attribute(out, EXTENSIONS, own_extensions(rules));
            }
        });
    });
    Ok(())
}

/// Which of the attributes that may have to be added are meant.
#[derive(Clone, Copy, Default)]
struct Asked {
    mechanisms: bool,
    extensions: bool,
}

/// What a search asks for, and whether with values.
fn asked(request: &[u8]) -> (Asked, bool) {
    let search = envelope::peek(request).and_then(|env| grammar::search(env.op));
    let Ok(search) = search else {
        return (Asked::default(), true);
    };
    let mut asked = Asked::default();
    for name in search.attributes {
        let all = name == b"+";
        asked.mechanisms |= all || name.eq_ignore_ascii_case(MECHANISMS);
        asked.extensions |= all || name.eq_ignore_ascii_case(EXTENSIONS);
    }
    (asked, !search.types_only)
}

fn write(attribute: &PartialAttribute<'_>, rules: &Rules, found: &mut Asked, out: &mut Vec<u8>) {
    let is = |name: &[u8]| attribute.name.eq_ignore_ascii_case(name);
    let name = attribute.name;
    if is(MECHANISMS) {
        found.mechanisms = true;
        let external = rules.external.then_some(EXTERNAL.as_bytes());
        let kept = attribute
            .values
            .filter(|name| rules.mechanisms.contains(name) && !name.eq_ignore_ascii_case(EXTERNAL.as_bytes()));
        write_some(out, name, external.into_iter().chain(kept));
    } else if is(EXTENSIONS) {
        found.extensions = true;
        let own = own_extensions(rules);
        let kept = attribute.values.filter(|oid| !is_ours(oid, rules));
        write_some(out, name, own.chain(kept));
    } else if is(CONTROLS) && rules.shared {
        let refused = [
            control::oid::PROXIED_AUTHORIZATION,
            control::oid::PROXIED_AUTHORIZATION_V1,
        ];
        let kept = attribute
            .values
            .filter(|oid| !refused.iter().any(|other| other.as_bytes() == *oid));
        write_some(out, name, kept);
    } else {
        out.extend_from_slice(attribute.whole);
    }
}

/// Extended operations that the balancer answers itself.
fn own_extensions<'r>(rules: &Rules) -> impl Iterator<Item = &'r [u8]> + use<'r> {
    let starttls = rules.starttls.then_some(message::oid::START_TLS);
    let shared = rules.shared.then_some([message::oid::WHO_AM_I, message::oid::CANCEL]);
    starttls
        .into_iter()
        .chain(shared.into_iter().flatten())
        .map(str::as_bytes)
}

/// Whether the server's own word on an extended operation does not count.
fn is_ours(oid: &[u8], rules: &Rules) -> bool {
    let is = |other: &str| other.as_bytes() == oid;
    is(message::oid::START_TLS)
        || (rules.shared
            && (is(message::oid::WHO_AM_I)
                || is(message::oid::CANCEL)
                || OF_THE_CONNECTION.iter().any(|other| is(other))))
}

/// An attribute without values is none.
fn write_some<'v>(out: &mut Vec<u8>, name: &[u8], values: impl Iterator<Item = &'v [u8]>) {
    let mut values = values.peekable();
    if values.peek().is_some() {
        message::write_attribute(out, name, values);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHARED: Rules = Rules {
        mechanisms: Mechanisms::USUAL,
        external: true,
        starttls: true,
        shared: true,
    };

    fn entry(dn: &[u8], attributes: &[(&str, &[&str])]) -> Vec<u8> {
        let mut out = Vec::new();
        message::write_entry_with(&mut out, 1, dn, |out| {
            for (name, values) in attributes {
                message::write_attribute(out, name.as_bytes(), values.iter().map(|value| value.as_bytes()));
            }
        });
        out
    }

    fn search(attributes: &[&str], types_only: bool) -> Vec<u8> {
        let mut out = Vec::new();
        let spec = message::SearchSpec {
            base: b"",
            scope: grammar::Scope::Base,
            deref: 0,
            size_limit: 0,
            time_limit: 0,
            types_only,
            filter: message::FILTER_ANY_ENTRY,
            attributes,
        };
        message::write_search(&mut out, 1, &spec);
        out
    }

    fn rewritten(message: &[u8], request: Option<&[u8]>, rules: &Rules) -> Vec<(String, Vec<String>)> {
        let env = envelope::peek(message).unwrap();
        assert!(is_root_dse(&env));
        let mut out = Vec::new();
        rewrite(env.op, request, rules, &mut out).unwrap();
        let text = |octets: &[u8]| String::from_utf8(octets.to_vec()).unwrap();
        let entry = message::read_entry(&out).unwrap();
        entry
            .attributes
            .map(|attribute| (text(attribute.name), attribute.values.map(text).collect()))
            .collect()
    }

    fn pair(name: &str, values: &[&str]) -> (String, Vec<String>) {
        (name.to_owned(), values.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn what_cannot_work_is_not_named_and_what_works_here_is() {
        let said = entry(
            b"",
            &[
                ("namingContexts", &["dc=x"]),
                (
                    "supportedsaslmechanisms",
                    &["GSSAPI", "SCRAM-SHA-256", "EXTERNAL", "SCRAM-SHA-256-PLUS"],
                ),
                (
                    "supportedExtension",
                    &["1.3.6.1.4.1.4203.1.11.1", message::oid::START_TLS, OF_THE_CONNECTION[1]],
                ),
                (
                    "supportedControl",
                    &[control::oid::PROXIED_AUTHORIZATION, "1.2.840.113556.1.4.319"],
                ),
            ],
        );
        let expected = [
            pair("namingContexts", &["dc=x"]),
            pair("supportedsaslmechanisms", &["EXTERNAL", "SCRAM-SHA-256"]),
            pair(
                "supportedExtension",
                &[
                    message::oid::START_TLS,
                    message::oid::WHO_AM_I,
                    message::oid::CANCEL,
                    "1.3.6.1.4.1.4203.1.11.1",
                ],
            ),
            pair("supportedControl", &["1.2.840.113556.1.4.319"]),
        ];
        assert_eq!(rewritten(&said, None, &SHARED), expected);
        let own = Rules {
            external: false,
            starttls: false,
            shared: false,
            ..SHARED
        };
        let seen = rewritten(&said, None, &own);
        assert_eq!(seen[1].1, ["SCRAM-SHA-256"]);
        assert_eq!(seen[2].1, ["1.3.6.1.4.1.4203.1.11.1", OF_THE_CONNECTION[1]]);
        assert_eq!(seen[3].1.len(), 2);
    }

    #[test]
    fn what_the_server_lacks_is_added_only_where_it_was_asked_for() {
        let bare = entry(b"", &[("objectClass", &["top"])]);
        for (asked, names) in [
            (vec!["*"], vec!["objectClass"]),
            (vec![], vec!["objectClass"]),
            (
                vec!["*", "+"],
                vec!["objectClass", "supportedSASLMechanisms", "supportedExtension"],
            ),
            (
                vec!["SUPPORTEDSASLMECHANISMS"],
                vec!["objectClass", "supportedSASLMechanisms"],
            ),
        ] {
            let seen = rewritten(&bare, Some(&search(&asked, false)), &SHARED);
            assert_eq!(
                seen.iter().map(|(name, _)| name).collect::<Vec<_>>(),
                names,
                "{asked:?}"
            );
        }
        let types = entry(b"", &[("supportedSASLMechanisms", &[])]);
        let seen = rewritten(&types, Some(&search(&["+"], true)), &SHARED);
        assert_eq!(seen, [pair("supportedSASLMechanisms", &[])]);
    }

    #[test]
    fn an_attribute_of_which_nothing_is_left_is_left_out() {
        let said = entry(b"", &[("supportedSASLMechanisms", &["GSSAPI", "EXTERNAL"])]);
        let rules = Rules {
            external: false,
            ..SHARED
        };
        assert_eq!(rewritten(&said, None, &rules), []);
    }

    #[test]
    fn another_entry_is_another_entry() {
        for dn in [&b"dc=x"[..], b"\0"] {
            let message = entry(dn, &[]);
            assert!(!is_root_dse(&envelope::peek(&message).unwrap()));
        }
        let padded = [0x30, 0x0C, 2, 1, 1, 0x64, 7, 4, 0x81, 0, 0x30, 2, 0x30, 0];
        assert!(names_nobody(&padded[5..]));
        assert!(!names_nobody(&[0x64]) && !names_nobody(&[]));
        let mut out = Vec::new();
        assert!(rewrite(&padded[5..], None, &SHARED, &mut out).is_err());
        assert!(out.is_empty());
    }
}
