//! SQLite files with bytes changed at random: refused, or complete with what SQLite says of them; never silently wrong.

use super::outcome::{Differences, Outcome, go_round};
use super::sqlite::differences;
use std::collections::BTreeMap;
use tests::is_long;
use tests::mutations::Draws;
use tests::sqlite::TestFile;

/// The same files in every run, so that what turns red is the change; `HOLDFAST_TEST_SEED=N` takes others.
const SEED: u64 = 20_261_130;

/// Databases of different build.
const ORIGINALS: [&str; 4] = [
    "CREATE TABLE t (id INTEGER PRIMARY KEY, x TEXT, n REAL); CREATE INDEX t_x ON t (x); CREATE VIEW v AS SELECT x FROM t;
     CREATE TRIGGER r AFTER DELETE ON t BEGIN SELECT 1; END;
     WITH RECURSIVE c (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < 400)
     INSERT INTO t SELECT i, 'text ' || i, i / 3.0 FROM c;",
    "PRAGMA page_size = 512; CREATE TABLE k (a TEXT, b, PRIMARY KEY (a, b)) WITHOUT ROWID; CREATE TABLE l (id INTEGER PRIMARY KEY, b BLOB);
     WITH RECURSIVE c (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < 200) INSERT INTO k SELECT 'key ' || i, i FROM c;
     INSERT INTO l VALUES (1, zeroblob(5000)), (2, randomblob(3000));",
    "PRAGMA auto_vacuum = FULL; CREATE VIRTUAL TABLE f USING fts5 (body); CREATE TABLE gone (x); INSERT INTO gone VALUES (zeroblob(50000));
     WITH RECURSIVE c (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < 200) INSERT INTO f SELECT 'some words and ' || i FROM c;
     DROP TABLE gone;",
    "PRAGMA encoding = 'UTF-16le'; PRAGMA page_size = 1024; CREATE TABLE p (id INTEGER PRIMARY KEY, name TEXT UNIQUE);
     CREATE TABLE c (id INTEGER PRIMARY KEY AUTOINCREMENT, p REFERENCES p, u TEXT GENERATED ALWAYS AS (id || 'x') STORED);
     INSERT INTO p VALUES (1, 'one'), (2, 'two'); INSERT INTO c (p) VALUES (1), (1), (2);",
];

/// A file with something changed: bits, bytes, whole pages, its end.
fn changed(original: &[u8], draws: &mut Draws) -> (Vec<u8>, String) {
    let mut bytes = original.to_vec();
    let page = usize::from(u16::from_be_bytes([bytes[16], bytes[17]]));
    let pages = bytes.len() / page;
    let what = match draws.below(6) {
        0 => {
            let at = draws.below(100);
            bytes[at] ^= 1 << draws.below(8);
            format!("a bit of byte {at} of the header")
        }
        1 => {
            let at = draws.below(bytes.len());
            bytes[at] = draws.below(256) as u8;
            format!("byte {at}")
        }
        2 => {
            let (at, number) = (draws.below(bytes.len()), 2 + draws.below(30));
            bytes[at..].iter_mut().take(number).for_each(|byte| *byte = draws.below(256) as u8);
            format!("{number} bytes from {at}")
        }
        3 => {
            // Where a page says what it holds and where.
            let at = draws.below(pages) * page + draws.below(40);
            bytes[at] = draws.below(256) as u8;
            format!("byte {at}, at the beginning of a page")
        }
        4 => {
            let (from, to) = (draws.below(pages), draws.below(pages));
            bytes.copy_within(from * page..(from + 1) * page, to * page);
            format!("page {to}, by page {from}")
        }
        _ => {
            let length = draws.below(bytes.len());
            bytes.truncate(length);
            format!("its end: {length} bytes are left")
        }
    };
    (bytes, what)
}

#[test]
fn changed_sqlite_files_are_refused_or_come_back_with_what_is_wrong() {
    let mut draws = Draws::from_environment_or(SEED);
    let originals: Vec<Vec<u8>> = ORIGINALS
        .iter()
        .map(|sql| {
            let file = TestFile::new();
            file.sqlite3(sql);
            std::fs::read(file.path()).unwrap()
        })
        .collect();
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    for number in 0..if is_long() { 2_000 } else { 60 } {
        let which = draws.below(originals.len());
        let (bytes, what) = changed(&originals[which], &mut draws);
        let what = format!("HOLDFAST_TEST_SEED={}: file {number}, of database {which}: {what}", draws.seed());
        *seen.entry(judged(&bytes, &what)).or_default() += 1;
    }
    println!("{seen:?}");
    for class in ["refused", "comes back", "comes back, with what is wrong"] {
        assert!(seen.contains_key(class), "none {class}: {seen:?}");
    }
}

/// Backs a file up and restores it; returns what became of it.
#[track_caller]
fn judged(bytes: &[u8], what: &str) -> &'static str {
    let source = TestFile::new();
    std::fs::write(source.path(), bytes).unwrap();
    let copy = source.folder().join("copy.db");
    let compare = || Differences { rows: differences(&source.path(), &copy), ..Differences::default() };
    let target = format!("sqlite:{}", copy.display());
    match go_round(what, &source.url(), &target, &[], &compare, &|| copy.exists()) {
        Outcome::Refused(_) | Outcome::NotRestored(_) => "refused",
        Outcome::EqualSaid(_) | Outcome::RowsSaid(_) => "comes back, with what is wrong",
        Outcome::Equal => {
            let check = source.try_sqlite3("PRAGMA integrity_check; PRAGMA foreign_key_check;");
            assert_eq!(check.as_deref().map(str::trim), Ok("ok"), "{what}: comes back, and nobody says what is wrong");
            "comes back"
        }
    }
}
