//! A hostile client does its worst while a GL program beside it checks its own pixels, and leaves nothing behind.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use super::churn::settled;
use crate::daemon::{self, Daemon, clean};
use crate::failure::{Context, Failure, Result};
use crate::process::{Task, tail};
use crate::report::Outcome;
use crate::steps::Session;
use crate::workspace::Workspace;

/// They take all files that a user may have, so no other program of the same user can start meanwhile.
const ALONE: [&str; 4] = ["connection-flood", "connection-churn", "greeting-flood", "silent-connections"];
/// After which the log must name two processes: one that broke rules without end, and one that broke one.
const NOISY: &str = "log-of-a-noisy-client";
/// What another user gets, which depends on the policy: with one that lets them in, and without.
const STRANGER: &str = "stranger-at-every-door";
/// Lets `nobody` open the node for rendering.
const POLICY: &str = "[renderD128]\nusers = [65534]\n";
/// How many seconds a device has for a command where streams are made to hang it.
const DEADLINE: &str = "3";

/// Runs all attacks; those that leave others room, beside a program that draws.
pub(crate) fn run(session: &Session) -> Result<Outcome> {
    let workspace = session.released()?;
    imprisoned(workspace)?;
    let (tried, drawn) = match beside_others(workspace)? {
        Ok(seen) => seen,
        Err(left) => return Ok(Outcome::Failed(left)),
    };
    let Tried { held, skipped } = tried;
    let (lost, apart) = on_host(workspace)?;
    outlived(workspace)?;
    Ok(Outcome::Passed(format!(
        "{held} attacks held{skipped}; a program beside them drew {drawn} times, pixels right; {lost} devices hung or crashed by \
         streams: others draw again at once, and one with a device of its own drew {apart} times all along; with --survive \
         the victim of a hang and of a crash keeps its texture"
    )))
}

/// What came of attacks.
struct Tried {
    held: usize,
    /// Those that could not be tried, in words; nothing if there are none.
    skipped: String,
}

/// Which attacks held, and how often a program beside them drew; or what they left behind.
fn beside_others(workspace: &Workspace) -> Result<std::result::Result<(Tried, usize), String>> {
    let policy = tempfile::NamedTempFile::new().context(|| "no file for a policy".into())?;
    std::fs::write(&policy, POLICY).context(|| "cannot write a policy".into())?;
    let policy = policy.path().to_string_lossy();
    daemon::with_arguments(workspace, &["--policy", &policy], |daemon| {
        draw(workspace, daemon)?;
        confined(daemon)?;
        let before = settled(daemon)?.descriptors;
        let list = daemon.run(workspace.release("attacks")).arg("--list").output()?;
        let (alone, beside): (Vec<&str>, Vec<&str>) = list.lines().partition(|name| ALONE.contains(name));
        let mut tried = Tried { held: 0, skipped: String::new() };
        let drawn = during(
            || draw(workspace, daemon),
            || {
                let said = attack(workspace, daemon, &beside)?;
                tried = Tried {
                    held: lines(&said, "ok ").count(),
                    skipped: lines(&said, "skipped ").map(|it| format!(", skipped {it}")).collect(),
                };
                Ok(())
            },
        )?;
        tried.held += lines(&attack(workspace, daemon, &alone)?, "ok ").count();
        named_in_log(workspace, daemon)?;
        draw(workspace, daemon)?;
        let after = settled(daemon)?.descriptors;
        if after > before {
            return Ok(Err(format!("descriptors left behind: {before} then {after}")));
        }
        Ok(Ok((tried, drawn)))
    })
}

/// What follows a word at the beginning of lines.
fn lines<'a>(said: &'a str, word: &'a str) -> impl Iterator<Item = &'a str> {
    said.lines().filter_map(move |line| line.strip_prefix(word))
}

/// The daemon and its device process are confined as docs/security.md says: the kernel says so of each of their threads.
fn confined(daemon: &Daemon) -> Result<()> {
    for (name, pid) in [("daemon", daemon.pid()), ("device process", daemon.device()?.as_raw_nonzero().get())]
    {
        let threads = format!("/proc/{pid}/task");
        let threads = std::fs::read_dir(&threads).context(|| format!("cannot list {threads}"))?;
        for thread in threads.flatten() {
            let path = thread.path().join("status");
            // A thread may have ended meanwhile.
            let Ok(status) = std::fs::read_to_string(&path) else { continue };
            let filters =
                status.lines().find_map(|line| line.strip_prefix("Seccomp_filters:\t")?.parse().ok());
            let lacks = ["NoNewPrivs:\t1", "Seccomp:\t2"]
                .into_iter()
                .find(|expected| !status.lines().any(|line| line == *expected))
                // What is unknown, and what is refused. Kernels before 5.9 do not say how many there are.
                .or(filters.filter(|count: &u32| *count < 2).map(|_| "second filter"));
            if let Some(lacks) = lacks {
                let message = format!("a thread of the {name} is not confined: no {lacks} in\n{status}");
                return Err(Failure::new(message));
            }
        }
    }
    Ok(())
}

