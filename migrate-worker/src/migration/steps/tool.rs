//! Runs the tool and keeps what it printed.

use crate::Error;
use crate::migration::halt::{Halt, Reason};
use crate::migration::site::Site;
use crate::runner::{Route, ToolRun, last_words};
use backup_agent::stop::StopReason;
use shared::model::DatabaseUrl;
use shared::task_log::TaskLogError;

/// Runs the tool on the database at `url`; its output goes into the record under `step`.
pub async fn run_tool(site: &Site, url: &DatabaseUrl, route: &Route, step: &str) -> Result<ToolRun, Halt> {
    let run = site.runner.run(url, route, &site.call()?).await?;
    if let Some(reason @ (StopReason::LeaseLost | StopReason::Shutdown)) = site.stop.reason() {
        return Err(Error::Stopped(reason).into());
    }
    let text = match (run.exit, &run.ended_early) {
        (_, Some(why)) => format!("{}\n[{why}]\n", run.output),
        (Some(code), None) => format!("{}\n[exit code {code}]\n", run.output),
        (None, None) => format!("{}\n[ended by a signal]\n", run.output),
    };
    let text = match run.strays {
        0 => text,
        1 => format!("{text}[1 process it left running was ended]\n"),
        number => format!("{text}[{number} processes it left running were ended]\n"),
    };
    match site.ledger.record().put_output(site.ledger.lease(), step, &text).await {
        Ok(()) => {}
        Err(error @ TaskLogError::LeaseLost { .. }) => return Err(Error::from(error).into()),
        Err(error) => tracing::warn!(%error, "what the tool printed could not be kept in the record"),
    }
    Ok(run)
}

/// What is wrong with a run, judged by how it ended; where the database stands is judged apart.
pub fn judge(site: &Site, run: &ToolRun) -> Option<Reason> {
    let tool = match &run.failed_step {
        Some(step) => format!("the step {step:?} behind {}", site.runner.name()),
        None => site.runner.name().to_owned(),
    };
    // Cut to what fits into a sentence.
    let said: String = last_words(&run.output).chars().take(300).collect();
    let why = match (run.exit, &run.ended_early) {
        (_, Some(why)) => format!("{tool} was ended: {why}: {said}"),
        (Some(0), None) => return None,
        (Some(code), None) => format!("{tool} ended with exit code {code}: {said}"),
        (None, None) => format!("{tool} was ended by a signal: {said}"),
    };
    Some(Reason::new(why).with_hint(format!("migrate-worker output {} shows all it printed", site.ledger.job())))
}
