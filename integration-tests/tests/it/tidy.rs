//! The tree keeps its own rules: what each file may name, how long it is, and that the documents speak of what exists.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

#[test]
fn each_source_file_opens_with_its_purpose() {
    let silent = sources("").into_iter().filter(|source| !source.text.starts_with("//! "));
    none(silent.map(|source| source.path), "do not begin with `//!`");
}

#[test]
fn no_file_is_long() {
    let lengths = sources("").into_iter().map(|source| {
        // The tests inside a file are there to be searched, not to be read through.
        let lines = source.text.split("#[cfg(test)]").next().unwrap_or_default().lines().count();
        (source.path, lines)
    });
    let long = lengths.filter(|(_, lines)| *lines > MOST_LINES);
    none(
        long.map(|(path, lines)| format!("{path}: {lines}")),
        "have more than 600 lines: look for a second concept",
    );
}

#[test]
fn foreign_crates_are_named_only_where_they_belong() {
    let mut wrong = Vec::new();
    for source in sources("asyncore/src").into_iter().chain(sources("asynchat/src")) {
        for (krate, homes) in FOREIGN {
            if names(&source.code(), krate) && !homes.contains(&source.path.as_str()) {
                wrong.push(format!("{}: {krate}", source.path));
            }
        }
    }
    for source in sources("examples") {
        if names(&source.code(), "polling") {
            wrong.push(format!("{}: polling", source.path));
        }
    }
    none(wrong, "name a crate that they should not");
}

#[test]
fn only_the_poller_is_unsafe() {
    let unsafe_files = sources("").into_iter().filter(|source| names(&source.code(), "unsafe"));
    let unsafe_files: Vec<_> = unsafe_files.map(|source| source.path).collect();
    // The second is a server that asyncore is compared with; the crate under both leaves its users no other way.
    assert_eq!(
        unsafe_files,
        ["asyncore/src/poller.rs", "integration-tests/bench/src/servers/raw_polling.rs"]
    );
    assert!(read("asynchat/src/lib.rs").contains("#![forbid(unsafe_code)]"));
}

#[test]
fn protocol_logic_does_no_input_or_output_and_reads_no_clock() {
    let mut wrong = Vec::new();
    for path in PURE {
        let code = Source { path: (*path).to_owned(), text: read(path) }.code_without_tests();
        // A list of slices is not a socket.
        let code = code.replace("std::io::IoSlice", "");
        for forbidden in ["std::net", "std::io", "std::os", "Instant", "asyncore", "rustix"] {
            if code.contains(forbidden) {
                wrong.push(format!("{path}: {forbidden}"));
            }
        }
    }
    none(wrong, "are to be pure logic");
}

#[test]
fn the_time_is_read_in_one_place() {
    let readers = sources("asyncore/src").into_iter().chain(sources("asynchat/src"));
    let readers = readers.filter(|source| source.code_without_tests().contains("Instant::now"));
    let readers: Vec<_> = readers.map(|source| source.path).collect();
    // The poller measures what is left of a wait that a signal interrupted.
    assert_eq!(readers, ["asyncore/src/poller.rs", "asyncore/src/world.rs"]);
}

#[test]
fn nothing_is_left_undone() {
    let marks = [
        concat!("to", "do!("),
        concat!("unimple", "mented!("),
        concat!("db", "g!("),
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("#[ign", "ore"),
    ];
    let mut wrong = Vec::new();
    for source in sources("").into_iter().chain(pages()) {
        wrong.extend(
            marks
                .iter()
                .filter(|mark| source.text.contains(**mark))
                .map(|mark| format!("{}: {mark}", source.path)),
        );
        wrong.extend(
            fences(&source.text)
                .filter(|fence| fence.contains("ignore"))
                .map(|_| format!("{}: a fence", source.path)),
        );
    }
    none(wrong, "hold a mark of something left undone, or a snippet that nobody compiles");
}

