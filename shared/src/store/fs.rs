//! Objects as files below one directory.
//!
//! A write goes to a temporary file beside its target, is flushed, renamed and made durable with its directories; so
//! a crash leaves at most a file named `.tmp-…`, which nobody lists and which a later writer removes after a day.

mod durable;

use super::key;
use super::{ObjectMeta, PutMode, Store, StoreError};
use crate::crash_point::reached;
use async_trait::async_trait;
use bytes::Bytes;
use std::fs::{self, File, Metadata};
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// A directory as a [`Store`]; files have mode 0600, directories 0700.
///
/// [`PutMode::Create`] is exclusive, also between processes, wherever the file system has hard links.
#[derive(Debug, Clone)]
pub struct FsStore {
    root: PathBuf,
}

impl FsStore {
    /// Opens a directory for writing, and makes it if it is missing.
    ///
    /// Also removes what writes that crashed more than a day ago left behind.
    pub fn create(dir: &Path) -> Result<FsStore, StoreError> {
        let store = FsStore::at(dir)?;
        durable::make_directories(&store.root)
            .map_err(|error| store.fault("cannot make the store's directory", &error))?;
        let store = store.must_exist()?;
        durable::sweep(&store.root, SystemTime::now());
        Ok(store)
    }

    /// Opens a directory that must exist; fails with [`StoreError::Missing`] naming its absolute path.
    pub fn open(dir: &Path) -> Result<FsStore, StoreError> {
        FsStore::at(dir)?.must_exist()
    }

    fn at(dir: &Path) -> Result<FsStore, StoreError> {
        let root = std::path::absolute(dir).map_err(|error| StoreError::Denied {
            place: dir.display().to_string(),
            message: format!("not a path of a directory: {error}"),
            hint: None,
        })?;
        Ok(FsStore { root })
    }

    fn must_exist(self) -> Result<FsStore, StoreError> {
        match fs::metadata(&self.root) {
            Ok(found) if found.is_dir() => Ok(self),
            Ok(_) => Err(self.denied("this is a file, not a directory".to_owned())),
            Err(error) if error.kind() == ErrorKind::NotFound => Err(self.missing()),
            Err(error) => Err(self.fault("cannot open the store's directory", &error)),
        }
    }

    fn path(&self, key: &str) -> Result<PathBuf, StoreError> {
        key::check(&self.describe(), key)?;
        Ok(self.root.join(key))
    }

    fn put_now(&self, key: &str, body: &[u8], mode: PutMode) -> Result<(), StoreError> {
        let path = self.path(key)?;
        let place = |error: io::Error| self.fault(&format!("cannot write {key}"), &error);
        self.clone().must_exist()?;
        let dir = path.parent().unwrap_or(&self.root);
        let (temporary, file) = durable::temporary_in(&self.root, dir).map_err(place)?;
        let written = durable::write_durably(file, body).and_then(|()| {
            reached("store: before the name");
            durable::publish(&temporary, &path, mode)
        });
        reached("store: after the name");
        if written.is_err() || mode == PutMode::Create {
            // A second name of the finished object, or the remains of a failed write; the first error is the one told.
            let _ = fs::remove_file(&temporary);
        }
        match written {
            Err(error) if mode == PutMode::Create && error.kind() == ErrorKind::AlreadyExists => {
                // It may be our own of a moment ago, whose name could not be made durable: who finds it relies on it.
                durable::sync_up_from(&self.root, dir).map_err(place)?;
                Err(StoreError::Exists { place: self.describe(), key: key.to_owned() })
            }
            Err(error) => Err(place(error)),
            Ok(()) => durable::sync_up_from(&self.root, dir).map_err(place),
        }
    }

    fn open_object(&self, key: &str) -> Result<(File, Metadata), StoreError> {
        let path = self.path(key)?;
        let opened = File::open(&path).and_then(|file| file.metadata().map(|metadata| (file, metadata)));
        match opened {
            Ok((_, metadata)) if metadata.is_dir() => Err(self.not_found(key)),
            Ok(opened) => Ok(opened),
            Err(error) => Err(self.read_fault(key, &error)),
        }
    }

