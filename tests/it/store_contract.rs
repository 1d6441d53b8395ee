//! One exam for every store: what the rest of Holdfast may rely on.

use bytes::Bytes;
use shared::model::Class;
use shared::store::fs::FsStore;
use shared::store::s3::{S3Settings, S3Store};
use shared::store::{PutMode, Store, StoreError, probe_conditional_put};
use std::sync::Arc;
use tests::s3::{MotoServer, S3Server};

/// What differs between stores, told to the exam so that it asks no less than each can do.
#[derive(Clone, Copy)]
struct Abilities {
    /// Of two creates at the same instant one fails; otherwise only of two one after the other.
    atomic_create: bool,
    /// A part of a key is no object; s3s-fs, having a directory there, answers with an internal error.
    parts_are_absent: bool,
    /// More objects than one page of a listing holds (1,000 at S3).
    objects_listed: usize,
}

const DIRECTORY: Abilities = Abilities { atomic_create: true, parts_are_absent: true, objects_listed: 300 };
const SERVER: Abilities = Abilities { atomic_create: false, parts_are_absent: false, objects_listed: 300 };
const PAGES: Abilities = Abilities { atomic_create: false, parts_are_absent: true, objects_listed: 1_003 };

async fn exam(store: Arc<dyn Store>, abilities: Abilities) {
    what_is_put_is_got_headed_and_listed(&*store).await;
    put_replaces_and_create_does_not(&*store).await;
    ranges_are_exact_or_an_error(&*store).await;
    absence_is_told_and_deleting_it_succeeds(&*store, abilities.parts_are_absent).await;
    prefixes_do_not_mix(&*store).await;
    every_allowed_key_works_and_no_other(&*store).await;
    sixteen_mebibytes_go_round(&*store).await;
    lists_are_complete_and_in_order(store.clone(), abilities.objects_listed).await;
    writers_at_the_same_time_do_not_disturb_each_other(store.clone()).await;
    one_of_many_creators_wins(store, abilities.atomic_create).await;
}

async fn put(store: &dyn Store, key: &str, body: &'static str) {
    store.put(key, Bytes::from_static(body.as_bytes()), PutMode::Replace).await.unwrap();
}

async fn keys(store: &dyn Store, prefix: &str) -> Vec<String> {
    store.list(prefix).await.unwrap().into_iter().map(|object| object.key).collect()
}

async fn what_is_put_is_got_headed_and_listed(store: &dyn Store) {
    for (key, body) in [("one/object", "ten bytes!"), ("one/empty", "")] {
        put(store, key, body).await;
        assert_eq!(store.get(key).await.unwrap(), body, "{key}");
        let head = store.head(key).await.unwrap();
        assert_eq!((head.key.as_str(), head.size_bytes), (key, body.len() as u64));
        let age = jiff::Timestamp::now().duration_since(head.modified);
        assert!(age.as_secs().abs() < 60, "{key} was written just now, not {age} ago");
        let listed = store.list("one/").await.unwrap();
        let listed = listed.iter().find(|object| object.key == key).unwrap();
        assert_eq!(listed.size_bytes, head.size_bytes);
        // Some servers tell fractions of a second only in one of the two answers.
        assert_eq!(listed.modified.as_second(), head.modified.as_second());
    }
}

async fn put_replaces_and_create_does_not(store: &dyn Store) {
    put(store, "two/object", "first").await;
    put(store, "two/object", "second, longer").await;
    assert_eq!(store.get("two/object").await.unwrap(), "second, longer");
    put(store, "two/object", "3rd").await;
    assert_eq!(store.get("two/object").await.unwrap(), "3rd");

    let create = |body: &'static str| store.put("two/created", Bytes::from_static(body.as_bytes()), PutMode::Create);
    create("mine").await.unwrap();
    match create("yours").await {
        Err(StoreError::Exists { key, .. }) => assert_eq!(key, "two/created"),
        other => panic!("creating a taken key ended with {other:?}"),
    }
    assert_eq!(store.get("two/created").await.unwrap(), "mine");
    store.delete("two/created").await.unwrap();
    create("mine again").await.unwrap();
    assert_eq!(store.get("two/created").await.unwrap(), "mine again");
}

