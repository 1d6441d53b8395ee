//! PostgreSQL names constraint and tables, and in its detail one key; what it does not say its catalogue does.

use super::{ForeignKey, SAMPLES, listed, value};
use crate::effect::shown as name;
use backup_agent::cli::text::counted;
use shared::engine::{Engine, EngineError};

/// What the server said of a foreign key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Told<'a> {
    constraint: &'a str,
    broken: Broken<'a>,
    /// The columns of the detail, as it writes them, and their values.
    key: Option<(&'a str, &'a str)>,
}

/// By whom it is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Broken<'a> {
    /// By rows of `child` whose key `parent` does not have.
    Missing { child: &'a str, parent: Option<&'a str> },
    /// By going rows of another table, which rows of `child` still name.
    StillNamed { child: &'a str },
}

/// What the copy answers.
enum Answer {
    /// Rows, in words.
    Rows(String),
    /// It has no row that breaks it.
    NoRow,
    /// Nobody knows what to ask it for.
    Unknown,
}

/// What breaks the foreign key that the output tells of, in words.
pub(super) async fn violations(copy: &dyn Engine, output: &str) -> Option<String> {
    let told = told(output)?;
    let answer = ask(copy, output, &told).await.unwrap_or_else(|error| {
        tracing::debug!(%error, "the copy does not tell which rows break a foreign key");
        Answer::Unknown
    });
    if let Answer::Rows(rows) = answer {
        return Some(format!("{} is broken by {rows}", told.constraint));
    }
    let (columns, values) = told.key?;
    let who = match told.broken {
        Broken::Missing { child, parent } => {
            format!("{child} ({columns}) = {} is not in {}", value(values), parent.unwrap_or("the table it refers to"))
        }
        Broken::StillNamed { child } => format!("{child} still names ({columns}) = {}", value(values)),
    };
    let by = if matches!(answer, Answer::NoRow) { ", as the migration itself writes" } else { "" };
    Some(format!("{}: {who}{by}", told.constraint))
}

async fn ask(copy: &dyn Engine, output: &str, told: &Told<'_>) -> Result<Answer, EngineError> {
    let rows = match told.broken {
        Broken::Missing { child, parent } => {
            let mut key = recorded(copy, told.constraint, child).await?;
            if let (None, Some(parent), Some((columns, _))) = (&key, parent, told.key) {
                key = written(copy, output, child, parent, columns).await?;
            }
            let Some(key) = key else { return Ok(Answer::Unknown) };
            key.orphans(copy).await?
        }
        Broken::StillNamed { child } => {
            let (Some(key), Some((_, values))) = (recorded(copy, told.constraint, child).await?, told.key) else {
                return Ok(Answer::Unknown);
            };
            naming(copy, &key, values).await?
        }
    };
    Ok(rows.map_or(Answer::NoRow, Answer::Rows))
}

/// The last violation of an output.
fn told(output: &str) -> Option<Told<'_>> {
    const NAMED: &str = " foreign key constraint \"";
    let at = output.rfind(NAMED)?;
    let line = output[..at].rfind('\n').map_or(0, |end| end + 1);
    let first = behind(&output[line..at], " on table \"")?;
    let (constraint, rest) = output[at + NAMED.len()..].split_once('"')?;
    let second = rest.strip_prefix(" on table \"").and_then(|rest| Some(rest.split_once('"')?.0));
    let detail = rest.rfind("Key (").map(|at| &rest[at + "Key (".len()..]);
    let key = |end: &str| {
        let (columns, rest) = detail?.split_once(")=(")?;
        Some((columns, rest.split_once(end)?.0))
    };
    let told = match second {
        None => {
            let parent = behind(rest, " is not present in table \"");
            Told { constraint, broken: Broken::Missing { child: first, parent }, key: key(") is not present in") }
        }
        Some(child) => {
            let key = key(") is still referenced").or_else(|| key(") is referenced"));
            Told { constraint, broken: Broken::StillNamed { child }, key }
        }
    };
    Some(told)
}

/// What stands between `mark` and the next quotation mark.
fn behind<'a>(text: &'a str, mark: &str) -> Option<&'a str> {
    Some(text.split_once(mark)?.1.split_once('"')?.0)
}

