//! Drafts of a record that is being made: beside it, locked while their maker lives, swept when it died.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// What SQLite lays beside a file.
const COMPANIONS: [&str; 4] = ["", "-journal", "-wal", "-shm"];

/// How often a draft is begun anew because somebody swept it before it was locked.
const SWEPT: u32 = 20;

fn prefix(name: &OsStr) -> String {
    format!(".{}.", name.to_string_lossy())
}

/// Makes an empty draft of the record `name` in `parent` and locks it; the lock ends with the file.
pub fn create(parent: &Path, name: &OsStr) -> io::Result<(PathBuf, File)> {
    for _ in 0..SWEPT {
        let draft = parent.join(format!("{}{}", prefix(name), uuid::Uuid::now_v7().simple()));
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
        // Until it is locked it looks like one whose maker died, and another program may sweep it.
        if file.try_lock().is_ok() && file.metadata()?.nlink() > 0 {
            return Ok((draft, file));
        }
    }
    Err(io::Error::other(format!("others removed it {SWEPT} times while it was made")))
}

/// Removes a draft with everything beside it. What cannot be removed is swept later.
pub fn remove(draft: &Path) {
    for rest in COMPANIONS {
        let mut file = draft.as_os_str().to_owned();
        file.push(rest);
        let _ = fs::remove_file(file);
    }
}

/// Removes the drafts of `record` whose makers died. Best effort: they only take room.
pub fn sweep(record: &Path) {
    let (Some(parent), Some(name)) = (record.parent(), record.file_name()) else { return };
    let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    let (Ok(entries), prefix) = (fs::read_dir(parent), prefix(name)) else { return };
    for entry in entries.flatten() {
        let file = entry.file_name();
        let rest = file.to_str().and_then(|file| file.strip_prefix(&prefix));
        if rest.is_some_and(|rest| rest.len() == 32 && rest.bytes().all(|byte| byte.is_ascii_hexdigit())) {
            sweep_one(&entry.path());
        }
    }
}

fn sweep_one(draft: &Path) {
    let Ok(meta) = fs::metadata(draft) else { return };
    // One that has a second name is the record already: opening and closing it would drop locks that SQLite holds.
    if meta.nlink() > 1 {
        return remove(draft);
    }
    let Ok(file) = File::open(draft) else { return };
    // Locked until it is gone: whoever makes it sees either that, or that it is gone.
    if file.try_lock().is_ok() {
        remove(draft);
    }
}
