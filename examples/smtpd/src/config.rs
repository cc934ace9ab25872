//! The configuration file: the options of the command line by the same names, in TOML.
//!
//! What it says is made into arguments, which stand in front of those of the command line: so both are checked by the same
//! rules, and a file can say nothing that the command line cannot.

use std::ffi::OsString;
use std::fmt::Display;
use std::fs;
use std::path::{Path, PathBuf};

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, CommandFactory, Parser};
use toml::{Table, Value};

use crate::options::Program;

/// The program's arguments, and what the file of `--config` adds to them.
///
/// What is given in both, the command line decides; for an option that may be repeated, too. Where it names a destination,
/// all that the file says about others counts for nothing.
///
/// # Errors
///
/// Of clap, if an argument is wrong: it may be the request for help. If the file cannot be read, is no TOML, or holds what
/// is no option or not of its kind.
pub fn parse(arguments: Vec<OsString>) -> Result<Program, clap::Error> {
    // What is wrong with the command line alone may be right with the file: an option of one may need one of the other.
    let matches = Program::command().ignore_errors(true).try_get_matches_from(&arguments)?;
    let (first, given) = match matches.subcommand() {
        Some(("check-config", matches)) => (2, matches),
        Some(_) => return Program::try_parse_from(arguments),
        None => (1, &matches),
    };
    let Some(file) = given.get_one::<PathBuf>("config") else { return Program::try_parse_from(arguments) };
    let in_file = read(file, given).map_err(|error| wrong(file, &error))?;
    let alone = [OsString::new()].into_iter().chain(in_file.iter().cloned());
    let alone = Program::command().try_get_matches_from(alone);
    let mut all = arguments;
    all.splice(first..first, in_file);
    // It is the file's mistake if the file has it alone.
    Program::try_parse_from(all).map_err(|error| match alone {
        Err(own) if own.kind() == error.kind() => wrong(file, &message(&own)),
        _ => error,
    })
}

/// The arguments that the file stands for.
fn read(file: &Path, given: &ArgMatches) -> Result<Vec<OsString>, String> {
    let text = fs::read_to_string(file).map_err(|error| error.to_string())?;
    let table: Table =
        text.parse().map_err(|error: toml::de::Error| error.to_string().trim_end().to_owned())?;
    let command = Program::command();
    let mut arguments = Vec::new();
    for (name, value) in &table {
        let option = command.get_arguments().find(|option| option.get_long() == Some(name));
        let Some(option) = option.filter(|option| !NOT_IN_FILE.contains(&option.get_id().as_str())) else {
            return Err(format!("there is no option `{name}` for the file"));
        };
        let is_given = |id: &str| given.value_source(id) == Some(ValueSource::CommandLine);
        let is_elsewhere = destination_of(option.get_id().as_str())
            .is_some_and(|own| DESTINATIONS.iter().any(|other| *other != own && is_given(other)));
        if !is_given(option.get_id().as_str()) && !is_elsewhere {
            add(&mut arguments, name, option, value)?;
        }
    }
    Ok(arguments)
}

/// The destination that an option is about, if it is about one.
fn destination_of(id: &str) -> Option<&str> {
    match id {
        "per_recipient" => Some("maildir"),
        _ if id.starts_with("relay_") => Some("relay"),
        _ => DESTINATIONS.contains(&id).then_some(id),
    }
}

/// Adds an option of the file.
fn add(arguments: &mut Vec<OsString>, name: &str, option: &Arg, value: &Value) -> Result<(), String> {
    let mut with = |value: &dyn Display| arguments.push(format!("--{name}={value}").into());
    let expected = match (option.get_action(), value) {
        (ArgAction::SetTrue, Value::Boolean(is_on)) => {
            if *is_on {
                arguments.push(format!("--{name}").into());
            }
            return Ok(());
        }
        (ArgAction::SetTrue, _) => "true or false",
        (ArgAction::Count, Value::Integer(count @ 0..=255)) => {
            arguments.extend((0..*count).map(|_| format!("--{name}").into()));
            return Ok(());
        }
        (ArgAction::Count, _) => "a small number",
        (ArgAction::Append, Value::Array(values)) => {
            for value in values {
                with(&plain(value).ok_or_else(|| format!("{name}: expected an array of strings"))?);
            }
            return Ok(());
        }
        (_, value) => {
            if let Some(value) = plain(value) {
                with(&value);
                return Ok(());
            }
            "a string or a number"
        }
    };
    Err(format!("{name}: expected {expected}"))
}

/// A string or number as an argument.
fn plain(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Integer(number) => Some(number.to_string()),
        _ => None,
    }
}

/// The first lines of clap's complaint, without the usage of the command line.
fn message(error: &clap::Error) -> String {
    let text = error.to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    text.split("\n\nUsage:")
        .next()
        .unwrap_or_default()
        .split("\n\nFor more")
        .next()
        .unwrap_or_default()
        .to_owned()
}

