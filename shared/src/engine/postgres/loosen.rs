//! What keeps a database of ours from being dropped: subscriptions in it, replication slots on it.

use super::quote::{ident, literal};
use super::session::{self, Doing, exec, rows, words};
use crate::engine::EngineError;
use crate::model::PostgresUrl;
use serde::Deserialize;
use sqlx::PgConnection;

#[derive(Deserialize)]
struct Named {
    name: String,
}

/// Removes it, asked by `conn`, a session in another database. A subscription's slot elsewhere stays.
pub(crate) async fn loosen(conn: &mut PgConnection, url: &PostgresUrl) -> Result<(), EngineError> {
    let database = literal(&url.database);
    let query = format!(
        "SELECT s.subname AS name FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid
         WHERE d.datname = {database}"
    );
    let subscriptions: Vec<Named> = rows(conn, &query).await.doing("subscriptions could not be listed")?;
    if !subscriptions.is_empty() {
        let mut inside = session::connect(url).await?;
        for Named { name } in &subscriptions {
            let name = ident(name);
            // One after the other: the slot must be let go before the drop, or the drop would reach out for it.
            for sql in [
                format!("ALTER SUBSCRIPTION {name} DISABLE"),
                format!("ALTER SUBSCRIPTION {name} SET (slot_name = NONE)"),
                format!("DROP SUBSCRIPTION {name}"),
            ] {
                exec(&mut inside, &sql).await.doing(format!("subscription {name} could not be removed"))?;
            }
        }
        session::close(inside).await;
    }
    let query = format!("SELECT slot_name AS name FROM pg_replication_slots WHERE database = {database}");
    let slots: Vec<Named> = rows(conn, &query).await.doing("replication slots could not be listed")?;
    for Named { name } in slots {
        if let Err(error) = exec(conn, &format!("SELECT pg_drop_replication_slot({})", literal(&name))).await {
            tracing::warn!(slot = name, error = words(&error), "a replication slot could not be removed");
        }
    }
    Ok(())
}
