//! Runs cases in processes of their own.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use std::{env, io, thread};

use crate::case::{Outcome, Place, Verdict};

/// The time limit of a process.
const TIME: Duration = Duration::from_mins(1);

/// The verdicts on the cases in these folders.
pub fn run(folders: &[PathBuf], place: Place) -> io::Result<Vec<Verdict>> {
    // To open a GPU takes longer than to run a case.
    let (together, processes) = match place {
        Place::Host | Place::Device => (1, 1),
        Place::Gpu => (40, thread::available_parallelism().map_or(1, usize::from).min(8)),
    };
    let groups: Vec<&[PathBuf]> = folders.chunks(together).collect();
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        while let Some((index, group)) = groups.iter().enumerate().nth(next.fetch_add(1, Ordering::Relaxed)) {
            done.push((index, group_of(group, place)?));
        }
        Ok(done)
    };
    let parts = thread::scope(|scope| {
        let threads: Vec<_> = (0..processes).map(|_| scope.spawn(work)).collect();
        let panicked = || Err(io::Error::other("a thread panicked"));
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| panicked())).collect::<io::Result<Vec<_>>>()
    })?;
    let mut all: Vec<(usize, Vec<Verdict>)> = parts.into_iter().flatten().collect();
    all.sort_by_key(|(index, _)| *index);
    Ok(all.into_iter().flat_map(|(_, verdicts)| verdicts).collect())
}

/// Runs cases in one process. If a case ends it, another one runs the rest.
fn group_of(mut folders: &[PathBuf], place: Place) -> io::Result<Vec<Verdict>> {
    let mut verdicts = Vec::new();
    while !folders.is_empty() {
        let mut child = Command::new(env::current_exe()?);
        child.args(match place {
            Place::Host => None,
            Place::Device => Some("--device"),
            Place::Gpu => Some("--gpu"),
        });
        for folder in folders {
            child.arg("--case").arg(folder);
        }
        let mut child = child.stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let end = Instant::now() + TIME;
        while child.try_wait()?.is_none() {
            if Instant::now() > end {
                child.kill()?;
            }
            thread::sleep(Duration::from_micros(200));
        }
        let output = child.wait_with_output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        let mut done: Vec<Verdict> = text.lines().map_while(Verdict::parse).take(folders.len()).collect();
        // A process that ends well leaves the rest to another one.
        if done.len() < folders.len() && (done.is_empty() || !output.status.success()) {
            done.push(Verdict { outcome: Outcome::Panicked, why: String::new(), device_alone: false });
        }
        folders = &folders[done.len()..];
        verdicts.extend(done);
    }
    Ok(verdicts)
}
