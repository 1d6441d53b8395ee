//! Any other tool, by the commands that call it: `npm run migrate:prod`, a script, a program of one's own.
//!
//! There is no list of revisions: where an upgrade leads is seen at the rehearsal. Where the database stands is read by
//! a query of the operator's, and the tool's own answer must agree with it.

use super::environment::of_sessions;
use super::{
    Branches, Current, Direction, Environment, History, Route, Runner, RunnerError, ToolCall, ToolRun, is_revision,
    tool,
};
use async_trait::async_trait;
use shared::config::MigrationsConfig;
use shared::engine::{Engine, EngineError, table_key};
use shared::model::{DatabaseUrl, EngineKind};
use shared::subprocess::{Subprocess, Watched};
use std::path::{Path, PathBuf};

/// The runner `command`.
#[derive(Debug)]
pub struct CommandRunner {
    upgrade: Argv,
    downgrade: Option<Argv>,
    probe: Argv,
    current: String,
    own_tables: Vec<String>,
    workdir: PathBuf,
    environment: Environment,
}

/// A program that was found, and its arguments.
#[derive(Debug)]
pub(super) struct Argv {
    program: PathBuf,
    args: Vec<String>,
}

impl Argv {
    /// Finds the program of `argv` on PATH, or as a path that counts from `base`; `key` is named where it is missing.
    pub(super) fn find(key: &str, argv: &[String], base: &Path) -> Result<Self, RunnerError> {
        let [program, args @ ..] = argv else { return Err(RunnerError::new(format!("{key} is empty"))) };
        let program = tool::find(program, base, program)
            .map_err(|error| RunnerError::new(format!("{key}: {error}")).hint("paths count from directory"))?;
        Ok(Argv { program, args: args.to_vec() })
    }

    /// The program, started in `workdir`.
    pub(super) fn subprocess(&self, workdir: &Path) -> Subprocess {
        Subprocess::new(&self.program).args(&self.args).workdir(workdir)
    }
}

impl CommandRunner {
    /// The commands of `config`, started in `workdir`. Refuses where one is missing that there must be.
    pub fn new(config: &MigrationsConfig, workdir: PathBuf, environment: Environment) -> Result<Self, RunnerError> {
        let needed = |key: &str, argv: &Option<Vec<String>>, hint: &str| {
            let missing = || RunnerError::new(format!("the runner command needs {key}")).hint(hint);
            Argv::find(key, argv.as_ref().ok_or_else(missing)?, &workdir)
        };
        let upgrade = needed("upgrade", &config.upgrade, "upgrade = [\"npm\", \"run\", \"migrate:prod\"]")?;
        let probe = needed(
            "probe",
            &config.probe,
            "probe = [\"PROGRAM\", …] prints the revision as the tool sees it, and nothing where nothing was applied; it \
             shows that the tool looks at the database it is told to",
        )?;
        let downgrade = config.downgrade.as_ref().map(|argv| Argv::find("downgrade", argv, &workdir)).transpose()?;
        let current = config.current.clone().ok_or_else(|| {
            RunnerError::new("the runner command needs current")
                .hint("current = \"SELECT max(version) FROM schema_migrations\": its single value is the revision")
        })?;
        Ok(CommandRunner {
            upgrade,
            downgrade,
            probe,
            current,
            own_tables: config.own_tables.clone(),
            workdir,
            environment,
        })
    }

    async fn call(&self, argv: &Argv, url: &DatabaseUrl, call: &ToolCall) -> Result<Watched, RunnerError> {
        let variables = self.environment.variables(of_sessions(url, call).await?, url)?;
        let program = argv.subprocess(&self.workdir).envs(variables);
        tool::watch(program, self.environment.secrets(Some(url)), call).await
    }