async fn ranges_are_exact_or_an_error(store: &dyn Store) {
    put(store, "three/digits", "0123456789").await;
    for (range, expected) in
        [(0..10, "0123456789"), (0..1, "0"), (9..10, "9"), (3..7, "3456"), (4..4, ""), (10..10, "")]
    {
        assert_eq!(store.get_range("three/digits", range.clone()).await.unwrap(), expected, "{range:?}");
    }
    for range in [0..11, 9..11, 10..11, 20..30, 11..11, 5..u64::MAX] {
        match store.get_range("three/digits", range.clone()).await {
            Err(error @ StoreError::Truncated { found: 10, .. }) => assert_eq!(error.class(), Class::Corrupt),
            other => panic!("{range:?} of ten bytes ended with {other:?}"),
        }
    }
    put(store, "three/empty", "").await;
    assert_eq!(store.get_range("three/empty", 0..0).await.unwrap(), "");
    let beyond = store.get_range("three/empty", 0..1).await;
    assert!(matches!(beyond, Err(StoreError::Truncated { found: 0, .. })), "{beyond:?}");
}

async fn absence_is_told_and_deleting_it_succeeds(store: &dyn Store, parts_are_absent: bool) {
    put(store, "four/a/b", "x").await;
    // The last ones: a part of a key is no object, and neither is what lies "below" an object.
    let absent = ["four/nothing", "no/such/prefix", "four/a", "four", "four/a/b/c"];
    for key in &absent[..if parts_are_absent { 5 } else { 2 }] {
        let answers = [
            store.get(key).await.map(drop),
            store.head(key).await.map(drop),
            store.get_range(key, 0..1).await.map(drop),
            store.get_range(key, 0..0).await.map(drop),
        ];
        for answer in answers {
            match answer {
                Err(StoreError::NotFound { key: named, .. }) => assert_eq!(named, *key),
                other => panic!("{key} is not there, yet: {other:?}"),
            }
        }
        store.delete(key).await.unwrap();
    }
    assert_eq!(store.get("four/a/b").await.unwrap(), "x");
    store.delete("four/a/b").await.unwrap();
    store.delete("four/a/b").await.unwrap();
    assert!(matches!(store.get("four/a/b").await, Err(StoreError::NotFound { .. })));
    assert_eq!(keys(store, "four/").await, Vec::<String>::new());
    put(store, "four/a/b", "again").await;
    assert_eq!(store.get("four/a/b").await.unwrap(), "again");
}

async fn prefixes_do_not_mix(store: &dyn Store) {
    for key in ["five/ab/1", "five/abc/1", "five/abc-d/1", "five/abc.d/1", "five/abc/1.d/2", "five/z", "fivefold/1"] {
        put(store, key, "x").await;
    }
    assert_eq!(keys(store, "five/abc/").await, ["five/abc/1", "five/abc/1.d/2"]);
    assert_eq!(keys(store, "five/ab/").await, ["five/ab/1"]);
    assert_eq!(keys(store, "five/a/").await, Vec::<String>::new());
    // Byte order of the whole key: `-` and `.` come before `/`.
    let all = ["five/ab/1", "five/abc-d/1", "five/abc.d/1", "five/abc/1", "five/abc/1.d/2", "five/z"];
    assert_eq!(keys(store, "five/").await, all);
    assert!(keys(store, "").await.contains(&"fivefold/1".to_owned()));
    for prefix in ["five", "/", "../", "five//"] {
        assert!(matches!(store.list(prefix).await, Err(StoreError::Denied { .. })), "{prefix:?}");
    }
}

