//! What people read and type.

use super::super::{Allowance, Effects, Loss, Refusal, shown, unallowed};
use super::{database, profile, table};

fn loss(table: &str, column: Option<&str>, rows_or_values: u64) -> Loss {
    Loss { table: table.into(), column: column.map(str::to_owned), rows_or_values, why: "dropped".into() }
}

#[test]
fn a_refusal_names_what_would_go_and_how_to_allow_it() {
    let losses = [loss("public.lessons", None, 4812), loss("shop.\"Odd one\"", Some("na:me"), 1)];
    let refusal = Refusal::of(&["d4641a2".to_owned()], &losses[..1]).expect("a loss is refused");
    assert_eq!(refusal.message, "d4641a2 would delete data: table lessons (4,812 rows)");
    assert_eq!(refusal.hint, "allow it with --may-drop lessons, or copy the rows first");
    let refusal = Refusal::of(&["a".to_owned(), "b".to_owned()], &losses).expect("losses are refused");
    let odd = "column shop.\"Odd one\".\"na:me\" (1 value)";
    assert_eq!(refusal.message, format!("a, b would delete data: table lessons (4,812 rows), {odd}"));
    assert!(refusal.hint.contains("--may-drop 'shop.\"Odd one\":\"na:me\"'"), "{}", refusal.hint);
    assert_eq!(Refusal::of(&[], &[]), None);
}

#[test]
fn names_are_shown_as_they_would_be_typed() {
    for (key, expected) in [
        ("public.lessons", "lessons"),
        ("public.\"Größe\"", "\"Größe\""),
        ("shop.lessons", "shop.lessons"),
        ("\"user\".t", "user.t"),
        ("\"a.b\".\"c\"\"d\"", "\"a.b\".\"c\"\"d\""),
        ("\"lessons\"", "lessons"),
        ("\"my lessons\"", "\"my lessons\""),
        ("\"a.b\"", "\"a.b\""),
    ] {
        assert_eq!(shown(key), expected);
    }
}

#[test]
fn allowances_are_read_as_people_type_them() {
    let mut tables = database([("lessons", table(1, "id na:me Nick", &[])), ("\"Odd:t\"", table(2, "id", &[]))]);
    tables.insert("shop.lessons".into(), table(3, "id", &[]));
    tables.insert("\"a.b\".c".into(), table(4, "id", &[]));
    let before = profile(&tables);
    for (typed, table, column) in [
        ("lessons", "public.lessons", None),
        ("Lessons", "public.lessons", None),
        ("public.lessons", "public.lessons", None),
        ("\"lessons\"", "public.lessons", None),
        ("shop.lessons", "shop.lessons", None),
        ("\"shop\".\"lessons\":\"id\"", "shop.lessons", Some("id")),
        ("lessons:id", "public.lessons", Some("id")),
        ("lessons:na:me", "public.lessons", Some("na:me")),
        ("lessons:nick", "public.lessons", Some("Nick")),
        ("lessons:\"Nick\"", "public.lessons", Some("Nick")),
        ("Odd:t", "public.\"Odd:t\"", None),
        ("\"Odd:t\":id", "public.\"Odd:t\"", Some("id")),
        ("\"a.b\".c", "\"a.b\".c", None),
    ] {
        let expected = Allowance { table: table.into(), column: column.map(str::to_owned) };
        assert_eq!(Allowance::parse(typed, &before), Ok(expected), "{typed}");
    }
    for (typed, near) in [
        ("lesons", Some("did you mean lessons?")),
        ("lessons:nik", Some("did you mean lessons:Nick?")),
        ("\"Lessons\"", Some("did you mean lessons?")),
        ("zzz", None),
        ("", None),
    ] {
        let error = Allowance::parse(typed, &before).expect_err(typed);
        assert!(error.message.contains("fits nothing"), "{error}");
        assert_eq!(error.hint.as_deref(), near, "{typed}");
    }
}

