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

/// `SET key value [EX seconds | PX milliseconds | EXAT seconds | PXAT milliseconds | KEEPTTL] [NX | XX] [GET]`
pub(crate) fn set(call: &mut Call<'_>) -> Result {
    let (key, text) = (call.arguments.at(1), call.arguments.at(2));
    let options = Options::parse(call)?;
    let now = if options.expires.is_some() { call.server.now() } else { 0 };
    let at = match options.expires {
        Some((time, unit)) => {
            let since = if unit.is_from_now { now } else { 0 };
            let at = expire_time(time, unit.milliseconds, since).filter(|_| time > 0);
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
    expires: Option<(i64, Unit)>,
    keeps_time: bool,
    condition: Option<Condition>,
    gets: bool,
}

/// How a time is given.
#[derive(Clone, Copy, PartialEq)]
struct Unit {
    milliseconds: i64,
    /// Or since 1970.
    is_from_now: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Condition {
    IsNew,
    Exists,
}

impl Unit {
    const NAMES: [(&str, Self); 4] = [
        ("EX", Self { milliseconds: 1000, is_from_now: true }),
        ("PX", Self { milliseconds: 1, is_from_now: true }),
        ("EXAT", Self { milliseconds: 1000, is_from_now: false }),
        ("PXAT", Self { milliseconds: 1, is_from_now: false }),
    ];

    fn named(word: &[u8]) -> Option<Self> {
        let (_, unit) = Self::NAMES.iter().find(|(name, _)| word.eq_ignore_ascii_case(name.as_bytes()))?;
        Some(*unit)
    }
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
        let mut time: Option<(&[u8], Unit)> = None;
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
            } else if let Some(unit) = Unit::named(word)
                && !options.keeps_time
            {
                // Said again, the last one counts; said in another unit, it is too much.
                if time.is_some_and(|(_, before)| before != unit) {
                    return Err(Refusal::SYNTAX);
                }
                time = Some((words.next().ok_or(Refusal::SYNTAX)?, unit));
            } else {
                return Err(Refusal::SYNTAX);
            }
        }
        if let Some((time, unit)) = time {
            options.expires = Some((number::parse(time).ok_or(Refusal::NOT_AN_INTEGER)?, unit));
        }
        Ok(options)
    }
}
