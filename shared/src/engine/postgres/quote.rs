//! Names and values as SQL text.

/// Words that cannot stand unquoted where a schema is named (reserved, or reserved for functions and types).
const RESERVED: &str = " all analyse analyze and any array as asc asymmetric authorization binary both case cast check \
    collate collation column concurrently constraint create cross current_catalog current_date current_role \
    current_schema current_time current_timestamp current_user default deferrable desc distinct do else end except \
    false fetch for foreign freeze from full grant group having ilike in initially inner intersect into is isnull join \
    lateral leading left like limit localtime localtimestamp natural not notnull null offset on only or order outer \
    overlaps placing primary references returning right select session_user similar some symmetric system_user table \
    tablesample then to trailing true union unique user using variadic verbose when where window with ";

/// An identifier, always in double quotes.
pub(crate) fn ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A schema-qualified name, quoted only where it must be.
///
/// The rule is ours and must not change with the server: these names are keys in manifests and fingerprints.
pub(crate) fn qualified(schema: &str, name: &str) -> String {
    let schema = if RESERVED.contains(&format!(" {schema} ")) { ident(schema) } else { plain(schema) };
    format!("{schema}.{}", plain(name))
}

/// An identifier, quoted only where its characters demand it.
fn plain(name: &str) -> String {
    let first = |c: char| c.is_ascii_lowercase() || c == '_';
    let simple = name.starts_with(first) && name.chars().all(|c| first(c) || c.is_ascii_digit());
    if simple { name.to_owned() } else { ident(name) }
}

/// A string constant that means the same whatever `standard_conforming_strings` says.
pub(crate) fn literal(text: &str) -> String {
    let body = text.replace('\'', "''");
    if body.contains('\\') { format!("E'{}'", body.replace('\\', "\\\\")) } else { format!("'{body}'") }
}

/// A list of names as it stands between the parentheses of a column list.
pub(crate) fn column_list<'a>(columns: impl IntoIterator<Item = &'a str>) -> String {
    columns.into_iter().map(ident).collect::<Vec<_>>().join(", ")
}

/// A field of a tab-separated line that `printf '%b'` turns back into what it was. Never empty.
pub(crate) fn tsv_field(text: &str) -> String {
    if text.is_empty() {
        // An empty field would vanish, because the shell takes several tabs for one.
        return "-".to_owned();
    }
    text.replace('\\', "\\\\").replace('\t', "\\t").replace('\n', "\\n").replace('\r', "\\r")
}

/// A value inside a libpq connection string.
pub(crate) fn conninfo_value(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// The text on one line, for messages.
pub(crate) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_only_where_they_must_be() {
        for (schema, name, expected) in [
            ("public", "album", "public.album"),
            ("public", "user", "public.user"),
            ("user", "t", "\"user\".t"),
            ("a.b", "c", "\"a.b\".c"),
            ("a", "b.c", "a.\"b.c\""),
            ("public", "we\"ird\n", "public.\"we\"\"ird\n\""),
            ("public", "1st", "public.\"1st\""),
            ("public", "Größe", "public.\"Größe\""),
            ("public", "", "public.\"\""),
        ] {
            assert_eq!(qualified(schema, name), expected);
        }
    }

    #[test]
    fn values_are_quoted() {
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(literal("a\\'b"), "E'a\\\\''b'");
        assert_eq!(conninfo_value("a'b\\c"), "'a\\'b\\\\c'");
    }

    #[test]
    fn fields_survive_tabs_newlines_and_backslashes() {
        assert_eq!(tsv_field("a\tb\nc\\d"), "a\\tb\\nc\\\\d");
        assert_eq!(tsv_field(""), "-");
    }
}
