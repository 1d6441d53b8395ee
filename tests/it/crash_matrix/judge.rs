//! What is left after a fault and the recovery, judged without the product.

use super::world::World;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use tests::postgres::dump_differences;
use tests::sqlite::sqlite_differences;

/// The two states that may be there in the end.
#[derive(Debug, Clone)]
pub struct Ends {
    pub before: String,
    /// None where the migration must never arrive.
    pub after: Option<String>,
}

/// What was found.
#[derive(Debug, Clone, Default)]
pub struct Verdict {
    /// The record's word for the job; `none` where it knows of none.
    pub outcome: String,
    /// What must not be, a line each.
    pub faults: Vec<String>,
}

/// Judges a world after the first recovery.
pub fn judge(world: &World<'_>, ends: &Ends) -> Verdict {
    let jobs = history(world);
    let mut verdict = Verdict { outcome: outcome(&real(world, &jobs)), ..Verdict::default() };
    let is_after = place(world, ends, &mut verdict);
    if let Some(is_after) = is_after {
        let agrees = match verdict.outcome.as_str() {
            "succeeded" => is_after,
            "restored" | "refused" | "none" => !is_after,
            "failed" => world.scenario.is_in_place() && !is_after,
            _ => false,
        };
        if !agrees {
            let shown = if is_after { "AFTER" } else { "BEFORE" };
            verdict.faults.push(format!("the record says {}, the database shows {shown}", verdict.outcome));
        }
    }
    if world.scenario.is_in_place() {
        replaced(world, ends, is_after == Some(true), &mut verdict);
    }
    if world.scenario.is_postgres() {
        server(world, &ends.before, &mut verdict);
    } else {
        lock_file(world, &mut verdict);
    }
    processes(world, &jobs, &mut verdict);
    files(world, &mut verdict);
    verdict
}

/// Whether a difference is a sequence that stands further than it did: PostgreSQL itself lets it jump when it crashes.
fn ran_ahead(difference: &str) -> bool {
    let stands = |sign: char| -> Option<i64> {
        let (_, rest) = difference.split_once(&format!("{sign}SELECT pg_catalog.setval("))?;
        rest.split(", ").nth(1)?.parse().ok()
    };
    difference.contains("Type: SEQUENCE SET") && matches!((stands('-'), stands('+')), (Some(was), Some(is)) if was < is)
}

/// What differs between two dumps of a world's databases.
fn differences(world: &World<'_>, expected: &str, shown: &str) -> Vec<String> {
    if !world.scenario.is_postgres() {
        return sqlite_differences(expected, shown);
    }
    let list = dump_differences(expected, shown).into_iter();
    list.filter(|found| !(world.has_crashed.get() && ran_ahead(found))).collect()
}

/// Whether the database shows AFTER; none where it shows neither.
fn place(world: &World<'_>, ends: &Ends, verdict: &mut Verdict) -> Option<bool> {
    let Ok(now) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| world.dump())) else {
        verdict.faults.push("the database cannot be reached under its public name".into());
        return None;
    };
    let from_before = differences(world, &ends.before, &now);
    if from_before.is_empty() {
        return Some(false);
    }
    match &ends.after {
        Some(after) if differences(world, after, &now).is_empty() => return Some(true),
        _ => {}
    }
    verdict.faults.push(format!("the database is neither BEFORE nor AFTER: {}", from_before.join(" | ")));
    None
}

/// The record of jobs, newest first.
pub fn history(world: &World<'_>) -> Vec<Value> {
    if !world.agent.home().join("holdfast-state.db").exists() {
        return Vec::new();
    }
    let run = world.agent.ok(&["history", "--limit", "0", "--json"]);
    run.json().as_array().unwrap().clone()
}

/// The jobs that were asked for in earnest, newest first.
fn real<'a>(world: &World<'_>, jobs: &'a [Value]) -> Vec<&'a Value> {
    let kind = world.scenario.job_kind();
    jobs.iter().filter(|job| job["kind"] == kind && job["spec"]["expected_from"].is_null()).collect()
}

fn outcome(jobs: &[&Value]) -> String {
    match jobs[..] {
        [] => "none".into(),
        [job] => job["state"].as_str().unwrap().into(),
        _ => panic!("more than one job was asked for: {jobs:?}"),
    }
}

/// What a recovery that has nothing to do must leave as it is.
pub fn settled(world: &World<'_>) -> (String, Vec<Value>) {
    let jobs = history(world);
    (world.dump(), real(world, &jobs).into_iter().cloned().collect())
}

/// What was replaced is kept; where nothing was replaced nothing is.
fn replaced(world: &World<'_>, ends: &Ends, is_after: bool, verdict: &mut Verdict) {
    let kept = world.kept();
    let is_before = |name: &String| differences(world, &ends.before, &world.dump_of_kept(name)).is_empty();
    match is_after {
        true if !kept.iter().any(is_before) => verdict.faults.push(format!("what was replaced is in none of {kept:?}")),
        // A second try to commit keeps what it finds once more.
        true if kept.len() > if world.scenario.is_postgres() { 1 } else { 2 } => {
            verdict.faults.push(format!("kept several times: {kept:?}"));
        }
        false if !kept.is_empty() => verdict.faults.push(format!("nothing was replaced, and yet there is {kept:?}")),
        _ => {}
    }
}

