//! All kinds of tampering, by what is changed, and what becomes of each.

mod content;
mod header;
mod objects;
mod structure;

use super::scene::Scene;
use super::{Tamper, Verdict};
use tests::mutations::Draws;

/// Makes one tampering of a kind; the draws choose the backup and the place.
type Make = Box<dyn Fn(&Scene, &mut Draws) -> Tamper>;

/// A kind of tampering.
pub struct Kind {
    /// In words, for the table.
    pub name: String,
    /// What becomes of it.
    pub expected: Verdict,
    pub make: Make,
}

impl Kind {
    fn new(name: impl Into<String>, expected: Verdict, make: impl Fn(&Scene, &mut Draws) -> Tamper + 'static) -> Kind {
        Kind { name: name.into(), expected, make: Box::new(make) }
    }
}

/// Every kind there is.
pub fn all() -> Vec<Kind> {
    let mut kinds = content::kinds();
    kinds.extend(content::beside_the_fingerprint());
    kinds.extend(header::kinds());
    kinds.extend(structure::kinds());
    kinds.extend(objects::kinds());
    kinds
}

/// Any of the four backups.
fn any(scene: &Scene, draws: &mut Draws) -> usize {
    draws.below(scene.backups.len())
}
