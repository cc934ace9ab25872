//! [`Passwords`]: who may say who they are, from a file of `user:hash` lines with argon2 hashes.

use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};

use argon2::Argon2;
use argon2::password_hash::rand_core::OsRng;
use argon2::password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString};
use asyncore::Result;

/// Users and the hashes of their passwords.
pub struct Passwords {
    hashes: HashMap<String, String>,
    /// How many are being checked.
    checks: AtomicUsize,
}

/// A check that may be done; another may when it is dropped.
#[derive(Debug)]
pub struct Check(Arc<Passwords>);

impl Passwords {
    /// Reads a file; an empty line, or one that begins with `#`, says nothing.
    ///
    /// # Errors
    ///
    /// If it cannot be read, or a line is not what it should be, with its number.
    pub fn read(file: &Path) -> Result<Self> {
        let text = fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
        Self::parse(&text).map_err(|error| format!("{}: {error}", file.display()).into())
    }

    /// As [`read`](Self::read), of the text of a file.
    ///
    /// # Errors
    ///
    /// If a line is not what it should be.
    pub fn parse(text: &str) -> Result<Self> {
        let mut hashes = HashMap::new();
        for (number, line) in (1..).zip(text.lines()) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let Some((user, hash)) = line.split_once(':') else {
                return Err(format!("line {number} is not user:hash").into());
            };
            check_name(user).map_err(|error| format!("line {number}: {error}"))?;
            let parsed = PasswordHash::new(hash).map_err(|error| format!("line {number}: {error}"))?;
            if !parsed.algorithm.as_str().starts_with("argon2") || parsed.hash.is_none() {
                return Err(format!("line {number} has no argon2 hash").into());
            }
            if hashes.insert(user.to_owned(), hash.to_owned()).is_some() {
                return Err(format!("line {number}: {user} stands there twice").into());
            }
        }
        Ok(Self { hashes, checks: AtomicUsize::new(0) })
    }

    /// The right to do a check, unless [`CHECKS`] are under way.
    #[must_use]
    pub fn begin(self: &Arc<Self>) -> Option<Check> {
        if self.checks.fetch_add(1, Ordering::Relaxed) < CHECKS {
            return Some(Check(Arc::clone(self)));
        }
        self.checks.fetch_sub(1, Ordering::Relaxed);
        None
    }

    /// Whether this is the user's password.
    #[must_use]
    fn check(&self, user: &str, password: &[u8]) -> bool {
        let stand_in = self.stand_in(user);
        let known = self.hashes.get(user).map(String::as_str);
        // They were parsed when they were read.
        let is_right = PasswordHash::new(known.unwrap_or(stand_in))
            .is_ok_and(|hash| Argon2::default().verify_password(password, &hash).is_ok());
        is_right && known.is_some()
    }

    /// The hash that is checked if nobody has that name: who is not known takes as long to refuse as who is.
    ///
    /// Hashes of a file may differ in their costs. So each name has one of them, always the same, and nobody outside can
    /// tell which: as many names that are not known take the time of each cost as names that are.
    fn stand_in(&self, user: &str) -> &str {
        static KEYS: LazyLock<RandomState> = LazyLock::new(RandomState::new);
        let hash = self.hashes.values().max_by_key(|hash| KEYS.hash_one((user, hash)));
        hash.map_or(NOBODY, String::as_str)
    }
}

impl Check {
    /// Whether this is the user's password. It takes as long as a hash is meant to: not for the loop.
    #[must_use]
    pub fn run(self, user: &str, password: &[u8]) -> bool {
        self.0.check(user, password)
    }
}

impl Drop for Check {
    fn drop(&mut self) {
        self.0.checks.fetch_sub(1, Ordering::Relaxed);
    }
}

impl fmt::Debug for Passwords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Passwords").field("users", &self.hashes.len()).finish_non_exhaustive()
    }
}

