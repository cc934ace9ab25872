//! Names for messages, each given once.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// A name that no other message of this server has: letters and digits, the later ones greater.
///
/// It is a number that begins with the nanoseconds at which the server first asked, so that what an earlier run gave out is
/// lower: no server takes a message each nanosecond.
#[must_use]
pub fn next() -> String {
    static NEXT: LazyLock<AtomicU64> = LazyLock::new(|| {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        AtomicU64::new(u64::try_from(since.as_nanos()).unwrap_or_default())
    });
    text(NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A number with digits of five bits, in as many of them as the greatest has: so texts are ordered as the numbers are.
fn text(number: u64) -> String {
    (0..LENGTH).rev().map(|place| char::from(DIGITS[(number >> (5 * place) & 31) as usize])).collect()
}

/// 13 digits of five bits hold 64.
const LENGTH: u32 = 13;

const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHIJKLMNOPQRSTUV";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_is_given_once_and_they_are_ordered() {
        let names: Vec<String> = (0..1000).map(|_| next()).collect();
        assert!(names.is_sorted_by(|a, b| a < b));
        assert!(names.iter().all(|name| name.len() == 13 && name.bytes().all(|b| b.is_ascii_alphanumeric())));
        assert_eq!((text(0), text(u64::MAX)), ("0000000000000".into(), "FVVVVVVVVVVVV".into()));
    }
}
