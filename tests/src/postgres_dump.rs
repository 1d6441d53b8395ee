//! `pg_dump` as an oracle: is one database what another one is?
//!
//! The text of two dumps may differ where the databases do not: in the lines that name versions and random keys, in
//! the order of rows, in the order of columns of an inheritance child (a restore lists inherited columns first), and
//! in the order of entries, which may follow object numbers. Exactly this is taken out, nothing else.

use crate::postgres::client;
use crate::tools;
use std::collections::BTreeMap;

/// The text of `pg_dump` at `url` without the lines that change from run to run.
///
/// Panics when the dump fails, is cut short, or creates nothing: nothing must ever be compared with nothing.
#[track_caller]
pub fn pg_dump_text(url: &str) -> String {
    dump(url, &[])
}

/// Like [`pg_dump_text`], and the database's own settings, comment and grants, with its name written `THIS_DATABASE`.
#[track_caller]
pub fn pg_dump_with_settings(url: &str) -> String {
    let text = dump(url, &["--create"]);
    let name = text.lines().find_map(|line| line.strip_prefix("CREATE DATABASE ")?.split(" WITH ").next());
    let name = name.unwrap_or_else(|| panic!("no CREATE DATABASE in the dump of {url}"));
    let bare = name.trim_matches('"').replace("\"\"", "\"");
    let mut lines = Vec::new();
    for line in text.lines() {
        let header = line.starts_with("-- Name: DATABASE ") || line.starts_with(&format!("-- Name: {bare}; Type: "));
        if header {
            lines.push(line.replacen(&bare, "THIS_DATABASE", 1));
        } else if line.contains(&format!("DATABASE {name}")) || line.starts_with("\\connect ") {
            lines.push(line.replacen(name, "THIS_DATABASE", 1));
        } else {
            lines.push(line.to_owned());
        }
    }
    lines.join("\n") + "\n"
}

#[track_caller]
fn dump(url: &str, options: &[&str]) -> String {
    let bytes = tools::run(client("pg_dump").args(options).args(["-d", url]), b"").expect("pg_dump");
    let text = text_of(&bytes);
    if let Err(error) = check_pg_dump(&text) {
        panic!("pg_dump of {url}: {error}");
    }
    without_varying_lines(&text)
}

/// The bytes as text, with a character of its own for every byte that is not UTF-8: no two of them look alike.
fn text_of(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().filter_map(|byte| char::from_u32(0x0010_ff00 + u32::from(*byte))));
    }
    text
}

/// Takes out the lines that name versions, and the random key against hostile dumps.
fn without_varying_lines(text: &str) -> String {
    let key = text.lines().take(10).find_map(|line| line.strip_prefix("\\restrict "));
    let key_lines = key.map(|key| [format!("\\restrict {key}"), format!("\\unrestrict {key}")]);
    let kept = text.lines().enumerate().filter(|(at, line)| {
        // At the head only: further down a row of a table might begin with the same words.
        let names_version = *at < 12 && line.starts_with("-- Dumped ");
        !names_version && !key_lines.iter().flatten().any(|key_line| key_line == line)
    });
    kept.flat_map(|(_, line)| [line, "\n"]).collect()
}

/// Whether a text is a whole dump that creates something.
pub fn check_pg_dump(text: &str) -> Result<(), String> {
    if text.trim().is_empty() {
        return Err("the dump is empty".into());
    }
    let tail = text.len().saturating_sub(500);
    if !String::from_utf8_lossy(&text.as_bytes()[tail..]).contains("-- PostgreSQL database dump complete") {
        return Err("the dump is cut short".into());
    }
    let holds = |line: &str| {
        line.starts_with("SELECT pg_catalog.lo_create(")
            || line.starts_with("CREATE ") && !line.starts_with("CREATE DATABASE ")
    };
    if !text.lines().any(holds) {
        return Err("the dump creates nothing".into());
    }
    Ok(())
}

/// What differs between two dumps, one line for each difference; empty where the databases are equal.
///
/// Panics when one of the texts is not a whole dump that creates something.
#[track_caller]
pub fn dump_differences(left: &str, right: &str) -> Vec<String> {
    for text in [left, right] {
        if let Err(error) = check_pg_dump(text) {
            panic!("refused to compare: {error}");
        }
    }
    let (left, right) = (Parsed::read(left), Parsed::read(right));
    let mut found = differences("", &left.entries, &right.entries);
    found.extend(differences("data of ", &left.data, &right.data));
    found
}

/// A dump as sets: statements by entry, rows by table.
#[derive(Debug, Default)]
struct Parsed {
    entries: BTreeMap<String, Vec<String>>,
    data: BTreeMap<String, Vec<String>>,
}

impl Parsed {
    #[track_caller]
    fn read(text: &str) -> Self {
        let mut parsed = Self::default();
        let lines: Vec<&str> = text.split('\n').collect();
        let mut header = String::from("(head)");
        let mut body = Vec::new();
        let mut at = 0;
        while at < lines.len() {
            if let Some(next) = entry_header(&lines, at) {
                parsed.keep(std::mem::replace(&mut header, next.to_owned()), &body);
                body.clear();
                at += 3;
            } else if header.starts_with("Data for ") && lines[at].ends_with(" FROM stdin;") {
                body.push(lines[at]);
                at = parsed.rows(&std::mem::take(&mut body), &lines, at + 1);
            } else {
                body.push(lines[at]);
                at += 1;
            }
        }
        parsed.keep(header, &body);
        parsed
    }

