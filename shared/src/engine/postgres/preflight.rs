//! Looks before the dump: refuses where rows would be missing, names what a restore cannot give back.

use super::catalog::{Sequence, Table, USER_SCHEMA};
use super::facts::Columns;
use super::quote::one_line;
use super::session::{Doing, rows};
use crate::engine::EngineError;
use serde::Deserialize;
use sqlx::PgConnection;
use std::collections::BTreeMap;

/// Schemas that `pg_dump` takes for the server's own, and leaves out with all that is in them.
const SYSTEM_SCHEMA: &str = "(n.nspname = 'information_schema' OR n.nspname ~ '^pg_')
    AND n.nspname <> 'pg_toast' AND n.nspname !~ '^pg_(toast_)?temp_'";

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
    views: &[String],
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
    say("materialized view", views.to_vec(), "recomputed on restore");
    say("table", extension_tables(conn, tables).await?, "belongs to its extension; rows are not in the backup");
    say("relation", system_relations(conn, "v, m, S, f").await?, "made inside a system schema; not in the backup");
    say("generated column", generated(conn).await?, "calls a function of the database; recomputed on restore");
    let swapped =
        row_types.iter().filter(|r| reordered(tables, r)).map(|r| super::quote::qualified(&r.schema, &r.name));
    let kinds = [
        ("invalid index", INVALID_INDEXES, "left by a command that failed; not in the backup"),
        ("prepared transaction", PREPARED, "neither committed nor rolled back; what it changed is not in the backup"),
        ("routine", &system_routines(), "made inside a system schema; not in the backup"),
        ("object", ADDED, "added by hand to a table of an extension; not in the backup"),
        ("security label", LABELS, "of a kind that is not in the backup"),
        ("extension", VERSIONS, "of a version that is not the server's usual one, which a restore makes"),
        ("database option", OPTIONS, "not given back by a restore"),
    ];
    for (noun, query, what) in kinds {
        say(noun, labels(conn, query).await?, what);
    }
    say(
        "row type",
        swapped.collect(),
        "used as a column type, and its columns get another order on restore; such a restore is refused",
    );
    Ok(list)
}

/// `3 tables a, b, c`, cut short where there are many.
fn listed(noun: &str, names: &[String]) -> String {
    let shown: Vec<String> = names.iter().take(NAMED).map(|name| one_line(name)).collect();
    let shown = shown.join(", ");
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

/// Qualified names of what a query of `schema` and `name` finds.
pub(crate) async fn named(conn: &mut PgConnection, query: &str) -> Result<Vec<String>, EngineError> {
    let list: Vec<Named> = rows(conn, query).await.doing("the catalogue could not be read")?;
    Ok(list.iter().map(|n| super::quote::qualified(&n.schema, &n.name)).collect())
}

/// Names that need no quotes, as they are.
async fn labels(conn: &mut PgConnection, query: &str) -> Result<Vec<String>, EngineError> {
    #[derive(Deserialize)]
    struct Label {
        label: String,
    }
    let list: Vec<Label> = rows(conn, query).await.doing("the catalogue could not be read")?;
    Ok(list.into_iter().map(|row| row.label).collect())
}

/// Those that `pg_dump` passes over; of a partitioned table it takes also what is not complete yet.
const INVALID_INDEXES: &str = "SELECT format('%I.%I', n.nspname, c.relname) AS label FROM pg_index i
    JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_class t ON t.oid = i.indrelid
    JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE NOT (i.indisready AND (i.indisvalid OR t.relkind = 'p')) AND n.nspname NOT IN ('pg_catalog', 'pg_toast')
    ORDER BY 1";

const PREPARED: &str =
    "SELECT quote_literal(gid) AS label FROM pg_prepared_xacts WHERE database = current_database() ORDER BY 1";

fn system_routines() -> String {
    format!(
        "SELECT format('%I.%I', n.nspname, p.proname) AS label FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
         WHERE p.oid >= 16384 AND {SYSTEM_SCHEMA}
           AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid
                AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e') ORDER BY 1"
    )
}

/// What somebody added to a table of an extension: policies, and whatever came after the extension's last member (its
/// own indexes, triggers and constraints are no members either, but came before).
const ADDED: &str = "WITH member AS (SELECT d.objid AS oid, max(o.objid) AS last FROM pg_depend d
        JOIN pg_depend o ON o.refclassid = d.refclassid AND o.refobjid = d.refobjid AND o.deptype = 'e'
        WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'
        GROUP BY 1)
    SELECT what || ' on ' || oid::regclass AS label FROM (
        SELECT m.oid, format('policy %I', p.polname) AS what FROM member m JOIN pg_policy p ON p.polrelid = m.oid
        UNION ALL SELECT m.oid, 'row-level security' FROM member m JOIN pg_class c ON c.oid = m.oid WHERE c.relrowsecurity
        UNION ALL SELECT m.oid, format('trigger %I', t.tgname) FROM member m JOIN pg_trigger t ON t.tgrelid = m.oid
            WHERE NOT t.tgisinternal AND t.oid > m.last
        UNION ALL SELECT m.oid, format('constraint %I', k.conname) FROM member m JOIN pg_constraint k ON k.conrelid = m.oid
            WHERE k.oid > m.last
        UNION ALL SELECT m.oid, format('index %I', c.relname) FROM member m JOIN pg_index i ON i.indrelid = m.oid
            JOIN pg_class c ON c.oid = i.indexrelid WHERE c.oid > m.last
            AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = c.oid)
        UNION ALL SELECT m.oid, format('column %I', a.attname) FROM member m JOIN pg_attribute a ON a.attrelid = m.oid
            JOIN pg_attrdef f ON f.adrelid = m.oid AND f.adnum = a.attnum WHERE f.oid > m.last
    ) AS added ORDER BY 1";

const LABELS: &str = "SELECT DISTINCT pg_describe_object(l.classoid, l.objoid, l.objsubid) AS label FROM pg_seclabel l
    WHERE l.classoid = 'pg_largeobject'::regclass
        OR EXISTS (SELECT FROM pg_depend d WHERE d.classid = l.classoid AND d.objid = l.objoid AND d.deptype = 'e')
    ORDER BY 1";

const VERSIONS: &str = "SELECT e.extname || ' ' || e.extversion AS label FROM pg_extension e
    JOIN pg_available_extensions a ON a.name = e.extname
    WHERE e.extname <> 'plpgsql' AND a.default_version <> e.extversion ORDER BY 1";

const OPTIONS: &str = "SELECT 'tablespace ' || t.spcname AS label FROM pg_database d
        JOIN pg_tablespace t ON t.oid = d.dattablespace WHERE d.datname = current_database() AND t.spcname <> 'pg_default'
    UNION ALL SELECT 'being a template' FROM pg_database WHERE datname = current_database() AND datistemplate";

/// Materialized views that hold rows.
pub(crate) async fn views(conn: &mut PgConnection) -> Result<Vec<String>, EngineError> {
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
           AND {SYSTEM_SCHEMA}
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
