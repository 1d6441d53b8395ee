//! Who has a file locked.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The processes that hold locks on `database` or its shared memory, as `sqlite3 (process 4711)`; sorted.
pub(in crate::engine::sqlite) fn holders(database: &Path) -> Vec<String> {
    let inodes: Vec<u64> = ["", "-shm", "-wal", "-journal"]
        .iter()
        .filter_map(|suffix| std::fs::metadata(crate::engine::sqlite::open::beside(database, suffix)).ok())
        .map(|meta| meta.ino())
        .collect();
    let text = std::fs::read_to_string("/proc/locks").unwrap_or_default();
    let mut pids: Vec<u32> = text.lines().filter_map(|line| lock(line, &inodes)).collect();
    pids.sort_unstable();
    pids.dedup();
    pids.into_iter().filter(|pid| *pid != std::process::id()).map(name).collect()
}

/// The process of a line like `1: POSIX  ADVISORY  WRITE 4711 08:02:1234 0 EOF`, if it is of one of the files.
fn lock(line: &str, inodes: &[u64]) -> Option<u32> {
    let fields: Vec<&str> = line.split_whitespace().filter(|field| *field != "->").collect();
    let inode: u64 = fields.get(5)?.rsplit(':').next()?.parse().ok()?;
    inodes.contains(&inode).then(|| fields.get(4)?.parse().ok())?
}

fn name(pid: u32) -> String {
    let program = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    match program.trim() {
        "" => format!("process {pid}"),
        program => format!("{program} (process {pid})"),
    }
}
