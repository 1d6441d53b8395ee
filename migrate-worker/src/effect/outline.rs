//! What a migration does, told so that two rehearsals of one plan say the same although the application went on.

use super::names::column;
use super::{ColumnChange, ColumnEffect, Effects, Fate, TableEffect, shown};

pub(super) fn outline(effects: &Effects) -> Vec<String> {
    effects.tables.iter().filter_map(line).collect()
}

/// What happens to a table; none where it is only stored anew.
fn line(table: &TableEffect) -> Option<String> {
    let mut parts = Vec::new();
    match table.fate {
        Fate::Created => parts.push("new".to_owned()),
        Fate::Dropped => parts.push("dropped".to_owned()),
        Fate::Recreated => parts.push("recreated".to_owned()),
        Fate::Replaced => parts.push("all rows replaced".to_owned()),
        Fate::Kept if table.rows_after > table.rows_before => parts.push("more rows".to_owned()),
        Fate::Kept if table.rows_after < table.rows_before => parts.push("fewer rows".to_owned()),
        Fate::Kept => {}
    }
    parts.extend(table.renamed_to.as_ref().map(|new| format!("renamed to {}", shown(new))));
    parts.extend(table.columns.iter().map(said));
    parts.extend(names("rows now in", &table.found_in));
    parts.extend(names("rows from", &table.from));
    (!parts.is_empty()).then(|| format!("table {}: {}", shown(&table.name), parts.join(", ")))
}

fn said(effect: &ColumnEffect) -> String {
    let name = column(&effect.name);
    let moved = |place: &Option<String>| place.as_ref().map_or(String::new(), |place| format!(" (now in {place})"));
    match &effect.change {
        ColumnChange::Added { .. } => format!("+column {name}"),
        ColumnChange::Renamed { to } => format!("column {name} renamed to {}", column(to)),
        ColumnChange::Dropped { found_in, .. } => format!("column {name} dropped{}", moved(found_in)),
        ColumnChange::Emptied { found_in, .. } => format!("column {name} emptied{}", moved(found_in)),
        ColumnChange::Changed => format!("column {name} changed"),
        ColumnChange::Retyped { from, to } => format!("column {name} {from} -> {to}"),
    }
}

fn names(before: &str, tables: &[String]) -> Option<String> {
    let list: Vec<String> = tables.iter().map(|table| shown(table)).collect();
    (!list.is_empty()).then(|| format!("{before} {}", list.join(" and ")))
}
