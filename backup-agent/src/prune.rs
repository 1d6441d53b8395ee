//! Removes what no backup needs any more.

mod live;

use crate::error::Error;
use crate::guards::{GuardOptions, time_refusals};
use crate::repository::{Listed, MIN_GRACE, Repository, later, layout};
use futures_util::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use live::{Known, Live};
use serde::Serialize;
use shared::crash_point;
use shared::model::DatabaseName;
use shared::store::{ObjectMeta, Store};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

/// What may be decided about one prune.
#[derive(Debug, Clone)]
pub struct PruneOptions {
    /// How old a pack that nobody needs must be; at least [`MIN_GRACE`].
    pub grace: Duration,
    /// How far apart the backups of a database are made, where that is known.
    pub intervals: BTreeMap<DatabaseName, Duration>,
    /// Directory for notes of this machine.
    pub spool: PathBuf,
}

/// What a prune would remove, as a value: printing it is the dry run.
#[derive(Debug, Clone, Default, Serialize)]
pub struct PrunePlan {
    /// Packs to be removed.
    pub packs: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Forgotten backups whose time is over.
    pub trash: usize,
    /// Left-over small objects: marks of backups that are gone, notes about packs that are gone, leases of writers that
    /// died, probes.
    pub leftovers: usize,
    /// Packs some backup needs.
    pub needed_packs: usize,
    /// Packs nobody needs that are younger than the grace time.
    pub young_packs: usize,
    /// Their bytes.
    pub young_bytes: u64,
    /// Why nothing may be removed.
    pub refusals: Vec<String>,
    #[serde(skip)]
    doomed: Doomed,
}

/// Keys of what goes.
#[derive(Debug, Clone, Default)]
struct Doomed {
    packs: Vec<ObjectMeta>,
    trash: Vec<String>,
    leftovers: Vec<String>,
    now: Timestamp,
}

/// What a prune removed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Pruned {
    /// Packs.
    pub packs: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Forgotten backups whose time was over.
    pub trash: usize,
    /// Left-over small objects.
    pub leftovers: usize,
    /// Packs that were spared, because somebody needs them now.
    pub spared: usize,
}

/// Packs are removed so many at a time; who needs packs is read anew before each batch.
const BATCH: usize = 64;
/// Deletions under way at once.
const PARALLEL: usize = 8;

/// Finds out what may go; removes nothing. Fails where anything that names packs cannot be read.
pub async fn plan(repository: &Repository, options: &PruneOptions) -> Result<PrunePlan, Error> {
    if options.grace < MIN_GRACE {
        return Err(Error::refused("the grace time of prune is at least 24h", None));
    }
    let now = repository.store_now().await?;
    let mut backups: Vec<Listed> = Vec::new();
    for database in repository.databases().await? {
        backups.extend(repository.backups(&database).await?);
    }
    let guards = GuardOptions { intervals: options.intervals.clone(), spool: options.spool.clone() };
    let refusals = time_refusals(repository, now, &backups, &guards).await?;
    let store = repository.store();
    // What is listed before the manifests: whatever it is needed for is there when they are read.
    let packs = store.list(layout::PACKS).await?;
    let marks = store.list(layout::MARKS).await?;
    let notes = store.list(layout::DAMAGED).await?;
    let leases = store.list(layout::LEASES).await?;
    let live = Live::read(repository, &mut Known::default(), now, options.grace).await?;
    let is_old = |meta: &ObjectMeta| later(meta.modified, options.grace) <= now;
    let mut plan = PrunePlan { refusals, ..Default::default() };
    let mut there = BTreeSet::new();
    for meta in packs {
        let Some(uuid) = layout::parse_pack(&meta.key) else { continue };
        there.insert(uuid.to_owned());
        if live.needs(uuid) {
            plan.needed_packs += 1;
        } else if is_old(&meta) {
            plan.doomed.packs.push(meta);
        } else {
            plan.young_packs += 1;
            plan.young_bytes += meta.size_bytes;
        }
    }
    let gone: BTreeSet<&str> = plan.doomed.packs.iter().filter_map(|meta| layout::parse_pack(&meta.key)).collect();
    let is_left_over = |meta: &&ObjectMeta| match layout::parse_any_mark(&meta.key) {
        Some((database, id, _)) => is_old(meta) && !live.knows(&database, &id),
        None => match layout::parse_damaged(&meta.key) {
            Some(uuid) => gone.contains(uuid) || (!there.contains(uuid) && !live.needs(uuid)),
            None => is_old(meta) && (layout::is_lease(&meta.key) || layout::is_probe(&meta.key)),
        },
    };
    let all = marks.iter().chain(&notes).chain(&leases);
    plan.doomed.leftovers = all.filter(is_left_over).map(|meta| meta.key.clone()).collect();
    plan.doomed.trash = live.expired().to_vec();
    plan.doomed.now = now;
    plan.packs = plan.doomed.packs.len();
    plan.bytes = plan.doomed.packs.iter().map(|meta| meta.size_bytes).sum();
    plan.trash = plan.doomed.trash.len();
    plan.leftovers = plan.doomed.leftovers.len();
    Ok(plan)
}