#[test]
fn every_test_file_is_mounted() {
    let main = read("integration-tests/tests/it/main.rs");
    let stray = sources("integration-tests/tests/it").into_iter().filter(|source| {
        let name = stem(&source.path);
        name != "main" && source.text.contains("#[test]") && !main.contains(&format!("mod {name};"))
    });
    none(stray.map(|source| source.path), "are not mounted in tests/it/main.rs");
}

#[test]
fn every_page_with_a_snippet_is_compiled() {
    let mounted = read("integration-tests/src/lib.rs");
    let stray = pages().into_iter().filter(|page| {
        fences(&page.text).any(|fence| fence.starts_with("rust"))
            && !mounted.contains(&format!("../../{}\"", page.path))
    });
    none(stray.map(|page| page.path), "are not mounted in integration-tests/src/lib.rs");
}

#[test]
fn the_architecture_page_knows_every_file() {
    let page = read("docs/architecture.md");
    let unknown = sources("asyncore/src").into_iter().chain(sources("asynchat/src"));
    let unknown = unknown.filter(|source| !page.contains(&format!("`{}.rs`", stem(&source.path))));
    none(unknown.map(|source| source.path), "are not in docs/architecture.md");
}

#[test]
fn documents_cite_tests_that_exist() {
    let mut tests: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for source in sources("") {
        let file = stem(&source.path).to_owned();
        for (at, _) in source.text.match_indices("#[test]") {
            if let Some(name) = source.text[at..].split("fn ").nth(1).and_then(|rest| rest.split('(').next())
            {
                tests.entry(file.clone()).or_default().insert(name.to_owned());
            }
        }
    }
    let mut wrong = Vec::new();
    let mut cited = 0;
    let headers = sources("integration-tests/tests").into_iter().map(|source| Source {
        text: source.text.lines().take_while(|line| line.starts_with("//!")).collect(),
        ..source
    });
    for page in pages().into_iter().chain(headers) {
        for code in page.text.split('`').skip(1).step_by(2) {
            // `file::name`, where the file holds tests.
            let Some((file, name)) = code.split_once("::") else { continue };
            let Some(known) = tests.get(file) else { continue };
            let is_name =
                |text: &str| text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
            if is_name(name) {
                cited += 1;
                if !known.contains(name) {
                    wrong.push(format!("{}: {code}", page.path));
                }
            }
        }
    }
    none(wrong, "cite a test that does not exist");
    assert!(cited > 150, "only {cited} tests are cited: has the way of citing changed?");
}

#[test]
fn no_defect_of_the_original_is_left_out() {
    let page = read("docs/from-python.md");
    let tables = page.split("## Sequences of callbacks").nth(1).expect("the tables");
    let rows: Vec<&str> = tables.lines().filter(|line| line.starts_with("| ")).collect();
    let missing =
        (1..=48).filter(|number| !rows.iter().any(|row| row.starts_with(&format!("| D{number} | "))));
    none(missing.map(|number| format!("D{number}")), "are not in docs/from-python.md");
    let untested = rows.iter().filter(|row| row.ends_with("| |") && !row.contains("**not here**"));
    none(untested.map(|row| (*row).to_owned()), "rows name no test");
}

#[test]
fn links_between_documents_lead_somewhere() {
    let mut wrong = Vec::new();
    for page in pages() {
        let folder = Path::new(&page.path).parent().unwrap_or_else(|| Path::new(""));
        let inline = page.text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        let below =
            page.text.lines().filter_map(|line| line.strip_prefix('[')?.split_once("]: ").map(|(_, to)| to));
        for link in inline.chain(below) {
            let (target, anchor) = link.split_once('#').unwrap_or((link, ""));
            if target.contains("://") {
                continue;
            }
            let path =
                if target.is_empty() { page.path.clone() } else { folder.join(target).display().to_string() };
            if !root().join(&path).exists() {
                wrong.push(format!("{}: {link}", page.path));
            } else if !anchor.is_empty() && !anchors(&read(&path)).contains(anchor) {
                wrong.push(format!("{}: {link}: no such heading", page.path));
            }
        }
    }
    none(wrong, "link to what does not exist");
}

