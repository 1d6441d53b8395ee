//! The same for PostgreSQL, where a restore takes more from the manifest than rows: sequences, and statements to run.

use super::super::bring_back;
use super::Verdict;
use super::lines::Lines;
use super::scene::{Forged, dressed, open_or_init, store_at, taken};
use backup_agent::error::Error;
use shared::model::Class;
use tests::fake_clock::FakeClock;
use tests::memory_store::{MemoryStore, Objects};
use tests::postgres::{TestDatabase, dump_differences, on_server, pg_dump_text};

/// A backup of a small database, and what it must come back as.
struct Victim {
    source: TestDatabase,
    objects: Objects,
    name: String,
    expected: String,
    /// A role that no backup knows of.
    stranger: String,
}

/// One tampering: how the objects are changed, and what becomes of it.
struct Case {
    name: &'static str,
    expected: Verdict,
    change: fn(&Victim, &Lines) -> Forged,
}

const SCHEMA: &str = "
    CREATE TABLE a (id int PRIMARY KEY, t text); INSERT INTO a SELECT i, md5(i::text) FROM generate_series(1, 20) i;
    CREATE INDEX a_t ON a (t); CREATE SEQUENCE s; SELECT setval('s', 41); SELECT lo_from_bytea(0, 'large');";

fn clock() -> FakeClock {
    FakeClock::at("2025-03-01T03:00:00Z".parse().unwrap())
}

async fn stored(url: &str) -> (MemoryStore, String) {
    let (store, clock, spool) = (MemoryStore::default(), clock(), tempfile::tempdir().unwrap());
    let repository = open_or_init(&store, &clock).await;
    let name = store_at(&repository, "pg", url, spool.path(), &clock).await;
    (store, name)
}

impl Victim {
    async fn new() -> Victim {
        let source = TestDatabase::new();
        // A grant of the database itself, so that a restore has some to give.
        source.psql(&format!("{SCHEMA} GRANT CONNECT ON DATABASE {} TO PUBLIC", source.name()));
        let (store, name) = stored(&source.url()).await;
        let expected = pg_dump_text(&source.url());
        let stranger = format!("stranger_{}", source.name());
        Victim { source, objects: store.objects(), name, expected, stranger }
    }

    fn key(&self) -> String {
        format!("backups/{}/manifest.tsv.gz", self.name)
    }

    /// What Holdfast itself makes of a copy of the database after `sql`, dressed as this backup.
    fn forge(&self, lines: &Lines, sql: &str) -> Forged {
        let copy = TestDatabase::create_from_template(self.source.name());
        copy.psql(&format!("{sql}; GRANT CONNECT ON DATABASE {} TO PUBLIC", copy.name()));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let (store, name) = runtime.block_on(stored(&copy.url()));
        let mut forged = taken(&store, &name);
        forged.lines = dressed(forged.lines, lines);
        forged
    }

    fn tampered(&self, case: &Case) -> Objects {
        let forged = (case.change)(self, &Lines::of(&self.objects[&self.key()]));
        let mut objects = self.objects.clone();
        objects.insert(self.key(), forged.lines.object());
        objects.extend(forged.packs);
        assert_ne!(objects, self.objects, "{}: nothing was changed", case.name);
        objects
    }

    fn judge(&self, restored: Result<bool, Error>, target: &TestDatabase) -> (Verdict, String) {
        match restored {
            Ok(proven) => {
                assert!(proven);
                let mut differences = dump_differences(&self.expected, &pg_dump_text(&target.url()));
                let known = format!("SELECT 1 FROM pg_roles WHERE rolname = '{}'", self.stranger);
                differences.extend((!on_server(&known).trim().is_empty()).then(|| "a role was made".to_owned()));
                let verdict = if differences.is_empty() { Verdict::Identical } else { Verdict::OnlyASignature };
                (verdict, differences.join(" "))
            }
            Err(error) => {
                assert_ne!(error.class(), Class::Transient, "{error}");
                assert!(!target.exists(), "{error}");
                drop_kept(target);
                (Verdict::Refused, error.to_string())
            }
        }
    }
}

/// Drops what a restore kept to be looked at.
fn drop_kept(target: &TestDatabase) {
    let like = format!("SELECT datname FROM pg_database WHERE datname LIKE '{}%'", target.name());
    on_server(&like).split_whitespace().for_each(|name| drop(TestDatabase::adopt(name)));
}

/// The lines alone are changed.
fn changed(lines: &Lines, change: impl FnOnce(&mut Lines)) -> Forged {
    let mut lines = lines.clone();
    change(&mut lines);
    Forged { lines, packs: Objects::new() }
}

