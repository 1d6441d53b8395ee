//! Opens what the global options and arguments name.

use super::{Failure, Global, text};
use crate::choose::{self, Chosen};
use crate::error::Error;
use crate::repository::{Codec, Listed, Repository, StoredBackup};
use shared::config::{Config, ConfigError};
use shared::connect::{self, ConnectError, StoreUse};
use shared::engine::Engine;
use shared::model::{BackupId, DatabaseName, DatabaseUrl};
use shared::task_log::TaskLogError;

impl From<ConfigError> for Error {
    fn from(error: ConfigError) -> Self {
        Error::refused(error.to_string(), None)
    }
}

impl From<ConnectError> for Error {
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::Config(error) => error.into(),
            ConnectError::Store(error) => Error::opening(error),
            // Not there, or not ours: nothing was touched.
            ConnectError::TaskLog(error @ (TaskLogError::Unusable { .. } | TaskLogError::Missing { .. })) => {
                Error::Refused { message: error.to_string(), hint: error.hint().map(str::to_owned) }
            }
            ConnectError::TaskLog(error) => error.into(),
        }
    }
}

/// A database a person named.
pub struct Named {
    /// Its name in the repository.
    pub name: DatabaseName,
    /// Its address, where it is known.
    pub url: Option<DatabaseUrl>,
}

impl Global {
    /// Reads the configuration.
    pub fn config(&self) -> Result<Config, Error> {
        Ok(Config::load(self.config.as_deref())?)
    }

    /// Opens an existing repository.
    pub async fn repository(&self, config: &Config) -> Result<Repository, Error> {
        Repository::open(connect::store(config, self.store.as_deref(), StoreUse::Read).await?).await
    }

    /// Opens the repository, making it where there is none, and says so.
    pub async fn repository_to_write(&self, config: &Config, codec: Codec) -> Result<(Repository, bool), Error> {
        let store = connect::store(config, self.store.as_deref(), StoreUse::Write).await?;
        let (repository, is_new) = Repository::open_or_init(store, codec).await?;
        if is_new {
            say!("made a new repository in {}", repository.store().describe());
        } else {
            repository.refresh_open_restore().await?;
        }
        Ok((repository, is_new))
    }

    /// Who runs this, for the record.
    pub fn person(&self) -> String {
        let name = |variable| std::env::var(variable).ok().filter(|name| !name.is_empty());
        name("SUDO_USER").or_else(|| name("USER")).unwrap_or_else(|| "operator".into())
    }

    /// Whether progress is shown.
    pub fn shows_progress(&self) -> bool {
        !self.quiet
    }
}

/// Understands a DATABASE argument: a configured name, a URL, or (for commands that only need the repository) the name
/// of a database that has backups.
pub fn named(config: &Config, text: &str, name: Option<&DatabaseName>) -> Result<Named, Failure> {
    if DatabaseUrl::looks_like_one(text) {
        let url: DatabaseUrl = text.parse().map_err(|error| Failure::Usage(format!("{error}")))?;
        let name = match name {
            Some(name) => name.clone(),
            None => url.default_name().map_err(|error| Failure::Usage(format!("{error}; give one with --name")))?,
        };
        return Ok(Named { name, url: Some(url) });
    }
    let configured: DatabaseName = text.parse().map_err(|error| {
        Failure::Usage(format!(
            "{error}; a database is a name from the configuration, or a URL: sqlite:PATH, postgres://…"
        ))
    })?;
    let url = config.database_url(&configured).map_err(Error::from)?;
    Ok(Named { name: name.cloned().unwrap_or(configured), url })
}

/// The engine of a database that must have an address.
pub fn engine(config: &Config, named: &Named) -> Result<Box<dyn Engine>, Failure> {
    let Some(url) = named.url.clone() else {
        let file = config
            .path
            .as_ref()
            .map_or("no configuration file was found".into(), |path| format!("read: {}", path.display()));
        return Err(Failure::Usage(format!(
            "{} is no configured database ({file}); give a URL: sqlite:PATH or postgres://…",
            named.name
        )));
    };
    Ok(connect::engine(url))
}

/// The backup a BACKUP argument means: `<database>/<id>` or a unique beginning of an id.
pub async fn backup(repository: &Repository, text: &str) -> Result<Chosen, Error> {
    let chosen = choose::by_name(repository, text).await?;
    warn_of_damage(&chosen);
    Ok(chosen)
}

/// The same with its marks, whatever state its manifest is in.
pub async fn listed(repository: &Repository, text: &str) -> Result<Listed, Error> {
    let (database, id) = choose::key(repository, text).await?;
    let listed = repository.backup(&database, &id).await?;
    listed.ok_or_else(|| Error::failed(format!("backup {database}/{id} disappeared meanwhile")))
}

/// Tells of damage that was found before, and of newer backups that were passed over.
pub fn warn_of_damage(chosen: &Chosen) {
    let header = &chosen.manifest.header;
    for id in &chosen.passed_over {
        say!("warning: {}/{id} is newer, but not complete (backup-agent list says why)", header.database);
    }
    warn_of_packs(&header.database, &header.id, chosen.damaged_packs);
}

/// Tells how many packs of a backup were found damaged before, if any.
pub fn warn_of_packs(database: &DatabaseName, id: &BackupId, damaged: usize) {
    if damaged > 0 {
        let packs = text::counted(damaged, "pack");
        say!("warning: {packs} of backup {database}/{id} found damaged before (backup-agent verify tells more)");
    }
}

/// The address that `text` means, where it means a database and no backup.
pub fn database_meant(config: &Config, text: &str) -> Result<Option<DatabaseUrl>, Failure> {
    if text.contains(':') {
        return text.parse().map(Some).map_err(|error| Failure::Usage(format!("{error}")));
    }
    let Ok(name) = text.parse::<DatabaseName>() else { return Ok(None) };
    Ok(config.database_url(&name).map_err(Error::from)?)
}

/// A backup, opened.
pub async fn stored(repository: &Repository, text: &str) -> Result<StoredBackup, Failure> {
    let chosen = backup(repository, text).await?;
    Ok(StoredBackup::open(repository, chosen.manifest).await?)
}
