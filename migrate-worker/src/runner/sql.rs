//! A directory of SQL files, as sqlx has them, run by sqlx's own code in a child of this program.
//!
//! Every sqlx project works as it is: `<version>_<name>.sql`, `.up.sql` and `.down.sql`, `-- no-transaction`, the table
//! `_sqlx_migrations` with its SHA-384 checksums.

pub mod child;
mod current;

use super::environment::of_sessions;
use super::{Current, Direction, Environment, History, Revision, Route, Runner, RunnerError, ToolCall, ToolRun};
use super::{address, is_revision, tool};
use async_trait::async_trait;
use sha2::{Digest, Sha256};
use shared::engine::Engine;
use shared::model::DatabaseUrl;
use shared::subprocess::{Subprocess, Watched};
use sqlx::migrate::{Migration, Migrator};
use std::path::{Path, PathBuf};

/// sqlx's own table.
const TABLE: &str = "_sqlx_migrations";

/// Variable that tells the child where the database is; its arguments would be visible to everybody.
const URL_VARIABLE: &str = "HOLDFAST_DATABASE_URL";

/// Variable that holds the statements of the verb `statements`; as arguments everybody would see them.
const SQL_VARIABLE: &str = "HOLDFAST_SQL";

/// What a variable of the environment can hold at most on Linux, less its name.
const SQL_BYTES: usize = 128 * 1024 - 64;

/// The child of `program`, which is this one, that runs statements in one transaction; its variables go into `own`.
pub(super) fn statements(
    program: &Path,
    sql: &str,
    url: &DatabaseUrl,
    own: &mut Vec<(String, String)>,
) -> Result<Subprocess, RunnerError> {
    if sql.len() > SQL_BYTES || sql.contains('\0') {
        return Err(RunnerError::new("the statements are longer than 128 KB, or hold a NUL byte"));
    }
    own.push((URL_VARIABLE.to_owned(), address::for_sqlx(url)?));
    own.push((SQL_VARIABLE.to_owned(), sql.to_owned()));
    Ok(Subprocess::new(program).args(["sql-runner", "statements"]))
}

/// The runner `sql`.
#[derive(Debug)]
pub struct SqlRunner {
    directory: PathBuf,
    workdir: PathBuf,
    program: PathBuf,
    environment: Environment,
}

impl SqlRunner {
    /// Files of `directory`, run by `program`, which has the subcommand `sql-runner`: this program itself.
    pub fn new(directory: PathBuf, program: PathBuf, environment: Environment) -> Self {
        SqlRunner { workdir: directory.clone(), directory, program, environment }
    }

    /// The same, started in another directory.
    pub fn workdir(self, workdir: PathBuf) -> Self {
        SqlRunner { workdir, ..self }
    }

    async fn child(
        &self,
        verb: &str,
        to: Option<&str>,
        url: &DatabaseUrl,
        call: &ToolCall,
    ) -> Result<Watched, RunnerError> {
        let mut own = of_sessions(url, call).await?;
        own.push((URL_VARIABLE.to_owned(), address::for_sqlx(url)?));
        let variables = self.environment.variables(own, url)?;
        let mut program = Subprocess::new(&self.program).workdir(&self.workdir).envs(variables);
        program = program.args(["sql-runner", verb, "--directory"]).arg(&self.directory);
        if let Some(to) = to {
            program = program.args(["--to", to]);
        }
        tool::watch(program, self.environment.secrets(Some(url)), call).await
    }
}

#[async_trait]
impl Runner for SqlRunner {
    fn name(&self) -> &'static str {
        "sql"
    }

    async fn history(&self) -> Result<History, RunnerError> {
        let migrator = read(&self.directory).await?;
        let mut revisions: Vec<Revision> = Vec::new();
        for migration in applicable(&migrator) {
            let id = migration.version.to_string();
            if !is_revision(&id) {
                return Err(RunnerError::new(format!("a migration's version cannot be {id}")).hint("begin with 1"));
            }
            if revisions.last().is_some_and(|last| last.id == id) {
                return Err(
                    RunnerError::new(format!("two migrations have the version {id}")).hint("rename one of them")
                );
            }
            let parents = revisions.last().map(|last| last.id.clone()).into_iter().collect();
            let is_down =
                |other: &Migration| other.version == migration.version && other.migration_type.is_down_migration();
            let has_downgrade = migrator.iter().any(is_down);
            let (message, replaces) = (migration.description.to_string(), Vec::new());
            revisions.push(Revision { id, parents, message, has_downgrade, replaces });
        }
        if revisions.is_empty() {
            return Err(RunnerError::new(format!("there is no migration in {}", self.directory.display()))
                .hint("the files are called <version>_<name>.sql, or .up.sql and .down.sql"));
        }
        Ok(History { revisions, ..History::default() })
    }

    async fn contents(&self, route: &Route) -> Result<Option<String>, RunnerError> {
        let migrator = read(&self.directory).await?;
        let is_up = route.direction == Direction::Upgrade;
        let of = |id: &String| {
            let is_meant = |migration: &&Migration| {
                let kind = migration.migration_type;
                migration.version.to_string() == *id
                    && (if is_up { kind.is_up_migration() } else { kind.is_down_migration() })
            };
            migrator.iter().find(is_meant).map(|migration| hex::encode(&migration.checksum)).unwrap_or_default()
        };
        let sums: Vec<String> = route.revisions.iter().map(of).collect();
        Ok(Some(hex::encode(Sha256::digest(sums.join("\n")))))
    }

    async fn current(&self, engine: &dyn Engine, _history: &History) -> Result<Current, RunnerError> {
        current::current(&read(&self.directory).await?, engine).await
    }

    async fn probe(&self, url: &DatabaseUrl, call: &ToolCall) -> Result<Vec<String>, RunnerError> {
        let done = self.child("current", None, url, call).await?;
        if !done.status.success() {
            return Err(RunnerError::new(format!("the database cannot be asked: {}", tool::last_words(&done.log))));
        }
        Ok(done.stdout.lines().map(str::to_owned).collect())
    }

    async fn run(&self, url: &DatabaseUrl, route: &Route, call: &ToolCall) -> Result<ToolRun, RunnerError> {
        let verb = match route.direction {
            Direction::Upgrade => "up",
            Direction::Downgrade => "down",
        };
        let target = route.target.as_deref().unwrap_or("base");
        self.child(verb, Some(target), url, call).await.map(ToolRun::from)
    }

    async fn stamp(&self, url: &DatabaseUrl, revision: &str, call: &ToolCall) -> Result<ToolRun, RunnerError> {
        self.child("stamp", Some(revision), url, call).await.map(ToolRun::from)
    }
}

/// The directory as sqlx reads it.
async fn read(directory: &Path) -> Result<Migrator, RunnerError> {
    Migrator::new(directory).await.map_err(|error| {
        let text = error.to_string();
        let why = text.strip_prefix("while resolving migrations: ").unwrap_or(&text);
        // sqlx leaves out why where the operating system said it.
        let because = std::fs::read_dir(directory).err().map_or(String::new(), |error| format!(": {error}"));
        RunnerError::new(format!("{why}{because}"))
    })
}

/// The migrations that lead forward, by version.
fn applicable(migrator: &Migrator) -> impl Iterator<Item = &Migration> {
    migrator.iter().filter(|migration| migration.migration_type.is_up_migration())
}
