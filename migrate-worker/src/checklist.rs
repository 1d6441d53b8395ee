//! The checklists teams keep for a migration in production, ticked by what the record holds and by nothing else.

use crate::migration::step;
use serde::Serialize;
use serde_json::Value;
use shared::model::{Phase, StepNote, Task, TaskState};

/// How an item stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Tick {
    /// The record shows it.
    Done,
    /// It should be, and the record does not show it, or shows that it went wrong.
    Open,
    /// Nobody declared that it is to be done here.
    Undeclared,
}

/// One item with its evidence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Item {
    /// What is to be done.
    pub what: &'static str,
    /// How it stands.
    pub tick: Tick,
    /// What the record says of it, or what would make it say more.
    pub evidence: String,
}

/// The items for a job, in the order in which they are done.
pub fn checklist(task: &Task, steps: &[StepNote], has_output: bool) -> Vec<Item> {
    let facts = Facts { task, steps };
    vec![
        item("backup made", facts.backup()),
        item("maintenance window", facts.window()),
        item("revision checked", facts.revision()),
        item("tool and its dependencies installed", facts.dependencies()),
        item("migration tested on a copy of production", facts.tested()),
        item("what it does reviewed", facts.reviewed()),
        item("way back ready", facts.way_back()),
        item("services stopped", facts.hook(step::STOP, &["stop", "pause"], "hooks.stop stops the application")),
        item("migration applied", facts.applied()),
        item("data checked", facts.checked()),
        item("output of the tool kept and read", facts.output(has_output)),
        item("services started", facts.hook(step::START, &["resume", "start"], "hooks.start starts it again")),
        item("health check", facts.hook(step::START, &["health"], "hooks.health_url asks the application")),
        item("outcome told", facts.told()),
    ]
}

type Found = (Tick, String);

fn item(what: &'static str, (tick, evidence): Found) -> Item {
    Item { what, tick, evidence }
}

struct Facts<'a> {
    task: &'a Task,
    steps: &'a [StepNote],
}

