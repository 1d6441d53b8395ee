//! Looks before the dump: refuses where rows would be missing, names what a restore cannot give back.

use super::catalog::{Sequence, Table, USER_SCHEMA};
use super::facts::Columns;
use super::session::{Doing, rows};
use crate::engine::EngineError;
use serde::Deserialize;
use sqlx::PgConnection;
use std::collections::BTreeMap;

/// Names listed in one message.
const NAMED: usize = 20;

/// Refuses where the role could not read everything, or a partition would come back where it is leaving.
pub(crate) fn refuse(tables: &[Table]) -> Result<(), EngineError> {
    let ours = |table: &&Table| table.kind != "f" && (table.extension.is_none() || table.config.is_some());
    let names = |wanted: &dyn Fn(&Table) -> bool| -> Vec<String> {
        tables.iter().filter(ours).filter(|table| wanted(table)).map(Table::qualified).collect()
    };
    let closed = names(&|table| !table.readable);
    if !closed.is_empty() {
        return Err(EngineError::refused(format!("the role may not read {}", listed("table", &closed))).with_hint(
            "grant it SELECT on all tables and sequences and USAGE on their schemas, or membership in pg_read_all_data",
        ));
    }
    let hidden = names(&|table| table.hidden);
    if !hidden.is_empty() {
        return Err(EngineError::refused(format!("row-level security hides rows of {}", listed("table", &hidden)))
            .with_hint("back up with a role that has BYPASSRLS, or with a superuser"));
    }
    let detaching = names(&|table| table.detaching);
    if let Some(first) = detaching.first() {
        let hint = format!("finish it first: ALTER TABLE … DETACH PARTITION {first} FINALIZE");
        return Err(EngineError::refused(format!(
            "a detach was begun and not finished for {}",
            listed("partition", &detaching)
        ))
        .with_hint(hint));
    }
    Ok(())
}

/// Refuses where the role may not read a sequence's position.
pub(crate) fn refuse_sequences(sequences: &[Sequence]) -> Result<(), EngineError> {
    let closed: Vec<String> = sequences.iter().filter(|s| !s.readable).map(Sequence::qualified).collect();
    if closed.is_empty() {
        return Ok(());
    }
    Err(EngineError::refused(format!("the role may not read {}", listed("sequence", &closed)))
        .with_hint("grant it SELECT on all sequences and USAGE on their schemas, or membership in pg_read_all_data"))
}

/// What a restore will not give back as it was, each a line for a person.
pub(crate) async fn defects(
    conn: &mut PgConnection,
    tables: &[Table],
    row_types: &[Columns],
    standby: bool,
) -> Result<Vec<String>, EngineError> {
    let mut list = Vec::new();
    let names = |wanted: &dyn Fn(&Table) -> bool| -> Vec<String> {
        tables.iter().filter(|table| wanted(table)).map(Table::qualified).collect()
    };
    let mut say = |noun: &str, names: Vec<String>, what: &str| {
        if !names.is_empty() {
            list.push(format!("{}: {what}", listed(noun, &names)));
        }
    };
    say("foreign table", names(&|t| t.kind == "f"), "rows live on another server and are not in the backup");
    let unread = names(&|t| standby && t.persistence == "u" && t.kind == "r");
    say("unlogged table", unread, "rows are not on a standby and are not in the backup");
    say("materialized view", views(conn).await?, "recomputed on restore");
    say("table", extension_tables(conn, tables).await?, "belongs to its extension; rows are not in the backup");
    say("relation", system_relations(conn, "v, m, S, f").await?, "made inside a system schema; not in the backup");
    say("generated column", generated(conn).await?, "calls a function of the database; recomputed on restore");
    let swapped =
        row_types.iter().filter(|r| reordered(tables, r)).map(|r| super::quote::qualified(&r.schema, &r.name));
    say(
        "row type",
        swapped.collect(),
        "used as a column type, and its columns get another order on restore; such a restore is refused",
    );
    Ok(list)
}

/// `3 tables a, b, c`, cut short where there are many.
fn listed(noun: &str, names: &[String]) -> String {
    let shown = names[..names.len().min(NAMED)].join(", ");
    let more = names.len().saturating_sub(NAMED);
    let plural = if names.len() == 1 { "" } else { "s" };
    let tail = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{} {noun}{plural} {shown}{tail}", names.len())
}

#[derive(Deserialize)]
struct Named {
    schema: String,
    name: String,
}

