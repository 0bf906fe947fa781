//! A comparison that may take its time: told apart by what it costs, bounded, and carried elsewhere as a value.

use zeroize::Zeroizing;

use super::{Verdict, dear};

/// How long a comparison takes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Cost {
    /// Microseconds: it is done in line.
    Cheap,
    /// Milliseconds, up to some hundred: it is done where nobody waits behind it.
    Dear,
}

/// A stored password, and one that was offered.
pub struct Check {
    stored: Zeroizing<Vec<u8>>,
    offered: Zeroizing<Vec<u8>>,
}

impl Check {
    /// Both are copied.
    #[must_use]
    pub fn new(stored: &[u8], offered: &[u8]) -> Check {
        Check {
            stored: Zeroizing::new(stored.to_vec()),
            offered: Zeroizing::new(offered.to_vec()),
        }
    }

    /// How long [`Check::run`] takes.
    #[must_use]
    pub fn cost(&self) -> Cost {
        super::cost(&self.stored)
    }

    /// Compares.
    #[must_use]
    pub fn run(&self) -> Verdict {
        dear::verify(&self.stored, &self.offered)
    }
}

impl std::fmt::Debug for Check {
    /// Without either password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Check({:?})", self.cost())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Made with libxcrypt's crypt(3), `openssl passwd`, slappasswd with argon2.so, and Python's hashlib, all for "secret".
    const STORED: &[&str] = &[
        "{CRYPT}abNANd1rDfiNc",
        "{CRYPT}./17m29LFAflg",
        "{CRYPT}zZ5x4y8hS4SZE",
        "{CRYPT}$1$saltsalt$9xy1btjgzLYfb7hivXtC//",
        "{CRYPT}$apr1$saltsalt$LrttParrLPdxvgutaSXWJ0",
        "{CRYPT}$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a",
        "{CRYPT}$2y$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a",
        "{CRYPT}$y$j9T$abcdefgh$IUWJt2doU4Kf6E/JP1UkAT3S5O3Q7SSA8SJirXIlEu9",
        "{CRYPT}$y$j75$abcdefgh$uMUXG79B2cFpoAYyDccUnsaH/aGTyBYMlnQidzyag01",
        "{CRYPT}$5$saltstring$C3o4O1TC6aRHF4FI.QSZMXtHbaj2gSXr4sUc/3NcUi.",
        "{PBKDF2}1000$TmFDbDU2Nzg5YWJjZGVm.w$Ze59YIvuqyo8dhBCgAi4E0CAx9o",
        "{PBKDF2-SHA256}1000$TmFDbDU2Nzg5YWJjZGVm.w$GjszT/y2JcjcQy7S726oDvyzUO25hYbsBjGMWE/CMLQ",
        "{PBKDF2-SHA512}1000$TmFDbDU2Nzg5YWJjZGVm.w$b3dA16vX4YEzEWUAGIkzZWc.T3wLL8lapqVlOf7oPURG6VfaOzVb/Ezny56LtD0vJO5XOvYpiRWMwYUm.YorxQ",
        "{PBKDF2_SHA256}AAAD6AABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4fICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj9UBxgXHzEA0wedQV6xsRwUKho+mvb+TXEkzlkIpy63lg0Y0S48MGX58IJ9YxzP8jfoz6/Hp+YOg+xDMwW7RzHNXFh8TkQNp5s8BClsSegYnVtLH4S47BYv3Xnxc31y2DtUo3+csfvJ9RsONJjarJ8/KIA3dL55wHe7Tu3/0TTZCcpwOf9MOyZRfjNRib8bjd+dpZ/nb44Yaph2QUzyTtkm6m4Yno3sjqUaeNsRMjDdgPxIBJuyIG50CaKQFtcqyI3m28JR4gxRWjScCCdeXRSceIheVKv+jBXMppBOYoPVmk40Me6VCqauG8/N/Js3xlHim8DhDOjwlDCtvQRzRY/w",
        "{ARGON2}$argon2i$v=19$m=4096,t=3,p=1$HsDHV86VzWsHCpQQC5+k9Q$KGcUMua1rbmeEcLW1MMPdksvZQ4zChgKL5gtsBTXDoU",
    ];

    #[test]
    fn every_dear_scheme_tells_right_from_wrong() {
        for stored in STORED {
            let check = |offered: &[u8]| Check::new(stored.as_bytes(), offered);
            assert_eq!(check(b"secret").cost(), Cost::Dear, "{stored}");
            assert_eq!(check(b"secret").run(), Verdict::Match, "{stored}");
            assert_eq!(check(b"Secret").run(), Verdict::NoMatch, "{stored}");
            assert_eq!(check(b"").run(), Verdict::NoMatch, "{stored}");
            assert_eq!(check(&[b'x'; 4096]).run(), Verdict::NoMatch, "{stored}");
        }
        let long = "{CRYPT}$1$x$P0UizpzB3xc/YS.LzppGB/";
        let check = Check::new(long.as_bytes(), b"a much longer secret than sixteen");
        assert_eq!(check.run(), Verdict::Match);
    }

    #[test]
    fn cheap_ones_are_done_in_line() {
        for (stored, offered) in [
            ("secret", "secret"),
            ("{NT}44EBBA8D5312B8D611474411F56989AE", "clientPass"),
        ] {
            let check = Check::new(stored.as_bytes(), offered.as_bytes());
            assert_eq!((check.cost(), check.run()), (Cost::Cheap, Verdict::Match), "{stored}");
        }
        assert_eq!(format!("{:?}", Check::new(b"a", b"b")), "Check(Cheap)");
    }

    #[test]
    fn nobody_can_ask_for_more_work_than_the_bound() {
        for stored in [
            "{PBKDF2-SHA256}4294967295$c2FsdA$GjszT/y2JcjcQy7S726oDvyzUO25hYbsBjGMWE/CMLQ",
            "{CRYPT}$2b$31$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a",
            "{ARGON2}$argon2id$v=19$m=4194304,t=3,p=1$HsDHV86VzWsHCpQQC5+k9Q$KGcUMua1rbmeEcLW1MMPdksvZQ4zChgKL5gtsBTXDoU",
            "{ARGON2}$argon2id$v=19$m=65536,t=4294967295,p=1$HsDHV86VzWsHCpQQC5+k9Q$KGcUMua1rbmeEcLW1MMPdksvZQ4zChgKL5gtsBTXDoU",
            "{CRYPT}$y$jzT$abcdefgh$IUWJt2doU4Kf6E/JP1UkAT3S5O3Q7SSA8SJirXIlEu9",
            "{CRYPT}$y$j9T....$abcdefgh$IUWJt2doU4Kf6E/JP1UkAT3S5O3Q7SSA8SJirXIlEu9",
            "{CRYPT}$1$saltsalt$",
            "{CRYPT}ab",
            "{PBKDF2-SHA256}0$c2FsdA$AAAA",
        ] {
            assert_eq!(
                Check::new(stored.as_bytes(), b"secret").run(),
                Verdict::Unknown,
                "{stored}"
            );
        }
    }
}