#[test]
fn the_programs_of_the_readme_are_as_short_as_it_says() {
    let readme = read("README.md");
    let programs: Vec<usize> = readme
        .split("```rust,no_run\n")
        .skip(1)
        .map(|rest| {
            let program = rest.split("```").next().unwrap_or_default();
            let counts = |line: &&str| !matches!(line.trim(), "" | "}" | "{") && !line.starts_with("use ");
            program.lines().filter(counts).count()
        })
        .collect();
    assert!(
        matches!(programs[..], [..=10, ..=15]),
        "an echo server in 10 lines, a chat room in 15: {programs:?}"
    );
}

#[test]
fn the_server_of_the_page_on_testing_is_the_example() {
    let page = read("docs/testing.md");
    let shown = page.split("```rust\n").nth(1).and_then(|rest| rest.split("```").next());
    assert_eq!(shown, Some(read("examples/mail.rs").as_str()));
}

#[test]
fn a_conversation_needs_few_crates() {
    let output = Command::new(env!("CARGO"))
        .current_dir(root())
        .args([
            "tree",
            "-e",
            "normal",
            "-p",
            "asynchat",
            "--prefix",
            "none",
            "--format",
            "{p}",
            "--offline",
            "--locked",
        ])
        .output()
        .expect("cargo to run");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("text");
    let crates: BTreeSet<&str> = text.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert!(crates.contains("asyncore") && crates.len() <= MOST_CRATES, "{crates:#?}");
}

/// One file of the tree.
struct Source {
    /// From the root of the tree.
    path: String,
    text: String,
}

impl Source {
    /// The file without comments and without what stands in quotes.
    fn code(&self) -> String {
        self.text.lines().map(|line| code_of(line) + "\n").collect()
    }

    fn code_without_tests(&self) -> String {
        let code = self.code();
        code.split("#[cfg(test)]").next().unwrap_or_default().to_owned()
    }
}

fn code_of(line: &str) -> String {
    let mut code = String::new();
    let mut quoted = false;
    let line = line.replace(r#"'"'"#, "").replace(r"\\", "").replace(r#"\""#, "");
    let mut characters = line.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '"' => quoted = !quoted,
            '/' if !quoted && characters.peek() == Some(&'/') => break,
            _ if quoted => {}
            _ => code.push(character),
        }
    }
    code
}

/// Whether `word` stands in `code` as a word of its own.
fn names(code: &str, word: &str) -> bool {
    code.split(|c: char| !c.is_alphanumeric() && c != '_').any(|found| found == word)
}

/// What opens each fence of code: the words after the backticks.
fn fences(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| {
        let line = line.trim_start().trim_start_matches("///").trim_start_matches("//!").trim_start();
        line.strip_prefix("```").filter(|words| !words.is_empty())
    })
}

/// The names by which the headings of a page can be linked.
fn anchors(page: &str) -> BTreeSet<String> {
    let headings = page.lines().filter(|line| line.starts_with('#'));
    headings
        .map(|line| {
            let text = line.trim_start_matches('#').trim().to_lowercase();
            let kept = text.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
            kept.map(|c| if c == ' ' { '-' } else { c }).collect()
        })
        .collect()
}

/// Every Rust file below a folder of the tree; of the whole tree with "".
fn sources(below: &str) -> Vec<Source> {
    const CRATES: &[&str] = &["asyncore", "asynchat", "examples", "integration-tests"];
    let mut found = Vec::new();
    let one = [below];
    for folder in if below.is_empty() { CRATES } else { &one[..] } {
        collect(&root().join(folder), "rs", &mut found);
    }
    assert!(!found.is_empty(), "no source below {below:?}");
    found
}

/// Every document.
fn pages() -> Vec<Source> {
    let mut found = Vec::new();
    for folder in ["docs", "asyncore", "asynchat", "examples"] {
        collect(&root().join(folder), "md", &mut found);
    }
    for page in ["README.md", "CHANGELOG.md"] {
        found.push(Source { path: page.to_owned(), text: read(page) });
    }
    found
}

