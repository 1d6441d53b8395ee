//! What a migration tool can leave behind without an error.

use super::{PostgresLive, sessions};
use crate::engine::EngineError;
use crate::engine::postgres::quote::qualified;
use crate::engine::postgres::session::{self, Doing, one, rows};
use crate::model::PostgresUrl;
use serde::Deserialize;
use sqlx::PgConnection;

impl PostgresLive {
    /// Invalid indexes, unfinished detaches, prepared transactions and advisory locks in the database at `db`, a line each.
    pub async fn left_over_in(&self, db: &PostgresUrl) -> Result<Vec<String>, EngineError> {
        #[derive(Deserialize)]
        struct Own {
            oid: u32,
        }
        let mut conn = session::connect(db).await?;
        let own: Own = one(&mut conn, "SELECT oid::bigint AS oid FROM pg_database WHERE datname = current_database()")
            .await
            .doing("the database could not be looked up")?;
        let indexes = invalid_indexes(&mut conn).await?.into_iter().map(|index| format!("index {index} is invalid"));
        let mut list: Vec<String> = indexes.collect();
        let detaching = detaching(&mut conn).await?.into_iter();
        list.extend(detaching.map(|(parent, partition)| format!("{partition} is half detached from {parent}")));
        let prepared = sessions::prepared(&mut conn, own.oid).await?.into_iter();
        list.extend(prepared.map(|gid| format!("transaction {gid:?} is prepared and not ended")));
        list.extend(advisory_locks(&mut conn, own.oid).await?);
        session::close(conn).await;
        Ok(list)
    }
}

/// Indexes that queries do not use because building them was not finished; qualified names.
pub(super) async fn invalid_indexes(conn: &mut PgConnection) -> Result<Vec<String>, EngineError> {
    #[derive(Deserialize)]
    struct Named {
        schema: String,
        name: String,
    }
    let query = "SELECT n.nspname AS schema, c.relname AS name FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
        JOIN pg_namespace n ON n.oid = c.relnamespace WHERE NOT i.indisvalid ORDER BY 1, 2";
    let list: Vec<Named> = rows(conn, query).await.doing("the indexes could not be listed")?;
    Ok(list.iter().map(|index| qualified(&index.schema, &index.name)).collect())
}

/// Partitions whose detach was begun and not finished: parent and partition, qualified.
pub(super) async fn detaching(conn: &mut PgConnection) -> Result<Vec<(String, String)>, EngineError> {
    #[derive(Deserialize)]
    struct Pair {
        parent_schema: String,
        parent: String,
        schema: String,
        name: String,
    }
    // By way of JSON, because servers before 14 have no such column.
    let query = "SELECT pn.nspname AS parent_schema, p.relname AS parent, n.nspname AS schema, c.relname AS name
        FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        JOIN pg_class p ON p.oid = i.inhparent JOIN pg_namespace pn ON pn.oid = p.relnamespace
        WHERE (to_jsonb(i) ->> 'inhdetachpending')::boolean ORDER BY 1, 2, 3, 4";
    let list: Vec<Pair> = rows(conn, query).await.doing("the partitions could not be listed")?;
    let names = |pair: Pair| (qualified(&pair.parent_schema, &pair.parent), qualified(&pair.schema, &pair.name));
    Ok(list.into_iter().map(names).collect())
}

async fn advisory_locks(conn: &mut PgConnection, oid: u32) -> Result<Vec<String>, EngineError> {
    #[derive(Deserialize)]
    struct Held {
        lock: String,
        pid: Option<i32>,
    }
    let query = format!(
        "SELECT CASE objsubid WHEN 1 THEN ((classid::bigint << 32) | objid::bigint)::text
                ELSE classid::text || ', ' || objid::text END AS lock, pid
         FROM pg_locks WHERE locktype = 'advisory' AND granted AND database = {oid} ORDER BY 1, 2"
    );
    let list: Vec<Held> = rows(conn, &query).await.doing("the locks could not be listed")?;
    let line = |held: Held| match held.pid {
        Some(pid) => format!("advisory lock {} is held by session {pid}", held.lock),
        None => format!("advisory lock {} is held by a prepared transaction", held.lock),
    };
    Ok(list.into_iter().map(line).collect())
}
