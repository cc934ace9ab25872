//! Callbacks that pull the map from under others, and callbacks that re-enter the loop. Rows 17, 27 and 28 of the list of
//! faults.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use asyncore::{Channel, ChannelId, CloseReason, Context, Map, Received, Result};
use integration_tests::{Log, Peer, Recorder, map, settle, turn_until};

/// Does what it was made with when it reads.
struct Does<F>(Log, F);

impl<F: FnMut(&mut Context<'_, Log>) + 'static> Channel<Log> for Does<F> {
    fn handle_read(&mut self, cx: &mut Context<'_, Log>) -> Result {
        let Received::Data(data) = cx.map.recv(cx.id, 1)? else { return Ok(()) };
        assert_eq!(data.len(), 1);
        self.0.add("read");
        (self.1)(cx);
        Ok(())
    }

    fn handle_close(&mut self, cx: &mut Context<'_, Log>, reason: CloseReason) {
        self.0.add(format_args!("close {reason:?}"));
        assert!(!cx.map.push(cx.id, b"too late").is_queued());
        assert!(!cx.map.is_open(cx.id));
    }
}

/// Three channels that are readable at once, and a listener: `act` runs in the first that reads. The lines that were
/// logged, and the map.
fn pulled(act: impl Fn(&mut Context<'_, Log>, [ChannelId; 4]) + Clone + 'static) -> (Map<Log>, Vec<String>) {
    let mut map = map();
    let mut log = Log::new();
    let ids = Rc::new(Cell::new(None));
    let mut peers = Vec::new();
    let channels = [(); 3].map(|()| {
        let (mut peer, here) = Peer::pair();
        peer.send(b"two");
        peers.push(peer);
        let (ids, act) = (ids.clone(), act.clone());
        let does = move |cx: &mut Context<'_, Log>| {
            if let Some(ids) = ids.take() {
                act(cx, ids);
            }
        };
        map.add(here, Does(log.clone(), does)).unwrap()
    });
    let listener = map.listen("127.0.0.1:0", |_| Recorder::new(&Log::new())).unwrap()[0];
    ids.set(Some([channels[0], channels[1], channels[2], listener]));
    settle(&mut map, &mut log);
    map.close_all();
    turn_until(&mut map, &mut log, "the end", |map, _| map.is_empty());
    let lines = log.take();
    assert_eq!(lines.iter().filter(|line| line.starts_with("close")).count(), 3, "{lines:?}");
    (map, lines)
}

fn reads(lines: &[String]) -> usize {
    lines.iter().filter(|line| *line == "read").count()
}

/// Row 27. What a callback closes is not called again, though its events are in the same batch: one `handle_close` each.
#[test]
fn row_27_a_callback_closes_itself_its_neighbours_or_all() {
    // Each of the three would read three times.
    let (_, lines) = pulled(|cx, _| cx.map.close(cx.id));
    assert_eq!(reads(&lines), 1 + 3 + 3);
    let (_, lines) = pulled(|cx, ids| ids.iter().filter(|id| **id != cx.id).for_each(|id| cx.map.close(*id)));
    assert_eq!(reads(&lines), 3);
    let (_, lines) = pulled(|cx, _| cx.map.close_all());
    assert_eq!(reads(&lines), 1);
    let (_, lines) = pulled(|cx, ids| {
        for id in ids {
            cx.map.close(id);
            cx.map.close(id);
            cx.map.close_when_done(id);
            assert!(!cx.map.push(id, b"to a closed channel").is_queued());
            assert!(cx.map.remove(id).is_none());
        }
    });
    assert_eq!(reads(&lines), 1);
}

/// Row 27. A callback closes the listener: the others go on.
#[test]
fn row_27_a_callback_closes_the_listener() {
    let (_, lines) = pulled(|cx, ids| cx.map.close(ids[3]));
    assert_eq!(reads(&lines), 9);
}

/// Row 27. A callback adds channels, more than there were: each is served, and none of the old is disturbed.
#[test]
fn row_27_a_callback_adds_channels() {
    let (map, lines) = pulled(|cx, _| {
        for _ in 0..100 {
            let (mut peer, here) = Peer::pair();
            peer.send(b"x");
            drop(peer);
            let log = cx.app.clone();
            cx.map.add(here, Recorder::named("added", &log)).unwrap();
        }
    });
    assert_eq!(reads(&lines), 9);
    for line in ["added connect", "added read x", "added eof", "added close Eof"] {
        assert_eq!(lines.iter().filter(|seen| *seen == line).count(), 100, "{line}");
    }
    assert_eq!(map.counters().closed, 3 + 1 + 100);
}

/// Row 17. A neighbour is taken out and its descriptor closed while its event waits in the batch, and a new channel takes
/// the slot and, most likely, the number: it hears nothing of the old one's event.
#[test]
fn row_17_an_event_does_not_reach_the_next_channel_in_that_place() {
    for _ in 0..20 {
        let mut map = map();
        let mut log = Log::new();
        let ids = Rc::new(RefCell::new(Vec::new()));
        let peers = Rc::new(RefCell::new(Vec::new()));
        for _ in 0..2 {
            let (mut peer, here) = Peer::pair();
            peer.send(b"x");
            peers.borrow_mut().push(peer);
            let (known, peers) = (ids.clone(), peers.clone());
            let replace_neighbour = move |cx: &mut Context<'_, Log>| {
                let neighbour = *known.borrow().iter().find(|id| **id != cx.id).unwrap();
                drop(cx.map.remove(neighbour).unwrap());
                let (peer, here) = Peer::pair();
                peers.borrow_mut().push(peer);
                let new = cx.map.add(here, Recorder::named("new", &cx.app.clone())).unwrap();
                assert_eq!(slot(new), slot(neighbour));
                assert_ne!(new, neighbour);
            };
            let id = map.add(here, Does(log.clone(), replace_neighbour)).unwrap();
            ids.borrow_mut().push(id);
        }
        turn_until(&mut map, &mut log, "the batch", |map, _| map.counters().events > 0);
        assert_eq!(map.counters().events, 2, "both in one batch");
        settle(&mut map, &mut log);
        assert_eq!(log.lines(), ["read", "new connect"]);
    }
}