async fn every_allowed_key_works_and_no_other(store: &dyn Store) {
    let long = format!("six/{}", "x".repeat(100));
    for key in ["six-root.json", "six/UPPER/lower_09.tsv.gz", "six/..hidden", "six/...", "six/.a/-b/_c", &long] {
        store.put(key, Bytes::copy_from_slice(key.as_bytes()), PutMode::Replace).await.unwrap();
        assert_eq!(store.get(key).await.unwrap(), key);
        assert!(keys(store, "").await.iter().any(|listed| listed == key), "{key} is not listed");
    }
    for key in ["", "/six", "six/", "six//x", "../six", "six/../x", "six/.tmp-x", "six/a b", "six/ä", "six/a\0b"] {
        let answers = [
            store.put(key, Bytes::new(), PutMode::Replace).await,
            store.get(key).await.map(drop),
            store.get_range(key, 0..0).await.map(drop),
            store.head(key).await.map(drop),
            store.delete(key).await,
        ];
        for answer in answers {
            assert!(matches!(answer, Err(StoreError::Denied { .. })), "{key:?}: {answer:?}");
        }
    }
}

async fn sixteen_mebibytes_go_round(store: &dyn Store) {
    let mut state = 0x9e37_79b9_u32;
    let body: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    })
    .take(16 << 20)
    .collect();
    let body = Bytes::from(body);
    store.put("seven/pack", body.clone(), PutMode::Create).await.unwrap();
    assert!(store.get("seven/pack").await.unwrap() == body, "16 MiB came back differently");
    let range = 5_000_001..13_000_002;
    let part = store.get_range("seven/pack", range.clone()).await.unwrap();
    assert!(part == body[range.start as usize..range.end as usize], "8 MB of 16 came back differently");
    store.delete("seven/pack").await.unwrap();
}

async fn lists_are_complete_and_in_order(store: Arc<dyn Store>, count: usize) {
    let mut expected: Vec<String> = (0..count).map(|n| format!("eight/{:02x}/{n}", n * 7 % 256)).collect();
    let mut writers = tokio::task::JoinSet::new();
    for chunk in expected.chunks(count.div_ceil(8)) {
        let (store, chunk) = (store.clone(), chunk.to_vec());
        writers.spawn(async move {
            for key in chunk {
                store.put(&key, Bytes::from_static(b"x"), PutMode::Replace).await.unwrap();
            }
        });
    }
    writers.join_all().await;
    expected.sort();
    assert_eq!(keys(&*store, "eight/").await, expected);
    let all = keys(&*store, "").await;
    assert!(all.is_sorted() && all.len() > count, "{} objects in all", all.len());
}

/// Each writer makes, reads and removes its own objects in a directory that all share and that is often empty.
async fn writers_at_the_same_time_do_not_disturb_each_other(store: Arc<dyn Store>) {
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..8 {
        let store = store.clone();
        writers.spawn(async move {
            for round in 0..20 {
                let key = format!("nine/shared/{writer}");
                let body = Bytes::from(format!("{writer} in round {round}"));
                store.put(&key, body.clone(), PutMode::Create).await.unwrap();
                assert_eq!(store.get(&key).await.unwrap(), body);
                store.delete(&key).await.unwrap();
            }
        });
    }
    writers.join_all().await;
    assert_eq!(keys(&*store, "nine/").await, Vec::<String>::new());
}

async fn one_of_many_creators_wins(store: Arc<dyn Store>, atomic: bool) {
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..16 {
        let store = store.clone();
        writers.spawn(async move {
            let body = Bytes::from(format!("writer {writer}"));
            match store.put("ten/contested", body.clone(), PutMode::Create).await {
                Ok(()) => Some(body),
                Err(StoreError::Exists { .. }) => None,
                Err(error) => panic!("{error}"),
            }
        });
    }
    let winners: Vec<Bytes> = writers.join_all().await.into_iter().flatten().collect();
    assert!(!winners.is_empty() && (!atomic || winners.len() == 1), "{} winners", winners.len());
    assert!(winners.contains(&store.get("ten/contested").await.unwrap()));
}

