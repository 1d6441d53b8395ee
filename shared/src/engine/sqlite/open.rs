//! Opening a database file: what is checked before SQLite sees it, how own connections are set, what errors say.
//!
//! A live database file is never opened by `std::fs`: closing any descriptor of a file drops all POSIX locks this
//! process holds on it, also those of an SQLite connection elsewhere in the process. Only `stat` is used here.

use crate::engine::EngineError;
use crate::model::Identity;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, ffi};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Length of the smallest database: one page of the smallest size.
pub(super) const SMALLEST: u64 = 512;

/// A connection to a database somebody else uses, and what was found on the way.
pub(super) struct Source {
    /// The connection; reads only.
    pub connection: Connection,
    /// Canonical path.
    pub path: PathBuf,
    /// The database's journal mode is WAL.
    pub wal: bool,
    /// Size in bytes, without what lies beside it.
    pub bytes: u64,
    /// A transaction that a crash had left half done was undone by opening.
    pub rolled_back: bool,
    /// How long locks are waited for.
    pub timeout: Duration,
}

/// Opens an existing database to read it while others write.
///
/// Opens it read-only; where a crash left a hot journal behind, opens it once for writing so that SQLite undoes the
/// unfinished transaction, as any program that opened it would. In WAL mode an empty `-wal` and a `-shm` stay beside the
/// database where no other program had it open: removing them is only safe for a writer.
pub(super) fn open_source(path: &Path, timeout: Duration) -> Result<Source, EngineError> {
    let path = existing_file(path)?;
    let open = |access: OpenFlags| {
        Connection::open_with_flags(&path, access | OpenFlags::SQLITE_OPEN_NO_MUTEX)
            .and_then(careful)
            .map_err(|error| sql_error(&path, error))
    };
    let mut connection = open(OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let mut rolled_back = false;
    let (wal, bytes) = match patiently(timeout, || look(&connection)) {
        Err(error) if needs_recovery(&error) => {
            // Read-write is a wish: SQLite opens a write-protected file for reading and then fails as before.
            connection = open(OpenFlags::SQLITE_OPEN_READ_WRITE)?;
            let seen = patiently(timeout, || look(&connection)).map_err(|error| sql_error(&path, error))?;
            rolled_back = true;
            seen
        }
        seen => seen.map_err(|error| sql_error(&path, error))?,
    };
    Ok(Source { connection, path, wal, bytes, rolled_back, timeout })
}

impl Source {
    /// Begins a read transaction: everything read in it is of one snapshot.
    pub fn begin(&self) -> rusqlite::Result<()> {
        patiently(self.timeout, || {
            self.connection.execute_batch("BEGIN")?;
            // BEGIN takes no lock and fixes no snapshot; the first read does.
            self.connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(())).inspect_err(|_| {
                let _ = self.connection.execute_batch("ROLLBACK");
            })
        })
    }
}

/// How long SQLite may claim that a transaction is unfinished before it is believed: when a writer deletes its journal
/// between two looks of a read-only connection, that connection takes the journal for an abandoned one.
const RECOVERY_DOUBT: Duration = Duration::from_millis(250);

/// Tries again while another program holds a lock, for `timeout` at most.
///
/// Asks more often than SQLite's own busy timeout: with a rollback journal a busy writer leaves only moments.
fn patiently<T>(timeout: Duration, mut work: impl FnMut() -> rusqlite::Result<T>) -> rusqlite::Result<T> {
    let begun = Instant::now();
    loop {
        let limit = match work() {
            Err(error) if is_locked(&error) && begun.elapsed() < timeout => Ok(()),
            Err(error) if needs_recovery(&error) && begun.elapsed() < RECOVERY_DOUBT => Ok(()),
            done => Err(done),
        };
        match limit {
            Ok(()) => std::thread::sleep(PAUSE),
            Err(done) => return done,
        }
    }
}

/// How long to wait before asking again for a lock that another program holds.
pub(super) const PAUSE: Duration = Duration::from_millis(2);

