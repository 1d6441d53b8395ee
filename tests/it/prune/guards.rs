//! Every guard, alone.

use super::*;
use backup_agent::forget::Verdict;

/// The one refusal of a prune.
#[track_caller]
fn only(plan: &PrunePlan, expected: &str) {
    assert!(matches!(plan.refusals.as_slice(), [one] if one.contains(expected)), "{:?}", plan.refusals);
}

#[tokio::test]
async fn the_newest_complete_and_the_newest_proven_backup_are_never_forgotten() {
    let world = World::new().await;
    let [old, proven, middle, newest] =
        [world.backup().await, world.backup().await, world.backup().await, world.backup().await];
    world.repository.mark(&world.shop(), &old, MarkKind::Proven, "drill").await.unwrap();
    world.repository.mark(&world.shop(), &proven, MarkKind::Proven, "drill").await.unwrap();
    for (id, why) in [(&newest, "the newest complete backup"), (&proven, "the newest proven backup")] {
        let plan = world.forget_plan(&[id]).await;
        assert!(plan.refusals[0].contains(why), "{:?}", plan.refusals);
        let refused = forget::apply(&world.repository, &plan, GRACE).await.unwrap_err();
        assert_eq!(refused.exit_code(), 3);
    }
    world.forget(&old).await;
    world.forget(&middle).await;
    assert!(world.is_complete(&proven).await && world.is_complete(&newest).await);
}

#[tokio::test]
async fn what_becomes_protected_after_the_plan_stays() {
    let world = World::new().await;
    let (old, newest) = (world.backup().await, world.backup().await);
    let plan = world.forget_plan(&[&old]).await;
    world.repository.mark(&world.shop(), &old, MarkKind::Proven, "drill").await.unwrap();
    let done = forget::apply(&world.repository, &plan, GRACE).await.unwrap();
    assert!(done.forgotten.is_empty() && done.kept[0].reasons == ["the newest proven backup"], "{done:?}");
    let _ = newest;
}

#[tokio::test]
async fn many_at_once_need_a_person_s_yes() {
    let world = World::new().await;
    let mut ids = Vec::new();
    for _ in 0..6 {
        ids.push(world.backup().await);
    }
    let verdicts = |count: usize| -> Vec<Verdict> {
        let verdict = |(at, id): (usize, &BackupId)| Verdict { id: id.clone(), keep: at >= count, reasons: vec![] };
        ids.iter().enumerate().map(verdict).collect()
    };
    let plan = async |count, yes| {
        forget::forget_plan(&world.repository, &world.shop(), verdicts(count), yes, &world.guards()).await.unwrap()
    };
    assert_eq!(plan(3, false).await.refusals, Vec::<String>::new());
    assert_eq!(plan(4, true).await.refusals, Vec::<String>::new());
    let refused = plan(4, false).await;
    assert!(refused.refusals[0].contains("4 of 6 backups of shop would go"), "{:?}", refused.refusals);
    assert!(forget::apply(&world.repository, &refused, GRACE).await.is_err());
    // Even all of them leave the newest.
    let all = plan(6, true).await;
    assert_eq!(all.forgotten().count(), 5);
    assert_eq!(all.backups[5].reasons, ["the newest complete backup"]);
}

#[tokio::test]
async fn a_grace_time_below_a_day_is_refused() {
    let world = World::new().await;
    let options = PruneOptions { grace: DAY - Duration::from_secs(1), ..world.options() };
    assert_eq!(prune::plan(&world.repository, &options).await.unwrap_err().exit_code(), 3);
}

#[tokio::test]
async fn clocks_that_differ_stop_prune() {
    let world = World::new().await;
    world.backup().await;
    let here = FakeClock::at(world.clock.now() + SignedDuration::from_mins(6));
    let other = world.repository.clone().with_clock(Arc::new(here));
    only(&prune::plan(&other, &world.options()).await.unwrap(), "differ by more than 5 minutes");
    assert_eq!(world.plan().await.unwrap().refusals, Vec::<String>::new());
}

#[tokio::test]
async fn a_backup_in_the_future_stops_prune_and_retention() {
    let world = World::new().await;
    world.backup().await;
    world.clock.set_wall(world.clock.now() + SignedDuration::from_hours(7));
    let id = world.backup().await;
    world.clock.set_wall(world.clock.now() - SignedDuration::from_hours(7));
    only(&world.plan().await.unwrap(), "lies in the future");
    let plan = forget::forget_plan(&world.repository, &world.shop(), vec![], false, &world.guards()).await.unwrap();
    assert!(plan.refusals[0].contains(id.as_str()), "{:?}", plan.refusals);
}

#[tokio::test]
async fn a_database_whose_backups_stopped_coming_keeps_what_it_has() {
    let world = World::new().await;
    world.backup().await;
    let mut options = world.options();
    options.intervals.insert(world.shop(), DAY);
    options.intervals.insert("other".parse().unwrap(), HOUR);
    // Noted every day, so that the clock's own guard is content.
    for _ in 0..2 {
        assert_eq!(prune::plan(&world.repository, &options).await.unwrap().refusals, Vec::<String>::new());
        world.clock.advance(DAY);
    }
    world.clock.advance(DAY + HOUR);
    only(&prune::plan(&world.repository, &options).await.unwrap(), "more than three intervals ago");
    let guards = GuardOptions { intervals: options.intervals.clone(), ..world.guards() };
    let plan = forget::forget_plan(&world.repository, &world.shop(), vec![], false, &guards).await.unwrap();
    assert!(plan.refusals[0].contains("more than three intervals ago"), "{:?}", plan.refusals);
}

