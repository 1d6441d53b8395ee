//! When a database may be migrated.

use crate::runner::RunnerError;
use jiff::civil::{self, Weekday};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan, Zoned};
use shared::config::{self, WindowConfig};
use std::fmt;

/// A time of day within which a database may be migrated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    from: civil::Time,
    to: civil::Time,
    zone: TimeZone,
    days: Option<Vec<Weekday>>,
}

impl Window {
    /// Reads the configuration.
    pub fn of(config: &WindowConfig) -> Result<Self, RunnerError> {
        let time = |key: &str, text: &str| {
            civil::Time::strptime("%H:%M", text)
                .map_err(|_| RunnerError::new(format!("{key} = {text:?} is no time of day")).hint("write 02:30"))
        };
        let name = config.timezone.as_deref().unwrap_or("UTC");
        let zone = TimeZone::get(name).map_err(|_| {
            RunnerError::new(format!("there is no time zone {name:?}"))
                .hint("write a name of the time zone database: Europe/Berlin, UTC")
        })?;
        if config.days.as_ref().is_some_and(Vec::is_empty) {
            return Err(RunnerError::new("days is empty: it would never open"));
        }
        let days = config.days.as_ref().map(|days| days.iter().copied().map(weekday).collect());
        Ok(Window { from: time("from", &config.from)?, to: time("to", &config.to)?, zone, days })
    }

    /// When the window closes that is open at `now`; none where none is.
    pub fn closes(&self, now: Timestamp) -> Option<Zoned> {
        let today = now.to_zoned(self.zone.clone()).date();
        let spans = [today.yesterday().ok()?, today].into_iter().filter_map(|date| self.span(date));
        spans.filter(|(from, to)| from.timestamp() <= now && now < to.timestamp()).map(|(_, to)| to).max()
    }

    /// When the next window opens behind `now`.
    pub fn opens(&self, now: Timestamp) -> Option<Zoned> {
        let today = now.to_zoned(self.zone.clone()).date();
        let dates = (0..=7).filter_map(|days| today.checked_add(days.days()).ok());
        dates.filter_map(|date| self.span(date)).map(|(from, _)| from).find(|from| from.timestamp() > now)
    }

    /// The window that opens on a day.
    fn span(&self, date: civil::Date) -> Option<(Zoned, Zoned)> {
        if self.days.as_ref().is_some_and(|days| !days.contains(&date.weekday())) {
            return None;
        }
        let last = if self.to > self.from { date } else { date.tomorrow().ok()? };
        let at = |date: civil::Date, time| date.to_datetime(time).to_zoned(self.zone.clone()).ok();
        Some((at(date, self.from)?, at(last, self.to)?))
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (from, to) = (self.from.strftime("%H:%M"), self.to.strftime("%H:%M"));
        write!(f, "{from} to {to} {}", self.zone.iana_name().unwrap_or("UTC"))?;
        let Some(days) = &self.days else { return Ok(()) };
        let days: Vec<String> = days.iter().map(|day| format!("{day:?}")).collect();
        write!(f, " on {}", days.join(", "))
    }
}

fn weekday(day: config::Weekday) -> Weekday {
    match day {
        config::Weekday::Mon => Weekday::Monday,
        config::Weekday::Tue => Weekday::Tuesday,
        config::Weekday::Wed => Weekday::Wednesday,
        config::Weekday::Thu => Weekday::Thursday,
        config::Weekday::Fri => Weekday::Friday,
        config::Weekday::Sat => Weekday::Saturday,
        config::Weekday::Sun => Weekday::Sunday,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(from: &str, to: &str, days: Option<Vec<config::Weekday>>) -> Window {
        let timezone = Some("Europe/Berlin".to_owned());
        Window::of(&WindowConfig { from: from.into(), to: to.into(), timezone, days }).expect("valid")
    }

    #[test]
    fn a_window_opens_and_closes_by_its_own_clock() {
        use config::Weekday::{Sat, Sun};
        let night = || window("22:00", "02:00", None);
        let weekend = || window("02:00", "04:00", Some(vec![Sat, Sun]));
        // 2026-03-29 is the Sunday on which clocks go from 02:00 to 03:00.
        for (window, now, closes, opens) in [
            (night(), "2026-01-10T20:59:59Z", None, "2026-01-10T22:00+01:00"),
            (night(), "2026-01-10T21:00:00Z", Some("2026-01-11T02:00+01:00"), "2026-01-11T22:00+01:00"),
            (night(), "2026-01-11T00:30:00Z", Some("2026-01-11T02:00+01:00"), "2026-01-11T22:00+01:00"),
            (night(), "2026-01-11T01:00:00Z", None, "2026-01-11T22:00+01:00"),
            (weekend(), "2026-01-09T02:00:00Z", None, "2026-01-10T02:00+01:00"),
            (weekend(), "2026-01-10T02:00:00Z", Some("2026-01-10T04:00+01:00"), "2026-01-11T02:00+01:00"),
            (weekend(), "2026-03-29T01:30:00Z", Some("2026-03-29T04:00+02:00"), "2026-04-04T02:00+02:00"),
        ] {
            let now: Timestamp = now.parse().expect("a moment");
            let text = |at: Zoned| at.strftime("%Y-%m-%dT%H:%M%:z").to_string();
            assert_eq!(window.closes(now).map(text).as_deref(), closes, "{window} at {now}");
            assert_eq!(window.opens(now).map(text).as_deref(), Some(opens), "{window} at {now}");
        }
        assert_eq!(weekend().to_string(), "02:00 to 04:00 Europe/Berlin on Saturday, Sunday");
    }

    #[test]
    fn what_is_no_window_is_refused() {
        let good = WindowConfig { from: "02:00".into(), to: "04:00".into(), timezone: None, days: None };
        for (bad, said) in [
            (WindowConfig { from: "2am".into(), ..good.clone() }, "from"),
            (WindowConfig { to: "24:61".into(), ..good.clone() }, "to"),
            (WindowConfig { timezone: Some("Berlin".into()), ..good.clone() }, "time zone"),
            (WindowConfig { days: Some(Vec::new()), ..good.clone() }, "never open"),
        ] {
            assert!(Window::of(&bad).expect_err(said).to_string().contains(said));
        }
        assert!(Window::of(&good).is_ok());
    }
}
