//! A change under way: the copy, the lock on the live file, the commit.
//!
//! SQLite's connections and its backup stay on one thread of their own, which is told what to do next. If that thread or
//! the process ends, SQLite gives up its locks and undoes what was not committed.

use super::holders::holders;
use crate::crash_point;
use crate::engine::EngineError;
use crate::engine::sqlite::open::{PAUSE, beside, open_source, sql_error};
use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, ErrorCode, OpenFlags};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// How long others are kept from writing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// From the copy to the commit nobody writes; with a rollback journal nobody reads either.
    Committed,
    /// Others write until the change is held; if one did, it is not held. Only in WAL mode, else as
    /// [`Until::Committed`].
    Held,
}

/// What came of the wish to hold a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// Nobody writes any more, and nobody wrote since the copy.
    Yes,
    /// Somebody wrote since the copy was made: it is of the past. The change has ended; nothing was touched.
    Moved,
}

/// A change under way. Dropping it ends it without a trace on the live database.
pub struct Change {
    orders: std::sync::mpsc::Sender<Order>,
    blocked_since: Option<Instant>,
    path: PathBuf,
}

enum Order {
    Hold(oneshot::Sender<Result<Held, EngineError>>),
    Commit(oneshot::Sender<Result<(), EngineError>>),
}

/// What the thread works on.
struct Files {
    live: PathBuf,
    /// What the database was when the change began.
    copy: PathBuf,
    /// What it becomes: the copy, after others worked on it, or another file.
    source: PathBuf,
    patience: Duration,
}

impl Change {
    pub(super) async fn begin(
        live: &Path,
        copy: &Path,
        source: &Path,
        until: Until,
        patience: Duration,
    ) -> Result<Change, EngineError> {
        let files = Files { live: live.to_owned(), copy: copy.to_owned(), source: source.to_owned(), patience };
        let (orders, received) = std::sync::mpsc::channel();
        let (ready, copied) = oneshot::channel();
        std::thread::Builder::new()
            .name("sqlite-change".into())
            .spawn(move || files.work(until, ready, &received))
            .map_err(|error| EngineError::failed(format!("no thread for the change: {error}")))?;
        let blocked_since = copied.await.unwrap_or_else(|_| Err(lost()))?;
        Ok(Change { orders, blocked_since, path: live.to_owned() })
    }

    /// Since when others cannot write, if they cannot.
    pub fn blocked_since(&self) -> Option<Instant> {
        self.blocked_since
    }

    /// Keeps others from writing until the commit, if nobody wrote since the copy was made.
    pub async fn hold(&mut self) -> Result<Held, EngineError> {
        let (sender, answer) = oneshot::channel();
        let begun = Instant::now();
        self.send(Order::Hold(sender))?;
        let held = answer.await.unwrap_or_else(|_| Err(lost()))?;
        if held == Held::Yes && self.blocked_since.is_none() {
            self.blocked_since = Some(begun);
        }
        Ok(held)
    }

    /// Makes the copy's content the database's, in one commit; must be held. Returns how long others could not write.
    ///
    /// A crash leaves the database as it was or as the copy is. An error leaves it as it was, unless it says otherwise.
    pub async fn commit(self) -> Result<Duration, EngineError> {
        let (sender, answer) = oneshot::channel();
        self.send(Order::Commit(sender))?;
        answer.await.unwrap_or_else(|_| Err(lost()))?;
        Ok(self.blocked_since.map_or(Duration::ZERO, |since| since.elapsed()))
    }

    fn send(&self, order: Order) -> Result<(), EngineError> {
        self.orders.send(order).map_err(|_| {
            EngineError::failed(format!("the change of {} has ended already; it was not touched", self.path.display()))
        })
    }
}

fn lost() -> EngineError {
    EngineError::failed("the change ended by a defect of this program; the database is as it was or as it is to be")
}

