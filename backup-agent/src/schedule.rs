//! When something is done again and again: five fields as in a crontab, a time zone, a delay.
//!
//! A *slot* is an instant at which a job is due by its fields. When clocks change, a job that does not run every hour
//! has exactly one slot for each local time: one that is skipped is made up for at the first instant after the gap, one
//! that exists twice counts the first time. A job that runs every hour (`*` or `0-23` as its hour) follows real time.
//!
//! Pure: time is passed in. Slots end with the year 2100.

mod fields;
mod pattern;
#[cfg(test)]
mod tests;
mod wall_clock;
mod zone;

use fields::Fields;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use pattern::Pattern;
use shared::config::{ScheduleConfig, Time};
use std::fmt;
use std::time::Duration;

/// A schedule that cannot be followed, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSchedule {
    /// Not five fields.
    #[error("cron {text:?} has {count} fields; it needs five: minute, hour, day of month, month, day of week")]
    Count {
        /// What was written.
        text: String,
        /// How many fields it has.
        count: usize,
    },
    /// A word like `@reboot`.
    #[error("cron {text:?} is not known: write five fields, or @hourly, @daily, @weekly, @monthly or @yearly")]
    Shorthand {
        /// What was written.
        text: String,
    },
    /// A field that cannot be understood.
    #[error("the {field} of cron, {text:?}, is wrong: {why}")]
    Field {
        /// Which field.
        field: &'static str,
        /// The field as it was written.
        text: String,
        /// What is wrong with it.
        why: String,
    },
    /// More text than any schedule needs.
    #[error("cron is {bytes} bytes long; five fields are meant")]
    Long {
        /// Its length.
        bytes: usize,
    },
    /// A date that does not exist.
    #[error("cron {text:?} never fires: no month it names has such a day")]
    Never {
        /// What was written.
        text: String,
    },
    /// The library below does not take it.
    #[error("cron {text:?} cannot be used: {why}")]
    Rejected {
        /// What was written.
        text: String,
        /// What the library says.
        why: String,
    },
    /// An unknown time zone.
    #[error("timezone {name:?} is not known{hint}")]
    Zone {
        /// What was written.
        name: String,
        /// What was probably meant; begins with a separator, or is empty.
        hint: String,
    },
    /// A delay that makes no sense.
    #[error("jitter {jitter} is longer than a day")]
    Jitter {
        /// What was written.
        jitter: Time,
    },
}

const DAY: Duration = Duration::from_secs(86_400);
/// How far ahead gaps between slots are looked for: two months.
const HORIZON_S: i64 = 62 * 86_400;
/// So many slots are enough to know a schedule that runs every minute: 34 days of them.
const MOST_SLOTS: usize = 50_000;

/// When something is due.
#[derive(Debug, Clone)]
pub struct Schedule {
    text: String,
    pattern: Pattern,
    zone: TimeZone,
    jitter: Duration,
}

impl Schedule {
    /// Understands a schedule as it stands in the configuration.
    pub fn parse(config: &ScheduleConfig) -> Result<Self, InvalidSchedule> {
        let pattern = Pattern::new(&Fields::parse(&config.cron)?, config.cron.trim())?;
        let zone = config.timezone.as_deref().map_or(Ok(TimeZone::UTC), zone::named)?;
        let jitter = config.jitter.map_or(Duration::ZERO, |time| time.0);
        if jitter > DAY {
            return Err(InvalidSchedule::Jitter { jitter: Time(jitter) });
        }
        let text = config.cron.split_whitespace().collect::<Vec<_>>().join(" ");
        Ok(Schedule { text, pattern, zone, jitter })
    }

    /// The slots after `after`, increasing, each once. The delay is not in them.
    pub fn slots_after(&self, after: Timestamp) -> impl Iterator<Item = Timestamp> {
        let first = self.next(whole_second(after));
        let slots = std::iter::successors(first, |slot| self.next(*slot));
        slots.filter_map(|second| Timestamp::from_second(second).ok())
    }

    /// The newest slot after `since` and not after `now`, so that whatever was missed in between is caught up once.
    ///
    /// Takes about as many steps as the span has binary digits, whatever the schedule.
    pub fn latest_slot(&self, since: Timestamp, now: Timestamp) -> Option<Timestamp> {
        let mut no_slot_after = whole_second(now);
        let due = |slot: &i64| *slot <= no_slot_after;
        let mut newest = self.next(whole_second(since)).filter(due)?;
        while newest < no_slot_after {
            let middle = newest + (no_slot_after - newest) / 2;
            match self.next(middle).filter(|slot| *slot <= no_slot_after) {
                Some(slot) => newest = slot,
                None => no_slot_after = middle,
            }
        }
        Timestamp::from_second(newest).ok()
    }

    /// How much later than its slots the job of this name begins: whole seconds below the jitter, always the same for
    /// one name, spread evenly over all names.
    pub fn delay(&self, name: &str) -> Duration {
        let hash = blake3::hash(name.as_bytes());
        let number = hash.as_bytes().iter().take(8).fold(0, |number: u64, byte| number << 8 | u64::from(*byte));
        Duration::from_secs(number.checked_rem(self.jitter.as_secs()).unwrap_or(0))
    }

    /// The longest time between two neighbouring slots in the two months after `around`, or between the next three
    /// where there are fewer. Zero where fewer than two are left before the year 2100 ends.
    pub fn interval(&self, around: Timestamp) -> Duration {
        let end = whole_second(around).saturating_add(HORIZON_S);
        let slots: Vec<i64> = self
            .slots_after(around)
            .map(Timestamp::as_second)
            .enumerate()
            .take_while(|(at, slot)| *at < 3 || (*slot <= end && *at < MOST_SLOTS))
            .map(|(_, slot)| slot)
            .collect();
        let longest = slots.windows(2).map(|pair| pair[1].abs_diff(pair[0])).max();
        Duration::from_secs(longest.unwrap_or(0))
    }

    /// The time zone its fields are read in.
    pub fn zone(&self) -> &TimeZone {
        &self.zone
    }

    /// The upper bound of every [`Schedule::delay`].
    pub fn jitter(&self) -> Duration {
        self.jitter
    }

    fn next(&self, after: i64) -> Option<i64> {
        wall_clock::next(&self.pattern, &self.zone, after)
    }
}

impl fmt::Display for Schedule {
    /// `0 2 * * * (Europe/Berlin, up to 10m later)`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}", self.text, self.zone.iana_name().unwrap_or("UTC"))?;
        if !self.jitter.is_zero() {
            write!(f, ", up to {} later", Time(self.jitter))?;
        }
        f.write_str(")")
    }
}

/// The second an instant lies in; slots are whole seconds, so that none lies between the two.
fn whole_second(at: Timestamp) -> i64 {
    at.as_second() - i64::from(at.subsec_nanosecond() < 0)
}
