//! Commands on texts.

use super::call::{Call, Result};
use super::keys::expire_time;
use super::number;
use super::reply::Refusal;

/// `GET key`
pub(crate) fn get(call: &mut Call<'_>) -> Result {
    let text = call.server.database(call.session).text(call.arguments.at(1))?;
    call.reply.bulk_or_null(text);
    Ok(())
}

/// `SET key value [EX seconds | PX milliseconds | KEEPTTL] [NX | XX] [GET]`
pub(crate) fn set(call: &mut Call<'_>) -> Result {
    let (key, text) = (call.arguments.at(1), call.arguments.at(2));
    let options = Options::parse(call)?;
    let now = if options.expires_after.is_some() { call.server.now() } else { 0 };
    let at = match options.expires_after {
        Some((time, unit)) => {
            let at = expire_time(time, unit, now).filter(|at| *at > now);
            Some(at.ok_or_else(|| Refusal::invalid_expire_time("set"))?)
        }
        None => None,
    };
    let database = call.server.database(call.session);
    if options.gets {
        call.reply.bulk_or_null(database.text(key)?);
    }
    let may_set = options.condition.is_none_or(|wanted| wanted == Condition::of(database.contains(key)));
    if may_set {
        database.set(call.reply.map, key, text, options.keeps_time || at.is_some());
        if let Some(at) = at {
            database.expire(call.reply.map, key, now, at);
        }
    }
    match (options.gets, may_set) {
        (true, _) => {}
        (false, true) => call.reply.ok(),
        (false, false) => call.reply.null(),
    }
    Ok(())
}

/// `INCR key`
pub(crate) fn incr(call: &mut Call<'_>) -> Result {
    let key = call.arguments.at(1);
    let database = call.server.database(call.session);
    let number = match database.text(key)? {
        Some(text) => number::parse(text).ok_or(Refusal::NOT_AN_INTEGER)?,
        None => 0,
    };
    let number = number.checked_add(1).ok_or(Refusal::new("ERR increment or decrement would overflow"))?;
    database.set(call.reply.map, key, itoa::Buffer::new().format(number).as_bytes(), true);
    call.reply.integer(number);
    Ok(())
}

/// `MGET key...`
pub(crate) fn mget(call: &mut Call<'_>) -> Result {
    let database = call.server.database(call.session);
    call.reply.array(call.arguments.len() - 1);
    for key in call.arguments.from(1) {
        // What is no text is not there.
        call.reply.bulk_or_null(database.text(key).ok().flatten());
    }
    Ok(())
}

/// `MSET key value...`
pub(crate) fn mset(call: &mut Call<'_>) -> Result {
    let arguments = call.arguments;
    if arguments.len().is_multiple_of(2) {
        return Err(Refusal::wrong_arity("mset"));
    }
    let database = call.server.database(call.session);
    for at in (1..arguments.len()).step_by(2) {
        database.set(call.reply.map, arguments.at(at), arguments.at(at + 1), false);
    }
    call.reply.ok();
    Ok(())
}

/// The options of `SET`.
#[derive(Default)]
struct Options {
    /// How long, and how many milliseconds the unit is.
    expires_after: Option<(i64, i64)>,
    keeps_time: bool,
    condition: Option<Condition>,
    gets: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Condition {
    IsNew,
    Exists,
}

impl Condition {
    const fn of(is_there: bool) -> Self {
        if is_there { Self::Exists } else { Self::IsNew }
    }
}

impl Options {
    fn parse(call: &Call<'_>) -> std::result::Result<Self, Refusal> {
        let mut options = Self::default();
        let mut words = call.arguments.from(3);
        let mut time: Option<(&[u8], i64)> = None;
        while let Some(word) = words.next() {
            let is = |name: &str| word.eq_ignore_ascii_case(name.as_bytes());
            if is("NX") && options.condition != Some(Condition::Exists) {
                options.condition = Some(Condition::IsNew);
            } else if is("XX") && options.condition != Some(Condition::IsNew) {
                options.condition = Some(Condition::Exists);
            } else if is("GET") {
                options.gets = true;
            } else if is("KEEPTTL") && time.is_none() {
                options.keeps_time = true;
            } else if (is("EX") || is("PX")) && !options.keeps_time {
                let unit = if is("EX") { 1000 } else { 1 };
                // Said again, the last one counts; said in the other unit, it is too much.
                if time.is_some_and(|(_, before)| before != unit) {
                    return Err(Refusal::SYNTAX);
                }
                time = Some((words.next().ok_or(Refusal::SYNTAX)?, unit));
            } else {
                return Err(Refusal::SYNTAX);
            }
        }
        if let Some((time, unit)) = time {
            options.expires_after = Some((number::parse(time).ok_or(Refusal::NOT_AN_INTEGER)?, unit));
        }
        Ok(options)
    }
}
