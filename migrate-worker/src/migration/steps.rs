//! The steps that are the same for every database, one file each.

mod approval;
mod back_up;
mod checks;
mod hooks;
mod lock;
mod plan;
mod preflight;
mod probe;
mod rehearse;
mod route;
mod scratch;
mod space;
mod tidy;
mod tool;
mod violations;
mod window;

pub use approval::approval;
pub use back_up::{Kept, back_up, keep_here, open_backup, take_backup};
pub use checks::{ask_after, ask_before};
pub use hooks::{start_application, stop_application};
pub use lock::lock;
pub use plan::plan;
pub use preflight::{Checked, preflight};
pub use probe::probe;
pub use rehearse::rehearse;
pub use scratch::{drop_copy, removed, scratch_server};
pub use space::space;
pub use tidy::{release_earlier, release_unused, tidy};
pub use tool::{judge, run_tool};
pub use window::{fits_window, within_window};