    fn keep(&mut self, header: String, body: &[&str]) {
        let mut text = body.join("\n").trim().to_owned();
        if text.contains("\n)\nINHERITS (") {
            text = with_sorted_columns(&text);
        }
        // Data entries of empty tables and of sequences stay here with their statements.
        let bodies = self.entries.entry(header).or_default();
        bodies.push(text);
        bodies.sort();
    }

    /// Takes the rows of one COPY block, and returns the line behind it.
    #[track_caller]
    fn rows(&mut self, head: &[&str], lines: &[&str], from: usize) -> usize {
        let head = head.join("\n");
        let head = &head[head.find("COPY ").unwrap_or(0)..];
        let (table, columns) = copy_target(head);
        let mut order: Vec<usize> = (0..columns.len()).collect();
        order.sort_by(|a, b| columns[*a].cmp(&columns[*b]));
        let names: Vec<&str> = order.iter().map(|at| columns[*at].as_str()).collect();
        let rows = self.data.entry(format!("{table} ({})", names.join(", "))).or_default();
        for (offset, line) in lines[from..].iter().enumerate() {
            if *line == "\\." {
                rows.sort();
                return from + offset + 1;
            }
            let fields: Vec<&str> = line.split('\t').collect();
            if columns.is_empty() {
                rows.push((*line).to_owned());
            } else {
                assert_eq!(fields.len(), columns.len(), "a row of {table} has another number of columns: {line}");
                rows.push(order.iter().map(|at| fields[*at]).collect::<Vec<_>>().join("\t"));
            }
        }
        panic!("the rows of {table} have no end");
    }
}

/// The header of an entry, `Name: …; Type: …`, where one begins.
fn entry_header<'a>(lines: &[&'a str], at: usize) -> Option<&'a str> {
    let [first, header, last] = lines.get(at..at + 3)? else { return None };
    let named = header.starts_with("-- Name: ") || header.starts_with("-- Data for Name: ");
    (*first == "--" && *last == "--" && named && header.contains("; Type: ")).then(|| &header[3..])
}

/// Sorts the column lines of a `CREATE TABLE … INHERITS`.
fn with_sorted_columns(text: &str) -> String {
    let Some((before, after)) = text.split_once("\n)\nINHERITS (") else { return text.to_owned() };
    let Some((head, columns)) = before.split_once(" (\n") else { return text.to_owned() };
    let mut columns: Vec<&str> = columns.split('\n').map(|line| line.trim_end_matches(',')).collect();
    columns.sort_unstable();
    format!("{head} (\n{}\n)\nINHERITS ({after}", columns.join("\n"))
}

/// Table and columns of `COPY table (column, …) FROM stdin;`.
fn copy_target(head: &str) -> (String, Vec<String>) {
    let body = head.trim_start_matches("COPY ").trim_end_matches(" FROM stdin;");
    let mut in_quotes = false;
    for (at, letter) in body.char_indices() {
        match letter {
            '"' => in_quotes = !in_quotes,
            '(' if !in_quotes => {
                let list = body[at + 1..].trim_end().trim_end_matches(')');
                return (body[..at].trim().to_owned(), split_names(list));
            }
            _ => {}
        }
    }
    (body.trim().to_owned(), Vec::new())
}

fn split_names(list: &str) -> Vec<String> {
    let mut names = vec![String::new()];
    let mut in_quotes = false;
    for letter in list.chars() {
        match letter {
            ',' if !in_quotes => names.push(String::new()),
            _ => {
                in_quotes ^= letter == '"';
                names.last_mut().unwrap().push(letter);
            }
        }
    }
    names.iter().map(|name| name.trim_start().to_owned()).filter(|name| !name.is_empty()).collect()
}

fn differences(what: &str, left: &BTreeMap<String, Vec<String>>, right: &BTreeMap<String, Vec<String>>) -> Vec<String> {
    let mut found = Vec::new();
    let nothing = Vec::new();
    let keys: std::collections::BTreeSet<&String> = left.keys().chain(right.keys()).collect();
    for key in keys {
        let (a, b) = (left.get(key).unwrap_or(&nothing), right.get(key).unwrap_or(&nothing));
        if a == b {
            continue;
        }
        let (only_a, only_b) = only_in_one(a, b);
        let side = |lines: &[&String], mark: &str| {
            lines.iter().take(2).map(|line| format!(" {mark}{}", shortened(line))).collect::<String>()
        };
        let (gone, new) = (side(&only_a, "-"), side(&only_b, "+"));
        found.push(format!("{what}{key}: {} left only, {} right only:{gone}{new}", only_a.len(), only_b.len()));
    }
    found
}

/// The lines of two sorted lists that stand in only one of them, counting repetitions.
fn only_in_one<'a>(a: &'a [String], b: &'a [String]) -> (Vec<&'a String>, Vec<&'a String>) {
    let (mut only_a, mut only_b) = (Vec::new(), Vec::new());
    let (mut i, mut j) = (0, 0);
    while i < a.len() || j < b.len() {
        match (a.get(i), b.get(j)) {
            (Some(x), Some(y)) if x == y => (i, j) = (i + 1, j + 1),
            (Some(x), y) if y.is_none_or(|y| x < y) => {
                only_a.push(x);
                i += 1;
            }
            (_, Some(y)) => {
                only_b.push(y);
                j += 1;
            }
            _ => break,
        }
    }
    (only_a, only_b)
}

fn shortened(line: &str) -> String {
    let mut short: String = line.chars().take(300).collect();
    if short.len() < line.len() {
        short.push('…');
    }
    short.replace('\n', "⏎")
}
