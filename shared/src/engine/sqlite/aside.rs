//! Restoring: a new file beside the target, filled, proven, and named last.

use super::open::{beside, open_private, plain, sql_error};
use super::private::{PrivateFile, WHOLE, random_hex, sweep};
use super::target::TargetPath;
use super::{blocking, chosen, dump::DATABASE, fingerprint};
use crate::engine::{Aside, DumpSource, EngineError, LoadOptions, LoadProgress, Loaded, Progress};
use crate::model::Fingerprint;
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use rusqlite::ErrorCode;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A database file being restored beside its target, under `<target>.restoring-<8 hex digits>`.
#[derive(Debug)]
pub(super) struct SqliteAside {
    target: TargetPath,
    place: PathBuf,
    file: Arc<Mutex<PrivateFile>>,
    chosen: Mutex<Vec<String>>,
}

impl SqliteAside {
    /// Checks that the target is free, removes what a killed restore into it left, and makes the new file.
    pub fn begin(path: &Path) -> Result<SqliteAside, EngineError> {
        let target = TargetPath::resolve(path)?;
        let free = target.check_free();
        let prefix = target.restoring_prefix();
        let no_write = |error: io::Error| {
            EngineError::refused(format!("cannot write beside {}: {error}; nothing was made", target.path().display()))
        };
        // Also where the target is there: a restore that was killed when it had its name left its other name.
        let swept = sweep(&target.dir, &prefix, "");
        free?;
        if let Some(live) = swept.map_err(no_write)?.first() {
            return Err(EngineError::refused(format!(
                "another restore into {} is running ({})",
                target.path().display(),
                live.display()
            ))
            .with_hint("wait for it, or end it"));
        }
        let mut file = PrivateFile::create(&target.dir, &prefix, "").map_err(no_write)?;
        // From here on the caller decides: the value may be dropped with its work worth looking at.
        file.leave();
        Ok(SqliteAside {
            place: file.path().to_owned(),
            target,
            file: Arc::new(Mutex::new(file)),
            chosen: Mutex::default(),
        })
    }

    /// Fills the file: with the stored bytes, or with the tables chosen among them.
    async fn fill(
        &self,
        source: &dyn DumpSource,
        options: &LoadOptions,
        progress: &Progress,
    ) -> Result<Vec<String>, EngineError> {
        if options.tables.is_empty() {
            let file = self.lock().file().clone();
            write_whole(source, options, progress, file, &self.place).await?;
            return Ok(Vec::new());
        }
        let chosen = chosen::choose(source.fingerprint(), &options.tables)?;
        *self.chosen.lock().unwrap_or_else(PoisonError::into_inner) = chosen.clone();
        let (place, whole) = (self.place.clone(), beside(&self.place, WHOLE));
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&whole);
        let file = file.map_err(|error| write_error(&place, 0, source.data().iter().map(|e| e.bytes).sum(), &error))?;
        write_whole(source, options, progress, Arc::new(file), &place).await?;
        progress(LoadProgress::Step("the chosen tables"));
        blocking(move || {
            let notes = chosen::build(&whole, &place, &chosen)?;
            fs::remove_file(&whole)
                .map_err(|error| EngineError::failed(format!("{} could not be removed: {error}", whole.display())))?;
            Ok(notes)
        })
        .await
    }

    fn lock(&self) -> MutexGuard<'_, PrivateFile> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The tables chosen; empty = all.
    fn chosen(&self) -> Vec<String> {
        self.chosen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Writes the stored file durably; every run was checked by the source before it is given out.
async fn write_whole(
    source: &dyn DumpSource,
    options: &LoadOptions,
    progress: &Progress,
    file: Arc<File>,
    place: &Path,
) -> Result<(), EngineError> {
    let wanted = match source.data() {
        [entry] if entry.path == DATABASE => entry.bytes,
        _ => return Err(EngineError::Damaged(format!("the backup does not hold exactly one {DATABASE}"))),
    };
    let ahead = options.workers.clamp(1, 4);
    let mut runs = futures_util::stream::iter(0..source.runs(0)).map(|run| gather(source, run)).buffered(ahead);
    let mut written = 0;
    while let Some(run) = runs.next().await {
        let (run, file, place) = (run?, file.clone(), place.to_owned());
        let bytes = run.iter().map(|part| part.len() as u64).sum::<u64>();
        let write = move |part: &Bytes| (&*file).write_all(part);
        blocking(move || run.iter().try_for_each(write).map_err(|error| write_error(&place, written, wanted, &error)))
            .await?;
        written += bytes;
        progress(LoadProgress::Bytes(bytes));
    }
    if written != wanted {
        let message = format!("the backup holds {written} bytes of {DATABASE} instead of {wanted}");
        return Err(EngineError::Damaged(message));
    }
    let place = place.to_owned();
    blocking(move || file.sync_all().map_err(|error| write_error(&place, written, wanted, &error))).await
}

/// One run, about 8 MiB, in memory: the next ones are fetched while it is written.
async fn gather(source: &dyn DumpSource, run: usize) -> Result<Vec<Bytes>, EngineError> {
    source.read(0, run).collect::<Vec<_>>().await.into_iter().collect()
}

fn write_error(place: &Path, written: u64, wanted: u64, error: &io::Error) -> EngineError {
    let dir = place.parent().unwrap_or(place).display();
    let state = "the unfinished file was removed, the target was not touched";
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            EngineError::failed(format!("no space left in {dir} after {written} of {wanted} bytes: {state}"))
                .with_hint(format!("free {wanted} bytes there, then run the same command again"))
        }
        _ => EngineError::failed(format!(
            "writing into {dir} failed after {written} of {wanted} bytes: {error}; {state}"
        )),
    }
}