/// A foreign key that the copy has, if only one is meant.
async fn recorded(copy: &dyn Engine, constraint: &str, child: &str) -> Result<Option<ForeignKey>, EngineError> {
    let sql = format!(
        "SELECT k.conrelid::regclass, k.confrelid::regclass, quote_ident(c.attname), quote_ident(p.attname)
         FROM pg_catalog.pg_constraint k
         JOIN pg_catalog.pg_class t ON t.oid = k.conrelid
         CROSS JOIN LATERAL unnest(k.conkey, k.confkey) WITH ORDINALITY pair (child, parent, place)
         JOIN pg_catalog.pg_attribute c ON c.attrelid = k.conrelid AND c.attnum = pair.child
         JOIN pg_catalog.pg_attribute p ON p.attrelid = k.confrelid AND p.attnum = pair.parent
         WHERE k.contype = 'f' AND k.conname = {} AND t.relname = {}
         ORDER BY k.oid, pair.place",
        literal(constraint),
        literal(child)
    );
    Ok(one_key(copy.query(&sql).await?))
}

/// The foreign key of rows of child, parent, column and column; none where they are of several tables.
fn one_key(rows: Vec<Vec<Option<String>>>) -> Option<ForeignKey> {
    let mut found: Option<ForeignKey> = None;
    for row in rows {
        let [Some(child), Some(parent), Some(column), Some(key)] = <[Option<String>; 4]>::try_from(row).ok()? else {
            return None;
        };
        let found =
            found.get_or_insert_with(|| ForeignKey { child: child.clone(), parent: parent.clone(), columns: vec![] });
        if found.child != child || found.parent != parent {
            return None;
        }
        found.columns.push((column, key));
    }
    found
}

/// A foreign key that was to be made: the columns of `child` are those of the detail, those of `parent` as the statement
/// names them, which most tools print, else its primary key, as SQL has it.
async fn written(
    copy: &dyn Engine,
    output: &str,
    child: &str,
    parent: &str,
    columns: &str,
) -> Result<Option<ForeignKey>, EngineError> {
    let named = |list: &[&str]| {
        let list: Vec<String> = list.iter().map(|name| literal(name)).collect();
        format!("ARRAY[{}]::name[]", list.join(", "))
    };
    let columns: Vec<&str> = columns.split(", ").collect();
    let keys = match referenced(output, parent) {
        Some(keys) => named(&keys),
        None => "(SELECT array_agg(a.attname ORDER BY k.place) FROM pg_catalog.pg_constraint p
             CROSS JOIN LATERAL unnest(p.conkey) WITH ORDINALITY k (number, place)
             JOIN pg_catalog.pg_attribute a ON a.attrelid = p.conrelid AND a.attnum = k.number
             WHERE p.contype = 'p' AND p.conrelid = parent.oid)"
            .to_owned(),
    };
    let sql = format!(
        "SELECT child.oid::regclass, parent.oid::regclass, quote_ident(pair.child), quote_ident(pair.parent)
         FROM pg_catalog.pg_class child CROSS JOIN pg_catalog.pg_class parent
         CROSS JOIN LATERAL unnest({}, {keys}) WITH ORDINALITY pair (child, parent, place)
         WHERE child.relname = {} AND child.relkind IN ('r', 'p') AND parent.relname = {} AND parent.relkind IN ('r', 'p')
         ORDER BY child.oid, parent.oid, pair.place",
        named(&columns),
        literal(child),
        literal(parent)
    );
    // A number of columns that does not fit leaves an empty field, and that no key.
    Ok(one_key(copy.query(&sql).await?))
}

/// The columns behind the last `REFERENCES parent` of an output.
fn referenced<'a>(output: &'a str, parent: &str) -> Option<Vec<&'a str>> {
    let plain = |text: &'a str| text.trim().trim_matches('"');
    output.rmatch_indices("REFERENCES ").find_map(|(at, mark)| {
        let (table, rest) = output[at + mark.len()..].split_once('(')?;
        let (columns, _) = rest.split_once(')')?;
        let table = plain(table).rsplit('.').next().map(plain)?;
        (table == parent).then(|| columns.split(',').map(plain).collect())
    })
}