type Ready = oneshot::Sender<Result<Option<Instant>, EngineError>>;
type Orders = std::sync::mpsc::Receiver<Order>;

impl Files {
    fn work(self, until: Until, ready: Ready, orders: &Orders) {
        let looked = open_source(&self.live, self.patience).and_then(|source| {
            self.refuse_other_pages(&source.connection, source.wal)?;
            Ok(source.wal)
        });
        let is_wal = match looked {
            Ok(is_wal) => is_wal,
            Err(error) => return drop(ready.send(Err(error))),
        };
        match (is_wal, until) {
            (false, _) => self.exclusive(ready, orders),
            (true, Until::Committed) => self.locked(ready, orders),
            (true, Until::Held) => self.optimistic(ready, orders),
        }
    }

    /// Rollback journal: one connection locks the file, is copied from and copied to.
    fn exclusive(&self, ready: Ready, orders: &Orders) {
        let begun = Instant::now();
        let taken = || -> Result<(Connection, Instant), EngineError> {
            let mut live = self.open_live()?;
            live.execute_batch("PRAGMA locking_mode = EXCLUSIVE").map_err(|error| self.wrong(error))?;
            self.patiently(|| live.execute_batch("BEGIN EXCLUSIVE; COMMIT"))?;
            let since = Instant::now();
            self.clear_copy()?;
            copy(&mut live, &self.copy).map_err(|error| sql_error(&self.copy, error))?;
            Ok((live, since))
        };
        match taken() {
            Err(error) => drop(ready.send(Err(error))),
            Ok((mut live, since)) => {
                tracing::debug!(waited_ms = begun.elapsed().as_millis() as u64, "the database is locked");
                if ready.send(Ok(Some(since))).is_err() {
                    return;
                }
                while let Ok(order) = orders.recv() {
                    match order {
                        Order::Hold(answer) => drop(answer.send(Ok(Held::Yes))),
                        Order::Commit(answer) => return drop(answer.send(self.overwrite(&mut live))),
                    }
                }
            }
        }
    }

    /// WAL: the lock is taken, and kept. A copy that somebody wrote behind meanwhile is made anew under it: beside a
    /// writer that never pauses no copy made before the lock would ever be the newest.
    fn locked(&self, ready: Ready, orders: &Orders) {
        let prepared = || -> Result<_, EngineError> {
            let watch = self.open_live()?;
            let version = self.copied_at(&watch)?;
            Ok((watch, version, self.open_replacement()?, self.open_live()?))
        };
        let (watch, version, source, mut live) = match prepared() {
            Ok(prepared) => prepared,
            Err(error) => return drop(ready.send(Err(error))),
        };
        let locked = Backup::new(&source, &mut live).map_err(|error| self.wrong(error)).and_then(|backup| {
            self.lock_for(&backup)?;
            let since = Instant::now();
            if self.version(&watch)? != version {
                self.copy_again(&watch)?;
            }
            Ok((backup, since))
        });
        let (backup, since) = match locked {
            Ok(locked) => locked,
            Err(error) => return drop(ready.send(Err(error))),
        };
        if ready.send(Ok(Some(since))).is_err() {
            return;
        }
        while let Ok(order) = orders.recv() {
            match order {
                Order::Hold(answer) => drop(answer.send(Ok(Held::Yes))),
                Order::Commit(answer) => {
                    let done = self.finish(backup);
                    return drop(answer.send(done));
                }
            }
        }
    }