/// Removes what a plan names and what still nobody needs; refuses a plan with refusals.
///
/// Safe to repeat, and beside another prune; a crash leaves objects nobody needs.
pub async fn apply(repository: &Repository, plan: &PrunePlan, options: &PruneOptions) -> Result<Pruned, Error> {
    if !plan.refusals.is_empty() {
        return Err(Error::refused(plan.refusals.join("; "), None));
    }
    let (store, doomed) = (repository.store(), &plan.doomed);
    let mut known = Known::default();
    let mut pruned = Pruned::default();
    for batch in doomed.packs.chunks(BATCH) {
        // The plan's time makes everything look younger than it is, which spares more.
        let live = Live::read(repository, &mut known, doomed.now, options.grace).await?;
        let unneeded = |meta: &&ObjectMeta| layout::parse_pack(&meta.key).is_some_and(|uuid| !live.needs(uuid));
        let going: Vec<&ObjectMeta> = batch.iter().filter(unneeded).collect();
        pruned.spared += batch.len() - going.len();
        crash_point::reached("prune: before packs go");
        remove(store, going.iter().map(|meta| &*meta.key)).await?;
        crash_point::reached("prune: after packs are gone");
        pruned.packs += going.len();
        pruned.bytes += going.iter().map(|meta| meta.size_bytes).sum::<u64>();
    }
    // Notes and marks after what they are about, and the trash last: it tells a later prune what was needed.
    let live = Live::read(repository, &mut known, doomed.now, options.grace).await?;
    let still_left = |key: &&String| match (layout::parse_any_mark(key), layout::parse_damaged(key)) {
        (Some((database, id, _)), _) => !live.knows(&database, &id),
        (_, Some(uuid)) => !live.needs(uuid),
        _ => true,
    };
    let leftovers: Vec<&str> = doomed.leftovers.iter().filter(still_left).map(String::as_str).collect();
    crash_point::reached("prune: before left-overs go");
    remove(store, leftovers.iter().copied()).await?;
    crash_point::reached("prune: after left-overs are gone");
    pruned.leftovers = leftovers.len();
    let trash: Vec<&str> = live.expired().iter().filter(|key| doomed.trash.contains(key)).map(String::as_str).collect();
    crash_point::reached("prune: before the trash goes");
    remove(store, trash.iter().copied()).await?;
    crash_point::reached("prune: after the trash is gone");
    pruned.trash = trash.len();
    Ok(pruned)
}

async fn remove<'a>(store: &dyn Store, keys: impl Iterator<Item = &'a str>) -> Result<(), Error> {
    let deletions: Vec<_> = keys.map(|key| store.delete(key)).collect();
    stream::iter(deletions).buffer_unordered(PARALLEL).try_collect::<()>().await.map_err(Error::from)
}
