//! One case per kind of change.

use super::super::{Effects, Fate};
use super::{Rows, Tables, database, profile, table};

fn lessons(identity: u64) -> Rows {
    table(identity, "id title room", &["1 a x", "2 b -", "3 c x"])
}

fn cases() -> Vec<(&'static str, Tables, Tables, Vec<&'static str>)> {
    let one = || database([("lessons", lessons(1))]);
    let now = |columns: &str, rows: &[&str]| database([("lessons", table(1, columns, rows))]);
    let anew = |columns: &str, rows: &[&str]| database([("lessons", table(9, columns, rows))]);
    let full = ["1 a x", "2 b -", "3 c x"];
    vec![
        ("nothing", one(), one(), vec![]),
        ("a column added", one(), now("id title room n", &["1 a x 7", "2 b - 7", "3 c x 7"]), vec![]),
        (
            "a column with values dropped",
            one(),
            now("id title", &["1 a", "2 b", "3 c"]),
            vec!["lessons:room 2 dropped"],
        ),
        ("an empty column dropped", now("id note", &["1 -", "2 -"]), now("id", &["1", "2"]), vec![]),
        ("a column renamed", one(), now("id name room", &full), vec![]),
        ("two columns swapped by name", one(), now("id room title", &full), vec![]),
        ("a table renamed", one(), database([("session", lessons(1))]), vec![]),
        ("a table dropped", one(), database([]), vec!["lessons 3 dropped"]),
        ("an empty table dropped", database([("lessons", table(1, "id", &[]))]), database([]), vec![]),
        ("rebuilt with all rows", one(), anew("id title room", &full), vec![]),
        ("rebuilt with another column", one(), anew("id n title room", &["1 5 a x", "2 5 b -", "3 5 c x"]), vec![]),
        (
            "recreated with other rows",
            one(),
            anew("id title room", &["1 f z", "2 g z", "3 h z"]),
            vec!["lessons 3 recreated with other rows"],
        ),
        (
            "recreated with more other rows",
            one(),
            anew("id title room", &["1 f z", "2 g z", "3 h z", "4 i z"]),
            vec!["lessons 3 recreated with other rows"],
        ),
        ("recreated empty", one(), anew("id title room", &[]), vec!["lessons 3 recreated with other rows"]),
        (
            "rebuilt without a column",
            one(),
            anew("id title", &["1 a", "2 b", "3 c"]),
            vec!["lessons:room 2 not taken along"],
        ),
        ("copied, then dropped", one(), database([("session", table(9, "pk name place", &full))]), vec![]),
        (
            "copied without a column, then dropped",
            one(),
            database([("session", table(9, "id title", &["1 a", "2 b", "3 c"]))]),
            vec!["lessons:room 2 not taken along"],
        ),
        (
            "another table with as many rows",
            one(),
            database([("session", table(9, "id title", &["1 f", "2 g", "3 h"]))]),
            vec!["lessons 3 dropped"],
        ),
        (
            "split into columns",
            one(),
            database([
                ("a", table(8, "id title", &["1 a", "2 b", "3 c"])),
                ("b", table(9, "id room", &["1 x", "2 -", "3 x"])),
            ]),
            vec![],
        ),
        (
            "split into rows",
            one(),
            database([
                ("a", table(8, "id title room", &["1 a x"])),
                ("b", table(9, "id title room", &["2 b -", "3 c x"])),
                ("c", table(7, "id title room", &["1 f x"])),
            ]),
            vec![],
        ),
        (
            "some rows moved",
            one(),
            database([
                ("lessons", table(1, "id title room", &["1 a x"])),
                ("old", table(9, "id title room", &["2 b -", "3 c x"])),
            ]),
            vec![],
        ),
        (
            "two tables merged",
            database([("a", table(1, "id t", &["1 x"])), ("b", table(2, "id t", &["2 y", "3 z"]))]),
            database([("c", table(9, "id t kind", &["1 x a", "2 y b", "3 z b"]))]),
            vec![],
        ),
        (
            "two equal tables, one of them kept",
            database([("a", lessons(1)), ("b", lessons(2))]),
            database([("c", lessons(9))]),
            vec!["b 3 dropped"],
        ),
        ("UPDATE", one(), now("id title room", &["1 A x", "2 B -", "3 C x"]), vec![]),
        ("UPDATE of all but the key", one(), now("id title room", &["1 A y", "2 B -", "3 C y"]), vec![]),
        ("DELETE", one(), now("id title room", &["1 a x"]), vec!["lessons 2 deleted"]),
        ("DELETE of all", one(), now("id title room", &[]), vec!["lessons 3 deleted"]),
        (
            "DELETE of all, INSERT of others",
            one(),
            now("id title room", &["7 f z", "8 g z", "9 h z"]),
            vec!["lessons 3 replaced by other rows"],
        ),
        ("INSERT", one(), now("id title room", &["1 a x", "2 b -", "3 c x", "4 d y"]), vec![]),
        ("a column emptied", one(), now("id title room", &["1 a -", "2 b -", "3 c -"]), vec!["lessons:room 2 emptied"]),
        (
            "a column half emptied",
            one(),
            now("id title room", &["1 a -", "2 b -", "3 c x"]),
            vec!["lessons:room 1 emptied"],
        ),
        (
            "a column emptied into another",
            one(),
            now("id title room place", &["1 a - x", "2 b - -", "3 c - x"]),
            vec![],
        ),
        ("a column filled", one(), now("id title room", &["1 a x", "2 b y", "3 c x"]), vec![]),
        (
            "a column moved to another table",
            one(),
            database([
                ("lessons", table(1, "id title", &["1 a", "2 b", "3 c"])),
                ("rooms", table(9, "lesson room", &["1 x", "3 x"])),
            ]),
            vec![],
        ),
        (
            "a column normalised out",
            one(),
            database([
                ("lessons", table(1, "id title room_id", &["1 a 1", "2 b -", "3 c 1"])),
                ("rooms", table(9, "id room", &["1 x"])),
            ]),
            vec!["lessons:room 2 dropped"],
        ),
        (
            "names swapped, then one dropped",
            database([("a", lessons(1)), ("b", table(2, "id", &["1"]))]),
            database([("a", table(2, "id", &["1"]))]),
            vec!["a 3 dropped"],
        ),
    ]
}

