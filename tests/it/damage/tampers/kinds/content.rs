//! The database itself is changed, and more or less of what is computed from it.

use super::super::scene::{Forged, ORDERS, PEOPLE, Scene};
use super::super::{Door, Tamper, Verdict};
use super::{Kind, any};
use tests::mutations::Draws;

/// A change of a database, as SQL.
struct Change {
    name: &'static str,
    sql: fn(&mut Draws) -> String,
    shows_in: Part,
}

/// The parts of a fingerprint that a change shows in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// Numbers and digests of rows.
    Rows,
    /// The schema's statements, and the numbers of the file among them.
    Statements,
    Both,
}

const CHANGES: &[Change] = &[
    Change { name: "a value", sql: value, shows_in: Part::Rows },
    Change { name: "a row removed", sql: removed, shows_in: Part::Rows },
    Change { name: "a row doubled", sql: doubled, shows_in: Part::Rows },
    Change { name: "two rows exchanged", sql: exchanged, shows_in: Part::Rows },
    Change { name: "a row in another table", sql: moved, shows_in: Part::Rows },
    Change { name: "a row under another number", sql: renumbered, shows_in: Part::Rows },
    Change { name: "a table", sql: table, shows_in: Part::Both },
    Change { name: "an index, view or trigger", sql: schema, shows_in: Part::Statements },
    Change { name: "a number of the file", sql: number, shows_in: Part::Statements },
];

/// How much of what is computed is made right. The checksums of manifest and packs always are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    /// Members compressed anew, and where they lie.
    Members,
    /// The ids of chunks, too.
    Chunks,
    /// The numbers and digests of rows, too, but not the schema's statements.
    Rows,
    /// The schema's statements, too, but not numbers and digests of rows.
    Statements,
    /// Everything, as Holdfast itself would have.
    Everything,
}

impl Level {
    fn name(self) -> &'static str {
        match self {
            Level::Members => "members made anew",
            Level::Chunks => "chunk ids made anew",
            Level::Rows => "chunk ids and row digests made anew",
            Level::Statements => "chunk ids and schema made anew",
            Level::Everything => "everything made anew",
        }
    }

    /// The forged backup with what this level leaves as it was.
    fn of(self, scene: &Scene, victim: usize, mut forged: Forged) -> Forged {
        let (lines, whole) = (&mut forged.lines, scene.lines(victim));
        if self == Level::Members {
            for (at, before) in lines.chunks().into_iter().zip(whole.chunks()) {
                lines.0[at][5] = whole.0[before][5].clone();
            }
        }
        if !matches!(self, Level::Rows | Level::Everything) {
            lines.replace("T", whole.of_kind("T"));
        }
        if !matches!(self, Level::Statements | Level::Everything) {
            lines.set_text("fingerprint.json", &whole.text("fingerprint.json"));
            lines.set_header("schema_digest", whole.header("schema_digest"));
        }
        forged
    }

    /// Whether a change passes at this level: everything it shows in must be made anew.
    fn expected(self, change: &Change) -> Verdict {
        match (self, change.shows_in) {
            (Level::Everything, _) | (Level::Rows, Part::Rows) | (Level::Statements, Part::Statements) => {
                Verdict::OnlyASignature
            }
            _ => Verdict::Refused,
        }
    }

    /// Whether this level makes anything anew that a lower one does not.
    fn differs(self, change: &Change) -> bool {
        match self {
            Level::Rows => change.shows_in != Part::Statements,
            Level::Statements => change.shows_in != Part::Rows,
            _ => true,
        }
    }
}

pub fn kinds() -> Vec<Kind> {
    let levels = [Level::Members, Level::Chunks, Level::Rows, Level::Statements, Level::Everything];
    let kind = |change: &'static Change, level: Level| {
        Kind::new(format!("{}: {}", change.name, level.name()), level.expected(change), move |scene, draws| {
            let (victim, sql) = (any(scene, draws), (change.sql)(draws));
            let forged = level.of(scene, victim, scene.forge(victim, &sql));
            let what = format!("{}: {sql}", scene.name(victim));
            Tamper { what, objects: scene.with_forged(victim, &forged), door: Door::ById(victim) }
        })
    };
    let of_change =
        |change| levels.into_iter().filter(move |level| level.differs(change)).map(move |level| kind(change, level));
    CHANGES.iter().flat_map(of_change).collect()
}

fn person(draws: &mut Draws) -> usize {
    1 + draws.below(PEOPLE)
}

