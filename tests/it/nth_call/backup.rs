//! A backup, disturbed.

use super::*;

/// What a disturbed backup of `source` must have left, and that the next one ends well.
///
/// Everything in `base` must still be as it was; the backups that came must be `source`.
async fn judge(disturbed: Disturbed, base: &Objects, source: &TestFile, dump: &str) {
    let Disturbed { store: objects, outcome, place } = disturbed;
    let now = objects.objects();
    for (key, body) in base.iter().filter(|(key, _)| key.contains('/')) {
        assert_eq!(now.get(key), Some(body), "{place}: {key} was there before and is another now");
    }
    assert!(!now.keys().any(|key| key.starts_with("damaged/")), "{place}: a pack was called damaged");
    let store: Arc<dyn Store> = Arc::new(objects);
    let untouched: Arc<dyn Store> = Arc::new(MemoryStore::holding(base.clone()));
    let before = listed(&untouched).await;
    let came: Vec<(String, bool)> =
        listed(&store).await.into_iter().filter(|(id, _)| !before.contains_key(id)).collect();
    if outcome.is_ok() {
        assert!(matches!(came[..], [(_, true)]), "{place}: a success is one complete backup: {came:?}");
    }
    for (id, _) in came.iter().filter(|(_, complete)| *complete) {
        comes_back(&store, id, dump, &place).await;
    }
    if let Err(error) = outcome {
        let id = back_up(store.clone(), "a", source).await;
        let id = id.unwrap_or_else(|again| panic!("{place}: {error}; and without a fault: {again}"));
        assert_eq!(listed(&store).await.last_key_value(), Some((&id, &true)), "{place}");
        comes_back(&store, &id, dump, &place).await;
    }
}

async fn first_backups(faults: &[Fault]) {
    let source = small("a", "one");
    let dump = source.dump_text();
    let base = Objects::new();
    for fault in faults {
        let work = async |store| back_up(store, "a", &source).await.map(drop);
        let calls =
            every_call(&base, *fault, ONCE, &work, &async |found| judge(found, &base, &source, &dump).await).await;
        println!("{fault:?}: {calls} calls");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_backup_over_a_store_that_does_not_work_is_loud_or_good() {
    first_backups(&LOUD).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_backup_over_a_store_that_lies_once_is_loud_or_good() {
    first_backups(&LYING).await;
}

/// A store with one backup of a file, and the file a change later.
async fn one_backup() -> (Objects, TestFile) {
    let (source, store) = (small("a", "one"), MemoryStore::default());
    back_up(Arc::new(store.clone()), "a", &source).await.unwrap();
    source.sqlite3("UPDATE t SET t = 'changed' WHERE id = 400");
    (store.objects(), source)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_backup_over_a_store_that_fails_once_is_loud_or_good() {
    let (base, source) = one_backup().await;
    let dump = source.dump_text();
    for fault in LOUD.into_iter().chain(LYING) {
        let work = async |store| back_up(store, "a", &source).await.map(drop);
        every_call(&base, fault, ONCE, &work, &async |found| judge(found, &base, &source, &dump).await).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fault_that_passes_is_not_felt_by_a_backup_that_tries_again() {
    let (second_base, source) = one_backup().await;
    let dump = source.dump_text();
    for base in [Objects::new(), second_base] {
        for fault in PASSING {
            let work = async |store| back_up(store, "a", &source).await.map(drop);
            let check = async |found: Disturbed| {
                if let Err(error) = &found.outcome {
                    panic!("{}: {error}", found.place);
                }
                judge(found, &base, &source, &dump).await;
            };
            every_call(&base, fault, AGAIN, &work, &check).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_fails_once_lets_no_other_database_in_under_the_name() {
    let (base, _source) = one_backup().await;
    let other = small("other", "uno");
    let refused = back_up(Arc::new(MemoryStore::holding(base.clone())), "a", &other).await.unwrap_err();
    assert_eq!(refused.exit_code(), 3, "{refused}");
    for fault in LOUD {
        for number in 1.. {
            let store = MemoryStore::holding(base.clone());
            let faulty = Faulty::new(store.clone(), fault, number, 1);
            let outcome = back_up(Arc::new(Retrying::new(faulty.clone(), ONCE)), "a", &other).await;
            let error = outcome.err().unwrap_or_else(|| panic!("call {number}, {fault:?}: it was let in"));
            let manifests = |objects: &Objects| objects.keys().filter(|key| key.starts_with("backups/")).count();
            assert_eq!(manifests(&store.objects()), manifests(&base), "call {number}, {fault:?}: {error}");
            if faulty.calls() < number {
                assert!(number > 3, "only {} calls of the store", number - 1);
                break;
            }
        }
    }
}
