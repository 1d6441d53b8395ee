//! Where a restore may go, what it leaves, and some tables only.

use super::{NAMESPACE, Place, begin, refusal, restore, run_again, silent, small_disk, sqlite3};
use bytes::Bytes;
use shared::engine::{EngineError, Entry, LoadOptions};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::process::Command;
use std::sync::Arc;
use tests::memory::MemorySource;

const SCHOOL: &str = "CREATE TABLE teachers(id INTEGER PRIMARY KEY, name TEXT); INSERT INTO teachers VALUES(1, 'Ada');
    CREATE TABLE lessons(id INTEGER PRIMARY KEY AUTOINCREMENT, t REFERENCES teachers(id), title TEXT, up AS (upper(title)));
    INSERT INTO lessons(t, title) VALUES(1, 'sums'), (1, 'rhymes'); DELETE FROM lessons WHERE title = 'rhymes';
    CREATE TABLE rooms(rowid_ INT, x); INSERT INTO rooms(rowid, rowid_, x) VALUES(-4, 1, -0.0), (9, 2, x'');
    CREATE TABLE keys(k TEXT PRIMARY KEY, v) WITHOUT ROWID; INSERT INTO keys VALUES('a', 1);
    CREATE TABLE log(x); CREATE INDEX by_title ON lessons(title);
    CREATE TRIGGER heard AFTER INSERT ON lessons BEGIN INSERT INTO log VALUES(new.title); END;
    CREATE VIEW plan AS SELECT * FROM lessons; CREATE VIRTUAL TABLE docs USING fts5(x); PRAGMA user_version = 5;";

async fn school(place: &Place) -> MemorySource {
    place.dump(&place.database("school.db", SCHOOL)).await.unwrap()
}

#[tokio::test]
async fn a_target_that_holds_anything_is_refused_and_not_touched() {
    let place = Place::new();
    let source = school(&place).await;
    place.database("full.db", "CREATE TABLE mine(x)");
    fs::write(place.path("notes.txt"), "not a database, but dear to somebody").unwrap();
    fs::write(place.path("one"), "x").unwrap();
    fs::create_dir(place.path("dir")).unwrap();
    symlink("full.db", place.path("link.db")).unwrap();
    symlink("circle.db", place.path("circle.db")).unwrap();
    for (name, said) in [
        ("full.db", "not empty"),
        ("link.db", "not empty"),
        ("school.db", "not empty"),
        ("notes.txt", "not an SQLite database"),
        ("one", "not an SQLite database"),
        ("dir", "directory"),
        ("no/such/dir/x.db", "directory does not exist"),
        ("circle.db", "circle"),
    ] {
        let names = place.names();
        let message = refusal(begin(&place.path(name), &source).await);
        assert!(message.contains(said) && message.contains("not touched"), "{name}: {message}");
        assert_eq!(place.names(), names);
    }
    assert_eq!(sqlite3(&place.path("full.db"), ".tables").trim(), "mine");
}

#[tokio::test]
async fn a_stale_log_beside_the_target_is_refused() {
    for suffix in ["-wal", "-journal", "-shm"] {
        let place = Place::new();
        let source = school(&place).await;
        fs::write(place.path(&format!("new.db{suffix}")), "old").unwrap();
        let error = match begin(&place.path("new.db"), &source).await {
            Ok(_) => panic!("{suffix} was accepted"),
            Err(error) => error,
        };
        assert!(error.to_string().contains(suffix), "{error}");
        assert!(error.hint().unwrap().contains("move"), "{error}");
        assert_eq!(place.names(), [format!("new.db{suffix}"), "school.db".into()]);
    }
}

#[tokio::test]
async fn an_empty_file_or_database_made_beforehand_is_filled_and_keeps_its_rights() {
    let place = Place::new();
    let source = school(&place).await;
    fs::write(place.path("empty.db"), "").unwrap();
    place.database("bare.db", "PRAGMA user_version = 3; CREATE TABLE x(y); DROP TABLE x;");
    place.database("barewal.db", "PRAGMA journal_mode = WAL; CREATE TABLE x(y); DROP TABLE x;");
    for name in ["empty.db", "bare.db", "barewal.db"] {
        let path = place.path(name);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let found = restore(&source, &path).await.unwrap();
        assert_eq!(source.dump.fingerprint.differences(&found), []);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o640);
        assert_eq!(sqlite3(&path, "SELECT name FROM teachers"), "Ada\n");
    }
    restore(&source, &place.path("new.db")).await.unwrap();
    assert_eq!(fs::metadata(place.path("new.db")).unwrap().mode() & 0o777, 0o600);
    assert_eq!(place.names(), ["bare.db", "barewal.db", "empty.db", "new.db", "school.db"]);
}

