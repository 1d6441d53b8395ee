//! SQLite: the tool works on a second, fresh copy, which becomes the database in one commit.
//!
//! Until that commit's intent is in the journal Holdfast has written nothing to the database. A failure ends
//! `restored`: the database still shows the schema and the revision it had, and rows the application added stay.

use super::facts::{Applying, BackedUp, Rehearsed, State, route_words, step};
use super::halt::{Halt, Reason};
use super::steps::{self, Checked, Kept, judge, open_backup, run_tool};
use super::{Site, Success};
use crate::Error;
use serde_json::json;
use shared::connect;
use shared::crash_point;
use shared::engine::sqlite::live::{Change, Held, SqliteLive, Until};
use shared::model::{DatabaseUrl, Fingerprint};
use std::path::PathBuf;
use std::time::Instant;

/// Applies a rehearsed migration.
pub async fn apply(
    site: &mut Site,
    live: &SqliteLive,
    checked: &Checked,
    backed_up: &BackedUp,
    rehearsed: &Rehearsed,
) -> Result<Success, Halt> {
    let kept = open_backup(site, backed_up).await?;
    let note = Applying::new(&backed_up.backup, &backed_up.state, &rehearsed.after);
    site.ledger.intent(step::APPLY, &note).await?;
    site.ledger.rely_on_journal();
    match changed(site, live, checked, &kept, rehearsed).await {
        Ok(()) => {
            crash_point::reached("promote: done, not yet told");
            steps::release_earlier(site, &backed_up.backup).await;
            Ok(Success::applied(rehearsed, backed_up.backup.clone()))
        }
        Err(Halt::Refused(reason)) => Err(as_it_was(site, checked, &kept, reason).await),
        Err(other) => Err(other),
    }
}

async fn changed(
    site: &mut Site,
    live: &SqliteLive,
    checked: &Checked,
    kept: &Kept,
    rehearsed: &Rehearsed,
) -> Result<(), Halt> {
    // Most databases are quiet for the moment it takes; only where one is not, it is kept quiet.
    for until in [Until::Held, Until::Committed] {
        let (copy, mut change) = begin(site, live, until).await?;
        let judged = on_copy(site, checked, kept, rehearsed, &copy).await;
        site.blocked = change.blocked_since().map(|since| since.elapsed());
        let after = judged?;
        site.begins("promote");
        if change.hold().await? == Held::Moved {
            site.story.detail("the application wrote meanwhile: once more, and it waits");
            continue;
        }
        return commit(site, checked, kept, change, after).await;
    }
    Err(Halt::refused("others wrote although they were kept from it"))
}

async fn begin(site: &Site, live: &SqliteLive, until: Until) -> Result<(PathBuf, Change), Halt> {
    site.begins("copy");
    let begun = Instant::now();
    let folder = site.folder().join("apply");
    let no_folder = |error| Error::failed(format!("{} cannot be made: {error}", folder.display()));
    std::fs::create_dir_all(&folder).map_err(no_folder)?;
    let copy = folder.join(live.path().file_name().unwrap_or_default());
    let change = site.stop.or(live.begin(&copy, until, site.patience)).await?;
    crash_point::reached("promote: a copy is made");
    let said = if change.blocked_since().is_some() {
        "taken; the application waits"
    } else {
        "taken; the application goes on"
    };
    site.story.step("copy", said, begun.elapsed());
    Ok((copy, change))
}

