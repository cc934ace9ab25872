//! Loops in several threads: how they start, share a port, post to each other, and end together.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use asyncore::{
    Address, Channel, ChannelId, Context, Dispatcher, ListenOptions, Map, Received, Remotes, Result, Thread,
    serve_threads, serve_threads_with,
};
use integration_tests::{DEADLINE, Peer, in_time, options};

/// Serves with the options of the tests, and fails when that does not end.
fn serve<A: 'static>(
    count: usize,
    start: impl Fn(&mut Thread<A>) -> Result<A> + Send + Sync + 'static,
) -> Result {
    in_time(move || serve_threads_with(count, &options(), start))
}

/// Sends what it reads to everybody in every loop. Its state is the list of its own loop's channels.
struct Hub {
    remotes: Remotes<Vec<ChannelId>>,
}

impl Channel<Vec<ChannelId>> for Hub {
    fn handle_connect(&mut self, cx: &mut Context<'_, Vec<ChannelId>>) -> Result {
        cx.app.push(cx.id);
        cx.map.push(cx.id, thread::current().name().unwrap_or_default().to_owned() + "\n");
        Ok(())
    }

    fn handle_read(&mut self, cx: &mut Context<'_, Vec<ChannelId>>) -> Result {
        if let Received::Data(data) = cx.map.recv(cx.id, 4096)? {
            let data = data.to_vec();
            self.remotes.post_all(move |map, members| {
                map.broadcast(members.iter(), data);
            });
        }
        Ok(())
    }
}

/// Threads with a hub each, at the address that comes back; `during` is called while they serve, then they end.
fn with_hubs(count: usize, during: impl FnOnce(SocketAddr, &Remotes<Vec<ChannelId>>)) {
    let (sender, told) = mpsc::channel();
    let server = thread::spawn(move || {
        serve_threads_with(count, &options(), |thread| {
            let remotes = thread.remotes();
            let listeners = thread.listen("127.0.0.1:0", move |_| Hub { remotes: remotes.clone() })?;
            let at = thread.map.get(listeners[0]).expect("the listener").local_addr()?;
            sender.send((at, thread.remotes()))?;
            Ok(Vec::new())
        })
    });
    let told: Vec<_> = (0..count).map(|_| told.recv_timeout(DEADLINE).expect("a thread to start")).collect();
    let Some(Address::Inet(at)) = told[0].0.clone() else { panic!("{told:?}") };
    assert!(told.iter().all(|(other, _)| *other == Some(at.into())), "one port for all: {told:?}");
    during(at, &told[0].1);
    told[0].1.shutdown(Duration::ZERO);
    in_time(move || server.join().expect("no panic")).expect("a good end");
}

fn first_line(peer: &mut Peer) -> String {
    let mut line = Vec::new();
    while line.last() != Some(&b'\n') {
        line.extend(peer.read_bytes(1));
    }
    String::from_utf8(line).expect("text").trim_end().to_owned()
}

#[cfg(target_os = "linux")]
#[test]
fn connections_to_one_port_are_shared_among_the_threads() {
    with_hubs(3, |at, _| {
        let mut peers: Vec<Peer> = (0..60).map(|_| Peer::connect(&at.into())).collect();
        let names: HashSet<String> = peers.iter_mut().map(first_line).collect();
        assert_eq!(names, ["asyncore-0", "asyncore-1", "asyncore-2"].map(str::to_owned).into());
    });
}

#[test]
fn what_one_loop_posts_to_all_reaches_every_channel_once() {
    with_hubs(3, |at, remotes| {
        let mut peers: Vec<Peer> = (0..20).map(|_| Peer::connect(&at.into())).collect();
        for peer in &mut peers {
            assert!(first_line(peer).starts_with("asyncore-"));
        }
        peers[0].send(b"hello");
        for peer in &mut peers {
            assert_eq!(peer.read_bytes(5), b"hello");
        }
        // One post a loop, however many channels it has: this one is the second.
        let (sender, posts) = mpsc::channel();
        let asked = remotes.post_all(move |map, _| {
            let _ = sender.send(map.counters().posts);
        });
        assert_eq!(asked, 3);
        assert_eq!(posts.iter().collect::<Vec<_>>(), [2; 3]);
    });
}

