//! Times of the week, in local time.
//!
//! A time is written as `Mo-Fr 08:00-18:00`, `Sa,Su`, `22:00-06:00` or `Fr 18:00-Mo 06:00`; it ends just before its last minute. What goes
//! over midnight belongs to the day on which it begins, and Sunday is followed by Monday.

use std::fmt;

/// Minutes of a day, and of a week.
const DAY: u16 = 24 * 60;
const WEEK: u16 = 7 * DAY;

const RIGHT: &str = "days and hours, like \"Mo-Fr 08:00-18:00\", \"Sa,Su\", \"22:00-06:00\" or \"Fr 18:00-Mo 06:00\"";

const DAYS: [&str; 7] = [
    "monday",
    "tuesday",
    "wednesday",
    "thursday",
    "friday",
    "saturday",
    "sunday",
];
const SHORT: [&str; 7] = ["Mo", "Tu", "We", "Th", "Fr", "Sa", "Su"];

/// A minute of the week, in local time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Moment {
    weekday: u8,
    minute: u16,
}

impl Moment {
    /// The first minute of the week: what it is until somebody tells the time.
    pub const MONDAY: Moment = Moment { weekday: 0, minute: 0 };

    /// `weekday`: 0 is Monday, 6 is Sunday; `minute`: of the day, from 0 to 1439. None: there is no such minute.
    #[must_use]
    pub fn new(weekday: u8, minute: u16) -> Option<Moment> {
        (weekday < 7 && minute < DAY).then_some(Moment { weekday, minute })
    }

    fn of_week(self) -> u16 {
        u16::from(self.weekday) * DAY + self.minute
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let day = SHORT.get(usize::from(self.weekday)).unwrap_or(&"");
        write!(f, "{day} {:02}:{:02}", self.minute / 60, self.minute % 60)
    }
}

/// Several times; one of them is enough.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Times {
    /// Minutes of the week, the end not included: in order, and none touches another.
    ranges: Vec<(u16, u16)>,
    written: Vec<Box<str>>,
}

impl Times {
    /// One time more.
    ///
    /// # Errors
    /// What would be right; nothing is added.
    pub fn add(&mut self, text: &str) -> Result<(), String> {
        let mut added = Vec::new();
        read(text, &mut added)?;
        self.ranges.append(&mut added);
        self.ranges.sort_unstable();
        self.ranges.dedup_by(|next, last| {
            let touches = next.0 <= last.1;
            if touches {
                last.1 = last.1.max(next.1);
            }
            touches
        });
        self.written.push(text.into());
        Ok(())
    }

    /// Whether it is one of these times.
    #[must_use]
    pub fn holds(&self, moment: Moment) -> bool {
        let minute = moment.of_week();
        self.ranges.iter().any(|(from, to)| (*from..*to).contains(&minute))
    }

    /// Whether there is no time at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Whether it always is.
    #[must_use]
    pub fn is_always(&self) -> bool {
        self.ranges == [(0, WEEK)]
    }

    /// Whether these times hold whenever the others do.
    #[must_use]
    pub fn covers(&self, others: &Times) -> bool {
        let inside = |range: &(u16, u16)| self.ranges.iter().any(|own| own.0 <= range.0 && range.1 <= own.1);
        others.ranges.iter().all(inside)
    }
}

impl fmt::Display for Times {
    /// As they were written.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written.join(", "))
    }
}

fn read(text: &str, out: &mut Vec<(u16, u16)>) -> Result<(), String> {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let text = [" -", "- ", " ,", ", "]
        .iter()
        .fold(text, |text, blank| text.replace(blank, blank.trim()));
    let words: Vec<&str> = text.split(' ').collect();
    match *words.as_slice() {
        [hours] if hours.starts_with(|c: char| c.is_ascii_digit()) => put([true; 7], hours, out),
        [days] => put(read_days(days)?, "00:00-24:00", out),
        [days, hours] => put(read_days(days)?, hours, out),
        // `Fr 18:00-Mo 06:00`: from one moment of the week to another.
        [first, between, end] => {
            let (start, last) = between.split_once('-').ok_or(RIGHT)?;
            let from = at(day(first)?, minute(start, false)?);
            let to = at(day(last)?, minute(end, true)?);
            let length = (to + WEEK - from) % WEEK;
            if length == 0 {
                return Err("an end that is not its beginning; leave the time out for a whole week".into());
            }
            span(from, length, out);
            Ok(())
        }
        _ => Err(RIGHT.into()),
    }
}

/// Adds these hours of these days.
fn put(days: [bool; 7], hours: &str, out: &mut Vec<(u16, u16)>) -> Result<(), String> {
    for hours in hours.split(',') {
        let (start, end) = hours.split_once('-').ok_or(RIGHT)?;
        let (start, end) = (minute(start, false)?, minute(end, true)?);
        if start == end {
            return Err("an end that is not its beginning; 00:00-24:00 is a whole day".into());
        }
        let length = if end > start { end - start } else { DAY - start + end };
        for (number, _) in (0u16..).zip(days).filter(|(_, is_meant)| *is_meant) {
            span(at(number, start), length, out);
        }
    }
    Ok(())
}

/// Adds minutes from one on, over the week's end.
fn span(from: u16, length: u16, out: &mut Vec<(u16, u16)>) {
    let to = from + length;
    out.push((from, to.min(WEEK)));
    if to > WEEK {
        out.push((0, to - WEEK));
    }
}

fn at(day: u16, minute: u16) -> u16 {
    day * DAY + minute
}

fn read_days(text: &str) -> Result<[bool; 7], String> {
    let mut days = [false; 7];
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (day(first)?, day(last)?);
        for (number, is_meant) in (0u16..).zip(days.iter_mut()) {
            // Sa-Mo goes over the week's end.
            *is_meant |= (number + 7 - first) % 7 <= (last + 7 - first) % 7;
        }
    }
    Ok(days)
}

/// A day by its English name, or by two or more of its first letters.
fn day(text: &str) -> Result<u16, String> {
    let text = text.to_ascii_lowercase();
    let known = |(_, name): &(u16, &str)| text.len() >= 2 && name.starts_with(&text);
    match (0..).zip(DAYS).find(known) {
        Some((number, _)) => Ok(number),
        None if text.is_empty() || text.starts_with(|c: char| c.is_ascii_digit()) => Err(RIGHT.into()),
        None => Err(format!("one of Mo, Tu, We, Th, Fr, Sa, Su, not `{text}`")),
    }
}

fn minute(text: &str, is_end: bool) -> Result<u16, String> {
    let right = || {
        format!(
            "hours and minutes from 00:00 to {}, not `{text}`",
            if is_end { "24:00" } else { "23:59" }
        )
    };
    let digits = |text: &str| {
        let is_number = matches!(text.len(), 1..=2) && text.bytes().all(|octet| octet.is_ascii_digit());
        is_number.then(|| text.parse::<u16>().ok()).flatten()
    };
    let (hours, minutes) = text.split_once(':').ok_or_else(right)?;
    let (Some(hours), Some(minutes), 2) = (digits(hours), digits(minutes), minutes.len()) else {
        return Err(right());
    };
    let minute = hours.saturating_mul(60) + minutes;
    let is_inside = minutes < 60 && (minute < DAY || (is_end && minute == DAY));
    is_inside.then_some(minute).ok_or_else(right)
}
