//! Everything the agent works with.

use crate::error::Error;
use crate::guards::GuardOptions;
use crate::health::Health;
use crate::notify::Notifier;
use crate::policy::Policies;
use crate::repository::{Codec, Repository};
use shared::clock::Clock;
use shared::config::Config;
use shared::connect::{self, StoreUse};
use shared::model::Identity;
use shared::store::Store;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Everything the agent works with; passed in, so that a test can give it another store and another clock.
pub struct World {
    /// The configuration.
    pub config: Config,
    /// Its schedules and retention, understood.
    pub policies: Policies,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Who is told.
    pub notifier: Arc<Notifier>,
    /// What others may ask.
    pub health: Arc<Health>,
    store: StoreSource,
    repository: tokio::sync::Mutex<Option<Repository>>,
    busy: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

/// Where the store comes from.
pub enum StoreSource {
    /// The one named on the command line, else the configured one.
    Configured(Option<String>),
    /// This one.
    Given(Arc<dyn Store>),
}

/// A loop that has not turned for so long is dead. It looks every 5 s; the record answers or fails within 15 s a call.
const ALIVE_WITHIN: Duration = Duration::from_secs(120);

impl World {
    /// Understands the configuration; touches nothing.
    pub fn new(config: Config, clock: Arc<dyn Clock>, store: StoreSource) -> Result<Self, Error> {
        let policies = Policies::of(&config)?;
        let notifier = Arc::new(Notifier::new(&config)?);
        let health = Arc::new(Health::new(clock.clone(), ALIVE_WITHIN));
        let (repository, busy) = (tokio::sync::Mutex::new(None), Mutex::default());
        Ok(World { config, policies, clock, notifier, health, store, repository, busy })
    }

    /// The repository, made where there is none; opened once.
    pub async fn repository(&self) -> Result<Repository, Error> {
        let mut opened = self.repository.lock().await;
        if let Some(repository) = &*opened {
            return Ok(repository.clone());
        }
        let store = match &self.store {
            StoreSource::Given(store) => store.clone(),
            StoreSource::Configured(named) => connect::store(&self.config, named.as_deref(), StoreUse::Write).await?,
        };
        let (repository, is_new) = Repository::open_or_init(store, Codec::Gzip).await?;
        if is_new {
            tracing::info!(store = repository.store().describe(), "made a new repository");
        } else {
            repository.refresh_open_restore().await?;
        }
        let repository = repository.with_clock(self.clock.clone());
        *opened = Some(repository.clone());
        Ok(repository)
    }

    /// What the guards of forgetting and pruning have to know.
    pub fn guards(&self) -> GuardOptions {
        self.policies.guards(&self.config, self.clock.now())
    }

    /// The lock of a database, whatever it is called.
    pub fn one_at_a_time(&self, identity: &Identity) -> Arc<tokio::sync::Mutex<()>> {
        let mut busy = self.busy.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        busy.entry(identity.to_string()).or_default().clone()
    }
}
