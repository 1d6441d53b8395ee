//! Who takes part, what they do, and the scheduler that decides who goes on.

use super::world::{Gate, Name, World};
use super::{Counts, Random};
use backup_agent::error::Error;
use backup_agent::prune::{self, PruneOptions};
use backup_agent::repository::{BackupWriter, Codec, MarkKind, Repository, StoredBackup};
use backup_agent::{forget, hold, unforget};
use jiff::Timestamp;
use shared::clock::Clock;
use shared::engine::{Cut, DataEntry, Dump, DumpSource, Entry, Probe, Segment};
use shared::model::{BackupId, DatabaseName, Fingerprint, Identity};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tests::fake_clock::FakeClock;

const HOUR: Duration = Duration::from_secs(3600);
/// What the operator configured; the shortest there is, so that writers and prune are as close as they may be.
const GRACE: Duration = Duration::from_secs(24 * 3600);
/// A database is so many chunks of so many bytes.
const CHUNKS: usize = 6;
const CHUNK: usize = 64;
const DATABASES: [&str; 2] = ["one", "two"];

/// What somebody may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Backup,
    Forget,
    Unforget,
    Hold,
    Release,
    Prune,
    Prove,
    Verify,
}

impl Kind {
    pub const ALL: [Kind; 8] =
        [Kind::Backup, Kind::Forget, Kind::Unforget, Kind::Hold, Kind::Release, Kind::Prune, Kind::Prove, Kind::Verify];

    pub fn name(self) -> &'static str {
        match self {
            Kind::Backup => "backup",
            Kind::Forget => "forget",
            Kind::Unforget => "unforget",
            Kind::Hold => "hold",
            Kind::Release => "release",
            Kind::Prune => "prune",
            Kind::Prove => "prove",
            Kind::Verify => "verify",
        }
    }
}

/// A task under way.
struct Running {
    actor: usize,
    kind: Kind,
    task: tokio::task::JoinHandle<Result<(), Error>>,
    /// Not scheduled before this operation.
    asleep_until: usize,
}

/// One seed's world.
pub struct Model {
    random: Random,
    world: Arc<Mutex<World>>,
    /// The clocks of the hosts; the first is the store's, too.
    hosts: Vec<FakeClock>,
    /// Whether a wrong wall clock of a host is the store's as well.
    is_one_host: bool,
    spool: tempfile::TempDir,
    contents: HashMap<&'static str, Vec<u8>>,
    dumped: Arc<Mutex<HashMap<Name, Vec<u8>>>>,
    running: Vec<Running>,
}

type Done = Result<(), String>;

fn name(text: &str) -> DatabaseName {
    text.parse().unwrap()
}

fn split(name: &str) -> (DatabaseName, BackupId) {
    let (database, id) = name.split_once('/').unwrap();
    (database.parse().unwrap(), id.parse().unwrap())
}

