//! What `migrate-worker sql-runner` does: a process of its own, so that it can be ended like any other tool.

use super::{SQL_VARIABLE, TABLE, URL_VARIABLE, applicable, read};
use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use sqlx::migrate::{AppliedMigration, Migrate, MigrateError, Migration, Migrator};
use sqlx::postgres::{PgConnectOptions, PgDatabaseError};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection, SqliteConnection};
use std::collections::BTreeSet;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// How long SQLite waits for somebody else's lock.
const BUSY: Duration = Duration::from_secs(5);

/// Runs SQL migrations; meant for the runner `sql` only.
#[derive(Debug, Args)]
pub struct SqlRunner {
    /// What to do
    #[arg(value_enum)]
    verb: Verb,
    /// Where the migrations lie
    #[arg(long)]
    directory: Option<PathBuf>,
    /// The version to stop at, or `base`
    #[arg(long, allow_hyphen_values = true)]
    to: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Verb {
    Up,
    Down,
    Stamp,
    Current,
    /// What `HOLDFAST_SQL` holds, in one transaction
    Statements,
}

/// Runs the subcommand. Says each migration on stdout, and what went wrong in sqlx's words on stderr.
pub async fn run(args: SqlRunner) -> ExitCode {
    match work(&args).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {}", told(&error));
            ExitCode::FAILURE
        }
    }
}

/// An error with its causes, without those it repeats itself.
fn told(error: &anyhow::Error) -> String {
    let text = causes(error);
    let database = error.chain().find_map(|cause| cause.downcast_ref::<sqlx::Error>()?.as_database_error());
    let Some(postgres) = database.and_then(|error| error.try_downcast_ref::<PgDatabaseError>()) else { return text };
    // The line is one of the server's own source, and people look for it in their files.
    let text = postgres.line().map_or(text.clone(), |line| text.replace(&format!(" at line {line}"), ""));
    postgres.detail().map_or(text.clone(), |detail| format!("{text} ({detail})")).replace('\n', " ")
}

fn causes(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |text, cause| match text.as_str() {
        "" => cause,
        said if said.contains(&cause) => text,
        said => format!("{said}: {cause}"),
    })
}

async fn work(args: &SqlRunner) -> Result<()> {
    let url = std::env::var(URL_VARIABLE).with_context(|| format!("{URL_VARIABLE} is not set"))?;
    let mut database = Database::connect(&url).await.context("the database cannot be opened")?;
    match args.verb {
        Verb::Up => database.up(args.migrator().await?, args.version()?).await?,
        Verb::Down => down(database.migrate(), &args.migrator().await?, args.version()?).await?,
        Verb::Stamp => database.stamp(&args.migrator().await?, args.version()?).await?,
        Verb::Current => {
            if let Some(version) = database.newest().await? {
                say(&version.to_string());
            }
        }
        Verb::Statements => database.statements().await?,
    }
    database.close().await?;
    Ok(())
}

impl SqlRunner {
    async fn migrator(&self) -> Result<Migrator> {
        Ok(read(self.directory.as_deref().context("--directory is missing")?).await?)
    }

    fn version(&self) -> Result<i64> {
        match self.to.as_deref() {
            // Below every version there can be.
            Some("base") => Ok(i64::MIN),
            Some(to) => to.parse().with_context(|| format!("{to:?} is no version")),
            None => bail!("--to is missing"),
        }
    }
}

enum Database {
    Postgres(PgConnection),
    Sqlite(SqliteConnection),
}

impl Database {
    async fn connect(url: &str) -> Result<Self, sqlx::Error> {
        if url.starts_with("sqlite:") {
            // A file that is not there would be a wrong path, not a new database.
            let options: SqliteConnectOptions = url.parse()?;
            let options = options.create_if_missing(false).busy_timeout(BUSY).disable_statement_logging();
            return options.connect().await.map(Database::Sqlite);
        }
        // Who it is and how long it waits comes by PGAPPNAME and PGOPTIONS.
        let options: PgConnectOptions = url.parse()?;
        options.disable_statement_logging().connect().await.map(Database::Postgres)
    }

    fn migrate(&mut self) -> &mut (dyn Migrate + Send) {
        match self {
            Database::Postgres(connection) => connection,
            Database::Sqlite(connection) => connection,
        }
    }

    /// Runs statements; returns how many rows they changed.
    async fn execute(&mut self, sql: String) -> Result<u64, sqlx::Error> {
        let sql = sqlx::raw_sql(AssertSqlSafe(sql));
        match self {
            Database::Postgres(connection) => sql.execute(connection).await.map(|done| done.rows_affected()),
            Database::Sqlite(connection) => sql.execute(connection).await.map(|done| done.rows_affected()),
        }
    }

    /// Runs what `HOLDFAST_SQL` holds, in one transaction.
    async fn statements(&mut self) -> Result<()> {
        let sql = std::env::var(SQL_VARIABLE).with_context(|| format!("{SQL_VARIABLE} is not set"))?;
        self.execute("BEGIN".into()).await?;
        let rows = self.execute(sql).await?;
        self.execute("COMMIT".into()).await?;
        say(&format!("done, {rows} rows"));
        Ok(())
    }

