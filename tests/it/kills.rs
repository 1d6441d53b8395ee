//! The real program, killed and disturbed where nobody has marked a place: what it leaves is judged without it, then it
//! runs again.

mod common;
mod faults;
mod random;
mod syscalls;
