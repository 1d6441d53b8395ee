//! The report for people.

use super::loss::count;
use super::names::column;
use super::{ColumnChange, ColumnEffect, Effects, Fate, TableEffect, shown};

pub(super) fn lines(effects: &Effects) -> Vec<String> {
    let mut list: Vec<String> = effects.tables.iter().map(|table| line(table, effects)).collect();
    if effects.unchanged > 0 {
        list.push(format!("{} unchanged", count(effects.unchanged as u64, "table")));
    }
    list
}

fn line(table: &TableEffect, effects: &Effects) -> String {
    let name = shown(&table.name);
    let rows = rows(table);
    let mut parts = match table.fate {
        Fate::Created => {
            let from = names(" (from ", &table.from);
            return format!("table {name}: new, {rows}{from}");
        }
        Fate::Dropped => return format!("table {name}: dropped, {}", fallen(table)),
        Fate::Recreated => vec!["recreated".to_owned()],
        Fate::Replaced => vec!["all rows replaced".to_owned()],
        Fate::Kept => Vec::new(),
    };
    parts.extend(table.renamed_to.as_ref().map(|new| format!("renamed to {}", shown(new))));
    parts.extend(table.columns.iter().map(|column| said(column, table, effects)));
    if table.rewritten {
        parts.push("rewritten".to_owned());
    }
    let lost = if table.rows_lost > 0 { format!(", {} lost", count(table.rows_lost, "row")) } else { String::new() };
    let (into, from) = (names(" (now in ", &table.found_in), names(" (from ", &table.from));
    let head = if parts.is_empty() { String::new() } else { format!("{}; ", parts.join(", ")) };
    format!("table {name}: {head}{rows}{lost}{into}{from}")
}

/// What became of a dropped table's rows.
fn fallen(table: &TableEffect) -> String {
    match table.rows_before {
        None | Some(0) => "empty".to_owned(),
        Some(rows) if table.rows_lost > 0 => format!("{} lost", count(rows, "row")),
        Some(rows) => format!("{}{}", count(rows, "row"), names(" (now in ", &table.found_in)),
    }
}

fn rows(table: &TableEffect) -> String {
    match (table.rows_before, table.rows_after) {
        (Some(before), Some(after)) if before != after => format!("{} before, {after} now", count(before, "row")),
        (_, Some(rows)) | (Some(rows), None) => count(rows, "row"),
        (None, None) => count(0, "row"),
    }
}

fn said(effect: &ColumnEffect, table: &TableEffect, effects: &Effects) -> String {
    let name = column(&effect.name);
    let lost = effects
        .losses
        .iter()
        .find(|loss| loss.table == table.name && loss.column.as_ref() == Some(&effect.name))
        .map(|loss| format!(", {} lost", count(loss.rows_or_values, "value")));
    let lost_or = |other: String| lost.clone().unwrap_or(other);
    let moved = |place: &Option<String>| place.as_ref().map_or(String::new(), |place| format!(" (now in {place})"));
    match &effect.change {
        ColumnChange::Added { .. } => format!("+column {name}"),
        ColumnChange::Renamed { to } => format!("column {name} renamed to {}", column(to)),
        ColumnChange::Dropped { values: 0, .. } => format!("column {name} dropped, empty"),
        ColumnChange::Dropped { found_in, .. } => format!("column {name} dropped{}", lost_or(moved(found_in))),
        ColumnChange::Emptied { found_in, .. } => format!("column {name} emptied{}", lost_or(moved(found_in))),
        ColumnChange::Changed => format!("column {name} changed{}", lost_or(String::new())),
        ColumnChange::Retyped { from, to } => format!("column {name} {from} -> {to}"),
    }
}

fn names(before: &str, tables: &[String]) -> String {
    if tables.is_empty() {
        return String::new();
    }
    let list: Vec<String> = tables.iter().map(|table| shown(table)).collect();
    format!("{before}{})", list.join(", "))
}
