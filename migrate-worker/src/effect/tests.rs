//! Tables of cases, and random moves and deletions.
