//! What a caller may conclude from a failure.

/// The class of an error: it decides whether trying again can help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// The outside world was not there for a moment; the same call may succeed later.
    Transient,
    /// The same call will fail again until somebody changes something.
    Permanent,
    /// Bytes that were once right are wrong now.
    Corrupt,
    /// The work was not begun, because it would have harmed; nothing was touched.
    Refused,
}
