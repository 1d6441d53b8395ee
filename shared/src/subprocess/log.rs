//! What a program printed, as it is kept: the beginning and the end, without secrets.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use std::collections::VecDeque;

/// Shorter secrets are left alone: they would be found in every other word.
const SHORTEST_SECRET: usize = 4;

/// What takes the place of a secret.
const STARS: &[u8] = b"***";

/// A line that never ends is passed on in pieces of this many bytes.
const LONGEST_LINE: usize = 64 * 1024;

/// What URLs leave as it is, by the usual rule.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Replaces secrets by `***`.
#[derive(Clone, Default)]
pub struct Scrubber(Vec<Vec<u8>>);

impl std::fmt::Debug for Scrubber {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Scrubber({} forms)", self.0.len())
    }
}

impl Scrubber {
    /// Knows `secrets` as they are, percent-encoded, and escaped as in INI files and string literals.
    ///
    /// Secrets of fewer than four bytes are not replaced.
    pub fn new(secrets: Vec<String>) -> Self {
        let mut forms: Vec<Vec<u8>> = Vec::new();
        for secret in secrets.iter().filter(|secret| secret.len() >= SHORTEST_SECRET) {
            let all = utf8_percent_encode(secret, NON_ALPHANUMERIC).to_string();
            let usual = utf8_percent_encode(secret, UNRESERVED).to_string();
            let escaped = secret.replace('\\', "\\\\");
            let texts = [secret.clone(), all.clone(), usual.clone(), all.to_lowercase(), usual.replace("%20", "+")];
            let literals = [escaped.replace('"', "\\\""), escaped.replace('\'', "\\'"), secret.replace('\'', "''")];
            for text in texts.into_iter().chain(literals).chain([escaped]) {
                forms.push(text.replace('%', "%%").into_bytes());
                forms.push(text.into_bytes());
            }
        }
        // The longest first, or a form would be cut open by one that is a part of it.
        forms.sort_by_key(|form| std::cmp::Reverse(form.len()));
        forms.dedup();
        Scrubber(forms)
    }

    /// `bytes` without secrets.
    pub fn scrub(&self, bytes: &[u8]) -> Vec<u8> {
        let mut clean = bytes.to_vec();
        for form in &self.0 {
            let finder = memchr::memmem::Finder::new(form);
            if finder.find(&clean).is_none() {
                continue;
            }
            let mut rest = clean.as_slice();
            let mut next = Vec::with_capacity(clean.len());
            while let Some(at) = finder.find(rest) {
                next.extend_from_slice(&rest[..at]);
                next.extend_from_slice(STARS);
                rest = &rest[at + form.len()..];
            }
            next.extend_from_slice(rest);
            clean = next;
        }
        clean
    }

    fn longest(&self) -> usize {
        self.0.first().map_or(0, Vec::len)
    }
}

/// Two streams as one text, line by line, of which the first and the last bytes are kept.
pub(super) struct Log {
    cap: usize,
    /// Kept beyond `cap`, so that a secret at the cut is seen whole before it is replaced and the surplus dropped.
    surplus: usize,
    scrubber: Scrubber,
    /// What came of each stream since its last line end.
    pending: [Vec<u8>; 2],
    head: Vec<u8>,
    tail: VecDeque<u8>,
    total: u64,
}

impl Log {
    /// Keeps `cap` bytes at each end.
    pub(super) fn new(cap: usize, scrubber: Scrubber) -> Self {
        let surplus = scrubber.longest();
        let (head, tail) = (Vec::new(), VecDeque::new());
        Log { cap, surplus, scrubber, pending: Default::default(), head, tail, total: 0 }
    }

    /// Takes the next bytes of stream 0 or 1. Whole lines are passed on, so that no secret on one line is torn apart.
    pub(super) fn push(&mut self, stream: usize, bytes: &[u8]) {
        let mut text = std::mem::take(&mut self.pending[stream]);
        text.extend_from_slice(bytes);
        let whole = match memchr::memrchr(b'\n', &text) {
            Some(at) => at + 1,
            None if text.len() > LONGEST_LINE => text.len().saturating_sub(self.surplus),
            None => 0,
        };
        self.keep(&text[..whole]);
        text.drain(..whole);
        self.pending[stream] = text;
    }

