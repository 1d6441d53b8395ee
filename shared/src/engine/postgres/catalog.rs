//! What the catalogue says about tables and sequences, as far as reading and loading rows needs it.

use super::quote::{column_list, ident, qualified};
use super::session::rows;
use serde::Deserialize;
use sqlx::PgConnection;
use std::collections::{BTreeMap, BTreeSet};

/// Condition on `pg_namespace AS n` that leaves out the server's own and temporary schemas.
pub(crate) const USER_SCHEMA: &str =
    "n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast') AND n.nspname !~ '^pg_(toast_)?temp_'";

/// A column that was not dropped.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Column {
    /// Name.
    pub(crate) name: String,
    /// Computed from other columns, so never loaded.
    pub(crate) generated: bool,
    /// NOT NULL.
    pub(crate) not_null: bool,
}

/// A table or partitioned table.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Table {
    pub(crate) oid: u32,
    pub(crate) schema: String,
    pub(crate) name: String,
    /// `r`, `p` or `f` (foreign).
    pub(crate) kind: String,
    /// `p` permanent, `u` unlogged.
    pub(crate) persistence: String,
    /// Table access method; empty for partitioned and foreign tables.
    pub(crate) method: String,
    /// FORCE ROW LEVEL SECURITY.
    pub(crate) forced: bool,
    /// Row-level security would hide rows from this role.
    pub(crate) hidden: bool,
    /// This role may read it.
    pub(crate) readable: bool,
    pub(crate) partition: bool,
    /// Inheritance parents or the partitioned table it belongs to, in order.
    pub(crate) parents: Vec<u32>,
    /// DETACH CONCURRENTLY was begun and not finished.
    pub(crate) detaching: bool,
    /// The extension it belongs to.
    pub(crate) extension: Option<String>,
    /// Its extension wants its rows dumped: with this condition, which may be empty.
    pub(crate) config: Option<String>,
    pub(crate) columns: Vec<Column>,
    /// Heap blocks.
    #[serde(default)]
    pub(crate) blocks: u64,
    /// Heap and TOAST, in bytes.
    #[serde(default)]
    pub(crate) bytes: u64,
}

impl Table {
    /// Qualified name, quoted where needed: the key in manifests and fingerprints.
    pub(crate) fn qualified(&self) -> String {
        qualified(&self.schema, &self.name)
    }

    /// Qualified name, always quoted.
    pub(crate) fn sql(&self) -> String {
        format!("{}.{}", ident(&self.schema), ident(&self.name))
    }

    /// Stored, non-generated columns in byte order of name.
    pub(crate) fn stored(&self) -> Vec<String> {
        self.sorted(|column| !column.generated)
    }

    /// All columns in byte order of name.
    pub(crate) fn all(&self) -> Vec<String> {
        self.sorted(|_| true)
    }

    /// Whether a second digest is worth taking.
    pub(crate) fn has_generated(&self) -> bool {
        self.columns.iter().any(|column| column.generated)
    }

    fn sorted(&self, wanted: impl Fn(&Column) -> bool) -> Vec<String> {
        let mut names: Vec<String> = self.columns.iter().filter(|c| wanted(c)).map(|c| c.name.clone()).collect();
        names.sort_unstable();
        names
    }
}

/// ` (a, b)` for a COPY of a table, or nothing where there is no column to name (an empty list is no SQL).
pub(crate) fn copy_columns(columns: &[String]) -> String {
    if columns.is_empty() {
        return String::new();
    }
    format!(" ({})", column_list(columns.iter().map(String::as_str)))
}

/// Kinds of relations whose rows are read or which stand above such.
const TABLES: &str = "c.relkind IN ('r', 'p', 'f') AND c.relpersistence <> 't'";

