//! A store in which a scheduler decides who goes on, and which looks at every change.

use async_trait::async_trait;
use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use jiff::Timestamp;
use shared::clock::Clock;
use shared::store::{ObjectMeta, PutMode, Store, StoreError};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::io::Read;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tests::fake_clock::FakeClock;
use tokio::sync::oneshot;

/// `<database>/<id>`.
pub type Name = String;

/// Somebody at work in a process of its own.
#[derive(Default)]
pub struct Actor {
    /// So many more calls go through before the scheduler is asked again.
    pub budget: u32,
    pub waiting: VecDeque<oneshot::Sender<()>>,
    pub dead: bool,
    /// What had happened when it began.
    began: u64,
}

/// The store's content, and what the checker remembers of it.
pub struct World {
    pub objects: BTreeMap<String, (Bytes, Timestamp)>,
    pub clock: FakeClock,
    pub actors: Vec<Actor>,
    pub activity: u64,
    pub violation: Option<String>,
    pub log: VecDeque<String>,
    pub counts: BTreeMap<&'static str, u64>,
    /// Packs damaged on purpose.
    pub damaged: HashSet<String>,
    /// Backups somebody was told are on hold.
    pub held: HashSet<Name>,
    /// Backups that somebody is releasing: a hold put on them meanwhile may be what goes.
    pub releasing: HashSet<Name>,
    originals: HashMap<String, Bytes>,
    packs: HashMap<Name, Vec<String>>,
    /// Trash that held a verified backup when it was made, with the grace it was promised.
    promised: BTreeMap<String, (Name, Duration)>,
    /// When somebody last found something damaged or a proof failed, counted in effects.
    harm: u64,
    effects: u64,
}

impl World {
    pub fn new(clock: FakeClock) -> Self {
        World {
            objects: BTreeMap::new(),
            clock,
            actors: Vec::new(),
            activity: 0,
            violation: None,
            log: VecDeque::new(),
            counts: BTreeMap::new(),
            damaged: HashSet::new(),
            held: HashSet::new(),
            releasing: HashSet::new(),
            originals: HashMap::new(),
            packs: HashMap::new(),
            promised: BTreeMap::new(),
            harm: 0,
            effects: 0,
        }
    }

    pub fn new_actor(&mut self, budget: u32) -> usize {
        self.actors.push(Actor { budget, began: self.effects, ..Actor::default() });
        self.actors.len() - 1
    }

    pub fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    pub fn note(&mut self, line: String) {
        if self.log.len() >= 60 {
            self.log.pop_front();
        }
        self.log.push_back(format!("{} {line}", self.clock.now()));
    }

    pub fn violate(&mut self, what: String) {
        self.note(format!("VIOLATION {what}"));
        self.violation.get_or_insert(what);
    }

    fn age(&self, key: &str) -> Duration {
        let since = self.objects.get(key).map_or(self.clock.now(), |(_, at)| *at);
        Duration::try_from(self.clock.now().duration_since(since)).unwrap_or_default()
    }

    fn keys<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a str> {
        let range = self.objects.range(prefix.to_owned()..);
        range.map(|(key, _)| key.as_str()).take_while(move |key| key.starts_with(prefix))
    }

    /// Backups with a manifest.
    pub fn backups(&self) -> Vec<Name> {
        self.keys("backups/")
            .filter_map(|key| Some(key.strip_prefix("backups/")?.rsplit_once('/')?.0.to_owned()))
            .collect()
    }

    /// Backups in the trash only, that can still be brought back for so long, if all was right with them.
    pub fn promised(&self, left: Duration) -> BTreeSet<Name> {
        let good = self.promised.iter().filter(|(key, (name, grace))| {
            self.age(key) + left < *grace / 2 && !self.exists(name) && !self.is_damaged(name)
        });
        good.map(|(_, (name, _))| name.clone()).collect()
    }

    pub fn exists(&self, name: &str) -> bool {
        self.objects.contains_key(&format!("backups/{name}/manifest.tsv.gz"))
    }

    pub fn is_verified(&self, name: &str) -> bool {
        self.exists(name) && self.keys(&format!("marks/{name}/verified-")).next().is_some()
    }

    /// Whether a pack of it was damaged on purpose.
    pub fn is_damaged(&self, name: &str) -> bool {
        self.packs.get(name).is_some_and(|packs| packs.iter().any(|pack| self.damaged.contains(pack)))
    }

