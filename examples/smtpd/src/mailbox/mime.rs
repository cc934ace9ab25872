//! What everybody needs who has a message taken apart by `mail-parser`.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// What `work` comes to; `None` if it panics.
///
/// Messages are made by anybody, and what takes them apart is not of this project: what it fails at is shown as it came.
pub fn contained<R>(work: impl FnOnce() -> R) -> Option<R> {
    catch_unwind(AssertUnwindSafe(work)).ok()
}

/// The beginning of a text, `most` bytes of it or a little less.
#[must_use]
pub fn cut(text: &str, most: usize) -> &str {
    let mut end = most.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
