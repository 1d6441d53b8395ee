//! SQL text as a set of statements: splitting, and the normalisation behind "equal schema".

/// A stretch of SQL text that means one thing to the lexer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Piece {
    /// White space or a comment.
    Blank,
    /// A keyword or unquoted name.
    Word,
    /// Anything in quotes (single, double, dollar) or a number: never looked into.
    Opaque,
    /// A single other character.
    Sign(u8),
}

/// Cuts SQL text into pieces as the server's own lexer would, as far as quoting and comments go.
struct Lexer<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Iterator for Lexer<'a> {
    type Item = (Piece, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        let bytes = self.text.as_bytes();
        let start = self.at;
        let first = *bytes.get(start)?;
        let rest = &self.text[start..];
        let word = |c: u8| c.is_ascii_alphanumeric() || c == b'_' || c == b'$' || c >= 0x80;
        let (piece, length) = match first {
            b'-' if rest.starts_with("--") => (Piece::Blank, rest.find('\n').map_or(rest.len(), |end| end + 1)),
            b'/' if rest.starts_with("/*") => (Piece::Blank, block_comment(rest.as_bytes())),
            c if c.is_ascii_whitespace() => (Piece::Blank, run(rest, |c| c.is_ascii_whitespace())),
            b'\'' => (Piece::Opaque, quoted(rest.as_bytes(), b'\'', false)),
            b'"' => (Piece::Opaque, quoted(rest.as_bytes(), b'"', false)),
            b'e' | b'E' if bytes.get(start + 1) == Some(&b'\'') => {
                (Piece::Opaque, 1 + quoted(&rest.as_bytes()[1..], b'\'', true))
            }
            b'$' => dollar(rest).map_or((Piece::Sign(b'$'), 1), |length| (Piece::Opaque, length)),
            c if c.is_ascii_digit() => (Piece::Opaque, run(rest, word)),
            c if word(c) => (Piece::Word, run(rest, word)),
            c => (Piece::Sign(c), 1),
        };
        self.at = start + length;
        Some((piece, &self.text[start..self.at]))
    }
}

fn run(text: &str, inside: impl Fn(u8) -> bool) -> usize {
    text.bytes().position(|c| !inside(c)).unwrap_or(text.len())
}

