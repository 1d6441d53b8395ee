//! The agent inside the test, with a clock that the test turns and a store that follows it.

use crate::fake_clock::{ClockedStore, FakeClock};
use backup_agent::agent::{Agent, StoreSource, World};
use backup_agent::choose;
use backup_agent::repository::{Listed, Repository, StoredBackup};
use backup_agent::restore::{RestoreOptions, Restored, restore};
use jiff::{SignedDuration, Timestamp};
use shared::clock::Clock;
use shared::config::Config;
use shared::connect;
use shared::model::{DatabaseName, DatabaseUrl, Task};
use shared::store::fs::FsStore;
use shared::task_log::TaskFilter;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// An agent with a folder, a clock and a directory store of its own. `start` makes it anew, as after a restart.
pub struct AgentWorld {
    folder: tempfile::TempDir,
    /// The one clock of agent, leases, record and store.
    pub clock: FakeClock,
    store: ClockedStore<FsStore>,
    /// The agent.
    pub agent: Agent,
    /// What it works with.
    pub world: Arc<World>,
}

impl AgentWorld {
    /// An agent with this configuration, below which `[store]` and `[state]` keep their defaults, at `now`.
    pub fn new(config: &str, now: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = FakeClock::at(now.parse().unwrap());
        let store = FsStore::create(&folder.path().join("holdfast-store")).unwrap();
        let store = ClockedStore::new(store, clock.clone());
        std::fs::write(folder.path().join("holdfast.toml"), config).unwrap();
        let (agent, world) = start(folder.path(), &clock, &store);
        AgentWorld { folder, clock, store, agent, world }
    }

    /// The folder of configuration, store, record and spool.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Ends the agent and starts it again; tasks that run are lost.
    pub fn restart(&mut self) {
        (self.agent, self.world) = start(self.folder.path(), &self.clock, &self.store);
    }

    /// Replaces the configuration and restarts.
    pub fn reconfigure(&mut self, config: &str) {
        std::fs::write(self.folder.path().join("holdfast.toml"), config).unwrap();
        self.restart();
    }

    /// Does everything that is due; returns when the next thing is.
    pub async fn settle(&mut self) -> Timestamp {
        self.agent.until_idle().await.expect("something is scheduled")
    }

    /// Lets time pass up to `until`, doing everything that becomes due on the way.
    pub async fn live_until(&mut self, until: Timestamp) {
        loop {
            let next = self.settle().await;
            if next > until {
                self.clock.advance_to(until);
                return;
            }
            self.clock.advance_to(next.max(self.clock.now() + SignedDuration::from_secs(1)));
        }
    }

    /// The repository.
    pub async fn repository(&self) -> Repository {
        self.world.repository().await.unwrap()
    }

    /// All backups of a database, oldest first.
    pub async fn backups(&self, database: &str) -> Vec<Listed> {
        self.repository().await.backups(&name(database)).await.unwrap()
    }

    /// The tasks of the record, newest first.
    pub async fn tasks(&self) -> Vec<Task> {
        self.agent.record().expect("the record is there").tasks(&TaskFilter::default()).await.unwrap()
    }

    /// Restores a backup to a new SQLite file and returns its path.
    pub async fn restored_file(&self, database: &str, id: &str, folder: &Path) -> PathBuf {
        let target = folder.join(format!("{database}-{id}.db"));
        let restored = self.restored(database, id, DatabaseUrl::Sqlite(target.clone())).await;
        assert!(restored.proven, "{database}/{id} was not proven");
        target
    }

    /// Restores a backup and proves it.
    pub async fn restored(&self, database: &str, id: &str, into: DatabaseUrl) -> Restored {
        let repository = self.repository().await;
        let chosen = choose::by_name(&repository, &format!("{database}/{id}")).await.unwrap();
        let stored = Arc::new(StoredBackup::open(&repository, chosen.manifest).await.unwrap());
        let options = RestoreOptions::default();
        restore(&repository, stored, &*connect::engine(into), &options, Arc::new(|_| {})).await.unwrap()
    }

    /// Bytes of all packs and manifests.
    pub fn stored_bytes(&self) -> u64 {
        ["packs", "backups", "trash"]
            .iter()
            .map(|part| folder_bytes(&self.folder.path().join("holdfast-store").join(part)))
            .sum()
    }
}

fn start(folder: &Path, clock: &FakeClock, store: &ClockedStore<FsStore>) -> (Agent, Arc<World>) {
    let config = Config::load(Some(&folder.join("holdfast.toml"))).unwrap();
    let source = StoreSource::Given(Arc::new(store.clone()));
    let world = Arc::new(World::new(config, Arc::new(clock.clone()), source).unwrap());
    (Agent::new(world.clone()), world)
}

fn name(database: &str) -> DatabaseName {
    database.parse().unwrap()
}

/// Bytes of all files below a folder; 0 where there is none.
fn folder_bytes(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    entries
        .map(|entry| entry.unwrap())
        .map(|entry| match entry.metadata().unwrap() {
            found if found.is_dir() => folder_bytes(&entry.path()),
            found => found.len(),
        })
        .sum()
}