    async fn close(self) -> Result<(), sqlx::Error> {
        match self {
            Database::Postgres(connection) => connection.close().await,
            Database::Sqlite(connection) => connection.close().await,
        }
    }

    /// One version at a time, each by sqlx's own run, so that each is told with its duration.
    async fn up(&mut self, migrator: Migrator, to: i64) -> Result<(), MigrateError> {
        let versions: Vec<(i64, String)> =
            applicable(&migrator).map(|migration| (migration.version, migration.description.to_string())).collect();
        let before = match self.newest().await? {
            Some(_) => versions_of(&self.applied().await?),
            None => BTreeSet::new(),
        };
        for (version, description) in versions {
            if version > to || before.contains(&version) {
                continue;
            }
            let begun = Instant::now();
            match self {
                Database::Postgres(connection) => migrator.run_direct(Some(version), connection, false).await?,
                Database::Sqlite(connection) => migrator.run_direct(Some(version), connection, false).await?,
            }
            say(&format!("applied {version} {description} ({} ms)", begun.elapsed().as_millis()));
        }
        Ok(())
    }

    async fn applied(&mut self) -> Result<Vec<AppliedMigration>, MigrateError> {
        self.migrate().list_applied_migrations(TABLE).await
    }

    /// The newest applied version; none also where sqlx's table is missing.
    async fn newest(&mut self) -> Result<Option<i64>, sqlx::Error> {
        let there: bool = match self {
            Database::Postgres(connection) => {
                sqlx::query_scalar("SELECT to_regclass('_sqlx_migrations') IS NOT NULL").fetch_one(connection).await?
            }
            Database::Sqlite(connection) => {
                let sql = "SELECT count(*) > 0 FROM sqlite_schema WHERE type = 'table' AND name = '_sqlx_migrations'";
                sqlx::query_scalar(sql).fetch_one(connection).await?
            }
        };
        if !there {
            return Ok(None);
        }
        let sql = "SELECT max(version) FROM _sqlx_migrations";
        match self {
            Database::Postgres(connection) => sqlx::query_scalar(sql).fetch_one(connection).await,
            Database::Sqlite(connection) => sqlx::query_scalar(sql).fetch_one(connection).await,
        }
    }

    /// Makes the table say that exactly the known versions up to `to` are applied as they are now, in one transaction.
    async fn stamp(&mut self, migrator: &Migrator, to: i64) -> Result<()> {
        if to != i64::MIN && !applicable(migrator).any(|migration| migration.version == to) {
            bail!(MigrateError::VersionNotPresent(to));
        }
        self.execute("BEGIN".into()).await?;
        self.migrate().ensure_migrations_table(TABLE).await?;
        let wanted: Vec<&Migration> = applicable(migrator).filter(|migration| migration.version <= to).collect();
        let applied = self.applied().await?;
        let right = |row: &AppliedMigration| {
            wanted.iter().any(|migration| migration.version == row.version && migration.checksum == row.checksum)
        };
        for row in applied.iter().filter(|row| !right(row)) {
            self.execute(format!("DELETE FROM {TABLE} WHERE version = {}", row.version)).await?;
        }
        self.execute(format!("UPDATE {TABLE} SET success = true WHERE NOT success")).await?;
        let kept: BTreeSet<i64> = applied.iter().filter(|row| right(row)).map(|row| row.version).collect();
        for migration in wanted.iter().filter(|migration| !kept.contains(&migration.version)) {
            self.migrate().skip(TABLE, migration).await?;
        }
        self.execute("COMMIT".into()).await?;
        say(&format!("stamped {} migrations", wanted.len()));
        Ok(())
    }
}

/// Takes back the applied versions above `to`, the newest first, as sqlx's own undo does; refuses before the first where
/// one of them has no way back, which sqlx would pass over.
async fn down(database: &mut (dyn Migrate + Send), migrator: &Migrator, to: i64) -> Result<()> {
    database.lock().await?;
    database.ensure_migrations_table(TABLE).await?;
    if let Some(version) = database.dirty_version(TABLE).await? {
        bail!(MigrateError::Dirty(version));
    }
    let applied = versions_of(&database.list_applied_migrations(TABLE).await?);
    if let Some(version) = applied.iter().find(|version| !migrator.version_exists(**version)) {
        bail!(MigrateError::VersionMissing(*version));
    }
    let mut back: Vec<&Migration> = Vec::new();
    for version in applied.iter().rev().filter(|version| **version > to) {
        let is_back =
            |migration: &&Migration| migration.version == *version && migration.migration_type.is_down_migration();
        let Some(found) = migrator.iter().find(is_back) else { bail!("migration {version} has no .down.sql") };
        back.push(found);
    }
    for migration in back {
        let took = database.revert(TABLE, migration).await?;
        say(&format!("reverted {} {} ({} ms)", migration.version, migration.description, took.as_millis()));
    }
    database.unlock().await?;
    Ok(())
}

fn versions_of(applied: &[AppliedMigration]) -> BTreeSet<i64> {
    applied.iter().map(|row| row.version).collect()
}

fn say(line: &str) {
    let mut out = std::io::stdout();
    // That nobody reads it is no reason to stop in the middle of a migration.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}
