//! From where to where, by which revisions: decided here, before any tool is started.

mod apps;
mod unlisted;

use super::{Branches, Current, Direction, Goal, History, Revision, Route, RunnerError};
use std::collections::{BTreeMap, BTreeSet};

/// The way from where a database stands to `goal`.
///
/// A database that is there already gets a route without revisions. Refuses what no tool could do or what would be a
/// guess, and says what would help.
pub fn route(history: &History, current: &Current, goal: &Goal) -> Result<Route, RunnerError> {
    if let Branches::Unlisted { has_downgrade } = history.branches {
        return unlisted::route(has_downgrade, current, goal);
    }
    let map = Map::new(history, current)?;
    if history.branches == Branches::Apps {
        return map.among_apps(goal);
    }
    match goal {
        Goal::Head => map.upgrade(map.head()?),
        Goal::Revision(id) => {
            let id = map.known(id)?;
            if map.applied.contains(id) && !current.heads.iter().any(|head| head == id) {
                map.downgrade(Some(id))
            } else {
                map.upgrade(id)
            }
        }
        Goal::Up(steps) => map.upgrade(map.ahead(*steps)?),
        Goal::Down(steps) => map.downgrade(map.back(*steps)?),
        Goal::Base => map.downgrade(None),
    }
}

/// A history and what of it is applied.
struct Map<'a> {
    history: &'a History,
    by_id: BTreeMap<&'a str, &'a Revision>,
    heads: Vec<&'a str>,
    applied: BTreeSet<&'a str>,
}

impl<'a> Map<'a> {
    fn new(history: &'a History, current: &'a Current) -> Result<Self, RunnerError> {
        let by_id = history.revisions.iter().map(|revision| (revision.id.as_str(), revision)).collect();
        let mut map = Map { history, by_id, heads: Vec::new(), applied: BTreeSet::new() };
        for head in &current.heads {
            let Some(revision) = map.find(head) else {
                let message = format!("the database stands at revision {head}, which the migrations do not have");
                let near =
                    map.nearest(head).map_or(String::new(), |near| format!(" (the nearest known one is {near})"));
                return Err(RunnerError::new(message).hint(format!(
                    "bring back the file of {head}, or, if the database is really at another revision{near}, write that \
                     down by `stamp`"
                )));
            };
            map.heads.push(&revision.id);
            map.applied.append(&mut map.ancestry(&revision.id));
        }
        current.gaps.iter().for_each(|gap| {
            map.applied.remove(gap.as_str());
        });
        Ok(map)
    }

