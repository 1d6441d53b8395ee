//! Alembic, told which database by a generated `alembic.ini` and by `DATABASE_URL`.

mod history;
mod ini;
mod words;

pub use words::refusal;

use super::environment::{DATABASE_URL, of_sessions};
use super::{Current, Direction, Environment, History, Route, Runner, RunnerError, ToolCall, ToolRun};
use super::{address, is_revision, own_table, tool};
use async_trait::async_trait;
use ini::Ini;
use sha2::{Digest, Sha256};
use shared::engine::Engine;
use shared::model::DatabaseUrl;
use shared::subprocess::{Scrubber, Subprocess, Watched};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Alembic's own table, under its usual name.
const TABLE: &str = "alembic_version";

/// How long reading the directory may take: Python imports every migration.
const HISTORY_DEADLINE: Duration = Duration::from_secs(300);

/// How much of the history's text is read.
const HISTORY_BYTES: usize = 64 << 20;

/// The runner `alembic`.
#[derive(Debug)]
pub struct AlembicRunner {
    ini: PathBuf,
    directory: PathBuf,
    workdir: PathBuf,
    program: PathBuf,
    args: Vec<String>,
    environment: Environment,
}

impl AlembicRunner {
    /// The project whose `alembic.ini` lies in `directory`, and Alembic as `program` with its first arguments.
    pub fn new(
        directory: PathBuf,
        program: PathBuf,
        args: Vec<String>,
        environment: Environment,
    ) -> Result<Self, RunnerError> {
        let ini = directory.join("alembic.ini");
        if !ini.is_file() {
            let message = format!("there is no alembic.ini in {}", directory.display());
            return Err(RunnerError::new(message).hint("directory is the one of alembic.ini, not of the versions"));
        }
        Ok(AlembicRunner { ini, workdir: directory.clone(), directory, program, args, environment })
    }

    /// The same, started in another directory.
    pub fn workdir(self, workdir: PathBuf) -> Self {
        AlembicRunner { workdir, ..self }
    }

    fn command(&self, ini: &Path, variables: Vec<(String, String)>, args: &[&str]) -> Subprocess {
        let program = Subprocess::new(&self.program).args(&self.args).workdir(&self.workdir);
        // Else Python writes its own encoding, and keeps its output back until it ends.
        let python = [("PYTHONIOENCODING", "utf-8"), ("PYTHONUTF8", "1"), ("PYTHONUNBUFFERED", "1")];
        program.envs(python).envs(variables).arg("-c").arg(ini).args(args)
    }

    async fn call(&self, url: &DatabaseUrl, call: &ToolCall, args: &[&str]) -> Result<Watched, RunnerError> {
        let ini = Ini::read(&self.ini)?;
        let address = address::for_sqlalchemy(url, ini.driver().as_deref())?;
        let file = ini.write(&self.directory, &address)?;
        let mut own = of_sessions(url, call).await?;
        own.push((DATABASE_URL.to_owned(), address));
        let variables = self.environment.variables(own, url)?;
        let program = self.command(file.path(), variables, args);
        // The file goes away behind this.
        tool::watch(program, self.environment.secrets(Some(url)), call).await
    }

    /// What Alembic prints of the directory.
    async fn printed(&self) -> Result<String, RunnerError> {
        // Listing reads no database; an address that leads nowhere shows where an env.py does all the same.
        let nowhere = DatabaseUrl::Sqlite(PathBuf::from("/dev/null/no-database"));
        let ini = Ini::read(&self.ini)?;
        let file = ini.write(&self.directory, &address::for_sqlalchemy(&nowhere, None)?)?;
        let program = self.command(file.path(), self.environment.nowhere(), &["history", "--verbose"]);
        let done = program.deadline(HISTORY_DEADLINE).keep(HISTORY_BYTES).run().await.map_err(tool::failed)?;
        let scrubber = Scrubber::new(self.environment.secrets(None));
        let clean = |bytes: &[u8]| String::from_utf8_lossy(&scrubber.scrub(bytes)).into_owned();
        let (stdout, stderr) = (clean(&done.stdout), clean(done.stderr.as_bytes()));
        if done.status.success() {
            return Ok(stdout);
        }
        let said = format!("{stderr}{stdout}");
        let other = || RunnerError::new(format!("alembic history failed: {}", tool::last_words(&said)));
        Err(refusal(&said).unwrap_or_else(other))
    }
}

