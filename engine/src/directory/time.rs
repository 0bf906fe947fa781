//! GeneralizedTime (RFC 4517 section 3.3.13), read and written; the calendar is the proleptic Gregorian one.

use crate::core::calendar::{date, days_since_1970};

/// Seconds since 1970-01-01T00:00:00Z and nanoseconds; `None` when the value is no GeneralizedTime.
#[must_use]
pub(super) fn parse(value: &[u8]) -> Option<(i64, u32)> {
    let text = std::str::from_utf8(value).ok()?;
    let zone_at = text.find(['Z', '+', '-'])?;
    let (moment, zone) = text.split_at_checked(zone_at)?;
    let (digits, fraction) = match moment.split_once(['.', ',']) {
        Some((digits, fraction)) if !fraction.is_empty() => (digits, fraction),
        Some(_) => return None,
        None => (moment, ""),
    };
    let field = |from: usize, to: usize| digits.get(from..to).and_then(number);
    let (year, month, day, hour) = (field(0, 4)?, field(4, 6)?, field(6, 8)?, field(8, 10)?);
    let (minute, second, unit) = match digits.len() {
        10 => (0, 0, 3600),
        12 => (field(10, 12)?, 0, 60),
        14 => (field(10, 12)?, field(12, 14)?, 1),
        _ => return None,
    };
    let in_range = (1..=12).contains(&month)
        && (1..=days_in_month(year, month)).contains(&day)
        && hour < 24
        && minute < 60
        && second <= 60;
    if !in_range {
        return None;
    }
    let seconds = days_since_1970(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second - offset(zone)?;
    let parts = fraction_nanoseconds(fraction)? * unit;
    Some((
        seconds + parts / 1_000_000_000,
        u32::try_from(parts % 1_000_000_000).ok()?,
    ))
}

/// The moment as `YYYYMMDDHHMMSSZ`; moments after the year 9999 as its end.
#[must_use]
pub(super) fn format(unix_seconds: u64) -> String {
    const LAST: i64 = 253_402_300_799;
    let seconds = i64::try_from(unix_seconds).unwrap_or(LAST).min(LAST);
    let (year, month, day) = date(seconds.div_euclid(86_400));
    let rest = seconds.rem_euclid(86_400);
    format!(
        "{year:04}{month:02}{day:02}{:02}{:02}{:02}Z",
        rest / 3600,
        rest / 60 % 60,
        rest % 60
    )
}

fn number(digits: &str) -> Option<i64> {
    if digits.bytes().all(|b| b.is_ascii_digit()) {
        digits.parse().ok()
    } else {
        None
    }
}

fn fraction_nanoseconds(fraction: &str) -> Option<i64> {
    let mut nanoseconds = 0;
    let mut place = 100_000_000;
    for byte in fraction.bytes() {
        if !byte.is_ascii_digit() {
            return None;
        }
        nanoseconds += i64::from(byte - b'0') * place;
        place /= 10;
    }
    Some(nanoseconds)
}

/// Seconds east of UTC.
fn offset(zone: &str) -> Option<i64> {
    if zone == "Z" {
        return Some(0);
    }
    let sign = if zone.starts_with('+') { 1 } else { -1 };
    let digits = zone.get(1..)?;
    let (hours, minutes) = match digits.len() {
        2 => (number(digits)?, 0),
        4 => (number(digits.get(..2)?)?, number(digits.get(2..)?)?),
        _ => return None,
    };
    (hours < 24 && minutes < 60).then_some(sign * (hours * 3600 + minutes * 60))
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_moments() {
        assert_eq!(parse(b"19700101000000Z"), Some((0, 0)));
        assert_eq!(parse(b"20000229120000Z"), Some((951_825_600, 0)));
        assert_eq!(parse(b"2026112104Z"), Some((1_795_233_600, 0)));
        assert_eq!(parse(b"2026112104.5Z"), Some((1_795_235_400, 0)));
        assert_eq!(parse(b"20261121040000.25+0100"), Some((1_795_230_000, 250_000_000)));
        assert_eq!(format(951_825_600), "20000229120000Z");
        for wrong in [
            "",
            "20260101000000",
            "20260230000000Z",
            "20261301000000Z",
            "2026010100000Z",
            "20260101000000.Z",
            "20260101000000+1",
        ] {
            assert_eq!(parse(wrong.as_bytes()), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(seconds in 0u64..253_402_300_799) {
            prop_assert_eq!(parse(format(seconds).as_bytes()), Some((i64::try_from(seconds).unwrap(), 0)));
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..24), text in "[0-9]{0,15}[.,]?[0-9]{0,30}[Z+-]?[0-9]{0,5}") {
            let _ = parse(&bytes);
            let _ = parse(text.as_bytes());
        }
    }
}
