//! Whether the same migrations were applied on both sides.

use crate::gate::Named;
use crate::runner::{Current, History};
use serde::Serialize;
use std::collections::BTreeSet;

/// Migrations that were applied on one side only, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Sync {
    /// Only on the left one.
    pub left: Vec<Named>,
    /// Only on the right one.
    pub right: Vec<Named>,
}

impl Sync {
    /// The difference of what was applied on each side.
    pub fn between(left: &[Named], right: &[Named]) -> Self {
        let only = |one: &[Named], other: &[Named]| {
            let ids: BTreeSet<&str> = other.iter().map(|revision| revision.id.as_str()).collect();
            one.iter().filter(|revision| !ids.contains(revision.id.as_str())).cloned().collect()
        };
        Sync { left: only(left, right), right: only(right, left) }
    }

    /// Whether both have the same.
    pub fn is_in_step(&self) -> bool {
        self.left.is_empty() && self.right.is_empty()
    }
}

/// The revisions that were applied, oldest first; those that no file tells of last.
pub fn applied(history: &History, current: &Current) -> Vec<Named> {
    let mut found: BTreeSet<&str> = BTreeSet::new();
    let mut open: Vec<&str> = current.heads.iter().map(String::as_str).collect();
    let mut unknown = Vec::new();
    while let Some(id) = open.pop() {
        match history.revisions.iter().find(|revision| revision.id == id) {
            Some(revision) => {
                if found.insert(&revision.id) {
                    open.extend(revision.parents.iter().map(String::as_str));
                }
            }
            None => unknown.push(Named { id: id.to_owned(), message: String::new() }),
        }
    }
    let is_applied = |id: &str| found.contains(id) && !current.gaps.iter().any(|gap| gap == id);
    let known = history.revisions.iter().filter(|revision| is_applied(&revision.id));
    let known = known.map(|revision| Named { id: revision.id.clone(), message: revision.message.clone() });
    known.chain(unknown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_was_applied_on_one_side_only_is_named_oldest_first() {
        let revision = |id: &str, parents: &[&str]| json!({"id": id, "parents": parents, "message": id, "has_downgrade": true});
        let revisions = [revision("1", &[]), revision("2", &["1"]), revision("3", &["2"])];
        let history: History = serde_json::from_value(json!({"revisions": revisions})).expect("a history");
        let at = |heads: &[&str], gaps: &[&str]| {
            let owned = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect();
            applied(&history, &Current { heads: owned(heads), gaps: owned(gaps), ..Current::default() })
        };
        let ids = |list: &[Named]| list.iter().map(|revision| revision.id.clone()).collect::<Vec<_>>().join(" ");
        for (left, right, only_left, only_right) in [
            (at(&["3"], &[]), at(&["3"], &[]), "", ""),
            (at(&["3"], &[]), at(&["1"], &[]), "2 3", ""),
            (at(&["3"], &["2"]), at(&["2"], &[]), "3", "2"),
            (at(&[], &[]), at(&["1", "x"], &[]), "", "1 x"),
        ] {
            let sync = Sync::between(&left, &right);
            assert_eq!((ids(&sync.left), ids(&sync.right)), (only_left.into(), only_right.into()));
            assert_eq!(sync.is_in_step(), only_left.is_empty() && only_right.is_empty());
        }
    }
}
