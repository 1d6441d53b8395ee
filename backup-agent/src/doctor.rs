//! Looks at everything backups and restores need, before they need it: what works, what does not, and what to do.

use crate::cli::text;
use crate::error::Error;
use crate::policy::{Policies, secrecy};
use crate::repository::{Repository, layout};
use crate::state::state_is_apart;
use crate::target::Live;
use bytes::Bytes;
use jiff::Timestamp;
use serde::Serialize;
use shared::clock::Clock;
use shared::config::Config;
use shared::connect::{self, StoreUse};
use shared::model::{DatabaseName, DatabaseUrl};
use shared::store::{PutMode, Store};
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How long one thing may take to answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// How far the store's clock may be from ours: retention refuses to remove anything beyond that.
const SKEW_S: i64 = 300;

/// How well something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// It works.
    Good,
    /// Something will not work that not everybody needs.
    Warning,
    /// Backups or restores will fail.
    Bad,
}

/// What was found out about one thing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What it is about: `store`, `record`, a database's name.
    pub about: String,
    /// How well it is.
    pub health: Health,
    /// Facts.
    pub fact: String,
    /// What a person can do, where something can be done.
    pub remedy: Option<String>,
}

impl Finding {
    /// Something that works.
    pub fn good(about: impl ToString, fact: impl Into<String>) -> Self {
        Finding { about: about.to_string(), health: Health::Good, fact: fact.into(), remedy: None }
    }

    /// Something that not everybody needs does not work.
    pub fn warning(about: impl ToString, fact: impl Into<String>, remedy: Option<String>) -> Self {
        Finding { about: about.to_string(), health: Health::Warning, fact: fact.into(), remedy }
    }

    /// Something does not work.
    pub fn bad(about: impl ToString, fact: impl Into<String>, remedy: Option<String>) -> Self {
        Finding { about: about.to_string(), health: Health::Bad, fact: fact.into(), remedy }
    }

    /// The same of an error.
    pub fn of(about: impl ToString, error: &Error) -> Self {
        Finding::bad(about, error.facts(), error.hint().map(str::to_owned))
    }
}

/// What is looked at.
pub struct Patient<'a> {
    /// The configuration.
    pub config: &'a Config,
    /// The store named on the command line, if one was.
    pub store: Option<&'a str>,
    /// Our clock.
    pub clock: Arc<dyn Clock>,
}

/// Examines configuration, store, record, spool and every database. Changes nothing but a probe object in the store and
/// a file in the spool, both of which are removed again; the record is made where there is none.
pub async fn examine(patient: &Patient<'_>) -> Vec<Finding> {
    let config = patient.config;
    let mut list = configuration(config);
    list.extend(record(patient).await);
    list.extend(store(patient).await);
    let mut largest = 0;
    for name in config.databases.keys() {
        let (findings, bytes) = database(config, name).await;
        largest = largest.max(bytes);
        list.extend(findings);
    }
    list.push(spool(&config.spool(), largest));
    list
}

fn configuration(config: &Config) -> Vec<Finding> {
    let about = "configuration";
    let place = config.path.as_ref().map_or("none: defaults are used".to_owned(), |path| path.display().to_string());
    if let Err(error) = Policies::of(config) {
        return vec![Finding::of(about, &error.into())];
    }
    match secrecy::check(config) {
        Err(error) => vec![Finding::of(about, &error)],
        Ok(warnings) if warnings.is_empty() => vec![Finding::good(about, place)],
        Ok(warnings) => warnings
            .into_iter()
            .map(|warning| Finding::warning(about, warning, Some("chmod 600 it, unless its group is meant".into())))
            .collect(),
    }
}

async fn record(patient: &Patient<'_>) -> Vec<Finding> {
    let asked = async {
        state_is_apart(patient.config).await?;
        let log = connect::task_log(patient.config, patient.clock.clone()).await?;
        log.last_slot("doctor").await?;
        Ok::<_, Error>(log.describe())
    };
    vec![match patiently(asked).await {
        Ok(place) => Finding::good("record", format!("{place} answers")),
        Err(error) => Finding::of("record", &error),
    }]
}

async fn store(patient: &Patient<'_>) -> Vec<Finding> {
    let about = "store";
    let tried = async {
        let store = connect::store(patient.config, patient.store, StoreUse::Write).await?;
        let modified = tried(&*store).await?;
        Ok::<_, Error>((store, modified))
    };
    let (store, modified) = match patiently(tried).await {
        Ok(done) => done,
        Err(error) => return vec![Finding::of(about, &error)],
    };
    let place = store.describe();
    let mut list = vec![Finding::good(about, format!("{place}: an object was written, read and deleted"))];
    list.push(skew(modified, patient.clock.now()));
    list.push(match Repository::open(store).await {
        Ok(repository) => {
            let codec = repository.config().codec.name();
            let exclusive = if repository.config().conditional_put { "" } else { "; it cannot write conditionally" };
            Finding::good("repository", format!("format {}, {codec}{exclusive}", repository.config().format))
        }
        Err(Error::Refused { message, .. }) => {
            Finding::warning("repository", message, Some("the first backup makes one, or backup-agent init".into()))
        }
        Err(error) => Finding::of("repository", &error),
    });
    list
}

