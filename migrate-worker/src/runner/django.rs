//! Django, told which database by a settings module that is generated around the project's own.

mod applied;
mod package;

use super::branches::{ZERO, app};
use super::environment::of_sessions;
use super::{Branches, Current, Environment, History, Revision, Route, Runner, RunnerError, ToolCall, ToolRun};
use super::{is_revision, own_table, tool};
use async_trait::async_trait;
use package::Package;
use shared::engine::Engine;
use shared::model::{DatabaseUrl, EngineKind};
use shared::subprocess::{Scrubber, Subprocess, Watched};
use std::path::PathBuf;
use std::time::Duration;

/// Django's own table.
const TABLE: &str = "django_migrations";

/// What the program file of a project is called.
const MANAGE: &str = "manage.py";

/// How long reading the project may take: Python imports all of it.
const HISTORY_DEADLINE: Duration = Duration::from_secs(300);

/// How much of the history's text is read.
const HISTORY_BYTES: usize = 64 << 20;

/// Before the history in what is printed; a project may print more.
const HISTORY_MARK: &str = "holdfast-history ";

/// The runner `django`.
#[derive(Debug)]
pub struct DjangoRunner {
    manage: PathBuf,
    settings: String,
    workdir: PathBuf,
    program: PathBuf,
    args: Vec<String>,
    environment: Environment,
}

impl DjangoRunner {
    /// The project whose `manage.py` lies in `directory`, and Python as `program` with its first arguments.
    ///
    /// Its settings are `settings`, else those the environment or `manage.py` names.
    pub fn new(
        directory: PathBuf,
        program: PathBuf,
        args: Vec<String>,
        settings: Option<String>,
        environment: Environment,
    ) -> Result<Self, RunnerError> {
        let manage = directory.join(MANAGE);
        let text = std::fs::read_to_string(&manage).map_err(|error| {
            RunnerError::new(format!("{} cannot be read: {error}", manage.display()))
                .hint("directory is the one of manage.py")
        })?;
        let named = settings.or_else(|| environment.value(package::SETTINGS_VARIABLE)).or_else(|| named_in(&text));
        let settings = named.ok_or_else(|| {
            RunnerError::new(format!("{} names no settings module", manage.display()))
                .hint("settings = \"PROJECT.settings\" names it")
        })?;
        Ok(DjangoRunner { manage, settings, workdir: directory, program, args, environment })
    }

    /// The same, started in another directory.
    pub fn workdir(self, workdir: PathBuf) -> Self {
        DjangoRunner { workdir, ..self }
    }

    fn command(&self, variables: Vec<(String, String)>, args: &[&str]) -> Subprocess {
        let program = Subprocess::new(&self.program).args(&self.args).workdir(&self.workdir);
        // Else Python writes its own encoding, and keeps its output back until it ends.
        let python = [("PYTHONIOENCODING", "utf-8"), ("PYTHONUTF8", "1"), ("PYTHONUNBUFFERED", "1")];
        program.envs(python).envs(variables).arg(&self.manage).args(args).arg("--no-color")
    }

    async fn call(&self, url: &DatabaseUrl, call: &ToolCall, args: &[&str]) -> Result<Watched, RunnerError> {
        let package = Package::write()?;
        let variables = self.environment.variables(of_sessions(url, call).await?, url)?;
        let program = self.command(package.variables(&self.settings, Some(url), variables)?, args);
        // The package goes away behind this.
        tool::watch(program, self.environment.secrets(Some(url)), call).await
    }
}

/// The settings module `manage.py` falls back to.
fn named_in(manage: &str) -> Option<String> {
    let (_, behind) = manage.split_once(package::SETTINGS_VARIABLE)?;
    // The name's own closing quote, the comma, the value.
    let value = behind.get(1..)?.split(['"', '\'']).nth(1)?;
    let is_module = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
    (!value.is_empty() && value.chars().all(is_module)).then(|| value.to_owned())
}