    /// WAL: others write until the change is held; then their having written is seen.
    fn optimistic(&self, ready: Ready, orders: &Orders) {
        let copied = || -> Result<_, EngineError> {
            let watch = self.open_live()?;
            let version = self.copied_at(&watch)?;
            Ok((watch, version))
        };
        let (watch, version) = match copied() {
            Ok(copied) => copied,
            Err(error) => return drop(ready.send(Err(error))),
        };
        if ready.send(Ok(None)).is_err() {
            return;
        }
        // Only a change that is held can be committed.
        let Ok(Order::Hold(answer)) = orders.recv() else { return };
        let (source, mut live) = match self.open_replacement().and_then(|source| Ok((source, self.open_live()?))) {
            Ok(opened) => opened,
            Err(error) => return drop(answer.send(Err(error))),
        };
        let held = Backup::new(&source, &mut live).map_err(|error| self.wrong(error)).and_then(|backup| {
            self.lock_for(&backup)?;
            let is_newest = self.version(&watch)? == version || crash_point::is_off("look-for-writes");
            Ok((is_newest, backup))
        });
        let backup = match held {
            Ok((true, backup)) => backup,
            Ok((false, _)) => return drop(answer.send(Ok(Held::Moved))),
            Err(error) => return drop(answer.send(Err(error))),
        };
        if answer.send(Ok(Held::Yes)).is_err() {
            return;
        }
        while let Ok(order) = orders.recv() {
            match order {
                Order::Hold(answer) => drop(answer.send(Ok(Held::Yes))),
                Order::Commit(answer) => {
                    let done = self.finish(backup);
                    return drop(answer.send(done));
                }
            }
        }
    }

    fn open_live(&self) -> Result<Connection, EngineError> {
        open_to_write(&self.live).map_err(|error| self.wrong(error))
    }

    fn open_replacement(&self) -> Result<Connection, EngineError> {
        open_to_write(&self.source).map_err(|error| sql_error(&self.source, error))
    }

    /// SQLite's backup cannot change the page size of a database in WAL mode.
    fn refuse_other_pages(&self, live: &Connection, is_wal: bool) -> Result<(), EngineError> {
        if self.source == self.copy || !is_wal {
            return Ok(());
        }
        let pages = |connection: &Connection| connection.query_row("PRAGMA page_size", [], |row| row.get::<_, i64>(0));
        let there = self.patiently(|| pages(live))?;
        let wanted = pages(&self.open_replacement()?).map_err(|error| sql_error(&self.source, error))?;
        if there == wanted {
            return Ok(());
        }
        let live = self.live.display();
        Err(EngineError::refused(format!(
            "{live} has pages of {there} bytes and is in WAL mode, the backup has pages of {wanted}: SQLite cannot exchange them"
        ))
        .with_hint("stop the application, set PRAGMA journal_mode = DELETE, and run the same again"))
    }