/// Reads all tables of user schemas. `server` is `server_version_num`; sizes are asked only with `sizes`, because that
/// takes a lock on each table.
pub(crate) async fn tables(conn: &mut PgConnection, server: u32, sizes: bool) -> Result<Vec<Table>, sqlx::Error> {
    let detaching = if server >= 140_000 { "bool_or(i.inhdetachpending)" } else { "false" };
    let size = if sizes {
        "CASE WHEN c.relkind = 'r' THEN pg_relation_size(c.oid) / current_setting('block_size')::int8 ELSE 0 END AS blocks,
         CASE WHEN c.relkind = 'r' THEN pg_table_size(c.oid) ELSE 0 END AS bytes"
    } else {
        "0 AS blocks, 0 AS bytes"
    };
    rows(
        conn,
        &format!(
            "SELECT c.oid::int8 AS oid, n.nspname AS schema, c.relname AS name, c.relkind::text AS kind,
                c.relpersistence::text AS persistence, coalesce(am.amname, '') AS method,
                c.relforcerowsecurity AS forced, c.relrowsecurity AND row_security_active(c.oid) AS hidden,
                has_schema_privilege(n.oid, 'USAGE') AND (has_table_privilege(c.oid, 'SELECT')
                    OR coalesce((SELECT bool_and(has_column_privilege(c.oid, a.attnum, 'SELECT'))
                    FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped), false)) AS readable,
                c.relispartition AS partition, coalesce(up.parents, '[]') AS parents, coalesce(up.detaching, false) AS detaching,
                x.extname AS extension, cfg.condition AS config, {size},
                coalesce((SELECT json_agg(json_build_object('name', a.attname, 'generated', a.attgenerated <> '',
                        'not_null', a.attnotnull) ORDER BY a.attnum)
                    FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped), '[]') AS columns
             FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
             LEFT JOIN pg_am am ON am.oid = c.relam
             LEFT JOIN LATERAL (SELECT json_agg(i.inhparent::int8 ORDER BY i.inhseqno) AS parents, {detaching} AS detaching
                FROM pg_inherits i WHERE i.inhrelid = c.oid) up ON true
             LEFT JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.objsubid = 0
                AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'
             LEFT JOIN pg_extension x ON x.oid = d.refobjid
             LEFT JOIN LATERAL (SELECT coalesce(e.extcondition[k.at], '') AS condition
                FROM pg_extension e, unnest(e.extconfig) WITH ORDINALITY AS k (relation, at)
                WHERE k.relation = c.oid LIMIT 1) cfg ON true
             WHERE {TABLES} AND {USER_SCHEMA} ORDER BY n.nspname COLLATE \"C\", c.relname COLLATE \"C\""
        ),
    )
    .await
}

/// A sequence whose position is part of the database's state.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Sequence {
    pub(crate) oid: u32,
    pub(crate) schema: String,
    pub(crate) name: String,
    pub(crate) readable: bool,
}

/// Reads all sequences except those an extension keeps for itself.
pub(crate) async fn sequences(conn: &mut PgConnection) -> Result<Vec<Sequence>, sqlx::Error> {
    rows(
        conn,
        &format!(
            "SELECT c.oid::int8 AS oid, n.nspname AS schema, c.relname AS name,
                has_schema_privilege(n.oid, 'USAGE') AND has_sequence_privilege(c.oid, 'SELECT') AS readable
             FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
             WHERE c.relkind = 'S' AND c.relpersistence <> 't' AND {USER_SCHEMA}
               AND (NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid
                        AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e')
                    OR EXISTS (SELECT FROM pg_extension e WHERE c.oid = ANY (e.extconfig)))
             ORDER BY n.nspname COLLATE \"C\", c.relname COLLATE \"C\""
        ),
    )
    .await
}

/// What one data entry of the dump holds: a table, or a partitioned table with all its leaves.
#[derive(Debug, Clone)]
pub(crate) struct Unit {
    /// The table through which rows are loaded.
    pub(crate) table: Table,
    /// The tables that hold the rows; the table itself, or the leaves.
    pub(crate) leaves: Vec<Table>,
}

impl Unit {
    /// Heap and TOAST of everything in it.
    pub(crate) fn bytes(&self) -> u64 {
        self.leaves.iter().map(|leaf| leaf.bytes).sum()
    }
}

/// Sorts tables into units: user tables first, then extension configuration tables. `standby` leaves out unlogged
/// tables, which cannot be read there.
pub(crate) fn units(tables: &[Table], standby: bool) -> Vec<Unit> {
    let by_oid: BTreeMap<u32, &Table> = tables.iter().map(|table| (table.oid, table)).collect();
    let mut leaves: BTreeMap<u32, Vec<Table>> = BTreeMap::new();
    let readable = |table: &&Table| table.kind == "r" && !(standby && table.persistence == "u");
    for table in tables.iter().filter(readable) {
        leaves.entry(root(&by_oid, table)).or_default().push(table.clone());
    }
    let own = |table: &&Table| table.extension.is_none() || table.config.is_some();
    let mut list: Vec<Unit> = tables
        .iter()
        .filter(own)
        .filter(|table| !table.partition || !by_oid.contains_key(table.parents.first().unwrap_or(&0)))
        .filter(|table| table.kind == "p" || readable(table))
        .map(|table| Unit { table: table.clone(), leaves: leaves.remove(&table.oid).unwrap_or_default() })
        .collect();
    // Stable, so names stay in order within both groups.
    list.sort_by_key(|unit| unit.table.config.is_some());
    list
}

/// The topmost partitioned table above a partition, or the table itself.
pub(crate) fn root(by_oid: &BTreeMap<u32, &Table>, table: &Table) -> u32 {
    let (mut at, mut seen) = (table, BTreeSet::new());
    while at.partition && seen.insert(at.oid) {
        let Some(up) = at.parents.first().and_then(|oid| by_oid.get(oid)) else { break };
        at = up;
    }
    at.oid
}

impl Sequence {
    /// Qualified name, quoted where needed.
    pub(crate) fn qualified(&self) -> String {
        qualified(&self.schema, &self.name)
    }

    /// Qualified name, always quoted.
    pub(crate) fn sql(&self) -> String {
        format!("{}.{}", ident(&self.schema), ident(&self.name))
    }
}
