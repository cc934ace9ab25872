//! The program as its user runs it, and what it can show without a clock: the memory of an idle conversation.

#![cfg(target_os = "linux")]

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

#[test]
fn every_workload_explains_itself() {
    let help = text(&bench(&["--help"]).stdout);
    let workloads = help.split("Commands:").nth(1).and_then(|rest| rest.split("Options:").next()).unwrap();
    let names: Vec<&str> = workloads.lines().filter_map(|line| line.split_whitespace().next()).collect();
    for known in ["echo", "broadcast", "idle", "kv", "large", "smtp", "split", "start"] {
        assert!(names.contains(&known), "{known} is not in {names:?}");
    }
    for name in names {
        assert!(text(&bench(&[name, "--help"]).stdout).contains("--rounds"), "{name}");
    }
}

#[test]
fn wrong_arguments_are_explained() {
    for (arguments, complaint) in [
        (&["echo", "--setting", "1 2"][..], "three numbers"),
        (&["echo", "--setting", "0 1 64"], "three numbers"),
        (&["echo", "--rounds", "0"], "not in 1.."),
        (&["echo", "--seconds=-1"], "from 0.001 to 3600"),
        (&["echo", "--seconds", "0"], "from 0.001 to 3600"),
        (&["echo", "--seconds", "1e19"], "from 0.001 to 3600"),
        (&["kv", "-P", "0"], "not in 1.."),
        (&["large", "--pour", "0"], "not in 1.."),
        (&["idle", "--conversations", "0"], "not in 1.."),
        (&["start", "--builds", "0"], "not in 1.."),
        (&["serve", "nothing"], "no server is called nothing"),
        (&["split", "--debug", "--peers", "nobody"], "not among those measured: nobody"),
    ] {
        let output = bench(arguments);
        assert!(!output.status.success(), "{arguments:?}");
        assert!(text(&output.stderr).contains(complaint), "{arguments:?}: {output:?}");
    }
}

#[test]
fn an_echo_is_measured_and_verified() {
    let report = measure(&["echo", "--setting", "2 3 16", "--peers", "asynchat,tokio,mio"]);
    let rows = report["tables"][0]["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 3);
    assert_measured(&report, "cpu");
    for row in rows {
        assert_eq!(row["figures"]["lines"]["rounds"].as_array().unwrap().len(), 2, "{row}");
    }
}

#[test]
fn a_room_is_measured_and_verified() {
    let report = measure(&["broadcast", "--setting", "5 2 3 32", "--peers", "asynchat,c,tokio"]);
    assert_measured(&report, "cpu");
}

#[test]
fn large_messages_and_long_answers_are_measured_and_verified() {
    let report = measure(&["large", "--connections", "2", "--pour", "1"]);
    assert_eq!(report["tables"].as_array().unwrap().len(), 2);
    assert_measured(&report, "rate");
}

#[test]
fn splitters_are_measured_and_verified() {
    let report = measure(&["split", "--messages", "16", "--messages", "heads"]);
    assert_eq!(report["tables"].as_array().unwrap().len(), 4);
    assert_measured(&report, "rate");
}

#[test]
fn keys_and_values_are_measured_and_verified_where_redis_is_installed() {
    // The other server is built for it, which takes long.
    let report = measure(&["kv", "-P", "2", "-d", "3", "--peers", "redis-server"]);
    assert_measured(&report, "lpush");
}

#[test]
fn mail_is_measured_where_postfix_is_installed() {
    // The others are built for it, which takes long.
    let report = measure(&["smtp", "-m", "40", "-s", "2", "--peers", "smtp-sink"]);
    assert_eq!(report["tables"][0]["workload"], "smtp");
    assert_measured(&report, "cpu");
}

#[test]
fn a_peer_that_fails_fails_the_run_and_one_that_is_missing_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let run = |peers| {
        let words = [
            "echo",
            "--debug",
            "--setting",
            "1 1 64",
            "--rounds",
            "1",
            "--seconds",
            "0.01",
            "--peers",
            peers,
        ];
        let mut command = Command::new(env!("CARGO_BIN_EXE_bench"));
        let output = end(command.args(words).env("PATH", folder.path()));
        (output.status.success(), text(&output.stdout) + &text(&output.stderr))
    };
    let (succeeds, said) = run("asynchat,redis-server");
    assert!(succeeds && said.contains("redis-server: left out: redis-server: No such file"), "{said}");
    // It ends at once.
    std::os::unix::fs::symlink("/bin/true", folder.path().join("redis-server")).unwrap();
    let (succeeds, said) = run("asynchat,redis-server");
    assert!(!succeeds && said.contains("error: echo 1 1 64: failed: redis-server"), "{said}");
}