/// An order; those the scene itself changes are left alone.
fn order(draws: &mut Draws) -> usize {
    10 + draws.below(ORDERS - 10)
}

fn value(draws: &mut Draws) -> String {
    let (person, order, any) = (person(draws), order(draws), draws.below(1_000_000));
    (*draws.pick(&[
        format!("UPDATE customers SET name = 'mallory {any}' WHERE id = {person}"),
        format!("UPDATE suppliers SET city = NULL WHERE id = {person}"),
        format!("UPDATE orders SET cents = cents + 1 + {any} WHERE id = {order}"),
        format!("UPDATE orders SET cents = cents || '' || ' c' WHERE id = {order}"),
        format!("UPDATE orders SET note = 'note {any}' WHERE id = {order}"),
    ]))
    .clone()
}

fn removed(draws: &mut Draws) -> String {
    format!("DELETE FROM orders WHERE id = {}", order(draws))
}

fn doubled(draws: &mut Draws) -> String {
    let order = order(draws);
    format!("INSERT INTO orders (customer, cents, note) SELECT customer, cents, note FROM orders WHERE id = {order}")
}

fn exchanged(draws: &mut Draws) -> String {
    let left = person(draws);
    let right = 1 + (left + draws.below(PEOPLE - 1)) % PEOPLE;
    format!(
        "CREATE TEMP TABLE kept AS SELECT id, name FROM customers WHERE id IN ({left}, {right});
         UPDATE customers SET name = (SELECT name FROM kept WHERE kept.id = {left} + {right} - customers.id)
         WHERE id IN ({left}, {right})"
    )
}

fn moved(draws: &mut Draws) -> String {
    let person = person(draws);
    format!(
        "INSERT INTO customers (name, city) SELECT name, city FROM suppliers WHERE id = {person};
         DELETE FROM suppliers WHERE id = {person}"
    )
}

fn renumbered(draws: &mut Draws) -> String {
    format!("UPDATE orders SET id = id + 1000 WHERE id = {}", order(draws))
}

fn table(draws: &mut Draws) -> String {
    (*draws.pick(&[
        "DROP TABLE suppliers",
        "CREATE TABLE more (m TEXT); INSERT INTO more VALUES ('more')",
        "ALTER TABLE customers ADD COLUMN vip INTEGER DEFAULT 1",
        "ALTER TABLE suppliers RENAME TO vendors",
    ]))
    .to_owned()
}

fn schema(draws: &mut Draws) -> String {
    (*draws.pick(&[
        "DROP INDEX orders_note",
        "DROP TRIGGER no_gifts",
        "DROP VIEW dear; CREATE VIEW dear AS SELECT * FROM orders WHERE cents > 9000",
        "CREATE TRIGGER thief AFTER INSERT ON orders BEGIN DELETE FROM suppliers; END",
        "CREATE UNIQUE INDEX one_name ON customers (name)",
    ]))
    .to_owned()
}

fn number(draws: &mut Draws) -> String {
    let pragma = draws.pick(&["user_version", "application_id"]);
    format!("PRAGMA {pragma} = {}", 100 + draws.below(1000))
}

/// What a proof does not cover (FORMAT.md, section 7) needs no other fingerprint; and what only seems so.
pub fn beside_the_fingerprint() -> Vec<Kind> {
    let by_sql = |name: &str, sql: &'static str| {
        Kind::new(format!("{name}: chunk ids made anew"), Verdict::OnlyASignature, move |scene, draws| {
            let victim = any(scene, draws);
            let forged = Level::Chunks.of(scene, victim, scene.forge(victim, sql));
            let what = format!("{}: {sql}", scene.name(victim));
            Tamper { what, objects: scene.with_forged(victim, &forged), door: Door::ById(victim) }
        })
    };
    vec![
        by_sql("the planner's statistics", "UPDATE sqlite_stat1 SET stat = '1 1' WHERE tbl = 'orders'"),
        by_sql("the size of a page", "PRAGMA page_size = 1024; VACUUM"),
        by_sql("auto-vacuum", "PRAGMA auto_vacuum = FULL; VACUUM"),
        Kind::new("the journal mode: chunk ids made anew", Verdict::OnlyASignature, journal_mode),
        Kind::new("bytes of a free page: chunk ids made anew", Verdict::OnlyASignature, free_page),
        Kind::new("an index without its table: chunk ids made anew", Verdict::Refused, index_entry),
        Kind::new("a table without its index: chunk ids and row digests made anew", Verdict::Refused, index_entry),
        Kind::new("a stored generated value: chunk ids made anew", Verdict::Named, |scene, draws| {
            generated(scene, draws, false)
        }),
        Kind::new("a stored generated value: its digest, too", Verdict::OnlyASignature, |scene, draws| {
            generated(scene, draws, true)
        }),
    ]
}