#[tokio::test]
async fn a_link_stays_a_link() {
    let place = Place::new();
    let source = school(&place).await;
    fs::create_dir(place.path("data")).unwrap();
    symlink("data/real.db", place.path("link.db")).unwrap();
    restore(&source, &place.path("link.db")).await.unwrap();
    assert!(fs::symlink_metadata(place.path("link.db")).unwrap().is_symlink());
    assert_eq!(sqlite3(&place.path("data/real.db"), "SELECT name FROM teachers"), "Ada\n");
}

#[tokio::test]
async fn a_target_that_appears_meanwhile_is_not_replaced() {
    let place = Place::new();
    let source = school(&place).await;
    let target = place.path("new.db");
    let aside = begin(&target, &source).await.unwrap();
    let unfinished = aside.place();
    assert_eq!(fs::metadata(&unfinished).unwrap().mode() & 0o777, 0o600);
    aside.load(Arc::new(source.clone()), &LoadOptions::default(), silent()).await.unwrap();
    assert!(!target.exists(), "nothing bears the target's name before the end");
    place.database("new.db", "CREATE TABLE other(x)");
    let message = refusal(aside.promote().await);
    assert!(message.contains("not touched"), "{message}");
    assert_eq!(sqlite3(&target, ".tables").trim(), "other");
    assert!(fs::metadata(unfinished).is_ok(), "the restored database is not lost either");
}

#[tokio::test]
async fn what_a_killed_restore_left_is_removed_and_a_running_one_is_respected() {
    let place = Place::new();
    let source = school(&place).await;
    let target = place.path("new.db");
    let kept_names = ["new.db.restoring-12345678x", "new.db.restoring-1234567", "other.db.restoring-12345678"];
    for name in kept_names.into_iter().chain(["new.db.restoring-12345678", "new.db.restoring-12345678-journal"]) {
        fs::write(place.path(name), "x").unwrap();
    }
    let aside = begin(&target, &source).await.unwrap();
    assert!(!place.path("new.db.restoring-12345678").exists());
    assert!(!place.path("new.db.restoring-12345678-journal").exists());
    assert!(kept_names.iter().all(|name| place.path(name).exists()));
    let message = refusal(begin(&target, &source).await);
    assert!(message.contains("another restore"), "{message}");
    aside.discard().await.unwrap();
    begin(&target, &source).await.unwrap().discard().await.unwrap();
    for name in kept_names {
        fs::remove_file(place.path(name)).unwrap();
    }
    assert_eq!(place.names(), ["school.db"]);
}

#[tokio::test]
async fn a_dropped_restore_is_swept_and_a_kept_one_is_not() {
    let place = Place::new();
    let source = school(&place).await;
    let target = place.path("new.db");
    drop(begin(&target, &source).await.unwrap());
    assert_eq!(place.names().len(), 2);
    let aside = begin(&target, &source).await.unwrap();
    aside.load(Arc::new(source.clone()), &LoadOptions::default(), silent()).await.unwrap();
    let kept = aside.keep().await.unwrap();
    restore(&source, &target).await.unwrap();
    assert!(fs::metadata(&kept).is_ok());
    assert_eq!(place.names().len(), 3);
}

#[tokio::test]
async fn a_failed_load_leaves_nothing() {
    let place = Place::new();
    let mut source = school(&place).await;
    let last = source.runs[0].pop().unwrap();
    source.runs[0].push(last.slice(..last.len() - 1));
    let aside = begin(&place.path("new.db"), &source).await.unwrap();
    let error = aside.load(Arc::new(source.clone()), &LoadOptions::default(), silent()).await.unwrap_err();
    assert!(matches!(error, EngineError::Damaged(_)), "{error:?}");
    assert_eq!(place.names(), ["school.db"]);
    aside.discard().await.unwrap();
}

#[tokio::test]
async fn the_proof_sees_a_byte_that_changed_after_loading() {
    let place = Place::new();
    let source = school(&place).await;
    let aside = begin(&place.path("new.db"), &source).await.unwrap();
    aside.load(Arc::new(source.clone()), &LoadOptions::default(), silent()).await.unwrap();
    sqlite3(aside.place().as_ref(), "UPDATE teachers SET name = 'Eve'");
    let found = aside.fingerprint(&source, 1).await.unwrap();
    assert_eq!(aside.expected(&source).await.unwrap().differences(&found).len(), 1);
    aside.discard().await.unwrap();
}

