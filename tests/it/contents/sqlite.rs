//! The cases of SQLite.

use super::cases::{Setup, World};
use super::outcome::{Differences, Outcome, go_round};
use std::io::Read;
use std::path::Path;
use std::process::Command;
use tests::sqlite::{TestFile, sqlite_differences, sqlite_dump_text};
use tests::tools::Held;

/// Makes the file of a world by sqlite3 or Python, and tells what becomes of it.
#[track_caller]
pub fn outcome(world: &World) -> Outcome {
    let (source, held) = made(world);
    let copy = source.folder().join("copy.db");
    let (folder, target) = (source.folder().display().to_string(), format!("sqlite:{}", copy.display()));
    let compare = || Differences { rows: differences(&source.path(), &copy), ..Differences::default() };
    let names = [(folder.as_str(), "FOLDER")];
    let outcome = go_round(&world.to_string(), &source.url(), &target, &names, &compare, &|| copy.exists());
    drop(held);
    outcome
}

/// Bytes of the header that say how often and by which version a file was written, and the number of its pages, which
/// old versions left wrong.
const VARYING: [std::ops::Range<usize>; 3] = [24..32, 40..44, 92..100];

/// Equal pages are equal databases, also where sqlite3 cannot make a dump of them; otherwise sqlite3 judges.
///
/// Only after the backup: looking changes a file with a log beside it.
#[track_caller]
pub fn differences(source: &Path, copy: &Path) -> Vec<String> {
    if same_pages(source, copy) {
        return Vec::new();
    }
    sqlite_differences(&sqlite_dump_text(source), &sqlite_dump_text(copy))
}

/// Piece by piece: some are larger than one wants to hold.
#[track_caller]
fn same_pages(source: &Path, copy: &Path) -> bool {
    const PIECE: u64 = 1 << 20;
    let [mut source, mut copy] = [source, copy].map(|file| std::fs::File::open(file).unwrap());
    let mut is_first = true;
    loop {
        let [left, right] = [&mut source, &mut copy].map(|file| {
            let mut piece = Vec::new();
            file.take(PIECE).read_to_end(&mut piece).unwrap();
            if is_first {
                assert!(piece.len() >= 512, "not a database");
                VARYING.iter().for_each(|range| piece[range.clone()].fill(0));
            }
            piece
        });
        if left != right {
            return false;
        }
        if left.is_empty() {
            return true;
        }
        is_first = false;
    }
}

/// The file, and the program that stays with it.
#[track_caller]
fn made(world: &World) -> (TestFile, Option<Held>) {
    let file = TestFile::new();
    let script = file.folder().join("case.py");
    if world.setup == Setup::HeldByPython {
        std::fs::write(&script, &world.cases[0].text).unwrap();
        let held = file.held_by(&script);
        return (file, Some(held));
    }
    for case in &world.cases {
        if world.setup == Setup::Python {
            std::fs::write(&script, &case.text).unwrap();
            let ended = Command::new("python3").arg(&script).arg(file.path()).output().expect("python3 starts");
            assert!(ended.status.success(), "{world}: {}", String::from_utf8_lossy(&ended.stderr));
        } else {
            file.try_sqlite3(&case.text).unwrap_or_else(|error| panic!("{world}: {}: {error}", case.title));
        }
    }
    (file, None)
}
