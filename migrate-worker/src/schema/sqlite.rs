//! What a definition of SQLite means, whatever it was typed like.
//!
//! Quotes, white space, comments and the case of words do not count, nor does the order of a table's constraints. A key
//! that is the row's number is the same whether it stands with its column or behind all of them. That is what tools
//! change that make a table anew: Alembic's batch mode, Django.

use super::Statement;

/// Reads a statement of a structure; none where it is SQLite's own.
pub(super) fn read(text: &str) -> Option<Statement> {
    let statement = |object: String, meaning: String, text: &str| Statement { object, meaning, text: text.to_owned() };
    let Some((kind, name, sql)) = head(text) else {
        let (setting, value) = text.split_once(": ").unwrap_or((text, ""));
        return Some(statement(format!("PRAGMA {setting}"), value.to_owned(), text));
    };
    // Indexes of constraints follow from their tables, as does the table of AUTOINCREMENT.
    if name.starts_with("\"sqlite_") {
        return None;
    }
    let sql = sql.unwrap_or_default();
    Some(statement(format!("{kind} {}", name.to_lowercase()), meaning(sql), sql))
}

/// `table "users" on "users": CREATE TABLE …` taken apart.
fn head(text: &str) -> Option<(&str, &str, Option<&str>)> {
    let (kind, rest) = text.split_once(' ')?;
    if !matches!(kind, "table" | "index" | "view" | "trigger") {
        return None;
    }
    let end = quoted(rest, '"', '"')?;
    let (name, rest) = rest.split_at(end);
    let rest = rest.strip_prefix(" on ")?;
    let (_, rest) = rest.split_at(quoted(rest, '"', '"')?);
    Some((kind, name, rest.strip_prefix(": ")))
}

/// A word, a name, a literal or a sign.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Token {
    /// Words and names in lower case and without quotes, literals as they are.
    text: String,
    /// A name in quotes is never a keyword.
    is_quoted: bool,
}

impl Token {
    fn is(&self, word: &str) -> bool {
        !self.is_quoted && self.text == word
    }
}

/// The definition in one form for all that mean the same.
fn meaning(sql: &str) -> String {
    let mut tokens = tokens(sql);
    // `CREATE [TEMP] TABLE IF NOT EXISTS name`
    if let Some(at) = tokens.iter().take(5).position(|token| token.is("if")) {
        tokens.drain(at..(at + 3).min(tokens.len()));
    }
    let is_table = tokens.first().is_some_and(|token| token.is("create"))
        && tokens.get(1).is_some_and(|token| token.is("table"));
    if is_table && let Some(table) = Table::of(&tokens) {
        return table.meaning();
    }
    words(&tokens)
}

fn words(tokens: &[Token]) -> String {
    // What would read differently without its quotes keeps them.
    let word = |token: &Token| match token.is_quoted && !is_plain(&token.text) {
        true => format!("\"{}\"", token.text.replace('"', "\"\"")),
        false => token.text.clone(),
    };
    tokens.iter().map(word).collect::<Vec<_>>().join(" ")
}

fn is_plain(name: &str) -> bool {
    name.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '$')
}

fn tokens(sql: &str) -> Vec<Token> {
    let mut list: Vec<Token> = Vec::new();
    let mut rest = sql;
    while let Some(first) = rest.chars().next() {
        let after_default = list.last().is_some_and(|token| token.is("default"));
        let word = |c: char| c.is_alphanumeric() || c == '_' || c == '$' || !c.is_ascii();
        let length = match first {
            c if c.is_whitespace() => {
                rest = rest.trim_start();
                continue;
            }
            '-' if rest.starts_with("--") => {
                rest = rest.split_once('\n').map_or("", |(_, rest)| rest);
                continue;
            }
            '/' if rest.starts_with("/*") => {
                rest = rest.split_once("*/").map_or("", |(_, rest)| rest);
                continue;
            }
            '\'' => quoted(rest, '\'', '\''),
            '"' => quoted(rest, '"', '"'),
            '`' => quoted(rest, '`', '`'),
            '[' => rest.find(']').map(|at| at + 1),
            c if word(c) => Some(rest.find(|c| !word(c)).unwrap_or(rest.len())),
            c => Some(c.len_utf8()),
        };
        let (text, behind) = rest.split_at(length.unwrap_or(rest.len()));
        rest = behind;
        list.push(match first {
            // Where no column can stand SQLite takes it for a string.
            '"' if after_default => Token { text: text.to_owned(), is_quoted: false },
            '"' | '`' => {
                let inner = text.strip_prefix(first).and_then(|inner| inner.strip_suffix(first)).unwrap_or_default();
                let double = format!("{first}{first}");
                Token { text: inner.replace(&double, &first.to_string()).to_lowercase(), is_quoted: true }
            }
            '[' => Token { text: text.trim_matches(['[', ']']).to_lowercase(), is_quoted: true },
            '\'' => Token { text: text.to_owned(), is_quoted: false },
            _ => Token { text: text.to_lowercase(), is_quoted: false },
        });
    }
    list
}

