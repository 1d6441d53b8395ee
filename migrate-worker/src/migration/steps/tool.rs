//! Runs the tool and keeps what it printed.

use crate::Error;
use crate::migration::halt::{Halt, Reason};
use crate::migration::site::Site;
use crate::runner::{Route, ToolRun};
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
    match site.ledger.record().put_output(site.ledger.lease(), step, &text).await {
        Ok(()) => {}
        Err(error @ TaskLogError::LeaseLost { .. }) => return Err(Error::from(error).into()),
        Err(error) => tracing::warn!(%error, "what the tool printed could not be kept in the record"),
    }
    Ok(run)
}

/// What is wrong with a run, judged by how it ended; where the database stands is judged apart.
pub fn judge(site: &Site, run: &ToolRun) -> Option<Reason> {
    let tool = site.runner.name();
    let said = last_words(&run.output);
    let said = if said.is_empty() { String::new() } else { format!(": {said}") };
    let why = match (run.exit, &run.ended_early) {
        (_, Some(why)) => format!("{tool} was ended: {why}{said}"),
        (Some(0), None) => return None,
        (Some(code), None) => format!("{tool} ended with exit code {code}{said}"),
        (None, None) => format!("{tool} was ended by a signal{said}"),
    };
    Some(Reason::new(why).with_hint(format!("migrate-worker output {} shows all it printed", site.ledger.job())))
}

/// The line that most likely says what went wrong, cut to what fits into a sentence: the last that speaks of an error,
/// else the last.
fn last_words(output: &str) -> String {
    let lines = || output.lines().map(str::trim).filter(|line| !line.is_empty());
    let speaks = |line: &&str| {
        let line = line.to_ascii_lowercase();
        line.contains("error") && !line.starts_with('(') || line.starts_with("failed")
    };
    let line = lines().filter(speaks).last().or(lines().last()).unwrap_or_default();
    line.chars().take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::last_words;

    #[test]
    fn the_line_that_speaks_of_the_error_is_told() {
        let alembic = "INFO  [alembic] Running\nsqlalchemy.exc.OperationalError: no such table: x\n[SQL: INSERT]\n\
                       (Background on this error at: somewhere)\n";
        assert_eq!(last_words(alembic), "sqlalchemy.exc.OperationalError: no such table: x");
        assert_eq!(last_words("one\n two \n\n"), "two");
        assert_eq!(last_words("FAILED: Multiple head revisions\nbye"), "FAILED: Multiple head revisions");
        assert_eq!(last_words(""), "");
    }
}
