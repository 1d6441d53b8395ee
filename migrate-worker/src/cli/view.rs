//! `migrate-worker current`, `heads`, `pending`, `stamp`: the runner's view, in one vocabulary for all tools.

use super::apply::open_world;
use crate::Error;
use crate::migration::heads as words;
use crate::runner::{self, Branches, Current, Goal, History, Runner, ToolCall, route};
use crate::worker::as_error;
use crate::world::World;
use backup_agent::cli::{Done, Global, put_line};
use backup_agent::say;
use backup_agent::stop::Stop;
use clap::Args;
use serde_json::json;
use shared::connect;
use shared::engine::Engine;
use shared::model::{DatabaseName, JobId};
use std::sync::Arc;

/// Prints where a database stands
#[derive(Debug, Args)]
pub struct CurrentCommand {
    #[command(flatten)]
    of: Of,
}

/// Prints the newest revisions of the migration directory
#[derive(Debug, Args)]
pub struct Heads {
    #[command(flatten)]
    of: Of,
}

/// Lists the revisions that are not applied yet, in the order in which they would be
#[derive(Debug, Args)]
pub struct Pending {
    #[command(flatten)]
    of: Of,
}

/// Writes down that a database stands at a revision, without running anything
#[derive(Debug, Args)]
#[command(
    after_help = "For a database whose tool lost track of it. Look twice: nothing is changed but the tool's own table."
)]
pub struct Stamp {
    /// A name from holdfast.toml
    database: DatabaseName,
    /// The revision
    revision: String,
}

#[derive(Debug, Args)]
struct Of {
    /// A name from holdfast.toml
    database: DatabaseName,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// A database and its tool.
struct Seen {
    world: Arc<World>,
    runner: Box<dyn Runner>,
    engine: Box<dyn Engine>,
    history: History,
}

impl Seen {
    async fn open(global: &Global, name: &DatabaseName) -> Result<Self, Error> {
        let world = open_world(global).await?;
        let url = world.url(name)?;
        world.migrations(name)?;
        let runner = runner::of(&world.config, name).map_err(as_error)?;
        let history = runner.history().await.map_err(as_error)?;
        Ok(Seen { world, runner, engine: connect::engine(url), history })
    }

    /// The same. Refuses a tool that has no list of revisions.
    async fn open_listed(global: &Global, name: &DatabaseName) -> Result<Self, Error> {
        let seen = Self::open(global, name).await?;
        match seen.history.branches {
            Branches::Unlisted { .. } => Err(Error::refused(
                "the runner command has no list of revisions",
                "ask the tool itself; migrate-worker current tells where the database stands",
            )),
            Branches::One | Branches::Apps => Ok(seen),
        }
    }

    async fn current(&self) -> Result<Current, Error> {
        self.runner.current(&*self.engine, &self.history).await.map_err(as_error)
    }
}

impl CurrentCommand {
    pub(super) async fn run(self, global: &Global) -> Done {
        let current = Seen::open(global, &self.of.database).await?.current().await?;
        if self.of.json {
            put_line(&json!({"heads": current.heads, "faults": current.faults}).to_string());
        } else {
            put_line(&words(&current.heads));
        }
        for fault in &current.faults {
            say!("warning: {fault}");
        }
        Ok(())
    }
}

impl Heads {
    pub(super) async fn run(self, global: &Global) -> Done {
        let history = Seen::open_listed(global, &self.of.database).await?.history;
        let heads = history.heads();
        if self.of.json {
            put_line(&json!(heads).to_string());
            return Ok(());
        }
        for head in heads {
            put_line(format!("{}  {}", head.id, head.message).trim_end());
        }
        Ok(())
    }
}

impl Pending {
    pub(super) async fn run(self, global: &Global) -> Done {
        let seen = Seen::open_listed(global, &self.of.database).await?;
        let way = route(&seen.history, &seen.current().await?, &Goal::Head).map_err(as_error)?;
        let known = |id: &String| seen.history.revisions.iter().find(|revision| revision.id == *id);
        let pending: Vec<_> = way.revisions.iter().filter_map(known).collect();
        if self.of.json {
            put_line(&json!(pending).to_string());
            return Ok(());
        }
        for revision in &pending {
            put_line(format!("{}  {}", revision.id, revision.message).trim_end());
        }
        if pending.is_empty() {
            say!("nothing is pending: {} stands at {}", self.of.database, words(&way.to));
        }
        Ok(())
    }
}

impl Stamp {
    pub(super) async fn run(self, global: &Global) -> Done {
        let seen = Seen::open_listed(global, &self.database).await?;
        if !seen.history.revisions.iter().any(|revision| revision.id == self.revision) {
            let known = seen.history.revisions.iter().map(|revision| revision.id.as_str());
            let near = shared::config::nearest(&self.revision, known).map(|near| format!("did you mean {near}?"));
            return Err(Error::Refused {
                message: format!("the migration directory knows no revision {}", self.revision),
                hint: near.or(Some("migrate-worker heads lists the newest".into())),
            }
            .into());
        }
        let url = seen.world.url(&self.database)?;
        let before = seen.current().await?;
        let _lock = super::resolve::lock_of(&seen.world, &self.database, "stamp").await?;
        let call = ToolCall {
            job: JobId::random(),
            deadline: seen.world.migrations(&self.database)?.deadline.0,
            stop: Stop::never(),
            begun: Arc::new(|_| {}),
        };
        let run = seen.runner.stamp(&url, &self.revision, &call).await.map_err(as_error)?;
        let now = seen.current().await?;
        if run.exit != Some(0) || !stands_at(&seen.history, &now, &self.revision) {
            let said = run.output.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default().to_owned();
            let message = format!("{} still stands at {}: {said}", self.database, words(&now.heads));
            return Err(Error::failed(message).into());
        }
        say!(
            "{} stands at {} (it stood at {}); nothing else was changed",
            self.database,
            self.revision,
            words(&before.heads)
        );
        Ok(())
    }
}

/// Whether a revision is the newest applied one; where every application has its own, of its application.
fn stands_at(history: &History, current: &Current, revision: &str) -> bool {
    match history.branches {
        Branches::Apps => {
            route(history, current, &Goal::Revision(revision.to_owned())).is_ok_and(|route| route.revisions.is_empty())
        }
        Branches::One | Branches::Unlisted { .. } => current.heads == [revision.to_owned()],
    }
}