impl Model {
    pub fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let start: Timestamp = "2025-06-01T00:00:00Z".parse().unwrap();
        let is_one_host = random.below(3) == 0;
        let hosts: Vec<FakeClock> = (0..if is_one_host { 1 } else { 4 }).map(|_| FakeClock::at(start)).collect();
        let contents = DATABASES.iter().map(|name| (*name, bytes(&mut random, CHUNKS * CHUNK))).collect();
        Model {
            world: Arc::new(Mutex::new(World::new(hosts[0].clone()))),
            hosts,
            is_one_host,
            spool: tempfile::tempdir().unwrap(),
            contents,
            dumped: Arc::default(),
            running: Vec::new(),
            random,
        }
    }

    pub async fn run(mut self, operations: usize, sabotage: Option<usize>) -> Result<Counts, String> {
        self.solo(Kind::Backup, 0).await?;
        self.solo(Kind::Prune, 0).await?;
        for operation in 0..operations {
            self.operate(operation);
            if sabotage == Some(operation) {
                self.sabotage();
            }
            for _ in 0..self.random.below(6) {
                self.schedule(operation).await?;
            }
            self.violation()?;
        }
        self.finish(operations).await?;
        Ok(self.world.lock().unwrap().counts.clone())
    }

    fn violation(&self) -> Done {
        let world = self.world.lock().unwrap();
        match &world.violation {
            None => Ok(()),
            Some(what) => {
                let log: Vec<&str> = world.log.iter().map(String::as_str).collect();
                Err(format!("{what}\n{}", log.join("\n")))
            }
        }
    }

    /// Deletes a pack that a complete backup needs.
    fn sabotage(&mut self) {
        let mut world = self.world.lock().unwrap();
        let verified = world.backups().into_iter().filter(|name| world.is_verified(name) && !world.is_damaged(name));
        let pack = verified.flat_map(|name| world.packs_of(&name).to_vec()).next().expect("a complete backup");
        world.delete(usize::MAX, &format!("packs/0/{}/{pack}", &pack[..2]));
    }

    /// Begins something, or lets something happen to everybody.
    fn operate(&mut self, operation: usize) {
        match self.random.below(100) {
            0..40 if self.running.len() < 6 => {
                let kind = match self.random.below(100) {
                    0..30 => Kind::Backup,
                    30..56 => Kind::Forget,
                    56..66 => Kind::Unforget,
                    66..71 => Kind::Hold,
                    71..76 => Kind::Release,
                    76..88 => Kind::Prune,
                    88..95 => Kind::Prove,
                    _ => Kind::Verify,
                };
                let host = self.random.below(self.hosts.len() as u64) as usize;
                self.start(kind, host);
            }
            0..85 => self.pass_time(),
            85..86 => self.jump(),
            86..89 => self.damage(),
            89..93 => {
                if let Some(at) = self.any_running() {
                    let never = self.random.below(4) == 0;
                    let long = operation + 5 + self.random.below(80) as usize;
                    self.running[at].asleep_until = if never { usize::MAX } else { long };
                }
            }
            93..95 => {
                if let Some(at) = self.any_running() {
                    self.kill(at);
                }
            }
            _ => {
                let database = *self.random.pick(&DATABASES).unwrap();
                self.change(database);
            }
        }
    }

    fn any_running(&mut self) -> Option<usize> {
        let running = self.running.len() as u64;
        (running > 0).then(|| self.random.below(running) as usize)
    }

    fn kill(&mut self, at: usize) {
        let running = self.running.swap_remove(at);
        running.task.abort();
        let mut world = self.world.lock().unwrap();
        world.actors[running.actor].dead = true;
        world.actors[running.actor].waiting.clear();
        world.count("killed");
        world.note(format!("actor {} ({:?}) is killed", running.actor, running.kind));
    }

    fn pass_time(&mut self) {
        let minutes = match self.random.below(10) {
            0..5 => self.random.below(20),
            5..8 => 60 + self.random.below(180),
            8 => 60 * (6 + self.random.below(10)),
            _ => 60 * (20 + self.random.below(20)),
        };
        let time = Duration::from_secs(60 * minutes + 1 + self.random.below(30));
        // Now and then one host sleeps through it.
        let asleep =
            if self.random.below(5) == 0 { self.random.below(self.hosts.len() as u64) as usize } else { usize::MAX };
        self.world.lock().unwrap().note(format!("{time:?} pass"));
        for (at, host) in self.hosts.iter().enumerate() {
            if at == asleep { host.suspend(time) } else { host.advance(time) }
        }
    }

    /// Somebody sets a wall clock: one of a host that is not the store, away and later back again; or the only one there
    /// is, ahead for good.
    fn jump(&mut self) {
        let days = 1 + self.random.below(40) as i64;
        if self.is_one_host {
            let host = &self.hosts[0];
            host.set_wall(host.now() + jiff::SignedDuration::from_hours(24 * days));
        } else {
            let host = 1 + self.random.below(self.hosts.len() as u64 - 1) as usize;
            let right = self.hosts[0].now();
            let sign = if self.random.below(2) == 0 { 1 } else { -1 };
            // Somebody who finds a clock wrong sets it right, mostly.
            let wrong = (1..self.hosts.len()).find(|host| self.hosts[*host].now() != right);
            let host = wrong.filter(|_| self.random.below(3) > 0).unwrap_or(host);
            let is_right = self.hosts[host].now() == right;
            let wall = if is_right { right + jiff::SignedDuration::from_hours(24 * days * sign) } else { right };
            self.hosts[host].set_wall(wall);
        }
        self.world.lock().unwrap().note(format!("a clock jumps by {days} days or back"));
    }

    /// A pack rots.
    fn damage(&mut self) {
        if self.random.below(3) != 0 {
            return;
        }
        let mut world = self.world.lock().unwrap();
        let keys: Vec<String> = world.objects.keys().filter(|key| key.starts_with("packs/")).cloned().collect();
        if let Some(key) = self.random.pick(&keys) {
            let (body, _) = world.objects.get_mut(key).unwrap();
            let mut bytes = body.to_vec();
            bytes[0] ^= 1;
            *body = bytes.into();
            world.damaged.insert(key.rsplit('/').next().unwrap().to_owned());
            world.note(format!("{key} rots"));
        }
    }

    fn change(&mut self, database: &'static str) {
        let at = self.random.below(CHUNKS as u64) as usize * CHUNK;
        let new = bytes(&mut self.random, CHUNK);
        self.contents.get_mut(database).unwrap()[at..at + CHUNK].copy_from_slice(&new);
    }

    /// Starts an operation on something it can work on; nothing when there is nothing.
    fn start(&mut self, kind: Kind, host: usize) -> Option<()> {
        let budget = self.budget();
        let (there, gone, held) = {
            let world = self.world.lock().unwrap();
            let there: Vec<Name> = world.backups();
            let gone: Vec<Name> = world.promised(Duration::ZERO).into_iter().collect();
            let mut held: Vec<Name> = world.held.iter().cloned().collect();
            held.sort();
            (there, gone, held)
        };
        let target = match kind {
            Kind::Backup => Some((*self.random.pick(&DATABASES)?).to_owned()),
            Kind::Unforget => Some(self.random.pick(&gone)?.clone()),
            Kind::Release => Some(self.random.pick(&held)?.clone()),
            Kind::Prune => Some(String::new()),
            // Mostly what is old goes, so that the store stays small.
            Kind::Forget if self.random.below(4) > 0 => {
                let database = format!("{}/", self.random.pick(&DATABASES)?);
                Some(there.iter().find(|name| name.starts_with(&database))?.clone())
            }
            _ => Some(self.random.pick(&there)?.clone()),
        }?;
        if kind == Kind::Backup {
            let database = DATABASES.iter().find(|name| **name == target).unwrap();
            self.change(database);
        }
        let actor = {
            let mut world = self.world.lock().unwrap();
            if kind == Kind::Release {
                world.held.remove(&target);
                world.releasing.insert(target.clone());
            }
            let actor = world.new_actor(budget);
            world.note(format!("actor {actor} begins {kind:?} {target} on host {host}"));
            actor
        };
        let job = Job {
            kind,
            target: target.clone(),
            gate: Gate { world: self.world.clone(), actor },
            clock: self.hosts[host].clone(),
            // Hosts have spools of their own.
            spool: self.spool.path().join(host.to_string()),
            content: self.contents.get(target.as_str()).cloned().unwrap_or_default(),
            dumped: self.dumped.clone(),
        };
        self.running.push(Running { actor, kind, task: tokio::spawn(job.run()), asleep_until: 0 });
        Some(())
    }

    fn budget(&mut self) -> u32 {
        [0, 1, 2, 5, 20, 60, 200, 1000][self.random.below(8) as usize]
    }

    /// Lets one actor go on for a while.
    async fn schedule(&mut self, operation: usize) -> Done {
        let awake: Vec<usize> =
            (0..self.running.len()).filter(|at| self.running[*at].asleep_until <= operation).collect();
        if let Some(at) = self.random.pick(&awake).copied() {
            let budget = self.budget() + 1;
            self.grant(self.running[at].actor, budget);
        }
        self.settle().await;
        self.reap().await
    }

    fn grant(&self, actor: usize, budget: u32) {
        let mut world = self.world.lock().unwrap();
        let actor = &mut world.actors[actor];
        actor.budget = budget;
        while actor.budget > 0
            && let Some(go) = actor.waiting.pop_front()
        {
            actor.budget -= 1;
            let _ = go.send(());
        }
    }

    /// Waits until nothing moves any more without the scheduler.
    async fn settle(&self) {
        let mut quiet = 0;
        while quiet < 3 {
            let before = self.world.lock().unwrap().activity;
            tokio::task::spawn_blocking(|| ()).await.unwrap();
            for _ in 0..8 {
                tokio::task::yield_now().await;
            }
            quiet = if self.world.lock().unwrap().activity == before { quiet + 1 } else { 0 };
        }
    }

    /// Takes note of everybody who is done.
    async fn reap(&mut self) -> Done {
        let mut at = 0;
        while at < self.running.len() {
            if !self.running[at].task.is_finished() {
                at += 1;
                continue;
            }
            let running = self.running.swap_remove(at);
            let result = running.task.await.map_err(|error| format!("an actor panicked: {error}"))?;
            let mut world = self.world.lock().unwrap();
            world.note(format!(
                "actor {} ends {:?}: {:?}",
                running.actor,
                running.kind,
                result.as_ref().err().map(ToString::to_string)
            ));
            match result {
                Ok(()) => world.count(running.kind.name()),
                Err(error) => {
                    let text = error.to_string();
                    for (part, what) in [
                        ("the backup was given up", "late commits refused"),
                        ("nowhere to be found", "parents missing"),
                        ("stays forgotten", "unforget withdrawn"),
                        ("differ by more than", "guards refused"),
                        ("has jumped", "guards refused"),
                        ("lies in the future", "guards refused"),
                    ] {
                        if text.contains(part) {
                            world.count(what);
                        }
                    }
                    if text.contains("nowhere to be found") {
                        world.violate(text);
                    }
                }
            }
        }
        self.violation()
    }

    /// Runs one operation alone to its end.
    async fn solo(&mut self, kind: Kind, host: usize) -> Done {
        if self.start(kind, host).is_none() {
            return Ok(());
        }
        let actor = self.running.last().unwrap().actor;
        for _ in 0..200 {
            self.grant(actor, 1_000_000);
            self.settle().await;
            self.reap().await?;
            if !self.running.iter().any(|running| running.actor == actor) {
                return Ok(());
            }
            self.hosts.iter().for_each(|host| host.advance(Duration::from_secs(1)));
        }
        Err(format!("{kind:?} alone does not come to an end"))
    }

    /// Everybody who sleeps wakes or dies; then what was promised is kept, every backup holds what was dumped, and after
    /// two grace times no garbage is left.
    async fn finish(&mut self, operation: usize) -> Done {
        while let Some(at) = self.running.iter().position(|running| running.asleep_until == usize::MAX) {
            self.kill(at);
        }
        for _ in 0..400 {
            if self.running.is_empty() {
                break;
            }
            for actor in self.running.iter().map(|running| running.actor).collect::<Vec<_>>() {
                self.grant(actor, 10_000);
            }
            self.settle().await;
            self.reap().await?;
            self.hosts.iter().for_each(|host| host.advance(Duration::from_secs(1)));
        }
        if !self.running.is_empty() {
            return Err(format!("{} actors do not come to an end after {operation} operations", self.running.len()));
        }
        let right = self.hosts[0].now();
        self.hosts.iter().for_each(|host| host.set_wall(right));
        let promised = self.world.lock().unwrap().promised(HOUR);
        for name in promised {
            self.bring_back(&name).await?;
        }
        self.restore_all().await?;
        // Backups dated by a clock that ran ahead stop every prune until their time has come.
        self.hosts.iter().for_each(|host| host.advance(41 * GRACE));
        for _ in 0..3 {
            self.hosts.iter().for_each(|host| host.advance(GRACE + HOUR));
            for database in DATABASES {
                self.contents.get_mut(database).unwrap()[0] ^= 1;
            }
            // Enough for both databases, whichever are drawn, and for guards that wait for a new backup.
            for _ in 0..3 {
                self.solo(Kind::Backup, 0).await?;
                self.hosts.iter().for_each(|host| host.advance(Duration::from_secs(60)));
                self.solo(Kind::Prune, 0).await?;
            }
        }
        self.restore_all().await?;
        self.no_garbage()
    }

    async fn bring_back(&self, name: &str) -> Done {
        let actor = self.world.lock().unwrap().new_actor(1_000_000);
        let gate = Gate { world: self.world.clone(), actor };
        let repository = open(gate, &self.hosts[0]).await.map_err(|error| error.to_string())?;
        let (database, id) = split(name);
        let done = unforget::unforget(&repository, &database, &id).await;
        done.map_err(|error| format!("{name} was promised to come back: {error}"))?;
        let mut world = self.world.lock().unwrap();
        world.count("promises kept");
        if !world.is_verified(name) { Err(format!("{name} came back incomplete")) } else { Ok(()) }
    }

    /// Reads every complete backup and compares it with what was dumped.
    async fn restore_all(&self) -> Done {
        let actor = self.world.lock().unwrap().new_actor(u32::MAX);
        let repository =
            open(Gate { world: self.world.clone(), actor }, &self.hosts[0]).await.map_err(|error| error.to_string())?;
        let good: Vec<Name> = {
            let world = self.world.lock().unwrap();
            world.backups().into_iter().filter(|name| world.is_complete(name) && !world.is_damaged(name)).collect()
        };
        for name in good {
            let found = read(&repository, &name).await.map_err(|error| format!("{name}: {error}"))?;
            if self.dumped.lock().unwrap().get(&name) != Some(&found) {
                return Err(format!("{name} holds other bytes than were dumped"));
            }
            self.world.lock().unwrap().count("restored");
        }
        Ok(())
    }

    fn no_garbage(&self) -> Done {
        let world = self.world.lock().unwrap();
        let needed = world.needed();
        let now = world.clock.now();
        for (key, (_, at)) in &world.objects {
            let is_old = Duration::try_from(now.duration_since(*at)).unwrap_or_default() > GRACE;
            let is_garbage = match key.split('/').next() {
                Some("packs") => !needed.contains(key.rsplit('/').next().unwrap()),
                Some("trash") => {
                    let name = key.strip_prefix("trash/").unwrap().rsplit_once('/').unwrap().0;
                    world.exists(name)
                        || !world.objects.keys().any(|key| key.starts_with(&format!("marks/{name}/hold-")))
                }
                Some("leases") => true,
                Some("marks") => {
                    let name = key.strip_prefix("marks/").unwrap().rsplit_once('/').unwrap().0;
                    !world.exists(name) && !world.objects.keys().any(|key| key.starts_with(&format!("trash/{name}/")))
                }
                _ => false,
            };
            // A pack of trash that is kept for a hold is needed, too; that is rare enough to be left out.
            let has_trash = world.objects.keys().any(|key| key.starts_with("trash/"));
            if is_old && is_garbage && !has_trash {
                let log: Vec<&str> = world.log.iter().map(String::as_str).collect();
                return Err(format!("{key} is still there at {now}, of {at}\n{}", log.join("\n")));
            }
        }
        Ok(())
    }
}

