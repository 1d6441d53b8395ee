//! Every place of a run, and the fault there.

use super::calls::{Call, WRITING, read};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tests::agent::{Agent, Run, Running};
use tests::is_long;
use tests::mutations::Draws;
use tests::strace::{Tracer, traced};

/// Chooses among calls of the same kind where nobody gives another seed.
const SEED: u64 = 20_261_129;

/// How often a place is tried until its call, and no other one, is hit: threads are not the same in every run.
const TRIES: usize = 2;

/// How many other places of the same call are tried instead of one that cannot be hit.
const ALTERNATIVES: usize = 8;

/// What happens to a call instead of what it should do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    Kill,
    Eio,
    Enospc,
}

impl Fault {
    const ALL: [Fault; 3] = [Fault::Kill, Fault::Eio, Fault::Enospc];

    fn injection(self) -> &'static str {
        match self {
            Fault::Kill => "signal=SIGKILL",
            Fault::Eio => "error=EIO",
            Fault::Enospc => "error=ENOSPC",
        }
    }

    /// A full disk is told where something has to be stored.
    fn happens_in(self, name: &str) -> bool {
        self != Fault::Enospc
            || ["openat", "write", "pwrite64", "ftruncate", "fsync", "fdatasync", "mkdir", "linkat", "rename"]
                .contains(&name)
    }
}

/// Where in a run a call is.
#[derive(Debug, Clone)]
struct Place {
    /// The number of the last point reached before it.
    point: usize,
    label: String,
    /// Name of the call.
    name: String,
    /// Which one it is of those that its thread makes after the point, from 1. Of writes, only those to its file count.
    number: usize,
    /// Its file, without what is random in it.
    file: String,
    /// Where the file is opened after the point: which call of openat of its thread that is.
    opened: Option<usize>,
}

/// A command, and the world it starts in each time.
pub struct Sweep<'a> {
    pub world: &'a dyn Fn() -> Agent,
    pub arguments: &'a [&'a str],
    /// Only what comes before the first point of this label.
    pub until: Option<&'a str>,
    /// Kinds of files that the everyday run tries for a call and a fault.
    pub everyday: usize,
}

/// A run that was disturbed.
pub struct Disturbed {
    pub agent: Agent,
    pub fault: Fault,
    pub run: Run,
    /// The call that was hit, and its file without what is random in it.
    pub call: Call,
    pub file: String,
    /// The call is a flush, and the same file was flushed just before it: there was nothing left to do.
    pub is_repeated_flush: bool,
    /// For messages.
    pub place: String,
}

/// Files of a kind by the name of the call, for one fault.
type Hits = BTreeMap<(Fault, String), BTreeSet<String>>;