impl Facts<'_> {
    fn noted(&self, step: &str, phase: Phase) -> Option<&Value> {
        self.steps.iter().rev().find(|note| note.step == step && note.phase == phase).map(|note| &note.data)
    }

    fn done(&self, step: &str) -> Option<&Value> {
        self.noted(step, Phase::Done)
    }

    fn result(&self) -> &Value {
        self.task.report.result.as_ref().unwrap_or(&Value::Null)
    }

    fn backup(&self) -> Found {
        let names = [step::BACKUP_A, step::BACKUP_B].map(|step| text(self.done(step)?.get("backup")));
        let names: Vec<String> = names.into_iter().flatten().collect();
        if names.is_empty() { (Tick::Open, "none was made for it".into()) } else { (Tick::Done, names.join(", ")) }
    }

    fn window(&self) -> Found {
        match self.done(step::PLAN).and_then(|plan| text(plan.get("window"))) {
            Some(window) => (Tick::Done, format!("within {window}, and predicted to end within it")),
            None => (Tick::Undeclared, "[database.….window] holds a migration to one".into()),
        }
    }

    fn revision(&self) -> Found {
        match self.done(step::REHEARSE).and_then(|rehearsed| rehearsed.get("route")) {
            Some(route) => (Tick::Done, format!("from {} to {}", revisions(&route["from"]), revisions(&route["to"]))),
            None => (Tick::Open, "it did not come to its rehearsal".into()),
        }
    }

    fn dependencies(&self) -> Found {
        match self.done(step::REHEARSE) {
            Some(_) => (Tick::Done, "the tool ran to its end in the rehearsal".into()),
            None => (Tick::Open, "the tool did not run to its end".into()),
        }
    }

    fn tested(&self) -> Found {
        let Some(rehearsed) = self.done(step::REHEARSE) else {
            return (Tick::Open, "no rehearsal succeeded".into());
        };
        let seconds = rehearsed["tool_s"].as_f64().unwrap_or_default();
        (Tick::Done, format!("on the restored backup, which that proved; the tool took {seconds:.2} s"))
    }

    fn reviewed(&self) -> Found {
        let Some(plan) = self.done(step::PLAN) else { return (Tick::Open, "no plan was found good".into()) };
        let losses = plan["losses"].as_u64().unwrap_or_default();
        let said = match losses {
            0 => "no data is lost".to_owned(),
            1 => "1 loss, which was allowed".to_owned(),
            more => format!("{more} losses, which were allowed"),
        };
        match text(plan.get("approved_by")) {
            Some(person) => (Tick::Done, format!("{said}; approved by {person}")),
            None => (Tick::Done, said),
        }
    }

    fn way_back(&self) -> Found {
        match (&self.task.report.backup_id, self.task.state) {
            (Some(backup), TaskState::Restored) => (Tick::Done, format!("it was needed: {backup}")),
            (Some(backup), _) => (Tick::Done, format!("{backup} is on hold: backup-agent restore {backup} --in-place")),
            (None, _) => (Tick::Open, "there is no backup to go back to".into()),
        }
    }

    fn applied(&self) -> Found {
        match (self.task.state, self.done(step::COMMIT)) {
            (TaskState::Succeeded, Some(_)) => {
                let ms = self.result()["blocked_ms"].as_u64();
                let blocked = ms.map_or(String::new(), |ms| format!("; blocked for {ms} ms"));
                (Tick::Done, format!("revision, schema and untouched tables are as rehearsed{blocked}"))
            }
            (state, _) => (Tick::Open, format!("the job is {state}")),
        }
    }

    fn checked(&self) -> Found {
        let none = Vec::new();
        let checks = self.result()["checks"].as_array().unwrap_or(&none);
        if checks.is_empty() {
            return (Tick::Undeclared, "[[database.….checks]] says what must be true".into());
        }
        let names: Vec<&str> = checks.iter().filter_map(|check| check["name"].as_str()).collect();
        let passed = checks.iter().all(|check| check["passed"] == true);
        (if passed { Tick::Done } else { Tick::Open }, names.join(", "))
    }

    fn output(&self, has_output: bool) -> Found {
        match has_output {
            true => (Tick::Done, format!("migrate-worker output {}", self.task.job_id)),
            false => (Tick::Open, "the tool printed nothing, or did not run".into()),
        }
    }

    fn hook(&self, step: &str, names: &[&str], undeclared: &str) -> Found {
        let none = Vec::new();
        let runs = self.done(step).and_then(Value::as_array).unwrap_or(&none);
        let runs: Vec<&Value> =
            runs.iter().filter(|run| run["hook"].as_str().is_some_and(|hook| names.contains(&hook))).collect();
        if runs.is_empty() {
            return match self.noted(step, Phase::Intent) {
                Some(_) => (Tick::Open, "it was begun, and its end is not known".into()),
                None => (Tick::Undeclared, undeclared.to_owned()),
            };
        }
        let said: Vec<String> = runs
            .iter()
            .map(|run| format!("{}: {}", run["hook"].as_str().unwrap_or("?"), run["said"].as_str().unwrap_or("?")))
            .collect();
        let succeeded = runs.iter().all(|run| run["succeeded"] == true);
        (if succeeded { Tick::Done } else { Tick::Open }, said.join(", "))
    }

    fn told(&self) -> Found {
        if self.task.state.is_terminal() {
            return (Tick::Done, format!("{} is in the record", self.task.state));
        }
        (Tick::Open, format!("the job is {}", self.task.state))
    }
}

fn text(value: Option<&Value>) -> Option<String> {
    value?.as_str().map(str::to_owned)
}

fn revisions(value: &Value) -> String {
    let ids: Vec<String> =
        value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
    crate::migration::heads(&ids)
}
