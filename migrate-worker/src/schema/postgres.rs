//! Which object a statement of PostgreSQL is of. What it means needs no reading: all texts are `pg_dump`'s.

use super::Statement;

/// Words between CREATE and the kind that do not tell objects apart.
const MODIFIERS: [&str; 9] =
    ["OR", "REPLACE", "UNIQUE", "UNLOGGED", "MATERIALIZED", "RECURSIVE", "TRUSTED", "PROCEDURAL", "CONSTRAINT"];

/// Kinds whose name follows, by itself enough to know them.
const PLAIN: [&str; 16] = [
    "TABLE",
    "VIEW",
    "SEQUENCE",
    "TYPE",
    "DOMAIN",
    "SCHEMA",
    "EXTENSION",
    "FUNCTION",
    "PROCEDURE",
    "AGGREGATE",
    "COLLATION",
    "SERVER",
    "PUBLICATION",
    "SUBSCRIPTION",
    "STATISTICS",
    "LANGUAGE",
];

/// Kinds that are known only together with their table.
const OF_TABLES: [&str; 4] = ["INDEX", "TRIGGER", "RULE", "POLICY"];

/// Reads a statement of a structure.
pub(super) fn read(text: &str) -> Statement {
    let object = object(text).unwrap_or_else(|| text.split_whitespace().collect::<Vec<_>>().join(" "));
    Statement { object, meaning: text.to_owned(), text: text.to_owned() }
}

/// The object, where the statement is of a form that is known; else the statement is its own.
fn object(text: &str) -> Option<String> {
    let mut words = Words(text);
    match words.next()? {
        "CREATE" => created(&mut words),
        "ALTER" => altered(&mut words),
        "COMMENT" => {
            let (of, _) = text.split_once(" IS ")?;
            Some(format!("comment on {}", of.strip_prefix("COMMENT ON ")?))
        }
        _ => None,
    }
}

fn created(words: &mut Words<'_>) -> Option<String> {
    let mut kind = words.next()?;
    while MODIFIERS.contains(&kind) {
        kind = words.next()?;
    }
    if matches!(kind, "FOREIGN" | "EVENT") {
        kind = words.next()?;
    }
    if PLAIN.contains(&kind) {
        let mut name = words.next()?;
        if (name, words.peek()) == ("IF", Some("NOT")) {
            name = words.nth(2)?;
        }
        return Some(format!("{} {name}", kind.to_lowercase()));
    }
    if OF_TABLES.contains(&kind) {
        let name = words.next()?;
        // `RULE … AS ON INSERT TO table`, all others `… ON [ONLY] table`.
        let before = if kind == "RULE" { "TO" } else { "ON" };
        words.find(|word| *word == before)?;
        let table = words.find(|word| *word != "ONLY")?;
        return Some(format!("{} {name} on {table}", kind.to_lowercase()));
    }
    None
}

fn altered(words: &mut Words<'_>) -> Option<String> {
    let mut kind = words.next()?.to_owned();
    if matches!(kind.as_str(), "MATERIALIZED" | "FOREIGN" | "EVENT") {
        words.next()?;
        kind = "TABLE".to_owned();
    }
    let name = words.find(|word| *word != "ONLY")?;
    let kind = kind.to_lowercase();
    Some(match (words.next()?, words.next()?) {
        ("OWNER", "TO") => format!("owner of {kind} {name}"),
        ("OWNED", "BY") => format!("owner of {kind} {name}, a column"),
        ("ADD", "CONSTRAINT") => format!("constraint {} of {name}", words.next()?),
        ("ATTACH", "PARTITION") => format!("partition {} of {name}", words.next()?),
        ("ALTER", "COLUMN") => {
            let column = words.next()?;
            let what = words.next()?;
            let what = words.next().map_or_else(|| what.to_owned(), |more| format!("{what} {more}"));
            format!("{} of column {column} of {name}", what.to_lowercase())
        }
        _ => return None,
    })
}

/// The words of a statement; a name is one, with its quotes and, of a routine, with its arguments.
struct Words<'a>(&'a str);

impl<'a> Words<'a> {
    fn peek(&self) -> Option<&'a str> {
        Words(self.0).next()
    }
}

