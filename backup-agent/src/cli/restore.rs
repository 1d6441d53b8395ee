//! `backup-agent restore`

use super::in_place::{self, Wish};
use super::progress::Meter;
use super::recorded::Recorded;
use super::{Done, Failure, Global, open, put_line, text};
use crate::choose::{self, Chosen};
use crate::record::of_restore;
use crate::repository::{Repository, StoredBackup};
use crate::restore::{PlannedTable, RestoreOptions, RestorePlan, Restored, plan, restore};
use clap::Args;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use shared::connect;
use shared::engine::LoadOptions;
use shared::model::{At, DatabaseName, DatabaseUrl, TaskKind, parse_at};
use std::sync::Arc;
use std::time::Instant;

/// Restores a backup into a new or empty database, or over the configured one, and proves that it equals what was backed up
///
/// The database is built under another name beside its target and gets its name at the very end. If the proof finds a
/// difference, it does not get the name at all. What --in-place replaces is kept under a name of its own.
#[derive(Debug, Args)]
#[command(
    after_help = "Example: backup-agent restore shop --at latest --into sqlite:restored.db\n         backup-agent restore shop --at \"2025-01-31 03:00\" --into postgres://app@db.example/shop_restored\n         backup-agent restore shop/20250131T030000Z-1a2b3c --into sqlite:one.db --table orders\n         backup-agent restore shop --at \"2 hours ago\" --in-place"
)]
pub struct Restore {
    /// <database>/<id>, or with --at the name of a database
    backup: String,
    /// The newest backup not after this time: latest, an id, RFC 3339, "2025-01-31 03:00" (local), "2 hours ago"
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
    /// The database to restore into; it must not exist or be empty
    #[arg(long, value_name = "URL", required_unless_present = "in_place")]
    into: Option<String>,
    /// Replace the configured database: restored beside it, proven, then in its place; what was there is kept
    #[arg(long, conflicts_with_all = ["into", "table", "no_proof", "no_owner", "no_acl", "preview"])]
    in_place: bool,
    /// With --in-place: replace this configured database, though it is another one than was backed up
    #[arg(long = "as", value_name = "NAME", requires = "in_place")]
    as_name: Option<DatabaseName>,
    /// With --in-place: do not ask for the database's name
    #[arg(long, requires = "in_place")]
    yes: bool,
    /// Only this table (may be repeated); foreign keys to other tables are left out and named
    #[arg(long, value_name = "T")]
    table: Vec<String>,
    /// Do not read the restored database anew and compare it
    #[arg(long)]
    no_proof: bool,
    /// Let whoever restores own everything (PostgreSQL)
    #[arg(long)]
    no_owner: bool,
    /// Leave out grants (PostgreSQL)
    #[arg(long)]
    no_acl: bool,
    /// Only say what would be done
    #[arg(long)]
    preview: bool,
    /// Connections that load at once (PostgreSQL)
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=64))]
    jobs: u16,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

impl Restore {
    pub(super) async fn run(self, global: &Global) -> Done {
        let config = global.config()?;
        let url: Option<DatabaseUrl> = self
            .into
            .as_deref()
            .map(str::parse)
            .transpose()
            .map_err(|error| Failure::Usage(format!("--into: {error}")))?;
        let at = self.at.as_deref().map(|text| parse_at(text, Timestamp::now(), &TimeZone::system()));
        let at = at.transpose().map_err(|error| Failure::Usage(format!("--at: {error}")))?;
        let repository = global.repository(&config).await?;
        let chosen = choose(&repository, &self.backup, at).await?;
        let Some(url) = url else {
            let wish = Wish { chosen, as_name: self.as_name, yes: self.yes, json: self.json };
            return in_place::run(global, wish).await;
        };
        let engine = connect::engine(url);
        let load =
            LoadOptions { workers: self.jobs.into(), tables: self.table, no_owner: self.no_owner, no_acl: self.no_acl };
        let options = RestoreOptions { load, no_proof: self.no_proof };
        let backup = Arc::new(StoredBackup::open(&repository, chosen.manifest).await?);
        if self.preview {
            print_plan(&plan(&backup, &*engine, &options)?, self.json);
            return Ok(());
        }
        let header = &backup.manifest().header;
        let (database, raw_bytes) = (header.database.clone(), header.raw_bytes);
        let recorded = Recorded::begin(global, &config, TaskKind::Restore, Some(&database)).await?;
        let started = Instant::now();
        let meter = Meter::new(global, "restoring", raw_bytes);
        let result = restore(&repository, backup, &*engine, &options, meter.for_load()).await;
        meter.finish();
        let restored = recorded.end(result, |restored| of_restore(restored, raw_bytes)).await?;
        report(&restored, started.elapsed().as_secs_f64(), self.json)
    }
}

/// Finds the backup and says which one it is when a time was given.
pub(super) async fn choose(repository: &Repository, text: &str, at: Option<At>) -> Result<Chosen, Failure> {
    let Some(at) = at else { return Ok(open::backup(repository, text).await?) };
    let database: DatabaseName =
        text.parse().map_err(|error| Failure::Usage(format!("with --at give a database: {error}")))?;
    if let At::Instant(instant) = at {
        say!("looking for the newest backup of {database} not after {instant} (UTC)");
    }
    let chosen = choose::by_time(repository, &database, &at).await?;
    let header = &chosen.manifest.header;
    say!("chose {}/{}, taken {}", header.database, header.id, text::moment(header.created_at));
    open::warn_of_damage(&chosen);
    Ok(chosen)
}

fn print_plan(plan: &RestorePlan, json: bool) {
    if json {
        put_line(&serde_json::json!(plan).to_string());
        return;
    }
    put_line(&format!("would restore {} into {}", plan.backup, plan.into));
    put_line(&format!(
        "{} rows in {}, reading {} from the store{}",
        text::count(plan.rows),
        text::counted(plan.tables.len(), "table"),
        text::size(plan.read_bytes),
        if plan.proof { ", then proving it" } else { ", without proof" }
    ));
    for PlannedTable { name, rows } in &plan.tables {
        put_line(&format!("{:>14} rows  {}", text::count(*rows), text::name(name)));
    }
    for defect in &plan.defects {
        put_line(&format!("defect: {defect}"));
    }
}

/// Says what was restored; exit code 1 when something could not be created.
pub(super) fn report(restored: &Restored, seconds: f64, json: bool) -> Done {
    for difference in &restored.recomputed {
        say!("note: {} {}", difference.object, difference.what);
    }
    for what in &restored.left_out {
        say!("left out: {what}");
    }
    for defect in &restored.defects {
        say!("could not be created: {defect}");
    }
    if !restored.differences.is_empty() {
        say!("so the restored schema differs:");
        text::print_differences(&restored.differences);
    }
    if let Some(why) = &restored.not_noted {
        say!("warning: the restore is done and proven, but the store could not be told: {why}");
    }
    if json {
        let mut value = serde_json::json!(restored);
        value["seconds"] = seconds.into();
        put_line(&value.to_string());
    }
    let proof = match (restored.proven, restored.left_out.as_slice()) {
        (true, []) => "proven: read anew and equal to what was backed up",
        (true, _) => "read anew and equal, but for what was left out",
        (false, _) => "not proven",
    };
    say!(
        "restored {} into {}: {} rows in {seconds:.1} s; {proof}",
        restored.backup,
        restored.into,
        text::count(restored.rows)
    );
    if restored.defects.is_empty() {
        return Ok(());
    }
    say!("error: all rows are in, but {} could not be created", text::counted(restored.defects.len(), "object"));
    Err(Failure::Said(1))
}