#[test]
fn the_threads_start_one_after_the_other_and_serve_when_all_have() {
    let (started, served) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicUsize::new(0)));
    let (seen, ran) = (Arc::clone(&started), Arc::clone(&served));
    serve(4, move |thread| {
        seen.lock().unwrap().push((thread.index(), thread.count()));
        assert_eq!(ran.load(Ordering::SeqCst), 0, "nothing is served before all have started");
        let ran = Arc::clone(&ran);
        thread.remotes().get(thread.index()).expect("its own").post(move |_, ()| {
            ran.fetch_add(1, Ordering::SeqCst);
        })?;
        Ok(())
    })
    .unwrap();
    assert_eq!(*started.lock().unwrap(), [(0, 4), (1, 4), (2, 4), (3, 4)]);
    assert_eq!(served.load(Ordering::SeqCst), 4);
}

#[test]
fn the_others_are_all_but_the_thread_itself_wherever_that_is_asked() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let hears = Arc::clone(&heard);
    serve(3, move |thread| {
        let (from, remotes, hears) = (thread.index(), thread.remotes(), Arc::clone(&hears));
        let tell = move |_: &mut Map<usize>, to: &mut usize| hears.lock().unwrap().push((from, *to));
        let told = thread::scope(|scope| scope.spawn(|| remotes.post_others(tell)).join()).unwrap();
        assert_eq!((told, thread.remotes().others().count()), (2, 2));
        Ok(thread.index())
    })
    .unwrap();
    let mut heard = std::mem::take(&mut *heard.lock().unwrap());
    heard.sort_unstable();
    assert_eq!(heard, [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)]);
}

#[test]
fn zero_threads_are_as_many_as_there_are_processors() {
    let starts = AtomicUsize::new(0);
    serve_threads(0, |thread| {
        starts.fetch_add(1, Ordering::SeqCst);
        assert_eq!(thread.count(), thread::available_parallelism()?.get());
        Ok(())
    })
    .unwrap();
    assert_eq!(starts.into_inner(), thread::available_parallelism().unwrap().get());
}

#[test]
fn a_start_that_fails_ends_all_before_anything_is_served() {
    let starts = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&starts);
    let error = serve(4, move |thread| {
        seen.fetch_add(1, Ordering::SeqCst);
        thread.listen("127.0.0.1:0", |_| Silent)?;
        thread.map.after(Duration::ZERO, |_, ()| panic!("served"));
        if thread.index() == 2 { Err("no third thread".into()) } else { Ok(()) }
    })
    .unwrap_err();
    assert_eq!(error.to_string(), "no third thread");
    assert_eq!(starts.load(Ordering::SeqCst), 3, "the fourth was not asked");
}

struct Silent;

impl<A: 'static> Channel<A> for Silent {}

#[test]
fn a_start_that_panics_ends_all_and_is_told() {
    let error = serve(2, |thread| {
        thread.listen("127.0.0.1:0", |_| Silent)?;
        assert_eq!(thread.index(), 0, "one thread is enough");
        Ok(())
    })
    .unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with("thread 1 panicked: ") && text.contains("one thread is enough"), "{text}");
}

