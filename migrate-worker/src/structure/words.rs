//! SQL as words, as far as comparing takes it.

/// Where `IF` stands at the latest: behind `index "i" on "t": CREATE UNIQUE INDEX`. Further on it is an expression's.
const LAST_IF: usize = 8;

/// The words of a statement: names without the quotes they do not need and in capitals, as SQLite compares them; texts as
/// they are; without comments, and without `IF NOT EXISTS`.
pub(super) fn words(sql: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut rest = sql;
    while let Some(c) = rest.chars().next() {
        let (word, length) = match c {
            c if c.is_whitespace() => (None, c.len_utf8()),
            '-' if rest.starts_with("--") => (None, rest.find('\n').unwrap_or(rest.len())),
            '/' if rest.starts_with("/*") => (None, rest.find("*/").map_or(rest.len(), |at| at + 2)),
            '\'' => {
                let length = quoted(rest, '\'');
                (Some(rest[..length].to_owned()), length)
            }
            '"' | '`' => {
                let length = quoted(rest, c);
                (Some(name(&rest[1..length.max(2) - 1], c)), length)
            }
            '[' => {
                let length = rest.find(']').map_or(rest.len(), |at| at + 1);
                (Some(name(rest[1..length].trim_end_matches(']'), ']')), length)
            }
            c if is_plain(c) => {
                let length = rest.find(|c| !is_plain(c)).unwrap_or(rest.len());
                (Some(rest[..length].to_uppercase()), length)
            }
            c => (Some(c.to_string()), c.len_utf8()),
        };
        words.extend(word);
        rest = &rest[length..];
    }
    let optional = ["IF", "NOT", "EXISTS"];
    if let Some(at) = words.windows(3).position(|three| three == optional)
        && at <= LAST_IF
    {
        words.drain(at..at + 3);
    }
    words
}

/// The parts of a statement's outermost parentheses, which stand between commas; all of it where there are none.
pub(super) fn parts(sql: &str) -> Vec<String> {
    let mut parts = Vec::new();
    let (mut depth, mut quote, mut begun) = (0_usize, None, 0);
    for (at, c) in sql.char_indices() {
        match (quote, c) {
            (Some(end), c) if c == end => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"' | '`') => quote = Some(c),
            (None, '(') => {
                depth += 1;
                if depth == 1 {
                    begun = at + 1;
                }
            }
            (None, ')') => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    parts.push(sql[begun..at].to_owned());
                    break;
                }
            }
            (None, ',') if depth == 1 && sql.to_uppercase().contains("CREATE TABLE") => {
                parts.push(sql[begun..at].to_owned());
                begun = at + 1;
            }
            _ => {}
        }
    }
    let parts: Vec<String> = parts.iter().map(|part| part.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    if parts.is_empty() { vec![sql.split_whitespace().collect::<Vec<_>>().join(" ")] } else { parts }
}

/// Bytes of a quoted text with its quotes; doubled quotes belong to it.
fn quoted(text: &str, quote: char) -> usize {
    let mut at = 1;
    while let Some(found) = text[at..].find(quote) {
        at += found + 1;
        if !text[at..].starts_with(quote) {
            return at;
        }
        at += 1;
    }
    text.len()
}

/// A quoted name as a word: one that needs no quotes is the same without.
fn name(text: &str, quote: char) -> String {
    let is_simple = !text.is_empty() && text.chars().all(is_plain) && !text.starts_with(|c: char| c.is_ascii_digit());
    if is_simple {
        text.to_uppercase()
    } else {
        format!("\"{}\"", text.replace(&format!("{quote}{quote}"), &quote.to_string()))
    }
}

fn is_plain(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '$'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_what_sqlite_reads() {
        let told = |sql: &str| words(sql).join("|");
        assert_eq!(told("Create Table\"a b\"(x)"), "CREATE|TABLE|\"a b\"|(|X|)");
        assert_eq!(told("DEFAULT 'a''b' -- no\n,[c]"), "DEFAULT|'a''b'|,|C");
        assert_eq!(told("x /* open"), "X");
        assert_eq!(told("'open"), "'open");
        assert_eq!(told("\""), "\"\"");
        assert_eq!(told("CHECK (a >= 1.5)"), "CHECK|(|A|>|=|1|.|5|)");
    }

    #[test]
    fn parts_are_columns_and_constraints() {
        assert_eq!(
            parts("CREATE TABLE t (a numeric(10,2), b text DEFAULT ',', CHECK (a > 0))"),
            ["a numeric(10,2)", "b text DEFAULT ','", "CHECK (a > 0)"]
        );
        assert_eq!(parts("CREATE VIEW v AS\n  SELECT 1"), ["CREATE VIEW v AS SELECT 1"]);
    }
}
