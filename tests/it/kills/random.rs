//! kill -9 at random moments of backup and restore.
//!
//! The moments depend on a seed alone (`HOLDFAST_TEST_SEED=N` draws them again), where in its work the program is by
//! then depends on the machine: a red test says the label of its last point. `HOLDFAST_TEST_LONG=1` kills ten times as
//! often.

mod backup;
mod in_place;
mod restore;

use std::time::{Duration, Instant};
use tests::agent::{Agent, Run};
use tests::is_long;
use tests::mutations::Draws;

/// Draws the moments where nobody gives another seed.
const SEED: u64 = 20_261_130;

/// Kills one command again and again, each time at a moment between its start and its end.
struct Killer {
    draws: Draws,
    /// How long the command takes when nothing disturbs it.
    took: Duration,
    kills: usize,
    hits: usize,
}

/// What a kill led to.
struct Killed {
    /// As `kill 7 of 25, 31.2 ms of 80.0 ms, after "backup: before a pack"`.
    place: String,
    /// The program was still at work.
    was_hit: bool,
    run: Run,
}

impl Killer {
    /// `took` is of an undisturbed run.
    fn of(took: Duration) -> Self {
        Killer { draws: Draws::from_environment_or(SEED), took, kills: 0, hits: 0 }
    }

    /// Kills the command once.
    #[track_caller]
    fn kill(&mut self, agent: &mut Agent, arguments: &[&str]) -> Killed {
        let trace = agent.home().join("trace");
        agent.set_env("HOLDFAST_CRASH_TRACE", &trace);
        let moment = Duration::from_micros(self.draws.below(self.took.as_micros() as usize) as u64);
        let begun = Instant::now();
        let running = agent.start(arguments);
        std::thread::sleep(moment.saturating_sub(begun.elapsed()));
        let run = running.kill();
        agent.set_env("HOLDFAST_CRASH_TRACE", "");
        let reached = std::fs::read_to_string(&trace).unwrap_or_default();
        let _ = std::fs::remove_file(trace);
        let last = reached.lines().last().unwrap_or("no point");
        let was_hit = run.code.is_none();
        self.kills += 1;
        self.hits += usize::from(was_hit);
        let (at, of) = (moment.as_secs_f64() * 1e3, self.took.as_secs_f64() * 1e3);
        let ended = if was_hit { "" } else { ", which had ended" };
        let place = format!("kill {}, {at:.1} ms of {of:.1} ms{ended}, after {last:?}", self.kills);
        println!("{place}");
        if !was_hit {
            // It took less than that.
            self.took = self.took.min(run.elapsed);
        }
        assert!(was_hit || run.code == Some(0), "{place}: it failed by itself: {}\n{}", run.stdout, run.stderr);
        Killed { place: format!("{place}, HOLDFAST_TEST_SEED={}", self.draws.seed()), was_hit, run }
    }

    /// Notes how long the command took now that nothing disturbed it. Others use this machine, too: the times vary.
    fn took(&mut self, run: &Run) {
        self.took = (self.took + run.elapsed) / 2;
    }

    /// Asserts that the program was at work at a third of the kills at least.
    #[track_caller]
    fn assert_hits(&self) {
        println!("{} of {} kills hit the program at work", self.hits, self.kills);
        assert!(self.hits * 3 >= self.kills, "only {} of {} kills hit the program at work", self.hits, self.kills);
    }
}

/// How many kills a run makes of what the everyday run makes `everyday` of.
fn kills(everyday: usize) -> usize {
    if is_long() { everyday * 10 } else { everyday }
}
