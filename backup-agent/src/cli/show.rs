//! `backup-agent show`

use super::{Done, Global, list, open, put_line, text};
use crate::repository::{Listed, Manifest};
use clap::Args;

/// Shows one backup: tables, rows, sizes, what is new, defects, and how far it is proven
#[derive(Debug, Args)]
#[command(after_help = "Example: backup-agent show shop/20250131T030000Z-1a2b3c")]
pub struct Show {
    /// <database>/<id>, or the beginning of an id
    backup: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Show {
    pub(super) async fn run(self, global: &Global) -> Done {
        let config = global.config()?;
        let repository = global.repository(&config).await?;
        let listed = open::listed(&repository, &self.backup).await?;
        let manifest = match listed.manifest {
            Ok(ref manifest) => manifest,
            Err(error) => return Err(error.into()),
        };
        open::warn_of_packs(&listed.database, &listed.id, listed.damaged_packs);
        if self.json {
            put_line(&to_json(&listed, manifest).to_string());
        } else {
            print(&listed, manifest);
        }
        Ok(())
    }
}

fn print(backup: &Listed, manifest: &Manifest) {
    let header = &manifest.header;
    put_line(&format!("backup     {}/{}", header.database, header.id));
    put_line(&format!("of         {}", header.identity));
    put_line(&format!("taken      {} ({} {})", text::moment(header.created_at), header.engine, header.server_version));
    put_line(&format!("state      {}", list::state(backup)));
    put_line(&format!(
        "size       {} raw, {} stored, {} new with this backup, {} manifest",
        text::size(header.raw_bytes),
        text::size(header.stored_bytes),
        text::size(header.new_bytes),
        text::size(backup.manifest_bytes)
    ));
    put_line(&format!(
        "rows       {} in {}",
        text::count(manifest.rows()),
        text::counted(manifest.tables.len(), "table")
    ));
    if let [parent, ..] = header.parents.as_slice() {
        put_line(&format!("builds on  {}/{parent}", header.database));
    }
    for defect in &header.defects {
        put_line(&format!("defect     {defect}"));
    }
    for mark in backup.marks.iter() {
        put_line(&format!(
            "{:<10} {} ({})",
            format!("{:?}", mark.kind).to_lowercase(),
            text::moment(mark.at),
            mark.detail
        ));
    }
    for hold in backup.marks.holds() {
        put_line(&format!("hold       {} ({}) {}", text::moment(hold.at), hold.owner, hold.reason));
    }
    put_line("");
    for table in &manifest.tables {
        let size = if table.bytes > 0 { text::size(table.bytes) } else { String::new() };
        put_line(&format!("{:>14} rows {:>10}  {}", text::count(table.rows), size, text::name(&table.name)));
    }
}

fn to_json(backup: &Listed, manifest: &Manifest) -> serde_json::Value {
    let header = &manifest.header;
    let tables: Vec<_> = manifest
        .tables
        .iter()
        .map(|table| serde_json::json!({"name": table.name, "rows": table.rows, "raw_bytes": table.bytes, "digest": table.digest}))
        .collect();
    serde_json::json!({
        "id": format!("{}/{}", header.database, header.id),
        "database": header.database,
        "engine": header.engine,
        "server_version": header.server_version,
        "identity": header.identity,
        "created_at": header.created_at,
        "complete": backup.is_complete(),
        "proven_at": backup.proven_at(),
        "damaged_packs": backup.damaged_packs,
        "codec": header.codec,
        "rows": manifest.rows(),
        "raw_bytes": header.raw_bytes,
        "stored_bytes": header.stored_bytes + backup.manifest_bytes,
        "new_bytes": header.new_bytes + backup.manifest_bytes,
        "parents": header.parents,
        "defects": header.defects,
        "holds": backup.marks.holds(),
        "marks": backup.marks.iter().collect::<Vec<_>>(),
        "tables": tables,
    })
}