fn patched(scene: &Scene, victim: usize, what: &str, door: Door, patch: impl FnOnce(&mut Vec<u8>)) -> Tamper {
    let mut raw = scene.backups[victim].expected.bytes.clone();
    patch(&mut raw);
    let forged = scene.forge_bytes(victim, raw);
    let what = format!("{}: {what}", scene.name(victim));
    Tamper { what, objects: scene.with_forged(victim, &forged), door }
}

fn journal_mode(scene: &Scene, draws: &mut Draws) -> Tamper {
    let victim = any(scene, draws);
    // Versions for writing and reading in the file's header: 1 with a rollback journal, 2 with a WAL.
    patched(scene, victim, "WAL", Door::Bytes(victim), |raw| raw[18..20].copy_from_slice(&[2, 2]))
}

fn free_page(scene: &Scene, draws: &mut Draws) -> Tamper {
    let victim = any(scene, draws);
    let number = |raw: &[u8], at: usize| u32::from_be_bytes(raw[at..at + 4].try_into().unwrap()) as usize;
    patched(scene, victim, "a free page", Door::Bytes(victim), |raw| {
        let trunk = (number(raw, 32) - 1) * 512;
        assert!(number(raw, trunk + 4) > 0, "the free list has no leaves");
        let leaf = (number(raw, trunk + 8) - 1) * 512;
        raw[leaf + draws.below(512)] ^= 0x55;
    })
}

/// Where these bytes stand in the file.
fn places(raw: &[u8], wanted: &[u8]) -> Vec<usize> {
    raw.windows(wanted.len()).enumerate().filter(|(_, part)| *part == wanted).map(|(at, _)| at).collect()
}

/// One value of a backup's database.
fn asked(scene: &Scene, victim: usize, sql: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("asked.db");
    std::fs::write(&file, &scene.backups[victim].expected.bytes).unwrap();
    rusqlite::Connection::open(&file).unwrap().query_row(sql, [], |row| row.get(0)).unwrap()
}

/// A note stands in its row and in the index; only one of the two is changed.
fn index_entry(scene: &Scene, draws: &mut Draws) -> Tamper {
    let (victim, order) = (any(scene, draws), order(draws));
    let note = asked(scene, victim, &format!("SELECT note FROM orders WHERE id = {order}"));
    patched(scene, victim, &note, Door::ById(victim), |raw| {
        let found = places(raw, note.as_bytes());
        assert!(found.len() >= 2, "{note} stands {} times", found.len());
        let at = draws.pick(&found) + note.len() - 1;
        raw[at] ^= 1;
    })
}

/// The value of a generated column that is stored is not what its expression gives.
fn generated(scene: &Scene, draws: &mut Draws, with_digest: bool) -> Tamper {
    let (victim, order) = (any(scene, draws), order(draws));
    let label = asked(scene, victim, &format!("SELECT label FROM orders WHERE id = {order}"));
    let mut raw = scene.backups[victim].expected.bytes.clone();
    let found = places(&raw, label.as_bytes());
    assert!(!found.is_empty(), "{label} stands nowhere");
    raw[found[0] + 1] ^= 1;
    let mut forged = scene.forge_bytes(victim, raw);
    if with_digest {
        let digest = digest_with_generated(scene, victim, &forged);
        let at = forged.lines.places("T").into_iter().find(|at| forged.lines.0[*at][5] != "-").unwrap();
        assert_ne!(forged.lines.0[at][5], digest);
        forged.lines.0[at][5] = digest;
    }
    let what = format!("{}: {label}", scene.name(victim));
    Tamper { what, objects: scene.with_forged(victim, &forged), door: Door::ById(victim) }
}

/// What a proof of the forged backup finds in the generated columns, in the words of the product's own fingerprint.
fn digest_with_generated(scene: &Scene, victim: usize, forged: &Forged) -> String {
    scene.fingerprint(&scene.with_forged(victim, forged), victim).tables["\"orders\""]
        .digest_with_generated
        .clone()
        .unwrap()
}
