//! A backup's schema without its rows: restored into a scratch database to see how today's client writes it.

use super::texts;
use crate::engine::{DataEntry, DumpSource, EngineError};
use crate::model::Fingerprint;
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};

/// The same tables, sequences and large objects, all empty.
pub(crate) struct Blank {
    facts: serde_json::Value,
    fingerprint: Fingerprint,
    data: Vec<DataEntry>,
    archive: Vec<u8>,
}

impl Blank {
    /// Takes the schema of `source`.
    pub(crate) async fn of(source: &dyn DumpSource) -> Result<Self, EngineError> {
        let archive = source.text(texts::ARCHIVE).await?;
        let empty = |entry: &DataEntry| DataEntry { bytes: 0, rows: 0, ..entry.clone() };
        Ok(Blank {
            facts: source.facts().clone(),
            fingerprint: source.fingerprint().clone(),
            data: source.data().iter().map(empty).collect(),
            archive: archive.ok_or_else(|| EngineError::Damaged(format!("the backup has no {}", texts::ARCHIVE)))?,
        })
    }
}

#[async_trait]
impl DumpSource for Blank {
    fn facts(&self) -> &serde_json::Value {
        &self.facts
    }

    fn fingerprint(&self) -> &Fingerprint {
        &self.fingerprint
    }

    fn data(&self) -> &[DataEntry] {
        &self.data
    }

    async fn text(&self, path: &str) -> Result<Option<Vec<u8>>, EngineError> {
        Ok((path == texts::ARCHIVE).then(|| self.archive.clone()))
    }

    fn runs(&self, _entry: usize) -> usize {
        0
    }

    fn read(&self, _entry: usize, _run: usize) -> BoxStream<'_, Result<Bytes, EngineError>> {
        stream::empty().boxed()
    }
}
