//! The comparison: which table is which, what went, what came, and what of it is found again.

use super::names;
use super::search::{self, Amount, Found, Pile};
use super::{ColumnChange, ColumnEffect, Effects, Fate, Loss, TableEffect};
use shared::model::{ColumnProfile, Profile, TableProfile};
use std::collections::{BTreeMap, BTreeSet};

/// A table before and after.
struct Pair<'a> {
    fate: Fate,
    old: Option<(&'a str, &'a TableProfile)>,
    new: Option<(&'a str, &'a TableProfile)>,
    /// Values that went from columns although their rows stayed, or did not come along with them.
    gone: Vec<Gone>,
    found: Option<Found>,
    from: BTreeSet<String>,
    rows_lost: u64,
}

/// Values that went from a column.
struct Gone {
    amount: Amount,
    why: &'static str,
    found_in: Option<(String, String)>,
}

pub(super) fn compare(before: &Profile, after: &Profile, own: &[String]) -> Effects {
    let mut pairs = pairs(before, after, own);
    let mut gains: Vec<Pile> = pairs.iter().filter_map(Pair::gained).collect();
    find_rows(&mut pairs, &mut gains);
    find_columns(&mut pairs, &mut gains);
    let losses = pairs.iter().flat_map(Pair::losses).collect();
    let effects: Vec<TableEffect> = pairs.iter().map(Pair::effect).collect();
    let (unchanged, tables): (Vec<_>, Vec<_>) = effects.into_iter().partition(TableEffect::nothing_happened);
    Effects { tables, unchanged: unchanged.len(), losses }
}

/// Pairs tables by identity, then by name; in the order of the names before.
fn pairs<'a>(before: &'a Profile, after: &'a Profile, own: &[String]) -> Vec<Pair<'a>> {
    let theirs = |(name, _): &(&String, &TableProfile)| !own.contains(name);
    let mut left: BTreeMap<&str, &TableProfile> =
        after.tables.iter().filter(theirs).map(|(name, table)| (name.as_str(), table)).collect();
    let mut fates: Vec<_> = Vec::new();
    for (name, old) in before.tables.iter().filter(theirs) {
        let same = left.iter().find(|(_, new)| new.identity == old.identity).map(|(name, new)| (*name, *new));
        if let Some((new_name, _)) = same {
            left.remove(new_name);
        }
        fates.push((name.as_str(), old, same));
    }
    let mut list = Vec::new();
    for (name, old, same) in fates {
        let (fate, new) = match same {
            Some((_, new)) if replaced(old, new) => (Fate::Replaced, same),
            Some(_) => (Fate::Kept, same),
            None => match left.remove_entry(name) {
                Some(other) => (Fate::Recreated, Some(other)),
                None => (Fate::Dropped, None),
            },
        };
        list.push(Pair::new(fate, Some((name, old)), new));
    }
    list.extend(left.into_iter().map(|new| Pair::new(Fate::Created, None, Some(new))));
    list
}

/// Whether as many rows have other keys and in every other column other values: no UPDATE does that.
fn replaced(old: &TableProfile, new: &TableProfile) -> bool {
    let both: Vec<_> = old.columns.iter().filter(|c| c.values > 0).filter_map(|c| Some((c, column(new, c)?))).collect();
    let changed = |(a, b): &(&ColumnProfile, &ColumnProfile)| a.values != b.values || a.sum != b.sum;
    let (keys, others): (Vec<_>, Vec<_>) = both.into_iter().partition(|(c, _)| c.key);
    old.rows == new.rows && keys.iter().any(changed) && !others.is_empty() && others.iter().all(changed)
}

fn column<'a>(table: &'a TableProfile, like: &ColumnProfile) -> Option<&'a ColumnProfile> {
    table.columns.iter().find(|column| column.name == like.name)
}