fn is_locked(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

/// Opens a file nobody else uses, without locks and without making files beside it.
pub(super) fn open_private(path: &Path) -> Result<Connection, EngineError> {
    let access = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
    Connection::open_with_flags(immutable_uri(path), access).and_then(careful).map_err(|error| sql_error(path, error))
}

/// The URI under which SQLite opens `path` as a file that does not change.
pub(super) fn immutable_uri(path: &Path) -> String {
    use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
    use std::os::unix::ffi::OsStrExt;
    let path = percent_encode(path.as_os_str().as_bytes(), NON_ALPHANUMERIC);
    format!("file:{}?immutable=1", path.to_string().replace("%2F", "/"))
}

/// Settings for a file that may be hostile or damaged, and never a checkpoint of somebody else's WAL.
fn careful(connection: Connection) -> rusqlite::Result<Connection> {
    connection.busy_timeout(Duration::ZERO)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    connection.execute_batch("PRAGMA cell_size_check = ON; PRAGMA mmap_size = 0; PRAGMA temp_store = MEMORY")?;
    Ok(connection)
}

/// Makes SQLite read header and schema (until then an open file is only a promise), and asks for the journal mode and
/// the size, all under one lock.
fn look(connection: &Connection) -> rusqlite::Result<(bool, u64)> {
    let snapshot = connection.unchecked_transaction()?;
    snapshot.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
    let mode: String = snapshot.query_row("PRAGMA main.journal_mode", [], |row| row.get(0))?;
    let number = |name| snapshot.query_row(&format!("PRAGMA main.{name}"), [], |row| row.get::<_, i64>(0));
    let bytes = number("page_size")?.unsigned_abs() * number("page_count")?.unsigned_abs();
    Ok((mode == "wal", bytes))
}

/// A read-only connection found a transaction that only a writer can undo.
pub(super) fn needs_recovery(error: &rusqlite::Error) -> bool {
    error.sqlite_error().is_some_and(|error| {
        matches!(error.extended_code, ffi::SQLITE_READONLY_ROLLBACK | ffi::SQLITE_READONLY_RECOVERY)
    })
}

/// Resolves links and refuses, before SQLite could touch anything, what cannot be a database.
pub(super) fn existing_file(path: &Path) -> Result<PathBuf, EngineError> {
    let path = path.canonicalize().map_err(|error| not_reached(path, &error))?;
    let meta = fs::metadata(&path).map_err(|error| not_reached(&path, &error))?;
    let shown = path.display();
    if meta.is_dir() {
        return Err(EngineError::refused(format!("{shown} is a directory, not a database file")));
    }
    if !meta.is_file() {
        return Err(EngineError::refused(format!("{shown} is not a regular file")));
    }
    if meta.len() < SMALLEST {
        // SQLite takes such a file for an empty database, and then deletes a -wal or -journal beside it, perhaps the
        // only copy of the data.
        let size = if meta.len() == 0 { "is empty (0 bytes)".into() } else { format!("has {} bytes only", meta.len()) };
        return Err(EngineError::refused(format!("{shown} {size}: not an SQLite database"))
            .with_hint("check the path: a program that opens a wrong path leaves an empty file there"));
    }
    Ok(path)
}

fn not_reached(path: &Path, error: &io::Error) -> EngineError {
    let shown = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let shown = shown.display();
    match error.kind() {
        io::ErrorKind::NotFound => EngineError::refused(format!("no database file {shown}")),
        io::ErrorKind::PermissionDenied => {
            EngineError::refused(format!("{shown} cannot be reached: permission denied"))
                .with_hint("give this user search permission on every directory of the path")
        }
        _ => EngineError::refused(format!("{shown} cannot be reached: {error}")),
    }
}

/// Turns an SQLite error at `path` into one a person can act on.
pub(super) fn sql_error(path: &Path, error: rusqlite::Error) -> EngineError {
    let shown = path.display();
    let said = plain(&error);
    match error.sqlite_error().map(|error| (error.code, error.extended_code)) {
        Some((ErrorCode::NotADatabase, _)) => {
            EngineError::refused(format!("{shown} is not an SQLite database, or it is encrypted"))
        }
        Some((ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked, _)) => EngineError::Unreachable {
            message: format!("{shown} is locked by {} for longer than the lock timeout", locked_by(path)),
            hint: Some("end the long transaction or the exclusive lock on it, then run the same command again".into()),
        },
        Some((_, ffi::SQLITE_READONLY_ROLLBACK | ffi::SQLITE_READONLY_RECOVERY)) => EngineError::refused(format!(
            "{shown} holds an unfinished transaction that only a writer can undo"
        ))
        .with_hint(
            "give this user write permission on the file and its directory, or open it once with the application",
        ),
        Some((ErrorCode::CannotOpen | ErrorCode::PermissionDenied | ErrorCode::ReadOnly, _)) => EngineError::refused(
            format!("{shown} cannot be opened: {said}{}", rights(path)),
        )
        .with_hint("give this user read permission on the file, and in WAL mode write permission on its directory"),
        Some((ErrorCode::DiskFull, _)) => EngineError::failed(format!("no space left while writing {shown}: {said}"))
            .with_hint("free space there, then run the same command again"),
        Some((ErrorCode::Unknown, _)) if said.starts_with("no such table") => {
            EngineError::NoSuchTable(format!("{shown} cannot be read: {said}"))
        }
        // Not damage: SQLite reads the definitions one by one, and this one is beyond it.
        Some((ErrorCode::DatabaseCorrupt, _)) if said.starts_with("malformed database schema") => {
            EngineError::refused(format!("{shown} cannot be read: {said}")).with_hint(not_understood("a definition in it"))
        }
        Some((ErrorCode::DatabaseCorrupt, _)) => {
            EngineError::failed(format!("{shown} is damaged: {said}")).with_hint(damaged(path))
        }
        Some(_) if said == "unsupported file format" => {
            EngineError::refused(format!("{shown} cannot be read: {said}")).with_hint(not_understood("its format"))
        }
        Some(_) if said == "no query solution" => EngineError::refused(format!(
            "{shown} holds a table WITHOUT ROWID in an order (COLLATE) that only the application knows: its rows cannot \
             be read"
        ))
        .with_hint("give the key an order that SQLite itself knows"),
        None if said.contains("utf-8") => EngineError::refused(format!(
            "{shown} holds a name or a definition that is not UTF-8: {said}"
        ))
        .with_hint("give it another name (ALTER TABLE … RENAME), then run the same command again"),
        _ => EngineError::failed(format!("{shown}: {said}")),
    }
}

fn not_understood(what: &str) -> String {
    format!(
        "SQLite {} does not understand {what}: a later version, another build or a person wrote it",
        rusqlite::version()
    )
}

fn damaged(path: &Path) -> &'static str {
    if length(&beside(path, "-wal")) > 0 {
        "the -wal beside it may be of another time or another database: look without it, on a copy of both; \
         sqlite3's .recover command saves what can be read"
    } else {
        "sqlite3's .recover command saves what can be read"
    }
}

