//! The proleptic Gregorian calendar, in which all dates of protocols are.
//!
//! Both directions count years from March, so that the leap day is a year's last: then days before a month follow from
//! one line, and 400 years are always 146,097 days.

/// Days from 1970-01-01 to this date; negative before it.
#[must_use]
pub fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// The date (year, month from 1, day from 1) that many days after 1970-01-01.
#[must_use]
pub fn date(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_day_of_some_centuries_is_a_date_and_back() {
        let mut before = date(-1);
        assert_eq!(before, (1969, 12, 31));
        for days in 0..200_000 {
            let (year, month, day) = date(days);
            assert!((year, month, day) > before);
            assert_eq!(days_since_1970(year, month, day), days);
            before = (year, month, day);
        }
        assert_eq!(date(11_016), (2000, 2, 29));
    }
}
