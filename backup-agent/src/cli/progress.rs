//! Progress on stderr: a bar on a terminal, otherwise a line every ten seconds.

use super::Global;
use super::text;
use crate::repository::WriteProgress;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use shared::engine::{LoadProgress, Progress};
use std::io::IsTerminal;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How far something is.
pub struct Meter {
    doing: &'static str,
    bar: ProgressBar,
    bytes: AtomicU64,
    expected: AtomicU64,
    spoken: Option<Mutex<Instant>>,
}

const LINE_EVERY: Duration = Duration::from_secs(10);

impl Meter {
    /// Begins; `expected` raw bytes, 0 where it is not known yet.
    pub fn new(global: &Global, doing: &'static str, expected: u64) -> Arc<Self> {
        let on_terminal = std::io::stderr().is_terminal() && global.shows_progress();
        let bar = ProgressBar::with_draw_target(
            Some(expected),
            if on_terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() },
        );
        let style = "{prefix} {bar:30} {bytes}/{total_bytes}  {bytes_per_sec}  {eta}  {msg}";
        bar.set_style(ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.set_prefix(doing);
        let spoken = (global.shows_progress() && !on_terminal).then(|| Mutex::new(Instant::now()));
        Arc::new(Meter { doing, bar, bytes: AtomicU64::new(0), expected: AtomicU64::new(expected), spoken })
    }

    /// So many more bytes are done.
    pub fn advance(&self, bytes: u64) {
        self.bar.inc(bytes);
        let done = self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if let Some(spoken) = &self.spoken
            && let Ok(mut last) = spoken.try_lock()
            && last.elapsed() >= LINE_EVERY
        {
            *last = Instant::now();
            let expected = self.expected.load(Ordering::Relaxed);
            let of = if expected > 0 { format!(" of about {}", text::size(expected)) } else { String::new() };
            say!("{}: {}{of}", self.doing, text::size(done));
        }
    }

    /// Ends; the bar disappears.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }

    /// The meter as an engine's load sees it.
    pub fn for_load(self: &Arc<Self>) -> Progress {
        let meter = self.clone();
        Arc::new(move |news| match news {
            LoadProgress::Step(step) => meter.bar.set_message(step.to_owned()),
            LoadProgress::Bytes(bytes) => meter.advance(bytes),
        })
    }
}

impl WriteProgress for Meter {
    fn expect(&self, bytes: u64) {
        self.expected.store(bytes, Ordering::Relaxed);
        self.bar.set_length(bytes);
    }

    fn advance(&self, bytes: u64, _rows: u64) {
        Meter::advance(self, bytes);
    }
}
