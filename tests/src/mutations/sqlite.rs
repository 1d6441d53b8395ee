//! Changes to a SQLite file made of Chinook and `mutable-sqlite.sql`.

use super::{Draws, Kind, Mutation, distinct};
use crate::fixtures::fixture;
use crate::sqlite::TestFile;

/// A fresh file of Chinook and `mutable-sqlite.sql`.
#[track_caller]
pub fn file() -> TestFile {
    let made = TestFile::copy_of(&fixture("chinook.sqlite"));
    made.sqlite3_file(&fixture("mutable-sqlite.sql"));
    made
}

/// What changes can be made to: the tables of a file as SQLite lists them.
#[derive(Debug)]
pub struct Catalogue {
    tables: Vec<Table>,
    schema: Vec<Mutation>,
}

#[derive(Debug)]
struct Table {
    name: String,
    columns: Vec<Column>,
    rows: usize,
    without_rowid: bool,
    has_key: bool,
}

#[derive(Debug)]
struct Column {
    name: String,
    declared: String,
    not_null: bool,
    in_unique_index: bool,
    filled: usize,
    changes: Vec<Change>,
}

/// A change to one value of a column that some row of the file differs after.
#[derive(Debug)]
struct Change {
    what: &'static str,
    new: String,
    differs: String,
}

impl Catalogue {
    /// Reads what is there.
    #[track_caller]
    pub fn read(file: &TestFile) -> Self {
        let listed = file.query_rows(
            "SELECT name, wr FROM pragma_table_list WHERE schema = 'main' AND type = 'table' AND name NOT LIKE 'sqlite_%'
             ORDER BY name",
        );
        let tables: Vec<Table> = listed.iter().map(|row| read_table(file, &row[0], row[1] == "1")).collect();
        assert!(tables.len() > 5, "the file lists next to nothing: {tables:?}");
        let schema = schema_changes(&tables);
        Self { tables, schema }
    }

    /// `number` different changes; each is meant for a fresh [`file()`].
    #[track_caller]
    pub fn draw(&self, number: usize, draws: &mut Draws) -> Vec<Mutation> {
        distinct(number, draws, &self.schema, |draws| self.row_change(draws))
    }

    /// Every change to the schema and the header that can be drawn.
    pub fn schema_changes(&self) -> &[Mutation] {
        &self.schema
    }

    fn row_change(&self, draws: &mut Draws) -> Option<Mutation> {
        let table = draws.pick(&self.tables);
        if table.rows == 0 || table.columns.is_empty() {
            return None;
        }
        let column = draws.pick(&table.columns);
        match draws.below(8) {
            0..=3 => value(table, column, draws),
            4 => null(table, column, draws),
            5 => removed(table, draws),
            6 => repeated(table, draws),
            _ => moved(table, draws),
        }
    }
}