    pub fn is_complete(&self, name: &str) -> bool {
        let noted = |pack: &String| self.objects.contains_key(&format!("damaged/{pack}.json"));
        self.is_verified(name) && !self.packs.get(name).is_some_and(|packs| packs.iter().any(noted))
    }

    pub fn is_proven(&self, name: &str) -> bool {
        let newest = |kind: &str| {
            let bodies = self.keys_owned(&format!("marks/{name}/{kind}-"));
            let at = |key: &String| {
                let value: serde_json::Value = serde_json::from_slice(&self.objects[key].0).unwrap();
                value["at"].as_str().unwrap().parse::<Timestamp>().unwrap()
            };
            bodies.iter().map(at).max()
        };
        let proven = newest("proven");
        self.is_complete(name) && proven.is_some() && newest("failed").is_none_or(|failed| Some(failed) < proven)
    }

    fn keys_owned(&self, prefix: &str) -> Vec<String> {
        self.keys(prefix).map(str::to_owned).collect()
    }

    pub fn packs_of(&self, name: &str) -> &[String] {
        self.packs.get(name).map_or(&[], Vec::as_slice)
    }

    /// Everything named by what is in the store and may still be wanted.
    pub fn needed(&self) -> HashSet<String> {
        self.backups().iter().flat_map(|name| self.packs_of(name)).cloned().collect()
    }

    pub fn put(&mut self, actor: usize, key: &str, body: Bytes) {
        self.note(format!("actor {actor} puts {key}"));
        let now = self.clock.now();
        self.effects += 1;
        if let Some(rest) = key.strip_prefix("packs/0/") {
            let uuid = rest.rsplit('/').next().unwrap().to_owned();
            if self.originals.insert(uuid.clone(), body.clone()).is_some() {
                self.violate(format!("pack {uuid} was written twice"));
            }
        }
        if let Some(rest) = key.strip_prefix("trash/") {
            let (name, file) = rest.rsplit_once('/').unwrap();
            let grace = Duration::from_secs(file.split('-').next().unwrap().parse().unwrap());
            if self.is_verified(name) {
                self.promised.insert(key.to_owned(), (name.to_owned(), grace));
            }
        }
        if let Some(rest) = key.strip_prefix("backups/") {
            let name = rest.rsplit_once('/').unwrap().0.to_owned();
            self.packs.insert(name, packs_named(&body));
        }
        if key.starts_with("damaged/") || key.contains("/failed-") {
            self.harm = self.effects;
        }
        self.objects.insert(key.to_owned(), (body, now));
        if key.starts_with("backups/") || key.contains("/verified-") {
            self.check_all(key);
        }
    }

    pub fn delete(&mut self, actor: usize, key: &str) {
        if !self.objects.contains_key(key) {
            return;
        }
        self.note(format!("actor {actor} deletes {key}"));
        self.effects += 1;
        if let Some(name) = key.strip_prefix("backups/").and_then(|rest| rest.strip_suffix("/manifest.tsv.gz")) {
            self.check_forgotten(actor, name);
        }
        if let Some((name, grace)) = self.promised.get(key).cloned() {
            let others = self.promised.iter().any(|(other, (named, _))| other != key && *named == name);
            if self.age(key) < grace && !self.exists(&name) && !others {
                self.violate(format!("{name} went from the trash after {:?}", self.age(key)));
            }
            self.promised.remove(key);
        }
        self.objects.remove(key);
        if key.starts_with("packs/") {
            self.count("packs deleted");
            self.check_all(key);
        }
    }

    /// What must hold when a manifest is about to be deleted.
    fn check_forgotten(&mut self, actor: usize, name: &str) {
        if self.held.contains(name) {
            self.violate(format!("{name} is on hold and was forgotten"));
        }
        if self.harm > self.actors.get(actor).map_or(0, |actor| actor.began) {
            return;
        }
        let database = name.split_once('/').unwrap().0.to_owned();
        let others: Vec<Name> = self
            .backups()
            .into_iter()
            .filter(|other| other.starts_with(&format!("{database}/")) && other != name)
            .collect();
        if self.is_proven(name) && !others.iter().any(|other| self.is_proven(other)) {
            self.violate(format!("{name} was the last proven backup"));
        }
        // Whoever forgets takes the verified mark first, so the last complete one is missed here only by its others.
        if !others.is_empty() && !others.iter().any(|other| self.is_complete(other)) && !self.packs_of(name).is_empty()
        {
            let was_good = self.promised.values().any(|(promised, _)| promised == name) && !self.is_damaged(name);
            if was_good {
                self.violate(format!("{name} was the last complete backup"));
            }
        }
    }

