//! The sections of `holdfast.toml`, as they are written there.

use super::around::{CheckConfig, HooksConfig, WindowConfig};
use crate::model::Secret;
use crate::queue::amqp::QueueKind;
use jiff::SignedDuration;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// A length of time: `90s`, `10m`, `72h`, `30d`, `1d 12h`. A day is 24 hours, a week 7 days.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Time(pub Duration);

impl Time {
    const fn hours(hours: u64) -> Self {
        Time(Duration::from_secs(hours * 3600))
    }
}

impl TryFrom<String> for Time {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no length of time: write 90s, 10m, 72h, 30d or 1d 12h");
        let span: jiff::Span = text.trim().parse().map_err(|_| wrong())?;
        let length = span.to_duration(jiff::SpanRelativeTo::days_are_24_hours()).map_err(|_| wrong())?;
        let length = Duration::try_from(length).map_err(|_| wrong())?;
        // What a date of jiff can be moved by, so that no later sum overflows.
        if length > Duration::from_secs(1000 * 366 * 86_400) { Err(wrong()) } else { Ok(Time(length)) }
    }
}

impl fmt::Display for Time {
    /// As it can be written in the configuration: `1d 12h`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0.as_secs();
        let mut parts = Vec::new();
        for (unit, seconds) in [("d", 86_400), ("h", 3600), ("m", 60), ("s", 1)] {
            if rest >= seconds {
                parts.push(format!("{}{unit}", rest / seconds));
            }
            rest %= seconds;
        }
        f.write_str(&if parts.is_empty() { "0s".into() } else { parts.join(" ") })
    }
}

impl From<Time> for SignedDuration {
    fn from(time: Time) -> SignedDuration {
        SignedDuration::try_from(time.0).unwrap_or(SignedDuration::MAX)
    }
}

/// `[store]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoreConfig {
    /// `file:PATH` or `s3://bucket/prefix`.
    pub url: Option<String>,
    /// Endpoint of an S3 server that is not Amazon's.
    pub endpoint: Option<String>,
    /// Region; default: that of the usual AWS places, else `us-east-1`.
    pub region: Option<String>,
    /// Bucket in the path instead of the host name; default: yes with an endpoint.
    pub path_style: Option<bool>,
    /// Access key; default: the usual AWS places.
    pub access_key_id: Option<String>,
    /// Name of the environment variable that holds it.
    pub access_key_id_env: Option<String>,
    /// File that holds it.
    pub access_key_id_file: Option<PathBuf>,
    /// Secret key.
    pub secret_access_key: Option<Secret>,
    /// Name of the environment variable that holds it.
    pub secret_access_key_env: Option<String>,
    /// File that holds it.
    pub secret_access_key_file: Option<PathBuf>,
}

/// `[state]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StateConfig {
    /// Address of the TaskLog's database; may hold a password. Default: [`super::DEFAULT_STATE`].
    pub url: Option<Secret>,
    /// Name of the environment variable that holds the address.
    pub url_env: Option<String>,
    /// File that holds the address.
    pub url_file: Option<PathBuf>,
    /// Directory for private copies and notes of this machine. Default: [`super::DEFAULT_SPOOL`].
    pub spool: Option<PathBuf>,
    /// How long a task is held without a sign of life; six are given in that time. Default: [`super::DEFAULT_LEASE`].
    pub lease: Option<Time>,
}

/// `[queue]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct QueueConfig {
    /// `amqp://` or `amqps://` with user, password, host and virtual host. Default: no broker.
    pub url: Option<Secret>,
    /// Name of the environment variable that holds the address.
    pub url_env: Option<String>,
    /// File that holds the address.
    pub url_file: Option<PathBuf>,
    /// The workers that share the queue `holdfast.jobs.<group>`: 1 to 40 of a-z, 0-9, '_' and '-'.
    pub group: String,
    /// How that queue keeps its messages.
    pub kind: QueueKind,
    /// How often either side gives a sign of life; one that gave none for twice as long is taken for gone. 1 s to 1 h.
    pub heartbeat: Time,
    /// Messages that are taken in at once, 1 to 1000.
    pub prefetch: u16,
    /// Keys that messages are signed with, by their id. Where there is one, unsigned messages are dead letters.
    pub key: BTreeMap<String, KeyConfig>,
    /// Who may ask for what. Default: everybody for everything that is configured.
    pub allow: Vec<AllowConfig>,
}

impl Default for QueueConfig {
    fn default() -> Self {
        QueueConfig {
            url: None,
            url_env: None,
            url_file: None,
            group: "default".into(),
            kind: QueueKind::default(),
            heartbeat: Time(Duration::from_secs(30)),
            prefetch: 16,
            key: BTreeMap::new(),
            allow: Vec::new(),
        }
    }
}

/// `[queue.key.<id>]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyConfig {
    /// Whom the key belongs to: the name that `who` in `[[queue.allow]]` means.
    pub principal: String,
    /// The key, at least 16 bytes.
    pub secret: Option<Secret>,
    /// Name of the environment variable that holds it.
    pub secret_env: Option<String>,
    /// File that holds it.
    pub secret_file: Option<PathBuf>,
}

