//! What a panic said, and how its payload is dropped without a second one.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// The panic's message. Consumes the payload: a payload whose drop panics in turn is contained here.
#[cold]
#[inline(never)]
pub(crate) fn describe(payload: Box<dyn Any + Send>) -> String {
    let text = payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a message".to_owned());
    contain("dropping a panic's payload", || drop(payload));
    text
}

/// Runs what is no channel's; a panic in it is logged with what it said, and goes no further.
pub(crate) fn guard(doing: &str, f: impl FnOnce()) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(f)) {
        tell(doing, panic);
    }
}

/// Runs `f`, a drop most likely; a panic in it is logged, and goes no further.
pub(crate) fn contain(doing: &str, f: impl FnOnce()) {
    if let Err(second) = catch_unwind(AssertUnwindSafe(f)) {
        let_go(doing, second);
    }
}

#[cold]
#[inline(never)]
fn tell(doing: &str, panic: Box<dyn Any + Send>) {
    // Not among the log's arguments, which are not evaluated when nobody listens.
    let panic = describe(panic);
    tracing::error!(doing, panic, "contained a panic");
}

#[cold]
#[inline(never)]
fn let_go(doing: &str, second: Box<dyn Any + Send>) {
    tracing::error!(doing, "contained a panic");
    // Its drop may panic as well, without end: this one is let go.
    std::mem::forget(second);
}
