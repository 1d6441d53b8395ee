//! The store fails at its n-th call, for n = 1, 2, 3 … until the work is not disturbed any more: the work is then loud or
//! has converged, and never claims a success that is none.

mod backup;
mod busy_server;
mod forget;

use async_trait::async_trait;
use backup_agent::backup::{BackupOptions, backup};
use backup_agent::choose;
use backup_agent::error::Error;
use backup_agent::repository::{Codec, Repository, StoredBackup};
use backup_agent::restore::{RestoreOptions, restore};
use jiff::Timestamp;
use shared::clock::{Clock, SystemClock};
use shared::connect;
use shared::engine::DumpOptions;
use shared::store::Store;
use shared::store::retry::{RetryPolicy, Retrying};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tests::faulty_store::{Fault, Faulty};
use tests::memory_store::{MemoryStore, Objects};
use tests::sqlite::{TestFile, sqlite_differences, sqlite_dump_text};

/// Faults after which nobody may speak of damage or of a refusal: the store just did not do its work.
const LOUD: [Fault; 4] = [Fault::BeforeEffect, Fault::AfterEffect, Fault::Denied, Fault::Silence];
/// Faults of reads: what comes back is not what is stored.
const LYING: [Fault; 3] = [Fault::Truncated, Fault::ShortBytes, Fault::WrongBytes];
/// Faults that pass.
const PASSING: [Fault; 3] = [Fault::BeforeEffect, Fault::AfterEffect, Fault::Silence];

/// One try only, so that each fault is felt; it is there to end silence.
const ONCE: RetryPolicy = RetryPolicy {
    attempts: 1,
    base: Duration::from_millis(1),
    cap: Duration::from_millis(1),
    attempt_limit: Duration::from_millis(500),
    deadline: Duration::from_secs(2),
};
/// As the program does it, but quick.
const AGAIN: RetryPolicy = RetryPolicy { attempts: 4, deadline: Duration::from_secs(20), ..ONCE };

/// What one disturbed run led to.
struct Disturbed {
    /// The objects as they are, without the fault.
    store: MemoryStore,
    outcome: Result<(), Error>,
    /// As `call 7, Denied`.
    place: String,
}

/// Does `work` on copies of `base`, disturbing one call after the other, until no call is left to disturb; `judge`
/// looks at every outcome. Returns the number of calls of an undisturbed run.
async fn every_call<W, J>(base: &Objects, fault: Fault, policy: RetryPolicy, work: &W, judge: &J) -> u64
where
    W: AsyncFn(Arc<dyn Store>) -> Result<(), Error>,
    J: AsyncFn(Disturbed),
{
    for number in 1.. {
        let store = MemoryStore::holding(base.clone());
        let faulty = Faulty::new(store.clone(), fault, number, 1);
        let outcome = work(Arc::new(Retrying::new(faulty.clone(), policy))).await;
        let place = format!("call {number}, {fault:?}");
        if faulty.calls() < number {
            outcome.unwrap_or_else(|error| panic!("{place}: nothing was disturbed, and yet: {error}"));
            assert!(number > 5, "only {} calls of the store", number - 1);
            return number - 1;
        }
        if let Err(error) = &outcome {
            let text = error.to_string();
            assert!(text.len() > 10 && !text.contains('\n'), "{place}: {text:?} says nothing");
            assert!(!LOUD.contains(&fault) || error.exit_code() == 1, "{place}: exit {}: {text}", error.exit_code());
        }
        judge(Disturbed { store, outcome, place }).await;
    }
    unreachable!("a run has an end")
}

/// The system's clock, but nobody waits: a short sleep turns it. (Long ones are those of a lease's renewal.)
#[derive(Debug, Default)]
struct Hurried {
    ahead: Mutex<Duration>,
    system: SystemClock,
}

#[async_trait]
impl Clock for Hurried {
    fn now(&self) -> Timestamp {
        self.system.now() + *self.ahead.lock().unwrap()
    }

    fn monotonic(&self) -> Duration {
        self.system.monotonic() + *self.ahead.lock().unwrap()
    }

    async fn sleep(&self, time: Duration) {
        match time < Duration::from_secs(10) {
            true => *self.ahead.lock().unwrap() += time,
            false => self.system.sleep(time).await,
        }
    }
}

/// A small SQLite file whose backup has packs.
fn small(name: &str, word: &str) -> TestFile {
    let file = TestFile::named(&format!("{name}.db"));
    file.sqlite3(&format!(
        "PRAGMA page_size = 512; CREATE TABLE t (id INTEGER PRIMARY KEY, t TEXT);
         WITH RECURSIVE c (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < 400)
         INSERT INTO t SELECT i, '{word} ' || i || hex(randomblob(40)) FROM c;"
    ));
    file
}

/// Backs `file` up under `name`, making the repository where there is none.
async fn back_up(store: Arc<dyn Store>, name: &str, file: &TestFile) -> Result<String, Error> {
    let (repository, _) = Repository::open_or_init(store, Codec::Gzip).await?;
    let repository = repository.with_clock(Arc::new(Hurried::default()));
    let engine = connect::engine(file.url().parse().unwrap());
    let dump = DumpOptions { spool: file.folder().join("spool"), ..DumpOptions::default() };
    let options = BackupOptions { dump, ..BackupOptions::default() };
    let made = backup(&repository, &name.parse().unwrap(), &*engine, &options, Arc::new(())).await?;
    Ok(format!("{name}/{}", made.header.id))
}

/// All backups: `<database>/<id>` and whether it is complete.
async fn listed(store: &Arc<dyn Store>) -> BTreeMap<String, bool> {
    let mut found = BTreeMap::new();
    let Ok(repository) = Repository::open(store.clone()).await else { return found };
    for database in repository.databases().await.unwrap() {
        for backup in repository.backups(&database).await.unwrap() {
            found.insert(format!("{database}/{}", backup.id), backup.is_complete());
        }
    }
    found
}

/// Restores with proof into a new file in `folder`.
async fn bring_back(store: &Arc<dyn Store>, id: &str, target: &Path) -> Result<(), Error> {
    let repository = Repository::open(store.clone()).await?;
    let chosen = choose::by_name(&repository, id).await?;
    let stored = Arc::new(StoredBackup::open(&repository, chosen.manifest).await?);
    let engine = connect::engine(format!("sqlite:{}", target.display()).parse().unwrap());
    let restored = restore(&repository, stored, &*engine, &RestoreOptions::default(), Arc::new(|_| {})).await?;
    assert!(restored.proven, "{id}: {restored:?}");
    Ok(())
}

/// Asserts that this backup restores, proves, and is what sqlite3 said of its source.
async fn comes_back(store: &Arc<dyn Store>, id: &str, dump: &str, place: &str) {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("restored.db");
    bring_back(store, id, &target).await.unwrap_or_else(|error| panic!("{place}: {id} does not restore: {error}"));
    assert_eq!(sqlite_differences(dump, &sqlite_dump_text(&target)), Vec::<String>::new(), "{place}: {id}");
}