fn slot(id: ChannelId) -> String {
    id.to_string().split('.').next().unwrap().to_owned()
}

/// Tries to run the loop from inside it.
struct Reenters(Log);

impl Channel for Reenters {
    fn handle_connect(&mut self, cx: &mut Context<'_>) -> Result {
        for outcome in [cx.map.run(&mut ()), cx.map.run_for(&mut (), 1), cx.map.poll(&mut (), None)] {
            self.0.add(outcome.unwrap_err());
        }
        Ok(())
    }

    fn handle_close(&mut self, cx: &mut Context<'_>, _reason: CloseReason) {
        self.0.add(cx.map.run(&mut ()).unwrap_err());
    }
}

/// Row 28. A callback cannot re-enter the loop: that is refused with a sentence, and the turn goes on.
#[test]
fn row_28_the_loop_cannot_be_entered_from_a_callback() {
    let mut map = map();
    let log = Log::new();
    let (peer, here) = Peer::pair();
    map.add(here, Reenters(log.clone())).unwrap();
    drop(peer);
    map.run(&mut ()).unwrap();
    let refusal = "the loop is running already: `run` and `poll` cannot be called from a callback";
    assert_eq!(log.lines(), [refusal; 4]);
    map.run(&mut ()).unwrap();
}

/// Runs the thread's own map from inside it.
struct ReentersDefault(Log);

impl Channel for ReentersDefault {
    fn handle_connect(&mut self, _cx: &mut Context<'_>) -> Result {
        self.0.add(asyncore::run().unwrap_err());
        Ok(())
    }
}

/// Row 28. The same for the thread's own map, which is lent out while it runs.
#[test]
fn row_28_the_default_map_cannot_be_run_from_a_callback() {
    let log = Log::new();
    let (peer, here) = Peer::pair();
    asyncore::default_map(|map| map.add(here, ReentersDefault(log.clone()))).unwrap().unwrap();
    drop(peer);
    asyncore::run().unwrap();
    assert_eq!(log.lines(), ["the default map is lent out: use `cx.map` in a callback"]);
}
