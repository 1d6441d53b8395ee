//! `backup-agent status`

use super::{Done, Failure, Global, put_line, text};
use crate::policy::Policies;
use crate::status::{DatabaseStatus, Kept, of_all};
use clap::Args;
use jiff::{SignedDuration, Timestamp};
use shared::clock;
use shared::connect;
use shared::model::DatabaseName;
use std::collections::BTreeSet;

/// Tells of every database what can be restored, how old that is, and what went wrong last
///
/// Exit code 8 when a database is stale: the newest complete backup is older than two intervals of its schedule, or the
/// newest proven one older than two intervals of its drills.
#[derive(Debug, Args)]
#[command(after_help = "Example: backup-agent status shop || echo 'look at shop'")]
pub struct Status {
    /// Only this database
    database: Option<DatabaseName>,
    /// Print a JSON array
    #[arg(long)]
    json: bool,
}

impl Status {
    pub(super) async fn run(self, global: &Global) -> Done {
        let config = global.config()?;
        let policies = Policies::of(&config)?;
        let repository = global.repository(&config).await?;
        let names: Vec<DatabaseName> = match self.database {
            Some(name) => vec![name],
            None => {
                let mut names: BTreeSet<DatabaseName> = config.databases.keys().cloned().collect();
                names.extend(repository.databases().await?);
                names.into_iter().collect()
            }
        };
        let clock = clock::system();
        let record = match connect::existing_task_log(&config, clock.clone()).await {
            Ok(record) => Some(record),
            Err(error) => {
                say!("note: what went wrong last is not known: {error}");
                None
            }
        };
        let found = of_all(&repository, &policies, record.as_deref(), &names).await?;
        if self.json {
            put_line(&serde_json::to_string_pretty(&found).map_err(|error| Failure::Usage(error.to_string()))?);
        } else {
            for status in &found {
                print(status, clock.now());
            }
        }
        if found.is_empty() {
            say!("no database is configured, and {} holds no backups", repository.store().describe());
        }
        let stale = found.iter().filter(|status| !status.stale.is_empty()).count();
        if stale == 0 {
            return Ok(());
        }
        say!("error: {} stale", text::counted(stale, "database"));
        say!("hint: backup-agent history says what happened; backup-agent backup makes a backup now");
        Err(Failure::Said(8))
    }
}

fn print(status: &DatabaseStatus, now: Timestamp) {
    let mark = if status.stale.is_empty() { "ok" } else { "STALE" };
    put_line(&format!(
        "{}  {mark}: {}, {} stored",
        status.database,
        text::counted(status.backups, "backup"),
        text::size(status.stored_bytes)
    ));
    for why in &status.stale {
        put_line(&format!("  stale        {why}"));
    }
    put_line(&format!("  proven       {}", line(&status.newest_proven, now)));
    if status.newest_complete != status.newest_proven {
        put_line(&format!("  newest       {}", line(&status.newest_complete, now)));
    }
    if status.unusable > 0 {
        put_line(&format!("  unusable     {} (backup-agent list)", text::counted(status.unusable, "backup")));
    }
    let next = |at: Option<Timestamp>| at.map_or("not by schedule".into(), text::moment);
    put_line(&format!("  next backup  {}", next(status.next_backup)));
    if let Some(at) = status.next_drill {
        put_line(&format!("  next drill   {}", text::moment(at)));
    }
    if let Some(error) = &status.last_error {
        put_line(&format!(
            "  last error   {} of {}: {}",
            error.kind,
            text::moment(error.at),
            text::name(&error.message)
        ));
    }
}

fn line(kept: &Option<Kept>, now: Timestamp) -> String {
    let Some(kept) = kept else { return "none".into() };
    let age = now.duration_since(kept.created_at);
    let proven = kept.proven_at.map_or(String::new(), |at| format!(", proven {}", text::moment(at)));
    format!("{} ({} old{proven})", kept.id, age_text(age))
}

fn age_text(age: SignedDuration) -> String {
    match age.as_secs() {
        seconds if seconds < 0 => "in the future, not at all".into(),
        seconds if seconds < 2 * 3600 => format!("{} min", seconds / 60),
        seconds if seconds < 2 * 86_400 => format!("{} h", seconds / 3600),
        seconds => format!("{} days", seconds / 86_400),
    }
}