/// Looks for all rows that are missing: where they were first, then elsewhere.
fn find_rows(pairs: &mut [Pair<'_>], gains: &mut [Pile]) {
    let mut missing: Vec<(usize, Pile)> =
        pairs.iter().enumerate().filter_map(|(at, pair)| Some((at, pair.missing()?))).collect();
    // Tables that still stand under their name claim what is in them before others do.
    missing.sort_by_key(|(at, _)| pairs[*at].new.is_none());
    missing.retain(|(at, pile)| !settle(pairs, *at, search::side_by_side(pile, gains)));
    missing.retain(|(at, pile)| !settle(pairs, *at, search::spread(pile, gains)));
    loop {
        let piles: Vec<&Pile> = missing.iter().map(|(_, pile)| pile).collect();
        let Some((which, table)) = search::merged(&piles, gains) else { break };
        for at in which.iter().rev() {
            let (pair, _) = missing.remove(*at);
            let found = Found { tables: BTreeSet::from([table.clone()]), left: Vec::new() };
            settle(pairs, pair, Some(found));
        }
    }
    for (at, pile) in missing {
        pairs[at].rows_lost = pile.rows;
    }
}

/// Notes where the rows of a table were found; returns whether they were.
fn settle(pairs: &mut [Pair<'_>], at: usize, found: Option<Found>) -> bool {
    let (Some(found), Some((name, _))) = (found, pairs[at].old) else { return false };
    let holds = |pair: &&mut Pair<'_>| pair.new.is_some_and(|(new, _)| found.tables.contains(new));
    for pair in pairs.iter_mut().filter(holds) {
        pair.from.insert(name.to_owned());
    }
    let why = if pairs[at].fate == Fate::Kept { "deleted with their rows" } else { "not taken along" };
    let gone = |amount: &Amount| Gone { amount: Amount { spent: false, ..amount.clone() }, why, found_in: None };
    pairs[at].gone = found.left.iter().map(gone).collect();
    pairs[at].found = Some(found);
    true
}

/// Looks for values that went from columns: in their own table first, everywhere else after all have looked there.
fn find_columns(pairs: &mut [Pair<'_>], gains: &mut [Pile]) {
    for pair in pairs.iter_mut() {
        pair.look_for_columns();
    }
    for at_home in [true, false] {
        for pair in pairs.iter_mut() {
            let home = pair.new.map(|(name, _)| name);
            for gone in pair.gone.iter_mut().filter(|gone| gone.found_in.is_none()) {
                gone.found_in = search::column(&gone.amount, gains, |table| (home == Some(table)) == at_home);
            }
        }
    }
}

impl<'a> Pair<'a> {
    fn new(fate: Fate, old: Option<(&'a str, &'a TableProfile)>, new: Option<(&'a str, &'a TableProfile)>) -> Self {
        Pair { fate, old, new, gone: Vec::new(), found: None, from: BTreeSet::new(), rows_lost: 0 }
    }

    /// Before and after, where both are the same table with the same rows in it, as far as is known.
    fn kept(&self) -> Option<(&'a TableProfile, &'a TableProfile)> {
        (self.fate == Fate::Kept).then_some((self.old?.1, self.new?.1))
    }

    /// What came to the table.
    fn gained(&self) -> Option<Pile> {
        let (name, new) = self.new?;
        let amount = |c: &ColumnProfile| match self.kept().and_then(|(old, _)| column(old, c)) {
            Some(old) => Amount::beyond(c, old),
            None => Amount::all(c),
        };
        let had = self.kept().map_or(0, |(old, _)| old.rows);
        let columns = new.columns.iter().map(amount).collect();
        Some(Pile { table: name.to_owned(), rows: new.rows.saturating_sub(had), columns, spent: false })
    }

    /// The rows that are not in the table any more.
    fn missing(&self) -> Option<Pile> {
        let (name, old) = self.old?;
        let (rows, columns) = match self.kept() {
            None => (old.rows, old.columns.iter().map(Amount::all).collect()),
            Some((_, new)) => {
                let rows = old.rows.saturating_sub(new.rows);
                let beyond = |c| {
                    let mut amount = Amount::beyond(c, column(new, c)?);
                    // More values went than rows: the difference is not that of the rows alone.
                    amount.spent |= amount.values > rows;
                    Some(amount)
                };
                (rows, old.columns.iter().filter_map(beyond).collect())
            }
        };
        (rows > 0).then(|| Pile { table: name.to_owned(), rows, columns, spent: false })
    }

    /// Columns of a kept table that were dropped or emptied.
    fn look_for_columns(&mut self) {
        let Some((old, new)) = self.kept() else { return };
        let fewer = old.rows.saturating_sub(new.rows);
        for c in old.columns.iter().filter(|c| c.values > 0) {
            let gone = match column(new, c) {
                None => Gone { amount: Amount::all(c), why: "dropped", found_in: None },
                Some(still) if c.values.saturating_sub(still.values) > fewer => {
                    let mut amount = Amount::beyond(c, still);
                    amount.spent = fewer > 0;
                    amount.values -= fewer;
                    Gone { amount, why: "emptied", found_in: None }
                }
                Some(_) => continue,
            };
            // What did not come along with moved rows is reported once.
            self.gone.retain(|known| known.amount.name != c.name);
            self.gone.push(gone);
        }
    }

    fn losses(&self) -> Vec<Loss> {
        let Some((name, _)) = self.old else { return Vec::new() };
        let loss = |column: Option<&str>, rows_or_values, why: &str| Loss {
            table: name.to_owned(),
            column: column.map(str::to_owned),
            rows_or_values,
            why: why.to_owned(),
        };
        let why = match self.fate {
            Fate::Dropped => "dropped",
            Fate::Recreated => "recreated with other rows",
            Fate::Replaced => "replaced by other rows",
            Fate::Kept | Fate::Created => "deleted",
        };
        let rows = (self.rows_lost > 0).then(|| loss(None, self.rows_lost, why));
        let columns = self.gone.iter().filter(|gone| gone.found_in.is_none());
        rows.into_iter().chain(columns.map(|g| loss(Some(&g.amount.name), g.amount.values.max(1), g.why))).collect()
    }

    fn effect(&self) -> TableEffect {
        let name = self.old.or(self.new).map_or("", |(name, _)| name);
        let others = |set: &BTreeSet<String>, but: Option<&str>| -> Vec<String> {
            set.iter().filter(|table| Some(table.as_str()) != but).cloned().collect()
        };
        let new_name = self.new.map(|(name, _)| name);
        TableEffect {
            name: name.to_owned(),
            fate: self.fate,
            renamed_to: new_name.filter(|new| *new != name).map(str::to_owned),
            rows_before: self.old.map(|(_, table)| table.rows),
            rows_after: self.new.map(|(_, table)| table.rows),
            rewritten: self.kept().is_some_and(|(old, new)| old.storage != new.storage),
            columns: self.columns(),
            found_in: self.found.as_ref().map_or_else(Vec::new, |found| others(&found.tables, new_name)),
            from: others(&self.from, self.old.map(|(name, _)| name)),
            rows_lost: self.rows_lost,
        }
    }

    /// What happened to the columns of a table that was there before and is there now.
    fn columns(&self) -> Vec<ColumnEffect> {
        let (Some((_, old)), Some((new_name, new))) = (self.old, self.new) else { return Vec::new() };
        let mut list: Vec<ColumnEffect> = Vec::new();
        let mut renamed = BTreeSet::new();
        for c in &old.columns {
            let gone = self.gone.iter().find(|gone| gone.amount.name == c.name);
            let found_in = gone.and_then(|gone| gone.found_in.as_ref());
            for change in match column(new, c) {
                None => vec![self.departed(c, found_in, new_name, new, &mut renamed)],
                Some(still) => self.altered(c, still, gone, new_name),
            } {
                list.push(ColumnEffect { name: c.name.clone(), change });
            }
        }
        let added = new.columns.iter().filter(|c| column(old, c).is_none() && !renamed.contains(&c.name));
        list.extend(
            added.map(|c| ColumnEffect { name: c.name.clone(), change: ColumnChange::Added { values: c.values } }),
        );
        list
    }

    /// A column that is not there any more.
    fn departed(
        &self,
        c: &ColumnProfile,
        found_in: Option<&(String, String)>,
        new_name: &str,
        new: &TableProfile,
        renamed: &mut BTreeSet<String>,
    ) -> ColumnChange {
        let fresh = |n: &&ColumnProfile| self.old.is_some_and(|(_, old)| column(old, n).is_none());
        let home = found_in.filter(|(table, _)| table == new_name).map(|(_, column)| column.as_str());
        let twin = new.columns.iter().filter(fresh).find(|n| match home {
            Some(home) => n.name == home,
            // In a recreated table the columns came along with their rows.
            None => self.found.is_some() && c.values > 0 && n.values == c.values && n.sum == c.sum,
        });
        match twin {
            Some(twin) if renamed.insert(twin.name.clone()) => ColumnChange::Renamed { to: twin.name.clone() },
            _ => ColumnChange::Dropped {
                values: c.values,
                found_in: found_in.map(|place| names::place(place, new_name)),
            },
        }
    }

    /// A column that is still there under its name.
    fn altered(&self, c: &ColumnProfile, still: &ColumnProfile, gone: Option<&Gone>, home: &str) -> Vec<ColumnChange> {
        let mut list = Vec::new();
        if !c.kind.eq_ignore_ascii_case(&still.kind) {
            list.push(ColumnChange::Retyped { from: c.kind.clone(), to: still.kind.clone() });
        }
        let same_rows = self.old.map(|(_, t)| t.rows) == self.new.map(|(_, t)| t.rows);
        match gone.filter(|gone| gone.why == "emptied") {
            Some(gone) => list.push(ColumnChange::Emptied {
                values: gone.amount.values,
                found_in: gone.found_in.as_ref().map(|place| names::place(place, home)),
            }),
            None if same_rows && (c.values, c.sum) != (still.values, still.sum) => list.push(ColumnChange::Changed),
            None => {}
        }
        list
    }
}
