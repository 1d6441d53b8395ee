//! The order of system calls that makes a file appear whole, and stay.

use crate::store::PutMode;
use crate::store::key::TEMPORARY;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// A temporary file older than this belongs to a write that crashed.
const ABANDONED: Duration = Duration::from_secs(24 * 3600);

/// How often a write starts again when another process removed its just emptied directory.
const ATTEMPTS: u32 = 16;

/// Makes `dir` and a temporary file in it, again when a delete took the empty directory away in between.
pub(super) fn temporary_in(root: &Path, dir: &Path) -> io::Result<(PathBuf, File)> {
    let mut attempt = 1;
    loop {
        let made = make_directories_below(root, dir).and_then(|()| open_temporary(dir));
        match made {
            Err(error) if error.kind() == ErrorKind::NotFound && attempt < ATTEMPTS && root.is_dir() => attempt += 1,
            made => return made,
        }
    }
}

pub(super) fn write_durably(mut file: File, body: &[u8]) -> io::Result<()> {
    file.write_all(body)?;
    file.sync_all()
}

/// Gives a finished temporary file its public name.
pub(super) fn publish(temporary: &Path, path: &Path, mode: PutMode) -> io::Result<()> {
    if mode == PutMode::Replace {
        return fs::rename(temporary, path);
    }
    match fs::hard_link(temporary, path) {
        // A file system without hard links (FAT, some network mounts). Two writers at the same instant are then not
        // told apart; nothing the repository promises depends on it.
        Err(error) if matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::PermissionDenied) => {
            if path.symlink_metadata().is_ok() {
                return Err(ErrorKind::AlreadyExists.into());
            }
            fs::rename(temporary, path)
        }
        linked => linked,
    }
}

/// Makes the names from `dir` up to the store's own directory durable.
///
/// All of them each time: another writer may have made one of them a moment ago and not have flushed it yet.
pub(super) fn sync_up_from(root: &Path, dir: &Path) -> io::Result<()> {
    for ancestor in dir.ancestors().take_while(|ancestor| ancestor.starts_with(root)) {
        match File::open(ancestor).and_then(|opened| opened.sync_all()) {
            // Removed as empty by a delete: then its parent tells the truth. Some network mounts cannot flush a
            // directory at all, and nothing more can be done there.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::InvalidInput) => {}
            done => done?,
        }
    }
    Ok(())
}

/// Makes a directory with its parents, durably.
pub(super) fn make_directories(dir: &Path) -> io::Result<()> {
    let missing: Vec<&Path> = dir.ancestors().take_while(|ancestor| !ancestor.exists()).collect();
    fs::DirBuilder::new().mode(0o700).recursive(true).create(dir)?;
    for parent in missing.iter().filter_map(|made| made.parent()) {
        File::open(parent)?.sync_all()?;
    }
    Ok(())
}

/// Removes temporary files that were abandoned; says nothing, since the next writer tries again.
pub(super) fn sweep(root: &Path, now: SystemTime) {
    let mut waiting = vec![root.to_owned()];
    while let Some(dir) = waiting.pop() {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            let Ok(kind) = entry.file_type() else { continue };
            if kind.is_dir() {
                waiting.push(entry.path());
            } else if entry.file_name().as_encoded_bytes().starts_with(TEMPORARY.as_bytes())
                && is_abandoned(&entry.path(), now)
            {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

fn open_temporary(dir: &Path) -> io::Result<(PathBuf, File)> {
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(|error| io::Error::other(error.to_string()))?;
    let path = dir.join(format!("{TEMPORARY}{}-{}", std::process::id(), hex::encode(random)));
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
    Ok((path, file))
}

/// Makes every missing directory between `root`, which must be there, and `dir`.
fn make_directories_below(root: &Path, dir: &Path) -> io::Result<()> {
    let mut missing: Vec<&Path> =
        dir.ancestors().take_while(|ancestor| *ancestor != root && !ancestor.is_dir()).collect();
    while let Some(next) = missing.pop() {
        match fs::DirBuilder::new().mode(0o700).create(next) {
            // Another writer made it, or a delete has just taken it away again: then NotFound starts anew.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                if !fs::metadata(next)?.is_dir() {
                    return Err(ErrorKind::NotADirectory.into());
                }
            }
            made => made?,
        }
    }
    Ok(())
}

fn is_abandoned(path: &Path, now: SystemTime) -> bool {
    let written = fs::symlink_metadata(path).and_then(|found| found.modified());
    written.is_ok_and(|written| now.duration_since(written).is_ok_and(|age| age > ABANDONED))
}
