//! `backup-agent verify`

use super::progress::Meter;
use super::recorded::Recorded;
use super::{Done, Failure, Global, open, put_line, text};
use crate::record::of_verification;
use crate::repository::{Listed, Repository, Verification};
use clap::Args;
use shared::model::{DatabaseName, TaskKind};
use std::collections::BTreeMap;

/// Reads every stored byte of backups and checks it; damage is marked
#[derive(Debug, Args)]
#[command(after_help = "Example: backup-agent verify shop")]
pub struct Verify {
    /// <database>/<id> or a database [default: all backups]
    what: Option<String>,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

impl Verify {
    pub(super) async fn run(self, global: &Global) -> Done {
        let config = global.config()?;
        let repository = global.repository(&config).await?;
        let backups = choose(&repository, self.what.as_deref()).await?;
        let packs: BTreeMap<&str, u64> = backups
            .iter()
            .filter_map(|backup| backup.manifest.as_ref().ok())
            .flat_map(|manifest| manifest.packs.iter().map(|pack| (pack.uuid.as_str(), pack.bytes)))
            .collect();
        let target = one_database(&backups);
        let recorded = Recorded::begin(global, &config, TaskKind::Verify, target).await?;
        let meter = Meter::new(global, "verifying", packs.values().sum());
        let result = repository.verify(&backups, &|bytes| meter.advance(bytes)).await;
        meter.finish();
        let verified = recorded.end(result, of_verification).await?;
        report(&verified, self.json)
    }
}

async fn choose(repository: &Repository, what: Option<&str>) -> Result<Vec<Listed>, Failure> {
    let databases = repository.databases().await?;
    let Some(what) = what else { return all(repository, &databases).await };
    if let Ok(name) = what.parse::<DatabaseName>()
        && databases.contains(&name)
    {
        return all(repository, &[name]).await;
    }
    Ok(vec![open::listed(repository, what).await?])
}

async fn all(repository: &Repository, databases: &[DatabaseName]) -> Result<Vec<Listed>, Failure> {
    let mut found = Vec::new();
    for database in databases {
        found.extend(repository.backups(database).await?);
    }
    Ok(found)
}

/// The database all these backups are of.
fn one_database(backups: &[Listed]) -> Option<&DatabaseName> {
    let first = &backups.first()?.database;
    backups.iter().all(|backup| backup.database == *first).then_some(first)
}

fn report(found: &Verification, json: bool) -> Done {
    if json {
        let backups: Vec<_> = found
            .backups
            .iter()
            .map(|backup| serde_json::json!({"id": format!("{}/{}", backup.database, backup.id), "damage": backup.damage, "note": backup.note}))
            .collect();
        put_line(&serde_json::json!({"bytes": found.bytes, "backups": backups}).to_string());
    }
    let damaged = found.backups.iter().filter(|backup| !backup.damage.is_empty());
    for backup in damaged.clone() {
        for what in &backup.damage {
            say!("damaged: {}/{}: {what}", backup.database, backup.id);
        }
    }
    for backup in &found.backups {
        if let Some(note) = &backup.note {
            say!("note: {}/{}: {note}", backup.database, backup.id);
        }
    }
    say!("verified {}, read {}", text::counted(found.backups.len(), "backup"), text::size(found.bytes));
    if found.is_clean() {
        return Ok(());
    }
    say!("error: {} damaged of {} verified", text::counted(damaged.count(), "backup"), found.backups.len());
    say!("hint: make a new backup now: it stores again what the damaged packs held. The others stay restorable.");
    Err(Failure::Said(6))
}
