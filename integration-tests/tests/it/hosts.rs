//! Connecting to a host by its name: the resolver, the addresses tried one beside the other, and what is told of it.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use asynchat::{AsyncChat, Chat, Conversation};
use asyncore::testing::{Faults, Simulation, each_seed};
use asyncore::{
    ATTEMPT_DELAY, Address, Channel, ChannelId, CloseReason, Context, Dispatcher, Error, HostError,
    MOST_ADDRESSES, MOST_ATTEMPTS, Options, Pushed, Result, State, Timeout,
};

pub(crate) type Log = Vec<String>;

/// Keeps a log of what it hears.
pub(crate) struct Caller;

impl Channel<Log> for Caller {
    fn handle_connect(&mut self, cx: &mut Context<'_, Log>) -> Result {
        let peer = cx.map.get(cx.id).and_then(Dispatcher::peer_addr).ok_or("it has a peer")?;
        cx.app.push(format!("connect {peer}"));
        Ok(())
    }

    fn handle_error(&mut self, cx: &mut Context<'_, Log>, error: &Error) {
        assert!(error.is::<HostError>(), "{error:?}");
        cx.app.push(format!("error {error}"));
        cx.map.close(cx.id);
    }

    fn handle_close(&mut self, cx: &mut Context<'_, Log>, reason: CloseReason) {
        cx.app.push(format!("close {reason:?}"));
    }
}

const NAME: &str = "mail.example";

fn ips(list: &[&str]) -> Vec<IpAddr> {
    list.iter().map(|ip| ip.parse().expect("an IP address")).collect()
}

fn at(ip: &str) -> Address {
    SocketAddr::new(ip.parse().expect("an IP address"), 25).into()
}

/// A simulation in which the name has these addresses.
fn named(list: &[&str]) -> Result<Simulation<Log>> {
    let mut sim = Simulation::new(Log::new())?;
    sim.set_host(NAME, ips(list));
    Ok(sim)
}

/// A network on which everything takes up to so many milliseconds.
fn slow(mut faults: Faults, most: u64) -> Faults {
    faults.delay = Duration::from_millis(most);
    faults
}

fn call(sim: &mut Simulation<Log>) -> Result<ChannelId> {
    sim.map.connect_host(NAME, 25, Caller)
}

#[test]
fn a_name_is_resolved_and_connected_to() -> Result {
    let mut sim = named(&["192.0.2.1"])?;
    let server = sim.listen(at("192.0.2.1"))?;
    let id = sim.map.connect_host("Mail.Example.", 25, Caller)?;
    assert_eq!(sim.map.get(id).map(Dispatcher::state), Some(State::Connecting));
    let mut peer = sim.expect_accept(&server)?;
    sim.settle()?;
    assert_eq!(sim.app, ["connect 192.0.2.1:25"]);
    assert_eq!(sim.map.len(), 1, "what tried the address is gone");
    sim.map.push(id, "hello\r\n");
    assert_eq!(sim.expect_line(&mut peer)?, "hello");
    peer.close();
    sim.settle()?;
    assert_eq!(sim.app.last().map(String::as_str), Some("close Eof"));
    Ok(())
}

#[test]
fn when_one_has_answered_no_other_is_tried() -> Result {
    let mut sim = named(&["2001:db8::1", "192.0.2.1", "192.0.2.2"])?;
    sim.black_hole(at("2001:db8::1"));
    let first = sim.listen(at("192.0.2.1"))?;
    let second = sim.listen(at("192.0.2.2"))?;
    call(&mut sim)?;
    sim.advance(Duration::from_secs(3600))?;
    assert_eq!(sim.app, ["connect 192.0.2.1:25"]);
    let accepted = [&first, &second].map(|server| sim.accept(server).is_some());
    assert_eq!(accepted, [true, false]);
    Ok(())
}

