//! The rules of retention, one by one.

use super::{Candidate, Time};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, Zoned};
use std::collections::HashSet;
use std::fmt;

/// Periods of which the newest backup is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Periods {
    Hours,
    Days,
    /// ISO weeks, which begin on Monday.
    Weeks,
    Months,
    Years,
}

impl Periods {
    fn rule(self) -> &'static str {
        match self {
            Periods::Hours => "hourly",
            Periods::Days => "daily",
            Periods::Weeks => "weekly",
            Periods::Months => "monthly",
            Periods::Years => "yearly",
        }
    }

    /// The name of the period an instant lies in. An hour that exists twice has two.
    fn name(self, at: &Zoned) -> String {
        let format = match self {
            Periods::Hours => "%Y-%m-%d %Hh %:z",
            Periods::Days => "%Y-%m-%d",
            Periods::Weeks => "%G-W%V",
            Periods::Months => "%Y-%m",
            Periods::Years => "%Y",
        };
        at.strftime(format).to_string()
    }
}

/// One rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rule {
    /// The newest so many.
    Last(usize),
    /// The newest of each of the newest so many periods that have one.
    Each(Periods, usize),
    /// Whatever is not older than the newest by more than this.
    Within(Time),
    /// The newest so many, whatever the other rules say.
    Min(usize),
}

impl Rule {
    /// The backups it keeps of these, which come newest first, and why.
    pub(super) fn keeps<'a>(&self, newest_first: &[&'a Candidate], zone: &TimeZone) -> Vec<(&'a Candidate, String)> {
        let backups = newest_first.iter().copied();
        match *self {
            Rule::Last(most) => {
                let numbered = backups.take(most).zip(1..);
                numbered.map(|(backup, number)| (backup, format!("last {number} of {most}"))).collect()
            }
            Rule::Min(most) => backups.take(most).map(|backup| (backup, format!("min {most}"))).collect(),
            Rule::Each(periods, most) => {
                let mut seen = HashSet::new();
                let named = backups.map(|backup| (backup, periods.name(&backup.id.second().to_zoned(zone.clone()))));
                let newest = named.filter(|(_, name)| seen.insert(name.clone()));
                newest.take(most).map(|(backup, name)| (backup, format!("{} {name}", periods.rule()))).collect()
            }
            Rule::Within(time) => {
                let newest = newest_first.first().map_or(Timestamp::MAX, |backup| backup.id.second());
                let oldest = newest.checked_sub(SignedDuration::from(time)).unwrap_or(Timestamp::MIN);
                let young = backups.filter(|backup| backup.id.second() >= oldest);
                young.map(|backup| (backup, format!("within {time}"))).collect()
            }
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Rule::Last(number) => write!(f, "last {number}"),
            Rule::Each(periods, number) => write!(f, "{} {number}", periods.rule()),
            Rule::Within(time) => write!(f, "within {time}"),
            Rule::Min(number) => write!(f, "min {number}"),
        }
    }
}
