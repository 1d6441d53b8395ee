//! Which tables a person means with `--table`.

use super::facts::TableFact;
use super::quote::ident;
use crate::engine::EngineError;
use std::collections::BTreeSet;

/// The indices of the tables meant. Refused where a name fits none, or more than one.
pub(crate) fn chosen(tables: &[TableFact], typed: &[String]) -> Result<BTreeSet<usize>, EngineError> {
    let mut list = BTreeSet::new();
    for name in typed {
        let fits: Vec<usize> = (0..tables.len()).filter(|at| means(&tables[*at], name)).collect();
        match fits.as_slice() {
            [one] => list.insert(*one),
            [] => {
                return Err(EngineError::refused(format!("the backup has no table {name}"))
                    .with_hint("a partition comes with its partitioned table; `show` lists the tables"));
            }
            several => {
                let names: Vec<String> = several.iter().map(|at| tables[*at].sql()).collect();
                return Err(EngineError::refused(format!("{name} could be any of {}", names.join(", ")))
                    .with_hint("write schema and table, in double quotes where they hold dots"));
            }
        };
    }
    Ok(list)
}

/// Every way a person may write the name: with or without schema, quoted or not, in any case where unquoted.
fn means(table: &TableFact, typed: &str) -> bool {
    let (schema, name) = (&table.schema, &table.name);
    let written = [
        table.qualified(),
        table.sql(),
        ident(name),
        format!("{}.{name}", ident(schema)),
        format!("{schema}.{}", ident(name)),
        format!("{schema}.{name}"),
        name.clone(),
    ];
    written.iter().any(|way| way == typed) || {
        let folded = typed.to_lowercase();
        !typed.contains('"') && (folded == format!("{schema}.{name}") || folded == *name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tables(names: &[(&str, &str)]) -> Vec<TableFact> {
        let fact = |(schema, name): &(&str, &str)| TableFact {
            oid: 1,
            schema: (*schema).into(),
            name: (*name).into(),
            columns: Vec::new(),
            config: None,
            leaves: Vec::new(),
        };
        names.iter().map(fact).collect()
    }

    #[test]
    fn tables_are_found_as_people_write_them() {
        let list = tables(&[("public", "album"), ("a.b", "c"), ("a", "b.c"), ("x", "Track"), ("y", "album")]);
        let find = |typed: &str| chosen(&list, &[typed.to_owned()]).ok().and_then(|set| set.first().copied());
        assert_eq!(find("public.album"), Some(0));
        assert_eq!(find("PUBLIC.Album"), Some(0));
        assert_eq!(find("\"a.b\".\"c\""), Some(1));
        assert_eq!(find("a.\"b.c\""), Some(2));
        assert_eq!(find("Track"), Some(3));
        for (bad, says) in
            [("album", "could be any"), ("a.b.c", "could be any"), ("nothing", "no table"), ("track", "no table")]
        {
            let error = chosen(&list, &[bad.to_owned()]).expect_err(bad);
            assert!(error.to_string().contains(says), "{bad}: {error}");
        }
    }
}
