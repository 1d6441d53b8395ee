//! Proofs that an end of the program between a backup and its proof kept away.

use super::Agent;
use crate::policy::DrillPolicy;
use shared::model::{DatabaseName, NewTask, Task, TaskDoor, TaskKind, TaskState};
use shared::task_log::TaskFilter;

/// So many tasks of a database are looked at; a drill that is not among them was not of the newest backup.
const LOOK_BACK: u32 = 20;

impl Agent {
    /// Submits the proof of every database's newest scheduled backup that has none; once after the start.
    ///
    /// The end of a backup is recorded before its proof is submitted, and in between the program may have been killed.
    pub(super) async fn prove_what_was_missed(&mut self) {
        let Some(record) = self.record.clone().filter(|_| !self.looked_for_missed) else { return };
        self.looked_for_missed = true;
        let policies = self.world.policies.databases.iter();
        let proven = policies.filter(|(_, policy)| matches!(policy.drill, DrillPolicy::AfterBackup));
        let names: Vec<DatabaseName> = proven.map(|(name, _)| name.clone()).collect();
        for name in names {
            let kinds = vec![TaskKind::Backup, TaskKind::Drill];
            let filter = TaskFilter { target: Some(name.clone()), kinds, limit: LOOK_BACK, ..TaskFilter::default() };
            let tasks = match record.tasks(&filter).await {
                Ok(tasks) => tasks,
                Err(error) => return self.lose_record(&error),
            };
            let Some(backup) = unproven(&tasks) else { continue };
            tracing::info!(database = %name, backup = backup.report.backup_id, "its proof was missed and follows");
            let task = NewTask {
                door: backup.door,
                requested_by: backup.requested_by.clone(),
                ..NewTask::new(TaskKind::Backup, Some(name))
            };
            self.prove_soon(&task, backup.report.backup_id.as_deref()).await;
        }
    }
}

/// The newest scheduled backup, unless a drill was submitted after it. `tasks` are the newest first.
fn unproven(tasks: &[Task]) -> Option<&Task> {
    let is_made = |task: &&Task| {
        task.kind == TaskKind::Backup && task.door == TaskDoor::Schedule && task.state == TaskState::Succeeded
    };
    let backup = tasks.iter().find(is_made)?;
    let follows = |task: &Task| task.kind == TaskKind::Drill && task.created_at >= backup.created_at;
    (!tasks.iter().any(follows)).then_some(backup)
}
