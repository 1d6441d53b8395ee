//! The profile of a PostgreSQL database: the server sums up each table's columns.

use super::catalog::{self, Table, USER_SCHEMA, Unit};
use super::preflight;
use super::quote::ident;
use super::session::{self, Doing, exec, rows};
use super::snapshot::{self, Leader};
use crate::engine::EngineError;
use crate::model::{ColumnProfile, PostgresUrl, Profile, TableProfile, ValueSum};
use futures_util::future::try_join_all;
use serde::Deserialize;
use sqlx::{AssertSqlSafe, PgConnection, Row};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};

/// Columns one statement sums up: the server allows 1664 results, and three are needed for each.
const COLUMNS_PER_QUERY: usize = 100;

/// How long a lock is waited for, in seconds.
const LOCK_TIMEOUT_S: u32 = 5;

/// A server from which on numbers can be written without trailing zeros.
const TRIMS: u32 = 130_000;

/// Some columns of one relation that holds rows.
struct Piece {
    /// Which table of the list.
    at: usize,
    relation: String,
    /// The first of the columns in the table's list.
    first: usize,
    sql: String,
}

/// What the server found in a piece.
struct Summed {
    at: usize,
    first: usize,
    rows: u64,
    columns: Vec<(u64, ValueSum)>,
}

/// Sums up all tables in one snapshot, with `workers` sessions beside the one that holds it.
pub(crate) async fn profile(url: &PostgresUrl, workers: usize) -> Result<Profile, EngineError> {
    let mut leader = Leader::begin(url, LOCK_TIMEOUT_S, preflight::refuse).await?;
    let units = catalog::units(&leader.tables, leader.server.standby);
    let details = details(&mut leader.conn).await?;
    let mut tables: Vec<TableProfile> = units.iter().map(|unit| blank(unit, &details)).collect();
    let pieces: VecDeque<Piece> = pieces(&units, &tables, leader.server.number);
    let sessions = workers.clamp(1, pieces.len().max(1));
    let queue = Mutex::new(pieces);
    let found = try_join_all((0..sessions).map(|_| work(url, &leader.snapshot, &queue))).await?;
    session::close(leader.conn).await;
    for summed in found.into_iter().flatten() {
        let table = &mut tables[summed.at];
        // Every piece of a relation counts its rows; the first one's count is taken.
        table.rows += if summed.first == 0 { summed.rows } else { 0 };
        for (column, (values, sum)) in table.columns[summed.first..].iter_mut().zip(summed.columns) {
            column.values += values;
            column.sum = column.sum.plus(sum);
        }
    }
    Ok(Profile { tables: units.iter().map(|unit| unit.table.qualified()).zip(tables).collect() })
}

/// What a profile needs to know of a relation besides what the catalogue's listing says.
#[derive(Deserialize)]
struct Details {
    oid: u32,
    filenode: u64,
    columns: Vec<ColumnDetails>,
}

#[derive(Deserialize)]
struct ColumnDetails {
    name: String,
    kind: String,
    key: bool,
}

async fn details(conn: &mut PgConnection) -> Result<BTreeMap<u32, Details>, EngineError> {
    let query = format!(
        "SELECT c.oid::int8 AS oid, coalesce(pg_relation_filenode(c.oid)::int8, 0) AS filenode,
            coalesce((SELECT json_agg(json_build_object('name', a.attname, 'kind', format_type(a.atttypid, a.atttypmod),
                    'key', coalesce(a.attnum = ANY (i.indkey::int2[]), false)) ORDER BY a.attnum)
                FROM pg_attribute a LEFT JOIN pg_index i ON i.indrelid = c.oid AND i.indisprimary
                WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''), '[]') AS columns
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't' AND {USER_SCHEMA}"
    );
    let list: Vec<Details> = rows(conn, &query).await.doing("the columns could not be listed")?;
    Ok(list.into_iter().map(|details| (details.oid, details)).collect())
}

/// The table's profile before anything was summed up.
fn blank(unit: &Unit, details: &BTreeMap<u32, Details>) -> TableProfile {
    let columns = details.get(&unit.table.oid).map_or(&[] as &[_], |found| &found.columns);
    let column = |c: &ColumnDetails| ColumnProfile {
        name: c.name.clone(),
        kind: c.kind.clone(),
        key: c.key,
        values: 0,
        sum: ValueSum::default(),
    };
    let files = unit.leaves.iter().filter_map(|leaf| details.get(&leaf.oid)).map(|leaf| leaf.filenode);
    TableProfile {
        identity: u64::from(unit.table.oid),
        storage: files.fold(0, u64::wrapping_add),
        rows: 0,
        columns: columns.iter().map(column).collect(),
    }
}