#[async_trait]
impl Aside for SqliteAside {
    fn place(&self) -> String {
        self.place.display().to_string()
    }

    async fn load(
        &self,
        source: Arc<dyn DumpSource>,
        options: &LoadOptions,
        progress: Progress,
    ) -> Result<Loaded, EngineError> {
        progress(LoadProgress::Step(DATABASE));
        let loaded = self.fill(&*source, options, &progress).await;
        if loaded.is_err() {
            let file = self.file.clone();
            // The first failure is the one to report; a file that cannot be removed either is swept by the next restore.
            let _ = blocking(move || remove(&file)).await;
        }
        Ok(Loaded { failed: Vec::new(), left_out: loaded? })
    }

    async fn expected(&self, source: &dyn DumpSource) -> Result<Fingerprint, EngineError> {
        Ok(match self.chosen() {
            chosen if chosen.is_empty() => source.fingerprint().clone(),
            chosen => chosen::expected(source.fingerprint(), &chosen),
        })
    }

    async fn fingerprint(&self, source: &dyn DumpSource, _workers: usize) -> Result<Fingerprint, EngineError> {
        let place = self.place.clone();
        let read = move || {
            let reading = fingerprint::read(&open_private(&place)?).map_err(|error| unreadable(&place, error))?;
            Ok(reading.fingerprint)
        };
        let found = blocking(read).await?;
        Ok(if self.chosen().is_empty() { found } else { chosen::comparable(found, source.fingerprint()) })
    }

    async fn promote(self: Box<Self>) -> Result<(), EngineError> {
        blocking(move || {
            let file = self.lock();
            // Locked until the name is given: a restore that begins meanwhile must not sweep the file away.
            promote(file.file(), &self.place, &self.target)
        })
        .await
    }

    async fn keep(self: Box<Self>) -> Result<String, EngineError> {
        blocking(move || {
            let mut name = self.target.name.clone();
            let kept = || -> io::Result<PathBuf> {
                name.push(format!(".kept-{}", random_hex(8)?));
                let kept = self.target.dir.join(name);
                fs::rename(&self.place, &kept)?;
                File::open(&self.target.dir)?.sync_all()?;
                Ok(kept)
            };
            kept().map(|kept| kept.display().to_string()).map_err(|error| {
                EngineError::failed(format!("{} could not be marked as kept: {error}", self.place.display()))
            })
        })
        .await
    }

    async fn discard(self: Box<Self>) -> Result<(), EngineError> {
        blocking(move || remove(&self.file)).await
    }
}

fn remove(file: &Mutex<PrivateFile>) -> Result<(), EngineError> {
    let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
    let place = file.path().to_owned();
    file.remove().map_err(|error| {
        EngineError::failed(format!("the unfinished database {} could not be removed: {error}", place.display()))
    })
}

/// Gives the file at `place` the target's name, durably.
fn promote(file: &File, place: &Path, target: &TargetPath) -> Result<(), EngineError> {
    let path = target.path();
    let left = |error: io::Error| {
        EngineError::failed(format!(
            "{} could not be given its name: {error}; the restored database is {}",
            path.display(),
            place.display()
        ))
    };
    let before = target.check_free()?;
    if let Some(meta) = &before {
        // The empty file was made beforehand so that these would be right.
        file.set_permissions(meta.permissions()).map_err(left)?;
        let own = file.metadata().map_err(left)?;
        if (own.uid(), own.gid()) != (meta.uid(), meta.gid()) {
            chown(place, Some(meta.uid()), Some(meta.gid())).map_err(left)?;
        }
    }
    file.sync_all().map_err(left)?;
    if before.is_some() {
        fs::rename(place, &path).map_err(left)?;
    } else {
        let taken = take_new_name(place, &path).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => EngineError::refused(format!(
                "somebody else made {} meanwhile; it was not touched, the restored database is {}",
                path.display(),
                place.display()
            )),
            _ => left(error),
        })?;
        if let Err(error) = taken {
            return Err(EngineError::failed(format!(
                "{} is restored and proven, but its other name {} could not be taken away: {error}",
                path.display(),
                place.display()
            ))
            .with_hint("remove the other name, not the database"));
        }
    }
    File::open(&target.dir).and_then(|dir| dir.sync_all()).map_err(|error| {
        EngineError::failed(format!(
            "{} is restored and proven, but its folder could not be flushed: {error}",
            path.display()
        ))
        .with_hint("look at the disk; after a power cut the name may be missing")
    })
}

/// A rename that never replaces: a hard link fails where the name is taken. The inner result tells whether the old name is
/// gone, too.
fn take_new_name(place: &Path, path: &Path) -> io::Result<io::Result<()>> {
    match fs::hard_link(place, path) {
        Ok(()) => Ok(fs::remove_file(place)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(error),
        // Some file systems have no hard links; a look and a rename are what is left there.
        Err(_) if fs::symlink_metadata(path).is_ok() => Err(io::ErrorKind::AlreadyExists.into()),
        Err(_) => fs::rename(place, path).map(Ok),
    }
}

/// What was just written from the backup and cannot be read is damage of the backup, not of somebody's database.
fn unreadable(place: &Path, error: rusqlite::Error) -> EngineError {
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
            EngineError::Damaged(format!("what the backup holds cannot be read as a database: {}", plain(&error)))
        }
        _ => sql_error(place, error),
    }
}
