//! What both ways of killing share.

pub use crate::crash_points::{complete, sell_something, sized_shop as shop};
use std::path::Path;
use std::time::{Duration, SystemTime};
use tests::agent::Agent;
use tests::sqlite::{sqlite_differences, sqlite_dump_text};
use tests::store_files::StoreFiles;

/// The store of a program.
pub fn store(agent: &Agent) -> StoreFiles {
    StoreFiles::at(&agent.store_dir())
}

/// Asserts that a file holds what `dump` says.
#[track_caller]
pub fn assert_holds(file: &Path, dump: &str, place: &str) {
    assert_eq!(sqlite_differences(dump, &sqlite_dump_text(file)), Vec::<String>::new(), "{place}: {}", file.display());
}

/// Names in a folder that begin with `prefix`, sorted; none where there is no folder.
pub fn names(folder: &Path, prefix: &str) -> Vec<String> {
    let entries = folder.read_dir().into_iter().flatten();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| name.starts_with(prefix));
    names.sort();
    names
}

/// Asserts that nothing is in the spool but the folders that stay there.
#[track_caller]
pub fn assert_spool_is_empty(agent: &Agent, place: &str) {
    let spool = agent.home().join("holdfast-spool");
    let stay = |name: &String| ["jobs", "journal"].contains(&name.as_str());
    let left: Vec<String> = names(&spool, "").into_iter().filter(|name| !stay(name)).collect();
    assert_eq!(left, Vec::<String>::new(), "{place}: in the spool");
    for folder in ["journal", "jobs"] {
        assert_eq!(names(&spool.join(folder), ""), Vec::<String>::new(), "{place}: in {folder} of the spool");
    }
}

/// What crashed writes left in a store.
pub fn unfinished(store: &StoreFiles) -> Vec<String> {
    store.all().into_iter().filter(|key| key.rsplit('/').next().unwrap().starts_with(".tmp-")).collect()
}

/// Makes what crashed writes left look two days old, so that the next writer may remove it.
pub fn age_unfinished(agent: &Agent) {
    let then = SystemTime::now() - Duration::from_secs(2 * 24 * 3600);
    for key in unfinished(&store(agent)) {
        let file = std::fs::File::options().write(true).open(agent.store_dir().join(key)).unwrap();
        file.set_modified(then).unwrap();
    }
}
