//! Openness: a backup comes back with sh, tar, gzip (or zstd), the core utilities and psql or sqlite3, without Holdfast.

use std::path::{Path, PathBuf};
use tests::agent::Agent;
use tests::fixtures;
use tests::plain_tools::PlainTools;
use tests::postgres::{self, TestDatabase, dump_differences, pg_dump_with_settings};
use tests::sqlite::{TestFile, sqlite_differences, sqlite_dump_text};

/// A URL to restore into, and what looks at the result.
type Target = (String, Box<dyn Fn()>);

const CODECS: [&str; 2] = ["gzip", "zstd"];

/// A store with one backup in it.
struct Stored {
    agent: Agent,
    id: String,
    codec: &'static str,
}

impl Stored {
    fn of(url: &str, name: &str, codec: &'static str) -> Stored {
        let agent = Agent::new();
        agent.ok(&["init", "--codec", codec]);
        let id = agent.ok(&["backup", url, "--name", name]).stdout.trim().to_owned();
        assert!(id.starts_with(&format!("{name}/")), "{id}");
        Stored { agent, id, codec }
    }

    /// The plain tools for this codec and one client.
    fn tools(&self, client: &str) -> PlainTools {
        let mut more = vec![client];
        if self.codec == "zstd" {
            more.push("zstd");
        }
        PlainTools::with(&more)
    }

    fn script(&self) -> PathBuf {
        self.agent.store_dir().join("restore.sh")
    }

    fn manifest(&self) -> PathBuf {
        self.agent.store_dir().join("backups").join(&self.id).join("manifest.tsv.gz")
    }

    /// The packs, of which there must be one at least.
    fn packs(&self) -> Vec<PathBuf> {
        let mut packs = Vec::new();
        for folder in std::fs::read_dir(self.agent.store_dir().join("packs/0")).unwrap() {
            packs.extend(std::fs::read_dir(folder.unwrap().path()).unwrap().map(|file| file.unwrap().path()));
        }
        assert!(!packs.is_empty());
        packs
    }

    /// Restores by the store's own script, by its archive, and by an export; `judge` looks at each target.
    fn comes_back(&self, client: &str, target: &dyn Fn(&Path) -> Target) {
        let tools = self.tools(client);
        let place = tempfile::tempdir().unwrap();
        let dir = place.path();
        let script = self.script().display().to_string();
        assert_eq!(tools.ok(dir, "sh", &[script.as_str()]), format!("{}\n", self.id));

        let (url, judge) = target(dir);
        tools.ok(dir, "sh", &[&script, &self.id, &url]);
        judge();

        let ending = if self.codec == "gzip" { "tar.gz" } else { "tar.zst" };
        let (by_script, by_export) = (format!("by-script.{ending}"), format!("by-export.{ending}"));
        tools.ok(dir, "sh", &[script.as_str(), &self.id, "-o", &by_script]);
        self.agent.ok(&["export", &self.id, "-o", &dir.join(&by_export).display().to_string()]);
        let (left, right) =
            (std::fs::read(dir.join(&by_script)).unwrap(), std::fs::read(dir.join(&by_export)).unwrap());
        assert!(!left.is_empty() && left == right, "the script's archive differs from the exported one");

        tools.ok(dir, "tar", &["-xf", &by_export]);
        let folder = self.id.replace('/', "-");
        let (url, judge) = target(dir);
        tools.ok(dir, "sh", &[&format!("{folder}/restore.sh"), &url]);
        judge();
    }
}

fn sqlite_comes_back(source: &TestFile, name: &str) {
    let expected = source.dump_text();
    for codec in CODECS {
        let stored = Stored::of(&source.url(), name, codec);
        let number = std::cell::Cell::new(0);
        stored.comes_back("sqlite3", &|dir| {
            number.set(number.get() + 1);
            let file = dir.join(format!("it's \"new\" {}.db", number.get()));
            let expected = expected.clone();
            let judge = {
                let file = file.clone();
                move || assert_eq!(sqlite_differences(&expected, &sqlite_dump_text(&file)), Vec::<String>::new())
            };
            (format!("sqlite:{}", file.display()), Box::new(judge))
        });
    }
}

fn postgres_comes_back(source: &TestDatabase, name: &str) {
    let expected = pg_dump_with_settings(&source.url());
    for codec in CODECS {
        let stored = Stored::of(&source.url(), name, codec);
        stored.comes_back("psql", &|_| {
            let target = TestDatabase::named_later("it's \"new\" 100% ");
            let (expected, url) = (expected.clone(), target.url());
            let judge = move || {
                // pg_dump writes commands of psql for an odd name, which would have to be taken out to compare.
                let plain = TestDatabase::reserved();
                let (odd, name) = (postgres::quoted(target.name()), plain.name());
                postgres::on_server(&format!("ALTER DATABASE {odd} RENAME TO {name}"));
                let found = pg_dump_with_settings(&plain.url());
                assert_eq!(dump_differences(&expected, &found), Vec::<String>::new());
            };
            (url, Box::new(judge))
        });
    }
}

