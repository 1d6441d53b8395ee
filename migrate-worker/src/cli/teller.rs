//! The story on a terminal: a line a step; on stderr a spinner while one goes on.

use crate::story::Story;
use backup_agent::cli::{Global, put_line, text};
use backup_agent::say;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Where the story goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Voice {
    /// It is the answer.
    Stdout,
    /// The answer is something else.
    Stderr,
}

/// Tells the story while it goes.
pub struct Teller {
    voice: Voice,
    bar: ProgressBar,
    bytes: AtomicU64,
}

/// Redrawn so often.
const TICK: Duration = Duration::from_millis(120);

impl Teller {
    /// Tells by `voice`; the spinner is shown on terminals only.
    pub fn new(global: &Global, voice: Voice) -> Arc<Self> {
        let shows = std::io::stderr().is_terminal() && global.shows_progress();
        let target = if shows { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(None, target);
        let style = ProgressStyle::with_template("  {spinner} {prefix:<10} {msg} {elapsed}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
        if shows {
            bar.enable_steady_tick(TICK);
        }
        Arc::new(Teller { voice, bar, bytes: AtomicU64::new(0) })
    }

    fn put(&self, line: &str) {
        self.bar.suspend(|| match self.voice {
            Voice::Stdout => put_line(line),
            Voice::Stderr => say!("{line}"),
        });
    }
}

impl Story for Teller {
    fn head(&self, line: &str) {
        self.put(line);
    }

    fn begins(&self, step: &'static str) {
        self.bytes.store(0, Ordering::Relaxed);
        self.bar.set_prefix(step);
        self.bar.set_message("");
        self.bar.reset_elapsed();
    }

    fn step(&self, step: &'static str, said: &str, took: Duration) {
        self.put(format!("  {step:<10} {said:<58} {:>7.2} s", took.as_secs_f64()).as_str());
    }

    fn detail(&self, line: &str) {
        self.put(&format!("               {line}"));
    }

    fn end(&self, line: &str) {
        self.bar.finish_and_clear();
        self.put(line);
    }

    fn bytes(&self, bytes: u64) {
        let done = self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.bar.set_message(text::size(done));
    }
}