fn collect(folder: &Path, extension: &str, found: &mut Vec<Source>) {
    let mut entries: Vec<PathBuf> =
        fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            // A fuzzer's build lies below its crate.
            if path.file_name() != Some("target".as_ref()) {
                collect(&path, extension, found);
            }
        } else if path.extension() == Some(extension.as_ref()) {
            let name = path.strip_prefix(root()).expect("a path below the root").display().to_string();
            found.push(Source { text: read(&name), path: name });
        }
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace")
}

fn stem(path: &str) -> &str {
    Path::new(path).file_stem().and_then(|stem| stem.to_str()).expect("a file name")
}

#[track_caller]
fn none(found: impl IntoIterator<Item = String>, what: &str) {
    let found: Vec<String> = found.into_iter().collect();
    assert!(found.is_empty(), "these {what}:\n  {}", found.join("\n  "));
}

/// Above this, without its tests, a file holds a second concept, most likely.
const MOST_LINES: usize = 600;

/// Foreign crates, and the files of the two libraries that may name them.
const FOREIGN: &[(&str, &[&str])] = &[
    ("polling", &["asyncore/src/poller.rs"]),
    (
        "socket2",
        &[
            "asyncore/src/absent.rs",
            "asyncore/src/address.rs",
            "asyncore/src/adopt.rs",
            "asyncore/src/carrier.rs",
            "asyncore/src/secured.rs",
            "asyncore/src/socket.rs",
            "asyncore/src/system.rs",
            "asyncore/src/tuning.rs",
        ],
    ),
    (
        "rustix",
        &[
            "asyncore/src/address.rs",
            "asyncore/src/child.rs",
            "asyncore/src/file.rs",
            "asyncore/src/limits.rs",
            "asyncore/src/listener.rs",
            "asyncore/src/nonblocking.rs",
            "asyncore/src/poller.rs",
            "asyncore/src/reason.rs",
            "asyncore/src/socket.rs",
            "asyncore/src/stdio.rs",
            "asyncore/src/system.rs",
            "asyncore/src/testing/network.rs",
        ],
    ),
    (
        "rustls",
        &[
            "asyncore/src/carrier.rs",
            "asyncore/src/handshake.rs",
            "asyncore/src/lib.rs",
            "asyncore/src/reason.rs",
            "asyncore/src/secured.rs",
            "asyncore/src/tls.rs",
        ],
    ),
    ("rustls_platform_verifier", &["asyncore/src/tls.rs"]),
    ("fastrand", &["asyncore/src/testing/network.rs"]),
    ("safe_arch", &["asynchat/src/ahead.rs"]),
    ("listenfd", &["asyncore/src/inherited.rs"]),
    ("signal_hook", &["asyncore/src/lib.rs", "asyncore/src/signals.rs"]),
    (
        "memchr",
        &[
            "asynchat/src/ahead.rs",
            "asynchat/src/dot_stuffer.rs",
            "asynchat/src/dot_unstuffer.rs",
            "asynchat/src/needles.rs",
            "asynchat/src/producer.rs",
        ],
    ),
];

/// What needs no socket to be tested.
const PURE: &[&str] = &[
    "asynchat/src/ahead.rs",
    "asynchat/src/begun.rs",
    "asynchat/src/dot_stuffer.rs",
    "asynchat/src/dot_unstuffer.rs",
    "asynchat/src/extra.rs",
    "asynchat/src/frame.rs",
    "asynchat/src/needles.rs",
    "asynchat/src/split.rs",
    "asynchat/src/splitter.rs",
    "asynchat/src/terminator.rs",
    "asyncore/src/histogram.rs",
    "asyncore/src/id.rs",
    "asyncore/src/interest.rs",
    "asyncore/src/outbox.rs",
    "asyncore/src/tail.rs",
];

/// The crates in a program that talks: ours, and what they stand on.
const MOST_CRATES: usize = 15;
