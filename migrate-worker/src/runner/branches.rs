//! How a tool's revisions hang together.

use super::{Current, History, Revision};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// What `head` means to a tool, and what going back to a revision takes with it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Branches {
    /// One history: `head` is the one revision nothing builds on.
    #[default]
    One,
    /// Each application has a line of its own, and revisions are called `APP.NAME`: `head` is all lines' newest, and who
    /// goes back to a revision takes back what follows it in its line, and whatever builds on that.
    Apps,
    /// The tool has no list of revisions: it goes as far as it goes.
    Unlisted {
        /// Whether it can go back, too.
        has_downgrade: bool,
    },
}

impl History {
    /// The revisions no other builds on; of every application its own.
    pub fn heads(&self) -> Vec<&Revision> {
        let is_head = |revision: &&Revision| {
            !self.revisions.iter().any(|other| {
                let same_line = self.branches != Branches::Apps || app(&other.id) == app(&revision.id);
                same_line && other.parents.contains(&revision.id)
            })
        };
        self.revisions.iter().filter(is_head).collect()
    }
}

impl History {
    /// A revision of this id.
    pub fn find(&self, id: &str) -> Option<&Revision> {
        self.revisions.iter().find(|revision| revision.id == id)
    }

    /// Revisions and all they build on; ids nobody knows are passed over.
    pub fn ancestry<'a>(&self, ids: impl IntoIterator<Item = &'a str>) -> BTreeSet<&str> {
        let mut found = BTreeSet::new();
        let mut open: Vec<&Revision> = ids.into_iter().filter_map(|id| self.find(id)).collect();
        while let Some(revision) = open.pop() {
            if found.insert(revision.id.as_str()) {
                open.extend(revision.parents.iter().filter_map(|parent| self.find(parent)));
            }
        }
        found
    }

    /// The applied revisions: the newest ones and what they build on, in the history's order; of a tool without a list what
    /// it says.
    pub fn applied(&self, current: &Current) -> Vec<String> {
        if let Branches::Unlisted { .. } = self.branches {
            return current.heads.clone();
        }
        let applied = self.ancestry(current.heads.iter().map(String::as_str));
        let ids = self.revisions.iter().map(|revision| &revision.id);
        ids.filter(|id| applied.contains(id.as_str()) && !current.gaps.contains(id)).cloned().collect()
    }
}

/// What stands behind an application's name before its first revision.
pub(super) const ZERO: &str = "zero";

/// The application of a revision that is called `APP.NAME`.
pub(crate) fn app(id: &str) -> &str {
    id.split_once('.').map_or(id, |(app, _)| app)
}