#[tokio::test]
async fn a_database_without_any_complete_backup_stops_prune() {
    let world = World::new().await;
    let id = world.backup().await;
    let mark = world.keys(&layout::marks_of_backup(&world.shop(), &id)).remove(0);
    world.repository.store().delete(&mark).await.unwrap();
    let mut options = world.options();
    options.intervals.insert(world.shop(), DAY);
    only(&prune::plan(&world.repository, &options).await.unwrap(), "no backup of shop is complete");
}

#[tokio::test]
async fn a_jump_of_the_store_s_clock_stops_prune_until_a_new_backup_is_complete() {
    for (back, expected) in [(false, true), (true, true)] {
        let world = World::new().await;
        world.backup().await;
        assert_eq!(world.plan().await.unwrap().refusals, Vec::<String>::new());
        let jump = SignedDuration::from_hours(24 * 40);
        world.clock.set_wall(if back { world.clock.now() - jump } else { world.clock.now() + jump });
        let refusals = world.plan().await.unwrap().refusals;
        assert_eq!(refusals.iter().any(|why| why.contains("has jumped")), expected, "{refusals:?}");
        assert!(world.prune().await.is_err(), "it was noted once, but counts until a backup is made");
        if !back {
            world.backup().await;
            assert_eq!(world.plan().await.unwrap().refusals, Vec::<String>::new());
        }
    }
}

#[tokio::test]
async fn time_that_really_passed_is_no_jump_asleep_or_awake() {
    let world = World::new().await;
    world.backup().await;
    world.plan().await.unwrap();
    world.clock.advance(30 * DAY);
    assert_eq!(world.plan().await.unwrap().refusals, Vec::<String>::new());
    world.clock.suspend(30 * DAY);
    assert_eq!(world.plan().await.unwrap().refusals, Vec::<String>::new());
}

#[tokio::test]
async fn after_a_start_of_the_machine_more_than_two_intervals_count_as_a_jump() {
    for (interval, passed, refused) in
        [(None, 47, false), (None, 49, true), (Some(DAY * 7), 24 * 13, false), (Some(DAY * 7), 24 * 15, true)]
    {
        let world = World::new().await;
        world.backup().await;
        let mut options = world.options();
        options.intervals.extend(interval.map(|interval| ("other".parse().unwrap(), interval)));
        prune::plan(&world.repository, &options).await.unwrap();
        world.clock.reboot();
        world.clock.advance(HOUR * passed);
        let refusals = prune::plan(&world.repository, &options).await.unwrap().refusals;
        assert_eq!(!refusals.is_empty(), refused, "{interval:?} {passed} h: {refusals:?}");
        if refused {
            world.backup().await;
            let refusals = prune::plan(&world.repository, &options).await.unwrap().refusals;
            assert_eq!(refusals, Vec::<String>::new());
        }
    }
}

#[tokio::test]
async fn a_spool_that_cannot_be_read_or_written_stops_prune() {
    let world = World::new().await;
    world.backup().await;
    world.plan().await.unwrap();
    let note = std::fs::read_dir(world.spool.path()).unwrap().map(|entry| entry.unwrap().path());
    let note = note.into_iter().find(|path| path.extension().is_some_and(|end| end == "json")).unwrap();
    std::fs::write(&note, "nothing").unwrap();
    assert_eq!(world.plan().await.unwrap_err().exit_code(), 3);
    let options = PruneOptions { spool: note, ..world.options() };
    assert_eq!(prune::plan(&world.repository, &options).await.unwrap_err().exit_code(), 1);
}

#[tokio::test]
async fn whatever_names_packs_and_cannot_be_read_stops_prune() {
    let world = World::new().await;
    let (old, _) = (world.backup().await, world.backup().await);
    world.forget(&old).await;
    let future = {
        use std::io::Write;
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(b"H\tformat\t2\nE\t1\t00\n").unwrap();
        gzip.finish().unwrap()
    };
    let id: BackupId = "20250101T000000Z-000000".parse().unwrap();
    let name = "0".repeat(32);
    for (key, body) in [
        (layout::manifest(&world.shop(), &id), b"no manifest".to_vec()),
        (layout::manifest(&world.shop(), &id), future.clone()),
        (layout::trash(&world.shop(), &id, 259_200, &name), b"no manifest".to_vec()),
        (layout::trash(&world.shop(), &id, 259_200, &name), future.clone()),
        (layout::lease(&name), b"{".to_vec()),
        (layout::lease(&name), br#"{"database":"shop","parents":["20240101T000000Z-000000"]}"#.to_vec()),
    ] {
        assert!(world.plan().await.is_ok());
        let before = world.plan().await.unwrap();
        world.repository.store().put(&key, body.into(), PutMode::Replace).await.unwrap();
        assert!(world.plan().await.is_err(), "{key} did not stop the plan");
        assert!(prune::apply(&world.repository, &before, &world.options()).await.is_err(), "{key} did not stop prune");
        world.repository.store().delete(&key).await.unwrap();
    }
}
