//! `backup-agent list`

use super::{Done, Failure, Global, put_line, text};
use crate::error::Error;
use crate::repository::{Listed, Repository, Trashed};
use clap::Args;
use shared::model::DatabaseName;

/// Lists backups, oldest first
#[derive(Debug, Args)]
#[command(after_help = "Example: backup-agent list shop --json")]
pub struct List {
    /// Only backups of this database
    database: Option<DatabaseName>,
    /// Those that were forgotten, and until when they can be brought back
    #[arg(long)]
    trash: bool,
    /// Print a JSON array
    #[arg(long)]
    json: bool,
}

impl List {
    pub(super) async fn run(self, global: &Global) -> Done {
        let config = global.config()?;
        let repository = global.repository(&config).await?;
        if self.trash {
            return trash(&repository, self.database.as_ref(), self.json).await;
        }
        let databases = match self.database {
            Some(name) => vec![name],
            None => repository.databases().await?,
        };
        let mut backups = Vec::new();
        for database in &databases {
            backups.extend(repository.backups(database).await?);
        }
        backups.sort_by(|a, b| (&a.id, &a.database).cmp(&(&b.id, &b.database)));
        if self.json {
            let values: Vec<serde_json::Value> = backups.iter().map(to_json).collect();
            put_line(&serde_json::to_string_pretty(&values).map_err(|error| Failure::Usage(error.to_string()))?);
            return Ok(());
        }
        if backups.is_empty() {
            say!("{} holds no backups yet", repository.store().describe());
        }
        for backup in &backups {
            put_line(&line(backup));
        }
        Ok(())
    }
}

async fn trash(repository: &Repository, database: Option<&DatabaseName>, json: bool) -> Done {
    let copies = repository.trash(database).await.map_err(Error::from)?;
    if json {
        let value = |copy: &Trashed| {
            serde_json::json!({
                "id": copy.name(),
                "database": copy.database,
                "forgotten_at": copy.forgotten_at,
                "returns_until": copy.returns_until(),
                "kept_until": copy.kept_until(),
            })
        };
        let values: Vec<_> = copies.iter().map(value).collect();
        put_line(&serde_json::to_string_pretty(&values).map_err(|error| Failure::Usage(error.to_string()))?);
        return Ok(());
    }
    if copies.is_empty() {
        say!("nothing is forgotten in {}", repository.store().describe());
        return Ok(());
    }
    let now = repository.store_now().await.map_err(Error::from)?;
    for copy in &copies {
        let until = copy.returns_until();
        let state = if now < until { "can come back until" } else { "could come back until" };
        let (forgotten, until) = (text::moment(copy.forgotten_at), text::moment(until));
        put_line(&format!("{}  forgotten {forgotten}  {state} {until}", copy.name()));
    }
    Ok(())
}

fn line(backup: &Listed) -> String {
    let name = format!("{}/{}", backup.database, backup.id);
    match &backup.manifest {
        Err(error) => format!("{name}  unusable: {error}"),
        Ok(manifest) => format!(
            "{name}  {:>12} rows  {:>9} raw  {:>9} stored  {:>9} new  {}",
            text::count(manifest.rows()),
            text::size(manifest.header.raw_bytes),
            text::size(manifest.header.stored_bytes + backup.manifest_bytes),
            text::size(manifest.header.new_bytes + backup.manifest_bytes),
            state(backup),
        ),
    }
}

/// One backup's state in words, and who holds it.
pub(super) fn state(backup: &Listed) -> String {
    let mut owners: Vec<String> = backup.marks.holds().iter().map(|hold| hold.owner.to_string()).collect();
    owners.dedup();
    let hold = if owners.is_empty() { String::new() } else { format!(", on hold by {}", owners.join(", ")) };
    format!("{}{hold}", worth(backup))
}

fn worth(backup: &Listed) -> String {
    if backup.damaged_packs > 0 {
        return format!("DAMAGED ({})", text::counted(backup.damaged_packs, "pack"));
    }
    if !backup.is_complete() {
        return "incomplete".into();
    }
    match backup.proven_at() {
        Some(at) => format!("proven {}", text::moment(at)),
        None => "complete, not proven yet".into(),
    }
}

fn to_json(backup: &Listed) -> serde_json::Value {
    let mut value = serde_json::json!({
        "id": format!("{}/{}", backup.database, backup.id),
        "database": backup.database,
        "complete": backup.is_complete(),
        "proven_at": backup.proven_at(),
        "damaged_packs": backup.damaged_packs,
        "holds": backup.marks.holds(),
    });
    let more = match &backup.manifest {
        Err(error) => serde_json::json!({
            "engine": null, "created_at": backup.id.second(), "rows": null, "raw_bytes": null, "stored_bytes": null,
            "new_bytes": null, "defects": [], "error": error.to_string(),
        }),
        Ok(manifest) => serde_json::json!({
            "engine": manifest.header.engine,
            "created_at": manifest.header.created_at,
            "rows": manifest.rows(),
            "raw_bytes": manifest.header.raw_bytes,
            "stored_bytes": manifest.header.stored_bytes + backup.manifest_bytes,
            "new_bytes": manifest.header.new_bytes + backup.manifest_bytes,
            "defects": manifest.header.defects,
            "error": null,
        }),
    };
    if let (Some(value), serde_json::Value::Object(more)) = (value.as_object_mut(), more) {
        value.extend(more);
    }
    value
}
