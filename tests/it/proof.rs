//! The proof is real: any single change to a restored database is reported, or is of a kind that FORMAT.md lists as
//! not covered.

use backup_agent::backup::{BackupOptions, backup};
use backup_agent::repository::{Codec, Repository, StoredBackup};
use backup_agent::restore::{RestoreOptions, prove, restore};
use shared::connect;
use shared::engine::{DumpOptions, DumpSource, Engine};
use shared::model::{DatabaseUrl, Difference};
use shared::store::fs::FsStore;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use tests::mutations::{self, Draws, Kind, Mutation};
use tests::postgres::TestDatabase;
use tests::sqlite::TestFile;

const POSTGRES_CHANGES: usize = 200;
const SQLITE_CHANGES: usize = 100;

/// What the published list in FORMAT.md names as not covered.
const NOT_COVERED: [Kind; 1] = [Kind::Statistics];

fn engine(url: &str) -> Box<dyn Engine> {
    connect::engine(url.parse::<DatabaseUrl>().unwrap())
}

/// Backs `url` up into a store in `folder` and restores it, without a proof, into `into`.
async fn backed_up_and_restored(url: &str, into: &str, folder: &Path) -> Arc<StoredBackup> {
    let store = Arc::new(FsStore::create(&folder.join("store")).unwrap());
    let (repository, _) = Repository::open_or_init(store, Codec::Gzip).await.unwrap();
    let dump = DumpOptions { spool: folder.join("spool"), ..Default::default() };
    let options = BackupOptions { dump, ..BackupOptions::default() };
    let name = "changed".parse().unwrap();
    let manifest = backup(&repository, &name, &*engine(url), &options, Arc::new(())).await.unwrap();
    assert!(manifest.rows() > 100, "a proof over nothing proves nothing");
    let stored = Arc::new(StoredBackup::open(&repository, manifest).await.unwrap());
    let options = RestoreOptions { no_proof: true, ..Default::default() };
    restore(&repository, stored.clone(), &*engine(into), &options, Arc::new(|_| {})).await.unwrap();
    stored
}

async fn differences(stored: &StoredBackup, url: &str) -> Vec<Difference> {
    let found = engine(url).fingerprint(stored, 2).await.unwrap();
    prove(stored.fingerprint(), &found).unwrap()
}

/// Counts by kind, and the changes that were missed.
#[derive(Default)]
struct Tally {
    reported: BTreeMap<Kind, usize>,
    not_covered: BTreeMap<Kind, usize>,
    missed: Vec<String>,
}

impl Tally {
    fn take(&mut self, mutation: &Mutation, differences: &[Difference]) {
        // A generated column that differs is named as recomputed; that is a report, too.
        if !differences.is_empty() {
            *self.reported.entry(mutation.kind).or_default() += 1;
        } else if NOT_COVERED.contains(&mutation.kind) {
            *self.not_covered.entry(mutation.kind).or_default() += 1;
        } else {
            self.missed.push(format!("{:?}: {}\n    {}", mutation.kind, mutation.description, mutation.sql));
        }
    }

    fn judge(self, seed: u64, number: usize) {
        println!("reported: {:?}\nnot covered: {:?}", self.reported, self.not_covered);
        assert!(self.missed.is_empty(), "HOLDFAST_TEST_SEED={seed}: not noticed:\n{}", self.missed.join("\n"));
        let counted: usize = self.reported.values().chain(self.not_covered.values()).sum();
        assert_eq!(counted, number);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_single_change_to_a_restored_postgresql_database_is_reported() {
    let source = mutations::postgres::database();
    let restored = TestDatabase::reserved();
    let folder = tempfile::tempdir().unwrap();
    let stored = backed_up_and_restored(&source.url(), &restored.url(), folder.path()).await;
    assert_eq!(differences(&stored, &restored.url()).await, [], "unchanged");

    let mut draws = Draws::from_environment();
    let changes = mutations::postgres::Catalogue::read(&source).draw(POSTGRES_CHANGES, &mut draws);
    let mut tally = Tally::default();
    for change in &changes {
        let changed = TestDatabase::create_from_template(restored.name());
        changed.psql(&change.sql);
        tally.take(change, &differences(&stored, &changed.url()).await);
    }
    tally.judge(draws.seed(), changes.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_single_change_to_a_restored_sqlite_database_is_reported() {
    let source = mutations::sqlite::file();
    let folder = tempfile::tempdir().unwrap();
    let restored = folder.path().join("restored.db");
    let stored = backed_up_and_restored(&source.url(), &format!("sqlite:{}", restored.display()), folder.path()).await;
    assert_eq!(differences(&stored, &TestFile::copy_of(&restored).url()).await, [], "unchanged");

    let mut draws = Draws::from_environment();
    let changes = mutations::sqlite::Catalogue::read(&source).draw(SQLITE_CHANGES, &mut draws);
    let mut tally = Tally::default();
    for change in &changes {
        let changed = TestFile::copy_of(&restored);
        changed.sqlite3(&change.sql);
        tally.take(change, &differences(&stored, &changed.url()).await);
    }
    tally.judge(draws.seed(), changes.len());
}