#[test]
fn a_table_is_allowed_with_its_columns_and_a_column_alone() {
    let losses = [loss("public.a", None, 1), loss("public.a", Some("x"), 1), loss("public.b", Some("x"), 1)];
    let allow =
        |table: &str, column: Option<&str>| Allowance { table: table.into(), column: column.map(str::to_owned) };
    assert_eq!(unallowed(&losses, &[allow("public.a", None)]), losses[2..]);
    assert_eq!(
        unallowed(&losses, &[allow("public.a", Some("x")), allow("public.b", Some("y"))]),
        [losses[0].clone(), losses[2].clone()]
    );
    assert_eq!(unallowed(&losses, &[]), losses);
}

#[test]
fn the_report_is_read_line_by_line() {
    let before = database([
        ("lessons", table(1, "id", &["1"])),
        ("old", table(2, "id t", &["1 x", "2 y"])),
        ("still", table(3, "id", &["1"])),
        ("tracks", table(4, "id genre", &["1 a"])),
        ("users", table(5, "id nick", &["1 a", "2 b"])),
        ("was", table(6, "id", &[])),
    ]);
    let after = database([
        ("session", table(8, "id t", &["1 x", "2 y"])),
        ("still", table(3, "id", &["1"])),
        ("tracks", table(4, "id genre genre2", &["1 a -", "2 b -"])),
        ("people", table(5, "id", &["1", "2"])),
    ]);
    let effects = Effects::between(&profile(&before), &profile(&after), &[]);
    assert_eq!(
        effects.lines(),
        [
            "table lessons: dropped, 1 row lost",
            "table old: dropped, 2 rows (now in session)",
            "table tracks: +column genre2; 1 row before, 2 now",
            "table users: renamed to people, column nick dropped, 2 values lost; 2 rows",
            "table was: dropped, empty",
            "table session: new, 2 rows (from old)",
            "1 table unchanged",
        ]
    );
}

#[test]
fn an_outline_is_the_same_however_many_rows_there_are() {
    let before = |old: &[&str], users: &[&str]| {
        database([
            ("moved", table(1, "id t", old)),
            ("users", table(2, "id nick", users)),
            ("vacuumed", table(3, "id", &["1"])),
            ("was", table(4, "id", &[])),
            ("emptied", table(5, "id x", users)),
        ])
    };
    let after = |old: &[&str], users: &[&str], ids: &[&str]| {
        let with_more: Vec<String> = users.iter().map(|row| format!("{row} z")).collect();
        database([
            ("session", table(9, "id t", old)),
            ("people", table(2, "id nick more", &with_more.iter().map(String::as_str).collect::<Vec<_>>())),
            ("vacuumed", table(3, "id", &["1"])),
            ("emptied", table(5, "id x", ids)),
        ])
    };
    let outline = |old: &[&str], users: &[&str], ids: &[&str]| {
        let mut stored = profile(&after(old, users, ids));
        // Only stored anew.
        stored.tables.get_mut("public.vacuumed").expect("there").storage = 77;
        Effects::between(&profile(&before(old, users)), &stored, &[]).outline()
    };
    let few = outline(&["1 x"], &["1 a"], &["1 -"]);
    assert_eq!(
        few,
        [
            "table emptied: column x emptied",
            "table moved: dropped, rows now in session",
            "table users: renamed to people, +column more",
            "table was: dropped",
            "table session: new, rows from moved",
        ]
    );
    assert_eq!(outline(&["1 x", "2 y", "3 z"], &["1 a", "2 b"], &["1 -", "2 -"]), few);
}

#[test]
fn an_outline_tells_where_rows_became_more_or_fewer() {
    let before = profile(&database([("a", table(1, "id", &["1", "2"])), ("b", table(2, "id", &["1"]))]));
    let after = profile(&database([("a", table(1, "id", &["1"])), ("b", table(2, "id", &["1", "7"]))]));
    let outline = Effects::between(&before, &after, &[]).outline();
    assert_eq!(outline, ["table a: fewer rows", "table b: more rows"]);
}