#[test]
fn sqlite_chinook_comes_back_without_holdfast() {
    sqlite_comes_back(&fixtures::sqlite("chinook.sqlite"), "chinook");
}

#[test]
fn the_awkward_sqlite_database_comes_back_without_holdfast() {
    sqlite_comes_back(&fixtures::sqlite("awkward-sqlite.sql"), "awkward");
}

#[test]
fn postgres_chinook_comes_back_without_holdfast() {
    postgres_comes_back(&fixtures::postgres("chinook-postgres.sql"), "chinook");
}

#[test]
fn the_awkward_postgres_database_comes_back_without_holdfast() {
    postgres_comes_back(&fixtures::loaded("awkward.sql"), "awkward");
}

fn small() -> TestFile {
    let source = TestFile::named("small.db");
    source.sqlite3("CREATE TABLE t (id INTEGER PRIMARY KEY, t TEXT); INSERT INTO t VALUES (1, 'one'), (2, 'two');");
    source
}

/// The script must refuse, say `why`, and leave the folder of the target empty.
#[track_caller]
fn refuses(stored: &Stored, why: &str) {
    let tools = stored.tools("sqlite3");
    let place = tempfile::tempdir().unwrap();
    let script = stored.script().display().to_string();
    let said = tools.fails(place.path(), "sh", &[script.as_str(), &stored.id, "sqlite:new.db"]);
    assert!(said.contains(why), "{why:?} expected: {said}");
    assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0, "something was left: {said}");
}

fn change(file: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = std::fs::read(file).unwrap();
    change(&mut bytes);
    std::fs::write(file, bytes).unwrap();
}

#[test]
fn the_script_refuses_a_pack_with_a_flipped_bit_a_short_one_and_a_missing_one() {
    let stored = Stored::of(&small().url(), "small", "gzip");
    let [pack] = stored.packs().try_into().unwrap();
    let whole = std::fs::read(&pack).unwrap();
    change(&pack, |bytes| *bytes.last_mut().unwrap() ^= 1);
    refuses(&stored, "a pack is damaged; nothing was restored");
    std::fs::write(&pack, &whole[..whole.len() - 1]).unwrap();
    refuses(&stored, "a pack is damaged; nothing was restored");
    std::fs::remove_file(&pack).unwrap();
    refuses(&stored, "is missing; backup small/");
}

#[test]
fn the_script_refuses_a_manifest_that_is_cut_changed_or_of_a_later_version() {
    let stored = Stored::of(&small().url(), "small", "gzip");
    let whole = std::fs::read(stored.manifest()).unwrap();
    let text = gunzip(&whole);
    std::fs::write(stored.manifest(), &whole[..whole.len() / 2]).unwrap();
    refuses(&stored, "is damaged");
    let lines: Vec<&str> = text.lines().collect();
    let without_end = lines[..lines.len() - 1].join("\n") + "\n";
    std::fs::write(stored.manifest(), gzip(&without_end)).unwrap();
    refuses(&stored, "is cut short");
    let without_one = [&lines[..lines.len() - 2], &lines[lines.len() - 1..]].concat().join("\n") + "\n";
    std::fs::write(stored.manifest(), gzip(&without_one)).unwrap();
    refuses(&stored, "wrong number of lines");
    let changed = text.replacen("H\tcodec\tgzip", "H\tcodec\tgzup", 1);
    assert_ne!(changed, text);
    std::fs::write(stored.manifest(), gzip(&changed)).unwrap();
    refuses(&stored, "wrong checksum");
    let later = text.replacen("H\tformat\t1\n", "H\tformat\t2\n", 1);
    assert_ne!(later, text);
    std::fs::write(stored.manifest(), gzip(&later)).unwrap();
    refuses(&stored, "format version 2");
    std::fs::remove_file(stored.manifest()).unwrap();
    refuses(&stored, "there is no backup small/");
}

