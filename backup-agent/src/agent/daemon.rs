//! The agent's life: from its start to the signal that ends it.

use super::{Agent, World};
use crate::error::Error;
use crate::http;
use crate::stop::{self, Stop, StopReason};
use crate::systemd::{Environment, Systemd};
use jiff::{SignedDuration, Timestamp};
use shared::model::DatabaseName;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// The longest pause between two looks at the clock and the record.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How often every database's status is gathered anew, besides after its own tasks.
const REFRESH_EVERY: SignedDuration = SignedDuration::from_hours(1);
/// How often the tasks that wait and run are counted.
const COUNT_EVERY: SignedDuration = SignedDuration::from_secs(15);
/// How often old tasks are removed from the record.
const TIDY_EVERY: SignedDuration = SignedDuration::from_hours(24);
/// How long tasks may go on after the program was asked to end.
const FINISH_WITHIN: Duration = Duration::from_secs(20);
/// How long they may take after that to give their work up.
const ABANDON_WITHIN: Duration = Duration::from_secs(7);
/// How long all of that may take, with what is waited for besides.
const END_WITHIN: Duration = Duration::from_secs(28);
/// How long a database may take at the start to say which it is.
const PROBE_WITHIN: Duration = Duration::from_secs(5);

/// Runs the agent until `shutdown` asks for its end; with `until_idle` only until nothing is left to be done now.
///
/// Ends within half a minute: running tasks get 20 s to finish, then give up what they do and are done again by the next
/// start. Fails only at the start, when it touched nothing.
pub async fn run(world: Arc<World>, until_idle: bool, shutdown: Stop) -> Result<(), Error> {
    let over = async {
        shutdown.wait().await;
        world.clock.sleep(END_WITHIN).await;
    };
    tokio::select! {
        biased;
        // Whatever is waited for then: a store or a database that does not answer must not keep the program alive.
        () = over => Err(Error::failed("the end took too long and was cut off; the next start does what is left again")),
        done = live(&world, until_idle, &shutdown) => done,
    }
}

async fn live(world: &Arc<World>, until_idle: bool, shutdown: &Stop) -> Result<(), Error> {
    let serving = serve(world, shutdown).await?;
    warn_of_twins(world).await;
    let mut agent = Agent::new(world.clone());
    let mut chores =
        Chores { world: world.clone(), delivering: JoinSet::new(), refreshed: None, counted: None, tidied: None };
    let systemd = Systemd::connect(&Environment::of_process());
    systemd.ready();
    loop {
        // A store that does not answer is waited for in here, and a wish to end is heard all the same.
        let next = tokio::select! {
            biased;
            _ = shutdown.wait() => break,
            next = agent.turn() => next,
        };
        systemd.alive();
        tokio::select! {
            biased;
            _ = shutdown.wait() => break,
            () = chores.do_due(&mut agent) => {}
        }
        if until_idle && !agent.is_busy() {
            break;
        }
        let pause = pause_until(next, world.clock.now());
        tokio::select! {
            biased;
            _ = shutdown.wait() => break,
            Some(ended) = agent.ended() => agent.conclude(ended).await,
            () = world.clock.sleep(pause) => {}
        }
    }
    systemd.stopping();
    let left = finish(&mut agent, world).await;
    chores.last(&agent).await;
    serving.abort();
    if left == 0 {
        return Ok(());
    }
    Err(Error::failed(format!("{left} tasks did not end in time and were cut off; the next start does them again")))
}

fn pause_until(next: Option<Timestamp>, now: Timestamp) -> Duration {
    let until = next.map_or(LOOK_EVERY, |next| Duration::try_from(next.duration_since(now)).unwrap_or_default());
    // Never a busy loop, whatever the clock says.
    until.clamp(Duration::from_millis(50), LOOK_EVERY)
}

async fn serve(world: &Arc<World>, shutdown: &Stop) -> Result<tokio::task::JoinHandle<()>, Error> {
    let door = http::open(&world.config.agent.listen).await?;
    let (health, shutdown) = (world.health.clone(), shutdown.clone());
    Ok(tokio::spawn(async move {
        let ended = async {
            shutdown.wait().await;
            // The last state can still be read while tasks finish.
            tokio::time::sleep(FINISH_WITHIN + ABANDON_WITHIN).await;
        };
        match door {
            Some(door) => door.serve(health, ended).await,
            None => ended.await,
        }
    }))
}