/// `[[queue.allow]]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AllowConfig {
    /// A principal, or `*` for everybody.
    pub who: String,
    /// What may be asked for.
    pub what: Vec<Right>,
    /// For which databases; `*` for all.
    pub databases: Vec<String>,
}

/// Something a message may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Right {
    /// Migrations forward, without loss.
    Migrate,
    /// Their rehearsal.
    Rehearse,
    /// Backups.
    Backup,
    /// Restores into new databases.
    Restore,
    /// Reading every stored byte.
    Verify,
    /// Proofs by a restore.
    Drill,
    /// Removing what retention lets go.
    Prune,
    /// Migrations backward (`base`, `-n`).
    Downgrade,
    /// Migrations that name data to lose (`may_drop`).
    MayDrop,
}

/// `[agent]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AgentConfig {
    /// How many tasks run at once, 1 to 64.
    pub parallel: u16,
    /// How long a task may take before it is ended as failed.
    pub deadline: Time,
    /// Address of `/healthz`, `/readyz` and `/metrics`; `off` for none.
    pub listen: String,
}

impl Default for AgentConfig {
    fn default() -> Self {
        AgentConfig { parallel: 2, deadline: Time::hours(12), listen: "127.0.0.1:9187".into() }
    }
}

/// `[prune]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PruneConfig {
    /// When the agent prunes. Default: Sundays at 04:30 UTC, within an hour.
    pub schedule: ScheduleConfig,
    /// How long what was forgotten can be brought back, and what nobody names is kept. At least 24 h.
    pub grace: Time,
    /// Who is told.
    pub notify: NotifyConfig,
}

impl Default for PruneConfig {
    fn default() -> Self {
        let schedule =
            ScheduleConfig { cron: "30 4 * * 0".into(), timezone: None, jitter: Some(Time(Duration::from_secs(3600))) };
        PruneConfig { schedule, grace: Time::hours(72), notify: NotifyConfig::default() }
    }
}

/// `[database.<name>]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatabaseConfig {
    /// Address; may hold a password.
    pub url: Option<Secret>,
    /// Name of the environment variable that holds the address.
    pub url_env: Option<String>,
    /// File that holds the address.
    pub url_file: Option<PathBuf>,
    /// Address by which the database is fenced: it may create, rename and close databases. Default: `url`.
    pub admin_url: Option<Secret>,
    /// Name of the environment variable that holds it.
    pub admin_url_env: Option<String>,
    /// File that holds it.
    pub admin_url_file: Option<PathBuf>,
    /// Address of a database that drills may create and drop; rehearsals make databases of other names on its server.
    /// Default: `url`'s server.
    pub scratch_url: Option<Secret>,
    /// Name of the environment variable that holds it.
    pub scratch_url_env: Option<String>,
    /// File that holds it.
    pub scratch_url_file: Option<PathBuf>,
    /// How the database is migrated. Default: it is not.
    pub migrations: Option<MigrationsConfig>,
    /// What must be true of the data before and after a migration.
    #[serde(default)]
    pub checks: Vec<CheckConfig>,
    /// What stops and starts the application around a migration.
    #[serde(default)]
    pub hooks: HooksConfig,
    /// When it may be migrated. Default: at any time.
    pub window: Option<WindowConfig>,
    /// When the agent makes a backup. Default: never.
    pub schedule: Option<ScheduleConfig>,
    /// What is kept. Default: everything.
    pub retention: Option<RetentionConfig>,
    /// When the newest backup is proven. Default: after each backup of the agent.
    #[serde(default)]
    pub drill: Drills,
    /// Who is told.
    #[serde(default)]
    pub notify: NotifyConfig,
}

/// A migration tool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RunnerKind {
    /// A directory of SQL files, as sqlx has them; run by Holdfast itself.
    Sql,
    /// Alembic.
    Alembic,
    /// Django's `manage.py migrate`.
    Django,
    /// Any other tool, by the commands that call it.
    Command,
}

impl fmt::Display for RunnerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RunnerKind::Sql => "sql",
            RunnerKind::Alembic => "alembic",
            RunnerKind::Django => "django",
            RunnerKind::Command => "command",
        })
    }
}

