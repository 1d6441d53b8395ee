//! `migrate-worker output`

use super::history::{LISTS_ALL, existing_record};
use backup_agent::cli::history::{find, put_json};
use backup_agent::cli::{Done, Global, put_line, text};
use backup_agent::say;
use clap::Args;
use serde_json::json;

/// Prints what tools printed while they did a job, step by step
#[derive(Debug, Args)]
#[command(after_help = "Example: migrate-worker output 0198c2e7 | less")]
pub struct Output {
    /// Its id, or the beginning of it
    job: String,
    /// Print a JSON array
    #[arg(long)]
    json: bool,
}

impl Output {
    pub(super) async fn run(self, global: &Global) -> Done {
        let log = existing_record(global).await?;
        let task = find(&*log, &self.job, LISTS_ALL).await?;
        let outputs = log.outputs(&task.job_id).await?;
        if self.json {
            let values =
                outputs.iter().map(|output| json!({"step": output.step, "at": output.at, "text": output.text}));
            return put_json(&values.collect::<Vec<_>>());
        }
        if outputs.is_empty() {
            say!("job {}: no tool has printed anything that was kept", task.job_id);
        }
        for output in &outputs {
            put_line(&format!("== {}, {}", text::name(&output.step), text::moment(output.at)));
            // A line is data, but nothing a tool prints may command the terminal.
            output.text.lines().for_each(|line| put_line(&text::name(&line.replace('\t', "    "))));
        }
        Ok(())
    }
}
