//! Migrations both products understand, word for word.

use super::{Subject, told};
use tests::postgres::TestDatabase;
use tests::sqlite::TestFile;

const BEFORE: &str = "
    CREATE TABLE lessons (id integer PRIMARY KEY, title varchar(80) NOT NULL, room text, n integer);
    INSERT INTO lessons VALUES (1, 'Piano', 'A', 10), (2, 'Cello', NULL, 20), (3, 'Größe', 'A', 30);
    CREATE TABLE other (id integer PRIMARY KEY, note text);
    INSERT INTO other VALUES (1, 'x');
    CREATE TABLE bare (id integer PRIMARY KEY, note text);
    CREATE TABLE \"odd \"\"one\"\".x\" (\"the key\" integer PRIMARY KEY, \"a:b\" text);
    INSERT INTO \"odd \"\"one\"\".x\" VALUES (1, 'o'), (2, NULL);";

/// Migrations, what they lose, and a line of the report where one is looked for.
const CASES: [(&str, &[&str], &str); 30] = [
    ("SELECT 1", &[], "4 tables unchanged"),
    ("ALTER TABLE lessons ADD COLUMN genre text", &[], "table lessons: +column genre; 3 rows"),
    ("ALTER TABLE lessons DROP COLUMN room", &["lessons:room 2"], "table lessons: column room dropped, 2 values lost; 3 rows"),
    ("ALTER TABLE bare DROP COLUMN note", &[], "table bare: column note dropped, empty; 0 rows"),
    ("ALTER TABLE lessons RENAME COLUMN room TO place", &[], "table lessons: column room renamed to place; 3 rows"),
    ("ALTER TABLE lessons RENAME TO session", &[], "table lessons: renamed to session; 3 rows"),
    ("DROP TABLE bare", &[], "table bare: dropped, empty"),
    ("DROP TABLE lessons", &["lessons 3"], "table lessons: dropped, 3 rows lost"),
    ("DROP TABLE \"odd \"\"one\"\".x\"", &["\"odd \"\"one\"\".x\" 2"], ""),
    ("ALTER TABLE \"odd \"\"one\"\".x\" DROP COLUMN \"a:b\"", &["\"odd \"\"one\"\".x\":\"a:b\" 1"], ""),
    // Alembic's batch mode, Django's rebuild.
    (
        "CREATE TABLE _alembic_tmp_lessons (id integer PRIMARY KEY, title varchar(80), room text, n integer, extra text);
         INSERT INTO _alembic_tmp_lessons (id, title, room, n) SELECT id, title, room, n FROM lessons;
         DROP TABLE lessons; ALTER TABLE _alembic_tmp_lessons RENAME TO lessons",
        &[],
        "table lessons: recreated, +column extra; 3 rows",
    ),
    (
        "CREATE TABLE new_lessons (id integer PRIMARY KEY, title varchar(80), n integer);
         INSERT INTO new_lessons SELECT id, title, n FROM lessons;
         DROP TABLE lessons; ALTER TABLE new_lessons RENAME TO lessons",
        &["lessons:room 2"],
        "table lessons: recreated, column room dropped, 2 values lost; 3 rows",
    ),
    // What happened to the lessons of seed 003, in each number of rows.
    (
        "DROP TABLE lessons; CREATE TABLE lessons (id integer PRIMARY KEY, title text, room text, n integer);
         INSERT INTO lessons VALUES (1, 'f', 'B', 1), (2, 'g', 'C', 2), (3, 'h', 'D', 3)",
        &["lessons 3"],
        "table lessons: recreated, column title varchar(80) -> ",
    ),
    ("DROP TABLE lessons; CREATE TABLE lessons (id integer PRIMARY KEY, title text)", &["lessons 3"], ""),
    (
        "DROP TABLE lessons; CREATE TABLE lessons (id integer PRIMARY KEY, title text);
         INSERT INTO lessons VALUES (1, 'f'), (2, 'g'), (3, 'h'), (4, 'i')",
        &["lessons 3"],
        "",
    ),
    // The table made last, whose number SQLite would use again.
    (
        "DROP TABLE \"odd \"\"one\"\".x\"; CREATE TABLE \"odd \"\"one\"\".x\" (\"the key\" integer PRIMARY KEY, \"a:b\" text);
         INSERT INTO \"odd \"\"one\"\".x\" VALUES (1, 'p'), (2, NULL)",
        &["\"odd \"\"one\"\".x\" 2"],
        "",
    ),
    (
        "CREATE TABLE session (id integer PRIMARY KEY, name text, place text, n integer);
         INSERT INTO session SELECT * FROM lessons; DROP TABLE lessons",
        &[],
        "table session: new, 3 rows (from lessons)",
    ),
    (
        "CREATE TABLE session (id integer PRIMARY KEY, name text); DROP TABLE lessons",
        &["lessons 3"],
        "table session: new, 0 rows",
    ),
    (
        "CREATE TABLE archive AS SELECT * FROM lessons WHERE id > 1; DELETE FROM lessons WHERE id > 1",
        &[],
        "table lessons: 3 rows before, 1 now (now in archive)",
    ),
    (
        "CREATE TABLE a AS SELECT * FROM lessons WHERE id = 1; CREATE TABLE b AS SELECT * FROM lessons WHERE id > 1;
         DROP TABLE lessons",
        &[],
        "table lessons: dropped, 3 rows (now in a, b)",
    ),
    (
        "CREATE TABLE a AS SELECT id, title FROM lessons; CREATE TABLE b AS SELECT id, room, n FROM lessons;
         DROP TABLE lessons",
        &[],
        "table lessons: dropped, 3 rows (now in a, b)",
    ),
    ("UPDATE lessons SET title = upper(title), n = n + 1", &[], "table lessons: column title changed, column n changed"),
    ("DELETE FROM lessons WHERE id = 2", &["lessons 1"], "table lessons: 3 rows before, 2 now, 1 row lost"),
    ("DELETE FROM lessons", &["lessons 3"], "table lessons: 3 rows before, 0 now, 3 rows lost"),
    ("INSERT INTO lessons VALUES (9, 'new', NULL, NULL)", &[], "table lessons: 3 rows before, 4 now"),
    ("UPDATE lessons SET room = NULL", &["lessons:room 2"], "table lessons: column room emptied, 2 values lost; 3 rows"),
    (
        "ALTER TABLE lessons ADD COLUMN place text; UPDATE lessons SET place = room; UPDATE lessons SET room = NULL",
        &[],
        "table lessons: column room emptied (now in place), +column place; 3 rows",
    ),
    (
        "CREATE TABLE rooms (lesson integer PRIMARY KEY, room text);
         INSERT INTO rooms SELECT id, room FROM lessons WHERE room IS NOT NULL; ALTER TABLE lessons DROP COLUMN room",
        &[],
        "table lessons: column room dropped (now in rooms.room); 3 rows",
    ),
    // Every room once is not every value: a person has to say that this is meant.
    (
        "CREATE TABLE rooms (name text PRIMARY KEY); INSERT INTO rooms SELECT DISTINCT room FROM lessons WHERE room IS NOT NULL;
         ALTER TABLE lessons ADD COLUMN room_name text; ALTER TABLE lessons DROP COLUMN room",
        &["lessons:room 2"],
        "",
    ),
    (
        "DELETE FROM lessons; INSERT INTO lessons VALUES (7, 'f', 'B', 1), (8, 'g', 'C', 2), (9, 'h', 'D', 3)",
        &["lessons 3"],
        "table lessons: all rows replaced",
    ),
];

async fn every_case(subject: impl Fn() -> Subject) {
    let mut complaints = Vec::new();
    for (migration, losses, line) in CASES {
        let effects = subject().effects(BEFORE, migration).await;
        let lines = effects.lines();
        // PostgreSQL words the type in full.
        let said = lines.iter().any(|said| said.replace("character varying", "varchar").starts_with(line));
        if told(&effects) != losses || !said {
            complaints.push(format!("{migration}\n   lost: {:?}\n   said: {lines:#?}", told(&effects)));
        }
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[tokio::test]
async fn postgresql_migrations_lose_what_they_lose() {
    every_case(|| Subject::Postgres(TestDatabase::new())).await;
}

#[tokio::test]
async fn sqlite_migrations_lose_what_they_lose() {
    every_case(|| Subject::Sqlite(TestFile::new())).await;
}