async fn named(conn: &mut PgConnection, query: &str) -> Result<Vec<String>, EngineError> {
    let list: Vec<Named> = rows(conn, query).await.doing("the catalogue could not be read")?;
    Ok(list.iter().map(|n| super::quote::qualified(&n.schema, &n.name)).collect())
}

async fn views(conn: &mut PgConnection) -> Result<Vec<String>, EngineError> {
    let query = format!(
        "SELECT n.nspname AS schema, c.relname AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE c.relkind = 'm' AND c.relispopulated AND {USER_SCHEMA} ORDER BY 1, 2"
    );
    named(conn, &query).await
}

/// Relations of these kinds (`r, p, …`) that somebody made in a schema `pg_dump` never looks into.
async fn system_relations(conn: &mut PgConnection, kinds: &str) -> Result<Vec<String>, EngineError> {
    let query = format!(
        "SELECT n.nspname AS schema, c.relname AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE c.oid >= 16384 AND c.relkind::text = ANY (string_to_array('{kinds}', ', '))
           AND n.nspname IN ('pg_catalog', 'information_schema')
           AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid
                AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e') ORDER BY 1, 2"
    );
    named(conn, &query).await
}

/// Refuses where somebody keeps rows in a schema of the server: no dump holds them.
pub(crate) async fn refuse_system_tables(conn: &mut PgConnection) -> Result<(), EngineError> {
    let tables = system_relations(conn, "r, p").await?;
    if tables.is_empty() {
        return Ok(());
    }
    let message = format!("{} lies in a schema of the server, where nothing is backed up", listed("table", &tables));
    Err(EngineError::refused(message).with_hint("move it: ALTER TABLE … SET SCHEMA"))
}

async fn generated(conn: &mut PgConnection) -> Result<Vec<String>, EngineError> {
    let query = format!(
        "SELECT DISTINCT n.nspname AS schema, c.relname || '.' || a.attname AS name
         FROM pg_attrdef f JOIN pg_class c ON c.oid = f.adrelid JOIN pg_namespace n ON n.oid = c.relnamespace
         JOIN pg_attribute a ON a.attrelid = f.adrelid AND a.attnum = f.adnum AND a.attgenerated <> ''
         JOIN pg_depend d ON d.classid = 'pg_attrdef'::regclass AND d.objid = f.oid AND d.refclassid = 'pg_proc'::regclass
         WHERE d.refobjid >= 16384 AND {USER_SCHEMA} ORDER BY 1, 2"
    );
    named(conn, &query).await
}

/// Extension tables that hold rows nobody asks for: those not marked as configuration.
async fn extension_tables(conn: &mut PgConnection, tables: &[Table]) -> Result<Vec<String>, EngineError> {
    let mut list = Vec::new();
    for table in tables.iter().filter(|t| t.kind == "r" && t.extension.is_some() && t.config.is_none() && t.readable) {
        #[derive(Deserialize)]
        struct Filled {
            filled: bool,
        }
        let query = format!("SELECT EXISTS (SELECT FROM ONLY {}) AS filled", table.sql());
        let filled: Vec<Filled> = rows(conn, &query).await.doing("an extension's table could not be looked at")?;
        if filled.iter().any(|row| row.filled) {
            list.push(table.qualified());
        }
    }
    Ok(list)
}

/// Whether a child's columns come back in another order: `pg_dump` puts inherited ones first.
fn reordered(tables: &[Table], row_type: &Columns) -> bool {
    let by_oid: BTreeMap<u32, &Table> = tables.iter().map(|table| (table.oid, table)).collect();
    let found = tables.iter().find(|t| t.schema == row_type.schema && t.name == row_type.name);
    found.is_some_and(|table| !table.partition && restored_order(&by_oid, table, 0) != row_type.columns)
}

fn restored_order(by_oid: &BTreeMap<u32, &Table>, table: &Table, depth: usize) -> Vec<String> {
    let mut order: Vec<String> = Vec::new();
    if depth < 100 && !table.partition {
        for parent in table.parents.iter().filter_map(|oid| by_oid.get(oid)) {
            order.extend(restored_order(by_oid, parent, depth + 1));
        }
    }
    order.extend(table.columns.iter().map(|column| column.name.clone()));
    let mut seen = std::collections::BTreeSet::new();
    order.retain(|name| seen.insert(name.clone()));
    order
}