#[test]
fn when_one_thread_fails_the_others_shut_down_in_good_order() {
    /// Panics at the end of its thread.
    struct Bomb(bool);
    impl Drop for Bomb {
        fn drop(&mut self) {
            assert!(!self.0, "boom");
        }
    }
    struct Farewell(mpsc::Sender<&'static str>);
    impl Channel<Bomb> for Farewell {
        fn handle_shutdown(&mut self, cx: &mut Context<'_, Bomb>) -> Result {
            self.0.send("farewell")?;
            cx.map.close(cx.id);
            Ok(())
        }
    }
    let (sender, heard) = mpsc::channel();
    let (_peer, here) = Peer::pair();
    let here = Mutex::new(Some(here));
    let error = serve(2, move |thread| {
        if thread.index() == 1 {
            return Ok(Bomb(true));
        }
        let here = here.lock().unwrap().take().expect("the first thread starts once");
        thread.map.add(Dispatcher::try_from(here)?, Farewell(sender.clone()))?;
        Ok(Bomb(false))
    })
    .unwrap_err();
    assert!(error.to_string().starts_with("thread 1 panicked: boom"), "{error}");
    assert_eq!(heard.try_recv(), Ok("farewell"));
}

#[test]
fn a_loop_that_has_ended_takes_no_posts_and_the_others_go_on() {
    let (_peer, here) = Peer::pair();
    let here = Mutex::new(Some(here));
    serve(2, move |thread| {
        if thread.index() == 0 {
            return Ok(());
        }
        let here = here.lock().unwrap().take().expect("the second thread starts once");
        let id = thread.map.add(here, Silent)?;
        let remotes = thread.remotes();
        thread.map.every(Duration::from_millis(1), move |map, ()| {
            if remotes.post_all(|_, ()| ()) == 1 {
                map.close(id);
            }
        });
        Ok(())
    })
    .unwrap();
}

#[test]
fn an_address_in_use_is_told_although_the_threads_share_it() {
    let (sender, told) = mpsc::channel();
    let server = thread::spawn(move || {
        serve_threads_with(2, &options(), |thread| {
            let listeners = thread.listen("127.0.0.1:0", |_| Silent)?;
            let at = thread.map.get(listeners[0]).expect("the listener").local_addr()?.expect("an address");
            sender.send((at, thread.remotes()))?;
            Ok(())
        })
    });
    let (at, remotes) = told.recv_timeout(DEADLINE).unwrap();
    // Both of them.
    told.recv_timeout(DEADLINE).unwrap();
    let Address::Inet(at) = at else { panic!("{at}") };
    let error = serve(2, move |thread| thread.listen(at, |_| Silent).map(drop)).unwrap_err();
    assert!(error.to_string().starts_with(&format!("cannot listen on {at}: ")), "{error}");
    // Unless it is meant to be shared with other programs: then both have to say so.
    let shared = serve(2, move |thread| {
        let mut options = ListenOptions::default();
        options.reuse_port = true;
        thread.listen_with(at, options, |_| Silent)?;
        thread.map.stop();
        Ok(())
    });
    assert!(shared.is_ok(), "{shared:?}");
    remotes.stop();
    in_time(move || server.join().unwrap()).unwrap();
}

#[test]
fn two_listeners_on_free_ports_have_two_ports_each_of_them_shared() {
    let (sender, told) = mpsc::channel();
    serve(3, move |thread| {
        let mut ports = Vec::new();
        for _ in 0..2 {
            let listener = thread.listen("127.0.0.1:0", |_| Silent)?[0];
            let at = thread.map.get(listener).expect("the listener").local_addr()?;
            ports.push(at.and_then(|at| at.port()));
        }
        sender.send(ports)?;
        thread.map.stop();
        Ok(())
    })
    .unwrap();
    let ports: Vec<_> = told.iter().collect();
    assert!(ports.len() == 3 && ports.iter().all(|other| *other == ports[0]), "{ports:?}");
    assert_ne!(ports[0][0], ports[0][1]);
}

#[test]
fn the_remotes_may_go_to_any_thread() {
    fn goes_anywhere<T: Send + Sync + Clone + 'static>() {}
    // Whatever the state of the loops is.
    goes_anywhere::<Remotes<std::rc::Rc<()>>>();
}
