//! `backup-agent diff`

use super::{Done, Failure, Global, open, put_line, text};
use crate::error::Error;
use crate::repository::{Repository, StoredBackup};
use clap::Args;
use serde::Serialize;
use shared::config::Config;
use shared::connect;
use shared::engine::DumpSource;
use shared::model::{Difference, DifferenceKind, EngineKind, Fingerprint};

/// Compares a backup with another one or with a database: schema and rows, table by table
///
/// Rows are compared by their digests: that a table differs is told, and by how many rows, not which. Exit code 7 where
/// something differs.
#[derive(Debug, Args)]
#[command(after_help = "Example: backup-agent diff shop/20250131T030000Z-1a2b3c shop/20250201T030000Z-4d5e6f
         backup-agent diff shop/20250131T030000Z-1a2b3c shop
         backup-agent diff shop/20250131T030000Z-1a2b3c postgres://app@db.example/shop_restored")]
pub struct Diff {
    /// The backup that is compared, <database>/<id>
    backup: String,
    /// What it is compared with: another backup, a database of the configuration, or a URL; that is only read
    other: String,
    /// Also list what is the same
    #[arg(long)]
    all: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Two states of a database beside each other.
#[derive(Debug, Serialize)]
struct Comparison {
    backup: String,
    other: String,
    equal: bool,
    tables: Vec<TableLine>,
    /// Sequences and large objects that differ.
    more: Vec<Difference>,
    schema: SchemaLines,
}

/// One table of both.
#[derive(Debug, Serialize)]
struct TableLine {
    name: String,
    /// Rows in the backup; none where the table is not in it.
    rows: Option<u64>,
    /// Rows in the other one.
    other_rows: Option<u64>,
    same: bool,
}

/// Statements that stand in one schema only.
#[derive(Debug, Serialize)]
struct SchemaLines {
    only_in_backup: Vec<String>,
    only_in_other: Vec<String>,
}

impl Diff {
    pub(super) async fn run(self, global: &Global) -> Done {
        let config = global.config()?;
        let repository = global.repository(&config).await?;
        let backup = open::stored(&repository, &self.backup).await?;
        let (other, found) = self.found(&config, &repository, &backup).await?;
        let comparison = Comparison::of(backup.name(), other, backup.fingerprint(), &found);
        if self.json {
            put_line(&serde_json::json!(comparison).to_string());
        } else {
            comparison.print(self.all);
        }
        if comparison.equal { Ok(()) } else { Err(Failure::Said(7)) }
    }

    /// The other state, and what it is called.
    async fn found(
        &self,
        config: &Config,
        repository: &Repository,
        backup: &StoredBackup,
    ) -> Result<(String, Fingerprint), Failure> {
        let kind = backup.manifest().header.engine;
        let Some(url) = open::database_meant(config, &self.other)? else {
            let other = open::stored(repository, &self.other).await?;
            refuse_other_kind(kind, other.manifest().header.engine)?;
            return Ok((other.name(), other.fingerprint().clone()));
        };
        let engine = connect::engine(url);
        refuse_other_kind(kind, engine.kind())?;
        let found = engine.fingerprint(backup, 2).await.map_err(Error::from)?;
        Ok((engine.describe(), found))
    }
}

fn refuse_other_kind(backup: EngineKind, other: EngineKind) -> Result<(), Error> {
    if backup == other {
        return Ok(());
    }
    Err(Error::refused(
        format!("the backup is of a {backup} database and cannot be compared with one of {other}"),
        None,
    ))
}

impl Comparison {
    fn of(backup: String, other: String, expected: &Fingerprint, found: &Fingerprint) -> Self {
        let names =
            expected.tables.keys().chain(found.tables.keys().filter(|name| !expected.tables.contains_key(*name)));
        let line = |name: &String| {
            let (left, right) = (expected.tables.get(name), found.tables.get(name));
            let rows = |table: Option<&shared::model::TableFingerprint>| table.map(|table| table.rows);
            TableLine { name: name.clone(), rows: rows(left), other_rows: rows(right), same: left == right }
        };
        let mut tables: Vec<TableLine> = names.map(line).collect();
        tables.sort_by(|left, right| left.name.cmp(&right.name));
        let differences = expected.differences(found);
        let equal = differences.is_empty();
        let (schema, more): (Vec<_>, Vec<_>) =
            differences.into_iter().partition(|difference| difference.kind == DifferenceKind::Schema);
        let more = more.into_iter().filter(|difference| !difference.object.starts_with("table ")).collect();
        let (missing, added): (Vec<_>, Vec<_>) =
            schema.into_iter().partition(|difference| difference.what.starts_with("is missing"));
        let objects = |list: Vec<Difference>| list.into_iter().map(|difference| difference.object).collect();
        let schema = SchemaLines { only_in_backup: objects(missing), only_in_other: objects(added) };
        Comparison { backup, other, equal, tables, more, schema }
    }

    fn print(&self, all: bool) {
        put_line(&format!("- {}", self.backup));
        put_line(&format!("+ {}", self.other));
        for table in self.tables.iter().filter(|table| all || !table.same) {
            put_line(&format!("  table {}: {}", text::name(&table.name), table.words()));
        }
        for difference in &self.more {
            put_line(&format!("  {}: {}", difference.object, difference.what));
        }
        for (sign, list) in [("-", &self.schema.only_in_backup), ("+", &self.schema.only_in_other)] {
            for statement in list {
                put_line(&format!("{sign} {}", statement.split_whitespace().collect::<Vec<_>>().join(" ")));
            }
        }
        let same = self.tables.iter().filter(|table| table.same).count();
        put_line(&if self.equal {
            format!("no difference: {} and the whole schema are the same", text::counted(same, "table"))
        } else {
            format!("{} of {} are the same", same, text::counted(self.tables.len(), "table"))
        });
    }
}

impl TableLine {
    fn words(&self) -> String {
        let rows = |number: u64| format!("{} {}", text::count(number), if number == 1 { "row" } else { "rows" });
        match (self.rows, self.other_rows) {
            (Some(before), None) => format!("{} before, no longer there", rows(before)),
            (None, Some(after)) => format!("new, {}", rows(after)),
            (Some(before), Some(after)) if before != after => {
                let (sign, change) = if after > before { ("+", after - before) } else { ("-", before - after) };
                format!("{} before, {} now ({sign}{})", rows(before), rows(after), text::count(change))
            }
            (_, rows_now) if self.same => format!("the same {}", rows(rows_now.unwrap_or_default())),
            (_, rows_now) => format!("other values in its {}", rows(rows_now.unwrap_or_default())),
        }
    }
}
