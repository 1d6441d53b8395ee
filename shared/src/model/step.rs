//! A step of a task, as the local journal and the record have it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// What is written about a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// It is about to be done.
    Intent,
    /// It was done.
    Done,
}

/// A line of a task's journal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepNote {
    /// Position in the journal of the task, from 1, across epochs.
    pub seq: u64,
    /// Epoch of the lease under which it was written.
    pub epoch: u64,
    /// When.
    pub at: Timestamp,
    /// The step's name.
    pub step: String,
    /// Whether it is about to be done, or was.
    pub phase: Phase,
    /// What a successor needs to find again what the step made. Never a credential.
    pub data: serde_json::Value,
}
