//! The protocol of forget and prune, by seeded random interleavings of everybody who takes part in it.
//!
//! Every call to the store is a point at which somebody else may go on instead, for days if need be; every change of the
//! store is checked. `HOLDFAST_TEST_SEED=N` repeats the schedule of a seed that failed, `HOLDFAST_TEST_LONG=1` tries
//! many more. Names of packs are random each time.

mod actors;
mod world;

pub use actors::empty_dump;
use actors::{Kind, Model};

const SEEDS: u64 = 120;
const OPERATIONS: usize = 500;

/// A small generator with good spread: splitmix64.
#[derive(Clone)]
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }

    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> Option<&'a T> {
        if of.is_empty() { None } else { Some(&of[self.below(of.len() as u64) as usize]) }
    }
}

type Counts = std::collections::BTreeMap<&'static str, u64>;

/// Runs one seed on a runtime of its own; the error tells what broke, and what happened right before.
fn run(seed: u64, operations: usize, sabotage: Option<usize>) -> Result<Counts, String> {
    // One blocking thread, so that a job of our own ends after all of theirs: then nothing is under way unseen.
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.max_blocking_threads(1).build().unwrap();
    runtime.block_on(async { Model::new(seed).run(operations, sabotage).await })
}

fn run_all(seeds: Vec<u64>) -> Counts {
    let threads = 2;
    let work = |from: usize| {
        let seeds: Vec<u64> = seeds.iter().copied().skip(from).step_by(threads).collect();
        move || {
            let mut all = Counts::new();
            for seed in seeds {
                let found =
                    run(seed, OPERATIONS, None).unwrap_or_else(|error| panic!("HOLDFAST_TEST_SEED={seed}\n{error}"));
                found.into_iter().for_each(|(what, times)| *all.entry(what).or_default() += times);
            }
            all
        }
    };
    let running: Vec<_> = (0..threads).map(|from| std::thread::spawn(work(from))).collect();
    let mut all = Counts::new();
    for thread in running {
        let found = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        found.into_iter().for_each(|(what, times)| *all.entry(what).or_default() += times);
    }
    all
}

#[test]
fn no_interleaving_loses_what_is_complete_held_or_just_forgotten() {
    let seeds: Vec<u64> = match std::env::var("HOLDFAST_TEST_SEED") {
        Ok(seed) => vec![seed.parse().unwrap()],
        Err(_) if tests::is_long() => (0..SEEDS * 34).collect(),
        Err(_) => (0..SEEDS).collect(),
    };
    let is_whole = seeds.len() > 1;
    let counts = run_all(seeds);
    println!("{counts:#?}");
    if is_whole {
        // A run in which nothing of interest happened would prove nothing.
        for kind in Kind::ALL {
            assert!(
                counts.get(kind.name()).is_some_and(|times| *times > 100),
                "{} hardly ever worked: {counts:#?}",
                kind.name()
            );
        }
        for what in ["packs deleted", "late commits refused", "killed", "healed", "promises kept", "guards refused"] {
            assert!(counts.get(what).is_some_and(|times| *times > 20), "{what} hardly ever: {counts:#?}");
        }
    }
}

#[test]
fn the_model_check_sees_a_pack_deleted_behind_everybody_s_back() {
    for seed in 0..5 {
        let found = run(seed, 100, Some(60)).expect_err("a deleted pack was not seen");
        assert!(found.contains("lacks pack"), "{found}");
    }
}
