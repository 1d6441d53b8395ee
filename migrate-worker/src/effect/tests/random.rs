//! Random databases: rows that only move are never lost, rows that go always are.

use super::super::Effects;
use super::{Rows, Tables, profile};

/// Numbers that look random and come again with the same seed.
struct Draws(u64);

impl Draws {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((self.0 >> 33) as usize) % limit
    }
}

/// Tables whose rows are all different: the key counts through the whole database.
fn drawn(draws: &mut Draws) -> Tables {
    let mut key = 0;
    let mut tables = Tables::new();
    for identity in 0..1 + draws.below(5) {
        let columns = (0..2 + draws.below(4)).map(|at| format!("c{at}")).collect::<Vec<_>>();
        let rows = (0..draws.below(30)).map(|_| {
            key += 1;
            let value = |at| match (at, draws.below(4)) {
                (0, _) => key.to_string(),
                (_, 0) => String::new(),
                (_, draw) => format!("{draw}-{}", draws.below(6)),
            };
            (0..columns.len()).map(value).collect()
        });
        let rows = rows.collect();
        tables.insert(format!("public.t{identity}"), Rows { identity: identity as u64, columns, rows });
    }
    tables
}

/// Moves rows about without losing one: to a new table, to two, under another name, rebuilt, with another column.
fn moved(tables: &Tables, draws: &mut Draws) -> Tables {
    let mut after = Tables::new();
    for (name, table) in tables {
        let mut table = table.clone();
        let fresh = 1000 + after.len() as u64;
        match draws.below(7) {
            0 => drop(after.insert(format!("{name}_renamed"), table)),
            1 => drop(after.insert(name.clone(), Rows { identity: fresh, ..table })),
            2 => drop(after.insert(format!("{name}_copy"), Rows { identity: fresh, ..table })),
            3 => {
                let some = table.rows.split_off(draws.below(table.rows.len() + 1));
                after.insert(format!("{name}_part"), Rows { identity: fresh, rows: some, ..table.clone() });
                after.insert(name.clone(), table);
            }
            4 => {
                table.columns.push("added".into());
                table.rows.iter_mut().for_each(|row| row.push("new".into()));
                after.insert(name.clone(), table);
            }
            5 => {
                let last = table.columns.len() - 1;
                table.columns[last] = "renamed".into();
                after.insert(name.clone(), table);
            }
            _ => drop(after.insert(name.clone(), table)),
        }
    }
    after
}

#[test]
fn rows_that_only_move_are_never_reported_as_lost() {
    for seed in 0..3000 {
        let mut draws = Draws(seed);
        let before = drawn(&mut draws);
        let after = moved(&before, &mut draws);
        let effects = Effects::between(&profile(&before), &profile(&after), &[]);
        assert_eq!(effects.losses(), [], "seed {seed}: {:#?}\n{before:?}\n{after:?}", effects.lines());
    }
}

#[test]
fn rows_that_go_are_always_reported_whatever_else_moves() {
    for seed in 0..3000 {
        let mut draws = Draws(seed);
        let before = drawn(&mut draws);
        let mut after = moved(&before, &mut draws);
        let full: Vec<String> =
            after.iter().filter(|(_, t)| !t.rows.is_empty()).map(|(name, _)| name.clone()).collect();
        if full.is_empty() {
            continue;
        }
        let name = &full[draws.below(full.len())];
        let table = after.get_mut(name).expect("it is there");
        if draws.below(3) == 0 {
            after.remove(name);
        } else {
            let at = draws.below(table.rows.len());
            table.rows.remove(at);
        }
        let effects = Effects::between(&profile(&before), &profile(&after), &[]);
        assert_ne!(effects.losses(), [], "seed {seed}: {name}: {:#?}\n{before:?}\n{after:?}", effects.lines());
    }
}

#[test]
fn values_that_go_are_always_reported() {
    for seed in 0..3000 {
        let mut draws = Draws(seed);
        let before = drawn(&mut draws);
        let mut after = before.clone();
        let names: Vec<&String> = before.keys().collect();
        let name = names[draws.below(names.len())];
        let table = after.get_mut(name).expect("it is there");
        let column = 1 + draws.below(table.columns.len() - 1);
        let had = table.rows.iter().filter(|row| !row[column].is_empty()).count() as u64;
        if draws.below(2) == 0 {
            table.columns.remove(column);
            table.rows.iter_mut().for_each(|row| drop(row.remove(column)));
        } else {
            table.rows.iter_mut().for_each(|row| row[column].clear());
        }
        let losses = Effects::between(&profile(&before), &profile(&after), &[]).losses();
        let lost: Vec<(&str, u64)> = losses.iter().map(|loss| (loss.table.as_str(), loss.rows_or_values)).collect();
        let expected: Vec<(&str, u64)> = if had == 0 { vec![] } else { vec![(name.as_str(), had)] };
        assert_eq!(lost, expected, "seed {seed}");
    }
}
