//! Forgetting, bringing back, holding and pruning, on real stores, behind every guard.

mod guards;
mod program;
mod protocol;

use backup_agent::backup::{BackupOptions, backup};
use backup_agent::error::Error;
use backup_agent::forget::{self, ForgetPlan};
use backup_agent::guards::GuardOptions;
use backup_agent::prune::{self, PruneOptions, PrunePlan};
use backup_agent::repository::{Codec, MarkKind, Repository, layout};
use jiff::{SignedDuration, Timestamp};
use shared::clock::Clock;
use shared::connect;
use shared::engine::DumpOptions;
use shared::model::{BackupId, DatabaseName, DatabaseUrl};
use shared::store::{PutMode, Store};
use std::sync::Arc;
use std::time::Duration;
use tests::fake_clock::{ClockedStore, FakeClock};
use tests::memory_store::MemoryStore;
use tests::sqlite::TestFile;

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
const GRACE: Duration = Duration::from_secs(72 * 3600);

/// A repository in memory whose every clock the test turns.
struct World {
    clock: FakeClock,
    memory: MemoryStore,
    repository: Repository,
    source: TestFile,
    spool: tempfile::TempDir,
}

impl World {
    async fn new() -> Self {
        let clock = FakeClock::at("2025-03-01T03:00:00Z".parse().unwrap());
        let memory = MemoryStore::default();
        let store = Arc::new(ClockedStore::new(memory.clone(), clock.clone()));
        Self::over(clock, memory, store).await
    }

    async fn over(clock: FakeClock, memory: MemoryStore, store: Arc<dyn Store>) -> Self {
        let (repository, _) = Repository::open_or_init(store, Codec::Gzip).await.unwrap();
        let repository = repository.with_clock(Arc::new(clock.clone()));
        let source = TestFile::new();
        source.sqlite3("CREATE TABLE t (id INTEGER PRIMARY KEY, b BLOB)");
        World { clock, memory, repository, source, spool: tempfile::tempdir().unwrap() }
    }

    fn shop(&self) -> DatabaseName {
        "shop".parse().unwrap()
    }

    /// Makes a backup of a database that has nothing in common with the one before, a second later.
    async fn backup(&self) -> BackupId {
        self.try_backup().await.unwrap()
    }

    async fn try_backup(&self) -> Result<BackupId, Error> {
        self.clock.advance(Duration::from_secs(1));
        self.source.sqlite3("DELETE FROM t; INSERT INTO t SELECT value, randomblob(9000) FROM generate_series(1, 40)");
        let engine = connect::engine(DatabaseUrl::Sqlite(self.source.path()));
        let dump = DumpOptions {
            spool: self.spool.path().join("copies"),
            clock: Arc::new(self.clock.clone()),
            ..DumpOptions::default()
        };
        let options = BackupOptions { dump, ..BackupOptions::default() };
        Ok(backup(&self.repository, &self.shop(), &*engine, &options, Arc::new(())).await?.header.id)
    }

    fn guards(&self) -> GuardOptions {
        GuardOptions { intervals: Default::default(), spool: self.spool.path().to_owned() }
    }

    fn options(&self) -> PruneOptions {
        PruneOptions { grace: GRACE, intervals: Default::default(), spool: self.spool.path().to_owned() }
    }

    async fn plan(&self) -> Result<PrunePlan, Error> {
        prune::plan(&self.repository, &self.options()).await
    }

    async fn prune(&self) -> Result<prune::Pruned, Error> {
        let plan = self.plan().await?;
        prune::apply(&self.repository, &plan, &self.options()).await
    }

    async fn forget_plan(&self, ids: &[&BackupId]) -> ForgetPlan {
        let named: Vec<_> = ids.iter().map(|id| (self.shop(), (*id).clone())).collect();
        forget::named_plan(&self.repository, &named, false).await.unwrap()
    }

    async fn forget(&self, id: &BackupId) {
        let plan = self.forget_plan(&[id]).await;
        let done = forget::apply(&self.repository, &plan, GRACE).await.unwrap();
        assert_eq!(done.forgotten.len(), 1, "{done:?}");
    }

    async fn unforget(&self, id: &BackupId) -> Result<(), Error> {
        backup_agent::unforget::unforget(&self.repository, &self.shop(), id).await
    }

    async fn is_complete(&self, id: &BackupId) -> bool {
        let found = self.repository.backup(&self.shop(), id).await.unwrap();
        found.is_some_and(|backup| backup.is_complete())
    }

    fn keys(&self, prefix: &str) -> Vec<String> {
        self.memory.objects().into_keys().filter(|key| key.starts_with(prefix)).collect()
    }

    async fn put(&self, key: &str, body: &str) {
        self.repository.store().put(key, body.to_owned().into(), PutMode::Replace).await.unwrap();
    }
}
