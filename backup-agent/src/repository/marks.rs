//! Immutable facts about a backup, written after it.

use super::{Repository, layout};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use shared::crash_point::reached;
use shared::model::{BackupId, DatabaseName};
use shared::store::{ObjectMeta, PutMode, StoreError};
use std::collections::HashMap;

/// Begins the kind of a mark that keeps a backup from being forgotten; the owner follows.
const HOLD: &str = "hold-";

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

/// Who keeps a backup from being forgotten: `[a-z0-9][a-z0-9-]{0,30}`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Owner(String);

/// A text that cannot be an [`Owner`].
#[derive(Debug, thiserror::Error)]
#[error("{0:?} cannot own a hold: a-z, 0-9 and '-', at most 31 characters, the first no '-'")]
pub struct InvalidOwner(String);

impl std::str::FromStr for Owner {
    type Err = InvalidOwner;

    fn from_str(text: &str) -> Result<Self, InvalidOwner> {
        let letter = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
        let fits = (1..=31).contains(&text.len())
            && letter(text.as_bytes()[0])
            && text.bytes().all(|c| letter(c) || c == b'-');
        if fits { Ok(Owner(text.to_owned())) } else { Err(InvalidOwner(text.to_owned())) }
    }
}

impl std::fmt::Display for Owner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// What keeps a backup from being forgotten.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Hold {
    /// Who holds it.
    pub owner: Owner,
    /// Since when, by the clock of whoever did it.
    pub at: Timestamp,
    /// Why, for a person; may be empty.
    pub reason: String,
    /// The object.
    #[serde(skip)]
    pub(crate) key: String,
}

/// The part of a mark's body that every kind has.
#[derive(Deserialize)]
struct Body {
    at: Timestamp,
    #[serde(default)]
    detail: String,
}

/// All marks of one backup.
#[derive(Debug, Clone, Default)]
pub struct Marks(Vec<Mark>, Vec<Hold>);

impl Marks {
    /// What keeps it from being forgotten, oldest first.
    pub fn holds(&self) -> &[Hold] {
        &self.1
    }

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

    /// All marks of one backup, whether it is there or not.
    pub async fn marks(&self, database: &DatabaseName, id: &BackupId) -> Result<Marks, StoreError> {
        let mut found = self.list_marks(database, &layout::marks_of_backup(database, id)).await?;
        Ok(found.remove(id).unwrap_or_default())
    }

    /// Marks a backup as one that must not be forgotten.
    pub(crate) async fn mark_hold(
        &self,
        database: &DatabaseName,
        id: &BackupId,
        owner: &Owner,
        reason: &str,
    ) -> Result<Hold, StoreError> {
        let kind = format!("{HOLD}{owner}");
        let key = layout::mark(database, id, &kind, &layout::random_name());
        let at = self.clock().now();
        let body = serde_json::json!({"kind": kind, "at": at, "detail": reason}).to_string();
        self.store.put(&key, body.into(), PutMode::Create).await?;
        Ok(Hold { owner: owner.clone(), at, reason: reason.to_owned(), key })
    }

    /// Takes back that a backup was found complete, however often that was noted.
    pub(crate) async fn unmark_verified(&self, database: &DatabaseName, id: &BackupId) -> Result<(), StoreError> {
        for meta in self.store.list(&layout::marks_of_backup(database, id)).await? {
            let kind = layout::parse_mark(database, &meta.key);
            if kind.is_some_and(|(_, kind)| kind == MarkKind::Verified.name()) {
                self.store.delete(&meta.key).await?;
            }
        }
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
            if let Some(owner) = kind.strip_prefix(HOLD).and_then(|owner| owner.parse().ok()) {
                if let Some(hold) = self.read_hold(owner, meta).await? {
                    found.entry(id).or_default().1.push(hold);
                }
                continue;
            }
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
            marks.1.sort_by_key(|hold| hold.at);
        }
        Ok(found)
    }

    /// Reads a hold. One that cannot be read holds all the same; one that was released meanwhile does not.
    async fn read_hold(&self, owner: Owner, meta: ObjectMeta) -> Result<Option<Hold>, StoreError> {
        let body = match self.store.get(&meta.key).await {
            Ok(bytes) => serde_json::from_slice(&bytes).ok(),
            Err(StoreError::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let Body { at, detail } =
            body.unwrap_or_else(|| Body { at: meta.modified, detail: "the mark cannot be read".into() });
        Ok(Some(Hold { owner, at, reason: detail, key: meta.key }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_are_short_plain_names() {
        for good in ["a", "bob-2", "0", &"x".repeat(31)] {
            assert!(good.parse::<Owner>().is_ok(), "{good:?}");
        }
        for bad in ["", "-a", "Bob", "a_b", "a.b", "ä", &"x".repeat(32)] {
            assert!(bad.parse::<Owner>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_failed_proof_takes_the_earlier_proof_back_until_the_next() {
        let mark = |kind, at: &str| Mark { kind, at: at.parse().expect("valid"), detail: String::new() };
        let proven = mark(MarkKind::Proven, "2025-01-01T00:00:00Z");
        let failed = mark(MarkKind::Failed, "2025-01-02T00:00:00Z");
        let again = mark(MarkKind::Proven, "2025-01-03T00:00:00Z");
        assert_eq!(Marks(vec![], vec![]).proven_at(), None);
        assert_eq!(Marks(vec![proven.clone()], vec![]).proven_at(), Some(proven.at));
        assert_eq!(Marks(vec![proven.clone(), failed.clone()], vec![]).proven_at(), None);
        assert_eq!(Marks(vec![proven, failed, again.clone()], vec![]).proven_at(), Some(again.at));
    }
}
