//! What a configuration wants done by itself: every schedule, retention and limit, understood and checked at once.
//!
//! Pure but for [`secrecy`], which looks at the permissions of files.

mod notify;
pub mod secrecy;
#[cfg(test)]
mod tests;

use crate::error::Error;
use crate::guards::GuardOptions;
use crate::retention::{InvalidRetention, Retention};
use crate::schedule::{InvalidSchedule, Schedule};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use notify::InvalidNotify;
use shared::config::{AgentConfig, Config, DatabaseConfig, Drills, NotifyConfig, ScheduleConfig, Time};
use shared::model::DatabaseName;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

/// A configuration that can be read but not followed; names section and key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPolicy {
    /// A schedule, of a backup, a drill or prune.
    #[error("[{section}] {key}: {source}")]
    Schedule {
        /// The section.
        section: String,
        /// The key that holds the schedule.
        key: &'static str,
        /// Why.
        source: InvalidSchedule,
    },
    /// What is kept.
    #[error("[{section}]: {source}")]
    Retention {
        /// The section.
        section: String,
        /// Why.
        source: InvalidRetention,
    },
    /// Who is told.
    #[error("[{section}]: {source}")]
    Notify {
        /// The section.
        section: String,
        /// Why; never repeats an address.
        source: InvalidNotify,
    },
    /// A number or time out of its bounds.
    #[error("[{section}] {key} {why}")]
    Bounds {
        /// The section.
        section: &'static str,
        /// The key.
        key: &'static str,
        /// What is and what may be.
        why: String,
    },
}

impl From<InvalidPolicy> for Error {
    fn from(error: InvalidPolicy) -> Self {
        Error::refused(error.to_string(), "backup-agent config check shows what the configuration means")
    }
}

/// When the newest backup of a database is proven.
#[derive(Debug, Clone)]
pub enum DrillPolicy {
    /// After each backup the agent makes.
    AfterBackup,
    /// Only by command.
    Never,
    /// At times of its own.
    At(Schedule),
}

/// What is wanted of one database.
#[derive(Debug, Clone)]
pub struct DatabasePolicy {
    /// When a backup is made; none: never by itself.
    pub schedule: Option<Schedule>,
    /// What is kept; none: everything.
    pub retention: Option<Retention>,
    /// When the newest backup is proven.
    pub drill: DrillPolicy,
}

impl DatabasePolicy {
    /// The zone its days and weeks are counted in: that of its schedule, else UTC.
    pub fn zone(&self) -> TimeZone {
        self.schedule.as_ref().map_or(TimeZone::UTC, |schedule| schedule.zone().clone())
    }

    /// The schedule of drills, where they have one of their own.
    pub fn drill_schedule(&self) -> Option<&Schedule> {
        match &self.drill {
            DrillPolicy::At(schedule) => Some(schedule),
            DrillPolicy::AfterBackup | DrillPolicy::Never => None,
        }
    }
}

/// When and how what nobody needs is removed.
#[derive(Debug, Clone)]
pub struct PrunePolicy {
    /// When.
    pub schedule: Schedule,
    /// How long what was forgotten is kept; at least [`LEAST_GRACE`].
    pub grace: Duration,
}

/// Everything a configuration wants done by itself.
#[derive(Debug, Clone)]
pub struct Policies {
    /// By database.
    pub databases: BTreeMap<DatabaseName, DatabasePolicy>,
    /// Of the store.
    pub prune: PrunePolicy,
    /// How many tasks run at once, 1 to [`MOST_PARALLEL`].
    pub parallel: usize,
    /// How long a task may take, at least a minute.
    pub deadline: Duration,
    /// Where the agent answers; none: nowhere.
    pub listen: Option<SocketAddr>,
}

