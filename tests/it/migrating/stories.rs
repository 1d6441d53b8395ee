//! The story `apply` tells, word for word: `tests/golden/stories`, a file for each outcome on each product.
//!
//! `HOLDFAST_TEST_BLESS=1` writes the files anew. What differs from run to run is replaced by a word.

use super::{Shop, orders, project};
use std::path::Path;
use tests::private_postgres::PrivatePostgres;

const GOOD: &str = "ALTER TABLE orders ADD COLUMN colour TEXT; UPDATE orders SET colour = 'red' WHERE id < 10;";
const LOSES: &str = "ALTER TABLE orders DROP COLUMN note;";

/// Replaces what every run has of its own: times, ids, folders, ports, process ids.
fn plain(story: &str) -> String {
    story.lines().map(|line| format!("{}\n", words(line))).collect()
}

fn words(line: &str) -> String {
    let (line, took) = match line.strip_suffix(" s").and_then(|rest| rest.rsplit_once(' ')) {
        Some((rest, seconds)) if line.starts_with("  ") && seconds.parse::<f64>().is_ok() => (rest.trim_end(), "  N s"),
        _ => (line, ""),
    };
    let mut out: Vec<String> = Vec::new();
    let mut all = line.split(' ').peekable();
    while let Some(word) = all.next() {
        let is_number = !word.is_empty() && word.chars().all(|c| c.is_ascii_digit() || c == '.' || c == ',');
        let unit = all.peek().copied().unwrap_or_default().trim_end_matches(|c: char| !c.is_alphanumeric());
        let measured = ["ms", "s", "B", "KB", "KiB", "MB", "MiB"].contains(&unit);
        out.push(if is_number && measured { "N".to_owned() } else { one(word) });
    }
    format!("{}{took}", out.join(" "))
}

fn one(word: &str) -> String {
    let core = word.trim_matches(|c: char| ",.;:()".contains(c));
    let is_job = core.len() == 36 && core.chars().filter(|c| *c == '-').count() == 4;
    let new = if is_job {
        "JOB".to_owned()
    } else if core.starts_with("shop/") {
        "shop/BACKUP".to_owned()
    } else if let Some((before, _)) = ["__failed_", "__mig_", "__reh_", "__res_"]
        .iter()
        .find_map(|end| core.split_once(end).map(|(before, _)| (format!("{before}{end}X"), ())))
    {
        before
    } else if core.starts_with("postgres://") {
        "postgres://SERVER/shop".to_owned()
    } else if core.starts_with('/') || core.starts_with("sqlite:/") {
        format!(".../{}", core.rsplit('/').next().unwrap_or_default())
    } else {
        return word.to_owned();
    };
    word.replace(core, &new)
}

/// Asserts that the story is the one in the file, after its replacements.
#[track_caller]
fn is_golden(name: &str, story: &str) {
    let found = plain(story);
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/stories").join(format!("{name}.txt"));
    if std::env::var_os("HOLDFAST_TEST_BLESS").is_some() {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, &found).unwrap();
    }
    let expected = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    assert_eq!(found, expected, "another story than {}; as it was told:\n{story}", file.display());
}

#[test]
fn on_sqlite_it_reads_like_a_story() {
    let file = orders(1200);
    let shop = Shop::sql(&file.url(), &[("1_colour.sql", GOOD)]);
    is_golden("sqlite-rehearsed", &shop.ended(shop.agent.run(&["rehearse", "shop"]), "succeeded").stdout);
    is_golden("sqlite-succeeded", &shop.apply(&[], "succeeded").stdout);
    is_golden("sqlite-nothing-to-do", &shop.apply(&[], "succeeded").stdout);
    shop.add("2_loses.sql", LOSES);
    is_golden("sqlite-refused", &shop.apply(&[], "refused").stdout);
}

#[test]
fn on_sqlite_a_failure_reads_like_a_story() {
    let file = orders(1200);
    let fails = project();
    fails.add("r1", &[], "if '/apply/' in str(op.get_bind().engine.url):\n    raise SystemExit('the real one')", "");
    let shop = Shop::alembic(&file.url(), fails);
    is_golden("sqlite-restored", &shop.apply(&[], "restored").stdout);
    let around = project();
    around.add_sql("r1", &[], "UPDATE orders SET note = 'around'", "SELECT 1");
    let text = std::fs::read_to_string(around.env_py()).unwrap();
    let (told, url) = ("config = context.config\n", format!("sqlite:///{}", file.path().display()));
    let fixed =
        format!("{told}import sys\nif 'upgrade' in sys.argv: config.set_main_option('sqlalchemy.url', '{url}')\n");
    std::fs::write(around.env_py(), text.replace(told, &fixed)).unwrap();
    let shop = Shop::alembic(&file.url(), around);
    is_golden("sqlite-stuck", &shop.apply(&[], "stuck").stdout);
}

#[test]
fn on_postgresql_it_reads_like_a_story() {
    let server = PrivatePostgres::start();
    server.create("shop");
    server.psql("shop", "CREATE TABLE orders (id int PRIMARY KEY, note text); INSERT INTO orders SELECT i, 'note' FROM generate_series(1, 1200) i");
    let shop = Shop::sql(&server.url("shop"), &[("1_colour.sql", GOOD)]);
    is_golden("postgres-succeeded", &shop.apply(&[], "succeeded").stdout);
    shop.add("2_loses.sql", LOSES);
    is_golden("postgres-refused", &shop.apply(&[], "refused").stdout);
    shop.add("2_loses.sql", "UPDATE orders SET note = 'other';");
    let fails =
        "DO $$ BEGIN IF current_database() LIKE '%\\_\\_mig\\_%' THEN RAISE EXCEPTION 'the real one'; END IF; END $$;";
    shop.add("3_fails.sql", fails);
    is_golden("postgres-restored", &shop.apply(&[], "restored").stdout);
    shop.add("2_loses.sql", fails);
    is_golden("postgres-restored-nothing-left", &shop.apply(&[], "restored").stdout);
    let around = project();
    around.add_sql("r1", &[], "UPDATE orders SET note = 'around'", "SELECT 1");
    let text = std::fs::read_to_string(around.env_py()).unwrap();
    let told = "config = context.config\n";
    let url = server.url("shop").replace("postgres://", "postgresql://");
    let fixed =
        format!("{told}import sys\nif 'upgrade' in sys.argv: config.set_main_option('sqlalchemy.url', '{url}')\n");
    std::fs::write(around.env_py(), text.replace(told, &fixed)).unwrap();
    let shop = Shop::alembic(&server.url("shop"), around);
    is_golden("postgres-stuck", &shop.apply(&[], "stuck").stdout);
}
