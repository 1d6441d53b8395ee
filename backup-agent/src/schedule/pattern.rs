//! Which local times fields match: the cron crate's arithmetic on dates and times that know no zone.
//!
//! The crate counts weekdays from 1 = Sunday and wants both fields of days to match. So every field is given to it as a
//! list of numbers, and a line where either day counts becomes two of its schedules. It knows the years 1970 to 2100.
//!
//! Local times are seconds since 1970-01-01T00:00 on the wall clock, as if that showed UTC.

use super::InvalidSchedule;
use super::fields::{Field, Fields};
use chrono::{DateTime, Utc};

/// Local times that fields match.
#[derive(Debug, Clone)]
pub(super) struct Pattern {
    /// A time matches when one of them does.
    either: Vec<cron::Schedule>,
    /// Whether every hour of a day is allowed.
    pub(super) is_hourly: bool,
}

impl Pattern {
    /// The pattern of `fields`, which were written as `text`.
    pub(super) fn new(fields: &Fields, text: &str) -> Result<Self, InvalidSchedule> {
        let every = "*".to_owned();
        let (day, weekday) = (list(fields.day, 0), list(fields.weekday, 1));
        // The rule of crontab(5): with both restricted one of them is enough; a field that begins with * is not
        // restricted, so that `*/2` and a weekday must both match.
        let days = if fields.day.is_star || fields.weekday.is_star {
            vec![(day, weekday)]
        } else {
            vec![(day, every.clone()), (every, weekday)]
        };
        let (minute, hour, month) = (list(fields.minute, 0), list(fields.hour, 0), list(fields.month, 0));
        let parse = |(day, weekday): (String, String)| {
            let line = format!("0 {minute} {hour} {day} {month} {weekday}");
            line.parse().map_err(|error| InvalidSchedule::Rejected { text: text.to_owned(), why: format!("{error}") })
        };
        let either = days.into_iter().map(parse).collect::<Result<Vec<_>, _>>()?;
        let pattern = Pattern { either, is_hourly: fields.hour.has_all_below(24) };
        match pattern.after(0) {
            Some(_) => Ok(pattern),
            None => Err(InvalidSchedule::Never { text: text.to_owned() }),
        }
    }

    /// The first match after `local`; none behind the year 2100.
    pub(super) fn after(&self, local: i64) -> Option<i64> {
        let from: DateTime<Utc> = DateTime::from_timestamp(local.max(-1), 0)?;
        self.either.iter().filter_map(|schedule| schedule.after(&from).next()).map(|at| at.timestamp()).min()
    }
}

/// A field as a list of numbers, each moved by `shift`.
fn list(field: Field, shift: u8) -> String {
    let values: Vec<String> = field.values().map(|value| (value + shift).to_string()).collect();
    values.join(",")
}
