//! Where a database stands, by sqlx's table.

use super::{TABLE, applicable};
use crate::runner::{Current, RunnerError};
use shared::engine::{Engine, table_key};
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
    let places = find(engine, TABLE).await?;
    let mut found = Current {
        own_tables: places.iter().map(|schema| table_key(engine.kind(), schema, TABLE)).collect(),
        ..Current::default()
    };
    let Some(schema) = places.first() else { return Ok(found) };
    if places.len() > 1 {
        found.faults.push(format!("the table {TABLE} is there more than once: {}", found.own_tables.join(", ")));
    }
    let applied = read(engine, schema).await?;
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

async fn read(engine: &dyn Engine, schema: &str) -> Result<Vec<Applied>, RunnerError> {
    let sql = match engine.kind() {
        EngineKind::Sqlite => {
            format!("SELECT version, lower(hex(checksum)), success <> 0 FROM {TABLE} ORDER BY version")
        }
        EngineKind::Postgres => format!(
            "SELECT version, pg_catalog.encode(checksum, 'hex'), success::int FROM \"{}\".{TABLE} ORDER BY version",
            schema.replace('"', "\"\"")
        ),
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

/// The schemas that have a table of this name, `public` first; one empty name where there are no schemas.
pub(in crate::runner) async fn find(engine: &dyn Engine, table: &str) -> Result<Vec<String>, RunnerError> {
    let sql = match engine.kind() {
        EngineKind::Sqlite => format!("SELECT '' FROM sqlite_schema WHERE type = 'table' AND name = '{table}'"),
        EngineKind::Postgres => format!(
            "SELECT schemaname FROM pg_catalog.pg_tables WHERE tablename = '{table}' \
             ORDER BY schemaname <> 'public', schemaname"
        ),
    };
    Ok(engine.query(&sql).await?.into_iter().filter_map(|row| row.into_iter().next().flatten()).collect())
}
