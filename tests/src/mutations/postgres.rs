//! Changes to a PostgreSQL database made of Chinook and `mutable.sql`.

use super::{Draws, Mutation, distinct, postgres_rows, postgres_schema};
use crate::fixtures::fixture;
use crate::postgres::TestDatabase;

/// A fresh database of Chinook and `mutable.sql`, loaded once in a test run and then copied.
#[track_caller]
pub fn database() -> TestDatabase {
    TestDatabase::filled_once("mutable", |database| {
        database.psql_file(&fixture("chinook-postgres.sql"));
        database.psql_file(&fixture("mutable.sql"));
    })
}

/// What changes can be made to: the tables of a database as its own catalogue lists them.
#[derive(Debug)]
pub struct Catalogue {
    pub(super) tables: Vec<Table>,
    schema: Vec<Mutation>,
}

/// A table that holds rows itself.
#[derive(Debug)]
pub(super) struct Table {
    /// Quoted and qualified.
    pub(super) name: String,
    pub(super) columns: Vec<Column>,
    pub(super) rows: usize,
    /// The one integer column of its primary key, where no other index is unique.
    pub(super) key: Option<String>,
    pub(super) has_unique_index: bool,
    pub(super) unlogged: bool,
}

/// A column whose values can be set.
#[derive(Debug)]
pub(super) struct Column {
    /// Quoted.
    pub(super) name: String,
    /// Of a domain: of what it is made.
    pub(super) type_name: String,
    /// With length or scale, as SQL writes it.
    pub(super) full_type: String,
    pub(super) not_null: bool,
    pub(super) has_default: bool,
    pub(super) in_unique_index: bool,
    pub(super) is_identity: bool,
    /// Rows that hold a value, and how many values there are.
    pub(super) filled: usize,
    pub(super) distinct: usize,
    /// Changes to a value that some row differs after.
    pub(super) variants: Vec<Variant>,
}

/// A change to one value: its description and the new value.
pub(super) type Variant = (&'static str, &'static str);

impl Catalogue {
    /// Reads what is there.
    #[track_caller]
    pub fn read(database: &TestDatabase) -> Self {
        let mut tables: Vec<Table> = Vec::new();
        for row in database.query_rows(COLUMNS) {
            let number = |at: usize| row[at].parse::<usize>().unwrap_or_else(|error| panic!("{row:?}: {error}"));
            let yes = |at: usize| row[at] == "t";
            if tables.last().is_none_or(|table| table.name != row[0]) {
                tables.push(Table {
                    name: row[0].clone(),
                    columns: Vec::new(),
                    rows: number(1),
                    key: Some(row[2].clone()).filter(|key| !key.is_empty()),
                    has_unique_index: yes(3),
                    unlogged: yes(4),
                });
            }
            let column = Column {
                name: row[5].clone(),
                type_name: row[6].clone(),
                full_type: row[7].clone(),
                not_null: yes(8),
                has_default: yes(9),
                in_unique_index: yes(10),
                is_identity: yes(11),
                filled: number(12),
                distinct: number(13),
                variants: Vec::new(),
            };
            tables.last_mut().unwrap().columns.push(column);
        }
        tables.iter_mut().for_each(|table| postgres_rows::keep_feasible(database, table));
        assert!(tables.len() > 5, "the catalogue lists next to nothing: {tables:?}");
        let mut catalogue = Self { tables, schema: Vec::new() };
        catalogue.schema = postgres_schema::all(&catalogue, database);
        catalogue
    }

    /// `number` different changes; each is meant for a fresh [`database`].
    #[track_caller]
    pub fn draw(&self, number: usize, draws: &mut Draws) -> Vec<Mutation> {
        distinct(number, draws, &self.schema, |draws| postgres_rows::draw(self, draws))
    }

    /// Every change to the schema, sequences and large objects that can be drawn.
    pub fn schema_changes(&self) -> &[Mutation] {
        &self.schema
    }
}

/// One line a column, tables together. The counts are queries inside the query: there is no other way in one statement.
const COLUMNS: &str = r#"
SELECT c.oid::regclass::text,
    (xpath('/row/n/text()', query_to_xml('SELECT count(*) AS n FROM ONLY ' || c.oid::regclass, false, true, '')))[1]::text,
    (SELECT COALESCE(max(quote_ident(a.attname)), '') FROM pg_index i JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = i.indkey[0]
      WHERE i.indrelid = c.oid AND i.indisprimary AND i.indnatts = 1 AND a.atttypid IN (20, 21, 23)
        AND NOT EXISTS (SELECT FROM pg_index o WHERE o.indrelid = c.oid AND o.indisunique AND NOT o.indisprimary)),
    EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisunique),
    c.relpersistence = 'u',
    quote_ident(a.attname),
    (SELECT b.typname FROM pg_type b WHERE b.oid = COALESCE(NULLIF(t.typbasetype, 0), t.oid)),
    format_type(a.atttypid, a.atttypmod),
    a.attnotnull,
    a.atthasdef,
    EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisunique AND a.attnum = ANY (i.indkey::int2[])),
    a.attidentity <> '',
    (xpath('/row/n/text()', query_to_xml(format('SELECT count(%I) AS n FROM ONLY %s', a.attname, c.oid::regclass), false, true, '')))[1]::text,
    (xpath('/row/n/text()', query_to_xml(format('SELECT count(DISTINCT %I::text) AS n FROM ONLY %s', a.attname, c.oid::regclass), false, true, '')))[1]::text
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid JOIN pg_type t ON t.oid = a.atttypid
WHERE c.relkind = 'r' AND c.relnamespace IN ('public'::regnamespace, 'extra'::regnamespace)
  AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '' AND a.attname <> 'region'
ORDER BY 1, a.attnum"#;
