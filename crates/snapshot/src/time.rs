//! Points in time and lengths of it, as they are written in keys, names and options.

use core::fmt;

use crate::invalid::Invalid;
use crate::limits;

/// A point in time: milliseconds since 1970 in UTC, without leap seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize, serde::Serialize))]
#[cfg_attr(feature = "serde", serde(transparent))]
pub struct Timestamp(pub u64);

/// A length of time in seconds. Displays as it is written in options: `7d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize, serde::Serialize))]
#[cfg_attr(feature = "serde", serde(transparent))]
pub struct Seconds(pub u64);

const DAY_MS: u64 = 24 * 60 * 60 * 1_000;

/// The last moment that four digits of a year can name: the end of 9999.
const LAST: u64 = 253_402_300_799_999;

/// Units of [`Seconds`], longest first.
const UNITS: [(u8, u64); 5] = [
    (b'w', 7 * 24 * 60 * 60),
    (b'd', 24 * 60 * 60),
    (b'h', 60 * 60),
    (b'm', 60),
    (b's', 1),
];

/// The parts of a point in time in the calendar.
struct Calendar {
    year: u64,
    month: u64,
    day: u64,
    hour: u64,
    minute: u64,
    second: u64,
    millisecond: u64,
}

impl Timestamp {
    /// The last moment that `text` covers: `2026-11-22`, `2026-11-22T03`, `2026-11-22T03:00`,
    /// `2026-11-22T03:00:15`, or with milliseconds `2026-11-22T03:00:15.123`; all of them with or
    /// without a `Z` after the time of day, and always UTC. So "as it was at 03:00" includes what was
    /// taken in that minute.
    pub fn last_of(text: &str) -> Option<Self> {
        let (date, time) = match text.split_once('T') {
            Some((date, time)) => (date, Some(time.strip_suffix('Z').unwrap_or(time))),
            None => (text, None),
        };
        let mut parts = date.split('-');
        let mut all = Calendar {
            year: number(parts.next()?, 4)?,
            month: number(parts.next()?, 2)?,
            day: number(parts.next()?, 2)?,
            hour: 23,
            minute: 59,
            second: 59,
            millisecond: 999,
        };
        if parts.next().is_some() {
            return None;
        }
        if let Some(time) = time {
            let (time, fraction) = match time.split_once('.') {
                Some((time, fraction)) => (time, Some(fraction)),
                None => (time, None),
            };
            let mut parts = time.split(':');
            all.hour = number(parts.next()?, 2)?;
            let minute = parts.next();
            let second = parts.next();
            all.minute = minute.map_or(Some(59), |text| number(text, 2))?;
            all.second = second.map_or(Some(59), |text| number(text, 2))?;
            if let Some(fraction) = fraction {
                second?;
                all.millisecond = number(fraction, 3)?;
            }
            if parts.next().is_some() {
                return None;
            }
        }
        all.joined()
    }

    /// Reads what [`compact`](Self::compact) writes, and nothing else.
    pub fn from_compact(text: &str) -> Option<Self> {
        let text = text.strip_suffix('Z')?;
        if text.len() != "20261122T030015.123".len() || !text.is_ascii() {
            return None;
        }
        if text.as_bytes()[8] != b'T' || text.as_bytes()[15] != b'.' {
            return None;
        }
        let part = |start: usize, length: usize| number(&text[start..start + length], length);
        Calendar {
            year: part(0, 4)?,
            month: part(4, 2)?,
            day: part(6, 2)?,
            hour: part(9, 2)?,
            minute: part(11, 2)?,
            second: part(13, 2)?,
            millisecond: part(16, 3)?,
        }
        .joined()
    }

    /// As it stands in names of snapshots: `20261122T030015.123Z`. Sorts by time.
    pub fn compact(self) -> impl fmt::Display {
        struct Compact(Calendar);
        impl fmt::Display for Compact {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                let at = &self.0;
                write!(out, "{:04}{:02}{:02}", at.year, at.month, at.day)?;
                write!(out, "T{:02}{:02}{:02}", at.hour, at.minute, at.second)?;
                write!(out, ".{:03}Z", at.millisecond)
            }
        }
        Compact(self.calendar())
    }

    /// This, or the last moment that can be written.
    pub fn clamped(self) -> Self {
        Self(self.0.min(LAST))
    }

    /// So long before; not before 1970.
    pub fn before(self, length: Seconds) -> Self {
        Self(self.0.saturating_sub(length.0.saturating_mul(1_000)))
    }

    /// How long `later` is after this; nothing if it is earlier (clocks are set back).
    pub fn until(self, later: Self) -> Seconds {
        Seconds(later.0.saturating_sub(self.0) / 1_000)
    }

    /// Days to a date, after Howard Hinnant's public description of the calendar's arithmetic:
    /// years begin in March, so that a leap day is a year's last.
    fn calendar(self) -> Calendar {
        let at = self.clamped().0;
        let days = at / DAY_MS + 719_468;
        let era = days / 146_097;
        let day_of_era = days % 146_097;
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted = (5 * day_of_year + 2) / 153;
        let month = if shifted < 10 {
            shifted + 3
        } else {
            shifted - 9
        };
        Calendar {
            year: era * 400 + year_of_era + u64::from(month <= 2),
            month,
            day: day_of_year - (153 * shifted + 2) / 5 + 1,
            hour: at / 3_600_000 % 24,
            minute: at / 60_000 % 60,
            second: at / 1_000 % 60,
            millisecond: at % 1_000,
        }
    }
}

