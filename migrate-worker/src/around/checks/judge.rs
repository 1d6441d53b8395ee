//! Whether an answer is as expected: decided without asking anybody.

use super::{Answer, Expect, Verdict};
use std::cmp::Ordering;

/// Judges an answer by itself. The text says what was found.
pub(super) fn alone(expect: &Expect, answer: &Answer) -> Result<String, String> {
    match expect {
        Expect::Zero { .. } if answer.rows == 0 => Ok("no row".into()),
        Expect::Zero { .. } => Err(format!("{} where none may be: {}", rows(answer), samples(answer))),
        Expect::Value { value, .. } => match answer.value() {
            Some(found) if found == value => Ok(found.to_owned()),
            Some(found) => Err(format!("{found:?} instead of {value:?}")),
            None => Err(format!("no single value but {}", rows(answer))),
        },
        // Only what does not match was kept.
        Expect::Pattern { .. } if answer.rows == 0 => Ok("every value matches".into()),
        Expect::Pattern { pattern, .. } => {
            Err(format!("{} do not match {}: {}", rows(answer), pattern.as_str(), samples(answer)))
        }
        Expect::Unchanged | Expect::Conservation { .. } | Expect::Distribution => Ok(rows(answer)),
    }
}

/// Judges the answer after the tool, with the one before it where that counts.
pub(super) fn verdict(name: &str, expect: &Expect, before: Option<&Answer>, after: Answer) -> Verdict {
    let said = match (expect, before) {
        (Expect::Unchanged, Some(before)) => unchanged(before, &after),
        (Expect::Conservation { .. }, Some(before)) => conserved(before, &after),
        (Expect::Distribution, _) => Ok(distribution(&after)),
        (Expect::Unchanged | Expect::Conservation { .. }, None) => Err("it was not asked before".into()),
        _ => alone(expect, &after),
    };
    let is_distribution = matches!(expect, Expect::Distribution);
    let (passed, said) = match said {
        Ok(said) => (true, said),
        Err(said) => (false, said),
    };
    Verdict {
        name: name.to_owned(),
        passed,
        said,
        before: before.filter(|_| is_distribution).map(|answer| answer.first.clone()),
        after: is_distribution.then_some(after.first),
    }
}

fn unchanged(before: &Answer, after: &Answer) -> Result<String, String> {
    if before.digest == after.digest && before.rows == after.rows {
        return Ok(after.value().map_or_else(|| rows(after), str::to_owned));
    }
    match (before.value(), after.value()) {
        (Some(before), Some(after)) => Err(format!("{before} before, {after} after")),
        _ if before.rows == after.rows => Err(format!("{} before and after, but not the same", rows(after))),
        _ => Err(format!("{} before, {} after", rows(before), rows(after))),
    }
}

fn conserved(before: &Answer, after: &Answer) -> Result<String, String> {
    let (Some(was), Some(is)) = (before.value(), after.value()) else {
        return Err("both queries must give one number".into());
    };
    match compared(is, was) {
        None => Err(format!("{was:?} and {is:?} are no numbers")),
        Some(Ordering::Less) => Err(format!("{was} before, only {is} after")),
        Some(_) => Ok(format!("{was} before, {is} after")),
    }
}

/// Compares numbers; whole ones exactly.
fn compared(a: &str, b: &str) -> Option<Ordering> {
    match (a.parse::<i128>(), b.parse::<i128>()) {
        (Ok(a), Ok(b)) => Some(a.cmp(&b)),
        _ => a.parse::<f64>().ok()?.partial_cmp(&b.parse::<f64>().ok()?),
    }
}

fn distribution(answer: &Answer) -> String {
    let shown: Vec<String> = answer.first.iter().map(|row| words(row)).collect();
    let rest = answer.rows - answer.first.len() as u64;
    let more = if rest == 0 { String::new() } else { format!("; {rest} more") };
    if shown.is_empty() { "no row".into() } else { format!("{}{more}", shown.join(", ")) }
}

/// `completed 9812`
fn words(row: &[Option<String>]) -> String {
    row.iter().map(|value| value.as_deref().unwrap_or("NULL")).collect::<Vec<_>>().join(" ")
}

fn samples(answer: &Answer) -> String {
    let shown: Vec<&str> =
        answer.first.iter().take(5).map(|row| row.first().and_then(Option::as_deref).unwrap_or("NULL")).collect();
    let more = if answer.rows > shown.len() as u64 { ", …" } else { "" };
    format!("{}{more}", shown.join(", "))
}

fn rows(answer: &Answer) -> String {
    match answer.rows {
        1 => "1 row".into(),
        rows => format!("{rows} rows"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use regex_lite::Regex;

    fn answer(rows: &[&[&str]]) -> Answer {
        let value = |value: &&str| (*value != "NULL").then(|| (*value).to_owned());
        Answer::of(rows.iter().map(|row| row.iter().map(value).collect()).collect())
    }

    #[test]
    fn answers_are_judged_as_an_operator_expects() {
        let of = || Expect::Conservation { of: String::new() };
        let value = || Expect::Value { value: "4812".into(), before: false };
        let pattern = || Expect::Pattern { pattern: Regex::new("^a").expect("valid"), before: false };
        let cases: [(Expect, Option<Answer>, Answer, bool, &str); 15] = [
            (Expect::Zero { before: false }, None, answer(&[]), true, "no row"),
            (
                Expect::Zero { before: false },
                None,
                answer(&[&["7"], &["NULL"]]),
                false,
                "2 rows where none may be: 7, NULL",
            ),
            (value(), None, answer(&[&["4812"]]), true, "4812"),
            (value(), None, answer(&[&["4811"]]), false, "\"4811\" instead of \"4812\""),
            (value(), None, answer(&[&["1"], &["2"]]), false, "no single value but 2 rows"),
            (pattern(), None, answer(&[]), true, "every value matches"),
            (pattern(), None, answer(&[&["b"]]), false, "1 row do not match ^a: b"),
            (Expect::Unchanged, Some(answer(&[&["a"], &["b"]])), answer(&[&["b"], &["a"]]), true, "2 rows"),
            (Expect::Unchanged, Some(answer(&[&["5"]])), answer(&[&["4"]]), false, "5 before, 4 after"),
            (
                Expect::Unchanged,
                Some(answer(&[&["a", "b"]])),
                answer(&[&["ab", ""]]),
                false,
                "1 row before and after, but not the same",
            ),
            (Expect::Unchanged, None, answer(&[]), false, "it was not asked before"),
            (of(), Some(answer(&[&["4812"]])), answer(&[&["4812"]]), true, "4812 before, 4812 after"),
            (of(), Some(answer(&[&["10"]])), answer(&[&["9"]]), false, "10 before, only 9 after"),
            (of(), Some(answer(&[&["9.5"]])), answer(&[&["10"]]), true, "9.5 before, 10 after"),
            (Expect::Distribution, None, answer(&[&["done", "3"], &["NULL", "1"]]), true, "done 3, NULL 1"),
        ];
        for (expect, before, after, passed, said) in cases {
            let verdict = verdict("check", &expect, before.as_ref(), after);
            assert_eq!((verdict.passed, verdict.said.as_str()), (passed, said), "{expect:?}");
        }
    }
}