#[test]
fn an_unpacked_folder_that_is_not_whole_is_refused() {
    let stored = Stored::of(&small().url(), "small", "gzip");
    let tools = stored.tools("sqlite3");
    let place = tempfile::tempdir().unwrap();
    stored.agent.ok(&["export", &stored.id, "-o", &place.path().join("small.tar.gz").display().to_string()]);
    tools.ok(place.path(), "tar", &["-xzf", "small.tar.gz"]);
    let folder = place.path().join(stored.id.replace('/', "-"));
    let script = folder.join("restore.sh").display().to_string();
    let empty = tempfile::tempdir().unwrap();
    let refuses = |why: &str| {
        let said = tools.fails(empty.path(), "sh", &[script.as_str(), "sqlite:new.db"]);
        assert!(said.contains(why), "{why:?} expected: {said}");
        assert_eq!(std::fs::read_dir(empty.path()).unwrap().count(), 0, "{said}");
    };
    change(&folder.join("database.sqlite"), |bytes| *bytes.last_mut().unwrap() ^= 1);
    refuses("database.sqlite is damaged");
    change(&folder.join("database.sqlite"), |bytes| bytes.truncate(100));
    refuses("has 100 bytes instead of");
    change(&folder.join("verify.sql"), |bytes| bytes.truncate(30));
    refuses("verify.sql is damaged");
    std::fs::remove_file(folder.join("COMPLETE")).unwrap();
    refuses("there is no COMPLETE");
}

#[test]
fn the_scripts_refuse_a_target_that_is_taken() {
    let stored = Stored::of(&small().url(), "small", "gzip");
    let tools = stored.tools("sqlite3");
    let taken = small();
    let before = taken.dump_text();
    let said = tools.fails(taken.folder(), "sh", &[&stored.script().display().to_string(), &stored.id, &taken.url()]);
    assert!(said.contains("exists and is not empty: it was not touched"), "{said}");
    let file = taken.folder().join("taken.tar.gz");
    std::fs::write(&file, "mine").unwrap();
    let arguments = [stored.script().display().to_string(), stored.id.clone(), "-o".into(), file.display().to_string()];
    let said = tools.fails(taken.folder(), "sh", &arguments);
    assert!(said.contains("exists already"), "{said}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "mine");
    assert_eq!(taken.dump_text(), before);
}

#[test]
fn a_url_with_a_password_is_refused_and_nothing_is_made() {
    let source = TestDatabase::new();
    source.psql("CREATE TABLE t (id int); INSERT INTO t VALUES (1)");
    let stored = Stored::of(&source.url(), "small", "gzip");
    let target = TestDatabase::reserved();
    let tools = stored.tools("psql");
    let place = tempfile::tempdir().unwrap();
    let url = postgres::url_as(&target.url(), "postgres", Some("canary"));
    let plain = target.url();
    for url in [url, format!("{plain}?password=canary"), format!("{plain}?sslmode=disable&sslpassword=canary")] {
        let said = tools.fails(place.path(), "sh", &[&stored.script().display().to_string(), &stored.id, &url]);
        assert!(said.contains("holds a password") && !said.contains("canary"), "{said}");
    }
    assert!(!target.exists());
}

#[test]
fn the_postgres_script_refuses_an_incomplete_folder_and_a_filled_database() {
    let source = TestDatabase::new();
    source.psql("CREATE TABLE t (id int); INSERT INTO t VALUES (1)");
    let stored = Stored::of(&source.url(), "small", "gzip");
    let tools = stored.tools("psql");
    let place = tempfile::tempdir().unwrap();
    let script = stored.script().display().to_string();
    let said = tools.fails(place.path(), "sh", &[&script, &stored.id, &source.url()]);
    assert!(said.contains("is not empty; nothing was restored"), "{said}");
    assert_eq!(source.query_value("SELECT count(*) FROM t"), "1");

    stored.agent.ok(&["export", &stored.id, "-o", &place.path().join("small.tar.gz").display().to_string()]);
    tools.ok(place.path(), "tar", &["-xzf", "small.tar.gz"]);
    let folder = place.path().join(stored.id.replace('/', "-"));
    std::fs::remove_file(folder.join("COMPLETE")).unwrap();
    let target = TestDatabase::reserved();
    let said = tools.fails(place.path(), "sh", &[folder.join("restore.sh").display().to_string(), target.url()]);
    assert!(said.contains("COMPLETE is missing"), "{said}");
    assert!(!target.exists());
}

#[test]
fn a_store_in_a_folder_with_an_odd_name_restores_too() {
    let stored = Stored::of(&small().url(), "small", "gzip");
    let place = tempfile::tempdir().unwrap();
    let odd = place.path().join("it's $HOME `a` \\ \"store\"\nline *");
    std::fs::rename(stored.agent.store_dir(), &odd).unwrap();
    let tools = stored.tools("sqlite3");
    tools.ok(place.path(), "sh", &[odd.join("restore.sh").as_os_str(), stored.id.as_ref(), "new.db".as_ref()]);
    assert_eq!(sqlite_differences(&small().dump_text(), &sqlite_dump_text(&place.path().join("new.db"))), [""; 0]);
}

fn gunzip(bytes: &[u8]) -> String {
    std::io::read_to_string(flate2::read::MultiGzDecoder::new(bytes)).unwrap()
}

fn gzip(text: &str) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}