/// Connects and turns conditional writes on as the repository does: by trying.
async fn s3(settings: S3Settings) -> Arc<S3Store> {
    let store = S3Store::connect(settings).await.unwrap();
    assert!(probe_conditional_put(&store, "probe").await.unwrap(), "{} knows conditional writes", store.describe());
    assert!(matches!(store.head("probe").await, Err(StoreError::NotFound { .. })), "the probe cleans up");
    Arc::new(store)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_directory_store_passes_the_exam() {
    let dir = tempfile::tempdir().unwrap();
    let store = FsStore::create(&dir.path().join("new/store")).unwrap();
    assert!(probe_conditional_put(&store, "probe").await.unwrap());
    exam(Arc::new(store), DIRECTORY).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_s3_store_passes_the_exam_at_s3s() {
    let server = S3Server::start();
    server.make_bucket("holdfast");
    exam(s3(server.settings("holdfast", "")).await, SERVER).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_s3_store_passes_the_exam_at_moto_with_versions_kept() {
    let server = MotoServer::start();
    server.make_bucket("holdfast");
    server.keep_versions("holdfast");
    exam(s3(server.settings("holdfast", "team/a")).await, PAGES).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn prefixes_of_one_bucket_are_stores_of_their_own() {
    let server = S3Server::start();
    server.make_bucket("holdfast");
    let [a, ab, whole] = [
        s3(server.settings("holdfast", "a")),
        s3(server.settings("holdfast", "/ab/")),
        s3(server.settings("holdfast", "")),
    ];
    let (a, ab, whole) = (a.await, ab.await, whole.await);
    put(&*a, "x", "of a").await;
    put(&*ab, "x", "of ab").await;
    assert_eq!((keys(&*a, "").await, keys(&*ab, "").await), (vec!["x".to_owned()], vec!["x".to_owned()]));
    assert_eq!(keys(&*whole, "").await, ["a/x", "ab/x"]);
    a.delete("x").await.unwrap();
    assert_eq!(ab.get("x").await.unwrap(), "of ab");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_not_there_is_missing_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let gone = dir.path().join("gone");
    match FsStore::open(&gone) {
        Err(error @ StoreError::Missing { .. }) => {
            assert!(error.to_string().contains(gone.to_str().unwrap()), "{error}");
            assert!(error.hint().unwrap().contains("backup-agent init"));
        }
        other => panic!("opening a missing directory ended with {other:?}"),
    }
    assert!(!gone.exists(), "opening makes nothing");

    let store = FsStore::create(&gone).unwrap();
    std::fs::remove_dir(&gone).unwrap();
    every_call_says_missing(&store).await;
    assert!(!gone.exists(), "a store whose disk is not mounted is not made anew under its mount point");

    let moto = MotoServer::start();
    let store = S3Store::connect(moto.settings("gone", "p")).await.unwrap();
    every_call_says_missing(&store).await;
    let error = store.list("").await.unwrap_err();
    assert!(error.to_string().contains("no bucket named gone"), "{error}");
    assert!(error.hint().unwrap().contains("gone"));
}

async fn every_call_says_missing(store: &dyn Store) {
    let answers = [
        store.put("k", Bytes::new(), PutMode::Replace).await,
        store.put("a/k", Bytes::new(), PutMode::Create).await,
        store.get("k").await.map(drop),
        store.get_range("k", 0..1).await.map(drop),
        store.head("k").await.map(drop),
        store.list("").await.map(drop),
        store.list("a/").await.map(drop),
        store.delete("k").await,
    ];
    for (number, answer) in answers.into_iter().enumerate() {
        assert!(matches!(answer, Err(StoreError::Missing { .. })), "call {number} at {}: {answer:?}", store.describe());
    }
}
