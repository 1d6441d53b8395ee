//! The rehearsal: the backup restored, proven, and migrated, away from the database.

use super::back_up::{Kept, open_backup};
use super::checks::{ask_after, ask_before};
use super::preflight::Checked;
use super::route::{agrees, turned_out};
use super::scratch::{Purpose, ScratchSite};
use super::tool::{judge, run_tool};
use super::violations::with_violations;
use crate::around::checks::Answer;
use crate::effect::Effects;
use crate::migration::facts::{After, BackedUp, Rehearsed, State, heads, route_words, step, written_by};
use crate::migration::halt::{Halt, Reason};
use crate::migration::site::{Live, Site};
use crate::runner::ToolRun;
use backup_agent::restore::{RestoreOptions, restore};
use shared::engine::postgres::{Globals, PostgresLive, differences};
use shared::model::{DatabaseUrl, Fingerprint, Profile, Structure};
use std::time::Instant;

/// Restores backup A beside the database, proves it, runs the tool there and says what it did.
///
/// The copy is removed, however it ends, while the migration goes on. Afterwards the database itself is looked at: a tool
/// that went around us has moved it, and then a person is needed.
pub async fn rehearse(site: &mut Site, checked: &Checked, backed_up: &BackedUp) -> Result<Rehearsed, Halt> {
    site.begins("rehearse");
    let kept = open_backup(site, backed_up).await?;
    let scratch = ScratchSite::choose(site, Purpose::Rehearsal).await?;
    let globals = match site.live().await? {
        Live::Postgres(live) => Some((live.globals().await?, live)),
        Live::Sqlite(_) => None,
    };
    let ran = migrate_copy(site, checked, &kept, &scratch).await;
    // Two databases to look at, one on each core: the copy, and the one that must be as it was.
    let begun = Instant::now();
    let (rehearsed, live) = tokio::join!(
        async { look_at_copy(site, checked, &kept, &scratch, ran?).await },
        site.look(&*site.engine, &checked.history, &*kept.stored)
    );
    site.pace.look = begun.elapsed();
    let removed = scratch.remove(site);
    let outside = match globals {
        Some((before, live)) => nothing_outside(&before, &live.globals().await?),
        None => None,
    };
    untouched(site, &kept, live?, outside.is_some())?;
    let rehearsed = both(rehearsed, outside)?;
    removed?;
    site.ledger.done(step::REHEARSE, &rehearsed).await?;
    Ok(rehearsed)
}

/// A run of the tool on the copy, and the copy as it was before.
struct Ran {
    run: ToolRun,
    before: Profile,
    answers: Vec<Option<Answer>>,
}

async fn migrate_copy(site: &mut Site, checked: &Checked, kept: &Kept, scratch: &ScratchSite) -> Result<Ran, Halt> {
    let begun = Instant::now();
    let repository = site.world.repository().await?;
    let options = RestoreOptions::default();
    let work = restore(&repository, kept.stored.clone(), &*scratch.engine, &options, site.load_progress());
    let restored = site.stop.or(work).await?;
    if !restored.proven {
        return Err(Halt::refused(format!(
            "backup {} came back, but not all of it: {}",
            restored.backup,
            restored.defects.join("; ")
        )));
    }
    site.pace.restore = begun.elapsed();
    site.story.step("restore", "backup A beside the database, proven equal", site.pace.restore);
    if let DatabaseUrl::Postgres(url) = &scratch.url {
        for line in PostgresLive::neutralise(url).await? {
            site.story.detail(&line);
        }
    }
    scratch.engine.number_apart().await?;
    let before = scratch.engine.profile(2).await?;
    agrees(site, &checked.route, &scratch.url).await?;
    let answers = ask_before(site, &*scratch.engine, checked.route.direction).await?;
    let run = run_tool(site, &scratch.url, &checked.route, "rehearse").await?;
    if let Some(reason) = judge(site, &run) {
        let reason = with_violations(site, &*scratch.engine, &run.output, reason).await;
        return Err(in_rehearsal(Halt::Refused(reason)));
    }
    Ok(Ran { run, before, answers })
}

async fn look_at_copy(
    site: &Site,
    checked: &Checked,
    kept: &Kept,
    scratch: &ScratchSite,
    Ran { run, before, answers }: Ran,
) -> Result<Rehearsed, Halt> {
    let current = site.runner.current(&*scratch.engine, &checked.history).await?;
    if !current.faults.is_empty() {
        let tool = site.runner.name();
        let message = format!("what {tool} wrote down in the rehearsal is not good: {}", current.faults.join("; "));
        return Err(Halt::refused(message));
    }
    let (found, after) = site.look(&*scratch.engine, &checked.history, &*kept.stored).await?;
    arrived(site, checked, &after)?;
    if let (Some(server), DatabaseUrl::Postgres(url)) = (scratch.server(), &scratch.url) {
        let left = server.left_over_in(url).await?;
        if !left.is_empty() {
            return Err(Halt::refused(format!("the rehearsal left something over: {}", left.join("; "))));
        }
    }
    let mut own_tables = checked.own_tables.clone();
    own_tables.extend(current.own_tables);
    let effects = Effects::between(&before, &scratch.engine.profile(2).await?, &own_tables);
    let route = turned_out(site.runner.name(), &checked.route, &kept.note.state, &after, &effects)?;
    let said = format!("{} in {:.2} s", route_words(&route), run.duration.as_secs_f64());
    site.story.step("rehearse", &said, run.duration);
    for line in effects.lines() {
        site.story.detail(&line);
    }
    // Where nothing was done nothing is judged: a table that had to be empty has rows of the application by now.
    if !route.revisions.is_empty() {
        let way = checked.route.direction;
        ask_after(site, &*scratch.engine, way, &answers).await.map_err(in_rehearsal)?;
    }
    let unchanged = unchanged(kept, &found);
    let tool_s = run.duration.as_secs_f64();
    let leaves = Some(leaves(kept, &found, &after));
    Ok(Rehearsed { route, after, leaves, unchanged, effects, before, tool_s })
}