fn bytes(random: &mut Random, length: usize) -> Vec<u8> {
    (0..length).map(|_| random.next() as u8).collect()
}

async fn open(gate: Gate, clock: &FakeClock) -> Result<Repository, Error> {
    let (repository, _) = Repository::open_or_init(Arc::new(gate), Codec::Gzip).await?;
    Ok(repository.with_clock(Arc::new(clock.clone())))
}

async fn read(repository: &Repository, name: &str) -> Result<Vec<u8>, Error> {
    use futures_util::TryStreamExt;
    let (database, id) = split(name);
    let backup = StoredBackup::open(repository, repository.manifest(&database, &id).await?).await?;
    let pieces: Vec<bytes::Bytes> = backup.read(0, 0).try_collect().await?;
    Ok(pieces.concat())
}

/// A dump without any file.
pub fn empty_dump(identity: Identity, snapshot_at: Timestamp) -> Dump {
    Dump {
        probe: Probe { identity, server_version: "1".into(), client_version: None, size_bytes: 0 },
        snapshot_at,
        entries: Vec::new(),
        fingerprint: Fingerprint { schema: vec!["s".into()], ..Fingerprint::default() },
        defects: Vec::new(),
        facts: serde_json::json!({}),
    }
}

/// What one actor does.
struct Job {
    kind: Kind,
    target: String,
    gate: Gate,
    clock: FakeClock,
    spool: PathBuf,
    content: Vec<u8>,
    dumped: Arc<Mutex<HashMap<Name, Vec<u8>>>>,
}

