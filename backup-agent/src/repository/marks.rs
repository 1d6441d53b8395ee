//! Immutable facts about a backup, written after it.

use super::{Repository, layout};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use shared::crash_point::reached;
use shared::model::{BackupId, DatabaseName};
use shared::store::{PutMode, StoreError};
use std::collections::HashMap;

/// What a mark says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MarkKind {
    /// The manifest was read back and every pack it names was there with its length.
    Verified,
    /// A restore of it was read anew and equalled what was backed up.
    Proven,
    /// A restore of it did not equal what was backed up, or was not possible.
    Failed,
}

impl MarkKind {
    fn name(self) -> &'static str {
        match self {
            MarkKind::Verified => "verified",
            MarkKind::Proven => "proven",
            MarkKind::Failed => "failed",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        [MarkKind::Verified, MarkKind::Proven, MarkKind::Failed].into_iter().find(|kind| kind.name() == name)
    }
}

/// One mark.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Mark {
    /// What it says.
    pub kind: MarkKind,
    /// When it was made, by the clock of whoever made it.
    pub at: Timestamp,
    /// How it was found out, for a person.
    pub detail: String,
}

/// All marks of one backup.
#[derive(Debug, Clone, Default)]
pub struct Marks(Vec<Mark>);

impl Marks {
    /// Whether there is a mark of this kind.
    pub fn has(&self, kind: MarkKind) -> bool {
        self.0.iter().any(|mark| mark.kind == kind)
    }

    /// When the backup was last proven, if no proof failed after that.
    pub fn proven_at(&self) -> Option<Timestamp> {
        let newest = |kind| self.0.iter().filter(|mark| mark.kind == kind).map(|mark| mark.at).max();
        newest(MarkKind::Proven).filter(|proven| newest(MarkKind::Failed).is_none_or(|failed| failed < *proven))
    }

    /// The marks, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &Mark> {
        self.0.iter()
    }
}

impl Repository {
    /// Notes a fact about a backup.
    pub async fn mark(
        &self,
        database: &DatabaseName,
        id: &BackupId,
        kind: MarkKind,
        detail: &str,
    ) -> Result<(), StoreError> {
        let mark = Mark { kind, at: self.clock().now(), detail: detail.to_owned() };
        let key = layout::mark(database, id, kind.name(), &layout::random_name());
        let body = serde_json::json!(mark).to_string();
        reached("mark: before it is written");
        self.store.put(&key, body.into(), PutMode::Create).await?;
        reached("mark: after it is written");
        Ok(())
    }

    /// All marks of a database's backups whose keys begin with `prefix`.
    pub(super) async fn list_marks(
        &self,
        database: &DatabaseName,
        prefix: &str,
    ) -> Result<HashMap<BackupId, Marks>, StoreError> {
        let mut found: HashMap<BackupId, Marks> = HashMap::new();
        for meta in self.store.list(prefix).await? {
            let Some((id, kind)) = layout::parse_mark(database, &meta.key) else { continue };
            let Some(kind) = MarkKind::from_name(&kind) else { continue };
            // The kind stands in the key, so a mark that cannot be read still counts, at the store's time.
            let mark = match self.store.get(&meta.key).await {
                Ok(bytes) => serde_json::from_slice(&bytes).ok().filter(|mark: &Mark| mark.kind == kind),
                Err(StoreError::NotFound { .. }) => continue,
                Err(error) => return Err(error),
            };
            let unreadable = || Mark { kind, at: meta.modified, detail: "the mark cannot be read".into() };
            found.entry(id).or_default().0.push(mark.unwrap_or_else(unreadable));
        }
        for marks in found.values_mut() {
            marks.0.sort_by_key(|mark| mark.at);
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_proof_takes_the_earlier_proof_back_until_the_next() {
        let mark = |kind, at: &str| Mark { kind, at: at.parse().expect("valid"), detail: String::new() };
        let proven = mark(MarkKind::Proven, "2025-01-01T00:00:00Z");
        let failed = mark(MarkKind::Failed, "2025-01-02T00:00:00Z");
        let again = mark(MarkKind::Proven, "2025-01-03T00:00:00Z");
        assert_eq!(Marks(vec![]).proven_at(), None);
        assert_eq!(Marks(vec![proven.clone()]).proven_at(), Some(proven.at));
        assert_eq!(Marks(vec![proven.clone(), failed.clone()]).proven_at(), None);
        assert_eq!(Marks(vec![proven, failed, again.clone()]).proven_at(), Some(again.at));
    }
}