fn in_rehearsal(halt: Halt) -> Halt {
    match halt {
        Halt::Refused(reason) => {
            Halt::Refused(Reason { message: format!("the rehearsal failed: {}", reason.message), ..reason })
        }
        other => other,
    }
}

/// What is known later of how a migration leaves the database: as the copy was left.
fn leaves(kept: &Kept, found: &Fingerprint, after: &State) -> After {
    let header = &kept.stored.manifest().header;
    let written_by = written_by(header.engine, &header.server_version, header.client_version.as_deref());
    After { heads: after.heads.clone(), structure: Structure::from(found).digest(), written_by }
}

/// A tool that ends well without having done what it should has not done well.
fn arrived(site: &Site, checked: &Checked, after: &State) -> Result<(), Halt> {
    if after.heads == checked.route.to || checked.route.open {
        return Ok(());
    }
    Err(Halt::refused(format!(
        "the rehearsal ended well, but its copy stands at {} instead of {}: {} did not do what it was told to",
        after.at(),
        heads(&checked.route.to),
        site.runner.name()
    )))
}

/// Tables whose rows are the same as in the backup.
fn unchanged(kept: &Kept, found: &Fingerprint) -> Vec<String> {
    use shared::engine::DumpSource;
    let before = &kept.stored.fingerprint().tables;
    let same = before.iter().filter(|(name, table)| found.tables.get(*name) == Some(table));
    same.map(|(name, _)| name.clone()).collect()
}

/// The database itself must stand where backup A shows it. Owner, grants and settings that are told apart anyway are no
/// sign of a tool that went around us: a migration that says the database's name changes them.
fn untouched(site: &Site, kept: &Kept, live: (Fingerprint, State), told_apart: bool) -> Result<(), Halt> {
    use shared::engine::DumpSource;
    let (found, now) = live;
    let before = &kept.note.state;
    let same_inside = || inside(kept.stored.fingerprint()).eq(inside(&found));
    if now == *before || (told_apart && now.heads == before.heads && same_inside()) {
        return Ok(());
    }
    let moved = if now.heads == before.heads {
        "its schema is another one".to_owned()
    } else {
        format!("it stands at {} instead of {}", now.at(), before.at())
    };
    Err(Halt::Stuck(
        Reason::new(format!(
            "{} moved while the copy was rehearsed on: {moved}; {} went around the address it was given, or somebody else migrated",
            site.name,
            site.runner.name()
        ))
        .with_hint(format!("backup {} shows it as it was", kept.note.backup)),
    ))
}

/// The schema without what is said of the database as a whole.
fn inside(fingerprint: &Fingerprint) -> impl Iterator<Item = &String> {
    fingerprint.schema.iter().filter(|statement| !statement.contains(" DATABASE :database"))
}

/// Two failures are both told.
fn both(rehearsed: Result<Rehearsed, Halt>, outside: Option<Reason>) -> Result<Rehearsed, Halt> {
    match (rehearsed, outside) {
        (rehearsed, None) => rehearsed,
        (Ok(_), Some(outside)) => Err(Halt::Refused(outside)),
        (Err(Halt::Refused(first)), Some(outside)) => {
            let hints: Vec<String> = first.hint.into_iter().chain(outside.hint).collect();
            let message = format!("{}; and {}", first.message, outside.message);
            Err(Halt::Refused(Reason { message, hint: (!hints.is_empty()).then(|| hints.join("; ")) }))
        }
        (Err(other), Some(_)) => Err(other),
    }
}

/// Roles and settings of the whole server are not in the copy: what the rehearsal did to them is there already.
fn nothing_outside(before: &Globals, after: &Globals) -> Option<Reason> {
    let changes = differences(before, after);
    if changes.is_empty() {
        return None;
    }
    let what: Vec<&str> = changes.iter().map(|change| change.what.as_str()).collect();
    let undo: Vec<&str> = changes.iter().filter_map(|change| change.undo_sql.as_deref()).collect();
    let what = what.join("; ");
    let message = format!("the rehearsal changed what is not in the database, or somebody else did meanwhile: {what}");
    Some(Reason::new(message).with_hint(format!("Holdfast undoes nothing there; to undo it: {}", undo.join("; "))))
}