#[tokio::test]
async fn a_full_disk_while_restoring_is_an_error_that_leaves_nothing() {
    let place = Place::new();
    let path = place.database("big.db", "CREATE TABLE t(x); INSERT INTO t VALUES(zeroblob(3000000))");
    let source = place.dump(&path).await.unwrap();
    let full = place.path("full");
    fs::create_dir(&full).unwrap();
    if !small_disk(&full) {
        let name = "sqlite_engine::restoring::a_full_disk_while_restoring_is_an_error_that_leaves_nothing";
        return run_again(&NAMESPACE, name);
    }
    let error = restore(&source, &full.join("new.db")).await.unwrap_err();
    let left = fs::read_dir(&full).unwrap().count();
    assert!(Command::new("umount").arg(&full).status().unwrap().success());
    assert!(
        error.to_string().contains("no space left") && error.to_string().contains("target was not touched"),
        "{error}"
    );
    assert_eq!(left, 0);
}

async fn some_tables(place: &Place, source: &MemorySource, tables: &[&str]) -> Vec<String> {
    let aside = begin(&place.path("part.db"), source).await.unwrap();
    let tables = tables.iter().map(|name| name.to_string()).collect();
    let options = LoadOptions { tables, ..LoadOptions::default() };
    let notes = aside.load(Arc::new(source.clone()), &options, silent()).await.unwrap().left_out;
    let found = aside.fingerprint(source, 1).await.unwrap();
    assert_eq!(aside.expected(source).await.unwrap().differences(&found), []);
    assert!(!found.tables.is_empty(), "an empty proof proves nothing");
    aside.promote().await.unwrap();
    notes
}

#[tokio::test]
async fn some_tables_come_with_their_indexes_triggers_and_rows() {
    for encoding in ["UTF-8", "UTF-16le"] {
        let place = Place::new();
        let sql =
            format!("PRAGMA encoding = '{encoding}'; PRAGMA page_size = 1024; PRAGMA journal_mode = WAL; {SCHOOL}");
        let source = place.dump(&place.database("school.db", &sql)).await.unwrap();
        let notes = some_tables(&place, &source, &["Lessons", "main.\"rooms\"", "keys"]).await;
        assert_eq!(notes, ["a foreign key of \"lessons\" points to \"teachers\", which was not chosen"]);
        let part = place.path("part.db");
        assert_eq!(
            sqlite3(&part, "SELECT name FROM sqlite_schema WHERE name NOT LIKE 'sqlite%' ORDER BY 1"),
            "by_title\nheard\nkeys\nlessons\nrooms\n"
        );
        assert_eq!(
            sqlite3(
                &part,
                "SELECT seq FROM sqlite_sequence; SELECT up FROM lessons; SELECT rowid FROM rooms; PRAGMA user_version; PRAGMA integrity_check"
            ),
            "2\nSUMS\n-4\n9\n5\nok\n"
        );
        let restoring = place.names().into_iter().any(|name| name.contains("restoring"));
        assert!(!restoring && !place.names().contains(&"part.db-wal".into()), "{:?}", place.names());
    }
}

#[tokio::test]
async fn a_table_that_is_not_there_is_refused_with_those_that_are() {
    let place = Place::new();
    let source = school(&place).await;
    for (name, said) in [("pupils", "lessons"), ("plan", "view"), ("docs", "virtual"), ("sqlite_sequence", "no table")]
    {
        let aside = begin(&place.path("part.db"), &source).await.unwrap();
        let options = LoadOptions { tables: vec![name.into()], ..LoadOptions::default() };
        let message = refusal(aside.load(Arc::new(source.clone()), &options, silent()).await);
        assert!(message.contains(said), "{name}: {message}");
        assert_eq!(place.names(), ["school.db"]);
    }
}

/// Unpacks a dump as the tar would, and runs its restore.sh with dash.
struct Unpacked<'a> {
    place: &'a Place,
}

impl Unpacked<'_> {
    fn new<'a>(place: &'a Place, source: &MemorySource) -> Unpacked<'a> {
        let dir = place.path("unpacked");
        fs::create_dir(&dir).unwrap();
        let mut data = 0;
        for entry in &source.dump.entries {
            match entry {
                Entry::Text { path, body } => fs::write(dir.join(path), body).unwrap(),
                Entry::Data(entry) => {
                    fs::write(dir.join(&entry.path), source.bytes(data)).unwrap();
                    data += 1;
                }
            }
        }
        fs::write(dir.join("COMPLETE"), "").unwrap();
        Unpacked { place }
    }

    fn run(&self, url: &str) -> Result<String, String> {
        let output =
            Command::new("dash").arg("unpacked/restore.sh").arg(url).current_dir(self.place.path("")).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }
}