    /// The tool's own tables among those the database has, as fingerprints name them.
    async fn own_tables(&self, engine: &dyn Engine) -> Result<Vec<String>, RunnerError> {
        let sql = match engine.kind() {
            EngineKind::Sqlite => "SELECT '', name FROM sqlite_schema WHERE type = 'table'",
            EngineKind::Postgres => {
                "SELECT schemaname, tablename FROM pg_catalog.pg_tables
                 WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
            }
        };
        let mut own = Vec::new();
        for row in engine.query(sql).await? {
            let [Some(schema), Some(table)] = &row[..] else { continue };
            let qualified = format!("{schema}.{table}");
            let is_listed = self.own_tables.iter().any(|own| own == table || *own == qualified);
            if is_listed || names(&self.current, table) {
                own.push(table_key(engine.kind(), schema, table));
            }
        }
        Ok(own)
    }
}

/// Whether a query names a table.
fn names(sql: &str, table: &str) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    sql.split(|c| !is_word(c)).any(|word| word == table || word.to_lowercase() == table)
}

#[async_trait]
impl Runner for CommandRunner {
    fn name(&self) -> &'static str {
        "command"
    }

    async fn history(&self) -> Result<History, RunnerError> {
        let branches = Branches::Unlisted { has_downgrade: self.downgrade.is_some() };
        Ok(History { revisions: Vec::new(), branches })
    }

    async fn current(&self, engine: &dyn Engine, _history: &History) -> Result<Current, RunnerError> {
        let rows = match engine.query(&self.current).await {
            Ok(rows) => rows,
            Err(EngineError::NoSuchTable(_)) => Vec::new(),
            Err(error) => return Err(error.into()),
        };
        let mut found = Current { own_tables: self.own_tables(engine).await?, ..Current::default() };
        match &rows[..] {
            [] => {}
            [row] if matches!(row[..], [None]) => {}
            [row] if row.len() == 1 => match row.iter().flatten().next().map(|value| value.trim()) {
                Some(value) if is_revision(value) => found.heads.push(value.to_owned()),
                value => found.faults.push(format!(
                    "current gives {:?}, which is no revision (letters, digits and _.@:-)",
                    value.unwrap_or_default()
                )),
            },
            _ => {
                let columns = rows.first().map_or(0, Vec::len);
                found.faults.push(format!(
                    "current gives {} rows of {columns} columns; the revision must be one value",
                    rows.len()
                ));
            }
        }
        Ok(found)
    }

    async fn probe(&self, url: &DatabaseUrl, call: &ToolCall) -> Result<Vec<String>, RunnerError> {
        let done = self.call(&self.probe, url, call).await?;
        if let Some(why) = &done.ended_early {
            return Err(RunnerError::new(format!("probe was ended: {why}")));
        }
        if !done.status.success() {
            let said = tool::last_words(&done.log);
            return Err(RunnerError::new(format!("probe failed: {said}"))
                .hint("where nothing was applied it prints nothing and ends with exit code 0"));
        }
        let lines: Vec<&str> = done.stdout.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        match lines[..] {
            [] => Ok(Vec::new()),
            [revision] if is_revision(revision) => Ok(vec![revision.to_owned()]),
            _ => Err(RunnerError::new(format!("probe printed what is no revision: {:?}", lines.join("\n")))
                .hint("only the revision, on one line; npm prints more without --silent")),
        }
    }

    async fn run(&self, url: &DatabaseUrl, route: &Route, call: &ToolCall) -> Result<ToolRun, RunnerError> {
        let argv = match (route.direction, &self.downgrade) {
            (Direction::Upgrade, _) => &self.upgrade,
            (Direction::Downgrade, Some(downgrade)) => downgrade,
            (Direction::Downgrade, None) => return Err(RunnerError::new("there is no command that goes back")),
        };
        self.call(argv, url, call).await.map(ToolRun::from)
    }

    async fn stamp(&self, _url: &DatabaseUrl, _revision: &str, _call: &ToolCall) -> Result<ToolRun, RunnerError> {
        Err(RunnerError::new("the runner command cannot write a revision down").hint("use the tool itself for it"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_a_query_names_are_the_tool_s() {
        let sql = "SELECT max(version) FROM public.schema_migrations -- \"Own Table\"";
        for (table, expected) in
            [("schema_migrations", true), ("schema", false), ("migrations", false), ("version", true), ("max", true)]
        {
            assert_eq!(names(sql, table), expected, "{table}");
        }
        assert!(names("select 1 from SCHEMA_MIGRATIONS", "schema_migrations"));
    }
}