#[test]
fn what_is_pushed_before_arrives_once_and_what_is_to_close_does_so_after_it() -> Result {
    let mut sim = named(&["2001:db8::1", "192.0.2.1"])?;
    sim.black_hole(at("2001:db8::1"));
    let server = sim.listen(at("192.0.2.1"))?;
    let id = call(&mut sim)?;
    assert_eq!(sim.map.push(id, "early\r\n"), Pushed::Queued);
    sim.settle()?;
    assert_eq!(sim.map.push(id, "later\r\n"), Pushed::Queued);
    sim.map.close_when_done(id);
    let mut peer = sim.expect_accept(&server)?;
    sim.expect(&mut peer, "early\r\nlater\r\n")?;
    sim.expect_eof(&mut peer)?;
    peer.close();
    sim.settle()?;
    assert_eq!(sim.app, ["connect 192.0.2.1:25", "close Local"]);
    assert!(sim.map.is_empty());
    Ok(())
}

#[test]
fn an_address_that_fails_is_followed_by_the_next_at_once() -> Result {
    let mut sim = named(&["2001:db8::1", "192.0.2.1"])?;
    let _server = sim.listen(at("192.0.2.1"))?;
    call(&mut sim)?;
    sim.settle()?;
    assert_eq!(sim.app, ["connect 192.0.2.1:25"]);
    assert_eq!(sim.elapsed(), Duration::ZERO);
    Ok(())
}

#[test]
fn an_address_that_does_not_answer_is_followed_by_the_next_after_the_attempt_delay() -> Result {
    let mut sim = named(&["2001:db8::1", "192.0.2.1"])?;
    sim.black_hole(at("2001:db8::1"));
    let server = sim.listen(at("192.0.2.1"))?;
    let id = call(&mut sim)?;
    sim.advance(ATTEMPT_DELAY - Duration::from_millis(1))?;
    assert_eq!((sim.app.len(), sim.map.len()), (0, 2));
    let tried: Vec<_> = sim.map.host_error(id).ok_or("not connected")?.tried().map(|(at, _)| at).collect();
    assert_eq!(tried, ["[2001:db8::1]:25".parse()?]);
    sim.advance(Duration::from_millis(1))?;
    assert_eq!(sim.app, ["connect 192.0.2.1:25"]);
    assert_eq!(sim.map.len(), 1, "the one that did not answer is closed");
    assert!(sim.map.host_error(id).is_none(), "connected");
    sim.expect_accept(&server).map(drop)
}

#[test]
fn families_take_turns_and_every_failure_is_told() -> Result {
    let mut sim = named(&["2001:db8::1", "2001:db8::2", "192.0.2.1", "192.0.2.2"])?;
    sim.black_hole(at("2001:db8::2"));
    let id = call(&mut sim)?;
    sim.map.set_timeout(id, Timeout::Connect, Some(Duration::from_secs(9)));
    sim.advance(Duration::from_secs(8))?;
    assert_eq!(sim.app.len(), 0);
    sim.advance(Duration::from_secs(1))?;
    assert_eq!(
        sim.app,
        [
            "error cannot connect to mail.example:25: [2001:db8::1]:25: connection refused; \
             192.0.2.1:25: connection refused; [2001:db8::2]:25: no answer; 192.0.2.2:25: connection refused",
            "close TimedOut(Connect)"
        ]
    );
    assert!(sim.map.is_empty());
    Ok(())
}

#[test]
fn when_all_addresses_fail_the_channel_hears_of_it_once() -> Result {
    let mut sim = named(&["2001:db8::1", "192.0.2.1"])?;
    let id = call(&mut sim)?;
    assert_eq!(sim.map.push(id, "lost"), Pushed::Queued);
    sim.run()?;
    assert_eq!(
        sim.app,
        [
            "error cannot connect to mail.example:25: [2001:db8::1]:25: connection refused; \
             192.0.2.1:25: connection refused",
            "close Refused"
        ]
    );
    assert_eq!(sim.map.queued(), 0);
    Ok(())
}

