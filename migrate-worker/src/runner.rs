//! Migration tools as they are: how to call them, how to tell them which database, how to read the truth.

mod address;
pub mod alembic;
mod branches;
pub mod command;
pub mod django;
mod environment;
mod goal;
mod of;
mod own_table;
mod route;
pub mod sql;
mod template;
pub mod then;
mod tool;

pub use alembic::refusal as refusal_of_alembic;
pub use branches::Branches;
pub(crate) use branches::app;
pub use environment::Environment;
pub use goal::{InvalidGoal, is_revision};
pub use of::of;
pub use route::route;
pub(crate) use tool::find as find_program;
pub use tool::last_words;

use async_trait::async_trait;
use backup_agent::stop::Stop;
use serde::{Deserialize, Serialize};
use shared::engine::{Engine, EngineError};
use shared::model::{DatabaseUrl, JobId};
use std::sync::Arc;
use std::time::Duration;

/// A revision the tool's directory holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revision {
    /// Its id, as the tool knows it.
    pub id: String,
    /// The revisions it builds on; none for a first one, several for a merge.
    pub parents: Vec<String>,
    /// What it says of itself, on one line.
    pub message: String,
    /// Whether it can be taken back.
    pub has_downgrade: bool,
    /// Revisions it stands for since they were squashed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replaces: Vec<String>,
}

/// All revisions the tool's directory holds, each behind those it builds on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// The revisions.
    pub revisions: Vec<Revision>,
    /// How they hang together.
    #[serde(default)]
    pub branches: Branches,
}

/// Where a database stands, read from the tool's own table by a query of ours.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Current {
    /// The newest applied revisions: none where nothing was applied, several where branches are.
    pub heads: Vec<String>,
    /// Revisions below the newest applied ones that were never applied, in the history's order: an upgrade takes them too.
    #[serde(default)]
    pub gaps: Vec<String>,
    /// What is wrong with what the tool wrote down, a line each: an edited file, a revision nobody knows.
    pub faults: Vec<String>,
    /// The tool's own tables, as fingerprints name them: they change with every migration.
    pub own_tables: Vec<String>,
}

/// Where a migration is to lead, as people write it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Goal {
    /// `head`
    Head,
    /// A revision's id.
    Revision(String),
    /// `+n`
    Up(u32),
    /// `-n`
    Down(u32),
    /// `base`
    Base,
}

/// Which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// Forward.
    Upgrade,
    /// Back.
    Downgrade,
}

/// A migration as revisions: from where, to where, by which.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Which way.
    pub direction: Direction,
    /// Where the database stands.
    pub from: Vec<String>,
    /// Where it will stand.
    pub to: Vec<String>,
    /// The revisions applied or taken back, in that order.
    pub revisions: Vec<String>,
    /// The revision the tool is told; none for `base`, and where the tool knows no revisions or takes all of them.
    pub target: Option<String>,
    /// Only the tool knows where it leads: `to` and `revisions` are known when it was rehearsed.
    #[serde(default)]
    pub open: bool,
}

/// How a tool is called.
#[derive(Clone)]
pub struct ToolCall {
    /// The job: every process of the tool bears it in its environment, so that it is found again.
    pub job: JobId,
    /// How long the tool may take.
    pub deadline: Duration,
    /// Ends it early.
    pub stop: Stop,
    /// Hears of the process when it has begun, before anything of it is waited for.
    pub begun: Arc<dyn Fn(ToolProcess) + Send + Sync>,
}

/// A process of a tool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolProcess {
    /// Process id, and the id of its group.
    pub pid: u32,
    /// When it began, in clock ticks since boot.
    pub start_ticks: u64,
}

/// What a tool left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolRun {
    /// Exit code; none where a signal ended it.
    pub exit: Option<i32>,
    /// Why it was ended before its time, where it was.
    pub ended_early: Option<String>,
    /// Standard output and standard error as they came, cut in the middle, without secrets.
    pub output: String,
    /// Processes of it that outlived it and were ended.
    pub strays: usize,
    /// How long it took.
    pub duration: Duration,
    /// The step behind the tool at which it ended, where it was one.
    pub failed_step: Option<String>,
}

/// What is wrong with a tool or its directory; nothing was touched.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct RunnerError {
    /// Facts.
    pub message: String,
    /// What a person can do.
    pub hint: Option<String>,
}

impl RunnerError {
    /// Facts, without a hint.
    pub fn new(message: impl Into<String>) -> Self {
        RunnerError { message: message.into(), hint: None }
    }

    /// The same with what a person can do.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl From<EngineError> for RunnerError {
    fn from(error: EngineError) -> Self {
        RunnerError { message: error.to_string(), hint: error.hint().map(str::to_owned) }
    }
}

/// A migration tool.
#[async_trait]
pub trait Runner: Send + Sync {
    /// Its name, as the configuration has it.
    fn name(&self) -> &'static str;

    /// All revisions of its directory. Starts the tool where it must; reads no database.
    async fn history(&self) -> Result<History, RunnerError>;

    /// A digest of what the files of these revisions say, so that an edited one is noticed; none where that is not known.
    async fn contents(&self, _route: &Route) -> Result<Option<String>, RunnerError> {
        Ok(None)
    }

    /// Where the database stands, by a query of ours; compared with `history` where the tool keeps checksums.
    async fn current(&self, engine: &dyn Engine, history: &History) -> Result<Current, RunnerError>;

    /// Asks the tool itself where the database at `url` stands: shows whether it looks where it is told to.
    async fn probe(&self, url: &DatabaseUrl, call: &ToolCall) -> Result<Vec<String>, RunnerError>;

    /// Runs the tool on the database at `url`. An exit code is no error: what it did is looked at afterwards.
    async fn run(&self, url: &DatabaseUrl, route: &Route, call: &ToolCall) -> Result<ToolRun, RunnerError>;

    /// Writes down that the database at `url` stands at `revision` without running anything.
    async fn stamp(&self, url: &DatabaseUrl, revision: &str, call: &ToolCall) -> Result<ToolRun, RunnerError>;
}
