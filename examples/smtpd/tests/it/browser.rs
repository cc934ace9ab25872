//! The page in a browser: headless Chromium, told what to do over a pair of pipes.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Instant;

use integration_tests::{DEADLINE, is_installed};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde_json::{Value, json};

use crate::program::{Program, files, until};
use crate::web::send;

/// A browser with one page.
struct Browser {
    child: Child,
    commands: File,
    /// What it says: answers, and events of the page.
    said: Receiver<Value>,
    events: Vec<Value>,
    session: Option<String>,
    last: u64,
    _profile: tempfile::TempDir,
}

impl Browser {
    /// A browser that looks at the page of a server; `None` if there is no browser.
    fn open(program: &Program) -> Option<Self> {
        if !is_installed("chromium", "--version") {
            return None;
        }
        let profile = tempfile::tempdir().unwrap();
        let fifo = |name: &str| {
            let path = profile.path().join(name);
            mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
            path
        };
        let (commands, answers) = (fifo("commands"), fifo("answers"));
        let child = chromium(&commands, &answers, &profile.path().join("profile"));
        let (commands, answers) = (File::create(commands).unwrap(), File::open(answers).unwrap());
        let (tell, said) = mpsc::channel();
        // It ends with the browser.
        thread::spawn(move || {
            let answers = BufReader::new(answers).split(0);
            answers
                .map_while(Result::ok)
                .try_for_each(|text| tell.send(serde_json::from_slice(&text).unwrap()))
        });
        let mut browser =
            Self { child, commands, said, events: Vec::new(), session: None, last: 0, _profile: profile };
        let target = browser.call("Target.createTarget", &json!({"url": "about:blank"}));
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let attached = browser.call("Target.attachToTarget", &attach);
        browser.session = Some(attached["sessionId"].as_str().unwrap().to_owned());
        for domain in ["Log", "Network", "Page", "Runtime"] {
            browser.call(&format!("{domain}.enable"), &json!({}));
        }
        browser.call("Page.navigate", &json!({"url": format!("http://{}/", program.web())}));
        browser.until("document.querySelector('#state')?.textContent === 'live'");
        Some(browser)
    }

    /// Has it do something: its answer.
    #[track_caller]
    fn call(&mut self, method: &str, parameters: &Value) -> Value {
        self.last += 1;
        let mut command = json!({"id": self.last, "method": method, "params": parameters});
        if let Some(session) = &self.session {
            command["sessionId"] = session.as_str().into();
        }
        write!(self.commands, "{command}\0").unwrap();
        loop {
            let said = self.said.recv_timeout(DEADLINE).unwrap_or_else(|_| panic!("no answer to {method}"));
            if said["id"] == self.last {
                assert!(said["error"].is_null(), "{method}: {said}");
                return said["result"].clone();
            }
            self.events.push(said);
        }
    }

    /// What an expression comes to in the page.
    #[track_caller]
    fn ask(&mut self, expression: &str) -> Value {
        let parameters = json!({"expression": expression, "awaitPromise": true, "returnByValue": true});
        let answer = self.call("Runtime.evaluate", &parameters);
        assert!(answer["exceptionDetails"].is_null(), "{expression}: {answer}");
        answer["result"]["value"].clone()
    }

    /// Waits until something is so in the page.
    #[track_caller]
    fn until(&mut self, condition: &str) {
        let deadline = Instant::now() + DEADLINE;
        while self.ask(&format!("Boolean({condition})")) != true {
            let page = self.ask("document.body.innerText");
            assert!(Instant::now() < deadline, "timed out waiting for {condition} in {page}");
            thread::sleep(std::time::Duration::from_millis(20));
        }
    }

    /// Strikes a key.
    fn strike(&mut self, key: &str) {
        let code = match key {
            "Enter" => 13,
            "Escape" => 27,
            "End" => 35,
            "ArrowRight" => 39,
            "ArrowDown" => 40,
            "Delete" => 46,
            letter => u32::from(letter.as_bytes()[0].to_ascii_uppercase()),
        };
        let text = if key == "Enter" { "\r" } else { key };
        let mut down = json!({"type": "keyDown", "key": key, "windowsVirtualKeyCode": code});
        if text.len() == 1 {
            down["text"] = text.into();
        }
        self.call("Input.dispatchKeyEvent", &down);
        down["type"] = "keyUp".into();
        self.call("Input.dispatchKeyEvent", &down);
    }

    /// The subjects that are listed, the chosen one behind an arrow.
    fn subjects(&mut self) -> Value {
        self.ask(
            "[...document.querySelectorAll('#messages li')].map((row) => \
             (row.ariaSelected === 'true' ? '> ' : '') + row.querySelector('.subject').textContent)",
        )
    }