impl Sweep<'_> {
    /// Runs the command undisturbed, and finds every place at which it writes a local file.
    #[track_caller]
    fn places(&self) -> Vec<Place> {
        let agent = (self.world)();
        let (trace, output) = (agent.home().join("trace"), agent.home().join("calls"));
        let mut command = agent.command(self.arguments);
        command.env("HOLDFAST_CRASH_TRACE", &trace);
        let run = traced(&command, &output, &["-e", &format!("trace={}", WRITING.join(","))]).output().unwrap();
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
        let mut places = places(&read(&output), agent.home(), &trace);
        if let Some(end) = places.iter().position(|place| Some(place.label.as_str()) == self.until) {
            places.truncate(end);
        }
        places
    }

    /// Disturbs every place by every fault that can happen there, hands each outcome to `judge`, and asserts that every
    /// fault hit each of the calls, and all of them together at least so many kinds of files.
    #[track_caller]
    pub fn everywhere(&self, least: &[(&str, usize)], judge: &dyn Fn(Disturbed)) {
        let mut draws = Draws::from_environment_or(SEED);
        let all = self.places();
        let mut hits = Hits::new();
        let (mut runs, mut misses) = (0, 0);
        let chosen = if is_long() { every(&all) } else { self.some(&all, least, &mut draws) };
        for (fault, places) in chosen {
            for place in places {
                runs += 1;
                // Threads are not the same in every run: another place of the same call may be there to be hit.
                let others: Vec<&Place> = all.iter().filter(|other| other.name == place.name).collect();
                let mut tries: Vec<&Place> = vec![place; TRIES];
                // Rather of a kind of file that was not hit yet, where there is one, and then of any.
                let was_hit = |other: &Place| {
                    hits.iter().any(|((_, name), files)| *name == other.name && files.contains(&other.file))
                };
                let new: Vec<&Place> = others.iter().copied().filter(|other| !was_hit(other)).collect();
                for at in 0..ALTERNATIVES {
                    let from = if at % 2 == 0 && !new.is_empty() { &new } else { &others };
                    tries.push(*draws.pick(from));
                }
                let hit = tries.into_iter().find_map(|place| self.disturbed(place, fault, draws.seed()));
                let Some(disturbed) = hit else {
                    misses += 1;
                    println!("not hit: {fault:?} {place:?}");
                    continue;
                };
                println!("{}", disturbed.place);
                hits.entry((fault, place.name.clone())).or_default().insert(disturbed.file.clone());
                judge(disturbed);
            }
        }
        println!("{} places, {runs} runs, {misses} of them undisturbed", all.len());
        for ((fault, name), files) in &hits {
            println!("{fault:?} {name}: {files:?}");
        }
        assert!(misses * 4 <= runs, "{misses} of {runs} runs were not disturbed");
        for (name, least) in least {
            let by = |fault| hits.get(&(fault, (*name).to_owned())).into_iter().flatten();
            let files: BTreeSet<&String> = Fault::ALL.into_iter().flat_map(by).collect();
            assert!(files.len() >= *least, "{name} was hit of {files:?}, fewer than {least} kinds of files");
            let is_missing = |fault: &Fault| fault.happens_in(name) && by(*fault).next().is_none();
            assert!(!Fault::ALL.iter().any(is_missing), "not every fault hit {name}: {hits:#?}");
        }
    }

    /// For each fault and each of the calls named some kinds of files, others for the next fault, and one place of each.
    fn some<'a>(
        &self,
        places: &'a [Place],
        least: &[(&str, usize)],
        draws: &mut Draws,
    ) -> Vec<(Fault, Vec<&'a Place>)> {
        let mut chosen: Vec<(Fault, Vec<&Place>)> = Fault::ALL.map(|fault| (fault, Vec::new())).into();
        for (name, _) in least {
            let mut kinds: BTreeMap<&str, Vec<&Place>> = BTreeMap::new();
            for place in places.iter().filter(|place| place.name == *name) {
                kinds.entry(&place.file).or_default().push(place);
            }
            let mut kinds: Vec<Vec<&Place>> = kinds.into_values().collect();
            for at in (1..kinds.len()).rev() {
                kinds.swap(at, draws.below(at + 1));
            }
            let mut turns = (0..kinds.len()).cycle();
            for (fault, places) in chosen.iter_mut().filter(|(fault, _)| fault.happens_in(name)) {
                let number = self.everyday.min(kinds.len());
                places.extend(turns.by_ref().take(number).map(|at| *draws.pick(&kinds[at])));
                println!("{fault:?} is tried in {number} of {} kinds of files for {name}", kinds.len());
            }
        }
        chosen
    }

    /// Runs the command with the fault at that place; none where it made no such call this time.
    #[track_caller]
    fn disturbed(&self, place: &Place, fault: Fault, seed: u64) -> Option<Disturbed> {
        let agent = (self.world)();
        let mut running = agent.start_to_stop_at(place.point, self.arguments);
        if !running.stops() {
            return None;
        }
        let output = agent.home().join("calls");
        let injection = format!("inject={}:{}:when={}", place.name, fault.injection(), place.number);
        let traced = format!("trace={}", WRITING.join(","));
        let mut options = vec!["-e", &traced, "-e", &injection];
        let file = if place.name == "write" { Some(opened(&mut running, place, &agent)?) } else { None };
        if let Some(file) = &file {
            options.extend(["-P", file.to_str().unwrap()]);
        }
        let mut tracer = Tracer::attach(running.pid(), &output, &options);
        running.signal("CONT");
        let mut is_detached = false;
        while running.is_running() {
            // One fault: what is tried again, by another thread it may be, is to work.
            if !is_detached && tracer.so_far().contains("(INJECTED)") {
                tracer.detach();
                is_detached = true;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        let run = running.wait();
        drop(tracer);
        let calls = read(&output);
        let is_ours = |call: &Call| call.path().is_some_and(|path| path.starts_with(agent.home()));
        if calls.iter().any(|call| call.is_injected() && !is_ours(call)) {
            // Another thread's first call of this name is no call on a file.
            return None;
        }
        let ours = |call: &&Call| call.name == place.name && is_ours(call) && call.writes();
        let call = match fault {
            Fault::Kill => calls.iter().filter(ours).rfind(|call| call.result.starts_with('?'))?.clone(),
            _ => calls.iter().filter(ours).find(|call| call.is_injected())?.clone(),
        };
        std::fs::remove_file(output).unwrap();
        let before = calls.iter().take_while(|other| **other != call).filter(|other| other.path() == call.path());
        let is_repeated_flush = before.last().is_some_and(|other| other.name == call.name && other.is_done());
        let file = kind(&call.path().unwrap(), agent.home());
        let place = format!(
            "{fault:?} in {} {} of {file}, after point {} ({:?}), HOLDFAST_TEST_SEED={seed}",
            place.name, place.number, place.point, place.label
        );
        Some(Disturbed { agent, fault, run, call, file, is_repeated_flush, place })
    }
}

/// The file that a place's write is about, open by now: the program is led on until it has just opened it, and has
/// stopped there. Threads are woken by writes, too; where the file is known, no such write is hit.
#[track_caller]
fn opened(running: &mut Running, place: &Place, agent: &Agent) -> Option<PathBuf> {
    let pid = running.pid();
    let open_now = || {
        let links = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten();
        let paths = links.filter_map(|link| std::fs::read_link(link.path()).ok());
        paths.filter(|path| path.starts_with(agent.home())).find(|path| kind(path, agent.home()) == place.file)
    };
    let Some(number) = place.opened else { return open_now() };
    let output = agent.home().join("opened");
    let injection = format!("inject=openat:signal=SIGSTOP:when={number}");
    let mut tracer = Tracer::attach(pid, &output, &["-e", "trace=openat", "-e", &injection]);
    running.signal("CONT");
    let begun = Instant::now();
    // Where another thread made the call of that number, the whole program stands still without the file.
    while running.is_running() && open_now().is_none() && begun.elapsed() < Duration::from_secs(1) {
        std::thread::sleep(Duration::from_millis(1));
    }
    tracer.detach();
    if running.stops() { open_now() } else { None }
}

fn places(calls: &[Call], home: &Path, trace: &Path) -> Vec<Place> {
    let (mut point, mut label) = (0, String::new());
    let mut numbers: BTreeMap<(u32, &str), usize> = BTreeMap::new();
    let mut writes: BTreeMap<(u32, PathBuf), usize> = BTreeMap::new();
    let mut opens: BTreeMap<PathBuf, usize> = BTreeMap::new();
    let mut places = Vec::new();
    for call in calls {
        let path = call.path();
        if path.as_deref() == Some(trace) {
            if call.name == "write" {
                point += 1;
                label = call.arguments.split('"').nth(1).unwrap_or_default().replace("\\n", "");
                numbers.clear();
                writes.clear();
                opens.clear();
            }
            continue;
        }
        let number = numbers.entry((call.thread, &call.name)).or_default();
        *number += 1;
        let Some(path) = path.filter(|path| path.starts_with(home) && call.writes() && call.is_done()) else {
            continue;
        };
        let (name, label, mut number, file) = (call.name.clone(), label.clone(), *number, kind(&path, home));
        if name == "openat" {
            opens.insert(path.clone(), number);
        }
        let opened = opens.get(&path).copied();
        if name == "write" {
            let among_its_own = writes.entry((call.thread, path)).or_default();
            *among_its_own += 1;
            number = *among_its_own;
        }
        if point > 0 {
            places.push(Place { point, label, name, number, file, opened });
        } else {
            println!("before the first point: {name} of {file}");
        }
    }
    places
}

/// All places at which a fault can happen, for each of them.
fn every(places: &[Place]) -> Vec<(Fault, Vec<&Place>)> {
    let possible = |fault: Fault| places.iter().filter(|place| fault.happens_in(&place.name)).collect();
    Fault::ALL.into_iter().map(|fault| (fault, possible(fault))).collect()
}

/// A path below the home, with `#` for every part of a name that may be random: those with a digit, and names of packs.
fn kind(path: &Path, home: &Path) -> String {
    let path = path.strip_prefix(home).unwrap().to_str().unwrap();
    let in_packs = path.starts_with("store/packs/");
    let mut kind = String::new();
    let mut word = String::new();
    for next in path.chars().chain(['/']) {
        if next.is_ascii_alphanumeric() {
            word.push(next);
            continue;
        }
        let is_name = kind.len() > "store/packs".len() && in_packs && word != "tmp";
        let is_random = word.chars().any(|next| next.is_ascii_digit()) || (is_name && !word.is_empty());
        kind.push_str(if is_random { "#" } else { &word });
        kind.push(next);
        word.clear();
    }
    let kind = kind.trim_end_matches('/').to_owned();
    kind.replace("#-#-#-#-#", "#").replace("#-#", "#")
}

/// Asserts that a run that did not do what it should says so on one line that names a file or the disk.
#[track_caller]
pub fn assert_says_what_failed(disturbed: &Disturbed) {
    let Disturbed { agent, run, place, .. } = disturbed;
    let text = &run.stderr;
    assert!(!text.contains("panicked at"), "{place}: {text}");
    assert!(run.code.is_some_and(|code| [1, 3].contains(&code)), "{place}: ended with {:?}\n{text}", run.code);
    let is_error = |line: &&str| line.starts_with("error: ") || line.starts_with("refused: ");
    let errors: Vec<&str> = text.lines().filter(is_error).collect();
    let [error] = errors[..] else { panic!("{place}: not one error: {text}") };
    let home = agent.home().to_str().unwrap();
    let names_it = [home, ".db ", "os error", "disk", "space"].iter().any(|word| error.contains(word));
    assert!(names_it, "{place}: says neither where nor what: {error}");
    println!("    {error}");
}

/// Asserts that a program which was killed did not end by itself, and that one which was not killed did so in an orderly
/// way. Returns whether it claims to have done its work.
#[track_caller]
pub fn claims_success(disturbed: &Disturbed) -> bool {
    let Disturbed { fault, run, place, .. } = disturbed;
    match (fault, run.code) {
        (Fault::Kill, code) => {
            assert_eq!(code, None, "{place}: {}", run.stderr);
            false
        }
        (_, Some(0)) => {
            assert!(!run.stderr.contains("panicked at"), "{place}: {}", run.stderr);
            true
        }
        _ => {
            assert_says_what_failed(disturbed);
            false
        }
    }
}

/// Asserts that a flush that failed was not taken for one that did its work, but where `is_repeated` says that the file
/// is written anew after it.
#[track_caller]
pub fn assert_flush_is_heard(disturbed: &Disturbed, is_repeated: &dyn Fn(&str) -> bool) {
    let is_flush = ["fsync", "fdatasync"].contains(&disturbed.call.name.as_str());
    let is_lost = disturbed.fault != Fault::Kill && !disturbed.is_repeated_flush;
    if is_flush && is_lost && disturbed.run.code == Some(0) {
        assert!(is_repeated(&disturbed.file), "{}: a flush that failed was not heard", disturbed.place);
    }
}
