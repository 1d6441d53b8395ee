//! Looks for what is missing in one place among what was gained in others.

use shared::model::{ColumnProfile, ValueSum};
use std::collections::BTreeSet;

/// Tables tried in every combination; the work doubles with each.
const COMBINED: usize = 12;

/// Values of a column that went or came.
#[derive(Debug, Clone)]
pub(super) struct Amount {
    pub(super) name: String,
    pub(super) key: bool,
    pub(super) values: u64,
    pub(super) sum: ValueSum,
    /// Already taken for what went elsewhere; or a difference that means nothing, because values were also changed.
    pub(super) spent: bool,
}

/// Rows that went from a table or came to one.
#[derive(Debug, Clone)]
pub(super) struct Pile {
    pub(super) table: String,
    pub(super) rows: u64,
    pub(super) columns: Vec<Amount>,
    pub(super) spent: bool,
}

/// Where missing rows are.
#[derive(Debug, Clone, Default)]
pub(super) struct Found {
    pub(super) tables: BTreeSet<String>,
    /// Columns whose values did not come along.
    pub(super) left: Vec<Amount>,
}

impl Amount {
    /// All values of a column.
    pub(super) fn all(column: &ColumnProfile) -> Amount {
        Amount { name: column.name.clone(), key: column.key, values: column.values, sum: column.sum, spent: false }
    }

    /// The values `larger` has more than `smaller`.
    pub(super) fn beyond(larger: &ColumnProfile, smaller: &ColumnProfile) -> Amount {
        let values = larger.values.saturating_sub(smaller.values);
        let meaningless = larger.values < smaller.values || (values == 0 && larger.sum != smaller.sum);
        Amount { values, sum: larger.sum.minus(smaller.sum), spent: meaningless, ..Amount::all(larger) }
    }

    fn equals(&self, other: &Amount) -> bool {
        !self.spent && !other.spent && self.values == other.values && self.sum == other.sum
    }

    fn matters(&self) -> bool {
        self.values > 0 || self.spent
    }
}

/// The column of `gained` that holds what is missing: one of the same name, or the first other.
fn holder(missing: &Amount, gained: &[Amount], taken: &BTreeSet<usize>) -> Option<usize> {
    let fits = |at: &usize| !taken.contains(at) && missing.equals(&gained[*at]);
    let named = (0..gained.len()).filter(fits).find(|at| gained[*at].name == missing.name);
    named.or_else(|| (0..gained.len()).find(fits))
}

/// For each missing column that matters, the column of `gained` that holds it. Equal names are matched first, so that
/// no other column takes what is theirs.
fn matched(missing: &[Amount], gained: &[Amount]) -> Vec<Option<usize>> {
    let mut taken = BTreeSet::new();
    let mut found: Vec<Option<usize>> = missing.iter().map(|_| None).collect();
    for by_name in [true, false] {
        for (at, amount) in missing.iter().enumerate().filter(|(_, amount)| amount.matters()) {
            let best = if found[at].is_none() { holder(amount, gained, &taken) } else { None };
            if let Some(best) = best.filter(|best| !by_name || gained[*best].name == amount.name) {
                taken.insert(best);
                found[at] = Some(best);
            }
        }
    }
    found
}

/// Looks for missing rows in tables that gained as many: all columns in one table, or spread over several. Where more
/// than half of the columns are found, the rows are, and the other columns are left over. Spends what it finds.
pub(super) fn side_by_side(missing: &Pile, gains: &mut [Pile]) -> Option<Found> {
    let fits = |gain: &Pile| !gain.spent && gain.rows == missing.rows;
    let mut order: Vec<usize> = (0..gains.len()).filter(|at| fits(&gains[*at])).collect();
    let score = |at: &usize| {
        let hits = matched(&missing.columns, &gains[*at].columns).iter().flatten().count();
        (std::cmp::Reverse(hits), gains[*at].table != missing.table)
    };
    order.sort_by_cached_key(score);
    let mut open: Vec<Amount> = missing.columns.iter().filter(|amount| amount.matters()).cloned().collect();
    let (all, mut others) = (open.len(), 0);
    let mut uses: Vec<(usize, Vec<usize>)> = Vec::new();
    for at in order {
        let hits = matched(&open, &gains[at].columns);
        others += open.iter().zip(&hits).filter(|(amount, hit)| hit.is_some() && !amount.key).count();
        let used: Vec<usize> = hits.iter().flatten().copied().collect();
        let mut hit = hits.iter();
        open.retain(|_| hit.next().is_some_and(Option::is_none));
        // A table without any value holds nothing that could be found; only one of the same name counts.
        if !used.is_empty() || (all == 0 && gains[at].table == missing.table) {
            uses.push((at, used));
        }
    }
    let only_keys = missing.columns.iter().filter(|amount| amount.matters()).all(|amount| amount.key);
    let enough = (all - open.len()) * 2 > all && (others > 0 || only_keys);
    if uses.is_empty() || !(open.is_empty() || enough) {
        return None;
    }
    let mut found = Found { left: open, ..Found::default() };
    for (at, columns) in uses {
        found.tables.insert(gains[at].table.clone());
        gains[at].spent = true;
        columns.into_iter().for_each(|column| gains[at].columns[column].spent = true);
    }
    Some(found)
}

