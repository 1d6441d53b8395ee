//! What stores do when the world is not there, refuses, or lies.

use bytes::Bytes;
use shared::model::Class;
use shared::model::Secret;
use shared::store::fs::FsStore;
use shared::store::retry::{RetryPolicy, Retrying};
use shared::store::s3::{S3Settings, S3Store};
use shared::store::{PutMode, Store, StoreError, probe_conditional_put};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tests::counting_store::Counting;
use tests::faulty_store::{Fault, Faulty};
use tests::s3::{ACCESS_KEY_ID, S3Server, SECRET_ACCESS_KEY};
use tests::scripted_http::{Request, ScriptedHttp, reply, s3_error};

const QUICK: RetryPolicy = RetryPolicy {
    attempts: 4,
    base: Duration::from_millis(1),
    cap: Duration::from_millis(5),
    attempt_limit: Duration::from_secs(20),
    deadline: Duration::from_secs(30),
};

fn at(endpoint: String) -> S3Settings {
    S3Settings {
        bucket: "holdfast".to_owned(),
        endpoint: Some(endpoint),
        access_key_id: Some(ACCESS_KEY_ID.to_owned()),
        secret_access_key: Some(Secret::new(SECRET_ACCESS_KEY)),
        ..S3Settings::default()
    }
}

async fn scripted(answer: impl Fn(usize, &Request) -> String + Send + 'static) -> (ScriptedHttp, S3Store) {
    let server = ScriptedHttp::start(answer);
    let store = S3Store::connect(at(server.endpoint())).await.unwrap();
    (server, store)
}

fn directory() -> (tempfile::TempDir, FsStore) {
    let dir = tempfile::tempdir().unwrap();
    let store = FsStore::create(&dir.path().join("store")).unwrap();
    (dir, store)
}