impl<'a> Iterator for Words<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let text = self.0.trim_start();
        let (mut quoted, mut depth) = (false, 0_u32);
        let end = text.char_indices().find(|(at, c)| {
            match c {
                '"' => quoted = !quoted,
                // Arguments follow a name at once, columns behind a space.
                '(' if !quoted && *at > 0 => depth += 1,
                ')' if !quoted => depth = depth.saturating_sub(1),
                c if c.is_whitespace() => return !quoted && depth == 0,
                _ => {}
            }
            false
        });
        let (word, rest) = text.split_at(end.map_or(text.len(), |(at, _)| at));
        self.0 = rest;
        (!word.is_empty()).then_some(word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_are_known_by_what_they_are_of() {
        for (text, expected) in [
            ("CREATE TABLE public.item (\n    id integer NOT NULL\n)", "table public.item"),
            ("CREATE UNLOGGED TABLE public.\"My Table\" (\n    id integer\n)", "table public.\"My Table\""),
            ("CREATE FOREIGN TABLE public.far (\n    id integer\n)\nSERVER s", "table public.far"),
            ("CREATE MATERIALIZED VIEW public.m AS\n SELECT 1", "view public.m"),
            ("CREATE UNIQUE INDEX i ON ONLY public.item USING btree (id)", "index i on public.item"),
            ("CREATE INDEX i ON public.item USING btree (id)", "index i on public.item"),
            (
                "CREATE FUNCTION public.f(a integer, b text DEFAULT 'x y'::text) RETURNS void\n    LANGUAGE sql",
                "function public.f(a integer, b text DEFAULT 'x y'::text)",
            ),
            (
                "CREATE CONSTRAINT TRIGGER t AFTER INSERT ON public.item DEFERRABLE FOR EACH ROW EXECUTE FUNCTION f()",
                "trigger t on public.item",
            ),
            ("CREATE TRIGGER t BEFORE UPDATE ON public.item FOR EACH ROW EXECUTE FUNCTION f()", "trigger t on public.item"),
            ("CREATE RULE r AS\n    ON INSERT TO public.item DO INSTEAD NOTHING", "rule r on public.item"),
            ("CREATE POLICY p ON public.item USING (true)", "policy p on public.item"),
            ("CREATE EXTENSION IF NOT EXISTS pgcrypto WITH SCHEMA public", "extension pgcrypto"),
            ("CREATE EVENT TRIGGER e ON ddl_command_end\n   EXECUTE FUNCTION f()", "trigger e on ddl_command_end"),
            ("CREATE TYPE public.mood AS ENUM (\n    'sad'\n)", "type public.mood"),
            ("ALTER TABLE public.item OWNER TO app", "owner of table public.item"),
            ("ALTER FUNCTION public.f(a integer) OWNER TO app", "owner of function public.f(a integer)"),
            ("ALTER SEQUENCE public.s OWNED BY public.item.id", "owner of sequence public.s, a column"),
            ("ALTER TABLE ONLY public.item\n    ADD CONSTRAINT item_pkey PRIMARY KEY (id)", "constraint item_pkey of public.item"),
            (
                "ALTER TABLE ONLY public.item ALTER COLUMN id SET DEFAULT nextval('public.s'::regclass)",
                "set default of column id of public.item",
            ),
            (
                "ALTER TABLE ONLY public.part ATTACH PARTITION public.part_1 FOR VALUES IN (1)",
                "partition public.part_1 of public.part",
            ),
            ("COMMENT ON TABLE public.item IS 'it IS a table'", "comment on TABLE public.item"),
            ("GRANT SELECT ON TABLE public.item TO\n reader", "GRANT SELECT ON TABLE public.item TO reader"),
            ("CREATE CAST (a AS b) WITHOUT FUNCTION", "CREATE CAST (a AS b) WITHOUT FUNCTION"),
            ("ALTER TABLE public.item ENABLE ROW LEVEL SECURITY", "ALTER TABLE public.item ENABLE ROW LEVEL SECURITY"),
        ] {
            assert_eq!(read(text).object, expected);
        }
    }
}
