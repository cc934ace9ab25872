//! A network with faults: what a client is told is true, and no message is taken twice or in part.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use asynchat::{AsyncChat, Chat, Conversation, Terminator};
use asyncore::Result;
use asyncore::testing::{Faults, each_seed};
use smtpd::app::App;

use super::world::{World, below_received, hello, options, settings};

/// A server that takes every message, and each number of them hangs up, or is pressed.
struct Next {
    taken: Rc<RefCell<Vec<Vec<u8>>>>,
    messages: usize,
    in_text: bool,
}

impl Chat<App> for Next {
    fn handle_connect(&mut self, cx: &mut Conversation<'_, App>) -> Result {
        cx.push("220 mx.test\r\n");
        Ok(())
    }

    fn found_terminator(&mut self, cx: &mut Conversation<'_, App>, line: &[u8]) -> Result {
        if self.in_text {
            self.in_text = false;
            self.messages += 1;
            cx.set_terminator(Terminator::crlf());
            self.taken.borrow_mut().push(line.to_vec());
            cx.push("250 taken\r\n");
            if self.messages.is_multiple_of(3) {
                cx.close_when_done();
            }
            return Ok(());
        }
        match &line[..4] {
            b"EHLO" => cx.push(hello(&["PIPELINING"])),
            b"DATA" => {
                self.in_text = true;
                cx.framing.set_message_limit(usize::MAX);
                cx.set_terminator(Terminator::dot_stuffed());
                cx.push("354 go\r\n")
            }
            _ => cx.push("250 ok\r\n"),
        };
        Ok(())
    }
}

#[test]
fn whatever_the_network_does_a_message_is_taken_whole_once_if_the_client_is_told_so() -> Result {
    let mut outcomes = HashMap::<String, usize>::new();
    each_seed(40, |seed| {
        let mut world = World::seeded(seed, options(), settings());
        let taken = Rc::<RefCell<Vec<Vec<u8>>>>::default();
        let log = Rc::clone(&taken);
        let make = move |_peer| {
            let next = Next { taken: Rc::clone(&log), messages: 0, in_text: false };
            AsyncChat::new(next).terminator(Terminator::crlf())
        };
        world.sim.map.listen(super::world::NEXT, make)?;
        let mut faults = Faults::harmless();
        if seed % 2 == 1 {
            faults.resets = 0.01;
        }
        let mut clients = Vec::new();
        for number in 0..8 {
            let mut client = world.client();
            client.send("MAIL FROM:<from@a.test>\r\nRCPT TO:<a@b.test>\r\nRCPT TO:<c@d.test>\r\nDATA\r\n");
            let length = if number % 4 == 0 { 100_000 } else { 10 };
            clients.push((client, format!("{number}\r\n{}.x\r\n", "..dots\r\n".repeat(length / 8))));
        }
        world.sim.set_faults(faults);
        for (client, text) in &mut clients {
            client.send(&*text);
            client.send(".\r\nQUIT\r\n");
        }
        world.sim.run_until(Duration::from_secs(1200), |_| {
            clients.iter().all(|(client, _)| client.is_eof() || client.is_reset())
        })?;
        for (number, (client, text)) in clients.iter().enumerate() {
            let sent = text.replace("\r\n.", "\r\n");
            let copies =
                taken.borrow().iter().filter(|taken| below_received(taken) == sent.as_bytes()).count();
            let said = String::from_utf8_lossy(&client.received()).into_owned();
            // Behind the replies to MAIL, RCPT, RCPT and DATA.
            let reply = said.lines().nth(4).unwrap_or("none").to_owned();
            let in_doubt = reply == "none" || reply.contains("may have taken");
            let is_right = match copies {
                0 => !reply.starts_with("250 "),
                1 => reply.starts_with("250 ") || in_doubt,
                _ => false,
            };
            assert!(is_right, "seed {seed}, message {number}: {copies} copies, and {reply:?}");
            *outcomes.entry(reply.chars().take(9).collect()).or_default() += 1;
        }
        let all = clients.iter().map(|(_, text)| text.replace("\r\n.", "\r\n")).collect::<Vec<_>>();
        for taken in taken.borrow().iter() {
            assert!(all.iter().any(|text| below_received(taken) == text.as_bytes()), "half a message");
        }
        Ok(())
    })?;
    println!("{outcomes:?}");
    Ok(())
}
