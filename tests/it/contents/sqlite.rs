//! The cases of SQLite.

use super::cases::{Setup, World};
use super::outcome::{Differences, Outcome, go_round};
use std::path::Path;
use std::process::Command;
use tests::sqlite::{TestFile, sqlite_differences, sqlite_dump_text};

/// Makes the file of a world by sqlite3 or Python, and tells what becomes of it.
#[track_caller]
pub fn outcome(world: &World) -> Outcome {
    let source = made(world);
    let copy = source.folder().join("copy.db");
    let (folder, target) = (source.folder().display().to_string(), format!("sqlite:{}", copy.display()));
    let compare = || Differences { rows: differences(&source.path(), &copy), ..Differences::default() };
    let names = [(folder.as_str(), "FOLDER")];
    go_round(&world.to_string(), &source.url(), &target, &names, &compare, &|| copy.exists())
}

/// Bytes of the header that say how often and by which version a file was written, and the number of its pages, which
/// old versions left wrong.
const VARYING: [std::ops::Range<usize>; 3] = [24..32, 40..44, 92..100];

/// Equal pages are equal databases, also where sqlite3 cannot make a dump of them; otherwise sqlite3 judges.
///
/// Only after the backup: looking changes a file with a log beside it.
#[track_caller]
fn differences(source: &Path, copy: &Path) -> Vec<String> {
    let pages = |file: &Path| {
        let mut bytes = std::fs::read(file).unwrap();
        assert!(bytes.len() >= 512, "{}: not a database", file.display());
        VARYING.iter().for_each(|range| bytes[range.clone()].fill(0));
        bytes
    };
    if pages(source) == pages(copy) {
        return Vec::new();
    }
    sqlite_differences(&sqlite_dump_text(source), &sqlite_dump_text(copy))
}

#[track_caller]
fn made(world: &World) -> TestFile {
    let file = TestFile::new();
    for case in &world.cases {
        if world.setup == Setup::Python {
            let script = file.folder().join("case.py");
            std::fs::write(&script, &case.text).unwrap();
            let ended = Command::new("python3").arg(&script).arg(file.path()).output().expect("python3 starts");
            assert!(ended.status.success(), "{world}: {}", String::from_utf8_lossy(&ended.stderr));
        } else {
            file.try_sqlite3(&case.text).unwrap_or_else(|error| panic!("{world}: {}: {error}", case.title));
        }
    }
    file
}
