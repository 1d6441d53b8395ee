//! Where a database stands, from the rows of Django's own table.

use crate::runner::branches::app;
use crate::runner::{History, Revision};
use std::collections::{BTreeMap, BTreeSet};

/// The newest applied revisions, and what is wrong. `rows` are `APP.NAME` in the order in which they were applied.
pub(super) fn judge(history: &History, rows: &[String]) -> (Vec<String>, Vec<String>) {
    let rows_set: BTreeSet<&str> = rows.iter().map(String::as_str).collect();
    let is_applied = |revision: &Revision| {
        let replaced = || revision.replaces.iter().all(|id| rows_set.contains(id.as_str()));
        rows_set.contains(revision.id.as_str()) || (!revision.replaces.is_empty() && replaced())
    };
    let applied: BTreeSet<&str> =
        history.revisions.iter().filter(|revision| is_applied(revision)).map(|revision| revision.id.as_str()).collect();
    let applied_of = |revision: &&Revision| applied.contains(revision.id.as_str());
    let built_on: BTreeSet<&str> = history
        .revisions
        .iter()
        .filter(applied_of)
        .flat_map(|revision| revision.parents.iter().map(String::as_str))
        .collect();
    let heads = applied.iter().filter(|id| !built_on.contains(*id)).map(|id| (*id).to_owned()).collect();
    let mut faults: Vec<String> = Vec::new();
    for revision in history.revisions.iter().filter(applied_of) {
        let missing = revision.parents.iter().filter(|parent| !applied.contains(parent.as_str()));
        faults
            .extend(missing.map(|parent| format!("{} is applied, but not {parent}, which it builds on", revision.id)));
    }
    for revision in history.revisions.iter().filter(|revision| !is_applied(revision)) {
        let some: Vec<&str> = revision.replaces.iter().map(String::as_str).filter(|id| rows_set.contains(id)).collect();
        if !some.is_empty() {
            faults.push(format!(
                "{} stands for several revisions, of which only {} are applied: apply the others with the code that \
                 still has them",
                revision.id,
                some.join(", ")
            ));
        }
    }
    faults.extend(newer_than_the_code(history, rows));
    (heads, faults)
}

/// Rows nobody knows are usual where revisions were squashed and the old files removed; those behind the newest known one
/// of their application were written by newer code.
fn newer_than_the_code(history: &History, rows: &[String]) -> Vec<String> {
    let known: BTreeSet<&str> = history
        .revisions
        .iter()
        .flat_map(|revision| revision.replaces.iter().map(String::as_str).chain([revision.id.as_str()]))
        .collect();
    let apps: BTreeSet<&str> = history.revisions.iter().map(|revision| app(&revision.id)).collect();
    let mut newest_known: BTreeMap<&str, usize> = BTreeMap::new();
    for (at, id) in rows.iter().enumerate().filter(|(_, id)| known.contains(id.as_str())) {
        newest_known.insert(app(id), at);
    }
    let is_newer = |(at, id): &(usize, &String)| {
        apps.contains(app(id))
            && !known.contains(id.as_str())
            && newest_known.get(app(id)).is_none_or(|newest| at > newest)
    };
    let newer = rows.iter().enumerate().filter(is_newer);
    newer.map(|(_, id)| format!("django_migrations says {id}, which no file has")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn revision(id: &str, parents: &[&str], replaces: &[&str]) -> Revision {
        let owned = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect();
        Revision {
            id: id.to_owned(),
            parents: owned(parents),
            message: String::new(),
            has_downgrade: true,
            replaces: owned(replaces),
        }
    }

    #[test]
    fn heads_and_faults_follow_from_the_rows() {
        let history = History {
            revisions: vec![
                revision("a.1", &[], &[]),
                revision("a.2", &["a.1"], &[]),
                revision("b.1_squashed_2", &["a.1"], &["b.1", "b.2"]),
                revision("b.3", &["b.1_squashed_2"], &[]),
            ],
            ..History::default()
        };
        for (rows, heads, fault) in [
            (&[][..], &[][..], ""),
            (&["a.1"], &["a.1"], ""),
            (&["a.1", "a.2", "b.1", "b.2"], &["a.2", "b.1_squashed_2"], ""),
            (&["a.1", "b.1"], &["a.1"], "only b.1"),
            // Its old files are long gone.
            (&["a.0", "a.1"], &["a.1"], ""),
            (&["a.1", "a.9"], &["a.1"], "a.9, which no file has"),
            (&["a.1", "other.1"], &["a.1"], ""),
            (&["a.2"], &["a.2"], "not a.1"),
            (&["a.1", "a.2", "b.1_squashed_2", "b.3"], &["a.2", "b.3"], ""),
        ] {
            let rows: Vec<String> = rows.iter().map(|row| (*row).to_owned()).collect();
            let (found, faults) = judge(&history, &rows);
            assert_eq!(found, heads, "{rows:?}");
            assert_eq!(faults.len(), usize::from(!fault.is_empty()), "{rows:?}: {faults:?}");
            assert!(faults.concat().contains(fault), "{rows:?}: {faults:?}");
        }
    }
}