impl Job {
    async fn run(self) -> Result<(), Error> {
        let repository = open(self.gate.clone(), &self.clock).await?;
        match self.kind {
            Kind::Backup => self.backup(&repository).await,
            Kind::Prune => self.prune(&repository).await,
            kind => {
                let (database, id) = split(&self.target);
                match kind {
                    Kind::Forget => self.forget(&repository, database, id).await,
                    Kind::Unforget => unforget::unforget(&repository, &database, &id).await,
                    Kind::Hold => self.hold(&repository, &database, &id).await,
                    Kind::Release => self.release(&repository, &database, &id).await,
                    Kind::Prove => self.prove(&repository, &database, &id).await,
                    _ => self.verify(&repository, &database, &id).await,
                }
            }
        }
    }

    async fn backup(&self, repository: &Repository) -> Result<(), Error> {
        let database = name(&self.target);
        let identity = Identity::Sqlite { machine: "m".into(), path: self.target.clone() };
        let writer = BackupWriter::begin(repository, &database, &identity, false, Arc::new(())).await?;
        let backup = format!("{database}/{}", writer.id());
        self.dumped.lock().unwrap().insert(backup.clone(), self.content.clone());
        let (sink, content) = (writer.sink(), self.content.clone());
        tokio::task::spawn_blocking(move || {
            let cut = Cut::Fixed { bytes: CHUNK as u32 };
            let mut segment = sink.open(Segment { entry: 0, ordinal: 0, relation: String::new(), blocks: None, cut });
            segment.write(&content, &[]).and_then(|()| segment.finish(0))
        })
        .await
        .unwrap()?;
        // Reading the database takes its time, too.
        self.gate.wait().await;
        let bytes = self.content.len() as u64;
        let entry = DataEntry { path: "database.sqlite".into(), table: None, bytes, rows: 0 };
        let entries = vec![Entry::Data(entry)];
        let manifest = writer.commit(Dump { entries, ..empty_dump(identity, self.clock.now()) }).await?;
        let mut world = self.gate.world.lock().unwrap();
        let was_damaged = manifest.header.parents.iter().any(|id| world.is_damaged(&format!("{database}/{id}")));
        if was_damaged && world.is_complete(&backup) && !world.is_damaged(&backup) {
            world.count("healed");
        }
        Ok(())
    }

