//! Where a database stands, by sqlx's table.

use super::{TABLE, applicable};
use crate::runner::{Current, RunnerError, own_table};
use shared::engine::Engine;
use shared::model::EngineKind;
use sqlx::migrate::Migrator;
use std::collections::BTreeMap;

/// A row of the table.
struct Applied {
    version: i64,
    checksum: String,
    success: bool,
}

pub(super) async fn current(migrator: &Migrator, engine: &dyn Engine) -> Result<Current, RunnerError> {
    let (mut found, table) = own_table::locate(engine, TABLE).await?;
    let Some(table) = table else { return Ok(found) };
    let applied = read(engine, &table).await?;
    let known: BTreeMap<i64, String> =
        applicable(migrator).map(|migration| (migration.version, hex::encode(&migration.checksum))).collect();
    for row in &applied {
        let version = row.version;
        if !row.success {
            found.faults.push(format!("migration {version} was begun and never finished"));
        }
        match known.get(&version) {
            None => found.faults.push(format!("migration {version} was applied, but its file is not there")),
            Some(checksum) if *checksum != row.checksum => {
                found.faults.push(format!("migration {version} was edited after it was applied"));
            }
            Some(_) => {}
        }
    }
    if let Some(newest) = applied.last() {
        let is_applied = |version: i64| applied.iter().any(|row| row.version == version);
        let below = known.keys().filter(|version| **version < newest.version && !is_applied(**version));
        found.gaps = below.map(ToString::to_string).collect();
        found.heads.push(newest.version.to_string());
    }
    Ok(found)
}

async fn read(engine: &dyn Engine, table: &str) -> Result<Vec<Applied>, RunnerError> {
    let sql = match engine.kind() {
        EngineKind::Sqlite => {
            format!("SELECT version, lower(hex(checksum)), success <> 0 FROM {table} ORDER BY version")
        }
        EngineKind::Postgres => {
            format!("SELECT version, pg_catalog.encode(checksum, 'hex'), success::int FROM {table} ORDER BY version")
        }
    };
    let odd = || RunnerError::new(format!("the table {TABLE} is not as sqlx makes it"));
    let rows = engine.query(&sql).await?.into_iter().map(|row| match <[Option<String>; 3]>::try_from(row) {
        Ok([Some(version), Some(checksum), success]) => {
            let version = version.parse().map_err(|_| odd())?;
            Ok(Applied { version, checksum, success: success.as_deref() == Some("1") })
        }
        _ => Err(odd()),
    });
    rows.collect()
}
