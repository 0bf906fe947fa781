//! SASL mechanisms (RFC 4422) by their names, and sets of them small enough to be copied with every setting.

/// Every mechanism that can be named. A set has one bit for each, in this order.
const NAMES: [&str; 19] = [
    "PLAIN",
    "LOGIN",
    "CRAM-MD5",
    "SCRAM-SHA-1",
    "SCRAM-SHA-224",
    "SCRAM-SHA-256",
    "SCRAM-SHA-384",
    "SCRAM-SHA-512",
    "EXTERNAL",
    "ANONYMOUS",
    "OAUTHBEARER",
    "XOAUTH2",
    "OTP",
    "SRP",
    "DIGEST-MD5",
    "GSSAPI",
    "GSS-SPNEGO",
    "NTLM",
    "KERBEROS_V4",
];
/// From here on they may put a security layer on the connection, which ends at whoever stands between.
const FIRST_WITH_LAYER: usize = 13;
/// What works without a thought: one bit for each name up to this.
const USUAL: usize = 11;

/// The mechanism that takes its identity from the connection (RFC 4422 appendix A).
pub const EXTERNAL: &str = "EXTERNAL";

/// A set of mechanisms.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Mechanisms(u32);

impl Mechanisms {
    /// No mechanism.
    pub const NONE: Mechanisms = Mechanisms(0);
    /// Those that negotiate no security layer and do not bind to the channel: they work through a balancer.
    pub const USUAL: Mechanisms = Mechanisms((1 << USUAL) - 1);

    /// The set of this one; none where the name is not known. Letters of either case are the same.
    #[must_use]
    pub fn of(name: &[u8]) -> Option<Mechanisms> {
        let at = NAMES
            .iter()
            .position(|known| known.as_bytes().eq_ignore_ascii_case(name))?;
        Some(Mechanisms(1 << at))
    }

    /// Whether a mechanism of this name is in it.
    #[must_use]
    pub fn contains(self, name: &[u8]) -> bool {
        Mechanisms::of(name).is_some_and(|one| self.0 & one.0 != 0)
    }

    /// Both together.
    #[must_use]
    pub const fn and(self, other: Mechanisms) -> Mechanisms {
        Mechanisms(self.0 | other.0)
    }

    /// Whether there is none in it.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether one in it may put a security layer on the connection.
    #[must_use]
    pub const fn may_protect(self) -> bool {
        self.0 >> FIRST_WITH_LAYER != 0
    }

    /// The names in it.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        NAMES
            .iter()
            .enumerate()
            .filter_map(move |(at, name)| (self.0 & (1 << at) != 0).then_some(*name))
    }

    /// Every name that is known.
    #[must_use]
    pub fn all_names() -> &'static [&'static str] {
        &NAMES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_ones_protect_nothing_and_bind_to_no_channel() {
        assert!(!Mechanisms::USUAL.may_protect());
        for name in ["PLAIN", "scram-sha-256", "EXTERNAL", "OAUTHBEARER"] {
            assert!(Mechanisms::USUAL.contains(name.as_bytes()), "{name}");
        }
        for name in [
            "GSSAPI",
            "GSS-SPNEGO",
            "DIGEST-MD5",
            "NTLM",
            "SRP",
            "SCRAM-SHA-256-PLUS",
            "",
            "X",
        ] {
            assert!(!Mechanisms::USUAL.contains(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn a_set_holds_what_was_put_into_it() {
        let two = ["gssapi", "PLAIN"]
            .iter()
            .filter_map(|name| Mechanisms::of(name.as_bytes()))
            .fold(Mechanisms::NONE, Mechanisms::and);
        assert_eq!(two.names().collect::<Vec<_>>(), ["PLAIN", "GSSAPI"]);
        assert!(two.may_protect() && !two.is_empty() && Mechanisms::NONE.is_empty());
        assert_eq!(Mechanisms::of(b"SCRAM-SHA-1-PLUS"), None);
        assert!(
            Mechanisms::all_names()
                .iter()
                .all(|name| Mechanisms::of(name.as_bytes()).is_some())
        );
    }
}
