//! Points in time as records show them: in UTC, whatever the zone of the machine, unless who makes one has shifted it.

use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use engine::core::calendar;

const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];
const WEEKDAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
const DAY: i64 = 86_400;
const MILLION: i64 = 1_000_000;

/// Date and time of a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    pub year: i64,
    pub month: i64,
    pub day: i64,
    pub hour: i64,
    minute: i64,
    second: i64,
    micros: i64,
    days: i64,
}

/// Microseconds since 1970; negative before it.
pub fn micros(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_micros()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_micros()).map_or(i64::MIN, |micros| -micros),
    }
}

impl Moment {
    pub fn new(micros: i64) -> Moment {
        let seconds = micros.div_euclid(MILLION);
        let days = seconds.div_euclid(DAY);
        let of_day = seconds.rem_euclid(DAY);
        let (year, month, day) = calendar::date(days);
        Moment {
            year,
            month,
            day,
            hour: of_day / 3600,
            minute: of_day / 60 % 60,
            second: of_day % 60,
            micros: micros.rem_euclid(MILLION),
            days,
        }
    }

    /// `2026-11-27T05:44:19.123456`, in RFC 3339 but for the zone.
    pub fn write(&self, out: &mut Vec<u8>) {
        let Moment {
            year,
            month,
            day,
            hour,
            minute,
            second,
            micros,
            ..
        } = self;
        // A Vec takes whatever is written.
        let _ = write!(
            out,
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}"
        );
    }

    /// `Fri Nov 27 05:44:19 2026`, as C's ctime has it.
    pub fn write_ctime(&self, out: &mut Vec<u8>) {
        let weekday = usize::try_from(self.days.rem_euclid(7))
            .ok()
            .and_then(|at| WEEKDAYS.get(at));
        let month = usize::try_from(self.month - 1).ok().and_then(|at| MONTHS.get(at));
        let Moment {
            year,
            day,
            hour,
            minute,
            second,
            ..
        } = self;
        let _ = write!(
            out,
            "{} {} {day:2} {hour:02}:{minute:02}:{second:02} {year}",
            weekday.unwrap_or(&"?"),
            month.unwrap_or(&"?")
        );
    }
}