/// Runs the tool on the copy and judges what it did there.
async fn on_copy(
    site: &Site,
    checked: &Checked,
    kept: &Kept,
    rehearsed: &Rehearsed,
    copy: &std::path::Path,
) -> Result<State, Halt> {
    let url = DatabaseUrl::Sqlite(copy.to_owned());
    let engine = connect::engine(url.clone());
    let (rows_before, before) = site.look(&*engine, &checked.history, &*kept.stored).await?;
    if before != kept.note.state {
        return Err(Halt::refused(format!("it was changed meanwhile: it stands at {} now", before.at())));
    }
    let page_size = engine.query("PRAGMA page_size").await?;
    let way = checked.route.direction;
    let answers = steps::ask_before(site, &*engine, way).await?;
    site.begins("apply");
    let run = run_tool(site, &url, &checked.route, "apply").await?;
    if let Some(reason) = judge(site, &run) {
        return Err(Halt::Refused(reason));
    }
    site.story.step("apply", &route_words(&checked.route), run.duration);
    site.begins("verify");
    let begun = Instant::now();
    let (rows_after, after) = site.look(&*engine, &checked.history, &*kept.stored).await?;
    is_after(rehearsed, &after, &rows_before, &rows_after)?;
    if engine.query("PRAGMA page_size").await? != page_size {
        return Err(Halt::refused("the migration changed the page size, which a live database cannot take over"));
    }
    site.story.step("verify", "revision, schema and untouched tables as rehearsed", begun.elapsed());
    steps::ask_after(site, &*engine, way, &answers).await?;
    Ok(after)
}

/// What AFTER means: never what the tool printed.
pub fn is_after(
    rehearsed: &Rehearsed,
    after: &State,
    rows_before: &Fingerprint,
    rows_after: &Fingerprint,
) -> Result<(), Halt> {
    if after.heads != rehearsed.after.heads {
        let wanted = rehearsed.after.at();
        return Err(Halt::refused(format!("it ended well, but stands at {} instead of {wanted}", after.at())));
    }
    if after.schema != rehearsed.after.schema {
        return Err(Halt::refused("the schema is not the one the rehearsal led to"));
    }
    let moved: Vec<&str> = rehearsed
        .unchanged
        .iter()
        .filter(|name| rows_before.tables.get(*name) != rows_after.tables.get(*name))
        .map(String::as_str)
        .collect();
    if moved.is_empty() {
        return Ok(());
    }
    Err(Halt::refused(format!("rows changed that the rehearsal left as they were: {}", moved.join(", "))))
}

async fn commit(site: &mut Site, checked: &Checked, kept: &Kept, change: Change, after: State) -> Result<(), Halt> {
    let begun = Instant::now();
    // Held now: whoever took the task for lost would wait for this lock, so the lease is looked at once more.
    site.ledger.still_ours().await?;
    let note = Applying::new(&kept.note.backup, &kept.note.state, &after);
    site.ledger.intent(step::COMMIT, &note).await?;
    let committed = change.commit().await;
    let (_, now) =
        site.look(&*site.engine, &checked.history, &*kept.stored).await.map_err(|halt| unseen(halt, kept))?;
    if now != after {
        let why = committed.err().map(|error| error.to_string()).unwrap_or_else(|| "it shows another state".into());
        return Err(Halt::refused(format!("the change did not become the database: {why}")));
    }
    site.ledger.done(step::COMMIT, &json!({"at": now.heads})).await?;
    let blocked = committed.unwrap_or_else(|_| begun.elapsed());
    let said = format!("in one commit; nobody could write for {} ms", blocked.as_millis());
    site.story.step("promote", &said, begun.elapsed());
    site.blocked = Some(blocked);
    Ok(())
}

/// A database that cannot be looked at after a commit is in a state nobody has seen.
fn unseen(halt: Halt, kept: &Kept) -> Halt {
    match halt {
        Halt::Refused(reason) => Halt::Stuck(
            Reason::new(format!("after the commit the database could not be looked at: {}", reason.message))
                .with_hint(format!("backup {} shows it as it was", kept.note.backup)),
        ),
        other => other,
    }
}

/// Says what a failure means: the database must still show what it showed.
pub(super) async fn as_it_was(site: &Site, checked: &Checked, kept: &Kept, reason: Reason) -> Halt {
    let now = match site.look(&*site.engine, &checked.history, &*kept.stored).await {
        Ok((_, now)) => now,
        Err(halt) => return unseen(halt, kept),
    };
    if now == kept.note.state {
        return Halt::Restored(reason);
    }
    Halt::Stuck(
        Reason::new(format!(
            "{}; and {} is no longer as it was: it stands at {}, although nothing was written to it here",
            reason.message,
            site.name,
            now.at()
        ))
        .with_hint(format!("backup {} shows it as it was", kept.note.backup)),
    )
}
