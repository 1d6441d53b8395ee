//! Which keys an object may have: the same at every store, so that a repository can be copied from one to another.

use super::StoreError;

/// Names beginning so are unfinished writes of the directory store, never objects.
pub(super) const TEMPORARY: &str = ".tmp-";

/// Limit of S3, in bytes.
const LONGEST_KEY: usize = 1024;

/// Limit of common file systems, in bytes.
const LONGEST_SEGMENT: usize = 255;

/// Refuses a key that some store could not hold, or that would lead out of a directory.
pub(super) fn check(place: &str, key: &str) -> Result<(), StoreError> {
    match fault(key) {
        None => Ok(()),
        Some(why) => Err(refuse(place, key, why)),
    }
}

/// Refuses a prefix that is neither empty nor a key followed by `/`.
pub(super) fn check_prefix(place: &str, prefix: &str) -> Result<(), StoreError> {
    if prefix.is_empty() {
        return Ok(());
    }
    match prefix.strip_suffix('/') {
        Some(key) => check(place, key),
        None => Err(refuse(place, prefix, "a prefix ends in /")),
    }
}

fn refuse(place: &str, key: &str, why: &str) -> StoreError {
    StoreError::Denied {
        place: place.to_owned(),
        message: format!("the key {key:?} is not allowed: {why}"),
        hint: None,
    }
}

fn fault(key: &str) -> Option<&'static str> {
    if key.len() > LONGEST_KEY {
        return Some("it is longer than 1,024 bytes");
    }
    for segment in key.split('/') {
        let known = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if segment.is_empty() {
            return Some("it has an empty part");
        } else if segment.len() > LONGEST_SEGMENT {
            return Some("a part of it is longer than 255 bytes");
        } else if !segment.bytes().all(known) {
            return Some("only ASCII letters, digits, `.`, `_`, `-` and `/` are");
        } else if segment == "." || segment == ".." {
            return Some("it has a part that means another directory");
        } else if segment.starts_with(TEMPORARY) {
            return Some("names beginning with .tmp- are for unfinished writes");
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_letters_digits_and_few_signs_in_parts() {
        let long_segment = "x".repeat(256);
        let long_key = "abcdefg/".repeat(129);
        let bad = ["", "/", "/a", "a/", "a//b", ".", "..", "a/../b", "../a", "a b", "a\\b", "ä", "a\n", "a\0", "a%2f"];
        for key in bad.into_iter().chain([".tmp-1", "a/.tmp-x", &long_segment, &long_key]) {
            assert!(check("here", key).is_err(), "{key:?} was allowed");
        }
        for key in ["a", "a/b/c", "holdfast.json", "packs/0/ab/0-1_2.x", "...", "a/..b", ".hidden", &"x".repeat(255)] {
            assert!(check("here", key).is_ok(), "{key:?} was refused");
        }
    }

    #[test]
    fn a_prefix_is_empty_or_ends_in_a_slash() {
        for (prefix, good) in [("", true), ("a/", true), ("a/b/", true), ("a", false), ("/", false), ("../", false)] {
            assert_eq!(check_prefix("here", prefix).is_ok(), good, "{prefix:?}");
        }
    }
}