#[track_caller]
fn read_table(file: &TestFile, name: &str, without_rowid: bool) -> Table {
    let q = quoted(name);
    let literal = format!("'{}'", name.replace('\'', "''"));
    let count = |what: &str| file.sqlite3(&format!("SELECT count({what}) FROM {q}")).trim().parse().unwrap();
    let columns = file.query_rows(&format!(
        "SELECT name, upper(type), \"notnull\", pk > 0 OR name IN (SELECT i.name FROM pragma_index_list({literal}) l,
         pragma_index_info(l.name) i WHERE l.\"unique\"), pk FROM pragma_table_info({literal})"
    ));
    let mut table = Table {
        name: q.clone(),
        rows: count("*"),
        without_rowid,
        has_key: columns.iter().any(|row| row[3] == "1"),
        columns: columns
            .iter()
            .map(|row| Column {
                name: quoted(&row[0]),
                declared: row[1].clone(),
                not_null: row[2] == "1",
                in_unique_index: row[3] == "1",
                filled: count(&quoted(&row[0])),
                changes: Vec::new(),
            })
            .collect(),
    };
    let changes: Vec<_> = table.columns.iter().map(|column| feasible(file, &table, column)).collect();
    table.columns.iter_mut().zip(changes).for_each(|(column, changes)| column.changes = changes);
    table
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A change to rows that must find one.
fn change(kind: Kind, description: String, statement: &str) -> Option<Mutation> {
    let sql = format!(
        "PRAGMA foreign_keys = OFF;\n{statement};\n\
         CREATE TEMPORARY TABLE found (n CHECK (n > 0));\nINSERT INTO found SELECT changes();"
    );
    Some(Mutation::new(kind, description, sql))
}

/// The condition that picks the n-th row among those that satisfy another one, counted round and round.
fn nth(table: &Table, condition: &str, n: usize) -> String {
    let (t, key) = (&table.name, key_of(table));
    let rows = format!("FROM {t} WHERE {condition}");
    format!("{key} = (SELECT {key} {rows} ORDER BY 1 LIMIT 1 OFFSET (SELECT {n} % max(count(*), 1) {rows}))")
}

fn key_of(table: &Table) -> &str {
    if table.without_rowid { &table.columns[0].name } else { "rowid" }
}

fn value(table: &Table, column: &Column, draws: &mut Draws) -> Option<Mutation> {
    if column.changes.is_empty() {
        return None;
    }
    let Change { what, new, differs } = draws.pick(&column.changes);
    let c = &column.name;
    let pick = nth(table, differs, draws.below(table.rows));
    let statement = format!("UPDATE {} SET {c} = {new} WHERE {pick}", table.name);
    change(Kind::Value, format!("{what} in {c} of {}", table.name), &statement)
}

/// What can be done to a value, by the declared type of its column; `{c}` stands for the column.
fn changes_of(declared: &str) -> &'static [(&'static str, &'static str)] {
    match declared {
        "" | "ANY" => &[
            ("one more", "{c} + 1"),
            ("a text instead", "CAST({c} AS TEXT) || ''"),
            ("a blob instead", "CAST({c} AS BLOB)"),
            ("a real instead", "CAST({c} AS REAL) + 0.5"),
            ("the other sign", "-1.0 * CAST({c} AS REAL)"),
        ],
        declared if declared.contains("CHAR") || declared == "TEXT" => &[
            ("a letter more", "{c} || '~'"),
            ("a NUL behind", "{c} || char(0)"),
            ("the last letter lost", "substr({c}, 1, length({c}) - 1)"),
            ("an empty text", "''"),
            ("an invisible letter in front", "char(0x200B) || {c}"),
            ("the other case", "CASE WHEN upper({c}) = {c} THEN lower({c}) ELSE upper({c}) END"),
        ],
        "BLOB" => &[("a byte more", "CAST({c} || x'00' AS BLOB)"), ("other bytes", "randomblob(length({c}) + 2)")],
        declared if declared.starts_with("NUMERIC") || declared == "REAL" => {
            &[("a little more", "{c} + 0.001"), ("the other sign", "-{c}")]
        }
        declared if declared.contains("INT") => &[("one more", "{c} + 1")],
        "DATETIME" => &[("a second later", "datetime({c}, '+1 second')")],
        _ => &[],
    }
}

/// The changes to a column's values that at least one row differs after.
#[track_caller]
fn feasible(file: &TestFile, table: &Table, column: &Column) -> Vec<Change> {
    if column.in_unique_index || column.filled == 0 || is_shadow(table) {
        return Vec::new();
    }
    let c = &column.name;
    let strict = table.name == "\"strict_one\"" && column.declared != "ANY";
    let possible: Vec<Change> = changes_of(&column.declared)
        .iter()
        .filter(|(what, _)| !(strict && what.ends_with("instead")))
        .map(|(what, new)| {
            let new = new.replace("{c}", c);
            // `typeof` and `hex` tell apart what SQLite takes for equal.
            let differs = format!(
                "{c} IS NOT NULL AND length({c}) < 100000 AND ({new}) IS NOT NULL
                 AND (typeof({new}) <> typeof({c}) OR hex({new}) <> hex({c}))"
            );
            Change { what, new, differs }
        })
        .collect();
    if possible.is_empty() {
        return Vec::new();
    }
    // A telephone number has no other case, a zero no other sign.
    let counts: Vec<String> = possible.iter().map(|change| format!("total({})", change.differs)).collect();
    let found = file.query_rows(&format!("SELECT {} FROM {}", counts.join(", "), table.name));
    let is_found = found[0].iter().map(|count| count.parse::<f64>().unwrap() > 0.0);
    possible.into_iter().zip(is_found).filter(|(_, found)| *found).map(|(change, _)| change).collect()
}

