//! The decoders are fed the fuzzer's corpus and changes of it.

use std::panic::catch_unwind;
use std::path::Path;
use tests::decoders::message;
use tests::mutations::Draws;

fn corpus() -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/message");
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap()))
        .collect();
    files.sort();
    files
}

/// The same with a few bytes changed, left out, said twice, or taken from another one.
fn changed(seed: &[u8], other: &[u8], draws: &mut Draws) -> Vec<u8> {
    const WORDS: [&str; 12] = [
        "null",
        "\"\"",
        "{}",
        "[]",
        "-1",
        "1e999",
        "\\u0000",
        "\u{202e}",
        "\"id\":",
        "\"kind\":\"migrate\",",
        "true",
        "99999999999999999999",
    ];
    let mut text = seed.to_vec();
    for _ in 0..=draws.below(3) {
        let at = draws.below(text.len() + 1);
        let end = (at + draws.below(12)).min(text.len());
        match draws.below(6) {
            0 if at < text.len() => text[at] ^= 1 << draws.below(8),
            1 => drop(text.drain(at..end)),
            2 => text.truncate(at),
            3 => drop(text.splice(at..end, draws.pick(&WORDS).bytes())),
            4 => {
                let part = text[at..end].to_vec();
                drop(text.splice(at..at, part));
            }
            _ => {
                let from = draws.below(other.len() + 1);
                drop(text.splice(at..end, other[from..].iter().copied()));
            }
        }
    }
    text
}

#[test]
fn whatever_comes_in_is_understood_or_named_and_nothing_breaks() {
    let corpus = corpus();
    assert!(corpus.len() > 15, "the corpus is not there");
    for (name, data) in &corpus {
        assert!(catch_unwind(|| message(data)).is_ok(), "{name}");
    }
    let number = if tests::is_long() { 20_000_000 } else { 400_000 };
    let mut draws = Draws::from_environment();
    for _ in 0..number {
        let (_, seed) = draws.pick(&corpus).clone();
        let (_, other) = draws.pick(&corpus).clone();
        let data = changed(&seed, &other, &mut draws);
        assert!(catch_unwind(|| message(&data)).is_ok(), "{}", String::from_utf8_lossy(&data));
    }
}
