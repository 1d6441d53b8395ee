//! What an operator declares around a migration: checks of the data, hooks, a window.

use super::Time;
use serde::Deserialize;
use std::time::Duration;

/// What a check expects of its query.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Expectation {
    /// The same rows after as before, in whatever order they come.
    Unchanged,
    /// No row.
    Zero,
    /// One row with one value.
    Value,
    /// Every row's first column matches; NULL never does.
    Pattern,
    /// The number after is at least the number `of` gave before.
    Conservation,
    /// Nothing: the rows before and after are printed and kept.
    Distribution,
}

/// `[[database.<name>.checks]]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckConfig {
    /// What it is called in stories and errors.
    pub name: String,
    /// A query that only reads.
    pub sql: String,
    /// What is expected of it.
    pub expect: Expectation,
    /// What `value` must be.
    pub value: Option<String>,
    /// The regular expression of `pattern`, matched anywhere in the text.
    pub pattern: Option<String>,
    /// The query of `conservation` whose number before counts.
    pub of: Option<String>,
    /// Whether `zero`, `value` and `pattern` must be true before, too.
    #[serde(default)]
    pub before: bool,
    /// Which way a migration goes that it is asked around. Default: `upgrade`.
    #[serde(default)]
    pub on: Way,
}

/// Which way a migration goes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Way {
    /// Forward.
    #[default]
    Upgrade,
    /// Back.
    Downgrade,
}

/// `[database.<name>.hooks]`: programs with their arguments, started in the directory of the configuration file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HooksConfig {
    /// Stops the application.
    pub stop: Option<Vec<String>>,
    /// Keeps a connection pool from connecting; after `stop`.
    pub pause: Option<Vec<String>>,
    /// Lets the pool connect again; before `start`.
    pub resume: Option<Vec<String>>,
    /// Starts the application again.
    pub start: Option<Vec<String>>,
    /// Address that answers 200 when the application is well.
    pub health_url: Option<String>,
    /// How long it may take until it does. Default: 60 s.
    pub health_timeout: Time,
    /// How long one of the programs may take. Default: 60 s.
    pub deadline: Time,
}

impl Default for HooksConfig {
    fn default() -> Self {
        let minute = Time(Duration::from_secs(60));
        HooksConfig {
            stop: None,
            pause: None,
            resume: None,
            start: None,
            health_url: None,
            health_timeout: minute,
            deadline: minute,
        }
    }
}

impl HooksConfig {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        let programs = [&self.stop, &self.pause, &self.resume, &self.start];
        programs.iter().all(|program| program.is_none()) && self.health_url.is_none()
    }
}

/// A day of the week.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Weekday {
    /// Monday.
    Mon,
    /// Tuesday.
    Tue,
    /// Wednesday.
    Wed,
    /// Thursday.
    Thu,
    /// Friday.
    Fri,
    /// Saturday.
    Sat,
    /// Sunday.
    Sun,
}

/// `[database.<name>.window]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WindowConfig {
    /// When it opens, as `HH:MM`.
    pub from: String,
    /// When it closes, as `HH:MM`; on the next day where that is not later than `from`.
    pub to: String,
    /// Name from the time zone database, like `Europe/Berlin`. Default: UTC.
    pub timezone: Option<String>,
    /// The days on which it opens. Default: every day.
    pub days: Option<Vec<Weekday>>,
}