    fn range_now(&self, key: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        let (file, metadata) = self.open_object(key)?;
        let truncated = |found: u64| StoreError::Truncated {
            place: self.describe(),
            key: key.to_owned(),
            wanted: range.end,
            found,
        };
        if metadata.len() < range.end {
            return Err(truncated(metadata.len()));
        }
        let length = usize::try_from(range.end.saturating_sub(range.start)).map_err(|_| truncated(metadata.len()))?;
        let mut bytes = vec![0; length];
        match file.read_exact_at(&mut bytes, range.start) {
            Ok(()) => Ok(bytes.into()),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Err(truncated(metadata.len())),
            Err(error) => Err(self.fault(&format!("cannot read {key}"), &error)),
        }
    }

    fn get_now(&self, key: &str) -> Result<Bytes, StoreError> {
        let (mut file, metadata) = self.open_object(key)?;
        let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or(0));
        io::Read::read_to_end(&mut file, &mut bytes)
            .map_err(|error| self.fault(&format!("cannot read {key}"), &error))?;
        Ok(bytes.into())
    }

    fn head_now(&self, key: &str) -> Result<ObjectMeta, StoreError> {
        match fs::metadata(self.path(key)?) {
            Ok(found) if found.is_dir() => Err(self.not_found(key)),
            Ok(found) => self.meta(key.to_owned(), &found),
            Err(error) => Err(self.read_fault(key, &error)),
        }
    }

    fn meta(&self, key: String, found: &Metadata) -> Result<ObjectMeta, StoreError> {
        let written = found.modified().map_err(|error| self.fault(&format!("cannot tell the age of {key}"), &error))?;
        let modified = jiff::Timestamp::try_from(written)
            .map_err(|error| self.denied(format!("the time of {key} is not a time: {error}")))?;
        Ok(ObjectMeta { key, size_bytes: found.len(), modified })
    }

    fn list_now(&self, prefix: &str) -> Result<Vec<ObjectMeta>, StoreError> {
        key::check_prefix(&self.describe(), prefix)?;
        self.clone().must_exist()?;
        let mut objects = Vec::new();
        let mut waiting = vec![prefix.to_owned()];
        while let Some(prefix) = waiting.pop() {
            for name in self.names_in(&prefix)? {
                let key = format!("{prefix}{name}");
                let path = self.root.join(&key);
                match fs::metadata(&path) {
                    Ok(found) if found.is_dir() => waiting.push(key + "/"),
                    Ok(found) => objects.push(self.meta(key, &found)?),
                    // A link that leads nowhere (a disk not mounted) must not look like an empty store.
                    Err(error) if path.is_symlink() => return Err(self.fault(&format!("cannot follow {key}"), &error)),
                    Err(error) if error.kind() == ErrorKind::NotFound => {}
                    Err(error) => return Err(self.fault(&format!("cannot look at {key}"), &error)),
                }
            }
        }
        objects.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(objects)
    }

    /// Names in a directory that may be part of a key; none when the directory is not there.
    fn names_in(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        let failed = |error: &io::Error| self.fault(&format!("cannot list {prefix:?}"), error);
        let entries = match fs::read_dir(self.root.join(prefix)) {
            Ok(entries) => entries,
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                return Ok(Vec::new());
            }
            Err(error) => return Err(failed(&error)),
        };
        let mut names = Vec::new();
        for entry in entries {
            let name = entry.map_err(|error| failed(&error))?.file_name();
            // What cannot be a key is not ours: `lost+found`, an editor's file, an unfinished write.
            if let Some(name) = name.to_str().filter(|name| key::check("", name).is_ok()) {
                names.push(name.to_owned());
            }
        }
        Ok(names)
    }

    fn delete_now(&self, key: &str) -> Result<(), StoreError> {
        let path = self.path(key)?;
        match fs::remove_file(&path) {
            Ok(()) => {}
            Err(error) if path.is_dir() || self.is_absence(&error) => {
                return self.clone().must_exist().map(|_| ());
            }
            Err(error) => return Err(self.fault(&format!("cannot delete {key}"), &error)),
        }
        reached("store: after a name is gone");
        let dir = path.parent().unwrap_or(&self.root);
        for emptied in dir.ancestors().take_while(|ancestor| *ancestor != self.root) {
            // Fails, as it should, when the directory holds anything.
            if fs::remove_dir(emptied).is_err() {
                break;
            }
        }
        durable::sync_up_from(&self.root, dir)
            .map_err(|error| self.fault(&format!("deleted {key}, but not durably"), &error))
    }

    fn is_absence(&self, error: &io::Error) -> bool {
        matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
    }

    fn read_fault(&self, key: &str, error: &io::Error) -> StoreError {
        if !self.is_absence(error) {
            return self.fault(&format!("cannot read {key}"), error);
        }
        match self.clone().must_exist() {
            Ok(_) => self.not_found(key),
            Err(error) => error,
        }
    }

    fn not_found(&self, key: &str) -> StoreError {
        StoreError::NotFound { place: self.describe(), key: key.to_owned() }
    }

    fn missing(&self) -> StoreError {
        StoreError::Missing {
            place: self.describe(),
            message: "no such directory".to_owned(),
            hint: Some("check the path, or make a store there with `backup-agent init`".to_owned()),
        }
    }

    fn denied(&self, message: String) -> StoreError {
        StoreError::Denied { place: self.describe(), message, hint: None }
    }

    fn fault(&self, doing: &str, error: &io::Error) -> StoreError {
        let place = self.describe();
        let message = format!("{doing}: {error}");
        match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => StoreError::Full { place, message },
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
                let hint = "give this user the right to write there, or choose another store";
                StoreError::Denied { place, message, hint: Some(hint.to_owned()) }
            }
            ErrorKind::NotADirectory
            | ErrorKind::IsADirectory
            | ErrorKind::NotFound
            | ErrorKind::AlreadyExists
            | ErrorKind::InvalidInput
            | ErrorKind::InvalidFilename
            | ErrorKind::FileTooLarge
            | ErrorKind::Unsupported => StoreError::Denied { place, message, hint: None },
            _ => StoreError::Unavailable { place, message },
        }
    }

    /// Runs blocking file work away from the async threads.
    async fn run<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&FsStore) -> Result<T, StoreError> + Send + 'static,
    {
        let store = self.clone();
        match tokio::task::spawn_blocking(move || work(&store)).await {
            Ok(done) => done,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(error) => Err(StoreError::Unavailable { place: self.describe(), message: error.to_string() }),
            },
        }
    }
}

#[async_trait]
impl Store for FsStore {
    async fn put(&self, key: &str, body: Bytes, mode: PutMode) -> Result<(), StoreError> {
        let key = key.to_owned();
        self.run(move |store| store.put_now(&key, &body, mode)).await
    }

    async fn get(&self, key: &str) -> Result<Bytes, StoreError> {
        let key = key.to_owned();
        self.run(move |store| store.get_now(&key)).await
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        let key = key.to_owned();
        self.run(move |store| store.range_now(&key, range)).await
    }

    async fn head(&self, key: &str) -> Result<ObjectMeta, StoreError> {
        let key = key.to_owned();
        self.run(move |store| store.head_now(&key)).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectMeta>, StoreError> {
        let prefix = prefix.to_owned();
        self.run(move |store| store.list_now(&prefix)).await
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        let key = key.to_owned();
        self.run(move |store| store.delete_now(&key)).await
    }

    fn describe(&self) -> String {
        self.root.display().to_string()
    }
}
