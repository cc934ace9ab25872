//! A connect under way: what is queued, closed and told before it has ended.

use asyncore::{Channel, Context, Map, Pushed, Result};
use integration_tests::{Log, Net, Recorder, each_net, map, turn_until};

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

#[test]
fn a_writing_side_that_is_ended_while_connecting_ends_once_all_is_sent() {
    each_net(|net| {
        let (listener, address, _folder) = net.listener();
        let mut map: Map = map();
        let received = Log::new();
        let seen = received.clone();
        let server = map.listen_on(listener, move |_| {
            let mut recorder = Recorder::new(&seen);
            recorder.echoes = true;
            recorder
        });
        let log = Log::new();
        let id = map.connect(address, Recorder::new(&log)).unwrap();
        assert_eq!(map.push(id, b"request"), Pushed::Queued);
        map.shutdown_write(id);
        assert_eq!(map.push(id, b"too late"), Pushed::Closing);
        turn_until(&mut map, &mut (), "both ends", |_, ()| log.has("close Eof") && received.has("close Eof"));
        assert_eq!(received.lines(), ["connect", "read request", "eof", "close Eof"]);
        assert_eq!(
            log.lines(),
            ["connect", "read request", "eof", "close Eof"],
            "the reply comes all the same"
        );
        map.close(server.unwrap());
    });
}