/// The log says something of each who broke rules, however many more lines another causes.
fn named_in_log(workspace: &Workspace, daemon: &Daemon) -> Result<()> {
    let said = attack(workspace, daemon, &[NOISY])?;
    let case = lines(&said, "ok ").find_map(|line| line.strip_prefix(NOISY)).unwrap_or_default();
    let processes: Vec<&str> = case.split("process ").skip(1).filter_map(|it| it.split(' ').next()).collect();
    let log = without_colours(&daemon.log(usize::MAX));
    match processes.iter().find(|process| !log.contains(&format!("pid={process} "))) {
        _ if processes.len() != 2 => Err(Failure::new(format!("{NOISY} names no two processes: {case:?}"))),
        Some(missing) => Err(Failure::new(format!("the log says nothing of process {missing}:{case}"))),
        None => Ok(()),
    }
}

/// A log as it reads: from an escape on, up to the letter that ends it, is a colour.
fn without_colours(log: &str) -> String {
    let mut parts = log.split('\x1b');
    let first = parts.next().unwrap_or_default().to_owned();
    let rest = parts.filter_map(|part| part.split_once('m')).map(|(_, text)| text);
    first + &rest.collect::<String>()
}

/// A program in the place of a device process tries what its confinement is to refuse. That it is no device ends the daemon.
fn imprisoned(workspace: &Workspace) -> Result<()> {
    let folder = tempfile::tempdir().context(|| "no folder".into())?;
    let device = format!("vhost-user-gpu:{}", workspace.release("attacks").display());
    let daemon = clean(Task::new(workspace.release("virgld")))
        .args(["serve", "--device", &device, "--runtime-dir"])
        .arg(folder.path().join("run"))
        .limit(Duration::from_secs(30));
    let said = daemon.capture()?.text;
    if said.contains("prisoner: all refused") {
        return Ok(());
    }
    Err(Failure::new(format!(
        "a program in the place of the device process is not confined:\n{}",
        tail(&said, 20)
    )))
}

/// Streams that hang or crash the device that others share. How many devices that cost, and how often a program drew
/// meanwhile that has one of its own.
fn on_host(workspace: &Workspace) -> Result<(u64, usize)> {
    daemon::with_arguments(workspace, &["--command-deadline", DEADLINE], |daemon| {
        attack(workspace, daemon, &[STRANGER])?;
        let folder = daemon.session_folder()?;
        let isolated = || {
            let program = clean(Task::new(workspace.release("virgld")))
                .args(["run", "--isolated", "--runtime-dir"])
                .arg(&folder)
                .arg("--")
                .arg(workspace.release("glcheck"));
            checked(program)
        };
        let drawn = during(isolated, || attack(workspace, daemon, &["--host"]).map(drop))?;
        draw(workspace, daemon)?;
        settled(daemon)?;
        let status = daemon.status()?;
        let lost = status.pointer("/device/losses").and_then(serde_json::Value::as_u64).unwrap_or_default();
        if lost == 0 {
            return Err(Failure::new("no stream hung the device: these attacks show nothing"));
        }
        Ok((lost, drawn))
    })
}

/// Where contexts outlive their device, that of a victim does, whatever others did to the device; and the attacker's does not
/// take one device after another.
fn outlived(workspace: &Workspace) -> Result<()> {
    const HANG_AND_CRASH: [&str; 4] = ["--host", "--survive", "host-endless-draw", "host-image-format"];
    daemon::with_arguments(workspace, &["--survive", "--command-deadline", DEADLINE], |daemon| {
        attack(workspace, daemon, &HANG_AND_CRASH)?;
        draw(workspace, daemon)?;
        settled(daemon)?;
        Ok(())
    })
}

/// Does one thing over and over while the other lasts. How often.
fn during(again: impl Fn() -> Result<()> + Sync, once: impl FnOnce() -> Result<()>) -> Result<usize> {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let victim = scope.spawn(|| {
            let mut times = 0;
            while !over.load(Ordering::Relaxed) {
                again()?;
                times += 1;
            }
            Ok::<usize, Failure>(times)
        });
        let done = once();
        over.store(true, Ordering::Relaxed);
        let times = victim.join().map_err(|_| Failure::new("a thread of xtask panicked"))?;
        done.and(times)
    })
}

/// Runs attacks, and says what they said.
fn attack(workspace: &Workspace, daemon: &Daemon, cases: &[&str]) -> Result<String> {
    let attacks = daemon.run(workspace.release("attacks")).args(cases).limit(Duration::from_secs(400));
    let finished = attacks.capture()?;
    print!("{}", finished.text);
    if finished.success() { Ok(finished.text) } else { Err(Failure::new(tail(&finished.text, 40))) }
}

fn draw(workspace: &Workspace, daemon: &Daemon) -> Result<()> {
    checked(daemon.run(workspace.release("glcheck")))
}

/// Runs `glcheck`, which this task ends with.
fn checked(glcheck: Task) -> Result<()> {
    let cases = ["--expect-renderer", "virgl", "clear", "draw-shaded"];
    let finished = glcheck.args(cases).limit(Duration::from_secs(60)).capture()?;
    if finished.success() {
        return Ok(());
    }
    Err(Failure::new(format!("the program beside the attacker failed:\n{}", tail(&finished.text, 20))))
}
