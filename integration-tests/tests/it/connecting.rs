//! A connect under way: what is queued, closed and told before it has ended.

use asyncore::{Channel, Context, Map, Pushed, Result};
use integration_tests::{Log, Net, Recorder, map, turn_until};

#[test]
fn what_is_pushed_on_connecting_is_refused_by_a_channel_that_is_to_close_when_done() {
    struct Late(Log);
    impl Channel for Late {
        fn handle_connect(&mut self, cx: &mut Context<'_>) -> Result {
            self.0.add(format_args!("{:?}", cx.map.push(cx.id, b"late")));
            Ok(())
        }
    }
    let (listener, address, _folder) = Net::V4.listener();
    let mut map: Map = map();
    let log = Log::new();
    let received = Log::new();
    let seen = received.clone();
    map.listen_on(listener, move |_| Recorder::new(&seen)).unwrap();
    let id = map.connect(address, Late(log.clone())).unwrap();
    assert_eq!(map.push(id, b"early"), Pushed::Queued);
    map.close_when_done(id);
    assert_eq!(map.push(id, b"too late"), Pushed::Closing);
    turn_until(&mut map, &mut (), "the close", |map, ()| map.get(id).is_none() && received.has("close Eof"));
    assert_eq!(log.lines(), ["Closing"]);
    assert_eq!(received.lines(), ["connect", "read early", "eof", "close Eof"]);
}