/// Length of a stretch in quotes at the beginning; a doubled closing quote stays inside.
fn quoted(text: &str, open: char, close: char) -> Option<usize> {
    let mut chars = text.char_indices().peekable();
    chars.next().filter(|(_, c)| *c == open)?;
    while let Some((at, c)) = chars.next() {
        if c == close {
            if chars.peek().is_some_and(|(_, next)| *next == close) {
                chars.next();
            } else {
                return Some(at + close.len_utf8());
            }
        }
    }
    None
}

/// A table's definition.
struct Table {
    name: Vec<Token>,
    columns: Vec<Vec<Token>>,
    constraints: Vec<Vec<Token>>,
    /// What stands behind the brackets: `without rowid`, `strict`.
    options: Vec<Vec<Token>>,
}

/// Words that begin a constraint of the table; a column of such a name is in quotes.
const CONSTRAINTS: [&str; 5] = ["constraint", "primary", "unique", "check", "foreign"];

/// Words that end a column's type.
const AFTER_TYPE: [&str; 11] = [
    "constraint",
    "primary",
    "not",
    "null",
    "unique",
    "check",
    "default",
    "collate",
    "references",
    "generated",
    "as",
];

impl Table {
    fn of(tokens: &[Token]) -> Option<Self> {
        let open = tokens.iter().position(|token| token.is("("))?;
        let mut depth = 0;
        let close = tokens.iter().enumerate().skip(open).find(|(_, token)| {
            depth += i32::from(token.is("(")) - i32::from(token.is(")"));
            depth == 0
        });
        let (close, _) = close?;
        let definitions = split(&tokens[open + 1..close]);
        let is_constraint = |definition: &Vec<Token>| {
            definition.first().is_some_and(|first| CONSTRAINTS.iter().any(|word| first.is(word)))
        };
        let (constraints, columns) = definitions.into_iter().partition(is_constraint);
        let options = split(&tokens[close + 1..]);
        let mut table = Table { name: tokens[..open].to_vec(), columns, constraints, options };
        table.join_key();
        Some(table)
    }

    /// Puts a key that is the row's number to its column. Such a column is never NULL, said or not.
    fn join_key(&mut self) {
        let key = self.constraints.iter().position(|constraint| {
            let words: Vec<&str> = constraint.iter().map(|token| token.text.as_str()).collect();
            matches!(words[..], ["primary", "key", "(", _, ")"])
        });
        if let Some(at) = key {
            let name = self.constraints[at][3].text.clone();
            let column = self.columns.iter_mut().find(|column| column.first().is_some_and(|first| first.text == name));
            if let Some(column) = column.filter(|column| is_integer(column)) {
                let word = |text: &str| Token { text: text.to_owned(), is_quoted: false };
                column.extend([word("primary"), word("key")]);
                self.constraints.remove(at);
            }
        }
        for column in self.columns.iter_mut().filter(|column| is_integer(column)) {
            if column.windows(2).any(|pair| pair[0].is("primary") && pair[1].is("key"))
                && let Some(at) = column.windows(2).position(|pair| pair[0].is("not") && pair[1].is("null"))
            {
                column.drain(at..at + 2);
            }
        }
    }

    fn meaning(&self) -> String {
        let list = |parts: &[Vec<Token>]| parts.iter().map(|part| words(part)).collect::<Vec<_>>();
        let (mut constraints, mut options) = (list(&self.constraints), list(&self.options));
        constraints.sort();
        options.sort();
        let (columns, constraints, options) = (list(&self.columns).join(" , "), constraints.join(" , "), options.join(" , "));
        format!("{} ( {columns} ; {constraints} ) {options}", words(&self.name))
    }
}

/// Whether a column's type is exactly INTEGER, which makes a key of it the row's number.
fn is_integer(column: &[Token]) -> bool {
    let kind = column.iter().skip(1).take_while(|token| !AFTER_TYPE.iter().any(|word| token.is(word)));
    kind.map(|token| token.text.as_str()).eq(["integer"])
}

