//! Changes to rows: every type has its own small ways of being wrong.

use super::postgres::{Catalogue, Column, Table, Variant};
use super::{Draws, Kind, Mutation};
use crate::postgres::TestDatabase;

/// Draws one change; none where what was drawn first does not fit.
pub(super) fn draw(catalogue: &Catalogue, draws: &mut Draws) -> Option<Mutation> {
    let table = draws.pick(&catalogue.tables);
    if table.rows == 0 || table.columns.is_empty() {
        return None;
    }
    let column = draws.pick(&table.columns);
    let mut drawn = match draws.below(12) {
        0..=4 => value(table, column, draws),
        5 => becomes_null(table, column, draws),
        6 => null_becomes(table, column, draws),
        7 => removed(table, draws),
        8 => repeated(table, draws),
        9 => added(table, draws),
        10 => exchanged_between_rows(table, column, draws),
        _ => exchanged_between_columns(table, column, draws),
    }?;
    if table.unlogged {
        drawn.kind = Kind::UnloggedRow;
    }
    Some(drawn)
}

/// A change that must find a row, made while foreign keys and triggers look away.
fn change(kind: Kind, description: String, statements: &str) -> Option<Mutation> {
    let sql = format!(
        "SET session_replication_role = replica;\n\
         DO $do$ BEGIN\n{statements};\n\
         IF NOT FOUND THEN RAISE EXCEPTION 'there is nothing to change'; END IF;\nEND $do$"
    );
    Some(Mutation::new(kind, description, sql))
}

/// The place of the n-th row that satisfies a condition, counted round and round.
fn nth(table: &Table, condition: &str, n: usize) -> String {
    let rows = format!("FROM ONLY {} WHERE {condition}", table.name);
    format!("(SELECT ctid {rows} ORDER BY ctid OFFSET (SELECT {n} % greatest(count(*), 1) {rows}) LIMIT 1)")
}

fn value(table: &Table, column: &Column, draws: &mut Draws) -> Option<Mutation> {
    if column.variants.is_empty() {
        return None;
    }
    let n = draws.below(table.rows);
    let (what, new) = *draws.pick(&column.variants);
    let (new, differs) = new_value(column, new, draws.below(1000));
    let description = format!("{what} in {} of {}", column.name, table.name);
    let statement =
        format!("UPDATE ONLY {} SET {} = {new} WHERE ctid = {}", table.name, column.name, nth(table, &differs, n));
    change(Kind::Value, description, &statement)
}

/// A variant's new value, and which rows differ after it.
fn new_value(column: &Column, variant: &str, k: usize) -> (String, String) {
    let new = variant.replace("{c}", &column.name).replace("{k}", &k.to_string());
    // As text: to the types themselves 1.0 equals 1.00 and -0 equals 0.
    let differs =
        format!("{0} IS NOT NULL AND {0}::text <> '' AND ({new})::text IS DISTINCT FROM {0}::text", column.name);
    (new, differs)
}

/// Keeps of each column's variants those that some row differs after: a telephone number has no other case.
#[track_caller]
pub(super) fn keep_feasible(database: &TestDatabase, table: &mut Table) {
    for column in &mut table.columns {
        let possible = if column.in_unique_index { &[] } else { variants(column) };
        // A row that is sorted out must not be computed with: CASE is evaluated in order, AND is not.
        let is_found = |(_, new): &(&str, &str)| {
            let (_, differs) = new_value(column, new, 0);
            format!(
                "COALESCE(bool_or(CASE WHEN {0} IS NULL OR {0}::text = '' THEN false ELSE {differs} END), false)",
                column.name
            )
        };
        if possible.is_empty() {
            continue;
        }
        let found: Vec<String> = possible.iter().map(is_found).collect();
        let found = database.query_rows(&format!("SELECT {} FROM ONLY {}", found.join(", "), table.name));
        let feasible = possible.iter().zip(&found[0]).filter(|(_, found)| *found == "t");
        column.variants = feasible.map(|(variant, _)| *variant).collect();
    }
}