#[tokio::test]
async fn restore_sh_restores_with_sh_and_sqlite3_alone() {
    let place = Place::new();
    let odd = format!(
        "{SCHOOL} CREATE TABLE \"it's \"\"odd\"\"\n.quit\n\"(x); INSERT INTO \"it's \"\"odd\"\"\n.quit\n\" VALUES(1);"
    );
    let sinful = "CREATE TABLE k(x CHECK (x > 0)); PRAGMA ignore_check_constraints = ON; INSERT INTO k VALUES(-1);";
    let path = place.database("school.db", &format!("PRAGMA journal_mode = WAL; {odd} {sinful}"));
    let source = place.dump(&path).await.unwrap();
    let unpacked = Unpacked::new(&place, &source);
    place.database("full.db", "CREATE TABLE mine(x)");
    fs::write(place.path("empty.db"), "").unwrap();
    fs::write(place.path("stale.db-wal"), "old").unwrap();
    symlink("behind.db", place.path("link.db")).unwrap();
    for url in ["sqlite:new.db", "plain name.db", "-dash.db", "sqlite:empty.db", "link.db", "sqlite://rel.db"] {
        let said = unpacked.run(url).unwrap_or_else(|error| panic!("{url}: {error}"));
        assert!(said.contains("verified ") && !said.contains("verified 0"), "{said}");
        let file = url.trim_start_matches("sqlite:").trim_start_matches("//");
        assert_eq!(fs::read(place.path(file)).unwrap(), source.bytes(0), "{url}");
    }
    assert!(fs::symlink_metadata(place.path("link.db")).unwrap().is_symlink());
    for (url, said) in [
        ("full.db", "not empty"),
        ("stale.db", "-wal"),
        ("no/dir/x.db", "no directory"),
        ("unpacked", "directory"),
        ("", "no path"),
        ("sqlite:new.db", "not empty"),
    ] {
        let error = unpacked.run(url).unwrap_err();
        assert!(error.contains(said), "{url}: {error}");
    }
    let left: Vec<String> = place.names().into_iter().filter(|name| name.contains("restoring")).collect();
    assert_eq!(left, Vec::<String>::new());
}

#[tokio::test]
async fn restore_sh_finds_what_is_missing_or_damaged() {
    let place = Place::new();
    let source = school(&place).await;
    let unpacked = Unpacked::new(&place, &source);
    let file = |name: &str| place.path("unpacked").join(name);
    let whole = source.bytes(0);
    let verify = source.text_of("verify.sql").to_vec();
    let mut flipped = whole.clone();
    let at = whole.windows(3).position(|part| part == b"Ada").unwrap() - 4;
    flipped[at] ^= 0x40;
    let mut fewer = Bytes::from(whole.clone()).to_vec();
    fewer.truncate(whole.len() - 4096);
    for (name, body) in [
        ("database.sqlite", fewer),
        ("database.sqlite", flipped),
        ("verify.sql", Vec::new()),
        ("verify.sql", verify[verify.iter().position(|c| *c == b'\n').unwrap() + 1..].to_vec()),
        (
            "verify.sql",
            String::from_utf8(verify.clone()).unwrap().replace("teachers\"', 1,", "teachers\"', 2,").into_bytes(),
        ),
    ] {
        let before = fs::read(file(name)).unwrap();
        assert_ne!(before, body, "the change must change something");
        fs::write(file(name), body).unwrap();
        unpacked.run("new.db").unwrap_err();
        assert!(!place.path("new.db").exists());
        fs::write(file(name), before).unwrap();
    }
    fs::remove_file(file("COMPLETE")).unwrap();
    assert!(unpacked.run("new.db").unwrap_err().contains("COMPLETE"));
    assert_eq!(place.names(), ["school.db", "unpacked"]);
}

#[tokio::test]
async fn a_cancelled_dump_leaves_nothing() {
    let place = Place::new();
    let path = place.database("school.db", SCHOOL);
    let sink = tests::memory::MemorySink::new();
    sink.cancel();
    let engine = shared::engine::sqlite::SqliteEngine::new(path);
    let error = shared::engine::Engine::dump(&engine, sink, &place.options()).await.unwrap_err();
    assert!(error.to_string().contains("cancelled"), "{error}");
    assert_eq!(place.names(), ["school.db"]);
}