/// A line for the file, without its end.
///
/// # Errors
///
/// If the name cannot stand in a line, or the password is empty, as one is that was to come from a file that is not there.
pub fn line(user: &str, password: &[u8]) -> Result<String> {
    check_name(user)?;
    if password.is_empty() {
        return Err("an empty password lets everybody in".into());
    }
    let salt = SaltString::generate(&mut OsRng);
    let hash = Argon2::default().hash_password(password, &salt).map_err(|error| error.to_string())?;
    Ok(format!("{user}:{hash}"))
}

fn check_name(user: &str) -> Result {
    if user.is_empty()
        || user.starts_with('#')
        || user.contains(|char: char| char == ':' || char.is_control())
    {
        return Err("a user's name has one letter at least, no colon, and no # in front".into());
    }
    Ok(())
}

/// Most checks that are under way at a time: 16. Each takes 19 MiB and some 20 ms of a processor, and they share the
/// threads on which messages are stored.
pub const CHECKS: usize = 16;

/// What stands in for a user's hash where the file has none: with the costs of one that [`line()`] makes.
const NOBODY: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$bm9ib2R5IGF0IGFsbA$9ZPxKKCj9yM1xhWtwNlIxyrf0gxJaG8BSBFt4aNcGFw";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_was_made_is_understood() {
        let text = format!("# users\n\n{}\n", line("ann", b"s3cret:\xff").unwrap());
        let passwords = Passwords::parse(&text).unwrap();
        assert!(passwords.check("ann", b"s3cret:\xff"));
        assert!(!passwords.check("ann", b"s3cret"));
        assert!(!passwords.check("bob", b"s3cret:\xff"), "the hash that stands in is ann's");
    }

    #[test]
    fn names_that_are_not_known_have_the_costs_of_those_that_are() {
        let hashes =
            [8, 16].map(|cost| format!("$argon2id$v=19$m={cost},t=1,p=1$c29tZXNhbHQ$yQ4m1Kq2VxGcTPTZ0vtLaw"));
        let text = format!("ann:{}\nbob:{}", hashes[0], hashes[1]);
        let passwords = Passwords::parse(&text).unwrap();
        let names: Vec<String> = (0..1000).map(|number| number.to_string()).collect();
        let dear = names.iter().filter(|name| passwords.stand_in(name) == hashes[1]).count();
        assert!((300..700).contains(&dear), "{dear} of 1000");
        let again = Passwords::parse(&format!("{text}\n")).unwrap();
        assert!(names.iter().all(|name| passwords.stand_in(name) == again.stand_in(name)));
    }

    #[test]
    fn a_file_without_users_knows_nobody() {
        assert!(PasswordHash::new(NOBODY).is_ok_and(|hash| hash.hash.is_some()));
        assert!(!Passwords::parse("").unwrap().check("", b""));
    }

    #[test]
    fn a_line_that_is_none_is_told_by_its_number() {
        let hash = "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ$yQ4m1Kq2VxGcTPTZ0vtLaw";
        for (text, expected) in [
            ("ann", "line 1 is not user:hash"),
            ("#\n:x", "line 2: a user's name"),
            ("ann:secret", "line 1:"),
            ("ann:$scrypt$ln=1,r=1,p=1$c29tZXNhbHQ$yQ4m1Kq2VxGcTPTZ0vtLaw", "line 1 has no argon2 hash"),
            (&format!("ann:{hash}\nann:{hash}"), "line 2: ann stands there twice"),
        ] {
            let error = Passwords::parse(text).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
        assert!(line("a:b", b"x").is_err() && line("", b"x").is_err() && line("ann", b"").is_err());
    }

    #[test]
    fn so_many_checks_at_a_time_and_no_more() {
        let passwords = Arc::new(Passwords::parse("").unwrap());
        let mut checks: Vec<_> = (0..CHECKS).map(|_| passwords.begin().unwrap()).collect();
        assert!(passwords.begin().is_none());
        checks.pop();
        assert!(passwords.begin().is_some());
    }
}