    fn find(&self, id: &str) -> Option<&'a Revision> {
        self.by_id.get(id).copied()
    }

    fn known(&self, id: &str) -> Result<&'a str, RunnerError> {
        let unknown = || {
            let error = RunnerError::new(format!("the migrations have no revision {id}"));
            match self.nearest(id) {
                Some(near) => error.hint(format!("did you mean {near}?")),
                None => error.hint("see all of them by `history`"),
            }
        };
        self.find(id).map(|revision| revision.id.as_str()).ok_or_else(unknown)
    }

    /// The newest of those that begin alike, else what looks most alike.
    fn nearest(&self, id: &str) -> Option<&'a str> {
        let ids = || self.history.revisions.iter().map(|revision| revision.id.as_str());
        let alike = ids().rev().find(|known| !id.is_empty() && (known.starts_with(id) || id.starts_with(known)));
        alike.or_else(|| shared::config::nearest(id, ids()))
    }

    /// A revision and all it builds on.
    fn ancestry(&self, id: &str) -> BTreeSet<&'a str> {
        let mut found = BTreeSet::new();
        let mut open: Vec<&str> = vec![id];
        while let Some(revision) = open.pop().and_then(|id| self.find(id)) {
            if found.insert(revision.id.as_str()) {
                open.extend(revision.parents.iter().map(String::as_str));
            }
        }
        found
    }

    /// Revisions that build on `id` directly; those that build on nothing for none.
    fn children(&self, id: Option<&str>) -> Vec<&'a str> {
        let is_child = |revision: &&Revision| match id {
            Some(id) => revision.parents.iter().any(|parent| parent == id),
            None => revision.parents.is_empty(),
        };
        self.history.revisions.iter().filter(is_child).map(|revision| revision.id.as_str()).collect()
    }

    /// The one revision nothing builds on.
    fn head(&self) -> Result<&'a str, RunnerError> {
        let heads: Vec<&str> = self.history.heads().into_iter().map(|revision| revision.id.as_str()).collect();
        match heads[..] {
            [head] => Ok(head),
            [] => Err(RunnerError::new("there are no migrations")),
            _ => Err(multiple_heads(&heads)),
        }
    }

    /// `steps` revisions on from here, where there is only one way.
    fn ahead(&self, steps: u32) -> Result<&'a str, RunnerError> {
        let mut at = self.one_head("+n")?;
        // What was left out below comes first, as a tool takes it.
        let left_out = self.history.revisions.iter().map(|revision| revision.id.as_str());
        let ancestry = at.map(|id| self.ancestry(id)).unwrap_or_default();
        let mut left_out = left_out.filter(|id| ancestry.contains(id) && !self.applied.contains(id));
        let mut target = None;
        for done in 0..steps {
            if let Some(id) = left_out.next() {
                target = Some(id);
                continue;
            }
            at = match self.children(at)[..] {
                [next] => Some(next),
                [] => {
                    let message = format!("+{steps} leads beyond the newest revision: only {done} are to be applied");
                    return Err(RunnerError::new(message).hint("write head"));
                }
                ref several => {
                    let message = format!("+{steps} is not clear: after {done} it could be {}", several.join(" or "));
                    return Err(RunnerError::new(message).hint("name the revision"));
                }
            };
            target = at;
        }
        target.ok_or_else(|| RunnerError::new("+0 leads nowhere"))
    }

    /// `steps` revisions back from here; none for before the first.
    fn back(&self, steps: u32) -> Result<Option<&'a str>, RunnerError> {
        let mut at = self.one_head("-n")?;
        for done in 0..steps {
            let Some(revision) = at.and_then(|id| self.find(id)) else {
                let message = format!("-{steps} leads back beyond the first revision: only {done} are applied");
                return Err(RunnerError::new(message).hint("write base"));
            };
            at = self.applied_below(revision, steps)?;
        }
        Ok(at)
    }

    /// The applied revision a revision stands on.
    fn applied_below(&self, revision: &'a Revision, steps: u32) -> Result<Option<&'a str>, RunnerError> {
        let mut below = revision;
        loop {
            match &below.parents[..] {
                [] => return Ok(None),
                [parent] if self.applied.contains(parent.as_str()) => return Ok(Some(parent)),
                [parent] => match self.find(parent) {
                    Some(next) => below = next,
                    None => return Ok(None),
                },
                several => {
                    let message = format!("-{steps} leads back through {}, which merges several revisions", below.id);
                    return Err(RunnerError::new(message).hint(format!("name one of {}", several.join(", "))));
                }
            }
        }
    }

    fn one_head(&self, what: &str) -> Result<Option<&'a str>, RunnerError> {
        match self.heads[..] {
            [] => Ok(None),
            [head] => Ok(Some(head)),
            _ => {
                let message = format!("{what} is not clear: the database stands at {}", self.heads.join(" and "));
                Err(RunnerError::new(message).hint("name the revision"))
            }
        }
    }

    fn upgrade(&self, target: &'a str) -> Result<Route, RunnerError> {
        self.upgrade_to_all(self.ancestry(target), Some(target))
    }

    /// Applies what is missing of `wanted`, which the tool calls `target`.
    fn upgrade_to_all(&self, wanted: BTreeSet<&'a str>, target: Option<&'a str>) -> Result<Route, RunnerError> {
        let missing = |id: &&str| wanted.contains(id) && !self.applied.contains(id);
        let revisions: Vec<&str> = self.ids().filter(missing).collect();
        let then = self.applied.union(&wanted).copied().collect();
        Ok(self.finish(Direction::Upgrade, target, revisions, then))
    }

    fn downgrade(&self, target: Option<&'a str>) -> Result<Route, RunnerError> {
        self.take_back(target, |id| target.is_none_or(|target| id != target && self.ancestry(id).contains(target)))
    }

    /// Takes back what is applied of those `goes` says, which the tool does when it is told `target`.
    fn take_back(&self, target: Option<&str>, goes: impl Fn(&str) -> bool) -> Result<Route, RunnerError> {
        let applied = |id: &&str| self.applied.contains(id) && goes(id);
        let mut revisions: Vec<&str> = self.ids().filter(applied).collect();
        revisions.reverse();
        let fixed = revisions.iter().find(|id| self.find(id).is_some_and(|revision| !revision.has_downgrade));
        if let Some(fixed) = fixed {
            return Err(RunnerError::new(format!("revision {fixed} has no way back"))
                .hint("write its downgrade, or go back by restoring a backup"));
        }
        let gone: BTreeSet<&str> = revisions.iter().copied().collect();
        let then = self.applied.difference(&gone).copied().collect();
        Ok(self.finish(Direction::Downgrade, target, revisions, then))
    }

    fn ids(&self) -> impl Iterator<Item = &'a str> {
        self.history.revisions.iter().map(|revision| revision.id.as_str())
    }

    fn finish(&self, direction: Direction, target: Option<&str>, revisions: Vec<&str>, then: BTreeSet<&str>) -> Route {
        let below: BTreeSet<&str> = then
            .iter()
            .flat_map(|id| {
                let mut ancestry = self.ancestry(id);
                ancestry.remove(id);
                ancestry
            })
            .collect();
        let to = then.difference(&below).map(|id| (*id).to_owned()).collect();
        let owned = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>();
        let mut from = owned(&self.heads);
        from.sort();
        Route { direction, from, to, revisions: owned(&revisions), target: target.map(str::to_owned), open: false }
    }
}

/// The refusal where `head` could be several revisions.
pub(super) fn multiple_heads(heads: &[&str]) -> RunnerError {
    RunnerError::new(format!("multiple heads: {}", heads.join(", ")))
        .hint("join them (`alembic merge heads`), or name the one you mean: --to REVISION")
}

#[cfg(test)]
mod tests;