    /// Everything that it has asked anybody for.
    fn requests(&self) -> impl Iterator<Item = &str> {
        let of = |event: &&Value| event["method"] == "Network.requestWillBeSent";
        self.events.iter().filter(of).filter_map(|event| event["params"]["request"]["url"].as_str())
    }

    /// What it complains of: errors of the script, and what the policies of the page did not allow.
    fn complaints(&self) -> Vec<&Value> {
        let of = |event: &&Value| {
            ["Log.entryAdded", "Runtime.exceptionThrown"].iter().any(|method| event["method"] == *method)
        };
        self.events.iter().filter(of).map(|event| &event["params"]).collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Starts it, with the pipes where it looks for them: descriptors 3 and 4.
fn chromium(commands: &Path, answers: &Path, profile: &Path) -> Child {
    let mut shell = Command::new("sh");
    shell.args(["-c", "exec chromium \"$@\" 3<\"$COMMANDS\" 4>\"$ANSWERS\"", "sh"]);
    shell.args(["--headless", "--disable-gpu", "--disable-dev-shm-usage", "--remote-debugging-pipe"]);
    // Its own sandbox needs privileges that a container has not; what it shows here is ours.
    shell.arg("--no-sandbox").arg(format!("--user-data-dir={}", profile.display())).arg("about:blank");
    shell.env("COMMANDS", commands).env("ANSWERS", answers);
    shell.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

const HTML: &str = "From: Shop <shop@example.org>\r\nSubject: order\r\nMIME-Version: 1.0\r\n\
    Content-Type: multipart/mixed; boundary=x\r\n\r\n\
    --x\r\nContent-Type: text/html\r\n\r\n<h1 onclick='top.document.title=1'>Thanks</h1>\
    <script>top.document.title = 'owned'</script><img src=https://track.example/a.gif>\
    <img src=x onerror=\"top.document.title='owned'\"><style>h1 { background: url(//track.example) }</style>\
    <iframe src=//track.example></iframe><form action=//track.example></form>\r\n\
    --x\r\nContent-Type: application/pdf\r\nContent-Disposition: attachment; filename=\"a b.pdf\"\r\n\r\n%PDF\r\n--x--\r\n";

#[test]
fn the_page_shows_mail_as_it_comes_and_is_used_with_the_keyboard() {
    let mut program = Program::start(&[]);
    let Some(mut browser) = Browser::open(&program) else { return };
    browser.until("document.querySelector('#empty').textContent.startsWith('No mail yet')");
    for number in ["one", "two", "three"] {
        send(&program, &format!("Subject: {number}\r\n\r\nThe text of {number}, <b>as it is</b>.\r\n"));
    }
    send(&program, HTML);
    browser.until("document.querySelectorAll('#messages li').length === 4");
    assert_eq!(browser.subjects(), json!(["order", "three", "two", "one"]));
    assert_eq!(browser.ask("document.title"), "smtpd (4)");

    // j chooses the first, Enter opens it: HTML, in a frame that is no page of this server.
    browser.ask("document.querySelector('#messages').focus()");
    browser.strike("j");
    assert_eq!(browser.subjects()[0], "> order");
    browser.strike("Enter");
    browser.until("document.querySelector('#view-html iframe')");
    assert_eq!(
        browser.ask("document.querySelector('iframe').getAttribute('sandbox')"),
        "allow-popups allow-popups-to-escape-sandbox"
    );
    assert_eq!(browser.ask("document.querySelector('iframe').contentDocument"), Value::Null);
    assert_eq!(browser.ask("document.querySelector('#subject').textContent"), "order");
    assert_eq!(browser.ask("document.activeElement.id"), "subject");
    // The tabs go with the arrows: to the headers, the source and the file.
    browser.ask("document.querySelector('[role=tab][aria-selected=true]').focus()");
    for (tab, words) in [
        ("text", "Thanks"),
        ("headers", "Received"),
        ("source", "Content-Type: text/html"),
        ("files", "a b.pdf"),
    ] {
        browser.strike("ArrowRight");
        assert_eq!(browser.ask("document.activeElement.id"), format!("tab-{tab}"));
        browser.until(&format!(
            "document.querySelector('#view-{tab}:not([hidden])').textContent.includes('{words}')"
        ));
    }
    // The next one has no HTML: its text is shown as it is.
    browser.strike("j");
    browser.until("document.querySelector('#subject').textContent === 'three'");
    browser.until("document.querySelector('#view-text').textContent.includes('<b>as it is</b>')");
    assert_eq!(browser.ask("document.querySelector('#tab-html').hidden"), true);

    // Delete deletes it, and the next one is chosen; Escape closes.
    browser.strike("Delete");
    browser.until("document.querySelectorAll('#messages li').length === 3");
    assert_eq!(browser.subjects(), json!(["order", "> two", "one"]));
    assert_eq!(files(&program.folder().join("Maildir/new")).len(), 3);
    browser.strike("Enter");
    browser.until("document.querySelector('#subject').textContent === 'two'");
    browser.strike("Escape");
    assert_eq!(browser.ask("document.querySelector('#message').hidden"), true);
    // The slash searches, Escape ends that.
    browser.strike("/");
    for letter in ["o", "n", "e"] {
        browser.strike(letter);
    }
    browser.until("document.querySelectorAll('#messages li').length === 1");
    assert_eq!(browser.subjects(), json!(["> one"]));
    browser.strike("Escape");
    browser.until("document.querySelectorAll('#messages li').length === 3");
    assert_eq!(browser.ask("document.activeElement.id"), "messages");
    // What another program removes goes away by itself.
    drop(std::fs::remove_file(&files(&program.folder().join("Maildir/new"))[0]));
    browser.until("document.querySelectorAll('#messages li').length === 2");
    // c shows the channels.
    browser.strike("c");
    browser.until("document.querySelector('#channels tbody').textContent.includes('browser')");
    browser.strike("Escape");
    // All go at once, once that was asked for twice.
    browser.ask("document.querySelector('#delete-all').click()");
    assert_eq!(browser.ask("document.querySelector('#question').textContent"), "Delete all 2 messages?");
    browser.strike("Escape");
    browser.until("!document.querySelector('#sure').open");
    assert_eq!(files(&program.folder().join("Maildir/new")).len(), 2);
    browser.ask("document.querySelector('#delete-all').click()");
    browser.ask("document.querySelector('#sure [value=delete]').click()");
    until("all files to be deleted", || {
        files(&program.folder().join("Maildir/new")).is_empty().then_some(())
    });
    browser.until("document.querySelectorAll('#messages li').length === 0");

    // Nothing of the message has run, and nobody else was asked for anything.
    assert_eq!(browser.ask("document.title"), "smtpd");
    let own = format!("http://{}/", program.web());
    for request in browser.requests() {
        assert!(request.starts_with(&own) || request.starts_with("data:"), "{request}");
    }
    assert_eq!(browser.complaints(), [&Value::Null; 0]);
    // An open page keeps no server from its end.
    assert!(program.stop().success());
    browser.until("document.querySelector('#state').textContent === 'no answer'");
}

#[test]
fn the_page_is_dark_or_light_and_wide_or_narrow_as_its_reader_is() {
    let program = Program::start(&[]);
    let Some(mut browser) = Browser::open(&program) else { return };
    let color = "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)[0]";
    for (scheme, is_light) in [("light", true), ("dark", false)] {
        let features = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        browser.call("Emulation.setEmulatedMedia", &features);
        assert_eq!(browser.ask(color).as_u64().is_some_and(|red| red > 127), is_light, "{scheme}");
    }
    send(&program, HTML);
    browser.until("document.querySelectorAll('#messages li').length === 1");
    let size = json!({"width": 360, "height": 640, "deviceScaleFactor": 1, "mobile": true});
    browser.call("Emulation.setDeviceMetricsOverride", &size);
    browser.ask("document.querySelector('#messages li').click()");
    browser.until("document.querySelector('#view-html iframe')");
    // The message takes the place of the list, and nothing is wider than the window.
    assert_eq!(browser.ask("getComputedStyle(document.querySelector('#list')).display"), "none");
    assert_eq!(browser.ask("document.documentElement.scrollWidth <= 360"), true);
    browser.ask("document.querySelector('#back').click()");
    assert_eq!(browser.ask("document.querySelector('#message').hidden"), true);
    assert_eq!(browser.ask("document.documentElement.scrollWidth <= 360"), true);
}

#[test]
fn the_page_of_a_server_that_keeps_nothing_shows_the_channels_and_says_why() {
    let program = Program::start(&["--sink"]);
    let Some(mut browser) = Browser::open(&program) else { return };
    browser.until("document.querySelector('#destination').textContent === 'Messages go to: sink. None is kept here to be shown.'");
    send(&program, HTML);
    browser.until("document.querySelector('#figures').textContent.startsWith('messages1')");
    browser.until("document.querySelector('#channels tbody').textContent.includes('listening')");
    assert_eq!(
        browser.ask("document.querySelector('#mail').hidden && document.querySelector('#search').hidden"),
        true
    );
    assert_eq!(browser.complaints(), [&Value::Null; 0]);
}
