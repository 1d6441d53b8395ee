//! Sequences that ran ahead are set back: a crash or an INSERT that was rolled back leaves them so.

use super::PostgresLive;
use crate::engine::EngineError;
use crate::engine::postgres::quote::literal;
use crate::engine::postgres::session::{self, Doing, exec};
use crate::model::{PostgresUrl, SequenceState};
use std::collections::BTreeMap;

impl PostgresLive {
    /// Sets the sequences of the database at `url`, which nobody else uses, to what they were. Names are quoted and
    /// qualified, as fingerprints have them.
    pub async fn set_sequences(
        url: &PostgresUrl,
        sequences: &BTreeMap<String, SequenceState>,
    ) -> Result<(), EngineError> {
        let mut conn = session::connect(url).await?;
        for (name, state) in sequences {
            let SequenceState { last_value, is_called } = state;
            let sql =
                format!("SELECT pg_catalog.setval({}::pg_catalog.regclass, {last_value}, {is_called})", literal(name));
            exec(&mut conn, &sql).await.doing(format!("the sequence {name} could not be set back"))?;
        }
        session::close(conn).await;
        Ok(())
    }
}
