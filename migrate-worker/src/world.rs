//! What migrations work with.

use crate::Error;
use backup_agent::repository::{Codec, Repository};
use shared::clock::Clock;
use shared::config::{Config, DatabaseConfig, MigrationsConfig};
use shared::connect::{self, StoreUse};
use shared::model::{DatabaseName, DatabaseUrl};
use std::path::PathBuf;
use std::sync::Arc;

/// What migrations work with; passed in.
pub struct World {
    /// The configuration.
    pub config: Config,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    store: Option<String>,
    repository: tokio::sync::Mutex<Option<Repository>>,
}

impl World {
    /// Works by `config`; `store` replaces the configured one.
    pub fn new(config: Config, clock: Arc<dyn Clock>, store: Option<String>) -> Self {
        World { config, clock, store, repository: tokio::sync::Mutex::new(None) }
    }

    /// The repository, made where there is none; opened once.
    pub async fn repository(&self) -> Result<Repository, Error> {
        let mut opened = self.repository.lock().await;
        if let Some(repository) = &*opened {
            return Ok(repository.clone());
        }
        let store = connect::store(&self.config, self.store.as_deref(), StoreUse::Write).await?;
        let (repository, is_new) = Repository::open_or_init(store, Codec::Gzip).await?;
        if !is_new {
            repository.refresh_open_restore().await?;
        }
        let repository = repository.with_clock(self.clock.clone());
        *opened = Some(repository.clone());
        Ok(repository)
    }

    /// A configured database. Refuses one the configuration does not know.
    pub fn database(&self, name: &DatabaseName) -> Result<&DatabaseConfig, Error> {
        self.config.databases.get(name).ok_or_else(|| unknown(name))
    }

    /// Address of a database that is to be migrated. Refuses one the configuration does not know.
    pub fn url(&self, name: &DatabaseName) -> Result<DatabaseUrl, Error> {
        self.config.database_url(name)?.ok_or_else(|| unknown(name))
    }

    /// How a database is migrated. Refuses one that is not.
    pub fn migrations(&self, name: &DatabaseName) -> Result<&MigrationsConfig, Error> {
        self.database(name)?.migrations.as_ref().ok_or_else(|| {
            let message = format!("nobody said how {name} is migrated");
            let hint = format!("add [database.{name}.migrations] with runner and directory");
            Error::Refused { message, hint: Some(hint) }
        })
    }

    /// The folder of this machine for everything a task makes besides databases.
    pub fn folder(&self, job: &shared::model::JobId) -> PathBuf {
        backup_agent::journal::folder_of(&self.config.spool(), job)
    }
}

fn unknown(name: &DatabaseName) -> Error {
    Error::refused(format!("{name} is no configured database"), "name one of the sections [database.…]")
}
