//! What a migration tells while it goes: a line a step, for people.

use std::time::Duration;

/// Hears the story of a migration.
pub trait Story: Send + Sync {
    /// What is about to be done, before the first step.
    fn head(&self, line: &str);

    /// A step begins.
    fn begins(&self, step: &'static str);

    /// A step has ended.
    fn step(&self, step: &'static str, said: &str, took: Duration);

    /// Something that belongs to the step told last.
    fn detail(&self, line: &str);

    /// How it ended.
    fn end(&self, line: &str);

    /// So many more bytes of the step under way are done.
    fn bytes(&self, bytes: u64);
}
