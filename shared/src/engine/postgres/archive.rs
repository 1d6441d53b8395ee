//! The schema's archive on disk, with its table of contents.

use super::facts::Facts;
use super::large_objects;
use super::schema;
use super::toc::{self, Stage, TocEntry};
use super::tools::{Leave, Tools};
use crate::engine::EngineError;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

/// An archive in a private temporary folder, which goes with the value.
pub(crate) struct Archive {
    pub(crate) tools: Tools,
    pub(crate) entries: Vec<TocEntry>,
    folder: tempfile::TempDir,
    /// Lists of entries written for texts so far: several texts may be made at a time.
    lists: AtomicUsize,
}

/// Name of the archive inside its folder.
const FILE: &str = "schema.pgdump";

impl Archive {
    /// Opens the archive that lies in `folder`.
    pub(crate) async fn open(tools: &Tools, folder: tempfile::TempDir) -> Result<Archive, EngineError> {
        let contents = tools.contents(&folder.path().join(FILE)).await?;
        Ok(Archive { tools: tools.clone(), entries: toc::parse(&contents), folder, lists: AtomicUsize::new(0) })
    }

    /// Opens an archive from its bytes.
    pub(crate) async fn from_bytes(tools: &Tools, bytes: &[u8]) -> Result<Archive, EngineError> {
        let folder = Archive::folder()?;
        tokio::fs::write(Archive::path_in(&folder), bytes)
            .await
            .map_err(|error| EngineError::failed(format!("the schema's archive could not be written: {error}")))?;
        Archive::open(tools, folder).await
    }

    /// A folder only we can look into.
    pub(crate) fn folder() -> Result<tempfile::TempDir, EngineError> {
        tempfile::Builder::new()
            .prefix("holdfast-")
            .tempdir()
            .map_err(|error| EngineError::failed(format!("no temporary folder could be made: {error}")))
    }

    /// Where the archive is expected in such a folder.
    pub(crate) fn path_in(folder: &tempfile::TempDir) -> PathBuf {
        folder.path().join(FILE)
    }

    /// Path of the archive.
    pub(crate) fn path(&self) -> PathBuf {
        Archive::path_in(&self.folder)
    }

    /// The archive's bytes.
    pub(crate) async fn bytes(&self) -> Result<Vec<u8>, EngineError> {
        tokio::fs::read(self.path())
            .await
            .map_err(|error| EngineError::failed(format!("the schema's archive could not be read: {error}")))
    }

    /// Writes a list file that keeps these entries in this order.
    pub(crate) async fn list<'a>(
        &self,
        name: &str,
        entries: impl IntoIterator<Item = &'a TocEntry>,
    ) -> Result<PathBuf, EngineError> {
        let path = self.folder.path().join(name);
        tokio::fs::write(&path, toc::list_file(entries))
            .await
            .map_err(|error| EngineError::failed(format!("a list file could not be written: {error}")))?;
        Ok(path)
    }

    /// Entries `pg_restore` creates by itself, in both sections, limited to `kept`.
    pub(crate) fn main(&self, kept: Option<&BTreeSet<u32>>) -> Vec<&TocEntry> {
        self.entries.iter().filter(|entry| entry.stage() == Stage::Main && wanted(kept, entry)).collect()
    }

    /// Entries we create at the end, limited to `kept`.
    pub(crate) fn last(&self, kept: Option<&BTreeSet<u32>>) -> Vec<&TocEntry> {
        toc::final_order(self.entries.iter().filter(|entry| wanted(kept, entry)))
    }

    /// SQL text of these entries.
    pub(crate) async fn sql<'a>(
        &self,
        entries: impl IntoIterator<Item = &'a TocEntry>,
        section: Option<&str>,
        leave: Leave,
    ) -> Result<String, EngineError> {
        let number = self.lists.fetch_add(1, Ordering::Relaxed);
        let list = self.list(&format!("text-{number}.list"), entries).await?;
        self.tools.sql(&self.path(), Some(&list), section, leave).await
    }

    /// SQL text of one section's main entries, without guards.
    pub(crate) async fn section(&self, section: &str) -> Result<String, EngineError> {
        let text = self.sql(self.main(None), Some(section), Leave::default()).await?;
        Ok(schema::without_commands(&text))
    }

    /// What the archive holds, as sorted statements: neither the database itself nor large objects.
    pub(crate) async fn own_statements(
        &self,
        leave: Leave,
        kept: Option<&BTreeSet<u32>>,
    ) -> Result<Vec<String>, EngineError> {
        let entries = self.entries.iter().filter(|entry| entry.stage() != Stage::Never && wanted(kept, entry));
        Ok(schema::normalised(&self.sql(entries, None, leave).await?))
    }

    /// Everything that is compared besides rows, sequences and large objects' content: sorted statements.
    ///
    /// `kept` limits it to a selection. `whole` tells whether the database itself and large objects play a part.
    pub(crate) async fn statements(
        &self,
        facts: &Facts,
        leave: Leave,
        kept: Option<&BTreeSet<u32>>,
        whole: bool,
    ) -> Result<Vec<String>, EngineError> {
        let mut list = self.own_statements(leave, kept).await?;
        if whole {
            list.extend(facts.database.statements(leave.owner, leave.acl));
            list.extend(facts.missing.statements());
            list.extend(facts.large_objects.iter().flat_map(|object| large_objects::statements(object, leave)));
            list.sort();
        }
        Ok(list)
    }
}

fn wanted(kept: Option<&BTreeSet<u32>>, entry: &TocEntry) -> bool {
    kept.is_none_or(|kept| kept.contains(&entry.dump_id))
}
