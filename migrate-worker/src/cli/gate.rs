//! `migrate-worker gate`

use super::apply::open_world;
use crate::gate::look;
use crate::runner::is_revision;
use backup_agent::cli::{Done, Failure, Global, put_line};
use clap::Args;
use shared::model::DatabaseName;

/// Tells whether a database stands where the code expects it; for pipelines, before the code is deployed
///
/// Only reads. What counts as expected is the newest revision of the migration directory, or the one that is pinned.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 as expected; 10 behind; 11 ahead; 12 diverged; 13 drift; 14 in progress; 1 not known, \
                        the database cannot be asked.

Example: migrate-worker gate shop && ./deploy
         migrate-worker gate shop --expect 234ea0f4b6c3"
)]
pub struct Gate {
    /// A name from holdfast.toml
    database: DatabaseName,
    /// The revision the code expects [default: the newest of the migration directory]
    #[arg(long, value_name = "REVISION")]
    expect: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Gate {
    pub(super) async fn run(self, global: &Global) -> Done {
        if let Some(revision) = self.expect.as_deref().filter(|text| !is_revision(text)) {
            return Err(Failure::Usage(format!("--expect {revision:?} is no revision")));
        }
        let world = open_world(global).await?;
        let report = look(&world, &self.database, self.expect.as_deref()).await?;
        if self.json {
            put_line(&serde_json::json!(report).to_string());
        } else {
            put_line(&report.summary);
            report.notes.iter().for_each(|note| put_line(&format!("  {note}")));
            if let Some(hint) = &report.hint {
                put_line(&format!("hint: {hint}"));
            }
        }
        match report.verdict.exit_code() {
            0 => Ok(()),
            code => Err(Failure::Said(code)),
        }
    }
}