/// Descriptions and new values; `{c}` is the column, `{k}` a random number.
fn variants(column: &Column) -> &'static [Variant] {
    match column.type_name.as_str() {
        "int2" | "int4" | "int8" => &[("one more", "{c} + 1")],
        "numeric" if column.full_type == "numeric" => {
            &[("a little more", "{c} + 0.0000001"), ("a zero behind the point", "{c} + 0.0000000000000000000000000")]
        }
        "numeric" => &[("a cent more", "{c} + 0.01"), ("the other sign", "-{c}")],
        "float8" => &[("the last bit", "{c} * (1 + 4.5e-16::float8)"), ("the other sign", "-{c}")],
        "float4" => &[("the other sign", "-{c}"), ("one more", "{c} + 1")],
        "text" | "varchar" | "bpchar" => &[
            ("one letter", "overlay({c} placing '~' from 1 + {k} % length({c}) for 1)"),
            ("an invisible letter", "overlay({c} placing U&'\\200B' from 1 for 1)"),
            ("the last letter lost", "left({c}, -1)"),
            ("an empty text", "''"),
            ("a text that looks like NULL", "'\\N'"),
            ("letters of the other case", "CASE WHEN upper({c}) = {c} THEN lower({c}) || '' ELSE upper({c}) END"),
        ],
        "bool" => &[("the contrary", "NOT {c}")],
        "date" => &[("a day later", "{c} + 1")],
        "timestamp" | "timestamptz" => &[("a microsecond later", "{c} + interval '1 microsecond'")],
        "interval" => &[("a microsecond longer", "{c} + interval '1 microsecond'")],
        "jsonb" => &[("a key more", "{c} || '{\"z\": null}'"), ("a key less", "{c} - 's'")],
        "_int4" => &[("a NULL behind", "{c} || NULL::int"), ("the first one less", "{c}[2:]")],
        "mood" => &[("another mood", "CASE {c} WHEN 'sad' THEN 'ok' ELSE 'sad' END::extra.mood")],
        "uuid" => &[("another uuid", "md5({c}::text)::uuid")],
        "inet" => &[("the next address", "{c} + 1")],
        "bytea" => &[
            ("one byte", "set_byte({c}, {k} % length({c}), (get_byte({c}, {k} % length({c})) + 1) % 256)"),
            ("a NUL behind", "{c} || '\\x00'::bytea"),
        ],
        _ => &[],
    }
}

fn becomes_null(table: &Table, column: &Column, draws: &mut Draws) -> Option<Mutation> {
    if column.not_null || column.filled == 0 || column.in_unique_index {
        return None;
    }
    let place = nth(table, &format!("{} IS NOT NULL", column.name), draws.below(table.rows));
    let statement = format!("UPDATE ONLY {} SET {} = NULL WHERE ctid = {place}", table.name, column.name);
    change(Kind::Null, format!("NULL in {} of {}", column.name, table.name), &statement)
}

fn null_becomes(table: &Table, column: &Column, draws: &mut Draws) -> Option<Mutation> {
    let new = match column.type_name.as_str() {
        "text" | "varchar" => *draws.pick(&["''", "'NULL'", "'\\N'"]),
        "int4" | "numeric" | "float8" => "0",
        _ => return None,
    };
    if column.filled == table.rows || column.in_unique_index {
        return None;
    }
    let place = nth(table, &format!("{} IS NULL", column.name), draws.below(table.rows));
    let statement = format!("UPDATE ONLY {} SET {} = {new} WHERE ctid = {place}", table.name, column.name);
    change(Kind::Null, format!("{new} for NULL in {} of {}", column.name, table.name), &statement)
}

fn removed(table: &Table, draws: &mut Draws) -> Option<Mutation> {
    if draws.below(8) == 0 {
        return change(
            Kind::Row,
            format!("all rows of {} removed", table.name),
            &format!("DELETE FROM ONLY {}", table.name),
        );
    }
    let place = nth(table, "true", draws.below(table.rows));
    let statement = format!("DELETE FROM ONLY {} WHERE ctid = {place}", table.name);
    change(Kind::Row, format!("a row of {} removed", table.name), &statement)
}

fn columns(table: &Table) -> String {
    table.columns.iter().map(|column| column.name.as_str()).collect::<Vec<_>>().join(", ")
}

