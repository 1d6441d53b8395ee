//! The n-th call of the system on a local file fails or is the last one, for every such call of a run.
//!
//! A first run that nothing disturbs is traced, with the labelled points it reaches (`shared::crash_point`): each call
//! that writes a local file has a place in it, as "after point 7, the second fsync of its thread". Then the program is
//! run once for every place and fault: it stops itself at the point, `strace` is attached, and the call is injected with
//! SIGKILL, EIO or ENOSPC. `strace` counts for each thread on its own; by starting at a point there is little to count,
//! and no earlier call of another thread is hit instead. What was really hit is read off its output.
//!
//! The everyday run tries every kind of call once for each fault (a seed chooses which of the same kind), the long run
//! (`HOLDFAST_TEST_LONG=1`) all of them.

mod backup;
pub mod calls;
mod in_place;
mod record;
mod restore;
mod sweep;
