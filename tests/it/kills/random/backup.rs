//! `backup`, killed again and again beside one store: what each kill leaves is there for all that follow.

use super::{Killed, Killer, kills};
use crate::kills::common::{age_unfinished, assert_spool_is_empty, complete, sell_something, shop, store, unfinished};
use std::collections::BTreeMap;
use std::time::Duration;
use tests::agent::Agent;
use tests::is_long;
use tests::plain_tools::PlainTools;
use tests::postgres::{TestDatabase, dump_differences, pg_dump_text};
use tests::sqlite::{sqlite_differences, sqlite_dump_text};

/// One store, and what each backup in it must bring back.
struct Kept {
    agent: Agent,
    killer: Killer,
    url: String,
    /// Dump texts by id.
    dumps: BTreeMap<String, String>,
    /// Those that killed programs left.
    of_killed: Vec<String>,
}

/// Names of the database in the repository, used in turns: two backups of one name in the same second have to wait for
/// the next one, and the kills would hit that.
const NAMES: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];

impl Kept {
    /// The store with one backup under every name.
    #[track_caller]
    fn with(url: String, dump: &str) -> Self {
        let agent = Agent::new();
        let runs = NAMES.map(|name| agent.ok(&["backup", &url, "--name", name]));
        let took = runs.iter().skip(1).map(|run| run.elapsed).min().unwrap();
        let dumps = runs.iter().map(|run| (run.stdout.trim().to_owned(), dump.to_owned())).collect();
        Kept { agent, killer: Killer::of(took), url, dumps, of_killed: Vec::new() }
    }

    /// Kills a backup of what is `dump` now, judges the store, and makes the backup undisturbed.
    #[track_caller]
    fn kill_and_go_on(&mut self, dump: &str) {
        let url = self.url.clone();
        let arguments = ["backup", &url, "--name", NAMES[self.killer.kills % NAMES.len()]];
        let killed = self.killer.kill(&mut self.agent, &arguments);
        let has_made_it = self.nothing_is_broken(&killed, dump);
        // Only what is older than a day may be taken for abandoned.
        age_unfinished(&self.agent);
        let again = self.agent.ok(&arguments);
        let (place, id) = (&killed.place, again.stdout.trim().to_owned());
        if !has_made_it {
            self.killer.took(&again);
        }
        assert!(self.dumps.insert(id.clone(), dump.to_owned()).is_none(), "{place}: {id} was there already");
        let store = store(&self.agent);
        assert_eq!(store.ids(), self.dumps.keys().cloned().collect::<Vec<_>>(), "{place}");
        assert_eq!(unfinished(&store), Vec::<String>::new(), "{place}: of the killed program");
        let leases = store.public("leases/").len();
        assert!(leases <= self.killer.hits, "{place}: {leases} leases, one for each killed writer are the most");
        assert_spool_is_empty(&self.agent, place);
    }

    /// Whole files, every earlier backup as it was; a backup that the killed program may have made is noted. Returns
    /// whether there is one.
    #[track_caller]
    fn nothing_is_broken(&mut self, killed: &Killed, dump: &str) -> bool {
        let (place, store) = (&killed.place, store(&self.agent));
        store.are_whole();
        let ids = store.ids();
        for id in self.dumps.keys() {
            assert!(ids.contains(id), "{place}: {id} is lost");
        }
        for id in complete(&self.agent) {
            assert!(ids.contains(&id), "{place}: {id} is listed without a manifest");
        }
        let new: Vec<String> = ids.into_iter().filter(|id| !self.dumps.contains_key(id)).collect();
        assert!(new.len() <= 1, "{place}: {new:?}");
        if !killed.was_hit {
            assert_eq!(new, [killed.run.stdout.trim()], "{place}");
        }
        self.of_killed.extend(new.clone());
        self.dumps.extend(new.iter().map(|id| (id.clone(), dump.to_owned())));
        !new.is_empty()
    }

    /// After all kills: verify completes what lost its writer before the mark, prune removes what nobody needs, and then
    /// `comes_back` is asked about backups: those of killed programs, the first and the last, all in a long run.
    #[track_caller]
    fn end(self, comes_back: &dyn Fn(&Agent, &str, &str)) {
        self.killer.assert_hits();
        let (agent, store) = (&self.agent, store(&self.agent));
        agent.ok(&["verify"]);
        // Listed by time; the files are sorted by name.
        let mut complete = complete(agent);
        complete.sort();
        assert_eq!(complete, store.ids());
        store.age("", Duration::from_secs(30 * 24 * 3600));
        agent.ok(&["prune", "--apply"]);
        store.are_whole();
        assert!(store.orphans().is_empty(), "{:?}", store.orphans());
        assert_eq!(store.public("leases/"), Vec::<String>::new());
        assert_eq!(store.ids(), self.dumps.keys().cloned().collect::<Vec<_>>());
        let (first, last) = (self.dumps.keys().next(), self.dumps.keys().last());
        println!("{} of {} backups are of killed programs", self.of_killed.len(), self.dumps.len());
        for (id, dump) in &self.dumps {
            if is_long() || self.of_killed.contains(id) || Some(id) == first || Some(id) == last {
                comes_back(agent, id, dump);
            }
        }
    }
}

#[test]
fn backups_of_a_sqlite_file_killed_at_any_moment_never_harm_the_store() {
    let source = shop(512, 800);
    let mut kept = Kept::with(source.url(), &source.dump_text());
    for number in 0..kills(25) {
        sell_something(&source, &format!("sold {number}"));
        kept.kill_and_go_on(&source.dump_text());
    }
    kept.end(&|agent, id, dump| {
        let target = agent.home().join("again.db");
        let url = format!("sqlite:{}", target.display());
        assert_eq!(agent.json(&["restore", id, "--into", &url])["proven"], true, "{id}");
        assert_eq!(sqlite_differences(dump, &sqlite_dump_text(&target)), Vec::<String>::new(), "{id}");
        assert_eq!(sqlite_differences(dump, &store(agent).sqlite_dump(id)), Vec::<String>::new(), "{id}");
        std::fs::remove_file(target).unwrap();
    });
}

#[test]
fn backups_of_a_postgresql_database_killed_at_any_moment_never_harm_the_store() {
    let source = TestDatabase::new();
    source.psql(
        "CREATE TABLE a (id int PRIMARY KEY, t text); INSERT INTO a SELECT i, md5(i::text) FROM generate_series(1, 500) i;
         CREATE TABLE b (id serial PRIMARY KEY, a int REFERENCES a); INSERT INTO b (a) SELECT id FROM a",
    );
    let url = source.url();
    let mut kept = Kept::with(url.clone(), &pg_dump_text(&url));
    for number in 0..kills(25) {
        source.psql(&format!("UPDATE a SET t = 'sold {number}' WHERE id = 500"));
        kept.kill_and_go_on(&pg_dump_text(&url));
    }
    kept.end(&|agent, id, dump| {
        let (tools, target) = (PlainTools::with(&["psql"]), TestDatabase::reserved());
        let script = agent.store_dir().join("restore.sh").display().to_string();
        tools.ok(agent.home(), "sh", &[&script, id, &target.url()]);
        assert_eq!(dump_differences(dump, &pg_dump_text(&target.url())), Vec::<String>::new(), "{id}");
    });
}
