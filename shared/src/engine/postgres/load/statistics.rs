//! What the planner knows of the rows, which no restore brings.

use super::Target;
use crate::engine::EngineError;
use crate::engine::postgres::catalog::USER_SCHEMA;
use crate::engine::postgres::quote::ident;
use crate::engine::postgres::session::{self, Doing, exec, rows, words};
use crate::model::PostgresUrl;
use serde::Deserialize;
use sqlx::PgConnection;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::task::JoinSet;

/// Sessions at work on statistics. Dropping it ends them.
#[derive(Debug, Default)]
pub(crate) struct Statistics(JoinSet<()>);

impl Statistics {
    /// Begins to gather, table by table: one broken foreign table would end an ANALYZE of the whole database.
    pub(super) async fn gather(conn: &mut PgConnection, target: &Target<'_>) -> Result<Self, EngineError> {
        #[derive(Deserialize)]
        struct Relation {
            schema: String,
            name: String,
        }
        // A partitioned table's ANALYZE reads its leaves too; it is left out where one of them is foreign.
        let query = format!(
            "SELECT n.nspname AS schema, c.relname AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
             WHERE c.relkind IN ('r', 'p', 'm') AND c.relpersistence <> 't' AND {USER_SCHEMA}
               AND NOT (c.relispartition AND c.relkind = 'p')
               AND NOT EXISTS (SELECT FROM pg_inherits i JOIN pg_class f ON f.oid = i.inhrelid
                    WHERE i.inhparent = c.oid AND f.relkind = 'f')
             ORDER BY 1, 2"
        );
        let list: Vec<Relation> = rows(conn, &query).await.doing("the restored tables could not be listed")?;
        let names = list.iter().map(|relation| format!("{}.{}", ident(&relation.schema), ident(&relation.name)));
        let queue = Arc::new(Mutex::new(names.collect::<Vec<String>>()));
        let mut sessions = JoinSet::new();
        for _ in 0..target.workers.min(list.len()) {
            sessions.spawn(analyze(target.url.clone(), queue.clone()));
        }
        Ok(Statistics(sessions))
    }

    /// Waits until all are there.
    pub(crate) async fn gathered(&mut self) {
        while let Some(ended) = self.0.join_next().await {
            if let Err(error) = ended {
                tracing::warn!(%error, "ANALYZE stopped");
            }
        }
    }
}

/// Statistics come by themselves later, too: a restore does not fail for want of them.
async fn analyze(url: PostgresUrl, queue: Arc<Mutex<Vec<String>>>) {
    let mut conn = match session::connect(&url).await {
        Ok(conn) => conn,
        Err(error) => return tracing::warn!(database = url.database, %error, "no statistics were gathered"),
    };
    loop {
        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let Some(table) = next else { break };
        if let Err(error) = exec(&mut conn, &format!("ANALYZE {table}")).await {
            tracing::warn!(table, database = url.database, error = words(&error), "ANALYZE failed");
        }
    }
    session::close(conn).await;
}
