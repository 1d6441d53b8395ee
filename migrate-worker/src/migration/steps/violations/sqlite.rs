//! SQLite names nothing, but finds all rows that break a foreign key when it is asked.

use super::ForeignKey;
use crate::effect::shown as name;
use backup_agent::cli::text::counted;
use shared::engine::{Engine, EngineError};

/// How many foreign keys are told.
const MOST: usize = 3;

/// What breaks a foreign key where the output tells of one, in words.
pub(super) async fn violations(copy: &dyn Engine, output: &str) -> Option<String> {
    if !output.contains("FOREIGN KEY constraint failed") {
        return None;
    }
    let told = ask(copy).await;
    told.inspect_err(|error| tracing::debug!(%error, "the copy does not tell which rows break a foreign key")).ok()
}

async fn ask(copy: &dyn Engine) -> Result<String, EngineError> {
    // `table` and `parent` are words of its own.
    let sql = "SELECT \"table\", \"parent\", fkid, count(*) FROM pragma_foreign_key_check GROUP BY 1, 2, 3 ORDER BY 4 DESC, 1, 3";
    let found = copy.query(sql).await?;
    if found.is_empty() {
        return Ok("no row of the copy breaks a foreign key: what the migration itself writes or removes does".into());
    }
    let more =
        if found.len() > MOST { format!("; and {} more foreign keys", found.len() - MOST) } else { String::new() };
    let mut told = Vec::new();
    for row in found.into_iter().take(MOST) {
        let [Some(child), Some(parent), Some(id), Some(rows)] =
            <[Option<String>; 4]>::try_from(row).unwrap_or_default()
        else {
            continue;
        };
        let key = ForeignKey {
            columns: columns(copy, &child, &parent, &id).await?,
            child: quoted(&child),
            parent: quoted(&parent),
        };
        // A parent that is not there cannot be compared with.
        let orphans = key.orphans(copy).await.unwrap_or_default();
        let only_counted = || format!("{} of {}", counted(rows.parse().unwrap_or_default(), "row"), name(&key.child));
        let (from, to) = (format!("{} ({})", name(&key.child), key.referring()), key.referred());
        told.push(format!("the foreign key from {from} to {to} is broken by {}", orphans.unwrap_or_else(only_counted)));
    }
    Ok(format!("{}{more}", told.join("; ")))
}

/// The columns of a table's foreign key, in pairs. One that names none of the parent's means its primary key.
async fn columns(copy: &dyn Engine, child: &str, parent: &str, id: &str) -> Result<Vec<(String, String)>, EngineError> {
    let sql = format!(
        "SELECT f.\"from\", coalesce(f.\"to\", (SELECT name FROM pragma_table_info({}) WHERE pk = f.seq + 1), '')
         FROM pragma_foreign_key_list({}) f WHERE f.id = {id} ORDER BY f.seq",
        literal(parent),
        literal(child)
    );
    let pairs = copy.query(&sql).await?.into_iter().filter_map(|row| {
        let [child, parent] = <[Option<String>; 2]>::try_from(row).ok()?;
        Some((quoted(&child?), quoted(&parent?)))
    });
    Ok(pairs.collect())
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