/// Who has the file locked, as far as this machine's kernel tells.
fn locked_by(path: &Path) -> String {
    // The kernel knows the file itself, not the links that lead to it.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let holders = super::live::holders(&path);
    if holders.is_empty() { "another program".to_owned() } else { holders.join(", ") }
}

/// What SQLite said, on one line.
pub(super) fn plain(error: &rusqlite::Error) -> String {
    let text = match error {
        rusqlite::Error::SqliteFailure(_, Some(text)) => text.clone(),
        other => other.to_string(),
    };
    text.replace(['\n', '\r'], " ")
}

fn rights(path: &Path) -> String {
    match fs::metadata(path) {
        Ok(meta) => format!(" (mode {:03o}, owner uid {})", meta.mode() & 0o7777, meta.uid()),
        Err(_) => String::new(),
    }
}

/// The path of a file that SQLite keeps beside a database (`-wal`, `-shm`, `-journal`).
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Length of the file at `path`; 0 where there is none.
pub(super) fn length(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |meta| meta.len())
}

/// Which database the file at `path` (canonical) is.
pub(super) fn identity(path: &Path) -> Identity {
    let read =
        |path: &str| fs::read_to_string(path).ok().map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
    let machine = read("/etc/machine-id").or_else(|| read("/proc/sys/kernel/hostname")).unwrap_or("unknown".into());
    Identity::Sqlite { machine, path: path.to_string_lossy().into_owned() }
}