/// Puts the fingerprint of rows and schema back that the backup had.
fn with_fingerprint_of(mut forged: Forged, lines: &Lines) -> Forged {
    forged.lines.replace("T", lines.of_kind("T"));
    forged.lines.set_text("fingerprint.json", &lines.text("fingerprint.json"));
    forged.lines.set_header("schema_digest", lines.header("schema_digest"));
    forged
}

fn change_facts(lines: &mut Lines, change: impl FnOnce(&mut serde_json::Value)) {
    // As the header is written: JSON with its backslashes doubled.
    let mut facts: serde_json::Value = serde_json::from_str(&lines.header("facts").replace("\\\\", "\\")).unwrap();
    change(&mut facts);
    lines.set_header("facts", &facts.to_string().replace('\\', "\\\\"));
}

/// Then the stored schema is compared with itself, as today's client writes it.
fn name_another_pg_dump(lines: &mut Lines) {
    change_facts(lines, |facts| facts["pg_dump"] = format!("{}.0", facts["pg_dump"].as_str().unwrap()).into());
}

const OTHER_ROW: &str = "UPDATE a SET t = 'mallory' WHERE id = 7";
const NO_INDEX: &str = "DROP INDEX a_t";

const CASES: &[Case] = &[
    Case {
        name: "a row: chunk ids made anew",
        expected: Verdict::Refused,
        change: |victim, lines| with_fingerprint_of(victim.forge(lines, OTHER_ROW), lines),
    },
    Case {
        name: "a row: everything made anew",
        expected: Verdict::OnlyASignature,
        change: |victim, lines| victim.forge(lines, OTHER_ROW),
    },
    Case {
        name: "a sequence's position",
        expected: Verdict::OnlyASignature,
        change: |_, lines| {
            changed(lines, |lines| {
                let at = lines.places("S")[0];
                lines.0[at][2] = "7".into();
            })
        },
    },
    Case {
        name: "a large object: chunk ids made anew",
        expected: Verdict::Refused,
        change: |victim, lines| {
            let sql = "SELECT lo_put(oid, 0, 'other') FROM pg_largeobject_metadata";
            with_fingerprint_of(victim.forge(lines, sql), lines)
        },
    },
    Case {
        name: "an index: chunk ids made anew",
        expected: Verdict::Refused,
        change: |victim, lines| with_fingerprint_of(victim.forge(lines, NO_INDEX), lines),
    },
    Case {
        name: "an index: chunk ids made anew, and another pg_dump named",
        expected: Verdict::OnlyASignature,
        change: |victim, lines| {
            let mut forged = with_fingerprint_of(victim.forge(lines, NO_INDEX), lines);
            name_another_pg_dump(&mut forged.lines);
            forged
        },
    },
    Case {
        name: "another pg_dump named",
        expected: Verdict::Identical,
        change: |_, lines| changed(lines, name_another_pg_dump),
    },
    Case {
        name: "facts: a setting of the database",
        expected: Verdict::Refused,
        change: |_, lines| {
            changed(lines, |lines| {
                change_facts(lines, |facts| {
                    facts["database"]["settings"] =
                        serde_json::json!([{"role": null, "name": "work_mem", "value": "64kB"}]);
                });
            })
        },
    },
    Case {
        name: "facts: a statement among the grants",
        expected: Verdict::OnlyASignature,
        change: |victim, lines| {
            changed(lines, |lines| {
                change_facts(lines, |facts| {
                    let grants = facts["database"]["grants"].as_array_mut().unwrap();
                    assert!(!grants.is_empty(), "the database has no grants");
                    grants.push(format!("CREATE ROLE {} SUPERUSER", victim.stranger).into());
                });
            })
        },
    },
];

#[test]
fn consistent_tampers_of_a_postgres_backup_are_caught_or_are_known_to_need_a_signature() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let victim = runtime.block_on(Victim::new());
    let mut wrong = Vec::new();
    for case in CASES {
        let (store, target) = (MemoryStore::holding(victim.tampered(case)), TestDatabase::reserved());
        let restored =
            runtime.block_on(bring_back(&store, &victim.name, &target.url())).map(|restored| restored.proven);
        let (verdict, said) = victim.judge(restored, &target);
        on_server(&format!("DROP ROLE IF EXISTS {}", victim.stranger));
        println!("{} | {verdict:?} | {}", case.name, said.chars().take(400).collect::<String>());
        if verdict != case.expected {
            wrong.push(format!("{}: {verdict:?} and not {:?}: {said}", case.name, case.expected));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