    /// Copies the live database as `watch` sees it now; returns the number that changes when somebody else commits.
    fn copied_at(&self, watch: &Connection) -> Result<i64, EngineError> {
        self.clear_copy()?;
        let version = self.patiently(|| {
            watch.execute_batch("BEGIN")?;
            // The first read fixes the snapshot.
            let seen = watch.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()));
            let seen = seen.and_then(|()| watch.query_row("PRAGMA data_version", [], |row| row.get(0)));
            seen.inspect_err(|_| drop(watch.execute_batch("ROLLBACK")))
        })?;
        let mut target = open_new(&self.copy).map_err(|error| sql_error(&self.copy, error))?;
        let copied = Backup::new(watch, &mut target).and_then(|backup| run_to_end(&backup));
        let ended = watch.execute_batch("COMMIT");
        copied.and(ended).map_err(|error| sql_error(&self.copy, error))?;
        target.close().map_err(|(_, error)| sql_error(&self.copy, error))?;
        Ok(version)
    }

    /// Copies the live database, which nobody can write to now, over the copy.
    fn copy_again(&self, watch: &Connection) -> Result<(), EngineError> {
        let wrong = |error| sql_error(&self.copy, error);
        let mut target = open_to_write(&self.copy).map_err(wrong)?;
        Backup::new(watch, &mut target).and_then(|backup| run_to_end(&backup)).map_err(wrong)?;
        target.close().map_err(|(_, error)| wrong(error))
    }

    /// Removes the copy of an earlier try. One that is kept is new, and has its mode already.
    fn clear_copy(&self) -> Result<(), EngineError> {
        if self.source != self.copy {
            return Ok(());
        }
        for suffix in ["", "-wal", "-shm", "-journal"] {
            let file = beside(&self.copy, suffix);
            match std::fs::remove_file(&file) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(EngineError::failed(format!("{} cannot be removed: {error}", file.display())));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Takes the live database's write lock by a step that copies nothing.
    fn lock_for(&self, backup: &Backup<'_, '_>) -> Result<(), EngineError> {
        let begun = Instant::now();
        crash_point::reached("promote: before the live database is locked");
        loop {
            match backup.step(0).map_err(|error| self.wrong(error))? {
                StepResult::Busy | StepResult::Locked if begun.elapsed() < self.patience => std::thread::sleep(PAUSE),
                StepResult::Busy | StepResult::Locked => return Err(self.busy("it stayed locked")),
                _ => {
                    crash_point::reached("promote: the live database is locked");
                    return Ok(());
                }
            }
        }
    }

    fn version(&self, watch: &Connection) -> Result<i64, EngineError> {
        self.patiently(|| watch.query_row("PRAGMA data_version", [], |row| row.get(0)))
    }

    /// Copies over the live database and commits.
    fn finish(&self, backup: Backup<'_, '_>) -> Result<(), EngineError> {
        crash_point::reached("promote: before the commit");
        let copied = run_to_end(&backup);
        // Finishing commits; what was not copied to its end is undone.
        drop(backup);
        crash_point::reached("promote: after the commit");
        copied.map_err(|error| self.wrong(error))
    }

    fn overwrite(&self, live: &mut Connection) -> Result<(), EngineError> {
        let source = self.open_replacement()?;
        let backup = Backup::new(&source, live).map_err(|error| self.wrong(error))?;
        self.finish(backup)
    }

    /// Tries again while another program holds a lock; then refuses naming who.
    fn patiently<T>(&self, mut work: impl FnMut() -> rusqlite::Result<T>) -> Result<T, EngineError> {
        let begun = Instant::now();
        loop {
            match work() {
                Err(error) if is_locked(&error) && begun.elapsed() < self.patience => std::thread::sleep(PAUSE),
                Err(error) if is_locked(&error) => return Err(self.busy("it stayed locked")),
                done => return done.map_err(|error| self.wrong(error)),
            }
        }
    }

    fn busy(&self, why: &str) -> EngineError {
        let holders = holders(&self.live);
        let by = if holders.is_empty() { String::new() } else { format!(" by {}", holders.join(", ")) };
        EngineError::refused(format!(
            "{} is in use{by}: {why} for {} s; it was not touched",
            self.live.display(),
            self.patience.as_secs_f64()
        ))
        .with_hint("stop the application for the migration, or end its long transaction, and run the same again")
    }

    fn wrong(&self, error: rusqlite::Error) -> EngineError {
        sql_error(&self.live, error)
    }
}

fn is_locked(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

fn open_to_write(path: &Path) -> rusqlite::Result<Connection> {
    let connection =
        Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(Duration::ZERO)?;
    connection.execute_batch("PRAGMA synchronous = FULL; PRAGMA mmap_size = 0; PRAGMA temp_store = MEMORY")?;
    Ok(connection)
}

fn open_new(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.execute_batch("PRAGMA synchronous = OFF")?;
    Ok(connection)
}

fn copy(live: &mut Connection, path: &Path) -> rusqlite::Result<()> {
    let mut target = open_new(path)?;
    let copied = Backup::new(live, &mut target).and_then(|backup| run_to_end(&backup));
    target.close().map_err(|(_, error)| error)?;
    copied
}

fn run_to_end(backup: &Backup<'_, '_>) -> rusqlite::Result<()> {
    loop {
        match backup.step(-1)? {
            StepResult::Done => return Ok(()),
            StepResult::Busy | StepResult::Locked => std::thread::sleep(PAUSE),
            _ => {}
        }
    }
}
