//! Recorded `etcdctl` sessions, replayed against Coracle: see [`coracle_tests::transcript`].
//!
//! | variable | effect |
//! |---|---|
//! | `UPDATE_TRANSCRIPTS=1` | plays them against real etcd and rewrites the files |
//! | `CORACLE_SUBJECT=etcd` | plays them against etcd and compares: are they repeatable? |
//! | `TRANSCRIPT=name` | this one only |

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread;

use anyhow::{Context, Result, bail};
use coracle_tests::cluster::Kind;
use coracle_tests::transcript::{differences, play};

/// Transcripts played at once: they wait for processes more than they compute.
const PARALLEL: usize = 3;

#[test]
fn transcripts_are_etcds() {
    let paths = paths().expect("the folder of transcripts is readable");
    assert!(!paths.is_empty(), "no transcript found");
    let queue = Mutex::new(paths.into_iter());
    let failures = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..PARALLEL {
            scope.spawn(|| {
                loop {
                    let next = queue.lock().expect("no panic under the lock").next();
                    let Some(path) = next else { return };
                    if let Err(error) = check(&path) {
                        let failure = format!("{}: {error:#}", path.display());
                        failures.lock().expect("no panic under the lock").push(failure);
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().expect("no panic under the lock");
    assert!(failures.is_empty(), "{} differ:\n{}", failures.len(), failures.join("\n"));
}

/// All transcripts, in the order of their names.
fn paths() -> Result<Vec<PathBuf>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("transcripts");
    let only = env::var("TRANSCRIPT").ok();
    let mut paths = Vec::new();
    for entry in fs::read_dir(&folder)? {
        let path = entry?.path();
        let wanted = only.as_ref().is_none_or(|name| {
            path.file_stem().is_some_and(|stem| stem.to_string_lossy() == name.as_str())
        });
        if wanted && path.extension().is_some_and(|extension| extension == "txt") {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

fn check(path: &Path) -> Result<()> {
    let expected = fs::read_to_string(path).context("reading a transcript")?;
    if env::var_os("UPDATE_TRANSCRIPTS").is_some() {
        let recorded = play(Kind::Etcd, &expected)?;
        return fs::write(path, recorded).context("writing a transcript");
    }
    let kind = match env::var("CORACLE_SUBJECT").as_deref() {
        Ok("etcd") => Kind::Etcd,
        _ => Kind::Coracle,
    };
    let actual = play(kind, &expected)?;
    if actual != expected {
        bail!("- recorded, + now\n{}", differences(&expected, &actual));
    }
    Ok(())
}
