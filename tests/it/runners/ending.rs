//! Tools that do not end by themselves, and tools that talk too much.

use super::{Fresh, call, planned};
use backup_agent::stop::{StopReason, channel};
use migrate_worker::runner::alembic::AlembicRunner;
use migrate_worker::runner::{Environment, Runner, ToolCall, ToolRun};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tests::alembic::{AlembicProject, alembic};

/// Runs a project of one migration, which does `upgrade` in Python.
async fn run(upgrade: &str, call: &ToolCall) -> ToolRun {
    let project = AlembicProject::new("sqlite:////nowhere/else.db");
    project.add("r1", &[], upgrade, "");
    let database = Fresh::sqlite();
    let runner =
        AlembicRunner::new(project.directory().to_owned(), alembic(), Vec::new(), Environment::default()).unwrap();
    let (_, _, route) = planned(&runner, &database.url(), "head").await.unwrap();
    runner.run(&database.url(), &route, call).await.unwrap()
}

#[tokio::test]
async fn a_tool_that_hangs_and_ignores_sigterm_is_killed_when_asked() {
    let (stopper, stop) = channel();
    let seen = Arc::new(Mutex::new(None));
    let told = seen.clone();
    let begun = Arc::new(move |process| {
        *told.lock().unwrap() = Some(process);
        stopper.stop(StopReason::Cancelled);
    });
    let upgrade = "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\ntime.sleep(600)";
    let done = run(upgrade, &ToolCall { stop, begun, ..call() }).await;
    assert_eq!((done.exit, done.ended_early.as_deref()), (None, Some("stopped: somebody asked for its end")));
    let process = seen.lock().unwrap().expect("told of the process");
    assert!(process.start_ticks > 0);
    assert_ne!(shared::subprocess::start_ticks(process.pid), Some(process.start_ticks), "it still runs");
}

#[tokio::test]
async fn a_tool_that_takes_too_long_is_ended() {
    let done = run("import time\ntime.sleep(600)", &ToolCall { deadline: Duration::from_secs(3), ..call() }).await;
    assert_eq!(done.exit, None);
    assert_eq!(done.ended_early.as_deref(), Some("stopped: it did not end within 3 s"));
}

#[tokio::test]
async fn what_a_tool_leaves_running_is_ended() {
    let upgrade = "import subprocess\nsubprocess.Popen(['sleep', '600'], start_new_session=True)";
    let call = call();
    let done = run(upgrade, &call).await;
    assert_eq!((done.exit, done.strays), (Some(0), 1), "{}", done.output);
    assert_eq!(shared::subprocess::end_tagged(&call.job.to_string()).unwrap(), 0);
}

#[tokio::test]
async fn a_flood_of_binary_output_is_cut_and_made_text() {
    let upgrade =
        "import sys\nfor _ in range(40):\n    sys.stdout.buffer.write(bytes(range(256)) * 1024)\nprint('the end')";
    let done = run(upgrade, &call()).await;
    assert_eq!(done.exit, Some(0));
    assert!(done.output.contains(" bytes left out …") && done.output.contains("the end"));
    assert!(done.output.len() < 10 << 20 && !done.output.contains('\0'), "{}", done.output.len());
}