/// Rows that still name a key, in words.
async fn naming(copy: &dyn Engine, key: &ForeignKey, values: &str) -> Result<Option<String>, EngineError> {
    let sql = format!(
        "SELECT quote_ident(a.attname) FROM pg_catalog.pg_constraint p
         CROSS JOIN LATERAL unnest(p.conkey) WITH ORDINALITY k (number, place)
         JOIN pg_catalog.pg_attribute a ON a.attrelid = p.conrelid AND a.attnum = k.number
         WHERE p.contype = 'p' AND p.conrelid = {}::regclass ORDER BY k.place",
        literal(&key.child)
    );
    let own: Vec<String> = copy.query(&sql).await?.into_iter().flatten().flatten().collect();
    let shown_by = if own.is_empty() { vec!["ctid".to_owned()] } else { own };
    let text: Vec<String> = shown_by.iter().map(|column| format!("c.{column}::text")).collect();
    let order: Vec<String> = shown_by.iter().map(|column| format!("c.{column}")).collect();
    let sql = format!(
        "SELECT {}, count(*) OVER () FROM {} c WHERE {} = {} ORDER BY {} LIMIT {SAMPLES}",
        text.join(" || ', ' || "),
        key.child,
        key.key_of(copy.kind()),
        literal(values),
        order.join(", ")
    );
    let found = copy.query(&sql).await?;
    let Some(rows) = found.first().and_then(|row| row.get(1)?.as_deref()?.parse::<usize>().ok()) else {
        return Ok(None);
    };
    let told: Vec<String> = found.iter().filter_map(|row| Some(value(row.first()?.as_deref()?))).collect();
    Ok(Some(format!(
        "{} of {} that still name {} = {} in {}: {} {}",
        counted(rows, "row"),
        name(&key.child),
        key.referred(),
        value(values),
        key.referring(),
        shown_by.join(", "),
        listed(&told, rows)
    )))
}

/// A string, however the server reads backslashes.
fn literal(text: &str) -> String {
    format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_server_says_of_a_foreign_key_is_read_however_a_tool_prints_it() {
        let psycopg = "Traceback (most recent call last):\n  File \"a.py\", line 1\npsycopg2.errors.ForeignKeyViolation: insert \
            or update on table \"orders\" violates foreign key constraint \"fk_shop\"\nDETAIL:  Key (shop_id)=(7) is not \
            present in table \"shops\".\n\n[SQL: ALTER TABLE orders ADD CONSTRAINT fk_shop FOREIGN KEY(shop_id) REFERENCES \
            shops (id)]\n";
        let missing = Broken::Missing { child: "orders", parent: Some("shops") };
        let expected = Told { constraint: "fk_shop", broken: missing, key: Some(("shop_id", "7")) };
        assert_eq!(told(psycopg), Some(expected));
        let sqlx = "error: while executing migration 4: error returned from database: insert or update on table \"orders\" \
            violates foreign key constraint \"fk_shop\" (Key (a, b)=(1, (x)) is not present in table \"shops\".)";
        assert_eq!(told(sqlx), Some(Told { key: Some(("a, b", "1, (x)")), ..expected }));
        let short = "ERROR: insert or update on table \"orders\" violates foreign key constraint \"fk_shop\"";
        let broken = Broken::Missing { child: "orders", parent: None };
        assert_eq!(told(short), Some(Told { broken, key: None, ..expected }));

        let named = "update or delete on table \"shops\" violates foreign key constraint \"fk_shop\" on table \"orders\"\n\
            DETAIL:  Key (id)=(3) is still referenced from table \"orders\".";
        let broken = Broken::StillNamed { child: "orders" };
        assert_eq!(told(named), Some(Told { constraint: "fk_shop", broken, key: Some(("id", "3")) }));
        let restrict = "update or delete on table \"shops\" violates RESTRICT setting of foreign key constraint \"fk_shop\" on \
            table \"orders\"\nDETAIL:  Key (id)=(3) is referenced from table \"orders\".";
        assert_eq!(told(restrict), told(named));
        assert_eq!(told("ERROR: relation \"orders\" does not exist"), None);
    }

    #[test]
    fn the_columns_a_statement_refers_to_are_read() {
        let printed = "FOREIGN KEY(a) REFERENCES other (id)\nADD FOREIGN KEY (a, b) REFERENCES public.\"Shops\"(\"X\", y) ON DELETE";
        assert_eq!(referenced(printed, "Shops"), Some(vec!["X", "y"]));
        assert_eq!(referenced(printed, "other"), Some(vec!["id"]));
        assert_eq!(referenced("REFERENCES shops; CREATE INDEX i ON t (x)", "shops"), None);
    }
}
