//! The one configuration file, `holdfast.toml`.

mod around;
mod redacted;
mod sections;

pub use around::{CheckConfig, Expectation, HooksConfig, Way, Weekday, WindowConfig};
pub use redacted::Redacted;
pub use sections::{
    AgentConfig, AllowConfig, DatabaseConfig, Drills, KeyConfig, MigrationsConfig, NotifyConfig, NotifyOn, PruneConfig,
    QueueConfig, RetentionConfig, Right, RunnerKind, ScheduleConfig, StateConfig, StoreConfig, ThenConfig, Time,
};

use crate::model::{DatabaseName, DatabaseUrl, InvalidUrl, Secret};
use crate::queue::amqp::AmqpSettings;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where the file is looked for when none is named.
pub const DEFAULT_PATHS: [&str; 2] = ["holdfast.toml", "/etc/holdfast/holdfast.toml"];
/// The store when none is configured.
pub const DEFAULT_STORE: &str = "file:./holdfast-store";
/// The TaskLog when none is configured; beside the configuration file, or in the working directory without one.
pub const DEFAULT_STATE: &str = "sqlite:holdfast-state.db";
/// The directory for private copies and notes of this machine; beside the configuration file, or in the working
/// directory without one.
pub const DEFAULT_SPOOL: &str = "holdfast-spool";

/// How long a task is held without a sign of life when nothing is configured.
pub const DEFAULT_LEASE: Duration = Duration::from_secs(60);

/// The configuration, with relative paths counted from its file.
#[derive(Debug, Clone)]
pub struct Config {
    /// The file it was read from, if any.
    pub path: Option<PathBuf>,
    /// The directory relative paths count from.
    pub base: PathBuf,
    /// Where backups are kept.
    pub store: StoreConfig,
    /// Where the TaskLog is, and the spool.
    pub state: StateConfig,
    /// The message broker, if there is one.
    pub queue: QueueConfig,
    /// How the agent works.
    pub agent: AgentConfig,
    /// When and how what nobody needs is removed.
    pub prune: PruneConfig,
    /// The databases by name.
    pub databases: BTreeMap<DatabaseName, DatabaseConfig>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    store: StoreConfig,
    #[serde(default)]
    state: StateConfig,
    #[serde(default)]
    queue: QueueConfig,
    #[serde(default)]
    agent: AgentConfig,
    #[serde(default)]
    prune: PruneConfig,
    #[serde(default)]
    database: BTreeMap<String, DatabaseConfig>,
}

/// What is wrong with the configuration. Never repeats a secret.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{}: {message}", path.display())]
    Unreadable {
        /// Absolute path where possible.
        path: PathBuf,
        /// Why.
        message: String,
    },
    /// The file is not as it should be.
    #[error("{}: {message}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong, with line and column where known.
        message: String,
    },
    /// A value named elsewhere is not there.
    #[error("{0}")]
    Value(String),
}

impl Config {
    /// Reads `path`, or the first of [`DEFAULT_PATHS`] that exists; without any, everything has its default.
    pub fn load(path: Option<&Path>) -> Result<Self, ConfigError> {
        let found =
            path.map(Path::to_owned).or_else(|| DEFAULT_PATHS.iter().map(PathBuf::from).find(|path| path.exists()));
        match found {
            Some(path) => Self::read(&path),
            None => {
                let base = absolute(Path::new("."));
                Ok(Config::assemble(None, base, File::default(), BTreeMap::new()))
            }
        }
    }

    fn read(path: &Path) -> Result<Self, ConfigError> {
        let path = absolute(path);
        let unreadable =
            |error: std::io::Error| ConfigError::Unreadable { path: path.clone(), message: error.to_string() };
        let text = std::fs::read_to_string(&path).map_err(unreadable)?;
        let invalid = |message: String| ConfigError::Invalid { path: path.clone(), message };
        // Only message and place: toml's own display quotes the line, which may hold a password.
        let file: File = toml::from_str(&text).map_err(|error| {
            let line = error.span().map_or(0, |span| text[..span.start].matches('\n').count() + 1);
            invalid(format!("line {line}: {}", with_suggestion(error.message())))
        })?;
        let mut databases = BTreeMap::new();
        let mut file = file;
        for (name, database) in std::mem::take(&mut file.database) {
            let name: DatabaseName = name.parse().map_err(|error| invalid(format!("[database]: {error}")))?;
            let given = [database.url.is_some(), database.url_env.is_some(), database.url_file.is_some()];
            if given.iter().filter(|given| **given).count() != 1 {
                return Err(invalid(format!("[database.{name}]: give exactly one of url, url_env, url_file")));
            }
            databases.insert(name, database);
        }
        let base = path.parent().map_or_else(|| PathBuf::from("/"), Path::to_owned);
        Ok(Config::assemble(Some(path.clone()), base, file, databases))
    }