    async fn release(&self, repository: &Repository, database: &DatabaseName, id: &BackupId) -> Result<(), Error> {
        let released = hold::release(repository, database, id, &"bob".parse().unwrap()).await;
        self.gate.world.lock().unwrap().releasing.remove(&self.target);
        released.map(|_| ())
    }

    async fn forget(&self, repository: &Repository, database: DatabaseName, id: BackupId) -> Result<(), Error> {
        let plan = forget::named_plan(repository, &[(database, id)], true).await?;
        forget::apply(repository, &plan, GRACE).await.map(|_| ())
    }

    async fn hold(&self, repository: &Repository, database: &DatabaseName, id: &BackupId) -> Result<(), Error> {
        hold::hold(repository, database, id, &"bob".parse().unwrap(), "").await?;
        let mut world = self.gate.world.lock().unwrap();
        // Unless somebody has released it in the meantime, what was just said must be true.
        if world.objects.keys().any(|key| key.starts_with(&format!("marks/{}/hold-bob-", self.target))) {
            if !world.exists(&self.target) {
                world.violate(format!("{} was said to be on hold, but is gone", self.target));
            }
            if !world.releasing.contains(&self.target) {
                world.held.insert(self.target.clone());
            }
        }
        Ok(())
    }

    async fn prove(&self, repository: &Repository, database: &DatabaseName, id: &BackupId) -> Result<(), Error> {
        if repository.backup(database, id).await?.is_some_and(|backup| backup.is_complete()) {
            read(repository, &self.target).await?;
            repository.mark(database, id, MarkKind::Proven, "model").await?;
        }
        Ok(())
    }

    async fn verify(&self, repository: &Repository, database: &DatabaseName, id: &BackupId) -> Result<(), Error> {
        let backup = repository.backup(database, id).await?;
        repository.verify(&backup.into_iter().collect::<Vec<_>>(), &|_| ()).await.map(|_| ())
    }

    async fn prune(&self, repository: &Repository) -> Result<(), Error> {
        let options = PruneOptions { grace: GRACE, intervals: Default::default(), spool: self.spool.clone() };
        let plan = prune::plan(repository, &options).await?;
        prune::apply(repository, &plan, &options).await.map(|_| ())
    }
}