#[test]
fn an_error_says_what_was_tried() -> Result {
    struct Asks;
    impl Channel<Log> for Asks {
        fn handle_error(&mut self, _cx: &mut Context<'_, Log>, error: &Error) {
            let error = error.downcast_ref::<HostError>().expect("a host's error");
            assert_eq!((error.host(), error.port()), (NAME, 25));
            let tried: Vec<_> =
                error.tried().map(|(at, error)| (at, error.map(std::io::Error::kind))).collect();
            let at = "192.0.2.1:25".parse().expect("an address");
            assert_eq!(tried, [(at, Some(std::io::ErrorKind::ConnectionRefused))]);
        }

        fn handle_close(&mut self, cx: &mut Context<'_, Log>, reason: CloseReason) {
            assert_eq!(reason, CloseReason::Refused, "it cannot stay open");
            cx.app.push("closed".to_owned());
        }
    }
    let mut sim = named(&["192.0.2.1"])?;
    sim.map.connect_host(NAME, 25, Asks)?;
    sim.run()?;
    assert_eq!(sim.app, ["closed"]);
    Ok(())
}

#[test]
fn a_name_that_nobody_knows_is_told_as_such() -> Result {
    let mut sim = Simulation::new(Log::new())?;
    call(&mut sim)?;
    sim.run()?;
    assert_eq!(
        sim.app,
        ["error cannot connect to mail.example:25: the name is not known", "close Unresolved"]
    );
    let mut sim = named(&[])?;
    call(&mut sim)?;
    sim.run()?;
    assert_eq!(
        sim.app,
        ["error cannot connect to mail.example:25: the name has no address", "close Unresolved"]
    );
    Ok(())
}

#[test]
fn what_can_be_no_host_is_refused_at_once() -> Result {
    let mut sim = Simulation::new(Log::new())?;
    for (host, text) in [
        ("", "cannot connect to :25: the host name is empty"),
        ("a\0b", "cannot connect to a\\0b:25: the host name holds a NUL"),
        (
            "mail.example:25",
            "cannot connect to [mail.example:25]:25: the host is neither a name nor an IPv6 address",
        ),
    ] {
        let error = sim.map.connect_host(host, 25, Caller).expect_err("no host");
        assert_eq!(error.to_string(), text);
    }
    assert!(sim.map.connect_host(&"a".repeat(254), 25, Caller).is_err());
    assert!(sim.map.is_empty());
    Ok(())
}

#[test]
fn addresses_in_words_need_no_resolver() -> Result {
    for (host, peer) in [
        ("192.0.2.1", "192.0.2.1:25"),
        ("2001:db8::1", "[2001:db8::1]:25"),
        ("[2001:db8::1]", "[2001:db8::1]:25"),
        ("[fe80::1%7]", "[fe80::1%7]:25"),
    ] {
        let mut sim = Simulation::new(Log::new())?;
        sim.set_faults(slow(Faults::none(), 1_000));
        let server = sim.listen(peer.parse::<Address>()?)?;
        sim.map.connect_host(host, 25, Caller)?;
        sim.turn()?;
        assert_eq!(sim.map.len(), 2, "it is being tried already");
        let _peer = sim.expect_accept(&server)?;
        sim.settle()?;
        assert_eq!(sim.app, [format!("connect {peer}")]);
        sim.map.connect_host(host, 26, Caller)?;
        sim.settle()?;
        let text = format!("error cannot connect to {}: connection refused", peer.replace(":25", ":26"));
        assert_eq!(sim.app[1..], [text, "close Refused".to_owned()]);
    }
    Ok(())
}

#[test]
fn the_time_for_a_connect_is_for_the_resolver_too() -> Result {
    let mut sim = named(&["192.0.2.1"])?;
    let mut options = asyncore::Limits::default();
    options.connect_time = Some(Duration::from_millis(1));
    sim.set_faults(slow(Faults::none(), 3_600_000));
    let id = call(&mut sim)?;
    sim.map.set_limits(id, options);
    sim.run()?;
    assert_eq!(
        sim.app,
        ["error cannot connect to mail.example:25: no answer from the resolver", "close TimedOut(Connect)"]
    );
    assert_eq!(sim.elapsed(), Duration::from_millis(1));
    sim.settle()?;
    assert_eq!(sim.app.len(), 2, "its answer comes too late for anybody");
    Ok(())
}

