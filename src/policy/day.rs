//! Days, by which entries of a policy expire.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

/// A day of the calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day {
    /// Year.
    pub year: u16,
    /// Month, from 1.
    pub month: u8,
    /// Day of the month, from 1.
    pub day: u8,
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}-{:02}", self.year, self.month, self.day)
    }
}

impl Day {
    /// Today, in UTC.
    pub fn today() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self::of(now.as_secs().checked_div(86_400).unwrap_or(0))
    }

    /// The day that is so many days after 1970-01-01.
    fn of(mut days: u64) -> Self {
        let leap =
            |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
        let mut year = 1970;
        while let Some(rest) = days.checked_sub(if leap(year) { 366 } else { 365 }) {
            (days, year) = (rest, year.saturating_add(1));
        }
        let february = if leap(year) { 29 } else { 28 };
        let mut month = 1_u8;
        for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
            let Some(rest) = days.checked_sub(length) else { break };
            (days, month) = (rest, month.saturating_add(1));
        }
        let day = u8::try_from(days.saturating_add(1)).unwrap_or(u8::MAX);
        Self { year: u16::try_from(year).unwrap_or(u16::MAX), month, day }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days() {
        let shown = |days| Day::of(days).to_string();
        assert_eq!(shown(0), "1970-01-01");
        assert_eq!(shown(11_016), "2000-02-29");
        assert_eq!(shown(20_783), "2026-11-26");
        assert_eq!(shown(47_540), "2100-02-28");
        assert_eq!(shown(47_541), "2100-03-01");
        assert!(Day::today() > Day::of(20_000));
    }
}
