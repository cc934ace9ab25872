//! Commands on keys, whatever they stand for.

use super::call::{Call, Result};
use super::number;
use super::reply::{Refusal, quotable};

/// `DEL key...`
pub(crate) fn del(call: &mut Call<'_>) -> Result {
    let database = call.server.database(call.session);
    let removed = call.arguments.from(1).filter(|key| database.remove(call.reply.map, key)).count();
    call.reply.integer(removed);
    Ok(())
}

/// `EXISTS key...`
pub(crate) fn exists(call: &mut Call<'_>) -> Result {
    let database = call.server.database(call.session);
    let there = call.arguments.from(1).filter(|key| database.contains(key)).count();
    call.reply.integer(there);
    Ok(())
}

/// `EXPIRE key seconds [NX | XX | GT | LT]`
pub(crate) fn expire(call: &mut Call<'_>) -> Result {
    let conditions = Conditions::parse(call)?;
    let key = call.arguments.at(1);
    let seconds = number::parse(call.arguments.at(2)).ok_or(Refusal::NOT_AN_INTEGER)?;
    let now = call.server.now();
    let at = expire_time(seconds, 1000, now).ok_or_else(|| Refusal::invalid_expire_time("expire"))?;
    let database = call.server.database(call.session);
    let is_set = match database.expiry(key) {
        Some(former) if conditions.allow(former, at) => {
            database.expire(call.reply.map, key, now, at);
            true
        }
        _ => false,
    };
    call.reply.integer(i32::from(is_set));
    Ok(())
}

/// `TTL key`
pub(crate) fn ttl(call: &mut Call<'_>) -> Result {
    let now = call.server.now();
    let seconds = match call.server.database(call.session).expiry(call.arguments.at(1)) {
        None => -2,
        Some(None) => -1,
        // Rounded.
        Some(Some(at)) => (at - now).max(0).saturating_add(500) / 1000,
    };
    call.reply.integer(seconds);
    Ok(())
}

/// `DBSIZE`
pub(crate) fn dbsize(call: &mut Call<'_>) -> Result {
    let count = call.server.database(call.session).len();
    call.reply.integer(count);
    Ok(())
}

/// `FLUSHALL [ASYNC | SYNC]`
pub(crate) fn flushall(call: &mut Call<'_>) -> Result {
    let how = call.arguments.at(1);
    let is_known = how.eq_ignore_ascii_case(b"ASYNC") || how.eq_ignore_ascii_case(b"SYNC");
    if call.arguments.len() > 2 || (call.arguments.len() == 2 && !is_known) {
        return Err(Refusal::SYNTAX);
    }
    for database in &mut call.server.databases {
        database.clear(call.reply.map);
    }
    call.reply.ok();
    Ok(())
}

/// When that is, in milliseconds since 1970: so many units of so many milliseconds from `since`. `None` when there is
/// no such time.
pub(crate) fn expire_time(time: i64, unit: i64, since: i64) -> Option<i64> {
    time.checked_mul(unit)?.checked_add(since)
}

/// On what terms `EXPIRE` sets a time.
#[derive(Default)]
struct Conditions {
    has_none: bool,
    has_one: bool,
    is_later: bool,
    is_sooner: bool,
}

impl Conditions {
    fn parse(call: &Call<'_>) -> std::result::Result<Self, Refusal> {
        let mut terms = Self::default();
        for word in call.arguments.from(3) {
            match &word.to_ascii_uppercase()[..] {
                b"NX" => terms.has_none = true,
                b"XX" => terms.has_one = true,
                b"GT" => terms.is_later = true,
                b"LT" => terms.is_sooner = true,
                _ => return Err([b"ERR Unsupported option ", quotable(word)].concat().into()),
            }
        }
        if terms.has_none && (terms.has_one || terms.is_later || terms.is_sooner) {
            return Err(Refusal::new("ERR NX and XX, GT or LT options at the same time are not compatible"));
        }
        if terms.is_later && terms.is_sooner {
            return Err(Refusal::new("ERR GT and LT options at the same time are not compatible"));
        }
        Ok(terms)
    }

    /// Whether a key that expires at `former`, or never, may expire at `at`.
    fn allow(&self, former: Option<i64>, at: i64) -> bool {
        let former_or_never = former.unwrap_or(i64::MAX);
        !(self.has_none && former.is_some()
            || self.has_one && former.is_none()
            || self.is_later && at <= former_or_never
            || self.is_sooner && at >= former_or_never)
    }
}