#[test]
fn a_timeout_that_is_overridden_can_ask_what_was_tried() -> Result {
    struct Asks;
    impl Channel<Log> for Asks {
        fn handle_timeout(&mut self, cx: &mut Context<'_, Log>, which: Timeout) -> Result {
            let error = cx.map.host_error(cx.id).ok_or("it connects to a host")?;
            cx.app.push(format!("{which:?} {error}"));
            Ok(())
        }

        fn handle_close(&mut self, cx: &mut Context<'_, Log>, reason: CloseReason) {
            cx.app.push(format!("close {reason:?}"));
        }
    }
    let mut sim = named(&["192.0.2.1"])?;
    sim.black_hole(at("192.0.2.1"));
    let id = sim.map.connect_host(NAME, 25, Asks)?;
    sim.map.set_timeout(id, Timeout::Connect, Some(Duration::from_secs(1)));
    sim.run()?;
    assert_eq!(
        sim.app,
        ["Connect cannot connect to mail.example:25: 192.0.2.1:25: no answer", "close TimedOut(Connect)"]
    );
    Ok(())
}

#[test]
fn a_chat_hears_what_a_channel_hears() -> Result {
    struct Greets;
    impl Chat<Log> for Greets {
        fn handle_connect(&mut self, cx: &mut Conversation<'_, Log>) -> Result {
            cx.push("hello\r\n");
            Ok(())
        }

        fn found_terminator(&mut self, cx: &mut Conversation<'_, Log>, line: &[u8]) -> Result {
            cx.app.push(String::from_utf8_lossy(line).into_owned());
            Ok(())
        }

        fn handle_error(&mut self, cx: &mut Conversation<'_, Log>, error: &Error) {
            cx.app.push(error.to_string());
        }

        fn handle_close(&mut self, cx: &mut Conversation<'_, Log>, reason: CloseReason) {
            cx.app.push(format!("{reason:?}"));
        }
    }
    let chat = || AsyncChat::new(Greets).terminator(b"\r\n");
    let mut sim = named(&["2001:db8::1", "192.0.2.1"])?;
    let server = sim.listen(at("192.0.2.1"))?;
    sim.map.connect_host(NAME, 25, chat())?;
    let mut peer = sim.expect_accept(&server)?;
    assert_eq!(sim.expect_line(&mut peer)?, "hello");
    peer.send("and hello\r\n");
    sim.settle()?;
    drop(peer);
    sim.run()?;
    assert_eq!(sim.app, ["and hello", "Eof"]);
    sim.black_hole(at("192.0.2.1"));
    let id = sim.map.connect_host(NAME, 25, chat())?;
    sim.map.set_timeout(id, Timeout::Connect, Some(Duration::from_secs(1)));
    sim.run()?;
    let text =
        "cannot connect to mail.example:25: [2001:db8::1]:25: connection refused; 192.0.2.1:25: no answer";
    assert_eq!(sim.app[2..], [text, "TimedOut(Connect)"]);
    Ok(())
}

#[test]
fn a_channel_that_is_closed_meanwhile_leaves_nothing_behind() -> Result {
    for settled in [false, true] {
        let mut sim = named(&["2001:db8::1", "192.0.2.1"])?;
        let _server = sim.listen(at("192.0.2.1"))?;
        sim.black_hole(at("2001:db8::1"));
        let id = call(&mut sim)?;
        if settled {
            sim.turn()?;
            sim.turn()?;
            assert_eq!(sim.map.len(), 2, "an address is being tried");
        }
        sim.map.close(id);
        sim.turn()?;
        assert!(sim.map.is_empty());
        sim.advance(Duration::from_secs(3600))?;
        assert_eq!(sim.app, ["close Local"]);
        assert!(sim.map.is_empty());
    }
    Ok(())
}

#[test]
fn the_first_to_answer_has_the_channel_and_the_others_are_closed() -> Result {
    each_seed(100, |seed| {
        let mut sim = Simulation::with_seed(seed, Log::new())?;
        let list = ["2001:db8::1", "192.0.2.1", "192.0.2.2"];
        sim.set_host(NAME, ips(&list));
        sim.set_faults(slow(Faults::harmless(), 600));
        let mut servers = Vec::new();
        for ip in list {
            servers.push((at(ip), sim.listen(at(ip))?));
        }
        let id = call(&mut sim)?;
        sim.map.push(id, "hello\r\n");
        sim.run_until(Duration::from_secs(60), |sim| !sim.app.is_empty())?;
        sim.advance(Duration::from_secs(10))?;
        let winner = sim.map.get(id).and_then(Dispatcher::peer_addr).ok_or("connected")?;
        assert_eq!(sim.app, [format!("connect {winner}")]);
        assert_eq!(sim.map.len(), 1);
        for (at, server) in servers {
            while let Some(mut peer) = sim.accept(&server) {
                if at == winner {
                    assert_eq!(sim.expect_line(&mut peer)?, "hello");
                } else {
                    sim.expect_eof(&mut peer)?;
                }
            }
        }
        Ok(())
    })
}

