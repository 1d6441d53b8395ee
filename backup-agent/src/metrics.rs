//! The text format of Prometheus, version 0.0.4.

use crate::health::Facts;
use crate::status::{DatabaseStatus, Kept};
use jiff::Timestamp;
use std::fmt::{Display, Write};

/// Media type of the text.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Writes down what is known at the moment `now`.
pub(crate) fn render(facts: &Facts, is_alive: bool, now: Timestamp) -> String {
    let mut page = Page::default();
    page.family("build_info", Kind::Gauge, "The program that runs, always 1.");
    page.value("build_info", &[("version", &env!("CARGO_PKG_VERSION"))], 1);
    for (name, help, yes) in [
        ("alive", "Whether the agent's loop turned lately.", is_alive),
        ("ready", "Whether the agent can work.", facts.reasons.is_empty()),
        ("record_up", "Whether the record of tasks answers.", facts.is_record_up),
        ("store_up", "Whether the store answers.", facts.is_store_up),
    ] {
        page.family(name, Kind::Gauge, help);
        page.value(name, &[], u8::from(yes));
    }
    tasks(&mut page, facts, now);
    databases(&mut page, facts, now);
    page.family("deliveries_total", Kind::Counter, "Notifications by what became of them.");
    let tally = facts.deliveries;
    for (result, count) in [("done", tally.done), ("again", tally.again), ("given-up", tally.given_up)] {
        page.value("deliveries_total", &[("result", &result)], count);
    }
    page.text
}

fn tasks(page: &mut Page, facts: &Facts, now: Timestamp) {
    page.family("tasks", Kind::Gauge, "Tasks that wait or are worked on.");
    for ((kind, state), count) in &facts.tasks {
        page.value("tasks", &[("kind", kind), ("state", state)], count);
    }
    page.family("tasks_ended_total", Kind::Counter, "Tasks this agent ended, by how.");
    for ((kind, state), count) in &facts.ended {
        page.value("tasks_ended_total", &[("kind", kind), ("state", state)], count);
    }
    page.family("task_duration_seconds", Kind::Summary, "How long the tasks took that this agent ended.");
    for (kind, (count, sum)) in &facts.durations {
        page.value("task_duration_seconds_sum", &[("kind", kind)], sum);
        page.value("task_duration_seconds_count", &[("kind", kind)], count);
    }
    page.family("oldest_queued_seconds", Kind::Gauge, "How long the oldest task waits that may begin; 0 if none does.");
    let waits = facts.oldest_queued.map_or(0.0, |since| age(since, now));
    page.value("oldest_queued_seconds", &[], waits);
    page.family("lease_lost_total", Kind::Counter, "Tasks taken from this agent because it did not renew its lease.");
    page.value("lease_lost_total", &[], facts.leases_lost);
    let help = "When a task of the kind last succeeded; the target is empty for the whole repository.";
    page.family("last_success_timestamp_seconds", Kind::Gauge, help);
    for ((kind, target), at) in &facts.successes {
        page.value("last_success_timestamp_seconds", &[("kind", kind), ("target", target)], seconds(*at));
    }
}

/// A metric of every database: its name, what it says, and its value where there is one.
type OfDatabase = (&'static str, &'static str, fn(&DatabaseStatus, Timestamp) -> Option<f64>);

const OF_DATABASE: [OfDatabase; 8] = [
    ("backups", "Backups there are, complete or not.", |status, _| Some(status.backups as f64)),
    ("unusable_backups", "Backups that are not complete or need damaged bytes.", |status, _| {
        Some(status.unusable as f64)
    }),
    ("newest_backup_age_seconds", "Age of the newest complete backup; missing if there is none.", |status, now| {
        snapshot_age(&status.newest_complete, now)
    }),
    (
        "newest_proven_backup_age_seconds",
        "Age of the newest proven backup; missing if there is none.",
        |status, now| snapshot_age(&status.newest_proven, now),
    ),
    ("store_bytes", "Bytes of all packs and manifests the backups name.", |status, _| Some(status.stored_bytes as f64)),
    ("stale", "Whether what can be restored is older than it should be.", |status, _| {
        Some(f64::from(u8::from(!status.stale.is_empty())))
    }),
    ("next_backup_timestamp_seconds", "When the next backup begins; missing without a schedule.", |status, _| {
        status.next_backup.map(seconds)
    }),
    ("next_drill_timestamp_seconds", "When the next drill begins; missing without times of its own.", |status, _| {
        status.next_drill.map(seconds)
    }),
];

fn databases(page: &mut Page, facts: &Facts, now: Timestamp) {
    for (name, help, value) in OF_DATABASE {
        page.family(name, Kind::Gauge, help);
        for status in &facts.databases {
            if let Some(value) = value(status, now) {
                page.value(name, &[("target", &status.database)], value);
            }
        }
    }
    let help = "When the last task failed, where no task of its kind succeeded since.";
    page.family("last_error_timestamp_seconds", Kind::Gauge, help);
    for status in &facts.databases {
        if let Some(error) = &status.last_error {
            let labels: [(&str, &dyn Display); 2] = [("kind", &error.kind), ("target", &status.database)];
            page.value("last_error_timestamp_seconds", &labels, seconds(error.at));
        }
    }
    page.family(
        "backup_bytes_new",
        Kind::Gauge,
        "Bytes the newest backup of this agent stored that were not there before.",
    );
    for (target, bytes) in &facts.bytes_new {
        page.value("backup_bytes_new", &[("target", target)], bytes);
    }
}

fn snapshot_age(kept: &Option<Kept>, now: Timestamp) -> Option<f64> {
    kept.as_ref().map(|kept| age(kept.created_at, now))
}

/// Seconds since then; 0 for what a wrong clock put into the future.
fn age(since: Timestamp, now: Timestamp) -> f64 {
    now.duration_since(since).as_secs_f64().max(0.0)
}

fn seconds(at: Timestamp) -> f64 {
    at.as_millisecond() as f64 / 1000.0
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Counter,
    Gauge,
    Summary,
}

#[derive(Default)]
struct Page {
    text: String,
}

impl Page {
    /// Begins a metric; its values must follow before the next one.
    fn family(&mut self, name: &str, kind: Kind, help: &str) {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Summary => "summary",
        };
        // Writing to a string does not fail.
        let _ = writeln!(self.text, "# HELP holdfast_{name} {help}\n# TYPE holdfast_{name} {kind}");
    }

    fn value(&mut self, name: &str, labels: &[(&str, &dyn Display)], value: impl Display) {
        let labels: Vec<_> = labels.iter().map(|(key, value)| format!("{key}=\"{}\"", escaped(*value))).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let _ = writeln!(self.text, "holdfast_{name}{labels} {value}");
    }
}

fn escaped(value: &dyn Display) -> String {
    value.to_string().replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped() {
        let mut page = Page::default();
        page.value("x", &[("a", &"c:\\d \"e\"\nf")], 1);
        assert_eq!(page.text, "holdfast_x{a=\"c:\\\\d \\\"e\\\"\\nf\"} 1\n");
    }
}
