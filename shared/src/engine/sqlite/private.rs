//! Private files: mode 0600, locked while their owner lives, swept when it died.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What is appended to a private file's name for the stored file, while a database of some of its tables is made.
pub(super) const WHOLE: &str = ".whole";

/// Suffixes of files that SQLite or we lay beside a private file.
const COMPANIONS: [&str; 4] = ["-journal", "-wal", "-shm", WHOLE];

/// How often a file is made anew that another process swept away at once.
const ATTEMPTS: u32 = 16;

/// A file only this process uses, held by a file lock so that others can tell it from a leftover.
///
/// Removed with its companions when dropped, unless [`PrivateFile::leave`] was called.
#[derive(Debug)]
pub(super) struct PrivateFile {
    path: PathBuf,
    file: Arc<File>,
    remove: bool,
}

impl PrivateFile {
    /// Makes `<dir>/<prefix><8 random hex digits><suffix>`, empty and locked.
    pub fn create(dir: &Path, prefix: &OsStr, suffix: &str) -> io::Result<PrivateFile> {
        for _ in 0..ATTEMPTS {
            if let Some(private) = PrivateFile::try_create(dir, prefix, suffix)? {
                return Ok(private);
            }
        }
        Err(io::Error::other("private files were taken away while they were made, again and again"))
    }

    /// None when a sweep took the file for a leftover between its making and its locking.
    fn try_create(dir: &Path, prefix: &OsStr, suffix: &str) -> io::Result<Option<PrivateFile>> {
        let mut name = prefix.to_owned();
        name.push(random_hex(8)?);
        name.push(suffix);
        let path = dir.join(name);
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
        let private = PrivateFile { path, file: Arc::new(file), remove: true };
        match private.file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        match fs::metadata(&private.path) {
            Ok(found) => Ok((found.ino() == private.file.metadata()?.ino()).then_some(private)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The open file.
    pub fn file(&self) -> &Arc<File> {
        &self.file
    }

    /// Keeps the file when this value is dropped.
    pub fn leave(&mut self) {
        self.remove = false;
    }

    /// Removes the file and its companions now. Removing twice is fine.
    pub fn remove(&mut self) -> io::Result<()> {
        self.remove = false;
        remove_with_companions(&self.path)
    }
}

impl Drop for PrivateFile {
    fn drop(&mut self) {
        if self.remove {
            // Nobody is left to hear of a failure here; the next sweep tries again.
            let _ = remove_with_companions(&self.path);
        }
    }
}

fn remove_with_companions(path: &Path) -> io::Result<()> {
    for suffix in COMPANIONS {
        remove_if_there(&super::open::beside(path, suffix))?;
    }
    remove_if_there(path)
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Removes the private files of `prefix` and `suffix` in `dir` whose owner died, and returns those still in use.
pub(super) fn sweep(dir: &Path, prefix: &OsStr, suffix: &str) -> io::Result<Vec<PathBuf>> {
    let mut live = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if !is_private_name(entry.file_name().as_bytes(), prefix.as_bytes(), suffix.as_bytes())
            || !entry.file_type()?.is_file()
        {
            continue;
        }
        let file = match File::open(entry.path()) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        match file.try_lock() {
            Ok(()) => remove_with_companions(&entry.path())?,
            Err(TryLockError::WouldBlock) => live.push(entry.path()),
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
    Ok(live)
}

/// `digits` random lower-case hexadecimal digits (at most 16).
pub(super) fn random_hex(digits: usize) -> io::Result<String> {
    let bits = getrandom::u64().map_err(|error| io::Error::other(error.to_string()))?;
    Ok(format!("{bits:016x}")[..digits].to_owned())
}

fn is_private_name(name: &[u8], prefix: &[u8], suffix: &[u8]) -> bool {
    name.strip_prefix(prefix).and_then(|rest| rest.strip_suffix(suffix)).is_some_and(|digits| {
        digits.len() == 8 && digits.iter().all(|c| c.is_ascii_digit() || (b'a'..=b'f').contains(c))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_made_while_others_sweep() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let prefix = OsStr::new("copy-");
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..300 {
                        sweep(dir.path(), prefix, ".sqlite").expect("a sweep bears other sweeps");
                        let file = PrivateFile::create(dir.path(), prefix, ".sqlite").expect("a file is made");
                        assert!(file.path().is_file(), "and stays");
                    }
                });
            }
        });
    }
}