/// Writes, reads and deletes an object; tells when the store says it was written.
async fn tried(store: &dyn Store) -> Result<Timestamp, Error> {
    let key = layout::probe(&layout::random_name());
    let body = Bytes::from_static(b"doctor\n");
    store.put(&key, body.clone(), PutMode::Replace).await?;
    let read = store.get(&key).await;
    let meta = store.head(&key).await;
    store.delete(&key).await?;
    if read? != body {
        return Err(Error::Damaged("the store gave back other bytes than were written".into()));
    }
    Ok(meta?.modified)
}

fn skew(store: Timestamp, ours: Timestamp) -> Finding {
    let seconds = ours.as_second() - store.as_second();
    if seconds.abs() <= SKEW_S {
        return Finding::good("clock", "this machine and the store agree");
    }
    let fact = format!("this machine's clock is {seconds} s ahead of the store's (behind, where negative)");
    Finding::bad("clock", fact, Some("set the clock (NTP): retention and prune refuse to remove anything".into()))
}

async fn database(config: &Config, name: &DatabaseName) -> (Vec<Finding>, u64) {
    let url = match config.database_url(name) {
        Ok(Some(url)) => url,
        Ok(None) => return (Vec::new(), 0),
        Err(error) => return (vec![Finding::of(name, &error.into())], 0),
    };
    let engine = connect::engine(url.clone());
    let probe = match patiently(engine.probe()).await {
        Ok(probe) => probe,
        Err(error) => return (vec![Finding::of(name, &error)], 0),
    };
    let size = text::size(probe.size_bytes);
    let fact = format!("{url} answers: {} {}, {size}", engine.kind(), probe.server_version);
    let mut list = vec![Finding::good(name, fact)];
    list.push(match patiently(engine.check_dump()).await {
        Ok(()) => {
            Finding::good(name, format!("everything in it may be read{}", tools(probe.client_version.as_deref())))
        }
        Err(error) => Finding::of(name, &error),
    });
    list.extend(in_place(config, name, &url).await);
    (list, probe.size_bytes)
}

fn tools(client: Option<&str>) -> String {
    client.map(|version| format!("; client tools {version}")).unwrap_or_default()
}

/// What restores in place and migrations need besides.
async fn in_place(config: &Config, name: &DatabaseName, url: &DatabaseUrl) -> Vec<Finding> {
    let about = |fact: &str| format!("no restore in place and no migration: {fact}");
    let live = match Live::open(config, name, url) {
        Ok(live) => live,
        Err(error) => {
            return vec![Finding::warning(name, about(&error.to_string()), error.hint().map(str::to_owned))];
        }
    };
    let Live::Postgres(live) = live else {
        return vec![Finding::good(name, "may be restored in place and migrated")];
    };
    match patiently(live.preflight()).await {
        Ok(obstacles) if obstacles.is_empty() => {
            vec![Finding::good(name, "may be restored in place and migrated")]
        }
        Ok(obstacles) => {
            obstacles.into_iter().map(|obstacle| Finding::warning(name, about(&obstacle.what), obstacle.hint)).collect()
        }
        Err(error) => vec![Finding::warning(name, about(&error.to_string()), None)],
    }
}

/// Whether the spool can be written, and has room for the largest database.
fn spool(spool: &Path, largest: u64) -> Finding {
    let tried = || -> std::io::Result<u64> {
        DirBuilder::new().recursive(true).mode(0o700).create(spool)?;
        tempfile::NamedTempFile::new_in(spool)?;
        let found = rustix::fs::statvfs(spool)?;
        Ok(found.f_bavail.saturating_mul(found.f_frsize))
    };
    let place = spool.display();
    match tried() {
        Err(error) => {
            let remedy = "give this user write permission there, or set spool in [state]";
            Finding::bad("spool", format!("{place} cannot be used: {error}"), Some(remedy.into()))
        }
        Ok(free) if free < largest => Finding::warning(
            "spool",
            format!("{place} has {} free, the largest database has {}", text::size(free), text::size(largest)),
            Some("free space there, or set spool in [state] to a larger disk".into()),
        ),
        Ok(free) => Finding::good("spool", format!("{place} can be written, {} free", text::size(free))),
    }
}

/// An answer, or that there was none in time.
pub async fn patiently<T, E: Into<Error>>(work: impl Future<Output = Result<T, E>>) -> Result<T, Error> {
    match tokio::time::timeout(PATIENCE, work).await {
        Ok(done) => done.map_err(Into::into),
        Err(_) => Err(Error::failed(format!("no answer within {} s", PATIENCE.as_secs()))),
    }
}
