//! What is done after the tool, as a part of the migration: on the rehearsal's copy and for real, or not at all.

use super::command::Argv;
use super::environment::of_sessions;
use super::sql::statements;
use super::{Current, Direction, Environment, History, Route, Runner, RunnerError, ToolCall, ToolRun, tool};
use async_trait::async_trait;
use shared::config::ThenConfig;
use shared::engine::Engine;
use shared::model::DatabaseUrl;
use std::path::{Path, PathBuf};

/// A tool with steps behind it, which only upgrades take.
pub struct WithSteps {
    tool: Box<dyn Runner>,
    steps: Vec<Step>,
    workdir: PathBuf,
    environment: Environment,
    /// This program, which runs statements.
    this: PathBuf,
}

struct Step {
    name: String,
    what: What,
}

enum What {
    Command(Argv),
    Sql(String),
}

impl WithSteps {
    /// `tool` with the configured steps. Refuses one that is neither a command nor SQL, or both.
    pub fn new(
        tool: Box<dyn Runner>,
        steps: &[ThenConfig],
        workdir: PathBuf,
        environment: Environment,
        this: PathBuf,
    ) -> Result<Self, RunnerError> {
        let steps = steps.iter().map(|step| Step::of(step, &workdir)).collect::<Result<_, _>>()?;
        Ok(WithSteps { tool, steps, workdir, environment, this })
    }

    async fn step(&self, step: &Step, url: &DatabaseUrl, call: &ToolCall) -> Result<ToolRun, RunnerError> {
        let mut own = of_sessions(url, call).await?;
        let program = match &step.what {
            What::Command(argv) => argv.subprocess(&self.workdir),
            What::Sql(sql) => statements(&self.this, sql, url, &mut own)?.workdir(&self.workdir),
        };
        let program = program.envs(self.environment.variables(own, url)?);
        let done = tool::watch(program, self.environment.secrets(Some(url)), call).await?;
        Ok(ToolRun::from(done))
    }
}

impl Step {
    fn of(config: &ThenConfig, workdir: &Path) -> Result<Self, RunnerError> {
        let name = config.name.clone();
        let key = format!("then {name:?}");
        let what = match (&config.command, &config.sql) {
            (Some(argv), None) => What::Command(Argv::find(&key, argv, workdir)?),
            (None, Some(sql)) => What::Sql(sql.clone()),
            _ => return Err(RunnerError::new(format!("{key}: give exactly one of command and sql"))),
        };
        Ok(Step { name, what })
    }
}

/// Both runs as one: that of what came before, then that of a step.
fn joined(before: ToolRun, step: &Step, run: ToolRun) -> ToolRun {
    let ended_well = run.exit == Some(0) && run.ended_early.is_none();
    ToolRun {
        output: format!("{}\n[then: {}]\n{}", before.output.trim_end_matches('\n'), step.name, run.output),
        strays: before.strays + run.strays,
        duration: before.duration + run.duration,
        failed_step: (!ended_well).then(|| step.name.clone()),
        ..run
    }
}

#[async_trait]
impl Runner for WithSteps {
    fn name(&self) -> &'static str {
        self.tool.name()
    }

    async fn history(&self) -> Result<History, RunnerError> {
        self.tool.history().await
    }

    async fn current(&self, engine: &dyn Engine, history: &History) -> Result<Current, RunnerError> {
        self.tool.current(engine, history).await
    }

    async fn probe(&self, url: &DatabaseUrl, call: &ToolCall) -> Result<Vec<String>, RunnerError> {
        self.tool.probe(url, call).await
    }

    async fn run(&self, url: &DatabaseUrl, route: &Route, call: &ToolCall) -> Result<ToolRun, RunnerError> {
        let mut run = self.tool.run(url, route, call).await?;
        if route.direction == Direction::Downgrade {
            return Ok(run);
        }
        for step in &self.steps {
            if run.exit != Some(0) || run.ended_early.is_some() {
                break;
            }
            run = joined(run, step, self.step(step, url, call).await?);
        }
        Ok(run)
    }

    async fn stamp(&self, url: &DatabaseUrl, revision: &str, call: &ToolCall) -> Result<ToolRun, RunnerError> {
        self.tool.stamp(url, revision, call).await
    }
}
