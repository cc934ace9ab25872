//! The one command of the servers that live in another loop: `later MILLISECONDS TEXT`.

use std::time::Duration;

/// What a line asks for: to wait so long, and then to say the text, a line with its end. `None` for any other line.
#[must_use]
pub fn asked_for(line: &[u8]) -> Option<(Duration, String)> {
    let rest = std::str::from_utf8(line).ok()?.strip_prefix("later ")?;
    let (delay, text) = rest.split_once(' ')?;
    Some((Duration::from_millis(delay.parse().ok()?), format!("{text}\r\n")))
}
