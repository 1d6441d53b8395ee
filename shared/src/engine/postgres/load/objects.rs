//! Content of large objects.

use super::Target;
use crate::engine::postgres::session::{Doing, exec};
use crate::engine::{DumpSource, EngineError, LoadProgress, Progress};
use futures_util::StreamExt;
use sqlx::PgConnection;
use std::sync::Arc;

/// Creates every large object under its OID and fills it; one transaction each.
pub(super) async fn load(
    conn: &mut PgConnection,
    target: &Target<'_>,
    source: &Arc<dyn DumpSource>,
    progress: &Progress,
) -> Result<(), EngineError> {
    let first = target.facts.tables.len();
    if source.data().len() < first + target.facts.large_objects.len() {
        return Err(EngineError::Damaged("the backup has fewer data entries than large objects".into()));
    }
    for (at, object) in target.facts.large_objects.iter().enumerate() {
        let (entry, oid) = (first + at, object.oid);
        let what = format!("large object {oid} could not be loaded");
        exec(conn, &format!("BEGIN; SELECT lo_create({oid})")).await.doing(&what)?;
        let mut offset: i64 = 0;
        for run in 0..source.runs(entry) {
            let mut stream = source.read(entry, run);
            while let Some(piece) = stream.next().await {
                let piece = piece?;
                sqlx::query("SELECT lo_put($1, $2, $3)")
                    .bind(sqlx::postgres::types::Oid(oid))
                    .bind(offset)
                    .bind(piece.as_ref())
                    .execute(&mut *conn)
                    .await
                    .doing(&what)?;
                offset += piece.len() as i64;
                progress(LoadProgress::Bytes(piece.len() as u64));
            }
        }
        exec(conn, "COMMIT").await.doing(&what)?;
        if offset as u64 != source.data()[entry].bytes {
            let expected = source.data()[entry].bytes;
            return Err(EngineError::failed(format!("{what}: {offset} bytes went in instead of {expected}")));
        }
    }
    Ok(())
}