#[test]
fn whatever_the_network_does_a_connect_is_told_once() -> Result {
    each_seed(300, |seed| {
        let mut sim = Simulation::with_seed(seed, Log::new())?;
        let list = ["2001:db8::1", "192.0.2.1", "2001:db8::2", "192.0.2.2"];
        sim.set_host(NAME, ips(&list));
        let mut faults = slow(Faults::harmless(), 400);
        faults.resets = 0.05;
        sim.set_faults(faults);
        let mut servers = Vec::new();
        for (place, ip) in list.into_iter().enumerate() {
            match (seed >> (2 * place)) & 3 {
                0 => sim.black_hole(at(ip)),
                1 => {}
                _ => servers.push(sim.listen(at(ip))?),
            }
        }
        let id = call(&mut sim)?;
        sim.map.set_timeout(id, Timeout::Connect, Some(Duration::from_millis(700)));
        sim.advance(Duration::from_secs(10))?;
        sim.map.close(id);
        sim.settle()?;
        let kinds: Vec<&str> = sim.app.iter().filter_map(|line| line.split(' ').next()).collect();
        assert!(matches!(kinds[..], ["connect" | "error", "close"]), "{:?}", sim.app);
        assert!(sim.map.is_empty());
        Ok(())
    })
}

#[test]
fn only_so_many_addresses_are_tried_and_only_so_many_at_a_time() -> Result {
    let many: Vec<String> = (0..=MOST_ADDRESSES).map(|n| format!("192.0.2.{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let mut sim = named(&many)?;
    for ip in &many {
        sim.black_hole(at(ip));
    }
    let id = call(&mut sim)?;
    sim.advance(Duration::from_secs(3600))?;
    assert_eq!(sim.map.len(), 1 + MOST_ATTEMPTS);
    let error = sim.map.host_error(id).ok_or("it has no end")?;
    assert_eq!(error.tried().count(), MOST_ATTEMPTS);
    let untried = MOST_ADDRESSES - MOST_ATTEMPTS;
    assert!(error.to_string().ends_with(&format!("no answer; {untried} more not tried")), "{error}");
    let attempt =
        sim.map.iter().map(|(id, _)| id).find(|other| *other != id).ok_or("attempts are channels")?;
    sim.map.close(attempt);
    sim.settle()?;
    let error = sim.map.host_error(id).ok_or("it goes on")?;
    assert_eq!(error.tried().count(), MOST_ATTEMPTS + 1, "the next took its place");
    assert!(error.to_string().contains("192.0.2.0:25: closed here; "), "{error}");
    Ok(())
}

#[test]
fn an_attempt_that_is_removed_counts_as_failed() -> Result {
    let mut sim = named(&["2001:db8::1", "192.0.2.1"])?;
    sim.black_hole(at("2001:db8::1"));
    let _server = sim.listen(at("192.0.2.1"))?;
    let id = call(&mut sim)?;
    sim.turn()?;
    sim.turn()?;
    let attempt =
        sim.map.iter().map(|(id, _)| id).find(|other| *other != id).ok_or("attempts are channels")?;
    let (dispatcher, _) = sim.map.remove(attempt).ok_or("it was there")?;
    drop(dispatcher);
    sim.settle()?;
    assert_eq!((sim.app, sim.map.len()), (vec!["connect 192.0.2.1:25".to_owned()], 1));
    Ok(())
}

#[test]
fn a_channel_that_is_removed_begins_anew_where_it_is_added() -> Result {
    for turns in 0..4 {
        let mut sim = named(&["2001:db8::1", "192.0.2.1"])?;
        sim.black_hole(at("2001:db8::1"));
        let server = sim.listen(at("192.0.2.1"))?;
        let id = call(&mut sim)?;
        sim.map.push(id, "kept\r\n");
        for _ in 0..turns {
            sim.turn()?;
        }
        let (dispatcher, handler) = sim.map.remove(id).ok_or("it was there")?;
        sim.advance(Duration::from_secs(3600))?;
        assert!(sim.map.is_empty() && sim.app.is_empty());
        sim.map.insert(dispatcher, handler)?;
        let mut peer = sim.expect_accept(&server)?;
        assert_eq!(sim.expect_line(&mut peer)?, "kept");
        assert_eq!(sim.app, ["connect 192.0.2.1:25"]);
    }
    Ok(())
}

#[test]
fn a_shutdown_does_not_wait_for_a_connect_without_output() -> Result {
    for turns in 0..4 {
        let mut sim = named(&["192.0.2.1"])?;
        sim.black_hole(at("192.0.2.1"));
        sim.set_faults(slow(Faults::none(), 9_000));
        call(&mut sim)?;
        for _ in 0..turns {
            sim.turn()?;
        }
        sim.map.shutdown(Duration::from_secs(60));
        sim.run()?;
        assert_eq!((sim.elapsed(), sim.app), (Duration::ZERO, vec!["close ShutDown".to_owned()]));
    }
    Ok(())
}

#[test]
fn a_shutdown_lets_a_connect_with_output_go_on_until_its_deadline() -> Result {
    let mut sim = named(&["2001:db8::1", "192.0.2.1"])?;
    sim.black_hole(at("2001:db8::1"));
    let server = sim.listen(at("192.0.2.1"))?;
    let id = call(&mut sim)?;
    sim.map.push(id, "bye\r\n");
    sim.map.shutdown(Duration::from_secs(60));
    let mut peer = sim.expect_accept(&server)?;
    assert_eq!(sim.expect_line(&mut peer)?, "bye");
    sim.expect_eof(&mut peer)?;
    drop(peer);
    sim.run()?;
    sim.black_hole(at("192.0.2.1"));
    sim.app.clear();
    let began = sim.elapsed();
    let id = call(&mut sim)?;
    sim.map.push(id, "bye\r\n");
    sim.map.shutdown(Duration::from_secs(60));
    sim.run()?;
    assert_eq!(sim.app, ["close ShutDown"]);
    assert!(sim.map.is_empty());
    assert_eq!(began, ATTEMPT_DELAY);
    Ok(())
}

#[test]
fn without_a_descriptor_the_addresses_fail() -> Result {
    let mut sim = named(&["2001:db8::1", "192.0.2.1"])?;
    sim.set_descriptors(0);
    call(&mut sim)?;
    sim.run()?;
    let text = sim.app.first().ok_or("it failed")?;
    assert_eq!(text.matches("Too many open files").count(), 2, "{text}");
    Ok(())
}

#[test]
fn a_map_with_too_much_blocking_work_looks_no_name_up() -> Result {
    let mut options = Options::default();
    options.jobs = 2;
    let mut sim = Simulation::with_options(0, options, Log::new())?;
    sim.set_faults(slow(Faults::none(), 1000));
    sim.set_host(NAME, ips(&["192.0.2.1"]));
    for _ in 0..3 {
        call(&mut sim)?;
    }
    sim.turn()?;
    assert_eq!(
        sim.app,
        ["error cannot connect to mail.example:25: too much blocking work is under way", "close Unresolved"]
    );
    sim.app.clear();
    sim.run()?;
    call(&mut sim)?;
    sim.run()?;
    let refused = "error cannot connect to mail.example:25: 192.0.2.1:25: connection refused";
    assert_eq!(sim.app, [refused, "close Refused"].repeat(3), "the answers made room");
    Ok(())
}

#[test]
fn options_of_a_socket_that_is_still_to_come_are_not_taken() -> Result {
    let mut sim = named(&["192.0.2.1"])?;
    let id = call(&mut sim)?;
    let dispatcher = sim.map.get(id).ok_or("it is there")?;
    assert!(dispatcher.set_keepalive(true, None).is_err() && dispatcher.set_linger(None).is_err());
    assert_eq!((dispatcher.peer_addr(), dispatcher.local_addr()?), (None, None));
    Ok(())
}