fn wrong(file: &Path, error: &dyn Display) -> clap::Error {
    clap::Error::raw(clap::error::ErrorKind::InvalidValue, format!("{}: {error}\n", file.display()))
}

/// Where messages go: of these options there is one.
const DESTINATIONS: [&str; 5] = ["maildir", "sink", "debug", "exec", "relay"];

/// What the file cannot say.
const NOT_IN_FILE: [&str; 3] = ["config", "help", "version"];

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::options::{At, Command};

    fn parse_with(file: &str, arguments: &[&str]) -> Result<Program, String> {
        let mut config = tempfile::NamedTempFile::new().unwrap();
        config.write_all(file.as_bytes()).unwrap();
        let arguments = ["smtpd"].iter().chain(arguments).map(OsString::from);
        let config = [OsString::from("--config"), config.path().into()];
        parse(arguments.chain(config).collect()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_file_says_what_the_command_line_says() {
        let file = r#"
            listen = ["127.0.0.1:1", "/run/mail"]
            exec = "cat"
            lmtp = true
            verbose = 2
            errors = 3
            message-limit = "1MiB"
        "#;
        let options = parse_with(file, &[]).unwrap().options;
        assert_eq!(options.listen, [At::Host("127.0.0.1".to_owned(), 1), At::Unix("/run/mail".into())]);
        assert_eq!(options.exec.as_deref(), Some("cat"));
        assert!(options.lmtp);
        assert_eq!((options.verbose, options.errors.get(), options.message_limit.as_u64()), (2, 3, 1 << 20));
    }

    #[test]
    fn the_command_line_decides() {
        let file = "listen = ['127.0.0.1:1']\nexec = 'cat'\nerrors = 3\nhostname = 'a'";
        let arguments = ["--listen=127.0.0.1:2", "--sink", "--errors=4"];
        let options = parse_with(file, &arguments).unwrap().options;
        assert_eq!(options.listen, [At::Host("127.0.0.1".to_owned(), 2)]);
        assert!(options.sink && options.exec.is_none());
        assert_eq!((options.errors.get(), options.hostname.as_deref()), (4, Some("a")));
    }

    #[test]
    fn a_destination_of_the_command_line_leaves_nothing_of_others() {
        for file in ["maildir = 'a'\nper-recipient = true", "relay = 'a:25'\nrelay-tls = 'must'"] {
            assert!(parse_with(file, &["--sink"]).unwrap().options.sink, "{file}");
        }
        let file = "per-recipient = true\nrelay-tls = 'must'\nrelay = 'a:25'\nrelay-user = 'b'";
        let options = parse_with(file, &["--maildir=b"]).unwrap().options;
        assert!(options.per_recipient && options.keeps() && options.relay_user.is_none());
        let mut command = Program::command();
        // The members of groups are known after it.
        command.build();
        let group = command.get_groups().find(|group| group.get_id() == "destination").unwrap();
        assert_eq!(group.get_args().map(clap::Id::as_str).collect::<Vec<_>>(), DESTINATIONS);
    }

    #[test]
    fn an_option_may_need_one_that_is_elsewhere() {
        for (file, argument) in [
            ("tls-cert = 'a'\ntls-key = 'b'", "--smtps=127.0.0.1:0"),
            ("tls-cert = 'a'", "--tls-key=b"),
            ("relay = 'a:25'", "--relay-tls=none"),
            ("require-auth = true", "--auth-file=a"),
        ] {
            assert!(parse_with(file, &[argument]).is_ok(), "{file} with {argument}");
        }
        let error = parse_with("tls-cert = 'a'", &["--errors=0"]).unwrap_err();
        assert!(error.starts_with("error: invalid value '0' for '--errors"), "{error}");
    }

    #[test]
    fn the_check_reads_the_file_too() {
        let Some(Command::CheckConfig(options)) =
            parse_with("lmtp = true", &["check-config"]).unwrap().command
        else {
            panic!("another command");
        };
        assert!(options.lmtp);
    }

    #[test]
    fn what_is_wrong_with_a_file_is_said() {
        for (file, expected) in [
            ("listen = [", "TOML parse error"),
            ("lisen = ['127.0.0.1:1']", "there is no option `lisen`"),
            ("config = 'x'", "there is no option `config`"),
            ("lmtp = 'yes'", "lmtp: expected true or false"),
            ("exec = { a = 1 }", "exec: expected a string or a number"),
            ("listen = [[1]]", "listen: expected an array of strings"),
            ("errors = 0", "invalid value '0' for '--errors"),
            ("sink = true\ndebug = true", "cannot be used with"),
            ("tls-key = 'x'", "--tls-cert"),
        ] {
            let error = parse_with(file, &[]).unwrap_err();
            assert!(error.contains(expected) && !error.contains("Usage"), "{file}: {error}");
        }
        let error = parse(["smtpd", "--config=/not/there"].map(OsString::from).into()).unwrap_err();
        assert!(error.to_string().contains("/not/there: No such file"));
    }
}
