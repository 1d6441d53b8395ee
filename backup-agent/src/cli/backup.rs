//! `backup-agent backup`

use super::progress::Meter;
use super::recorded::Recorded;
use super::{Done, Global, open, put_line, text};
use crate::backup::{BackupOptions, backup};
use crate::record::of_backup;
use crate::repository::{Codec, Manifest, layout};
use clap::Args;
use shared::engine::DumpOptions;
use shared::model::{DatabaseName, TaskKind};
use std::path::PathBuf;
use std::time::Instant;

/// Makes a backup of a database while it is in use
#[derive(Debug, Args)]
#[command(
    after_help = "Example: backup-agent backup sqlite:app.db\n         PGPASSWORD=… backup-agent backup postgres://app@db.example/shop --name shop"
)]
pub struct Backup {
    /// A name from holdfast.toml, or a URL: sqlite:PATH, postgres://user@host/database
    database: String,
    /// Name of the database in the repository [default: file stem or database name]
    #[arg(long)]
    name: Option<DatabaseName>,
    /// Connections that read at once (PostgreSQL)
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=64))]
    jobs: u16,
    /// The name's earlier backups are of another database, and that is meant
    #[arg(long)]
    new_identity: bool,
    /// Directory for the private copy of a SQLite database [default: that of the configuration, else holdfast-spool]
    #[arg(long, value_name = "DIR")]
    spool: Option<PathBuf>,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

impl Backup {
    pub(super) async fn run(self, global: &Global) -> Done {
        let config = global.config()?;
        let named = open::named(&config, &self.database, self.name.as_ref())?;
        let engine = open::engine(&config, &named)?;
        let spool = self.spool.unwrap_or_else(|| config.spool());
        let dump = DumpOptions { workers: self.jobs.into(), spool, ..Default::default() };
        // A database that is not there must not leave an empty repository behind.
        engine.probe().await?;
        let (repository, _) = global.repository_to_write(&config, Codec::Gzip).await?;
        let recorded = Recorded::begin(global, &config, TaskKind::Backup, Some(&named.name)).await?;
        let options = BackupOptions { dump, new_identity: self.new_identity, stop: recorded.stop.clone() };
        let started = Instant::now();
        let meter = Meter::new(global, "reading", 0);
        let result = backup(&repository, &named.name, &*engine, &options, meter.clone()).await;
        meter.finish();
        let manifest = recorded.end(result, of_backup).await?;
        report(&manifest, started.elapsed().as_secs_f64(), self.json);
        Ok(())
    }
}

/// Says what was made.
pub(super) fn report(manifest: &Manifest, seconds: f64, json: bool) {
    let header = &manifest.header;
    for defect in &header.defects {
        say!("defect: {defect}");
    }
    if json {
        let value = serde_json::json!({
            "id": format!("{}/{}", header.database, header.id),
            "database": header.database,
            "engine": header.engine,
            "created_at": header.created_at,
            "rows": manifest.rows(),
            "tables": manifest.tables.len(),
            "raw_bytes": header.raw_bytes,
            "stored_bytes": header.stored_bytes,
            "new_bytes": header.new_bytes,
            "defects": header.defects,
            "manifest": layout::manifest(&header.database, &header.id),
            "seconds": seconds,
        });
        put_line(&value.to_string());
        return;
    }
    put_line(&format!("{}/{}", header.database, header.id));
    say!(
        "backed up {}, {} rows, {} as {} ({} new) in {seconds:.1} s",
        text::counted(manifest.tables.len(), "table"),
        text::count(manifest.rows()),
        text::size(header.raw_bytes),
        text::size(header.stored_bytes),
        text::size(header.new_bytes),
    );
}