fn server(world: &World<'_>, before: &str, verdict: &mut Verdict) {
    let kept = world.kept();
    let server = world.bench.server().borrow();
    let names = server.psql("postgres", "SELECT datname FROM pg_database WHERE NOT datistemplate ORDER BY 1");
    let failed: Vec<&str> = names.lines().filter(|name| name.starts_with("shop__failed_")).collect();
    let is_known = |name: &str| {
        ["postgres", "shop"].contains(&name) || failed.contains(&name) || kept.iter().any(|kept| kept == name)
    };
    for name in names.lines().filter(|name| !is_known(name)) {
        verdict.faults.push(format!("the database {name} is left"));
    }
    let is_swapped = server.psql("postgres", "SELECT oid FROM pg_database WHERE datname = 'shop'") != world.oid;
    if world.scenario.is_in_place() {
        if is_swapped == kept.is_empty() || !failed.is_empty() {
            verdict.faults.push(format!("failed {failed:?}, kept {kept:?}; whether shop was exchanged: {is_swapped}"));
        }
    } else {
        exchanged(world, before, is_swapped, &failed, verdict);
    }
    let locks = server.psql("postgres", "SELECT pid, objid FROM pg_locks WHERE locktype = 'advisory'");
    let sessions = server.psql(
        "postgres",
        "SELECT pid, datname, application_name FROM pg_stat_activity WHERE application_name LIKE 'holdfast%'",
    );
    for (what, left) in [("lock", locks), ("session", sessions)] {
        left.lines().for_each(|line| verdict.faults.push(format!("a {what} is left: {line}")));
    }
}

/// Whether a migration's failed database was exchanged, and only where it had to be.
fn exchanged(world: &World<'_>, before: &str, is_swapped: bool, failed: &[&str], verdict: &mut Verdict) {
    if is_swapped && verdict.outcome != "restored" {
        verdict.faults.push(format!("{}, but another database bears the public name", verdict.outcome));
    }
    if is_swapped != (failed.len() == 1) || failed.len() > 1 {
        verdict.faults.push(format!("failed databases: {failed:?}; whether shop was exchanged: {is_swapped}"));
    }
    // One transaction that failed leaves nothing, and then there is nothing to exchange. One that was committed when the
    // server died, before its tool could say so, does.
    let is_before = |name: &&str| world.dump_of_kept(name) == before;
    if is_swapped && world.scenario.kind == super::world::Kind::PostgresWhole && failed.first().is_some_and(is_before) {
        verdict.faults.push("a database that was as before was exchanged for another one".into());
    }
}

fn lock_file(world: &World<'_>, verdict: &mut Verdict) {
    let lock = world.agent.home().join("shop.db.holdfast-lock");
    if lock.exists() && !Command::new("flock").args(["-n"]).arg(&lock).arg("true").status().unwrap().success() {
        verdict.faults.push("the lock beside the file is held".into());
    }
}

/// No process that works for a job of this world, or in its folders.
fn processes(world: &World<'_>, jobs: &[Value], verdict: &mut Verdict) {
    let tags: BTreeSet<String> =
        jobs.iter().map(|job| format!("HOLDFAST_JOB={}", job["job_id"].as_str().unwrap())).collect();
    for folder in std::fs::read_dir("/proc").unwrap().flatten() {
        let read = |name: &str| std::fs::read(folder.path().join(name)).unwrap_or_default();
        let environment = String::from_utf8_lossy(&read("environ")).into_owned();
        let is_tagged = environment.split('\0').any(|entry| tags.contains(entry));
        if is_tagged || is_here(&folder.path(), world) {
            let command = String::from_utf8_lossy(&read("cmdline")).replace('\0', " ");
            verdict.faults.push(format!("process {} is left: {command}", folder.file_name().display()));
        }
    }
}

fn is_here(process: &Path, world: &World<'_>) -> bool {
    std::fs::read_link(process.join("cwd")).is_ok_and(|cwd| cwd.starts_with(world.agent.home()))
}

/// Processes that work in the folders of this world.
pub fn left_processes(world: &World<'_>) -> Vec<u32> {
    let all = std::fs::read_dir("/proc").unwrap().flatten().filter(|folder| is_here(&folder.path(), world));
    all.filter_map(|folder| folder.file_name().to_str()?.parse().ok()).collect()
}

fn files(world: &World<'_>, verdict: &mut Verdict) {
    let home = world.agent.home();
    for file in below(&home.join("holdfast-spool")) {
        verdict.faults.push(format!("{} is left", file.strip_prefix(home).unwrap().display()));
    }
    let known = ["shop.db", "shop.db-wal", "shop.db-shm", "shop.db.holdfast-lock", "holdfast-state.db", "store"];
    let known = known.iter().chain(&["holdfast-state.db-wal", "holdfast-state.db-shm", "holdfast.toml", "migrations"]);
    let kept: Vec<String> =
        world.kept().into_iter().flat_map(|name| ["", "-wal", "-shm"].map(|end| format!("{name}{end}"))).collect();
    let known = known.chain(&["trace", "holdfast-spool"]).copied().chain(kept.iter().map(String::as_str));
    let known: BTreeSet<&str> = known.collect();
    // SQLite lets the journal of an exclusive connection lie when that is killed after its commit, with an empty head:
    // to everybody it is none, and the next writer takes it away.
    let journal = std::fs::read(home.join("shop.db-journal")).unwrap_or_default();
    let is_spent = journal.iter().take(8).all(|byte| *byte == 0);
    for entry in std::fs::read_dir(home).unwrap().flatten() {
        if is_spent && entry.file_name() == "shop.db-journal" {
            continue;
        }
        if !known.contains(entry.file_name().to_str().unwrap()) {
            verdict.faults.push(format!("{} is left", entry.file_name().display()));
        }
    }
}

/// All files below a folder, and its folders of jobs.
fn below(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() && folder.ends_with("holdfast-spool") {
            found.extend(below(&path));
        } else {
            found.push(path);
        }
    }
    found
}