/// A row twice, and now and then another one gone, so that the number of rows stays.
fn repeated(table: &Table, draws: &mut Draws) -> Option<Mutation> {
    // The rows of a partition cannot be listed without its key, which is not among the columns.
    if table.has_unique_index || table.rows < 2 || table.name.contains("parted") {
        return None;
    }
    let list = columns(table);
    let first = draws.below(table.rows);
    let again = format!(
        "INSERT INTO {0} ({list}) SELECT {list} FROM ONLY {0} WHERE ctid = {1}",
        table.name,
        nth(table, "true", first)
    );
    if draws.below(2) == 0 {
        return change(Kind::Row, format!("a row of {} repeated", table.name), &again);
    }
    let other = nth(table, "true", (first + 1 + draws.below(table.rows - 1)) % table.rows);
    // Equal rows would make this no change at all.
    let statement = format!(
        "PERFORM 1 WHERE (SELECT t::text FROM ONLY {0} t WHERE ctid = {1}) <> (SELECT t::text FROM ONLY {0} t WHERE ctid = {other});\n\
         IF NOT FOUND THEN INSERT INTO {0} DEFAULT VALUES; RETURN; END IF;\n\
         {again}; DELETE FROM ONLY {0} WHERE ctid = {other}",
        table.name,
        nth(table, "true", first)
    );
    change(Kind::Row, format!("a row of {} repeated and another one gone", table.name), &statement)
}

/// A row like another one, under a new key.
fn added(table: &Table, draws: &mut Draws) -> Option<Mutation> {
    let key = table.key.as_ref()?;
    let names: Vec<&str> = table.columns.iter().map(|column| column.name.as_str()).collect();
    let max = format!("(SELECT max({key}) + 1 FROM ONLY {})", table.name);
    let values: Vec<&str> = names.iter().map(|name| if name == key { max.as_str() } else { name }).collect();
    let statement = format!(
        "INSERT INTO {0} ({1}) SELECT {2} FROM ONLY {0} WHERE ctid = {3}",
        table.name,
        names.join(", "),
        values.join(", "),
        nth(table, "true", draws.below(table.rows))
    );
    change(Kind::Row, format!("a row added to {}", table.name), &statement)
}

/// What a digest over columns would not see.
fn exchanged_between_rows(table: &Table, column: &Column, draws: &mut Draws) -> Option<Mutation> {
    // Without a key a table holds the same rows afterwards if nothing else tells them apart.
    if column.in_unique_index || column.distinct < 2 || !table.has_unique_index {
        return None;
    }
    let (t, c) = (&table.name, &column.name);
    let first = nth(table, &format!("{c} IS NOT NULL"), draws.below(table.rows));
    let statement = format!(
        "CREATE TEMPORARY TABLE two AS SELECT a.ctid AS a_place, b.ctid AS b_place, a.{c} AS a_value, b.{c} AS b_value\n\
         FROM ONLY {t} a, ONLY {t} b WHERE a.ctid = {first} AND b.{c}::text <> a.{c}::text ORDER BY b.ctid LIMIT 1;\n\
         UPDATE ONLY {t} SET {c} = CASE {t}.ctid WHEN a_place THEN b_value ELSE a_value END FROM two\n\
         WHERE {t}.ctid IN (a_place, b_place)"
    );
    change(Kind::Value, format!("{c} exchanged between two rows of {t}"), &statement)
}

/// What a digest over the values of a row in any order would not see.
fn exchanged_between_columns(table: &Table, column: &Column, draws: &mut Draws) -> Option<Mutation> {
    let fits = |other: &&Column| {
        other.name != column.name
            && other.full_type == column.full_type
            && other.not_null == column.not_null
            && other.filled > 0
            && !other.in_unique_index
    };
    let others: Vec<&Column> = table.columns.iter().filter(fits).collect();
    if others.is_empty() || column.in_unique_index || column.filled == 0 {
        return None;
    }
    let (a, b) = (&column.name, &draws.pick(&others).name);
    let place = nth(table, &format!("{a}::text IS DISTINCT FROM {b}::text"), draws.below(table.rows));
    let statement = format!("UPDATE ONLY {} SET {a} = {b}, {b} = {a} WHERE ctid = {place}", table.name);
    change(Kind::Value, format!("{a} and {b} exchanged in {}", table.name), &statement)
}
