//! Who may ask for what.

use crate::runner::Goal;
use crate::spec::MigrateSpec;
use backup_agent::agent::RestoreSpec;
use shared::config::{AllowConfig, Right};
use shared::model::{DatabaseName, NewTask, TaskKind};
use std::collections::BTreeSet;

/// The rules of `[[queue.allow]]`; without any, everybody may ask for everything that is configured.
#[derive(Debug, Clone)]
pub struct Policy(Vec<AllowConfig>);

impl Policy {
    /// These rules.
    pub fn new(rules: Vec<AllowConfig>) -> Self {
        Policy(rules)
    }

    /// Refuses what no rule allows; `principal` is none for somebody who is not known.
    pub fn check(&self, principal: Option<&str>, task: &NewTask) -> Result<(), String> {
        if self.0.is_empty() {
            return Ok(());
        }
        for database in databases(task) {
            for right in rights(task) {
                if !self.0.iter().any(|rule| allows(rule, principal, right, database.as_ref())) {
                    let who = principal.unwrap_or("somebody unknown");
                    let of = database.as_ref().map_or("the store", DatabaseName::as_str);
                    return Err(format!("{who} may not ask for {} of {of}", word(right)));
                }
            }
        }
        Ok(())
    }
}

fn allows(rule: &AllowConfig, principal: Option<&str>, right: Right, database: Option<&DatabaseName>) -> bool {
    let is_meant = rule.who == "*" || principal == Some(&rule.who);
    let is_known = |name: &String| name == "*" || database.is_some_and(|database| database.as_str() == name);
    is_meant && rule.what.contains(&right) && rule.databases.iter().any(is_known)
}

/// What a task needs the right to.
fn rights(task: &NewTask) -> BTreeSet<Right> {
    let mut rights = BTreeSet::from([match task.kind {
        TaskKind::Migrate => Right::Migrate,
        TaskKind::Rehearse => Right::Rehearse,
        TaskKind::Backup => Right::Backup,
        TaskKind::Restore => Right::Restore,
        TaskKind::Verify => Right::Verify,
        TaskKind::Drill => Right::Drill,
        TaskKind::Prune => Right::Prune,
    }]);
    if task.kind == TaskKind::Migrate
        && let Ok(spec) = serde_json::from_value::<MigrateSpec>(task.spec.clone())
    {
        // A revision may lie behind the database, too: whether it does is not known here.
        if !matches!(spec.to.parse(), Ok(Goal::Head | Goal::Up(_))) {
            rights.insert(Right::Downgrade);
        }
        if !spec.may_drop.is_empty() {
            rights.insert(Right::MayDrop);
        }
    }
    rights
}

/// The databases a task concerns; none stands for the whole store.
fn databases(task: &NewTask) -> Vec<Option<DatabaseName>> {
    [task.target.clone()].into_iter().chain(made_by(task).map(Some)).collect()
}

/// The database a restore makes, which must be configured.
pub fn made_by(task: &NewTask) -> Option<DatabaseName> {
    let spec = || serde_json::from_value::<RestoreSpec>(task.spec.clone()).ok();
    (task.kind == TaskKind::Restore).then(spec)?.map(|spec| spec.into)
}

fn word(right: Right) -> &'static str {
    match right {
        Right::Migrate => "a migration",
        Right::Rehearse => "a rehearsal",
        Right::Backup => "a backup",
        Right::Restore => "a restore",
        Right::Verify => "a verification",
        Right::Drill => "a drill",
        Right::Prune => "a prune",
        Right::Downgrade => "a migration back or to a named revision",
        Right::MayDrop => "a migration that loses data",
    }
}