impl Calendar {
    fn joined(&self) -> Option<Timestamp> {
        let leap = self.year.is_multiple_of(4)
            && (!self.year.is_multiple_of(100) || self.year.is_multiple_of(400));
        let days_of_month = match self.month {
            1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
            4 | 6 | 9 | 11 => 30,
            2 if leap => 29,
            2 => 28,
            _ => return None,
        };
        let good = (1..=days_of_month).contains(&self.day)
            && self.year >= 1970
            && self.hour < 24
            && self.minute < 60
            && self.second < 60;
        if !good {
            return None;
        }
        let year = self.year - u64::from(self.month <= 2);
        let (era, year_of_era) = (year / 400, year % 400);
        let shifted = if self.month > 2 {
            self.month - 3
        } else {
            self.month + 9
        };
        let day_of_year = (153 * shifted + 2) / 5 + self.day - 1;
        let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
        let days = era * 146_097 + day_of_era - 719_468;
        let seconds = (self.hour * 60 + self.minute) * 60 + self.second;
        Some(Timestamp(
            days * DAY_MS + seconds * 1_000 + self.millisecond,
        ))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = self.calendar();
        write!(out, "{:04}-{:02}-{:02}", at.year, at.month, at.day)?;
        write!(out, "T{:02}:{:02}:{:02}", at.hour, at.minute, at.second)?;
        write!(out, ".{:03}Z", at.millisecond)
    }
}

impl Seconds {
    /// Reads a number with one of the units s, m, h, d, w: `90m`, `7d`.
    ///
    /// # Errors
    /// [`Invalid`] for anything else, for nothing at all, and for what is longer than
    /// [`limits::AGE`].
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let length = (|| {
            let unit = text.bytes().last()?;
            let (_, seconds) = UNITS.iter().find(|(letter, _)| *letter == unit)?;
            let digits = &text[..text.len() - 1];
            let count = number(digits, digits.len())?;
            count.checked_mul(*seconds)
        })();
        match length {
            Some(length) if (1..=limits::AGE).contains(&length) => Ok(Self(length)),
            _ => Err(Invalid::new(
                "bad-length-of-time",
                alloc::format!("`{}` is no length of time", text.escape_debug()),
                "write a number with s, m, h, d or w, such as 90m or 7d; ten years are the most",
            )),
        }
    }
}

impl fmt::Display for Seconds {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = |(_, seconds): &&(u8, u64)| self.0.is_multiple_of(*seconds);
        let (letter, seconds) = UNITS.iter().find(fits).unwrap_or(&(b's', 1));
        write!(out, "{}{}", self.0 / seconds, char::from(*letter))
    }
}

/// A number of exactly `digits` digits.
pub(crate) fn number(text: &str, digits: usize) -> Option<u64> {
    let good = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit());
    good.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_795_316_415_123, "2026-11-22T03:00:15.123Z"),
            (4_107_542_399_999, "2100-02-28T23:59:59.999Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
            (LAST, "9999-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(Timestamp(ms).to_string(), text);
            assert_eq!(Timestamp::last_of(text), Some(Timestamp(ms)));
            let compact = Timestamp(ms).compact().to_string();
            assert_eq!(Timestamp::from_compact(&compact), Some(Timestamp(ms)));
        }
        assert_eq!(Timestamp(u64::MAX).clamped(), Timestamp(LAST));
    }

    #[test]
    fn what_is_left_out_is_included() {
        for (text, last) in [
            ("2026-11-22", "2026-11-22T23:59:59.999Z"),
            ("2026-11-22T03", "2026-11-22T03:59:59.999Z"),
            ("2026-11-22T03:00", "2026-11-22T03:00:59.999Z"),
            ("2026-11-22T03:00Z", "2026-11-22T03:00:59.999Z"),
            ("2026-11-22T03:00:15", "2026-11-22T03:00:15.999Z"),
        ] {
            assert_eq!(
                Timestamp::last_of(text).unwrap().to_string(),
                last,
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_no_time() {
        for text in [
            "",
            "2026",
            "2026-11",
            "2026-13-01",
            "2026-02-29",
            "2026-00-01",
            "2026-11-22T",
            "1969-01-01",
            "2026-11-22T24",
            "2026-11-22T03:60",
            "2026-11-22T3",
            "2026-11-22T03:00:15.1",
            "2026-11-22T03.123",
            "2026-11-22T03:00:00:00",
            "2026-11-22-01",
            "2026-11-+2",
            "x",
            "2026-11-22Z",
        ] {
            assert_eq!(Timestamp::last_of(text), None, "{text}");
        }
        for text in [
            "20261122T030015.123",
            "20261122T030015Z",
            "2026112xT030015.123Z",
            "20261322T030015.123Z",
        ] {
            assert_eq!(Timestamp::from_compact(text), None, "{text}");
        }
    }

    #[test]
    fn lengths_of_time() {
        for (text, seconds, again) in [
            ("90m", 5_400, "90m"),
            ("7d", 604_800, "1w"),
            ("1s", 1, "1s"),
            ("24h", 86_400, "1d"),
        ] {
            assert_eq!(Seconds::parse(text), Ok(Seconds(seconds)), "{text}");
            assert_eq!(Seconds(seconds).to_string(), again);
        }
        let most = limits::AGE.to_string() + "s";
        assert_eq!(Seconds::parse(&most), Ok(Seconds(limits::AGE)));
        let more = (limits::AGE + 1).to_string() + "s";
        for text in [
            "",
            "d",
            "7",
            "0d",
            "-1d",
            "1.5d",
            "7 d",
            "\u{e4}",
            "99999999999999999999w",
            &more,
        ] {
            assert_eq!(
                Seconds::parse(text).unwrap_err().code,
                "bad-length-of-time",
                "{text}"
            );
        }
    }
}