/// Lets running tasks finish, then asks them to give up; returns how many did neither in time.
async fn finish(agent: &mut Agent, world: &World) -> usize {
    for (within, reason) in [(FINISH_WITHIN, None), (ABANDON_WITHIN, Some(StopReason::Shutdown))] {
        if let Some(reason) = reason {
            agent.stop_all(reason);
        }
        let until = world.clock.sleep(within);
        tokio::pin!(until);
        loop {
            tokio::select! {
                () = &mut until => break,
                ended = agent.ended() => match ended {
                    Some(ended) => agent.conclude(ended).await,
                    None => return 0,
                }
            }
        }
    }
    agent.running()
}

/// What is done beside the tasks.
struct Chores {
    world: Arc<World>,
    delivering: JoinSet<()>,
    refreshed: Option<Timestamp>,
    counted: Option<Timestamp>,
    tidied: Option<Timestamp>,
}

impl Chores {
    async fn do_due(&mut self, agent: &mut Agent) {
        let now = self.world.clock.now();
        let is_due = |last: Option<Timestamp>, every| last.is_none_or(|last| now.duration_since(last).abs() >= every);
        if is_due(self.refreshed, REFRESH_EVERY) {
            self.refreshed = Some(now);
            agent.refresh_all().await;
        }
        agent.refresh_some().await;
        if is_due(self.counted, COUNT_EVERY) {
            self.counted = Some(now);
            agent.count_tasks().await;
        }
        self.world.health.set_deliveries(self.world.notifier.tally());
        while self.delivering.try_join_next().is_some() {}
        let Some(record) = agent.record().cloned() else { return };
        if self.delivering.is_empty() {
            let (world, record) = (self.world.clone(), record.clone());
            self.delivering.spawn(async move {
                if let Err(error) = world.notifier.deliver_due(&*record, &*world.clock).await {
                    tracing::warn!(%error, "what others are to be told waits in the record");
                }
            });
        }
        if is_due(self.tidied, TIDY_EVERY) {
            self.tidied = Some(now);
            if let Err(error) = record.tidy().await {
                tracing::warn!(%error, "old tasks could not be removed from the record");
            }
        }
    }

    /// Tells what has just ended, if that is quick; the rest waits in the record for the next start.
    async fn last(&mut self, agent: &Agent) {
        let Some(record) = agent.record().cloned() else { return };
        let told = self.world.notifier.deliver_due(&*record, &*self.world.clock);
        if tokio::time::timeout(Duration::from_secs(2), told).await.is_err() {
            tracing::info!("some notifications wait in the record for the next start");
        }
    }
}

/// Warns of two entries that are one database; they are worked on one after the other.
async fn warn_of_twins(world: &World) {
    for (one, other, identity) in twins(world).await {
        tracing::warn!("{one} and {other} are one database ({identity}); their tasks wait for each other");
    }
}

/// Pairs of entries with one identity, of the databases that answer.
async fn twins(world: &World) -> Vec<(DatabaseName, DatabaseName, String)> {
    let mut known: HashMap<String, DatabaseName> = HashMap::new();
    let mut found = Vec::new();
    for name in world.config.databases.keys() {
        let Ok(Some(url)) = world.config.database_url(name) else { continue };
        let engine = shared::connect::engine(url);
        let Ok(Ok(probe)) = tokio::time::timeout(PROBE_WITHIN, engine.probe()).await else { continue };
        let identity = probe.identity.to_string();
        match known.get(&identity) {
            Some(other) => found.push((other.clone(), name.clone(), identity)),
            None => {
                known.insert(identity, name.clone());
            }
        }
    }
    found
}

/// A stop that SIGTERM and SIGINT ask for; a second one ends the program at once.
pub fn on_signals() -> Result<Stop, Error> {
    use tokio::signal::unix::{SignalKind, signal};
    let no_signals = |error| Error::failed(format!("signals cannot be received: {error}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(no_signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(no_signals)?;
    let (stopper, stop) = stop::channel();
    tokio::spawn(async move {
        let mut asked = 0;
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            asked += 1;
            if asked == 1 {
                tracing::warn!("ending: running tasks have 20 s to finish; another signal ends at once");
                stopper.stop(StopReason::Shutdown);
            } else {
                tracing::error!("ended at once; what was under way is done again by the next start");
                std::process::exit(1);
            }
        }
    });
    Ok(stop)
}
