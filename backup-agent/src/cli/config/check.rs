//! `backup-agent config check`: gathers what the configuration means. Reads databases and the store, changes nothing.

use super::super::{Done, Failure, Global, put_line, text};
use super::print;
use crate::agent::schedule_name;
use crate::error::Error;
use crate::policy::{DatabasePolicy, Policies, secrecy};
use crate::repository::Repository;
use crate::retain::candidate;
use crate::retention::{Candidate, Verdict};
use crate::schedule::Schedule;
use crate::state::state_is_apart;
use clap::Args;
use futures_util::future::join_all;
use jiff::{Timestamp, Zoned};
use shared::config::{Config, DatabaseConfig, MigrationsConfig};
use shared::connect;
use shared::model::{DatabaseName, DatabaseUrl, Identity, TaskKind};
use std::path::PathBuf;
use std::time::Duration;

/// Shows what the configuration means: places, the next runs, what retention would keep; changes nothing
#[derive(Debug, Args)]
#[command(after_help = "Example: backup-agent --config /etc/holdfast/holdfast.toml config check")]
pub struct Check {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// How long a database may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the store may take to be opened.
const STORE_PATIENCE: Duration = Duration::from_secs(20);
/// So many runs are shown of each schedule.
const SHOWN_RUNS: usize = 5;

/// What a configuration means.
pub(super) struct Report {
    pub(super) file: Option<PathBuf>,
    pub(super) store: String,
    /// Why the store could not be read, if so.
    pub(super) store_error: Option<String>,
    pub(super) state: String,
    /// The broker's address without credentials, and the queue.
    pub(super) queue: Option<String>,
    pub(super) spool: PathBuf,
    /// How long a task is held without a sign of life.
    pub(super) lease: Duration,
    pub(super) policies: Policies,
    pub(super) databases: Vec<DatabaseReport>,
    pub(super) prune: Runs,
    pub(super) warnings: Vec<String>,
}

/// What it means for one database.
pub(super) struct DatabaseReport {
    pub(super) name: DatabaseName,
    /// Its address, without a password.
    pub(super) url: DatabaseUrl,
    pub(super) policy: DatabasePolicy,
    /// Which database answers there.
    pub(super) identity: Result<Identity, String>,
    pub(super) backups: Option<Runs>,
    pub(super) drills: Option<Runs>,
    /// What retention says of the backups there are; none where there is no retention or they could not be read.
    pub(super) verdicts: Option<Vec<Verdict>>,
    /// How it is migrated, where it is.
    pub(super) migrations: Option<MigrationsReport>,
}

/// How a database is migrated. Of the tool's variables only the names: values may be secrets.
pub(super) struct MigrationsReport {
    pub(super) section: MigrationsConfig,
    /// Absolute.
    pub(super) directory: PathBuf,
    /// What is declared around it, on one line; none where nothing is.
    pub(super) declared: Option<String>,
    /// As whom the database is fenced, without a password; none where that is the application's role.
    pub(super) admin_url: Option<DatabaseUrl>,
    /// Where it is rehearsed, without a password; none where that is beside it.
    pub(super) scratch_url: Option<DatabaseUrl>,
}

/// The next runs of a schedule.
pub(super) struct Runs {
    pub(super) schedule: Schedule,
    /// How much later than its slots it begins.
    pub(super) delay: Duration,
    pub(super) next: Vec<Zoned>,
}

impl Runs {
    fn of(schedule: &Schedule, name: &str, now: Timestamp) -> Self {
        let delay = schedule.delay(name);
        // A run whose slot is over may still lie ahead.
        let slots = schedule.slots_after(now.checked_sub(delay).unwrap_or(now));
        let begins = slots.filter_map(|slot| slot.checked_add(delay).ok());
        let next = begins.take(SHOWN_RUNS).map(|at| at.to_zoned(schedule.zone().clone())).collect();
        Runs { schedule: schedule.clone(), delay, next }
    }
}

impl Check {
    pub(super) async fn run(self, global: &Global) -> Done {
        let config = global.config()?;
        let report = report(&config, global).await?;
        for warning in &report.warnings {
            say!("warning: {warning}");
        }
        if self.json {
            let text = serde_json::to_string_pretty(&print::json(&report));
            put_line(&text.map_err(|error| Failure::Usage(error.to_string()))?);
        } else {
            print::text(&report);
        }
        Ok(())
    }
}

async fn report(config: &Config, global: &Global) -> Result<Report, Error> {
    // What can be wrong without asking anybody comes first.
    let policies = Policies::of(config)?;
    let mut warnings = secrecy::check(config)?;
    state_is_apart(config).await?;
    let store = connect::store_url(config, global.store.as_deref())?;
    let state = config.state_url()?;
    let urls = urls(config)?;

    let now = shared::clock::system().now();
    let asked = urls.iter().map(|(_, url)| identity(url.clone()));
    let (identities, repository) = tokio::join!(join_all(asked), repository(config, global));
    let (repository, store_error) = match repository {
        Ok(repository) => (Some(repository), None),
        Err(why) => (None, Some(why)),
    };
    let mut databases = Vec::new();
    for ((name, url), identity) in urls.into_iter().zip(identities) {
        let Some(policy) = policies.databases.get(&name).cloned() else { continue };
        let verdicts = match (&repository, &policy.retention) {
            (Some(repository), Some(_)) => Some(verdicts(repository, &name, &policy, now).await?),
            _ => None,
        };
        let migrations = migrations(config, &name)?;
        databases.push(DatabaseReport { migrations, ..database(name, url, policy, identity, verdicts, now) });
    }
    warnings.extend(warnings_of(&databases, &policies));
    let prune = Runs::of(&policies.prune.schedule, &schedule_name(TaskKind::Prune, None), now);
    Ok(Report {
        file: config.path.clone(),
        store,
        store_error,
        state: state.to_string(),
        queue: config.queue()?.map(|broker| format!("{} {}", broker.place(), broker.queue())),
        spool: config.spool(),
        lease: config.lease(),
        policies,
        databases,
        prune,
        warnings,
    })
}

fn database(
    name: DatabaseName,
    url: DatabaseUrl,
    policy: DatabasePolicy,
    identity: Result<Identity, String>,
    verdicts: Option<Vec<Verdict>>,
    now: Timestamp,
) -> DatabaseReport {
    let runs = |kind, schedule| Runs::of(schedule, &schedule_name(kind, Some(&name)), now);
    let backups = policy.schedule.as_ref().map(|schedule| runs(TaskKind::Backup, schedule));
    let drills = policy.drill_schedule().map(|schedule| runs(TaskKind::Drill, schedule));
    DatabaseReport { name, url, policy, identity, backups, drills, verdicts, migrations: None }
}

fn migrations(config: &Config, name: &DatabaseName) -> Result<Option<MigrationsReport>, Error> {
    let Some(database) = config.databases.get(name) else { return Ok(None) };
    let Some(section) = database.migrations.clone() else { return Ok(None) };
    let declared = declared(database);
    let directory = config.base.join(&section.directory);
    let (admin_url, scratch_url) = (config.admin_url(name)?, config.scratch_url(name)?);
    Ok(Some(MigrationsReport { section, directory, declared, admin_url, scratch_url }))
}

/// Checks, hooks and window; commands are not shown, since they may name what is secret.
fn declared(database: &DatabaseConfig) -> Option<String> {
    let checks = database.checks.len();
    let window = database.window.as_ref().map(|window| {
        let zone = window.timezone.as_deref().unwrap_or("UTC");
        format!("from {} to {} {zone} only", window.from, window.to)
    });
    let declared = [
        (checks > 0).then(|| text::counted(checks, "check")),
        (!database.hooks.is_empty()).then(|| "hooks of the application".to_owned()),
        window,
    ];
    let declared: Vec<String> = declared.into_iter().flatten().collect();
    (!declared.is_empty()).then(|| declared.join(", "))
}

fn urls(config: &Config) -> Result<Vec<(DatabaseName, DatabaseUrl)>, Error> {
    let mut urls = Vec::new();
    for name in config.databases.keys() {
        config.scratch_url(name)?;
        config.admin_url(name)?;
        if let Some(url) = config.database_url(name)? {
            urls.push((name.clone(), url));
        }
    }
    Ok(urls)
}

async fn identity(url: DatabaseUrl) -> Result<Identity, String> {
    let engine = connect::engine(url);
    match tokio::time::timeout(PATIENCE, engine.probe()).await {
        Ok(Ok(probe)) => Ok(probe.identity),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {} seconds", PATIENCE.as_secs())),
    }
}

async fn repository(config: &Config, global: &Global) -> Result<Repository, String> {
    match tokio::time::timeout(STORE_PATIENCE, global.repository(config)).await {
        Ok(repository) => repository.map_err(|error| error.facts()),
        Err(_) => Err(format!("no answer within {} seconds", STORE_PATIENCE.as_secs())),
    }
}

async fn verdicts(
    repository: &Repository,
    name: &DatabaseName,
    policy: &DatabasePolicy,
    now: Timestamp,
) -> Result<Vec<Verdict>, Error> {
    let Some(retention) = &policy.retention else { return Ok(Vec::new()) };
    let candidates: Vec<Candidate> = repository.backups(name).await?.iter().map(candidate).collect();
    Ok(retention.plan(&candidates, now, &policy.zone()))
}

fn warnings_of(databases: &[DatabaseReport], policies: &Policies) -> Vec<String> {
    let mut warnings = Vec::new();
    for (at, database) in databases.iter().enumerate() {
        let name = &database.name;
        if let Err(why) = &database.identity {
            warnings.push(format!("{name} does not answer: {why}"));
        }
        let twin = |other: &&DatabaseReport| database.identity.is_ok() && other.identity == database.identity;
        if let Some(other) = databases[..at].iter().find(twin) {
            warnings.push(format!(
                "{} and {name} are one database; each has its own backups, and they are never made at the same time",
                other.name
            ));
        }
        if let Some(migrations) = database.migrations.as_ref().filter(|migrations| !migrations.directory.is_dir()) {
            warnings.push(format!("the migrations of {name} are not there: {}", migrations.directory.display()));
        }
        if database.policy.retention.is_some() && database.policy.schedule.is_none() {
            warnings.push(format!("{name} has retention, but no schedule: the agent makes no backups of it"));
        }
        let future = |verdict: &&Verdict| verdict.reasons.iter().any(|reason| reason.starts_with("dated after now"));
        let future = database.verdicts.iter().flatten().filter(future).count();
        if future > 0 {
            let backups = super::super::text::counted(future, "backup");
            warnings.push(format!("{backups} of {name} dated after now: some clock was wrong"));
        }
    }
    if let Some(listen) = policies.listen.filter(|listen| !listen.ip().is_loopback()) {
        warnings.push(format!("the agent answers everybody who reaches {listen}: there is no password"));
    }
    warnings
}
