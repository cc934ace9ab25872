//! Commands on lists.

use std::collections::VecDeque;

use super::call::{Call, Result};
use super::database::Value;
use super::number;
use super::reply::Refusal;

/// `LPUSH key element...`
pub(crate) fn lpush(call: &mut Call<'_>) -> Result {
    let key = call.arguments.at(1);
    let elements = call.arguments.from(2).map(Box::from);
    let database = call.server.database(call.session);
    let length = if let Some(list) = database.list_mut(key)? {
        elements.for_each(|element| list.push_front(element));
        list.len()
    } else {
        // The last one stands first.
        let list: VecDeque<_> = elements.rev().collect();
        let length = list.len();
        database.insert(key, Value::List(list));
        length
    };
    call.reply.integer(length);
    Ok(())
}

/// `LRANGE key start stop`
pub(crate) fn lrange(call: &mut Call<'_>) -> Result {
    let index = |at| number::parse(call.arguments.at(at)).ok_or(Refusal::NOT_AN_INTEGER);
    let (start, stop) = (index(2)?, index(3)?);
    let Some(list) = call.server.database(call.session).list(call.arguments.at(1))? else {
        call.reply.array(0);
        return Ok(());
    };
    let (first, count) = range(start, stop, list.len());
    call.reply.array(count);
    for element in list.range(first..first + count) {
        call.reply.bulk(element);
    }
    Ok(())
}

/// Where a range begins and how many elements are in it; below zero, `start` and `stop` count from the end.
fn range(start: i64, stop: i64, length: usize) -> (usize, usize) {
    let length = i64::try_from(length).unwrap_or(i64::MAX);
    let from_start = |index: i64| if index < 0 { index.saturating_add(length) } else { index };
    let first = from_start(start).clamp(0, length);
    let end = from_start(stop).clamp(-1, length - 1) + 1;
    (first.try_into().unwrap_or_default(), (end - first).try_into().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_what_counting_by_hand_finds() {
        for length in 0..5_usize {
            for start in -7..7 {
                for stop in -7..7 {
                    let from_start = |index: i64| if index < 0 { index + length as i64 } else { index };
                    let wanted: Vec<usize> = (0..length)
                        .filter(|at| (from_start(start)..=from_start(stop)).contains(&(*at as i64)))
                        .collect();
                    let (first, count) = range(start, stop, length);
                    assert!(first + count <= length);
                    assert_eq!(
                        (first..first + count).collect::<Vec<_>>(),
                        wanted,
                        "{start} {stop} of {length}"
                    );
                }
            }
        }
        assert_eq!(range(i64::MIN, i64::MAX, 3), (0, 3));
        assert_eq!(range(i64::MAX, i64::MIN, 3), (3, 0));
    }
}
