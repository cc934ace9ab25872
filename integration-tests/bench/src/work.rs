//! Where a run keeps what it builds and counts: folders beside the program, which end with the run.
//!
//! One that is killed leaves its folders behind; the next run removes them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process;

use tempfile::TempDir;

/// An empty folder for this run.
pub(crate) fn folder() -> io::Result<TempDir> {
    let place = place()?;
    fs::create_dir_all(&place)?;
    tempfile::Builder::new().prefix(&format!("{}-", process::id())).tempdir_in(place)
}

/// Removes what runs have left that have ended.
pub(crate) fn clear() -> io::Result<()> {
    clear_in(&place()?)
}

fn clear_in(place: &Path) -> io::Result<()> {
    let Ok(entries) = fs::read_dir(place) else { return Ok(()) };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let run = name.split('-').next().unwrap_or_default();
        if !Path::new("/proc").join(run).exists() {
            // Another run may be at it too.
            drop(fs::remove_dir_all(entry.path()));
        }
    }
    Ok(())
}

fn place() -> io::Result<PathBuf> {
    Ok(std::env::current_exe()?.with_file_name("bench-work"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_run_has_left_is_removed_and_what_another_needs_stays() {
        let place = tempfile::tempdir().unwrap();
        // No process has a number above the highest of Linux, 2^22.
        let (left, needed) = (place.path().join("4194305-x"), place.path().join("1-x"));
        for folder in [&left, &needed] {
            fs::create_dir(folder).unwrap();
        }
        clear_in(place.path()).unwrap();
        assert!(!left.exists() && needed.exists());
    }
}