/// Length of a quoted stretch that begins at 0; a doubled quote stays inside, as does one after a backslash if `escapes`.
fn quoted(bytes: &[u8], quote: u8, escapes: bool) -> usize {
    let mut at = 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' if escapes => at += 2,
            c if c == quote && bytes.get(at + 1) == Some(&quote) => at += 2,
            c if c == quote => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// Length of a block comment that begins at 0; they nest.
fn block_comment(bytes: &[u8]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < bytes.len() {
        match &bytes[at..bytes.len().min(at + 2)] {
            b"/*" => (depth, at) = (depth + 1, at + 2),
            b"*/" => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    bytes.len()
}

/// Length of a dollar-quoted stretch that begins at 0, or `None` where the dollar begins none.
fn dollar(text: &str) -> Option<usize> {
    let tag_end = 1 + text[1..].find('$')?;
    let tag = &text[..=tag_end];
    let fits = tag[1..tag_end]
        .bytes()
        .enumerate()
        .all(|(at, c)| c.is_ascii_alphabetic() || c == b'_' || c >= 0x80 || (at > 0 && c.is_ascii_digit()));
    if !fits {
        return None;
    }
    Some(text[tag.len()..].find(tag).map_or(text.len(), |end| end + 2 * tag.len()))
}

/// Follows a statement well enough to know whether a semicolon ends it: parentheses, and `BEGIN ATOMIC … END` bodies.
#[derive(Default)]
struct Depth {
    parens: i32,
    /// First words of the statement: only CREATE [OR REPLACE] FUNCTION and PROCEDURE may hold a body.
    words: Vec<String>,
    blocks: i32,
}

impl Depth {
    fn feed(&mut self, piece: Piece, text: &str) {
        match piece {
            Piece::Sign(b'(') => self.parens += 1,
            Piece::Sign(b')') => self.parens -= 1,
            Piece::Word => {
                let word = text.to_ascii_lowercase();
                if self.parens == 0 && self.makes_routine() {
                    match word.as_str() {
                        "begin" => self.blocks += 1,
                        "case" if self.blocks > 0 => self.blocks += 1,
                        "end" if self.blocks > 0 => self.blocks -= 1,
                        _ => {}
                    }
                }
                if self.words.len() < 4 {
                    self.words.push(word);
                }
            }
            _ => {}
        }
    }

    fn makes_routine(&self) -> bool {
        let words: Vec<&str> = self.words.iter().map(String::as_str).collect();
        matches!(
            words.as_slice(),
            ["create", "function" | "procedure", ..] | ["create", "or", "replace", "function" | "procedure"]
        )
    }

    fn ended(&self) -> bool {
        self.parens <= 0 && self.blocks == 0
    }
}

/// Splits a script into statements: without the semicolon, without what stands before and behind, otherwise verbatim.
/// Lines with a backslash command between statements are dropped.
pub(crate) fn statements(script: &str) -> Vec<&str> {
    let mut list = Vec::new();
    let mut lexer = Lexer { text: script, at: 0 };
    let mut begin = None;
    let mut depth = Depth::default();
    while let Some((piece, text)) = lexer.next() {
        let at = lexer.at - text.len();
        match (begin, piece) {
            (None, Piece::Blank | Piece::Sign(b';')) => continue,
            (None, Piece::Sign(b'\\')) => {
                lexer.at = script[at..].find('\n').map_or(script.len(), |end| at + end + 1);
                continue;
            }
            (Some(start), Piece::Sign(b';')) if depth.ended() => {
                list.push(script[start..at].trim_end());
                (begin, depth) = (None, Depth::default());
                continue;
            }
            (None, _) => begin = Some(at),
            (Some(_), _) => {}
        }
        depth.feed(piece, text);
    }
    list.extend(begin.map(|start| script[start..].trim_end()));
    list
}

/// The statements of a schema script as they are compared: settings dropped, column order of inheritance children
/// made immaterial, sorted.
pub(crate) fn normalised(script: &str) -> Vec<String> {
    let mut list: Vec<String> =
        statements(script).into_iter().filter(|text| !is_setting(text)).map(without_column_order).collect();
    one_spelling(&mut list);
    list
}

/// Makes alike, and sorts, what the server writes in two ways: a list of values inside a query is `(VALUES` in the text of
/// a view that a person wrote, and `( VALUES` once the server has read its own text.
pub(crate) fn one_spelling(list: &mut [String]) {
    for statement in list.iter_mut().filter(|statement| statement.contains("( VALUES")) {
        *statement = statement.replace("( VALUES", "(VALUES");
    }
    list.sort();
}

/// A script without backslash commands, which are `pg_dump`'s guard for psql versions that know it.
pub(crate) fn without_commands(script: &str) -> String {
    let mut clean = String::with_capacity(script.len());
    let mut lexer = Lexer { text: script, at: 0 };
    let mut line_start = true;
    while let Some((piece, text)) = lexer.next() {
        if line_start && piece == Piece::Sign(b'\\') {
            let at = lexer.at - 1;
            lexer.at = script[at..].find('\n').map_or(script.len(), |end| at + end + 1);
            continue;
        }
        clean.push_str(text);
        line_start = text.ends_with('\n') && piece == Piece::Blank;
    }
    clean
}

fn is_setting(statement: &str) -> bool {
    statement.starts_with("SET ") || statement.starts_with("SELECT pg_catalog.set_config(")
}

/// `pg_dump` writes a child's own columns in the child's order, which a restore changes (inherited ones come first).
fn without_column_order(statement: &str) -> String {
    let creates_table = ["CREATE TABLE ", "CREATE UNLOGGED TABLE ", "CREATE FOREIGN TABLE "];
    if !creates_table.iter().any(|prefix| statement.starts_with(prefix)) {
        return statement.to_owned();
    }
    let (mut depth, mut cuts, mut inherits) = (0, Vec::new(), false);
    let mut lexer = Lexer { text: statement, at: 0 };
    while let Some((piece, text)) = lexer.next() {
        match piece {
            Piece::Sign(b'(') => {
                depth += 1;
                if cuts.is_empty() {
                    cuts.push(lexer.at);
                }
            }
            Piece::Sign(b')') => depth -= 1,
            Piece::Word => inherits |= depth == 0 && text == "INHERITS",
            _ => {}
        }
        let closes = piece == Piece::Sign(b')') && depth == 0 && !cuts.is_empty() && !inherits;
        if closes || (piece == Piece::Sign(b',') && depth == 1 && !inherits) {
            cuts.push(lexer.at);
        }
    }
    let (Some(&first), Some(&last)) = (cuts.first(), cuts.last()) else { return statement.to_owned() };
    if !inherits {
        return statement.to_owned();
    }
    let mut columns: Vec<&str> = cuts.windows(2).map(|pair| statement[pair[0]..pair[1] - 1].trim()).collect();
    columns.sort_unstable();
    format!("{}{}){}", &statement[..first], columns.join(", "), &statement[last..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_end_only_at_their_own_semicolon() {
        let script = r#"
--
-- Name: a; Type: TABLE
--
\restrict abc
CREATE TABLE a ("x;y" text DEFAULT ';''', z text DEFAULT E'\';');
/* a /* nested; */ comment; */
CREATE FUNCTION f() RETURNS int LANGUAGE plpgsql AS $_$ begin; $$ ; $$ end; $_$;
CREATE FUNCTION g() RETURNS int BEGIN ATOMIC SELECT CASE WHEN true THEN 1 END; SELECT 2; END;
CREATE RULE r AS ON INSERT TO a DO (DELETE FROM b; DELETE FROM c);
SELECT $1;
\unrestrict abc
SELECT 'the end'"#;
        let list = statements(script);
        assert_eq!(list.len(), 6, "{list:#?}");
        assert!(list[0].ends_with("E'\\';')") && list[1].ends_with("end; $_$") && list[2].ends_with("END"));
        assert_eq!((list[4], list[5]), ("SELECT $1", "SELECT 'the end'"));
    }

    #[test]
    fn the_column_order_of_a_child_does_not_matter_but_its_columns_do() {
        let one = "CREATE TABLE public.c (\n    a integer,\n    b numeric(4,2) DEFAULT f(1, 2)\n)\nINHERITS (public.p, public.q);";
        let two = "CREATE TABLE public.c (\n    b numeric(4,2) DEFAULT f(1, 2),\n    a integer\n)\nINHERITS (public.p, public.q);";
        let three = "CREATE TABLE public.c (\n    b numeric(4,2) DEFAULT f(1, 2),\n    a bigint\n)\nINHERITS (public.p, public.q);";
        assert_eq!(normalised(one), normalised(two));
        assert_ne!(normalised(one), normalised(three));
        let plain = |columns: &str| normalised(&format!("CREATE TABLE t ({columns});"));
        assert_ne!(plain("a int, b int"), plain("b int, a int"));
        assert_ne!(normalised(one), normalised(&one.replace("public.p, public.q", "public.q, public.p")));
    }

    #[test]
    fn settings_and_guards_are_not_part_of_a_schema() {
        let script = "\\restrict x\nSET statement_timeout = 0;\nSELECT pg_catalog.set_config('search_path', '', false);\n\
                      CREATE SCHEMA b;\nCREATE SCHEMA a;\n\\unrestrict x\n";
        assert_eq!(normalised(script), ["CREATE SCHEMA a", "CREATE SCHEMA b"]);
        let clean = without_commands("\\restrict x\nCREATE FUNCTION f() AS $$\n\\not a command\n$$;\n\\unrestrict x\n");
        assert_eq!(clean, "CREATE FUNCTION f() AS $$\n\\not a command\n$$;\n");
    }
}
