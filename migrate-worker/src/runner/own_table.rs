//! A tool's own table, found and read by queries of ours.

use super::{Current, RunnerError};
use shared::engine::{Engine, table_key};
use shared::model::EngineKind;

/// Where the table of this name is: what is known of the database by that alone, and the table as SQL names it; none where
/// there is no such table. One that is there more than once is a fault, and the first of them is read.
pub(super) async fn locate(engine: &dyn Engine, table: &str) -> Result<(Current, Option<String>), RunnerError> {
    let schemas = schemas_of(engine, table).await?;
    let mut found = Current {
        own_tables: schemas.iter().map(|schema| table_key(engine.kind(), schema, table)).collect(),
        ..Current::default()
    };
    if schemas.len() > 1 {
        found.faults.push(format!("the table {table} is there more than once: {}", found.own_tables.join(", ")));
    }
    let named = schemas.first().map(|schema| match engine.kind() {
        EngineKind::Sqlite => table.to_owned(),
        EngineKind::Postgres => format!("\"{}\".{table}", schema.replace('"', "\"\"")),
    });
    Ok((found, named))
}

/// The first column of a query's rows, without NULL.
pub(super) async fn column(engine: &dyn Engine, sql: &str) -> Result<Vec<String>, RunnerError> {
    Ok(engine.query(sql).await?.into_iter().filter_map(|row| row.into_iter().next().flatten()).collect())
}

/// Tables whose names begin so, which a change by copying made and did not come to rename: faults, a line each.
pub(super) async fn left_by_copying(engine: &dyn Engine, beginning: &str) -> Result<Vec<String>, RunnerError> {
    let sql = match engine.kind() {
        EngineKind::Sqlite => {
            format!("SELECT name FROM sqlite_schema WHERE type = 'table' AND name GLOB '{beginning}*' ORDER BY 1")
        }
        EngineKind::Postgres => format!(
            "SELECT schemaname || '.' || tablename FROM pg_catalog.pg_tables
             WHERE starts_with(tablename, '{beginning}') ORDER BY 1"
        ),
    };
    let fault = |table| {
        format!("a migration ended halfway and left the table {table}: compare it with the original, then drop it")
    };
    Ok(column(engine, &sql).await?.into_iter().map(fault).collect())
}

/// The schemas that have a table of this name, `public` first; one empty name where there are no schemas.
async fn schemas_of(engine: &dyn Engine, table: &str) -> Result<Vec<String>, RunnerError> {
    let sql = match engine.kind() {
        EngineKind::Sqlite => format!("SELECT '' FROM sqlite_schema WHERE type = 'table' AND name = '{table}'"),
        EngineKind::Postgres => format!(
            "SELECT schemaname FROM pg_catalog.pg_tables WHERE tablename = '{table}' \
             ORDER BY schemaname <> 'public', schemaname"
        ),
    };
    column(engine, &sql).await
}
