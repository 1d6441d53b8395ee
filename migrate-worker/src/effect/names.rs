//! Names of tables and columns as people write and read them.

/// The parts of a name as fingerprints have it: the schema, where there is one, and the table; both unquoted.
pub(super) fn parts(key: &str) -> (Option<String>, String) {
    let mut list = vec![String::new()];
    let mut quoted = false;
    let mut chars = key.chars().peekable();
    while let Some(c) = chars.next() {
        match (c, quoted, list.last_mut()) {
            ('"', true, Some(last)) if chars.peek() == Some(&'"') => {
                chars.next();
                last.push('"');
            }
            ('"', ..) => quoted = !quoted,
            ('.', false, _) => list.push(String::new()),
            (_, _, Some(last)) => last.push(c),
            (_, _, None) => {}
        }
    }
    let table = list.pop().unwrap_or_default();
    (list.pop(), table)
}

/// The table's name as a person would type it: without `public`, quoted only where it must be.
pub fn shown(key: &str) -> String {
    match parts(key) {
        (Some(schema), table) if schema != "public" => format!("{}.{}", column(&schema), column(&table)),
        (_, table) => column(&table),
    }
}

/// One name, quoted only where it must be.
pub(super) fn column(name: &str) -> String {
    let first = |c: char| c.is_ascii_alphabetic() || c == '_';
    let simple = name.starts_with(first) && name.chars().all(|c| first(c) || c.is_ascii_digit());
    if simple { name.to_owned() } else { quoted(name) }
}

/// A column of a table, without the table where that is `home`.
pub(super) fn place((table, name): &(String, String), home: &str) -> String {
    let name = column(name);
    if table == home { name } else { format!("{}.{name}", shown(table)) }
}

/// One name in double quotes.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Every way a table's name may be written. Outside `public` the schema must be named.
pub(super) fn spellings(key: &str) -> Vec<String> {
    match parts(key) {
        (None, table) => vec![table.clone(), quoted(&table)],
        (Some(schema), table) => {
            let mut list = Vec::new();
            if schema == "public" {
                list.extend([table.clone(), quoted(&table)]);
            }
            for schema in [schema.clone(), quoted(&schema)] {
                list.extend([format!("{schema}.{table}"), format!("{schema}.{}", quoted(&table))]);
            }
            list
        }
    }
}