    /// The text: scrubbed, as UTF-8, without NUL.
    pub(super) fn finish(mut self) -> String {
        for stream in 0..self.pending.len() {
            let rest = std::mem::take(&mut self.pending[stream]);
            self.keep(&rest);
        }
        let tail: Vec<u8> = std::mem::take(&mut self.tail).into();
        let mut kept = std::mem::take(&mut self.head);
        let held = kept.len() + tail.len();
        let bytes = if self.total == held as u64 {
            kept.extend_from_slice(&tail);
            self.scrubber.scrub(&kept)
        } else {
            let mut text = self.scrubber.scrub(&kept);
            text.truncate(text.len().saturating_sub(self.surplus));
            let end = self.scrubber.scrub(&tail);
            let left_out = self.total - held as u64 + 2 * self.surplus as u64;
            text.extend_from_slice(format!("\n… {left_out} bytes left out …\n").as_bytes());
            text.extend_from_slice(&end[self.surplus.min(end.len())..]);
            text
        };
        // PostgreSQL keeps no NUL in a text.
        String::from_utf8_lossy(&bytes).replace('\0', "\u{fffd}")
    }

    fn keep(&mut self, bytes: &[u8]) {
        self.total += bytes.len() as u64;
        let limit = self.cap + self.surplus;
        let room = limit.saturating_sub(self.head.len()).min(bytes.len());
        self.head.extend_from_slice(&bytes[..room]);
        let rest = &bytes[room..];
        let rest = &rest[rest.len().saturating_sub(limit)..];
        self.tail.extend(rest);
        let over = self.tail.len().saturating_sub(limit);
        self.tail.drain(..over);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(cap: usize, secret: &str, pieces: &[&[u8]]) -> String {
        let mut log = Log::new(cap, Scrubber::new(vec![secret.to_owned()]));
        pieces.iter().for_each(|piece| log.push(0, piece));
        log.finish()
    }

    #[test]
    fn the_beginning_and_the_end_are_kept() {
        assert_eq!(log(100, "", &[b"all ", b"of it"]), "all of it");
        let long = "a".repeat(50) + "\n" + &"b".repeat(60);
        let cut = log(10, "", &[long.as_bytes()]);
        assert_eq!(cut, format!("{}\n… 91 bytes left out …\n{}", "a".repeat(10), "b".repeat(10)));
    }

    #[test]
    fn a_secret_is_replaced_in_every_form_wherever_the_text_is_cut() {
        let secret = "p@:/?#% \"'";
        let forms =
            ["p@:/?#% \"'", "p%40%3A%2F%3F%23%25%20%22%27", "p%%40%%3A%%2F%%3F%%23%%25%%20%%22%%27", "p@:/?#% \\\"'"];
        for form in forms {
            assert_eq!(log(1000, secret, &[form.as_bytes()]), "***", "{form}");
        }
        for before in 0..60 {
            let text = format!("{}{secret}{}{secret}{}\n", "x".repeat(before), "y".repeat(80), "z".repeat(60 - before));
            for (piece, cap) in [(1, 40), (7, 30), (1000, 20)] {
                let pieces: Vec<&[u8]> = text.as_bytes().chunks(piece).collect();
                let kept = log(cap, secret, &pieces);
                assert!(!kept.contains("p@") && !kept.contains("\"'"), "cut at {before}: {kept:?}");
            }
        }
    }

    #[test]
    fn two_streams_mix_by_lines_and_nul_is_shown() {
        let mut log = Log::new(100, Scrubber::default());
        log.push(0, b"one ");
        log.push(1, b"warning\n");
        log.push(0, b"line\n\0\xff");
        assert_eq!(log.finish(), "warning\none line\n\u{fffd}\u{fffd}");
    }
}
