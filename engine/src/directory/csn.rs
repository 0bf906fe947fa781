//! Change sequence numbers in slapd's form: `20261126192211.123456Z#000000#000#000000`, that is time, a count within that
//! microsecond, server and modification. Text compares as they do.

use super::time;

/// A change's place in the order of all changes. Server and modification are always 0 here.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(super) struct Csn {
    /// Microseconds since 1970.
    micros: u64,
    count: u32,
}

/// The last number that has six hexadecimal digits.
const COUNT_MAX: u32 = 0xff_ffff;

impl Csn {
    /// The first of a moment.
    pub(super) fn at(micros: u64) -> Self {
        Self { micros, count: 0 }
    }

    /// The next: that of now, or where the clock has not moved on, or moved back, one behind this.
    pub(super) fn next(self, now_micros: u64) -> Self {
        match self.count {
            _ if now_micros > self.micros => Self::at(now_micros),
            COUNT_MAX => Self::at(self.micros + 1),
            count => Self {
                micros: self.micros,
                count: count + 1,
            },
        }
    }

    /// Its second, for timestamps.
    pub(super) fn unix_seconds(self) -> u64 {
        self.micros / 1_000_000
    }

    pub(super) fn text(self) -> String {
        let second = time::format(self.unix_seconds());
        let second = second.trim_end_matches('Z');
        format!("{second}.{:06}Z#{:06x}#000#000000", self.micros % 1_000_000, self.count)
    }

    /// `None`: it is none, or another server's.
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        let mut parts = text.split(|byte| *byte == b'#');
        let (moment, count) = (parts.next()?, parts.next()?);
        if parts.next()? != b"000" || parts.next()?.len() != 6 || parts.next().is_some() || count.len() != 6 {
            return None;
        }
        let (seconds, nanoseconds) = time::parse(moment)?;
        let micros = u64::try_from(seconds).ok()?.checked_mul(1_000_000)? + u64::from(nanoseconds / 1000);
        let count = u32::from_str_radix(std::str::from_utf8(count).ok()?, 16).ok()?;
        Some(Self { micros, count })
    }

    /// The one in a cookie (`rid=001,sid=000,csn=…`): the only thing in it that is looked at.
    pub(super) fn of_cookie(cookie: &[u8]) -> Option<Self> {
        let field = cookie.split(|byte| *byte == b',').find_map(|f| f.strip_prefix(b"csn="));
        Self::parse(field?)
    }

    /// The cookie of a consumer that has everything up to here.
    pub(super) fn cookie(self, rid: &str) -> String {
        format!("rid={rid},sid=000,csn={}", self.text())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_grow_whatever_the_clock_does() {
        let first = Csn::at(1_795_233_600_123_456);
        assert_eq!(first.text(), "20261121040000.123456Z#000000#000#000000");
        let mut last = first;
        for now in [0, 1_795_233_600_123_456, 1_795_233_600_123_457, 5] {
            let next = last.next(now);
            assert!(next > last && next.text() > last.text());
            assert_eq!(Csn::parse(next.text().as_bytes()), Some(next));
            last = next;
        }
        let full = Csn {
            count: COUNT_MAX,
            ..first
        };
        assert!(full.next(0) > full && full.next(0).text() > full.text());
    }

    #[test]
    fn cookies() {
        let csn = Csn::at(1_795_233_600_000_001);
        assert_eq!(Csn::of_cookie(csn.cookie("007").as_bytes()), Some(csn));
        for garbage in [
            "",
            "rid=000",
            "csn=",
            "rid=1,csn=20261121040000.123456Z#0#000#000000",
            "csn=2026#000000#000#000000",
        ] {
            assert_eq!(Csn::of_cookie(garbage.as_bytes()), None, "{garbage}");
        }
        // Another server's numbers say nothing about what is here.
        assert_eq!(Csn::of_cookie(b"csn=20261121040000.123456Z#000000#001#000000"), None);
    }
}
