//! One side of a comparison: a backup, a database of the configuration, or any database by its URL.

use super::{Failure, Global, open};
use crate::choose;
use crate::error::Error;
use crate::repository::{Repository, StoredBackup};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use shared::config::Config;
use shared::connect;
use shared::engine::{DumpSource, Engine};
use shared::model::{DatabaseName, DatabaseUrl, EngineKind, Structure, parse_at};

/// What is compared.
pub enum Side {
    /// A stored backup.
    Backup(Box<StoredBackup>),
    /// A database, which is only read.
    Database {
        /// Its name in the configuration, where it has one.
        name: Option<DatabaseName>,
        /// It.
        engine: Box<dyn Engine>,
    },
}

impl Side {
    /// Understands `NAME` of the configuration, a URL, `DATABASE/BACKUP-ID`, a beginning of an id, and
    /// `DATABASE@latest` or another time. The repository is opened only where a backup is meant.
    pub async fn open(global: &Global, config: &Config, text: &str) -> Result<Self, Failure> {
        if let Some((database, at)) = text.split_once('@').filter(|_| !DatabaseUrl::looks_like_one(text)) {
            return by_time(&global.repository(config).await?, database, at).await;
        }
        if let Some(side) = Side::database(config, text)? {
            return Ok(side);
        }
        Ok(Side::Backup(Box::new(backup(&global.repository(config).await?, text).await?)))
    }

    /// The database that `text` means, where it means one and no backup.
    pub fn database(config: &Config, text: &str) -> Result<Option<Self>, Failure> {
        if text.contains(':') {
            let url = text.parse::<DatabaseUrl>().map_err(|error| Failure::Usage(format!("{error}")))?;
            return Ok(Some(Side::Database { name: None, engine: connect::engine(url) }));
        }
        let Ok(name) = text.parse::<DatabaseName>() else { return Ok(None) };
        let url = config.database_url(&name).map_err(Error::from)?;
        Ok(url.map(|url| Side::Database { name: Some(name), engine: connect::engine(url) }))
    }

    /// Which product it is of.
    pub fn kind(&self) -> EngineKind {
        match self {
            Side::Backup(backup) => backup.manifest().header.engine,
            Side::Database { engine, .. } => engine.kind(),
        }
    }

    /// What it is called: never a password.
    pub fn describe(&self) -> String {
        match self {
            Side::Backup(backup) => format!("backup {}", backup.name()),
            Side::Database { name: Some(name), engine } => format!("{name} ({})", engine.describe()),
            Side::Database { name: None, engine } => engine.describe(),
        }
    }

    /// Its structure.
    pub async fn structure(&self) -> Result<Structure, Error> {
        Ok(match self {
            Side::Backup(backup) => Structure::from(backup.fingerprint()),
            Side::Database { engine, .. } => engine.structure().await?,
        })
    }
}

async fn by_time(repository: &Repository, database: &str, at: &str) -> Result<Side, Failure> {
    let wrong = |error: String| Failure::Usage(error);
    let name: DatabaseName = database.parse().map_err(|error| wrong(format!("{error}")))?;
    let at = parse_at(at, Timestamp::now(), &TimeZone::system()).map_err(|error| wrong(error.to_string()))?;
    let chosen = choose::by_time(repository, &name, &at).await?;
    open::warn_of_damage(&chosen);
    Ok(Side::Backup(Box::new(StoredBackup::open(repository, chosen.manifest).await?)))
}

/// The backup that `<database>/<id>` or a beginning of an id means.
pub async fn backup(repository: &Repository, text: &str) -> Result<StoredBackup, Failure> {
    let chosen = open::backup(repository, text).await?;
    Ok(StoredBackup::open(repository, chosen.manifest).await?)
}
