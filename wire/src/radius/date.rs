//! Points in time as RADIUS has them, seconds since 1970 in 32 bits (RFC 8044 section 3.3), and as people read them.

const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];
const DAY: u64 = 86_400;

/// `Nov 27 2026 00:02:37 UTC`.
pub(super) fn print(seconds: u32) -> String {
    let (day, rest) = (u64::from(seconds) / DAY, u64::from(seconds) % DAY);
    // Days since March 1st of the year 0, in eras of 400 years, years and months that end with the leap day.
    let day = day + 719_468;
    let (era, of_era) = (day / 146_097, day % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * march + 2) / 5 + 1;
    let month = (march + 2) % 12;
    let year = year + era * 400 + u64::from(march >= 10);
    let name = usize::try_from(month).ok().and_then(|month| MONTHS.get(month));
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!(
        "{} {day:2} {year} {hour:02}:{minute:02}:{second:02} UTC",
        name.unwrap_or(&"?")
    )
}

/// What [`print`] writes, `2026-11-27T00:02:37Z`, or seconds.
pub(super) fn parse(text: &str) -> Option<u32> {
    if let Ok(seconds) = text.parse() {
        return Some(seconds);
    }
    let words: Vec<&str> = text.split_ascii_whitespace().collect();
    let (year, month, day, clock) = match words.as_slice() {
        [month, day, year, clock, "UTC" | "GMT"] => {
            let month = MONTHS.iter().position(|name| name.eq_ignore_ascii_case(month))?;
            (number(year)?, month as u64 + 1, number(day)?, *clock)
        }
        [one] => {
            let (date, clock) = one.strip_suffix(['Z', 'z'])?.split_once(['T', 't'])?;
            let mut parts = date.splitn(3, '-').map(number);
            (parts.next()??, parts.next()??, parts.next()??, clock)
        }
        _ => return None,
    };
    let mut parts = clock.splitn(3, ':').map(number);
    let (hour, minute, second) = (parts.next()??, parts.next()??, parts.next()??);
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let days = match month {
        2 => 28 + u64::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if !(1970..=2106).contains(&year) || !(1..=days).contains(&day) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let (year, march) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let of_year = (153 * march + 2) / 5 + day - 1;
    let since = year * 365 + year / 4 - year / 100 + year / 400 + of_year - 719_468;
    u32::try_from(since * DAY + hour * 3600 + minute * 60 + second).ok()
}

/// Digits only: no sign.
fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.len() <= 4 && text.bytes().all(|octet| octet.is_ascii_digit());
    digits.then(|| text.parse().ok())?
}