/// `[database.<name>.migrations]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MigrationsConfig {
    /// The tool.
    pub runner: RunnerKind,
    /// Where the migrations lie: the SQL files; for Alembic the directory of `alembic.ini`, for Django that of
    /// `manage.py`, for commands the one they are started in.
    pub directory: PathBuf,
    /// Where the tool is started. Default: `directory`.
    pub workdir: Option<PathBuf>,
    /// Program and first arguments, for a virtual environment. Default: `["alembic"]`, for Django `["python3"]`.
    pub program: Option<Vec<String>>,
    /// Django's settings module. Default: the one `manage.py` names.
    pub settings: Option<String>,
    /// The command that applies what is missing.
    pub upgrade: Option<Vec<String>>,
    /// The command that takes the newest revision back. Default: there is no way back.
    pub downgrade: Option<Vec<String>>,
    /// The command that prints the revision the tool sees, and nothing where nothing was applied.
    pub probe: Option<Vec<String>>,
    /// The query whose single value is the revision; no row, NULL or no table: nothing was applied.
    pub current: Option<String>,
    /// Tables of the tool's own, as `TABLE` or `SCHEMA.TABLE`, besides those `current` names.
    #[serde(default)]
    pub own_tables: Vec<String>,
    /// What is done after the tool, as a part of the migration.
    #[serde(default)]
    pub then: Vec<ThenConfig>,
    /// Variables of the tool's environment. `{url}`, `{sqlalchemy_url}`, `{path}`, `{host}`, `{port}`, `{user}`,
    /// `{password}` and `{dbname}` stand for the database it is to work on.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Variables handed on to the tool where they are set.
    #[serde(default)]
    pub pass_env: Vec<String>,
    /// The same, and without them nothing is begun.
    #[serde(default)]
    pub required_env: Vec<String>,
    /// How long one run of the tool may take. Default: 1 h.
    #[serde(default = "one_hour")]
    pub deadline: Time,
}

/// `[[database.<name>.migrations.then]]`: exactly one of `command` and `sql`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ThenConfig {
    /// What it is called in stories and errors.
    pub name: String,
    /// Program and arguments, started where the tool is, with the tool's environment.
    pub command: Option<Vec<String>>,
    /// Statements, run in one transaction.
    pub sql: Option<String>,
}

fn one_hour() -> Time {
    Time::hours(1)
}

/// When something is done again and again.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScheduleConfig {
    /// Five fields as in a crontab: minute, hour, day of month, month, day of week.
    pub cron: String,
    /// Name from the time zone database, like `Europe/Berlin`. Default: UTC.
    pub timezone: Option<String>,
    /// Begin up to so much later; the same delay every time, another one for every database. Default: none.
    pub jitter: Option<Time>,
}

/// When the newest backup is proven.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Drills {
    /// After each backup the agent makes.
    #[default]
    AfterBackup,
    /// Only by command.
    Never,
    /// At times of its own.
    At(ScheduleConfig),
}

impl<'de> Deserialize<'de> for Drills {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Drills;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("\"after-backup\", \"never\" or a schedule like { cron = \"0 5 * * 0\" }")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Drills, E> {
                match text {
                    "after-backup" => Ok(Drills::AfterBackup),
                    "never" => Ok(Drills::Never),
                    other => Err(E::invalid_value(serde::de::Unexpected::Str(other), &self)),
                }
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<Drills, A::Error> {
                ScheduleConfig::deserialize(serde::de::value::MapAccessDeserializer::new(map)).map(Drills::At)
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

/// What is kept of a database's complete backups: whatever one of these keeps.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RetentionConfig {
    /// The newest so many.
    pub last: Option<u32>,
    /// The newest of each of the newest so many hours that have one.
    pub hourly: Option<u32>,
    /// The same with days.
    pub daily: Option<u32>,
    /// The same with weeks, which begin on Monday.
    pub weekly: Option<u32>,
    /// The same with months.
    pub monthly: Option<u32>,
    /// The same with years.
    pub yearly: Option<u32>,
    /// All that are not older than this, counted back from the newest.
    pub within: Option<Time>,
    /// Never fewer than so many, whatever their age. Default: 1.
    pub min: Option<u32>,
}

/// What is told to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NotifyOn {
    /// A task began.
    Start,
    /// It succeeded.
    Success,
    /// It failed.
    Failure,
}

/// `[database.<name>.notify]` and `[prune.notify]`. Addresses may hold secrets.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NotifyConfig {
    /// A check of a healthchecks-like service: `/start` and `/fail` are appended, success is the address itself.
    pub ping_url: Option<Secret>,
    /// Requested when a task begins, instead of `ping_url`'s.
    pub start_url: Option<Secret>,
    /// Requested when it succeeded.
    pub success_url: Option<Secret>,
    /// Requested when it failed.
    pub failure_url: Option<Secret>,
    /// Gets a POST with a JSON body.
    pub webhook_url: Option<Secret>,
    /// Key of the webhook's signature (Standard Webhooks, `whsec_…`).
    pub webhook_secret: Option<Secret>,
    /// Name of the environment variable that holds the key.
    pub webhook_secret_env: Option<String>,
    /// File that holds the key.
    pub webhook_secret_file: Option<PathBuf>,
    /// Program and arguments; gets the same JSON on standard input.
    pub command: Option<Vec<String>>,
    /// What the webhook and the command are told of. Default: success and failure.
    pub on: Option<Vec<NotifyOn>>,
}

impl NotifyConfig {
    /// Whether anybody is told of anything.
    pub fn is_empty(&self) -> bool {
        let urls = [&self.ping_url, &self.start_url, &self.success_url, &self.failure_url, &self.webhook_url];
        urls.iter().all(|url| url.is_none()) && self.command.is_none()
    }

    /// What the webhook and the command are told of.
    pub fn told(&self) -> &[NotifyOn] {
        self.on.as_deref().unwrap_or(&[NotifyOn::Success, NotifyOn::Failure])
    }
}
