//! What `config check` found, for people and for programs.

use super::super::put_line;
use super::check::{DatabaseReport, MigrationsReport, Report, Runs};
use crate::policy::DrillPolicy;
use crate::retention::Verdict;
use jiff::Zoned;
use serde_json::{Value, json};
use shared::config::Time;
use std::time::Duration;

/// Prints the report to stdout, for people.
pub(super) fn text(report: &Report) {
    let policies = &report.policies;
    let file = report.file.as_ref().map_or("none: every key has its default".into(), |path| path.display().to_string());
    line("configuration", &file);
    line("store", &report.store);
    if let Some(why) = &report.store_error {
        line("", &format!("not read: {why}"));
    }
    line("state", &report.state);
    if let Some(queue) = &report.queue {
        line("queue", queue);
    }
    line("spool", &report.spool.display().to_string());
    line("lease", &Time(report.lease).to_string());
    let listen = policies.listen.map_or("nowhere".into(), |listen| listen.to_string());
    let (parallel, deadline) = (policies.parallel, Time(policies.deadline));
    line("agent", &format!("{parallel} at once, each ended after {deadline}; answers on {listen}"));
    for database in &report.databases {
        put_line("");
        print_database(database, report.store_error.is_some());
    }
    put_line("");
    put_line("prune");
    print_runs(&report.prune, "schedule");
    line("  grace", &Time(policies.prune.grace).to_string());
}

fn print_database(database: &DatabaseReport, is_store_unread: bool) {
    put_line(&format!("{}  {}", database.name, database.url));
    match &database.backups {
        Some(runs) => print_runs(runs, "schedule"),
        None => line("  schedule", "none: no backups by itself"),
    }
    match (&database.policy.drill, &database.drills) {
        (DrillPolicy::AfterBackup, _) => line("  drill", "after each backup"),
        (DrillPolicy::Never, _) | (DrillPolicy::At(_), None) => line("  drill", "never by itself"),
        (DrillPolicy::At(_), Some(runs)) => print_runs(runs, "drill"),
    }
    match &database.policy.retention {
        Some(retention) => line("  retention", &retention.to_string()),
        None => line("  retention", "none: everything is kept"),
    }
    for verdict in database.verdicts.iter().flatten() {
        let what = if verdict.keep { "    keep" } else { "    let go" };
        line(what, &format!("{}/{}  {}", database.name, verdict.id, verdict.reasons.join("; ")));
    }
    if database.policy.retention.is_some() && database.verdicts.as_ref().is_some_and(Vec::is_empty) {
        line("", "no backups yet");
    } else if database.policy.retention.is_some() && is_store_unread {
        line("", "what it would keep is not known: the store was not read");
    }
    if let Some(migrations) = &database.migrations {
        print_migrations(migrations);
    }
}

fn print_migrations(migrations: &MigrationsReport) {
    let section = &migrations.section;
    let what = format!(
        "{} in {}, ended after {}",
        section.runner.to_string(),
        migrations.directory.display(),
        section.deadline
    );
    line("  migrations", &what);
    let needed = section.required_env.join(", ");
    if !needed.is_empty() {
        line("", &format!("needs {needed}"));
    }
    if let Some(url) = &migrations.admin_url {
        line("", &format!("fenced as {url}"));
    }
    if let Some(url) = &migrations.scratch_url {
        line("", &format!("rehearsed at {url}"));
    }
}

fn print_runs(runs: &Runs, what: &str) {
    let delay =
        if runs.schedule.jitter().is_zero() { String::new() } else { format!("; begins {} later", Time(runs.delay)) };
    line(&format!("  {what}"), &format!("{}{delay}", runs.schedule));
    for next in &runs.next {
        let utc = next.timestamp().strftime("%Y-%m-%d %H:%M:%S UTC").to_string();
        line("    next", &format!("{} = {utc}", next.strftime("%a %Y-%m-%d %H:%M:%S %:z")));
    }
}

fn line(what: &str, text: &str) {
    put_line(&format!("{what:<14} {text}"));
}

/// The report as a JSON object.
pub(super) fn json(report: &Report) -> Value {
    let policies = &report.policies;
    json!({
        "config": report.file,
        "store": report.store,
        "store_error": report.store_error,
        "state": report.state,
        "queue": report.queue,
        "spool": report.spool,
        "lease_s": report.lease.as_secs(),
        "agent": {
            "parallel": policies.parallel,
            "deadline_s": policies.deadline.as_secs(),
            "listen": policies.listen.map(|listen| listen.to_string()),
        },
        "databases": report.databases.iter().map(database_json).collect::<Vec<_>>(),
        "prune": {
            "schedule": report.prune.schedule.to_string(),
            "delay_s": report.prune.delay.as_secs(),
            "next_runs": runs_json(&report.prune.next),
            "grace_s": policies.prune.grace.as_secs(),
        },
        "warnings": report.warnings,
    })
}

fn database_json(database: &DatabaseReport) -> Value {
    let (backups, drills) = (database.backups.as_ref(), database.drills.as_ref());
    let next = |runs: Option<&Runs>| runs.map(|runs| runs_json(&runs.next)).unwrap_or_default();
    let drill = match (&database.policy.drill, drills) {
        (DrillPolicy::AfterBackup, _) => "after-backup".into(),
        (DrillPolicy::Never, _) | (DrillPolicy::At(_), None) => "never".into(),
        (DrillPolicy::At(_), Some(runs)) => runs.schedule.to_string(),
    };
    let verdicts = database.verdicts.iter().flatten();
    json!({
        "name": database.name,
        "url": database.url.to_string(),
        "identity": database.identity.as_ref().ok().map(ToString::to_string),
        "error": database.identity.as_ref().err(),
        "schedule": backups.map(|runs| runs.schedule.to_string()),
        "timezone": backups.and_then(|runs| runs.schedule.zone().iana_name()),
        "jitter_s": backups.map_or(Duration::ZERO, |runs| runs.schedule.jitter()).as_secs(),
        "delay_s": backups.map_or(Duration::ZERO, |runs| runs.delay).as_secs(),
        "next_runs": next(backups),
        "drill": drill,
        "next_drills": next(drills),
        "retention": database.policy.retention.as_ref().map(ToString::to_string),
        "backups": verdicts.map(|verdict| verdict_json(database, verdict)).collect::<Vec<_>>(),
        "migrations": database.migrations.as_ref().map(migrations_json),
    })
}

fn migrations_json(migrations: &MigrationsReport) -> Value {
    let section = &migrations.section;
    json!({
        "runner": section.runner.to_string(),
        "directory": migrations.directory,
        "workdir": section.workdir,
        "program": section.program.clone().unwrap_or_default(),
        "env": section.env.keys().collect::<Vec<_>>(),
        "pass_env": section.pass_env,
        "required_env": section.required_env,
        "deadline_s": section.deadline.0.as_secs(),
        "admin_url": migrations.admin_url.as_ref().map(ToString::to_string),
        "scratch_url": migrations.scratch_url.as_ref().map(ToString::to_string),
    })
}

fn verdict_json(database: &DatabaseReport, verdict: &Verdict) -> Value {
    json!({
        "id": format!("{}/{}", database.name, verdict.id),
        "keep": verdict.keep,
        "reasons": verdict.reasons,
    })
}

fn runs_json(next: &[Zoned]) -> Vec<Value> {
    let run = |at: &Zoned| json!({ "utc": at.timestamp(), "local": at.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string() });
    next.iter().map(run).collect()
}