/// Cut at the commas that stand in no brackets.
fn split(tokens: &[Token]) -> Vec<Vec<Token>> {
    let mut parts = vec![Vec::new()];
    let mut depth = 0;
    for token in tokens {
        depth += i32::from(token.is("(")) - i32::from(token.is(")"));
        match parts.last_mut() {
            Some(part) if depth > 0 || !token.is(",") => part.push(token.clone()),
            _ => parts.push(Vec::new()),
        }
    }
    parts.retain(|part| !part.is_empty());
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_typed_differently_and_means_the_same_is_equal() {
        for (one, other) in [
            ("CREATE TABLE users (id INTEGER)", "create table IF NOT EXISTS \"users\"(\n\t\"id\" integer\n)"),
            ("CREATE TABLE users (id INTEGER, [a b] TEXT)", "CREATE TABLE `users` (`id` INTEGER, \"a b\" TEXT)"),
            ("CREATE TABLE t (a -- the first\n, b /* and, (more */)", "CREATE TABLE t (a, b)"),
            (
                "CREATE TABLE t (id INTEGER PRIMARY KEY, n VARCHAR (50))",
                "CREATE TABLE \"t\" (\n\tid INTEGER NOT NULL, \n\tn VARCHAR(50), \n\tPRIMARY KEY (id)\n)",
            ),
            (
                "CREATE TABLE t (a, b, UNIQUE (a), CHECK (b > 0))",
                "CREATE TABLE t (a, b, CHECK (\"b\" > 0), UNIQUE (\"a\"))",
            ),
            ("CREATE TABLE t (a INT) WITHOUT ROWID, STRICT", "CREATE TABLE t (a INT) STRICT, without rowid"),
            ("CREATE TABLE t (key TEXT, UNIQUE (key))", "CREATE TABLE t (\"key\" TEXT, UNIQUE (\"key\"))"),
            ("CREATE INDEX i ON t (a) WHERE b > 0", "CREATE INDEX IF NOT EXISTS \"i\" on \"t\"(\"a\") where b>0"),
            ("CREATE VIEW v AS SELECT a FROM t", "CREATE VIEW v AS\n  SELECT \"a\"\n  FROM t"),
            ("CREATE VIRTUAL TABLE f USING fts5(a, b)", "CREATE VIRTUAL TABLE \"f\" USING fts5 (a,b)"),
        ] {
            assert_eq!(meaning(one), meaning(other), "{one}\n{other}");
        }
    }

    #[test]
    fn what_means_another_thing_differs() {
        let base = "CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT DEFAULT 'x', CHECK (a <> 'y'))";
        for other in [
            "CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT DEFAULT 'X', CHECK (a <> 'y'))",
            "CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT DEFAULT \"x\", CHECK (a <> 'y'))",
            "CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT NOT NULL DEFAULT 'x', CHECK (a <> 'y'))",
            "CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, a TEXT DEFAULT 'x', CHECK (a <> 'y'))",
            "CREATE TABLE t (id INT PRIMARY KEY, a TEXT DEFAULT 'x', CHECK (a <> 'y'))",
            "CREATE TABLE t (a TEXT DEFAULT 'x', id INTEGER PRIMARY KEY, CHECK (a <> 'y'))",
            "CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT DEFAULT 'x', CHECK (a <> 'Y'))",
            "CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT DEFAULT 'x', CHECK (a <> 'y')) STRICT",
            "CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT DEFAULT 'x')",
            "CREATE TABLE t (id INTEGER PRIMARY KEY, \"a b\" TEXT DEFAULT 'x', CHECK (a <> 'y'))",
        ] {
            assert_ne!(meaning(base), meaning(other), "{other}");
        }
        // A key of another type is no row number, and may be NULL.
        let key = "CREATE TABLE t (id TEXT PRIMARY KEY)";
        assert_ne!(meaning(key), meaning("CREATE TABLE t (id TEXT NOT NULL, PRIMARY KEY (id))"));
        assert_ne!(meaning("CREATE TABLE t (\"a b\")"), meaning("CREATE TABLE t (a b)"));
        // What cannot be read is compared as it is, and is no reason to fail.
        for odd in ["", "CREATE TABLE", "CREATE TABLE t (", "CREATE TABLE t (a 'x", "CREATE TABLE \"t", "é("] {
            assert_eq!(meaning(odd), meaning(odd));
        }
    }

    #[test]
    fn objects_are_known_by_their_names_and_sqlites_own_are_left_out() {
        let object = |text: &str| read(text).map(|statement| statement.object);
        assert_eq!(object("table \"a \"\"b\" on \"a \"\"b\": CREATE TABLE x (y)").as_deref(), Some("table \"a \"\"b\""));
        assert_eq!(object("table \"Users\" on \"Users\": CREATE TABLE Users (y)").as_deref(), Some("table \"users\""));
        assert_eq!(object("user_version: 3").as_deref(), Some("PRAGMA user_version"));
        assert_eq!(object("index \"sqlite_autoindex_t_1\" on \"t\""), None);
        assert_eq!(object("table \"sqlite_sequence\" on \"sqlite_sequence\": CREATE TABLE sqlite_sequence(name,seq)"), None);
    }
}
