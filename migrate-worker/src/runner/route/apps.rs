//! The way where every application has a line of revisions of its own, as Django has it.

use super::Map;
use crate::runner::branches::{ZERO, app};
use crate::runner::{Goal, Route, RunnerError};
use std::collections::{BTreeMap, BTreeSet};

impl<'a> Map<'a> {
    /// The way to `goal`: all lines' newest, or one line's revision.
    pub(super) fn among_apps(&self, goal: &Goal) -> Result<Route, RunnerError> {
        self.one_newest_each()?;
        match goal {
            Goal::Head => self.upgrade_to_all(self.ids().collect(), None),
            Goal::Revision(id) => match id.strip_suffix(ZERO).and_then(|app| app.strip_suffix('.')) {
                Some(app) => self.before_the_first(app, id),
                None => self.to_one(self.known(id)?),
            },
            Goal::Up(_) | Goal::Down(_) | Goal::Base => {
                let message = format!("{goal} is not clear: every application has revisions of its own");
                let hint = "name the revision, APP.NAME, or APP.zero for before an application's first";
                Err(RunnerError::new(message).hint(hint))
            }
        }
    }

    /// A line with two ends is joined by a person first; Django refuses to run before.
    fn one_newest_each(&self) -> Result<(), RunnerError> {
        let mut newest: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for head in self.history.heads() {
            newest.entry(app(&head.id)).or_default().push(&head.id);
        }
        match newest.iter().find(|(_, ids)| ids.len() > 1) {
            None => Ok(()),
            Some((app, ids)) => Err(RunnerError::new(format!("{app} has multiple heads: {}", ids.join(", ")))
                .hint("join them: manage.py makemigrations --merge")),
        }
    }

    /// The revisions that follow `id` directly in its line.
    fn next_in_app(&self, id: &str) -> Vec<&'a str> {
        self.children(Some(id)).into_iter().filter(|child| app(child) == app(id)).collect()
    }

    fn to_one(&self, id: &'a str) -> Result<Route, RunnerError> {
        let next = self.next_in_app(id);
        if self.applied.contains(id) && next.iter().any(|next| self.applied.contains(next)) {
            return self.take_back_from(&next, id);
        }
        self.upgrade(id)
    }

    fn before_the_first(&self, name: &str, target: &str) -> Result<Route, RunnerError> {
        let of_app: Vec<&str> = self.ids().filter(|id| app(id) == name).collect();
        if of_app.is_empty() {
            let apps: BTreeSet<&str> = self.ids().map(app).collect();
            let known: Vec<&str> = apps.into_iter().collect();
            return Err(RunnerError::new(format!("no application is called {name}"))
                .hint(format!("those with migrations are {}", known.join(", "))));
        }
        self.take_back_from(&of_app, target)
    }

    /// Takes `first` back and whatever builds on one of them.
    fn take_back_from(&self, first: &[&str], target: &str) -> Result<Route, RunnerError> {
        self.take_back(Some(target), |id| {
            let ancestry = self.ancestry(id);
            first.iter().any(|first| ancestry.contains(first))
        })
    }
}