    fn assemble(
        path: Option<PathBuf>,
        base: PathBuf,
        file: File,
        databases: BTreeMap<DatabaseName, DatabaseConfig>,
    ) -> Self {
        let File { store, state, queue, agent, prune, .. } = file;
        Config { path, base, store, state, queue, agent, prune, databases }
    }

    /// Where the TaskLog is.
    pub fn state_url(&self) -> Result<DatabaseUrl, ConfigError> {
        let state = &self.state;
        let what = "url of [state]";
        let plain = state.url.as_ref().map(|secret| secret.reveal().to_owned());
        let text = self.value(what, plain, state.url_env.as_deref(), state.url_file.as_deref())?;
        self.parse_url(what, text.as_deref().unwrap_or(DEFAULT_STATE))
    }

    /// The directory for private copies and notes of this machine.
    pub fn spool(&self) -> PathBuf {
        self.base.join(self.state.spool.as_deref().unwrap_or(Path::new(DEFAULT_SPOOL)))
    }

    /// The message broker, where one is configured.
    pub fn queue(&self) -> Result<Option<AmqpSettings>, ConfigError> {
        let queue = &self.queue;
        let what = "url of [queue]";
        let (env, file) = (queue.url_env.as_deref(), queue.url_file.as_deref());
        let Some(url) = self.one_value(what, queue.url.as_ref(), env, file)? else { return Ok(None) };
        let is_name = |text: &str| !text.is_empty() && text.len() <= 40 && text.bytes().all(is_name_byte);
        if !is_name(&queue.group) {
            let message = format!("group of [queue]: {:?} is not 1 to 40 of a-z, 0-9, '_' and '-'", queue.group);
            return Err(ConfigError::Value(message));
        }
        let (heartbeat, prefetch) = (queue.heartbeat.0, queue.prefetch);
        if !(1..=3600).contains(&heartbeat.as_secs()) || !(1..=1000).contains(&prefetch) {
            let message = "[queue]: heartbeat is 1s to 1h, prefetch is 1 to 1000".to_owned();
            return Err(ConfigError::Value(message));
        }
        let settings =
            AmqpSettings { url: Secret::new(url), group: queue.group.clone(), kind: queue.kind, heartbeat, prefetch };
        settings.check().map_err(|why| ConfigError::Value(format!("{what}: {why}")))?;
        Ok(Some(settings))
    }

    /// A key that messages are signed with; `id` is named in errors.
    pub fn queue_key(&self, id: &str, key: &KeyConfig) -> Result<Secret, ConfigError> {
        let what = format!("secret of [queue.key.{id}]");
        let (env, file) = (key.secret_env.as_deref(), key.secret_file.as_deref());
        let secret = self.one_value(&what, key.secret.as_ref(), env, file)?;
        match secret {
            Some(secret) if secret.len() >= 16 => Ok(Secret::new(secret)),
            Some(_) => Err(ConfigError::Value(format!("{what}: at least 16 bytes are needed"))),
            None => Err(ConfigError::Value(format!("{what}: give it, its _env or its _file"))),
        }
    }

    /// How long a task is held without a sign of life; at least a second.
    pub fn lease(&self) -> Duration {
        self.state.lease.map_or(DEFAULT_LEASE, |lease| lease.0.max(Duration::from_secs(1)))
    }