fn null(table: &Table, column: &Column, draws: &mut Draws) -> Option<Mutation> {
    if column.not_null || column.in_unique_index || is_shadow(table) {
        return None;
    }
    let n = draws.below(table.rows);
    let c = &column.name;
    if column.filled < table.rows && column.declared.contains("CHAR") {
        let pick = nth(table, &format!("{c} IS NULL"), n);
        let statement = format!("UPDATE {} SET {c} = '' WHERE {pick}", table.name);
        return change(Kind::Null, format!("an empty text for NULL in {c} of {}", table.name), &statement);
    }
    if column.filled == 0 {
        return None;
    }
    let pick = nth(table, &format!("{c} IS NOT NULL"), n);
    let statement = format!("UPDATE {} SET {c} = NULL WHERE {pick}", table.name);
    change(Kind::Null, format!("NULL in {c} of {}", table.name), &statement)
}

fn removed(table: &Table, draws: &mut Draws) -> Option<Mutation> {
    if is_shadow(table) {
        return None;
    }
    if draws.below(8) == 0 {
        let statement = format!("DELETE FROM {} WHERE 1", table.name);
        return change(Kind::Row, format!("all rows of {} removed", table.name), &statement);
    }
    let statement = format!("DELETE FROM {} WHERE {}", table.name, nth(table, "1", draws.below(table.rows)));
    change(Kind::Row, format!("a row of {} removed", table.name), &statement)
}

fn repeated(table: &Table, draws: &mut Draws) -> Option<Mutation> {
    if table.has_key || table.without_rowid || is_shadow(table) {
        return None;
    }
    let list: Vec<&str> = table.columns.iter().map(|column| column.name.as_str()).collect();
    let list = list.join(", ");
    let pick = nth(table, "1", draws.below(table.rows));
    let statement = format!("INSERT INTO {0} ({list}) SELECT {list} FROM {0} WHERE {pick}", table.name);
    change(Kind::Row, format!("a row of {} repeated", table.name), &statement)
}

/// The same row under another number.
fn moved(table: &Table, draws: &mut Draws) -> Option<Mutation> {
    if table.without_rowid || is_shadow(table) {
        return None;
    }
    let pick = nth(table, "1", draws.below(table.rows));
    let statement = format!("UPDATE {} SET rowid = {} WHERE {pick}", table.name, 5_000_000 + draws.below(1000));
    change(Kind::RowId, format!("a row of {} under another number", table.name), &statement)
}

/// Tables that belong to a virtual one: only what the virtual table does to them makes sense.
fn is_shadow(table: &Table) -> bool {
    table.name.starts_with("\"search") || table.name.starts_with("\"boxes")
}

fn schema_changes(tables: &[Table]) -> Vec<Mutation> {
    let fixed = FIXED.iter().map(|(kind, sql)| Mutation::new(*kind, *sql, *sql));
    let mut found: Vec<Mutation> = fixed.collect();
    let mut push = |kind, sql: String| found.push(Mutation::new(kind, sql.clone(), sql));
    for table in tables.iter().filter(|table| !is_shadow(table)) {
        let t = &table.name;
        push(Kind::Column, format!("ALTER TABLE {t} ADD COLUMN one_more ANY"));
        push(Kind::Table, format!("ALTER TABLE {t} RENAME TO renamed"));
        for column in &table.columns {
            let c = &column.name;
            push(Kind::Index, format!("CREATE INDEX an_index ON {t} ({c} COLLATE NOCASE DESC)"));
            push(Kind::Column, format!("ALTER TABLE {t} RENAME COLUMN {c} TO renamed"));
        }
    }
    found
}