/// Looks for missing rows in several tables together, by the names of the columns.
pub(super) fn spread(missing: &Pile, gains: &mut [Pile]) -> Option<Found> {
    let mut list: Vec<usize> =
        (0..gains.len()).filter(|at| !gains[*at].spent && (1..missing.rows).contains(&gains[*at].rows)).collect();
    list.retain(|at| missing.columns.iter().any(|wanted| gains[*at].columns.iter().any(|c| c.name == wanted.name)));
    let chosen = combination(
        &list,
        |at| gains[*at].rows,
        missing.rows,
        |some| {
            let parts: Vec<&Pile> = some.iter().map(|at| &gains[*at]).collect();
            add_up(&parts, &[missing])
        },
    )?;
    let mut found = Found::default();
    for at in chosen {
        spend(&mut gains[at]);
        found.tables.insert(gains[at].table.clone());
    }
    Some(found)
}

/// Looks for the rows of several tables in one that gained them all. Returns the indices into `missing` of those found,
/// and the table that has them.
pub(super) fn merged(missing: &[&Pile], gains: &mut [Pile]) -> Option<(Vec<usize>, String)> {
    for gain in gains.iter_mut().filter(|gain| !gain.spent) {
        let list: Vec<usize> = (0..missing.len()).filter(|at| (1..gain.rows).contains(&missing[*at].rows)).collect();
        let chosen = combination(
            &list,
            |at| missing[*at].rows,
            gain.rows,
            |some| {
                let parts: Vec<&Pile> = some.iter().map(|at| missing[*at]).collect();
                add_up(&[&*gain], &parts)
            },
        );
        if let Some(chosen) = chosen {
            spend(gain);
            return Some((chosen, gain.table.clone()));
        }
    }
    None
}

/// Looks in the tables `wanted` for values that went from a column. Spends them.
pub(super) fn column(missing: &Amount, gains: &mut [Pile], wanted: impl Fn(&str) -> bool) -> Option<(String, String)> {
    for gain in gains.iter_mut().filter(|gain| wanted(&gain.table)) {
        if let Some(at) = holder(missing, &gain.columns, &BTreeSet::new()) {
            gain.columns[at].spent = true;
            return Some((gain.table.clone(), gain.columns[at].name.clone()));
        }
    }
    None
}

fn spend(pile: &mut Pile) {
    pile.spent = true;
    pile.columns.iter_mut().for_each(|amount| amount.spent = true);
}

/// Two or more of `list` whose rows make `rows` together and which pass `test`.
fn combination(
    list: &[usize],
    rows_of: impl Fn(&usize) -> u64,
    rows: u64,
    test: impl Fn(&[usize]) -> bool,
) -> Option<Vec<usize>> {
    let fits = |some: &Vec<usize>| some.iter().map(&rows_of).sum::<u64>() == rows && test(some);
    if list.len() > COMBINED {
        return Some(list.to_vec()).filter(fits);
    }
    let choose = |set: u32| list.iter().enumerate().filter(move |(at, _)| set >> at & 1 == 1).map(|(_, of)| *of);
    (1..1u32 << list.len()).filter(|set| set.count_ones() > 1).map(|set| choose(set).collect()).find(fits)
}

/// Whether what was gained holds what is missing, column by column of the same name.
fn add_up(gained: &[&Pile], missing: &[&Pile]) -> bool {
    let names: BTreeSet<&str> = missing.iter().flat_map(|pile| &pile.columns).map(|c| c.name.as_str()).collect();
    let total = |piles: &[&Pile], name: &str| {
        let columns = piles.iter().flat_map(|pile| &pile.columns).filter(|amount| amount.name == name);
        columns.fold((0, ValueSum::default(), false), |(values, sum, spent), amount| {
            (values + amount.values, sum.plus(amount.sum), spent || amount.spent)
        })
    };
    let totals: Vec<_> = names.iter().map(|name| (total(gained, name), total(missing, name))).collect();
    totals.iter().any(|(_, wanted)| wanted.0 > 0) && totals.iter().all(|(has, wanted)| has == wanted && !has.2)
}
