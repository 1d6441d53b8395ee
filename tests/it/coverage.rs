//! The table of what the guides ask for names tests there are.

use std::collections::BTreeSet;
use std::path::Path;

fn functions(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            functions(&path, found);
        } else if path.extension().is_some_and(|end| end == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            let names = text.split("fn ").skip(1).filter_map(|rest| rest.split('(').next());
            found.extend(names.map(str::to_owned));
        }
    }
}

#[test]
fn every_capability_has_a_row_and_every_test_in_it_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let table = std::fs::read_to_string(root.join("../docs/coverage.md")).unwrap();
    let mut known = BTreeSet::new();
    functions(&root.join("it"), &mut known);
    let rows: Vec<Vec<&str>> = table
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| |"))
        .map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect())
        .collect();
    let expected = [('A', 21), ('B', 23), ('C', 17), ('D', 9), ('E', 16)];
    let expected: Vec<String> =
        expected.into_iter().flat_map(|(letter, last)| (1..=last).map(move |at| format!("{letter}{at}"))).collect();
    let found: Vec<String> = rows.iter().map(|row| row[0].to_owned()).collect();
    assert_eq!(found, expected);
    let mut named = 0;
    for row in &rows {
        assert!(row.len() == 3 && !row[2].is_empty(), "{row:?}");
        let words = row[2].split('`').skip(1).step_by(2);
        for name in words.filter(|word| word.matches('_').count() > 3) {
            assert!(known.contains(name), "{}: there is no test {name}", row[0]);
            named += 1;
        }
    }
    assert!(named > rows.len(), "only {named} tests are named");
}