#[async_trait]
impl Runner for AlembicRunner {
    fn name(&self) -> &'static str {
        "alembic"
    }

    async fn history(&self) -> Result<History, RunnerError> {
        let history = history::parse(&self.printed().await?)?;
        if history.revisions.is_empty() {
            let message = format!("there is no migration in the project of {}", self.ini.display());
            return Err(RunnerError::new(message).hint("make one (`alembic revision`), or see script_location"));
        }
        Ok(history)
    }

    async fn contents(&self, route: &Route) -> Result<Option<String>, RunnerError> {
        let paths = history::paths(&self.printed().await?);
        let mut digest = Sha256::new();
        for id in &route.revisions {
            let path = paths.get(id).ok_or_else(|| RunnerError::new(format!("revision {id} has no file any more")))?;
            let text = std::fs::read(path)
                .map_err(|error| RunnerError::new(format!("the file of revision {id} cannot be read: {error}")))?;
            digest.update(Sha256::digest(text));
        }
        Ok(Some(hex::encode(digest.finalize())))
    }

    async fn current(&self, engine: &dyn Engine, history: &History) -> Result<Current, RunnerError> {
        let (mut found, table) = own_table::locate(engine, TABLE).await?;
        // `batch_alter_table` makes them.
        found.faults.extend(own_table::left_by_copying(engine, "_alembic_tmp_").await?);
        let Some(table) = table else { return Ok(found) };
        let sql = format!("SELECT version_num FROM {table} ORDER BY version_num");
        found.heads = own_table::column(engine, &sql).await?;
        for head in &found.heads {
            if !history.revisions.iter().any(|revision| revision.id == *head) {
                found.faults.push(format!("{TABLE} says {head}, which no file has"));
            }
        }
        Ok(found)
    }

    async fn probe(&self, url: &DatabaseUrl, call: &ToolCall) -> Result<Vec<String>, RunnerError> {
        let done = self.call(url, call, &["current"]).await?;
        if let Some(why) = &done.ended_early {
            return Err(RunnerError::new(format!("alembic current was ended: {why}")));
        }
        if !done.status.success() {
            let other = || RunnerError::new(format!("alembic current failed: {}", tool::last_words(&done.log)));
            return Err(refusal(&done.log).unwrap_or_else(other));
        }
        // One revision a line, `a1b2 (head)`; an env.py may print more.
        let ids = done.stdout.lines().filter_map(|line| {
            let (id, rest) = line.split_once(' ').unwrap_or((line, ""));
            let marks = rest.split(' ').filter(|mark| !mark.is_empty());
            let only_marks = marks.into_iter().all(|mark| mark.starts_with('(') && mark.ends_with(')'));
            (is_revision(id) && only_marks).then(|| id.to_owned())
        });
        Ok(ids.collect())
    }

    async fn run(&self, url: &DatabaseUrl, route: &Route, call: &ToolCall) -> Result<ToolRun, RunnerError> {
        let verb = match route.direction {
            Direction::Upgrade => "upgrade",
            Direction::Downgrade => "downgrade",
        };
        let target = route.target.as_deref().unwrap_or("base");
        self.call(url, call, &[verb, target]).await.map(ToolRun::from)
    }

    async fn stamp(&self, url: &DatabaseUrl, revision: &str, call: &ToolCall) -> Result<ToolRun, RunnerError> {
        self.call(url, call, &["stamp", "--purge", revision]).await.map(ToolRun::from)
    }
}
