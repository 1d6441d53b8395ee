//! How the agent and its databases stand, for whoever asks.

use super::{Agent, Problems, patiently};
use crate::status;
use shared::model::{DatabaseName, TaskKind, TaskState};
use shared::task_log::TaskFilter;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How long databases are looked at in one turn of the loop.
const LOOK_FOR: Duration = Duration::from_secs(2);

impl Agent {
    /// Tells what keeps the agent from working as it should.
    pub(super) fn tell_problems(&self) {
        let Problems { record, store } = &self.problems;
        self.world.health.set_record_up(record.is_none());
        self.world.health.set_store_up(store.is_none());
        self.world.health.set_ready(record.iter().chain(store).cloned().collect());
    }

    /// Looks at a database in the store and the record again and tells the result to whoever asks; whether the store
    /// answered.
    pub async fn refresh_status(&mut self, database: &DatabaseName) -> bool {
        let found = async {
            let repository = self.world.repository().await?;
            status::of_all(&repository, &self.world.policies, self.record.as_deref(), std::slice::from_ref(database))
                .await
        };
        let found = patiently(found).await;
        self.problems.store = match found {
            Ok(found) => {
                self.statuses.extend(found.into_iter().map(|status| (status.database.clone(), status)));
                self.world.health.set_databases(self.statuses.values().cloned().collect());
                None
            }
            Err(error) => {
                tracing::warn!(%error, "the store does not answer");
                Some(format!("the store does not answer: {error}"))
            }
        };
        self.tell_problems();
        self.problems.store.is_none()
    }

    /// From now on looks again at all databases there are settings or backups for; [`Agent::refresh_some`] does it.
    pub async fn refresh_all(&mut self) {
        let mut names: BTreeSet<DatabaseName> = self.world.config.databases.keys().cloned().collect();
        let stored = patiently(async { self.world.repository().await?.databases().await }).await;
        names.extend(stored.into_iter().flatten());
        self.to_refresh = names.into_iter().collect();
    }

    /// Looks at some of the databases that are to be looked at again, for about 2 s: the loop has more to do.
    pub async fn refresh_some(&mut self) {
        let began = self.world.clock.monotonic();
        while let Some(database) = self.to_refresh.pop_front() {
            let answered = self.refresh_status(&database).await;
            if !answered {
                self.to_refresh.push_back(database);
            }
            if !answered || self.world.clock.monotonic().saturating_sub(began) > LOOK_FOR {
                return;
            }
        }
    }

    /// Counts what waits and runs in the record, for whoever asks.
    pub async fn count_tasks(&self) {
        let Some(record) = &self.record else { return };
        let open = TaskState::ALL.iter().copied().filter(|state| !state.is_terminal()).collect();
        // What cannot be counted now is counted the next time; claiming notices a record that is away.
        let Ok(tasks) = record.tasks(&TaskFilter { states: open, ..TaskFilter::default() }).await else { return };
        let mut counts: BTreeMap<(TaskKind, TaskState), u64> = BTreeMap::new();
        for task in &tasks {
            *counts.entry((task.kind, task.state)).or_default() += 1;
        }
        let queued = tasks.iter().filter(|task| task.state == TaskState::Queued);
        let oldest = queued.map(|task| task.run_at.unwrap_or(task.created_at)).min();
        self.world.health.set_tasks(counts, oldest);
    }
}