#[async_trait]
impl Runner for DjangoRunner {
    fn name(&self) -> &'static str {
        "django"
    }

    async fn history(&self) -> Result<History, RunnerError> {
        let package = Package::write()?;
        let variables = self.environment.nowhere();
        let program = self.command(package.variables(&self.settings, None, variables)?, &["holdfast_history"]);
        let done = program.deadline(HISTORY_DEADLINE).keep(HISTORY_BYTES).run().await.map_err(tool::failed)?;
        let scrubber = Scrubber::new(self.environment.secrets(None));
        let clean = |bytes: &[u8]| String::from_utf8_lossy(&scrubber.scrub(bytes)).into_owned();
        let (stdout, stderr) = (clean(&done.stdout), clean(done.stderr.as_bytes()));
        if !done.status.success() {
            let said = format!("{stdout}{stderr}");
            return Err(RunnerError::new(format!("the project cannot be read: {}", tool::last_words(&said))));
        }
        read(&stdout, &self.manage.display().to_string())
    }

    async fn current(&self, engine: &dyn Engine, history: &History) -> Result<Current, RunnerError> {
        let (mut found, table) = own_table::locate(engine, TABLE).await?;
        if engine.kind() == EngineKind::Sqlite {
            found.faults.extend(own_table::left_by_copying(engine, "new__").await?);
        }
        let Some(table) = table else { return Ok(found) };
        let rows = own_table::column(engine, &format!("SELECT app || '.' || name FROM {table} ORDER BY id")).await?;
        let (heads, faults) = applied::judge(history, &rows);
        found.heads = heads;
        found.faults.extend(faults);
        Ok(found)
    }

    async fn probe(&self, url: &DatabaseUrl, call: &ToolCall) -> Result<Vec<String>, RunnerError> {
        let done = self.call(url, call, &["showmigrations", "--plan"]).await?;
        if let Some(why) = &done.ended_early {
            return Err(RunnerError::new(format!("showmigrations was ended: {why}")));
        }
        if !done.status.success() {
            return Err(RunnerError::new(format!("showmigrations failed: {}", tool::last_words(&done.log))));
        }
        let applied = done.stdout.lines().filter_map(|line| line.trim_start().strip_prefix("[X]"));
        Ok(applied.filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect())
    }

    async fn run(&self, url: &DatabaseUrl, route: &Route, call: &ToolCall) -> Result<ToolRun, RunnerError> {
        let mut args = vec!["migrate", "--noinput"];
        if let Some((app, name)) = route.target.as_deref().and_then(|target| target.split_once('.')) {
            args.extend([app, name]);
        }
        self.call(url, call, &args).await.map(ToolRun::from)
    }

    async fn stamp(&self, url: &DatabaseUrl, revision: &str, call: &ToolCall) -> Result<ToolRun, RunnerError> {
        let (app, name) = revision.split_once('.').unwrap_or((app(revision), ZERO));
        self.call(url, call, &["migrate", "--fake", "--noinput", app, name]).await.map(ToolRun::from)
    }
}

/// The history as our own command of `manage.py` prints it.
fn read(stdout: &str, project: &str) -> Result<History, RunnerError> {
    let line = stdout.lines().rev().find_map(|line| line.strip_prefix(HISTORY_MARK));
    let odd = |why: String| RunnerError::new(format!("{project} did not tell its migrations: {why}"));
    let line = line.ok_or_else(|| odd(format!("it printed {:?}", tool::last_words(stdout))))?;
    let revisions: Vec<Revision> = serde_json::from_str(line).map_err(|error| odd(error.to_string()))?;
    if revisions.is_empty() {
        return Err(RunnerError::new(format!("there is no migration in the project of {project}"))
            .hint("make one (manage.py makemigrations), or see INSTALLED_APPS"));
    }
    if let Some(odd) = revisions.iter().find(|revision| !is_revision(&revision.id)) {
        return Err(RunnerError::new(format!("the migration {:?} has a name that cannot be used", odd.id))
            .hint("letters, digits and _.@:- only, at most 128"));
    }
    Ok(History { revisions, branches: Branches::Apps })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_settings_are_those_manage_py_names() {
        for (text, expected) in [
            ("os.environ.setdefault('DJANGO_SETTINGS_MODULE', 'shop.settings')", Some("shop.settings")),
            ("os.environ.setdefault(\n    \"DJANGO_SETTINGS_MODULE\",\n    \"a.b_c\")", Some("a.b_c")),
            ("os.environ['DJANGO_SETTINGS_MODULE'] = 'x.y'", Some("x.y")),
            ("os.environ.setdefault('DJANGO_SETTINGS_MODULE', NAME)", None),
            ("print('no')", None),
        ] {
            assert_eq!(named_in(text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn the_history_is_found_among_what_else_is_printed() {
        let line =
            r#"holdfast-history [{"id":"a.0001_x","parents":[],"message":"","has_downgrade":true,"replaces":[]}]"#;
        let history = read(&format!("loading\n{line}\nbye"), "p").expect("read");
        assert_eq!((history.revisions.len(), history.branches), (1, Branches::Apps));
        for bad in ["", "nothing", "holdfast-history []", "holdfast-history [{}]", &line.replace("a.0001_x", "a b")] {
            assert!(read(bad, "p").is_err(), "{bad}");
        }
    }
}
