//! Forgetting, bringing back and pruning, disturbed; on a directory, whose files are judged.

use super::*;
use backup_agent::forget::{apply, named_plan};
use backup_agent::prune;
use backup_agent::unforget::unforget;
use shared::model::{BackupId, DatabaseName};
use shared::store::fs::FsStore;
use tests::store_files::StoreFiles;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Judges what a call that failed left: the store, what the work said, and which call it was.
type Judge<'a> = dyn Fn(&StoreFiles, &Result<(), Error>, &str) + 'a;

/// A directory store with some backups of one file, the oldest first.
struct Stored {
    folder: tempfile::TempDir,
    ids: Vec<String>,
    /// Bytes of the manifests, each of a backup that the plain tools brought back as it was.
    manifests: BTreeMap<String, Vec<u8>>,
}

impl Stored {
    /// `count` backups of different rows, written an hour ago.
    async fn with(count: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(FsStore::create(&folder.path().join("store")).unwrap());
        let source = small("a", "one");
        let mut stored = Stored { folder, ids: Vec::new(), manifests: BTreeMap::new() };
        for number in 0..count {
            source.sqlite3(&format!("UPDATE t SET t = 'round {number} ' || hex(randomblob(40))"));
            let id = back_up(store.clone(), "a", &source).await.unwrap();
            let dump = stored.files().sqlite_dump(&id);
            assert_eq!(sqlite_differences(&source.dump_text(), &dump), Vec::<String>::new());
            stored.manifests.insert(id.clone(), stored.files().read(&manifest_of(&id)));
            stored.ids.push(id);
        }
        stored.files().age("", Duration::from_secs(3600));
        stored
    }

    fn files(&self) -> StoreFiles {
        StoreFiles::at(&self.folder.path().join("store"))
    }