    /// Address of a configured database, or `None` when there is no such name.
    pub fn database_url(&self, name: &DatabaseName) -> Result<Option<DatabaseUrl>, ConfigError> {
        let Some(database) = self.databases.get(name) else { return Ok(None) };
        let what = format!("url of [database.{name}]");
        let plain = database.url.as_ref().map(|secret| secret.reveal().to_owned());
        let text = self.value(&what, plain, database.url_env.as_deref(), database.url_file.as_deref())?;
        self.parse_url(&what, &text.unwrap_or_default()).map(Some)
    }

    /// Scratch address of a configured database, where it has one.
    pub fn scratch_url(&self, name: &DatabaseName) -> Result<Option<DatabaseUrl>, ConfigError> {
        let Some(database) = self.databases.get(name) else { return Ok(None) };
        let (env, file) = (database.scratch_url_env.as_deref(), database.scratch_url_file.as_deref());
        self.other_url(&format!("scratch_url of [database.{name}]"), database.scratch_url.as_ref(), env, file)
    }

    /// Address by which a configured database is fenced, where it has one of its own.
    pub fn admin_url(&self, name: &DatabaseName) -> Result<Option<DatabaseUrl>, ConfigError> {
        let Some(database) = self.databases.get(name) else { return Ok(None) };
        let (env, file) = (database.admin_url_env.as_deref(), database.admin_url_file.as_deref());
        self.other_url(&format!("admin_url of [database.{name}]"), database.admin_url.as_ref(), env, file)
    }

    fn other_url(
        &self,
        what: &str,
        plain: Option<&Secret>,
        env: Option<&str>,
        file: Option<&Path>,
    ) -> Result<Option<DatabaseUrl>, ConfigError> {
        let text = self.one_value(what, plain, env, file)?;
        text.map(|text| self.parse_url(what, &text)).transpose()
    }

    /// A value given at most one way.
    fn one_value(
        &self,
        what: &str,
        plain: Option<&Secret>,
        env: Option<&str>,
        file: Option<&Path>,
    ) -> Result<Option<String>, ConfigError> {
        let given = [plain.is_some(), env.is_some(), file.is_some()];
        if given.iter().filter(|given| **given).count() > 1 {
            return Err(ConfigError::Value(format!("{what}: give at most one of it, its _env and its _file")));
        }
        self.value(what, plain.map(|secret| secret.reveal().to_owned()), env, file)
    }

    /// The key that signs the messages of a webhook, as it is written (`whsec_…`).
    ///
    /// `section` is named in errors, like `[prune.notify]`.
    pub fn webhook_secret(&self, section: &str, notify: &NotifyConfig) -> Result<Option<Secret>, ConfigError> {
        let what = format!("webhook_secret of {section}");
        let (env, file) = (notify.webhook_secret_env.as_deref(), notify.webhook_secret_file.as_deref());
        Ok(self.one_value(&what, notify.webhook_secret.as_ref(), env, file)?.map(Secret::new))
    }

    fn parse_url(&self, what: &str, text: &str) -> Result<DatabaseUrl, ConfigError> {
        let url: DatabaseUrl =
            text.trim().parse().map_err(|InvalidUrl(why)| ConfigError::Value(format!("{what}: {why}")))?;
        Ok(url.relative_to(&self.base))
    }

    /// A value given as it is, by an environment variable, or by a file.
    pub(crate) fn value(
        &self,
        what: &str,
        plain: Option<String>,
        env: Option<&str>,
        file: Option<&Path>,
    ) -> Result<Option<String>, ConfigError> {
        if plain.is_some() {
            return Ok(plain);
        }
        if let Some(name) = env {
            let value = std::env::var(name).ok().filter(|value| !value.trim().is_empty());
            let missing = || ConfigError::Value(format!("{what}: the environment variable {name} is not set or empty"));
            return value.map(|value| Some(value.trim().to_owned())).ok_or_else(missing);
        }
        if let Some(file) = file {
            let path = self.base.join(file);
            let text = std::fs::read_to_string(&path)
                .map_err(|error| ConfigError::Value(format!("{what}: {}: {error}", path.display())))?;
            return Ok(Some(text.trim().to_owned()));
        }
        Ok(None)
    }
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'-')
}

/// Adds the nearest known name to serde's message about an unknown one.
fn with_suggestion(message: &str) -> String {
    let mut quoted = message.split('`').skip(1).step_by(2);
    let (Some(unknown), true) = (quoted.next(), message.starts_with("unknown ")) else { return message.to_owned() };
    match nearest(unknown, quoted) {
        Some(nearest) => format!("{message}; did you mean `{nearest}`?"),
        None => message.to_owned(),
    }
}