/// Shortest time between forgetting and removing: a backup that runs meanwhile may still rely on what is forgotten.
pub const LEAST_GRACE: Duration = Duration::from_secs(24 * 3600);
/// Most tasks at once.
pub const MOST_PARALLEL: u16 = 64;
const LEAST_DEADLINE: Duration = Duration::from_secs(60);

impl Policies {
    /// Understands what stands in the configuration. The first thing that is wrong is the error; nothing is touched.
    pub fn of(config: &Config) -> Result<Self, InvalidPolicy> {
        let databases =
            config.databases.iter().map(|(name, database)| Ok((name.clone(), database_policy(name, database)?)));
        let databases = databases.collect::<Result<_, InvalidPolicy>>()?;
        let schedule = schedule("prune", "schedule", &config.prune.schedule)?;
        notify("prune.notify", &config.prune.notify)?;
        let grace = at_least("prune", "grace", config.prune.grace, LEAST_GRACE)?;
        let AgentConfig { parallel, deadline, .. } = config.agent;
        if !(1..=MOST_PARALLEL).contains(&parallel) {
            let why = format!("is {parallel}; it must be 1 to {MOST_PARALLEL}");
            return Err(InvalidPolicy::Bounds { section: "agent", key: "parallel", why });
        }
        Ok(Policies {
            databases,
            prune: PrunePolicy { schedule, grace },
            parallel: parallel.into(),
            deadline: at_least("agent", "deadline", deadline, LEAST_DEADLINE)?,
            listen: listen(&config.agent.listen)?,
        })
    }
}

impl Policies {
    /// What the guards of forgetting and pruning have to know.
    pub fn guards(&self, config: &Config, now: Timestamp) -> GuardOptions {
        let interval = |policy: &DatabasePolicy| policy.schedule.as_ref().map(|schedule| schedule.interval(now));
        let intervals = self.databases.iter().filter_map(|(name, policy)| Some((name.clone(), interval(policy)?)));
        GuardOptions { intervals: intervals.collect(), spool: config.spool() }
    }
}

fn database_policy(name: &DatabaseName, database: &DatabaseConfig) -> Result<DatabasePolicy, InvalidPolicy> {
    let section = format!("database.{name}");
    let retention = database.retention.as_ref().map(Retention::from_config).transpose();
    notify(&format!("{section}.notify"), &database.notify)?;
    Ok(DatabasePolicy {
        schedule: database.schedule.as_ref().map(|config| schedule(&section, "schedule", config)).transpose()?,
        retention: retention.map_err(|source| InvalidPolicy::Retention { section: section.clone(), source })?,
        drill: match &database.drill {
            Drills::AfterBackup => DrillPolicy::AfterBackup,
            Drills::Never => DrillPolicy::Never,
            Drills::At(config) => DrillPolicy::At(schedule(&section, "drill", config)?),
        },
    })
}

fn schedule(section: &str, key: &'static str, config: &ScheduleConfig) -> Result<Schedule, InvalidPolicy> {
    Schedule::parse(config).map_err(|source| InvalidPolicy::Schedule { section: section.to_owned(), key, source })
}

fn notify(section: &str, config: &NotifyConfig) -> Result<(), InvalidPolicy> {
    notify::check(config).map_err(|source| InvalidPolicy::Notify { section: section.to_owned(), source })
}

fn at_least(section: &'static str, key: &'static str, time: Time, least: Duration) -> Result<Duration, InvalidPolicy> {
    if time.0 >= least {
        return Ok(time.0);
    }
    Err(InvalidPolicy::Bounds { section, key, why: format!("is {time}; it must be at least {}", Time(least)) })
}

fn listen(text: &str) -> Result<Option<SocketAddr>, InvalidPolicy> {
    if text == "off" {
        return Ok(None);
    }
    let wrong = |_| InvalidPolicy::Bounds {
        section: "agent",
        key: "listen",
        why: format!("is {text:?}; it must be \"off\" or address and port, like \"127.0.0.1:9187\""),
    };
    text.parse().map(Some).map_err(wrong)
}