    /// Lets `work` fail at every call, each time on a copy, and looks at each outcome; then does it undisturbed.
    async fn every_call<W>(&self, work: &W, judge: &Judge<'_>)
    where
        W: AsyncFn(Arc<dyn Store>, &Path) -> Result<(), Error>,
    {
        for fault in LOUD.into_iter().chain(LYING) {
            for number in 1.. {
                let place = tempfile::tempdir().unwrap();
                let root = place.path().join("store");
                self.files().copy_to(&root);
                let inner = FsStore::create(&root).unwrap();
                let faulty = Faulty::new(inner.clone(), fault, number, 1);
                let outcome = work(Arc::new(Retrying::new(faulty.clone(), ONCE)), place.path()).await;
                let (files, place_text) = (StoreFiles::at(&root), format!("call {number}, {fault:?}: {outcome:?}"));
                if faulty.calls() < number {
                    assert!(outcome.is_ok() && number > 5, "{place_text}");
                    judge(&files, &outcome, &place_text);
                    break;
                }
                if let Err(error) = &outcome {
                    assert!(error.to_string().len() > 10, "{place_text}");
                    assert!(!LOUD.contains(&fault) || error.exit_code() == 1, "{place_text}");
                }
                self.what_is_listed_is_whole(&files, &place_text);
                judge(&files, &outcome, &place_text);
                // Without the fault the same is done, or was done already.
                let again = work(Arc::new(inner), place.path()).await;
                let refused = again.as_ref().is_err_and(|error| error.exit_code() == 3);
                assert!(again.is_ok() || refused, "{place_text}; and again: {again:?}");
                self.what_is_listed_is_whole(&files, &place_text);
                judge(&files, &Ok(()), &format!("{place_text}; and again: {again:?}"));
            }
        }
    }

    /// Every listed backup has the manifest it had, and all its packs with the bytes that names: so it comes back.
    fn what_is_listed_is_whole(&self, files: &StoreFiles, place: &str) {
        files.are_whole();
        for id in files.ids() {
            assert!(files.read(&manifest_of(&id)) == self.manifests[&id], "{place}: another manifest of {id}");
            assert!(!files.manifest(&id).packs.is_empty(), "{place}: {id}");
        }
        assert!(files.public("damaged/").is_empty(), "{place}: a pack was called damaged");
    }
}

fn manifest_of(id: &str) -> String {
    format!("backups/{id}/manifest.tsv.gz")
}

fn parsed(id: &str) -> (DatabaseName, BackupId) {
    let (database, id) = id.split_once('/').unwrap();
    (database.parse().unwrap(), id.parse().unwrap())
}

async fn forget(store: Arc<dyn Store>, id: &str) -> Result<(), Error> {
    let repository = Repository::open(store).await?;
    let plan = named_plan(&repository, &[parsed(id)], false).await?;
    let done = apply(&repository, &plan, 3 * DAY).await?;
    // What a misread newer backup made it keep is told, and is not done.
    if done.kept.is_empty() { Ok(()) } else { Err(Error::failed(format!("it was kept: {:?}", done.kept))) }
}

fn trashed(files: &StoreFiles) -> Vec<String> {
    files.trashed().into_iter().map(|manifest| manifest.id).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forgetting_over_a_store_that_fails_once_is_loud_or_done_and_loses_nothing() {
    let stored = Stored::with(2).await;
    let [old, new] = &stored.ids[..] else { unreachable!() };
    stored
        .every_call(&async |store, _: &Path| forget(store, old).await, &|files, outcome, place| {
            assert!(files.ids().contains(new) && files.is_marked(new, "verified"), "{place}");
            let is_gone = !files.ids().contains(old);
            assert!(!is_gone || trashed(files).contains(old), "{place}: it is nowhere");
            assert!(outcome.is_err() || is_gone, "{place}: it is still there");
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bringing_back_over_a_store_that_fails_once_is_loud_or_done_and_loses_nothing() {
    let stored = Stored::with(2).await;
    let [old, new] = &stored.ids[..] else { unreachable!() };
    forget(Arc::new(FsStore::open(&stored.folder.path().join("store")).unwrap()), old).await.unwrap();
    let (database, id) = parsed(old);
    let work = async |store, _: &Path| unforget(&Repository::open(store).await?, &database, &id).await;
    stored
        .every_call(&work, &|files, outcome, place| {
            assert!(files.ids().contains(new) && trashed(files).contains(old), "{place}");
            let is_back = files.ids().contains(old) && files.is_marked(old, "verified");
            assert!(outcome.is_err() || is_back, "{place}: it is not back");
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pruning_over_a_store_that_fails_once_never_removes_what_is_needed() {
    let stored = Stored::with(3).await;
    let files = stored.files();
    forget(Arc::new(FsStore::open(&stored.folder.path().join("store")).unwrap()), &stored.ids[0]).await.unwrap();
    // What a writer left that died long ago.
    let orphan = "0123456789abcdef0123456789abcdef";
    let root = stored.folder.path().join("store");
    std::fs::create_dir_all(root.join("packs/0/01")).unwrap();
    std::fs::copy(root.join(&files.public("packs/")[0]), root.join("packs/0/01").join(orphan)).unwrap();
    files.age("", 30 * DAY);
    assert!(files.orphans().len() == 1 && files.trashed().len() == 1);
    let work = async |store, place: &Path| {
        let (grace, spool) = (3 * DAY, place.join("spool"));
        let options = prune::PruneOptions { grace, intervals: BTreeMap::new(), spool };
        let repository = Repository::open(store).await?;
        let plan = prune::plan(&repository, &options).await?;
        prune::apply(&repository, &plan, &options).await.map(drop)
    };
    let kept = &stored.ids[1..];
    stored
        .every_call(&work, &|files, outcome, place| {
            assert_eq!(files.ids(), kept, "{place}");
            assert!(kept.iter().all(|id| files.is_marked(id, "verified")), "{place}");
            let needed: usize = kept.iter().map(|id| files.manifest(id).packs.len()).sum();
            assert!(needed > 0, "{place}");
            if outcome.is_ok() {
                assert!(files.orphans().is_empty(), "{place}: {:?}", files.all());
            }
        })
        .await;
}