fn body(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

// Servers that are not there.

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_connection_ends_after_the_tries_and_says_how_many() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let store = S3Store::connect(at(format!("http://{closed}"))).await.unwrap();
    let store = Retrying::new(store, QUICK);
    let begun = Instant::now();
    let error = store.get("k").await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains(&closed.to_string()) && text.contains("gave up after 4 tries"), "{text}");
    assert!(text.to_lowercase().contains("refused"), "the cause is told: {text}");
    assert!(!text.contains(SECRET_ACCESS_KEY) && !text.contains('\n'), "{text}");
    assert!(begun.elapsed() < Duration::from_secs(10));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_never_answers_is_left_at_the_deadline() {
    let hole = TcpListener::bind("127.0.0.1:0").unwrap();
    let store = S3Store::connect(at(format!("http://{}", hole.local_addr().unwrap()))).await.unwrap();
    let policy = RetryPolicy { attempt_limit: Duration::from_millis(200), deadline: Duration::from_secs(1), ..QUICK };
    let store = Retrying::new(store, RetryPolicy { attempts: 1_000, ..policy });
    let calls = async {
        [
            store.get("k").await.map(drop),
            store.put("k", Bytes::from(vec![7; 8 << 20]), PutMode::Replace).await,
            store.list("").await.map(drop),
            store.delete("k").await,
        ]
    };
    let begun = Instant::now();
    for answer in calls.await {
        let error = answer.unwrap_err();
        assert!(matches!(error, StoreError::Unavailable { .. }), "{error:?}");
        assert!(error.to_string().contains("no answer within"), "{error}");
    }
    assert!(begun.elapsed() < Duration::from_secs(8), "four calls of one second took {:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_goes_away_is_found_again() {
    let mut server = S3Server::start();
    server.make_bucket("holdfast");
    let store = S3Store::connect(server.settings("holdfast", "")).await.unwrap();
    store.put("k", body("x"), PutMode::Replace).await.unwrap();
    server.stop();
    let gone = store.get("k").await.unwrap_err();
    assert_eq!(gone.class(), Class::Transient, "{gone}");
}

// Servers that refuse.

#[tokio::test(flavor = "multi_thread")]
async fn wrong_credentials_are_denied_at_once_and_not_shown() {
    let server = S3Server::start();
    server.make_bucket("holdfast");
    let right = server.settings("holdfast", "");
    let wrong_secret = S3Settings { secret_access_key: Some(Secret::new("hunter2")), ..right.clone() };
    let wrong_id = S3Settings { access_key_id: Some("nobody".to_owned()), ..right };
    for settings in [wrong_secret, wrong_id] {
        let store = Counting::new(Arc::new(S3Store::connect(settings).await.unwrap()));
        let retrying = Retrying::new(store.clone(), QUICK);
        let error = retrying.get("k").await.unwrap_err();
        assert!(matches!(error, StoreError::Denied { .. }), "{error:?}");
        assert!(error.hint().is_some(), "{error}");
        assert!(!error.to_string().contains("hunter2"), "{error}");
        assert_eq!(store.total("").gets, 1, "asking again does not help");
    }
}

#[tokio::test]
async fn half_of_the_credentials_is_refused() {
    let id_only = S3Settings { secret_access_key: None, ..at("http://127.0.0.1:1".to_owned()) };
    let secret_only = S3Settings { access_key_id: None, ..at("http://127.0.0.1:1".to_owned()) };
    for settings in [id_only, secret_only] {
        let error = S3Store::connect(settings).await.unwrap_err();
        assert!(error.to_string().contains("needed together"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_server_is_asked_again_until_it_answers() {
    let (server, store) = scripted(|number, _| match number {
        0 => s3_error("503 Slow Down", "SlowDown"),
        1 => s3_error("500 Internal Server Error", "InternalError"),
        2 => "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0123".to_owned(),
        _ => reply("200 OK", "", "0123456789"),
    })
    .await;
    assert_eq!(Retrying::new(store, QUICK).get("k").await.unwrap(), "0123456789");
    assert_eq!(server.requests().len(), 4, "the SDK repeats nothing by itself");
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_have_their_meaning_whatever_the_call() {
    let cases = [
        ("403 Forbidden", "AccessDenied", Class::Permanent),
        ("403 Forbidden", "RequestTimeTooSkewed", Class::Transient),
        ("400 Bad Request", "EntityTooLarge", Class::Permanent),
        ("503 Service Unavailable", "SlowDown", Class::Transient),
        ("404 Not Found", "NoSuchBucket", Class::Permanent),
    ];
    for (status, code, class) in cases {
        let (_server, store) = scripted(move |_, _| s3_error(status, code)).await;
        let answers = [
            store.put("k", body("x"), PutMode::Replace).await,
            store.get("k").await.map(drop),
            store.get_range("k", 0..1).await.map(drop),
            store.list("").await.map(drop),
            store.delete("k").await,
        ];
        for answer in answers {
            let error = answer.unwrap_err();
            assert_eq!(error.class(), class, "{code}: {error:?}");
            assert!(error.to_string().contains(code) || matches!(error, StoreError::Missing { .. }), "{error}");
        }
    }
}

// Servers that lie.

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_conditional_writes_is_recognised() {
    let ignores = |_: usize, request: &Request| match request.line.starts_with("DELETE") {
        true => reply("204 No Content", "", ""),
        false => reply("200 OK", "ETag: \"x\"\r\n", ""),
    };
    let unknown = move |number: usize, request: &Request| match request.header("if-none-match") {
        Some(_) => s3_error("501 Not Implemented", "NotImplemented"),
        None => ignores(number, request),
    };
    let (ignoring, store) = scripted(ignores).await;
    assert!(!probe_conditional_put(&store, "probe").await.unwrap());
    assert!(ignoring.requests().last().unwrap().line.starts_with("DELETE"), "the probe cleans up");
    let (_server, store) = scripted(unknown).await;
    assert!(!probe_conditional_put(&store, "probe").await.unwrap());
    store.put("k", body("x"), PutMode::Create).await.expect("no condition is sent where none is known");

    let (_server, store) = scripted(|_, _| s3_error("403 Forbidden", "AccessDenied")).await;
    assert!(matches!(probe_conditional_put(&store, "probe").await, Err(StoreError::Denied { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_is_one_plain_signed_request() {
    let (server, store) = scripted(|_, _| reply("200 OK", "", "")).await;
    store.put("a/k", body("content"), PutMode::Replace).await.unwrap();
    let [request] = <[Request; 1]>::try_from(server.requests()).unwrap();
    assert!(request.line.starts_with("PUT /holdfast/a/k"), "the bucket stands in the path: {}", request.line);
    assert_eq!(request.body, b"content", "no chunks, no trailer");
    let odd: Vec<&String> = request
        .headers
        .iter()
        .filter(|line| line.contains("checksum") || line.contains("aws-chunked") || line.contains("trailer"))
        .collect();
    assert!(odd.is_empty(), "{odd:?}");
    // SHA-256 of `content`: what makes the signature cover the body.
    let hash = "ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73";
    assert_eq!(request.header("x-amz-content-sha256"), Some(hash));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_is_never_taken_for_another() {
    let digits = |headers: &'static str, status: &'static str, text: &'static str| {
        scripted(move |_, request| match request.line.starts_with("HEAD") {
            true => "HTTP/1.1 200 OK\r\nContent-Length: 10\r\nLast-Modified: Sat, 21 Nov 2026 10:00:00 GMT\r\n\r\n"
                .to_owned(),
            false => reply(status, headers, text),
        })
    };
    let (_server, store) = digits("", "200 OK", "0123456789").await;
    assert_eq!(store.get_range("k", 3..7).await.unwrap(), "3456", "a server that knows no ranges");
    assert!(matches!(store.get_range("k", 3..11).await, Err(StoreError::Truncated { found: 10, .. })));
    let partial = "206 Partial Content";
    let (_server, store) = digits("Content-Range: bytes 0-3/10\r\n", partial, "0123").await;
    assert!(matches!(store.get_range("k", 3..7).await, Err(StoreError::Unavailable { .. })), "another range");
    let (_server, store) = digits("Content-Range: bytes 3-4/10\r\n", partial, "34").await;
    assert!(matches!(store.get_range("k", 3..7).await, Err(StoreError::Unavailable { .. })), "less than asked");
    let (_server, store) = digits("Content-Range: bytes 3-4/5\r\n", partial, "34").await;
    assert!(matches!(store.get_range("k", 3..7).await, Err(StoreError::Truncated { found: 5, .. })));
    let (_server, store) = digits("", "416 Range Not Satisfiable", "").await;
    assert!(matches!(store.get_range("k", 12..13).await, Err(StoreError::Truncated { found: 10, .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_breaks_off_or_repeats_itself_is_an_error() {
    let page = |rest: &'static str| {
        scripted(move |_, _| {
            let text = format!(
                "<ListBucketResult><IsTruncated>true</IsTruncated>{rest}<Contents><Key>a</Key><Size>1</Size>\
                 <LastModified>2026-11-21T10:00:00.000Z</LastModified></Contents></ListBucketResult>"
            );
            reply("200 OK", "Content-Type: application/xml\r\n", &text)
        })
    };
    for rest in ["", "<NextContinuationToken>same</NextContinuationToken>"] {
        let (_server, store) = page(rest).await;
        let error = store.list("").await.unwrap_err();
        assert!(matches!(error, StoreError::Unavailable { .. }), "{error:?}");
    }
    let one_of_two = "<ListBucketResult><KeyCount>2</KeyCount><IsTruncated>false</IsTruncated><Contents><Key>a</Key>\
                      <Size>1</Size><LastModified>2026-11-21T10:00:00.000Z</LastModified></Contents>";
    for text in ["", "<html>a proxy's greeting</html>", "<ListBucketResult><Contents>", one_of_two] {
        let (_server, store) = scripted(move |_, _| reply("200 OK", "", text)).await;
        let answer = store.list("").await;
        assert!(answer.is_err(), "{text:?} was taken for a list: {answer:?}");
    }
}

// Directories that refuse.

#[tokio::test]
async fn a_directory_that_cannot_be_one_is_denied() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "x").unwrap();
    for path in [file.clone(), file.join("below"), Path::new("/proc/holdfast-store").to_owned()] {
        for outcome in [FsStore::create(&path), FsStore::open(&path)] {
            match outcome {
                Err(error @ (StoreError::Denied { .. } | StoreError::Missing { .. })) => {
                    assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
                }
                other => panic!("{path:?} ended with {other:?}"),
            }
        }
    }
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "x");
}

#[tokio::test]
async fn a_key_that_runs_into_a_file_is_denied_and_hurts_nothing() {
    let (_dir, store) = directory();
    store.put("a", body("x"), PutMode::Replace).await.unwrap();
    for mode in [PutMode::Create, PutMode::Replace] {
        let error = store.put("a/b", body("y"), mode).await.unwrap_err();
        assert!(matches!(error, StoreError::Denied { .. }), "{error:?}");
    }
    store.put("c/d", body("x"), PutMode::Replace).await.unwrap();
    store.put("c", body("y"), PutMode::Replace).await.unwrap_err();
    assert_eq!(store.get("a").await.unwrap(), "x");
    assert_eq!(store.get("c/d").await.unwrap(), "x");
}

/// A small file system of its own, mounted for one test.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> SmallDisk {
        let disk = SmallDisk(tempfile::tempdir().unwrap());
        run("mount", &["-t", "tmpfs", "-o", "size=1m", "holdfast-test", disk.0.path().to_str().unwrap()]);
        disk
    }

    fn make_read_only(&self) {
        run("mount", &["-o", "remount,ro", self.0.path().to_str().unwrap()]);
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

fn run(program: &str, arguments: &[&str]) {
    let done = Command::new(program).args(arguments).output().unwrap();
    let told = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{program} {arguments:?} needs root with the right to mount: {told}");
}

fn names_below(dir: &Path) -> Vec<String> {
    let found = Command::new("find").arg(dir).args(["-type", "f", "-printf", "%P\n"]).output().unwrap();
    let mut names: Vec<String> = String::from_utf8(found.stdout).unwrap().lines().map(str::to_owned).collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_full_disk_is_told_and_leaves_no_half_object() {
    let disk = SmallDisk::mount();
    let root = disk.0.path().join("store");
    let store = FsStore::create(&root).unwrap();
    store.put("a/first", Bytes::from(vec![1; 600 << 10]), PutMode::Create).await.unwrap();
    for mode in [PutMode::Create, PutMode::Replace] {
        let error = store.put("a/second", Bytes::from(vec![2; 600 << 10]), mode).await.unwrap_err();
        assert!(matches!(error, StoreError::Full { .. }), "{error:?}");
        assert!(error.hint().is_some() && error.to_string().contains("a/second"), "{error}");
        assert_eq!(names_below(&root), ["a/first"], "nothing else is left");
    }
    let replaced = store.put("a/first", Bytes::from(vec![3; 600 << 10]), PutMode::Replace).await;
    assert!(matches!(replaced, Err(StoreError::Full { .. })), "{replaced:?}");
    assert!(store.get("a/first").await.unwrap() == vec![1; 600 << 10], "the old object stays whole");
    store.delete("a/first").await.unwrap();
    store.put("a/second", Bytes::from(vec![2; 600 << 10]), PutMode::Create).await.unwrap();
}

#[tokio::test]
async fn a_read_only_directory_reads_and_denies_the_rest() {
    let disk = SmallDisk::mount();
    let root = disk.0.path().join("store");
    FsStore::create(&root).unwrap().put("k", body("x"), PutMode::Create).await.unwrap();
    disk.make_read_only();
    let store = FsStore::open(&root).unwrap();
    assert_eq!(store.get("k").await.unwrap(), "x");
    for answer in [
        store.put("k", body("y"), PutMode::Replace).await,
        store.put("new/k", body("y"), PutMode::Create).await,
        store.delete("k").await,
    ] {
        let error = answer.unwrap_err();
        assert!(matches!(error, StoreError::Denied { .. }) && error.hint().is_some(), "{error:?}");
    }
    assert_eq!(store.list("").await.unwrap().len(), 1);
}

#[tokio::test]
async fn files_are_private_and_unfinished_writes_are_nobodys_objects() {
    let (dir, store) = directory();
    let root = dir.path().join("store");
    store.put("a/b/k", body("x"), PutMode::Create).await.unwrap();
    let mode = |path: &str| std::fs::metadata(root.join(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!([mode(""), mode("a"), mode("a/b"), mode("a/b/k")], [0o700, 0o700, 0o700, 0o600]);

    let abandoned = std::fs::File::create(root.join("a/.tmp-1-old")).unwrap();
    abandoned.set_modified(std::time::SystemTime::now() - Duration::from_secs(25 * 3600)).unwrap();
    std::fs::write(root.join("a/.tmp-1-young"), "x").unwrap();
    let keys: Vec<String> = store.list("").await.unwrap().into_iter().map(|object| object.key).collect();
    assert_eq!(keys, ["a/b/k"]);
    FsStore::open(&root).unwrap();
    assert!(root.join("a/.tmp-1-old").exists(), "who only reads removes nothing");
    FsStore::create(&root).unwrap();
    assert_eq!(names_below(&root), ["a/.tmp-1-young", "a/b/k"]);
}

#[tokio::test]
async fn a_link_that_leads_nowhere_does_not_look_like_an_empty_store() {
    let (dir, store) = directory();
    let elsewhere = dir.path().join("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, dir.path().join("store/packs")).unwrap();
    store.put("packs/k", body("x"), PutMode::Create).await.unwrap();
    assert_eq!(store.list("").await.unwrap().len(), 1, "an operator may move a part to another disk");
    std::fs::rename(&elsewhere, dir.path().join("unmounted")).unwrap();
    store.list("").await.expect_err("the disk behind the link is gone");
}

// Trying again.

#[tokio::test]
async fn passing_trouble_is_waited_for() {
    for fault in [Fault::BeforeEffect, Fault::AfterEffect] {
        let (_dir, store) = directory();
        let faulty = Faulty::new(store, fault, 1, 3);
        let retrying = Retrying::new(faulty.clone(), QUICK);
        retrying.put("k", body("x"), PutMode::Replace).await.unwrap();
        assert_eq!(faulty.calls(), 4);
        assert_eq!(retrying.get("k").await.unwrap(), "x");
    }
}

#[tokio::test]
async fn a_create_that_had_its_effect_is_ours_if_the_bytes_are() {
    let (_dir, store) = directory();
    let retrying = Retrying::new(Faulty::new(store.clone(), Fault::AfterEffect, 1, 1), QUICK);
    retrying.put("mine", body("same"), PutMode::Create).await.unwrap();
    assert_eq!(store.get("mine").await.unwrap(), "same");

    for others in ["other", "othr"] {
        let (_dir, store) = directory();
        store.put("k", body(others), PutMode::Create).await.unwrap();
        let retrying = Retrying::new(Faulty::new(store.clone(), Fault::BeforeEffect, 1, 2), QUICK);
        let error = retrying.put("k", body("mine!"), PutMode::Create).await.unwrap_err();
        assert!(matches!(error, StoreError::Exists { .. }), "{error:?}");
        assert_eq!(store.get("k").await.unwrap(), others);
    }

    let (_dir, store) = directory();
    store.put("k", body("same"), PutMode::Create).await.unwrap();
    let error = Retrying::new(store, QUICK).put("k", body("same"), PutMode::Create).await.unwrap_err();
    assert!(matches!(error, StoreError::Exists { .. }), "without an ambiguous failure a taken key is taken");
}

#[tokio::test]
async fn what_does_not_pass_is_not_repeated() {
    for fault in [Fault::Denied, Fault::Truncated] {
        let (_dir, store) = directory();
        store.put("k", body("x"), PutMode::Create).await.unwrap();
        let faulty = Faulty::new(store, fault, 1, 100);
        let error = Retrying::new(faulty.clone(), QUICK).get("k").await.unwrap_err();
        assert_ne!(error.class(), Class::Transient);
        assert_eq!(faulty.calls(), 1);
        assert!(!error.to_string().contains("gave up"), "{error}");
    }
}

#[tokio::test]
async fn the_deadline_holds_whatever_the_trouble() {
    for fault in [Fault::Silence, Fault::BeforeEffect] {
        let (_dir, store) = directory();
        let faulty = Faulty::new(store, fault, 1, u64::MAX - 1);
        let limits =
            RetryPolicy { attempt_limit: Duration::from_millis(150), deadline: Duration::from_millis(400), ..QUICK };
        let policy = RetryPolicy { attempts: u32::MAX, ..limits };
        let begun = Instant::now();
        let error = Retrying::new(faulty.clone(), policy).head("k").await.unwrap_err();
        let spent = begun.elapsed();
        assert!(matches!(error, StoreError::Unavailable { .. }), "{error:?}");
        assert!(spent > policy.deadline / 2 && spent < policy.deadline * 10, "{fault:?} took {spent:?}");
        assert!(error.to_string().contains(&format!("gave up after {} tries", faulty.calls())), "{error}");
    }
}

#[tokio::test]
async fn wrong_bytes_pass_the_store_door_unnoticed() {
    // Documents the border: only the hashes of the layer above find these.
    let (_dir, store) = directory();
    store.put("k", body("abc"), PutMode::Create).await.unwrap();
    let retrying = Retrying::new(Faulty::new(store.clone(), Fault::WrongBytes, 1, 1), QUICK);
    assert_eq!(retrying.get("k").await.unwrap(), "acc");
    let retrying = Retrying::new(Faulty::new(store, Fault::ShortBytes, 1, 1), QUICK);
    assert_eq!(retrying.get("k").await.unwrap(), "ab");
}
