//! `migrate-worker rehearse`

use super::apply::{Wish, here_and_now};
use backup_agent::cli::{Done, Global};
use clap::Args;
use shared::model::{DatabaseName, TaskKind};

/// Does everything up to the plan, on a copy, and prints what the migration would do; the database is only read
#[derive(Debug, Args)]
#[command(after_help = "Example: migrate-worker rehearse shop --to +1")]
pub struct Rehearse {
    /// A name from holdfast.toml
    database: DatabaseName,
    #[command(flatten)]
    wish: Wish,
    /// Print the outcome as JSON; the story goes to stderr
    #[arg(long)]
    json: bool,
}

impl Rehearse {
    pub(super) async fn run(self, global: &Global) -> Done {
        here_and_now(global, TaskKind::Rehearse, self.database, self.wish, self.json).await
    }
}