#[test]
fn every_kind_of_change_is_judged_as_a_person_would() {
    for (name, before, after, expected) in cases() {
        let effects = Effects::between(&profile(&before), &profile(&after), &[]);
        let told = |loss: &super::super::Loss| format!("{} {} {}", loss.allowance(), loss.rows_or_values, loss.why);
        let losses: Vec<String> = effects.losses().iter().map(told).collect();
        assert_eq!(losses, expected, "{name}: {:#?}", effects.lines());
    }
}

#[test]
fn a_table_and_what_became_of_it_are_told_by_identity_first() {
    let before = database([("a", lessons(1)), ("b", table(2, "id", &["1"])), ("c", table(3, "id", &["5"]))]);
    let after = database([("b", lessons(1)), ("a", table(2, "id", &["1"])), ("c", table(4, "id", &["5"]))]);
    let effects = Effects::between(&profile(&before), &profile(&after), &[]);
    let told: Vec<_> = effects.tables.iter().map(|t| (t.name.as_str(), t.fate, t.renamed_to.as_deref())).collect();
    assert_eq!(
        told,
        [
            ("public.a", Fate::Kept, Some("public.b")),
            ("public.b", Fate::Kept, Some("public.a")),
            ("public.c", Fate::Recreated, None),
        ]
    );
}

#[test]
fn the_tools_own_tables_neither_lose_nor_hold_anything() {
    let before = database([("alembic_version", table(1, "v", &["r1"])), ("t", table(2, "v", &["r2"]))]);
    let after = database([("alembic_version", table(1, "v", &["r1", "r2"]))]);
    let own = ["public.alembic_version".to_owned()];
    let effects = Effects::between(&profile(&before), &profile(&after), &own);
    assert_eq!(effects.losses().iter().map(|loss| loss.table.as_str()).collect::<Vec<_>>(), ["public.t"]);
    let gone = Effects::between(&profile(&before), &profile(&database([("t", table(2, "v", &["r2"]))])), &own);
    assert_eq!(gone.losses(), []);
}