/// The known name that looks most like `unknown`, if one does.
pub fn nearest<'a>(unknown: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let likeness = |name: &&str| strsim::jaro_winkler(unknown, name);
    known.max_by(|a, b| likeness(a).total_cmp(&likeness(b))).filter(|nearest| likeness(nearest) > 0.7)
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Config, ConfigError> {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("holdfast.toml");
        std::fs::write(&path, text).expect("writes");
        Config::load(Some(&path))
    }

    #[test]
    fn relative_paths_count_from_the_file() {
        let config = load("[database.shop]\nurl = \"sqlite:data/shop.db\"\n").expect("valid");
        let url = config.database_url(&"shop".parse().expect("valid")).expect("readable").expect("there");
        assert_eq!(url, DatabaseUrl::Sqlite(config.base.join("data/shop.db")));
    }

    /// The keys of a section in the example, those commented out too, as `key = value`.
    fn example_keys(section: &str) -> Vec<String> {
        let text = include_str!("../../ops/holdfast.example.toml");
        let heading = format!("[{section}]");
        // A section that is off by default is commented out with its heading.
        let is_heading = |line: &&str| line.trim_start_matches('#') == heading;
        assert!(text.lines().any(|line| is_heading(&line)), "the example has no {heading}");
        let lines = text.lines().skip_while(|line| !is_heading(line)).skip(1);
        let lines = lines.take_while(|line| !line.starts_with('[') && !line.starts_with("#["));
        let lines = lines.map(|line| line.strip_prefix('#').unwrap_or(line));
        lines.filter(|line| line.starts_with(char::is_lowercase) && line.contains(" = ")).map(str::to_owned).collect()
    }

    fn key_of(line: &str) -> &str {
        line.split(' ').next().unwrap_or_default()
    }

    #[test]
    fn the_example_shows_every_key_and_each_is_known() {
        load(include_str!("../../ops/holdfast.example.toml")).expect("valid as it stands");
        let sections = [
            "store",
            "state",
            "queue",
            "queue.key.deployer",
            "agent",
            "prune",
            "database.shop",
            "database.shop.notify",
            "database.shop.migrations",
            "[database.shop.migrations.then]",
            "[database.shop.checks]",
            "database.shop.hooks",
            "database.shop.window",
        ];
        for section in sections {
            let migrations = "[database.shop]\nurl = \"sqlite:x\"\n[database.shop.migrations]\nrunner = \"sql\"\ndirectory = \"m\"\n";
            let head = match section {
                "[database.shop.migrations.then]" => migrations,
                section if section.contains("database.shop.") => "[database.shop]\nurl = \"sqlite:x\"\n",
                _ => "",
            };
            let lines = example_keys(section);
            for line in &lines {
                let needed = match (section, key_of(line)) {
                    ("database.shop", key) if !key.starts_with("url") => "url = \"sqlite:x\"\n",
                    ("queue.key.deployer", key) if key != "principal" => "principal = \"x\"\n",
                    ("database.shop.migrations", "runner") => "directory = \"m\"\n",
                    ("database.shop.migrations", "directory") => "runner = \"sql\"\n",
                    ("database.shop.migrations", _) => "runner = \"sql\"\ndirectory = \"m\"\n",
                    ("[database.shop.migrations.then]", key) if key != "name" => "name = \"x\"\n",
                    ("[database.shop.checks]", "name") => "sql = \"x\"\nexpect = \"zero\"\n",
                    ("[database.shop.checks]", "sql") => "name = \"x\"\nexpect = \"zero\"\n",
                    ("[database.shop.checks]", "expect") => "name = \"x\"\nsql = \"x\"\n",
                    ("[database.shop.checks]", _) => "name = \"x\"\nsql = \"x\"\nexpect = \"zero\"\n",
                    ("database.shop.window", "from") => "to = \"04:00\"\n",
                    ("database.shop.window", "to") => "from = \"02:00\"\n",
                    ("database.shop.window", _) => "from = \"02:00\"\nto = \"04:00\"\n",
                    _ => "",
                };
                load(&format!("{head}[{section}]\n{needed}{line}\n")).expect(line);
            }
            // serde names every key it knows when it meets one it does not.
            let error = load(&format!("{head}[{section}]\nzzz = 1\n")).expect_err("zzz").to_string();
            let known: std::collections::BTreeSet<&str> = error.split('`').skip(3).step_by(2).collect();
            let shown: std::collections::BTreeSet<&str> = lines.iter().map(|line| key_of(line)).collect();
            let tables =
                std::collections::BTreeSet::from(["notify", "migrations", "key", "then", "checks", "hooks", "window"]);
            let missing: Vec<_> = known.difference(&shown).filter(|key| !tables.contains(*key)).collect();
            assert!(missing.is_empty() && known.len() > 2, "[{section}] does not show {missing:?}: {error}");
        }
    }

    #[test]
    fn the_defaults_are_those_the_example_names() {
        let config = load("").expect("an empty file is fine");
        let shown = load(
            &["queue", "agent", "prune"]
                .map(|section| {
                    let keys = example_keys(section).into_iter().filter(|line| key_of(line) != "notify");
                    format!("[{section}]\n{}\n", keys.collect::<Vec<_>>().join("\n"))
                })
                .concat(),
        )
        .expect("valid");
        assert_eq!(format!("{:?}", config.agent), format!("{:?}", shown.agent));
        assert_eq!(config.prune.grace, shown.prune.grace);
        assert_eq!(config.prune.schedule.cron, shown.prune.schedule.cron);
        assert_eq!(config.prune.schedule.jitter, shown.prune.schedule.jitter);
        assert_eq!(config.state_url().expect("valid"), DatabaseUrl::Sqlite(config.base.join("holdfast-state.db")));
        assert_eq!(config.spool(), config.base.join("holdfast-spool"));
    }

    #[test]
    fn lengths_of_time_as_people_write_them() {
        let length = |text: &str| Time::try_from(text.to_owned()).map(|time| time.0.as_secs());
        let written = ["90s", "10m", "72h", "30d", "1w", "1d 12h", "0s"].map(length);
        assert_eq!(written, [90, 600, 259_200, 2_592_000, 604_800, 129_600, 0].map(Ok));
        let shown = ["90s", "10m", "72h", "1w 1h", "0s", "1d 1m 1s"].map(|text| Time::try_from(text.to_owned()));
        let shown: Vec<_> = shown.into_iter().map(|time| time.map(|time| time.to_string())).collect();
        assert_eq!(shown, ["1m 30s", "10m", "3d", "7d 1h", "0s", "1d 1m 1s"].map(|text| Ok(text.to_owned())));
        for bad in ["", "5", "-3h", "1 month", "9999999999999h", "soon", "400000d"] {
            assert!(length(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn mistakes_are_named_and_secrets_are_not_repeated() {
        for (text, expected) in [
            ("[store]\nurll = \"x\"", "did you mean `url`?"),
            ("[database.shop]\nurl = \"sqlite:x\"\nretention = { dayly = 7 }", "did you mean `daily`?"),
            ("[database.shop]\nurl = \"sqlite:x\"\nschedul = 7", "did you mean `schedule`?"),
            ("[prunes]", "did you mean `prune`?"),
            ("[database.shop]\nurl = \"sqlite:x\"\ndrill = \"weekly\"", "\"after-backup\", \"never\" or a schedule"),
            ("[prune]\ngrace = \"soon\"", "no length of time"),
            ("[database.shop]\nurl = \"sqlite:x\"\nretention = { last = -1 }", "line 3"),
            ("[database.Shop]\nurl = \"sqlite:x\"", "cannot name a database"),
            ("[database.shop]\n", "exactly one of"),
            ("[database.shop]\nurl = \"postgres://u:s3cret@h/d\"\nbogus = 1", "unknown field `bogus`"),
            ("[database.shop]\nurl = \"postgres://u:s3cret@h/d\n", "line 2"),
        ] {
            let error = load(text).expect_err(text).to_string();
            assert!(error.contains(expected), "{text:?}: {error}");
            assert!(!error.contains("s3cret"), "{error}");
        }
    }
}