fn pieces(units: &[Unit], tables: &[TableProfile], server: u32) -> VecDeque<Piece> {
    let mut list: Vec<(u64, Piece)> = Vec::new();
    for (at, (unit, table)) in units.iter().zip(tables).enumerate() {
        for leaf in &unit.leaves {
            let parts: Vec<&[ColumnProfile]> = match table.columns.len() {
                0 => vec![&[]],
                _ => table.columns.chunks(COLUMNS_PER_QUERY).collect(),
            };
            for (nth, part) in parts.into_iter().enumerate() {
                let sql = query(unit, leaf, part, server);
                list.push((leaf.bytes, Piece { at, relation: leaf.sql(), first: nth * COLUMNS_PER_QUERY, sql }));
            }
        }
    }
    // The largest first, so that no session is left alone with it at the end.
    list.sort_by_key(|(bytes, _)| std::cmp::Reverse(*bytes));
    list.into_iter().map(|(_, piece)| piece).collect()
}

/// One row of one text: the number of rows, then for each column the number of values and both sums, which fit into
/// 128 bits. The second sum is that of the hashes' hashes, so that a value is read and written as text only once.
fn query(unit: &Unit, leaf: &Table, columns: &[ColumnProfile], server: u32) -> String {
    let mut hashes = vec!["1".to_owned()];
    let mut wanted = vec!["count(*)::text".to_owned()];
    for (at, column) in columns.iter().enumerate() {
        let name = ident(&column.name);
        let text = match column.kind.as_str() {
            // The hexadecimal form of a large one would not fit into a text.
            "bytea" => format!("encode(sha256({name}), 'hex')"),
            kind if kind.starts_with("numeric") && !kind.ends_with(']') && server >= TRIMS => {
                format!("trim_scale({name})::text")
            }
            _ => format!("{name}::text"),
        };
        // By bytes: a collation of the column may hold different texts for equal.
        hashes.push(format!("hashtextextended(({text}) COLLATE \"C\", 0) AS h{at}"));
        wanted.push(format!("count(h{at})::text"));
        wanted.push(format!("coalesce(sum(h{at}), 0)::text"));
        wanted.push(format!("coalesce(sum(hashint8extended(h{at}, 1)), 0)::text"));
    }
    let (hashes, wanted) = (hashes.join(", "), wanted.join(", "));
    let condition = unit.table.config.clone().unwrap_or_default();
    // OFFSET 0 keeps the planner from writing each hash into all places that use it.
    let rows = format!("SELECT {hashes} FROM ONLY {} {condition} OFFSET 0", leaf.sql());
    format!("SELECT array_to_string(ARRAY[{wanted}], ' ') FROM ({rows}) AS hashed")
}

/// One session that sums up pieces until there are none left.
async fn work(url: &PostgresUrl, snapshot: &str, queue: &Mutex<VecDeque<Piece>>) -> Result<Vec<Summed>, EngineError> {
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    let mut conn = session::connect(url).await?;
    // Compiling hundreds of expressions takes longer than running them.
    exec(&mut conn, "SET jit = off").await.doing("the session could not be set up")?;
    exec(&mut conn, &snapshot::import(snapshot)).await.doing("the snapshot could not be taken over")?;
    let mut list = Vec::new();
    while let Some(piece) = next() {
        list.push(sum_up(&mut conn, &piece).await?);
    }
    session::close(conn).await;
    Ok(list)
}

async fn sum_up(conn: &mut PgConnection, piece: &Piece) -> Result<Summed, EngineError> {
    let what = format!("the rows of {} could not be summed up", piece.relation);
    exec(conn, &snapshot::lock_now(std::slice::from_ref(&piece.relation))).await.doing(&what)?;
    let row = sqlx::raw_sql(AssertSqlSafe(piece.sql.as_str())).fetch_one(conn).await.doing(&what)?;
    let text: String = row.try_get(0).doing(&what)?;
    let numbers: Vec<i128> = text
        .split(' ')
        .map(str::parse)
        .collect::<Result<_, _>>()
        .map_err(|error| EngineError::failed(format!("{what}: the server's answer is no number: {error}")))?;
    let (count, rest) = numbers.split_first().map_or((0, &[] as &[i128]), |(count, rest)| (*count, rest));
    // The low half of a number in two's complement is its remainder modulo 2^64.
    let column = |[values, first, second]: &[i128; 3]| (*values as u64, ValueSum(*first as u64, *second as u64));
    let columns = rest.as_chunks::<3>().0.iter().map(column).collect();
    Ok(Summed { at: piece.at, first: piece.first, rows: count as u64, columns })
}