const FIXED: &[(Kind, &str)] = &[
    (Kind::Index, "DROP INDEX untyped_a"),
    (Kind::Index, "DROP INDEX keyed_name"),
    (Kind::Index, "DROP INDEX untyped_a; CREATE INDEX untyped_a ON untyped (a DESC)"),
    (Kind::Index, "DROP INDEX untyped_a; CREATE UNIQUE INDEX untyped_a ON large (id)"),
    (Kind::Index, "DROP INDEX untyped_a; CREATE INDEX untyped_a ON untyped (a) WHERE a > 1"),
    (Kind::Index, "CREATE INDEX more ON keyed (length(name))"),
    (Kind::View, "DROP VIEW seen"),
    (Kind::View, "DROP VIEW seen; CREATE VIEW seen AS SELECT  a FROM untyped"),
    (Kind::View, "DROP VIEW seen; CREATE VIEW seen AS SELECT b FROM untyped"),
    (Kind::View, "CREATE VIEW more AS SELECT 1"),
    (Kind::Trigger, "DROP TRIGGER noted"),
    (
        Kind::Trigger,
        "DROP TRIGGER noted; CREATE TRIGGER noted BEFORE INSERT ON keyed BEGIN INSERT INTO log VALUES (new.id); END",
    ),
    (Kind::Trigger, "CREATE TRIGGER more AFTER DELETE ON log BEGIN SELECT 1; END"),
    (Kind::Column, "ALTER TABLE untyped DROP COLUMN c"),
    (Kind::Column, "ALTER TABLE keyed ADD COLUMN more TEXT NOT NULL DEFAULT 'x'"),
    (
        Kind::Default,
        "PRAGMA writable_schema = ON; UPDATE sqlite_schema SET sql = replace(sql, 'DEFAULT ''x''', 'DEFAULT ''y''') WHERE name = 'keyed'",
    ),
    (
        Kind::Constraint,
        "PRAGMA writable_schema = ON; UPDATE sqlite_schema SET sql = replace(sql, 'never', 'ever') WHERE name = 'keyed'",
    ),
    (
        Kind::Constraint,
        "PRAGMA writable_schema = ON; UPDATE sqlite_schema SET sql = replace(sql, 'NOT NULL ', '') WHERE name = 'keyed'",
    ),
    (
        Kind::Table,
        "PRAGMA writable_schema = ON; UPDATE sqlite_schema SET sql = replace(sql, '(a, b, c)', '(a, b,  c)') WHERE name = 'untyped'",
    ),
    (Kind::Table, "DROP TABLE empty"),
    (Kind::Table, "CREATE TABLE another (a)"),
    (Kind::Table, "CREATE TABLE another (a PRIMARY KEY) WITHOUT ROWID"),
    (Kind::Table, "DROP TABLE search"),
    (Kind::Table, "CREATE VIRTUAL TABLE another USING fts5 (x)"),
    (Kind::Row, "INSERT INTO empty VALUES (NULL, NULL)"),
    (Kind::Row, "INSERT INTO search VALUES ('seven')"),
    (Kind::Row, "DELETE FROM search WHERE rowid = 1"),
    (Kind::Value, "UPDATE search SET body = 'one two four' WHERE rowid = 1"),
    (Kind::Value, "UPDATE boxes SET x1 = 7 WHERE id = 2"),
    (Kind::Value, "UPDATE large SET b = CAST(substr(b, 1, 50000) || x'01' || substr(b, 50002) AS BLOB) WHERE id = 1"),
    (Kind::Value, "UPDATE strict_one SET any_value = '1' WHERE rowid = 1"),
    (Kind::Value, "UPDATE strict_one SET any_value = 1 WHERE rowid = 3"),
    (Kind::Value, "UPDATE untyped SET a = 0 WHERE rowid = 203"),
    (Kind::Value, "UPDATE untyped SET b = 0.0 WHERE rowid = 203"),
    (Kind::Value, "UPDATE untyped SET b = 'a' || char(0) || 'c' WHERE rowid = 204"),
    (Kind::Value, "UPDATE untyped SET b = x'610062' WHERE rowid = 204"),
    (Kind::Value, "UPDATE untyped SET c = '1' WHERE rowid = 201"),
    (Kind::Value, "UPDATE untyped SET c = -9e999 WHERE rowid = 203"),
    (Kind::Null, "UPDATE untyped SET b = NULL WHERE rowid = 202"),
    (Kind::Sequence, "UPDATE sqlite_sequence SET seq = 4711 WHERE name = 'keyed'"),
    (Kind::Sequence, "DELETE FROM sqlite_sequence WHERE name = 'keyed'"),
    (Kind::Header, "PRAGMA user_version = 4"),
    (Kind::Header, "PRAGMA user_version = -1"),
    (Kind::Header, "PRAGMA application_id = 0"),
    (Kind::Statistics, "DELETE FROM sqlite_stat1"),
    (Kind::Statistics, "UPDATE sqlite_stat1 SET stat = '77' WHERE tbl = 'keyed'"),
];
