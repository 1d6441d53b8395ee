//! The record of tasks in a local file: a backup goes on without it, and it is never damaged for good.

use super::calls::read;
use crate::kills::common::{complete, shop};
use std::process::Output;
use tests::agent::Agent;
use tests::is_long;
use tests::mutations::Draws;
use tests::strace::traced;

/// Chooses the calls where nobody gives another seed.
const SEED: u64 = 20_261_128;

/// Runs the command under `strace`; returns how many calls of this name on files of the record did their work, and how
/// many were disturbed. Only one thread works on these files, and their names are known: `strace` counts by itself.
fn run(agent: &Agent, arguments: &[&str], name: &str, injection: Option<String>) -> (Output, usize, usize) {
    let output = agent.home().join("calls");
    let files = ["", "-wal", "-shm"].map(|end| agent.home().join(format!("holdfast-state.db{end}")));
    let paths = files.iter().flat_map(|file| ["-P".to_owned(), file.display().to_string()]);
    let traces = ["-e".to_owned(), format!("trace={name}")];
    let injections = injection.into_iter().flat_map(|injection| ["-e".to_owned(), injection]);
    let options: Vec<String> = paths.chain(traces).chain(injections).collect();
    let run = traced(&agent.command(arguments), &output, &options).output().unwrap();
    let calls = read(&output);
    std::fs::remove_file(output).unwrap();
    let is_hit = |call: &super::calls::Call| call.is_injected() || call.result.starts_with('?');
    let done = calls.iter().filter(|call| call.is_done()).count();
    (run, done, calls.iter().filter(|call| is_hit(call)).count())
}

/// All numbers in a long run; else one that is drawn.
fn numbers(count: usize, draws: &mut Draws) -> Vec<usize> {
    if is_long() { (1..=count).collect() } else { vec![1 + draws.below(count)] }
}

#[test]
fn a_record_whose_nth_call_fails_stops_no_backup_and_is_well_the_next_time() {
    let mut draws = Draws::from_environment_or(SEED);
    let (source, agent) = (shop(4096, 100), Agent::new());
    let url = source.url();
    let arguments = ["backup", &url];
    agent.ok(&arguments);
    let mut hits = 0;
    for (name, least) in [("openat", 3), ("pwrite64", 20), ("fsync", 2), ("ftruncate", 1)] {
        let (undisturbed, count, _) = run(&agent, &arguments, name, None);
        assert!(undisturbed.status.success(), "{}", String::from_utf8_lossy(&undisturbed.stderr));
        assert!(count >= least, "{count} calls of {name}, fewer than {least}");
        let errors = ["error=EIO", "error=ENOSPC"];
        let errors = if is_long() { errors.to_vec() } else { vec![*draws.pick(&errors)] };
        for fault in ["signal=SIGKILL"].into_iter().chain(errors) {
            for number in numbers(count, &mut draws) {
                let injection = format!("inject={name}:{fault}:when={number}");
                let (run, _, disturbed) = run(&agent, &arguments, name, Some(injection));
                hits += usize::from(disturbed > 0);
                let said = String::from_utf8_lossy(&run.stderr).into_owned();
                let place = format!("{name} {number} of {count}, {fault}, HOLDFAST_TEST_SEED={}", draws.seed());
                println!("{place}: {:?}, {}", run.status.code(), said.lines().next().unwrap_or_default());
                assert!(!said.contains("panicked at"), "{place}: {said}");
                if fault != "signal=SIGKILL" {
                    assert_eq!(run.status.code(), Some(0), "{place}: {said}");
                    let id = String::from_utf8_lossy(&run.stdout).trim().to_owned();
                    assert_eq!(complete(&agent).last(), Some(&id), "{place}: {said}");
                }
                let again = agent.ok(&arguments);
                assert!(!again.stderr.contains("recorded"), "{place}: {}", again.stderr);
                let tasks = agent.json(&["history", "--limit", "1"]);
                assert_eq!(tasks[0]["state"], "succeeded", "{place}: {tasks}");
            }
        }
    }
    assert!(hits >= 4, "only {hits} runs were disturbed");
}