/// Another backend of the poller makes other calls.
#[cfg(not(polling_test_poll_backend))]
#[test]
fn calls_are_counted_and_drawn_where_strace_is_installed() {
    let folder = tempfile::tempdir().unwrap();
    let chart = folder.path().join("chart.svg");
    let chart = chart.to_str().unwrap();
    let settings = ["--setting", "1 1 64", "--peers", "asynchat", "--counts", "--chart", chart];
    let report = measure(&[&["echo"][..], &settings].concat());
    assert!(std::fs::read_to_string(chart).unwrap().contains(">asynchat</text>"));
    let calls = &report["tables"][0]["rows"][0]["figures"]["calls"]["median"];
    match calls.as_f64() {
        Some(calls) => assert!((2.9..=3.1).contains(&calls), "{calls} calls a line"),
        None => {
            assert!(report["notes"].to_string().contains("not counted"), "{report}");
            assert!(std::env::var_os("CI").is_none(), "strace is not installed, or counts nothing");
        }
    }
}

/// The bound is far above what one takes, about 200 bytes, and far below what a buffer of its own would make of it.
#[test]
fn an_idle_conversation_keeps_few_bytes() {
    let report = measure(&["idle", "--conversations", "5000", "--peers", "asynchat"]);
    assert_measured(&report, "bytes");
    let row = &report["tables"][0]["rows"][0];
    let bytes = row["figures"]["bytes"]["median"].as_f64().unwrap();
    assert!((65.0..512.0).contains(&bytes), "{bytes} bytes, 64 of them the handler's");
}

/// Whatever ends the program, its servers end with it: it starts them by this command.
#[test]
fn a_tethered_program_ends_with_the_one_that_has_started_it() {
    let line = format!("{} tethered sleep 100 & echo $!; wait", env!("CARGO_BIN_EXE_bench"));
    let mut shell = Command::new("sh").args(["-c", &line]).stdout(Stdio::piped()).spawn().unwrap();
    let mut pid = String::new();
    BufReader::new(shell.stdout.take().unwrap()).read_line(&mut pid).unwrap();
    let state = || std::fs::read_to_string(format!("/proc/{}/stat", pid.trim_end())).unwrap_or_default();
    wait_until(|| state().contains("(sleep)"));
    shell.kill().unwrap();
    shell.wait().unwrap();
    // One that nobody has waited for so far is still there by name.
    wait_until(|| state().is_empty() || state().contains(") Z"));
}

/// Every peer of a report has a figure, unless what it needs is missing.
fn assert_measured(report: &Value, figure: &str) {
    for row in report["tables"].as_array().unwrap().iter().flat_map(|table| table["rows"].as_array().unwrap())
    {
        assert_eq!(row["failure"], Value::Null, "{row}");
        match row["figures"][figure]["median"].as_f64() {
            Some(median) => assert!(median > 0.0, "{row}"),
            None => assert!(row["missing"].is_string(), "{row}"),
        }
    }
}

/// Runs a workload for a moment: what it reports.
fn measure(arguments: &[&str]) -> Value {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("report.json");
    let common = ["--debug", "--rounds", "2", "--seconds", "0.05", "--json", path.to_str().unwrap()];
    let output = bench(&[arguments, &common[..]].concat());
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap()
}

fn bench(arguments: &[&str]) -> Output {
    end(Command::new(env!("CARGO_BIN_EXE_bench")).args(arguments))
}

/// Runs a command to its end.
fn end(command: &mut Command) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let (out, err) = (folder.path().join("out"), folder.path().join("err"));
    let mut process =
        command.stdout(File::create(&out).unwrap()).stderr(File::create(&err).unwrap()).spawn().unwrap();
    let ended = has_come(|| process.try_wait().unwrap().is_some());
    drop(process.kill());
    let status = process.wait().unwrap();
    let [stdout, stderr] = [out, err].map(|path| std::fs::read(path).unwrap());
    let output = Output { status, stdout, stderr };
    assert!(ended, "{command:?} does not end: {output:?}");
    output
}

fn wait_until(event: impl FnMut() -> bool) {
    assert!(has_come(event), "nothing after {PATIENCE:?}");
}

/// Whether something comes, in time.
fn has_come(mut event: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + PATIENCE;
    while !event() {
        if Instant::now() > deadline {
            return false;
        }
        thread::sleep(Duration::from_millis(5));
    }
    true
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// How long a run may take: two minutes, many times what the longest does.
const PATIENCE: Duration = Duration::from_secs(120);
