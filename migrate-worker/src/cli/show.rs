//! `migrate-worker show`

use super::history::{LISTS_ALL, existing_record, json, line};
use crate::checklist::{Item, Tick, checklist};
use backup_agent::cli::history::{event_line, find, put_json};
use backup_agent::cli::{Done, Global, put_line, text};
use clap::Args;
use serde_json::Value;
use shared::model::{Phase, StepNote};

/// Tells everything about one job: what was asked for, its events, its steps, what it gave
#[derive(Debug, Args)]
#[command(after_help = "Example: migrate-worker show 0198c2e7
         migrate-worker show 0198c2e7 --checklist")]
pub struct Show {
    /// Its id, or the beginning of it
    job: String,
    /// Print a checklist instead, each item with what the record says of it
    #[arg(long)]
    checklist: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Show {
    pub(super) async fn run(self, global: &Global) -> Done {
        let log = existing_record(global).await?;
        let task = find(&*log, &self.job, LISTS_ALL).await?;
        let (events, steps) = (log.events(&task.job_id).await?, log.steps(&task.job_id).await?);
        if self.checklist {
            let has_output = !log.outputs(&task.job_id).await?.is_empty();
            return put_checklist(&checklist(&task, &steps, has_output), self.json);
        }
        let holder = log.holder(&task.job_id).await?;
        if self.json {
            let mut value = json(&task);
            value["events"] = serde_json::json!(events);
            value["steps"] = serde_json::json!(steps);
            value["holder"] = holder.map_or(Value::Null, |(worker, is_gone)| {
                serde_json::json!({
                    "program": worker.program, "host": worker.host, "pid": worker.pid, "is_gone": is_gone,
                })
            });
            return put_json(&value);
        }
        put_line(&line(&task));
        put_line(&format!("job     {}", task.job_id));
        if let Some((worker, is_gone)) = holder {
            let gone = if is_gone { ", which is gone" } else { "" };
            let program = text::name(&worker.program);
            put_line(&format!("holder  {program} on {}, process {}{gone}", text::name(&worker.host), worker.pid));
        }
        put_values("asked", &task.spec);
        put_line("events");
        for event in &events {
            put_line(&event_line(event));
        }
        if !steps.is_empty() {
            put_line("steps");
        }
        for note in &steps {
            put_line(&step_line(note));
        }
        if let Some(result) = &task.report.result {
            put_values("result", result);
        }
        Ok(())
    }
}

fn put_checklist(items: &[Item], json: bool) -> Done {
    if json {
        return put_json(&serde_json::json!(items));
    }
    for item in items {
        let mark = match item.tick {
            Tick::Done => "[x]",
            Tick::Open => "[ ]",
            Tick::Undeclared => "[-]",
        };
        put_line(&format!("{mark} {}: {}", item.what, text::name(&item.evidence)));
    }
    Ok(())
}

fn step_line(note: &StepNote) -> String {
    let phase = match note.phase {
        Phase::Intent => "begins",
        Phase::Done => "done",
    };
    let data = match &note.data {
        Value::Null => String::new(),
        Value::Object(fields) if fields.is_empty() => String::new(),
        data => text::name(&data.to_string()),
    };
    let (at, step) = (text::moment(note.at), text::name(&note.step));
    format!("  {:>3}  {at}  epoch {:<3} {step:<16} {phase:<6}  {data}", note.seq, note.epoch).trim_end().to_owned()
}

/// Prints a JSON value under a heading, a line for each value in it.
fn put_values(heading: &str, value: &Value) {
    let mut lines = Vec::new();
    flatten("", value, &mut lines);
    if !lines.is_empty() {
        put_line(heading);
    }
    for line in lines {
        put_line(&format!("  {line}"));
    }
}

fn flatten(path: &str, value: &Value, lines: &mut Vec<String>) {
    let below = |name: &str| if path.is_empty() { text::name(name) } else { format!("{path}.{}", text::name(name)) };
    match value {
        Value::Null => {}
        Value::Object(fields) => fields.iter().for_each(|(name, value)| flatten(&below(name), value, lines)),
        Value::Array(items) if items.iter().all(|item| !item.is_object() && !item.is_array()) => {
            let words: Vec<String> = items.iter().map(word).collect();
            if !words.is_empty() {
                lines.push(format!("{path}: {}", words.join(", ")));
            }
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(at, value)| flatten(&below(&(at + 1).to_string()), value, lines));
        }
        plain => lines.push(format!("{path}: {}", word(plain))),
    }
}

fn word(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), text::name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_shown_as_one_line_for_each_of_its_parts() {
        let value = serde_json::json!({
            "to": "head", "none": null, "empty": [], "may_drop": ["a", "b:c"],
            "tables": [{"name": "t\n", "rows": 3}], "nested": {"yes": true},
        });
        let mut lines = Vec::new();
        flatten("", &value, &mut lines);
        lines.sort();
        let expected = ["may_drop: a, b:c", "nested.yes: true", "tables.1.name: t\\n", "tables.1.rows: 3", "to: head"];
        assert_eq!(lines, expected);
    }
}
