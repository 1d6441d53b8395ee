//! Whoever wishes to know is told: at least once, in order.

use super::*;
use shared::task_log::Delivered;

exams! {
    everybody_is_told_of_beginning_and_end_in_order,
    what_was_not_told_comes_again_after_its_hold,
    of_several_tellers_each_delivery_has_one,
}

async fn everybody_is_told_of_beginning_and_end_in_order(world: &World) {
    let log = world.open().await;
    let task = NewTask { channels: vec!["ping".into(), "webhook".into()], ..backup("shop") };
    submit(&*log, &task).await;
    assert_eq!(log.take_deliveries(10, LONG).await.unwrap(), []);
    let claimed = claim(&*log, LONG).await.unwrap();
    log.finish(&claimed.lease, &done()).await.unwrap();
    let begun = log.take_deliveries(10, LONG).await.unwrap();
    let told: Vec<_> = begun.iter().map(|told| (told.channel.as_str(), told.event.what.as_str())).collect();
    assert_eq!(told, [("ping", "running"), ("webhook", "running")]);
    assert_eq!((begun[0].task.state, begun[0].event.seq, begun[0].attempts), (TaskState::Succeeded, 2, 0));
    // The end comes after the beginning has arrived, or is given up.
    assert_eq!(log.take_deliveries(10, LONG).await.unwrap(), []);
    log.delivered(begun[0].id, &Delivered::Done).await.unwrap();
    let end = log.take_deliveries(10, LONG).await.unwrap();
    assert_eq!(end.iter().map(|told| told.channel.as_str()).collect::<Vec<_>>(), ["ping"]);
    assert_eq!(end[0].event.what, "succeeded");
    log.delivered(begun[1].id, &Delivered::GivenUp { error: "404".into() }).await.unwrap();
    let end = log.take_deliveries(10, LONG).await.unwrap();
    assert_eq!(end.iter().map(|told| told.channel.as_str()).collect::<Vec<_>>(), ["webhook"]);
    log.delivered(end[0].id, &Delivered::Done).await.unwrap();
    let kept = world.sql("SELECT last_error FROM event_delivery WHERE state = 'given-up'");
    assert_eq!(kept, "404");
    log.delivered(1_000_000, &Delivered::Done).await.unwrap();
}

async fn what_was_not_told_comes_again_after_its_hold(world: &World) {
    let log = world.open().await;
    submit(&*log, &backup("shop")).await;
    claim(&*log, LONG).await.unwrap();
    let taken = log.take_deliveries(10, world.short()).await.unwrap();
    assert_eq!((taken.len(), taken[0].attempts), (1, 0));
    if matches!(world, World::Sqlite { .. }) {
        assert_eq!(log.take_deliveries(10, LONG).await.unwrap(), []);
    }
    world.pass(world.short());
    let mut again = Vec::new();
    until(async || {
        again = log.take_deliveries(10, LONG).await.unwrap();
        !again.is_empty()
    })
    .await;
    assert_eq!((again[0].id, again[0].attempts), (taken[0].id, 1));
    let at = world.now() + SignedDuration::from_secs(1);
    log.delivered(again[0].id, &Delivered::Again { at, error: "503".into() }).await.unwrap();
    if matches!(world, World::Sqlite { .. }) {
        assert_eq!(log.take_deliveries(10, LONG).await.unwrap(), []);
        world.pass(Duration::from_secs(1));
    }
    until(async || {
        again = log.take_deliveries(10, LONG).await.unwrap();
        !again.is_empty()
    })
    .await;
    assert_eq!((again.len(), again[0].attempts), (1, 2));
    log.delivered(again[0].id, &Delivered::Done).await.unwrap();
    // What came late changes nothing about one that has arrived.
    log.delivered(again[0].id, &Delivered::Again { at: world.now(), error: "late".into() }).await.unwrap();
    assert_eq!(log.take_deliveries(10, LONG).await.unwrap(), []);
}

async fn of_several_tellers_each_delivery_has_one(world: &World) {
    let log = world.open().await;
    for at in 0..30 {
        submit(&*log, &backup(&format!("shop{at}"))).await;
        claim(&*log, LONG).await.unwrap();
    }
    let logs = [world.open().await, world.open().await, world.open().await];
    let tellers = logs.map(|log| {
        tokio::spawn(async move {
            let mut told = Vec::new();
            loop {
                let taken = log.take_deliveries(4, LONG).await.unwrap();
                assert!(taken.len() <= 4);
                told.extend(taken.iter().map(|taken| taken.id));
                let left = log.take_deliveries(1, LONG).await.unwrap();
                told.extend(left.iter().map(|taken| taken.id));
                if taken.is_empty() && left.is_empty() {
                    return told;
                }
            }
        })
    });
    let mut all = Vec::new();
    for teller in tellers {
        all.extend(teller.await.unwrap());
    }
    until(async || {
        all.extend(log.take_deliveries(100, LONG).await.unwrap().iter().map(|taken| taken.id));
        all.len() >= 30
    })
    .await;
    all.sort_unstable();
    let before = all.len();
    all.dedup();
    assert_eq!((all.len(), before), (30, 30));
}