    /// Every backup called verified, and everything promised to come back, has all its packs as they were written.
    pub fn check_all(&mut self, because: &str) {
        let verified = self.backups().into_iter().filter(|name| self.is_verified(name));
        let promised = self.promised.iter().filter(|(key, (_, grace))| self.age(key) < *grace);
        let names: BTreeSet<Name> = verified.chain(promised.map(|(_, (name, _))| name.clone())).collect();
        for name in names {
            for pack in self.packs_of(&name).to_vec() {
                let there = self.objects.get(&format!("packs/0/{}/{pack}", &pack[..2]));
                let is_right = there.is_some_and(|(body, _)| Some(body) == self.originals.get(&pack));
                if !is_right && !self.damaged.contains(&pack) {
                    self.violate(format!("{name} lacks pack {pack} ({because})"));
                }
            }
        }
    }
}

/// The packs a manifest names, read without the product's code.
fn packs_named(manifest: &[u8]) -> Vec<String> {
    let mut text = String::new();
    MultiGzDecoder::new(manifest).read_to_string(&mut text).unwrap();
    text.lines().filter_map(|line| line.strip_prefix("P\t")?.split('\t').next().map(str::to_owned)).collect()
}

/// One actor's way to the store.
#[derive(Clone)]
pub struct Gate {
    pub world: Arc<Mutex<World>>,
    pub actor: usize,
}

impl Gate {
    /// Something that takes time without touching the store.
    pub async fn wait(&self) {
        self.pass().await;
    }

    /// Waits until the scheduler lets this actor go on.
    async fn pass(&self) {
        let waiting = {
            let mut world = self.world.lock().unwrap();
            world.activity += 1;
            world.count("calls");
            let actor = &mut world.actors[self.actor];
            if actor.budget > 0 && !actor.dead {
                actor.budget -= 1;
                return;
            }
            let (go, waiting) = oneshot::channel();
            actor.waiting.push_back(go);
            waiting
        };
        if waiting.await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    fn missing(&self, key: &str) -> StoreError {
        StoreError::NotFound { place: self.describe(), key: key.to_owned() }
    }
}

#[async_trait]
impl Store for Gate {
    async fn put(&self, key: &str, body: Bytes, mode: PutMode) -> Result<(), StoreError> {
        self.pass().await;
        {
            let mut world = self.world.lock().unwrap();
            if mode == PutMode::Create && world.objects.contains_key(key) {
                return Err(StoreError::Exists { place: self.describe(), key: key.to_owned() });
            }
            world.put(self.actor, key, body);
        }
        // Done, but the answer may be long on its way.
        self.pass().await;
        Ok(())
    }

    async fn get(&self, key: &str) -> Result<Bytes, StoreError> {
        self.pass().await;
        let found = self.world.lock().unwrap().objects.get(key).map(|(body, _)| body.clone());
        found.ok_or_else(|| self.missing(key))
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        let body = self.get(key).await?;
        Ok(body.slice(range.start as usize..range.end as usize))
    }

    async fn head(&self, key: &str) -> Result<ObjectMeta, StoreError> {
        self.pass().await;
        let world = self.world.lock().unwrap();
        let (body, modified) = world.objects.get(key).ok_or_else(|| self.missing(key))?;
        Ok(ObjectMeta { key: key.to_owned(), size_bytes: body.len() as u64, modified: *modified })
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectMeta>, StoreError> {
        self.pass().await;
        let world = self.world.lock().unwrap();
        let meta = |key: &str| {
            let (body, modified) = &world.objects[key];
            ObjectMeta { key: key.to_owned(), size_bytes: body.len() as u64, modified: *modified }
        };
        Ok(world.keys(prefix).map(meta).collect())
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.pass().await;
        self.world.lock().unwrap().delete(self.actor, key);
        self.pass().await;
        Ok(())
    }

    fn describe(&self) -> String {
        "model".to_owned()
    }
}
