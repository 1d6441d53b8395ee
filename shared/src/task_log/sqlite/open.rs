//! Opens the file, makes it, looks whose it is.

use super::{code, drafts, failed, unavailable, unusable};
use crate::task_log::TaskLogError;
use crate::task_log::migrations::{self, Verdict};
use sqlx::migrate::MigrateError;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, SqliteConnection};
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

/// "HFTL" in the file's header says whose file it is.
const APPLICATION_ID: i64 = 0x4846_544c;

/// SQLite's code for a file that is not whole.
const CORRUPT: u32 = 11;

/// What the file may be opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Only an existing file, and it is not changed.
    Read,
    /// A missing one is made, an older one brought to the newest form.
    Write,
}

/// Opens the record, or makes it where that is allowed.
pub async fn open(path: &Path, access: Access, patience: Duration) -> Result<SqliteConnection, TaskLogError> {
    let place = path.display().to_string();
    if access == Access::Write {
        drafts::sweep(path);
    }
    match std::fs::metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound && access == Access::Write => make(path, patience).await?,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err(TaskLogError::Missing { place });
        }
        _ => {}
    }
    open_again(path, access, patience).await
}

/// Opens the record, which must be there.
pub async fn open_again(path: &Path, access: Access, patience: Duration) -> Result<SqliteConnection, TaskLogError> {
    let place = path.display().to_string();
    let meta = std::fs::metadata(path).map_err(|error| match error.kind() {
        ErrorKind::NotFound => unusable(&place, "the file is not there any more", Some("start the program anew")),
        _ => unusable(&place, error.to_string(), None),
    })?;
    if !meta.is_file() || meta.len() == 0 {
        let message = "it is no SQLite database; it was not touched";
        return Err(unusable(&place, message, Some("name a file that does not exist yet, or remove this one")));
    }
    look(path, &place).await?;
    let options = options(path).read_only(access == Access::Read).busy_timeout(patience);
    let mut connection = options.connect().await.map_err(|error| failed(&place, &error))?;
    let applied = version(&mut connection).await.map_err(|error| failed(&place, &error))?;
    match migrations::judge(&place, &migrations::sqlite(), applied)? {
        Verdict::Older if access == Access::Read => return Err(migrations::too_old(&place)),
        Verdict::Older => upgrade(&mut connection, &place, applied).await?,
        Verdict::Current => {}
    }
    if access == Access::Write {
        let wal = sqlx::raw_sql("PRAGMA journal_mode = WAL").execute(&mut connection).await;
        wal.map_err(|error| failed(&place, &error))?;
    }
    Ok(connection)
}

fn options(path: &Path) -> SqliteConnectOptions {
    let options = SqliteConnectOptions::new().filename(path).create_if_missing(false);
    options.synchronous(SqliteSynchronous::Full).foreign_keys(true).disable_statement_logging()
}

/// Looks whose file it is without locking it and without making files beside it.
async fn look(path: &Path, place: &str) -> Result<(), TaskLogError> {
    let look = async |immutable: bool| {
        let options = SqliteConnectOptions::new().filename(path).create_if_missing(false).read_only(true);
        let mut connection = options.immutable(immutable).disable_statement_logging().connect().await?;
        let id = sqlx::query_scalar::<_, i64>("PRAGMA application_id").fetch_one(&mut connection).await?;
        connection.close().await?;
        Ok::<i64, sqlx::Error>(id)
    };
    let id = match look(true).await {
        // Without its journal the file need not be whole: a process that ended while SQLite moved the one into the other
        // left it so, and only together they are.
        Err(error) if code(&error).is_some_and(|code| code & 0xff == CORRUPT) => look(false).await,
        seen => seen,
    };
    let id = id.map_err(|error| failed(place, &error))?;
    if id == APPLICATION_ID {
        return Ok(());
    }
    let message = "it is the database of another application, not a record of tasks; it was not touched";
    Err(unusable(place, message, Some("name another file as url of [state]")))
}

async fn version(connection: &mut SqliteConnection) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("SELECT coalesce(max(version), 0) FROM _sqlx_migrations").fetch_one(connection).await
}

/// Brings the tables of the version `applied` to their newest form.
///
/// Several programs may begin at the same time: each step is one transaction, so whoever comes second finds it done,
/// fails, and goes on with the next one.
async fn upgrade(connection: &mut SqliteConnection, place: &str, mut applied: i64) -> Result<(), TaskLogError> {
    loop {
        let Err(error) = migrate(connection, place).await else { return Ok(()) };
        let now = version(connection).await.map_err(|error| failed(place, &error))?;
        match migrations::judge(place, &migrations::sqlite(), now)? {
            Verdict::Current => return Ok(()),
            Verdict::Older if now > applied => applied = now,
            Verdict::Older => return Err(error),
        }
    }
}

async fn migrate(connection: &mut SqliteConnection, place: &str) -> Result<(), TaskLogError> {
    migrations::sqlite().run_direct(None, connection, false).await.map_err(|error| match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => failed(place, &error),
        other => unusable(place, other.to_string(), None),
    })
}

/// Makes the file under another name and links it into place when it is whole, so that nobody ever sees a part of it.
async fn make(path: &Path, patience: Duration) -> Result<(), TaskLogError> {
    let place = path.display().to_string();
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(unusable(&place, "it is no path of a file", None));
    };
    // Locked while it is made, so that others can tell it from what a killed program left.
    let (draft, held) = drafts::create(parent, name).map_err(|error| match error.kind() {
        ErrorKind::NotFound => unusable(&place, "its directory is not there", Some("make the directory first")),
        ErrorKind::StorageFull => unavailable(&place, "there is no space left on its disk"),
        _ => unusable(&place, format!("it cannot be made: {error}"), None),
    })?;
    let made = fill(&draft, &place, patience).await.and_then(|()| {
        let linked = match std::fs::hard_link(&draft, path) {
            // Somebody else made it meanwhile: theirs is as good.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
            linked => linked.and_then(|()| std::fs::File::open(parent)?.sync_all()),
        };
        linked.map_err(|error| unavailable(&place, format!("it could not be made: {error}")))
    });
    drafts::remove(&draft);
    drop(held);
    made
}

async fn fill(draft: &Path, place: &str, patience: Duration) -> Result<(), TaskLogError> {
    let wrong = |error: sqlx::Error| failed(place, &error);
    let connect = options(draft).journal_mode(SqliteJournalMode::Delete).busy_timeout(patience);
    let mut connection = connect.connect().await.map_err(wrong)?;
    let id = format!("PRAGMA application_id = {APPLICATION_ID}");
    sqlx::raw_sql(AssertSqlSafe(id)).execute(&mut connection).await.map_err(wrong)?;
    migrate(&mut connection, place).await?;
    sqlx::raw_sql("PRAGMA journal_mode = WAL").execute(&mut connection).await.map_err(wrong)?;
    connection.close().await.map_err(wrong)
}
