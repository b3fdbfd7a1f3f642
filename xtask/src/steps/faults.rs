//! The device is killed, aborted and stopped in the middle of a program: that program ends, and one that starts
//! afterwards, or while there is no device, passes its checks, and its first right pixel comes soon. Each actor panics under a
//! program that checks what it draws, and the program passes. A context that hangs costs its program alone; a queue that breaks
//! off in a step begins the device anew. Where contexts are to survive, the program goes on.

use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Signal, kill_process};
use serde_json::Value;

use crate::daemon::{self, Daemon};
use crate::failure::{Context, Failure, Result};
use crate::process::{Finished, tail};
use crate::report::Outcome;
use crate::steps::{Session, survival};
use crate::workspace::Workspace;

/// What happens to the device.
const FAULTS: [(&str, Signal); 4] = [
    ("killed", Signal::KILL),
    ("aborted", Signal::ABORT),
    ("stopped", Signal::STOP),
    ("killed again", Signal::KILL),
];

/// Seconds that the device may take for a command here: a stopped one is noticed soon, and a slow one on a busy machine is
/// not taken for stopped.
const DEADLINE: &str = "10";

/// How often the device is killed to see how soon there are pixels again.
const KILLS: u64 = 5;
/// The first right pixel comes sooner than this.
const FIRST_PIXEL: Duration = Duration::from_secs(1);
/// Actors, and the message that they panic at: of those that a program makes them hear, one in its middle. The display hears
/// nothing of a program without a screen but its beginning, and what the daemon asks.
const PANICS: [(&str, u32); 6] = [
    ("door", 1000),
    ("scheme", 1000),
    ("control queue", 1000),
    ("transport", 2000),
    ("resource", 100),
    ("display", 2),
];

/// Commands after which a program is in the middle of its work.
pub(super) const UNDER_WAY: u64 = 500;

/// Runs each fault with a daemon that lives through all of them.
pub(crate) fn run(session: &Session) -> Result<Outcome> {
    let workspace = session.released()?;
    daemon::with_arguments(workspace, &["--command-deadline", DEADLINE], |daemon| {
        let mut seen = Vec::new();
        for (index, (name, signal)) in FAULTS.into_iter().enumerate() {
            seen.push(fault(workspace, daemon, name, signal, index as u64 + 1)?);
        }
        Ok(seen)
    })
    .and_then(|mut seen: Vec<String>| {
        seen.push(first_pixel(workspace)?);
        seen.push(panics(workspace)?);
        seen.push(hang(workspace)?);
        seen.push(begins_anew(workspace)?);
        seen.push(survival::run(workspace)?);
        Ok(Outcome::Passed(seen.join("; ")))
    })
}

fn fault(workspace: &Workspace, daemon: &Daemon, name: &str, signal: Signal, losses: u64) -> Result<String> {
    let before = number(&daemon.status()?, "commands")?;
    let (victim, survivor) = thread::scope(|scope| {
        let victim = scope.spawn(|| check(workspace, daemon));
        let struck = until(daemon, "the program is under way", |status| {
            Ok(number(status, "commands")? > before + UNDER_WAY)
        })
        .and_then(|_| kill_process(daemon.device()?, signal).context(|| "the device is gone".into()));
        // It starts while there is no device, or as soon as there is another.
        let noticed = struck.and_then(|()| {
            until(daemon, "the loss is noticed", |status| Ok(number(status, "losses")? == losses))
        });
        let survivor = noticed.and_then(|_| check(workspace, daemon));
        (victim.join(), survivor)
    });
    let victim = victim.map_err(|_| Failure::new("a thread of xtask panicked"))??;
    let survivor = survivor?;
    if victim.status.is_none() {
        return Err(Failure::new(format!(
            "device {name}: the program never ended:\n{}",
            tail(&victim.text, 5)
        )));
    }
    if !survivor.success() {
        let text = tail(&survivor.text, 30);
        return Err(Failure::new(format!(
            "device {name}: a program that started afterwards failed:\n{text}"
        )));
    }
    let status = until(daemon, "the leak report is empty", |status| {
        let clients = status.get("clients").and_then(Value::as_array);
        let left = (status.pointer("/leaks/total").and_then(Value::as_u64), clients.map(Vec::len));
        Ok(left == (Some(0), Some(0)) && number(status, "losses")? == losses)
    })?;
    let outage = status.pointer("/device/last_outage_ms").and_then(Value::as_f64);
    let outage =
        outage.ok_or_else(|| Failure::new("the daemon does not say how long there was no device"))?;
    Ok(format!("{name}: {outage:.0} ms without a device"))
}

/// From the moment at which the device is killed to the first right pixel of a program that is started then, over and over
/// until one succeeds: its own start is part of it. A busy machine makes single ones slow, so the quickest counts.
fn first_pixel(workspace: &Workspace) -> Result<String> {
    daemon::with(workspace, |daemon| {
        let clear = || {
            let program =
                daemon.run(workspace.release("glcheck")).args(["--expect-renderer", "virgl", "clear"]);
            Ok::<bool, Failure>(program.limit(Duration::from_secs(60)).capture()?.success())
        };
        // What a program needs is in the machine's memory from then on.
        clear()?;
        let mut times = Vec::new();
        for losses in 1..=KILLS {
            kill_process(daemon.device()?, Signal::KILL).context(|| "the device is gone".into())?;
            let begin = Instant::now();
            while !clear()? {
                if begin.elapsed() > Duration::from_secs(60) {
                    return Err(Failure::new("no program draws again after the device was killed"));
                }
            }
            times.push(begin.elapsed());
            until(daemon, "the loss is noticed", |status| Ok(number(status, "losses")? == losses))?;
        }
        times.sort_unstable();
        let milliseconds =
            times.iter().map(|time| time.as_millis().to_string()).collect::<Vec<_>>().join(", ");
        match times.first() {
            Some(best) if *best < FIRST_PIXEL => Ok(format!(
                "{milliseconds} ms from the death of a device to a new program's first right pixel"
            )),
            _ => Err(Failure::new(format!(
                "from the death of a device to the first right pixel it took {milliseconds} ms"
            ))),
        }
    })
}

/// Each actor that is started anew panics, by a plan that is in force from the start, under a program that checks what it
/// draws: that passes. Then no plan is in force any more.
fn panics(workspace: &Workspace) -> Result<String> {
    let plan = tempfile::NamedTempFile::new().context(|| "no file for a plan".into())?;
    let fault = |(actor, nth)| format!("[[fault]]\nactor = \"{actor}\"\ndo = \"panic\"\nnth = {nth}\n");
    let text: String = PANICS.into_iter().map(fault).collect();
    std::fs::write(&plan, text).context(|| "cannot write a plan".into())?;
    daemon::with_arguments(workspace, &["--faults", &plan.path().to_string_lossy()], |daemon| {
        let checked = check(workspace, daemon)?;
        let list = || daemon.tool("fault").args(["list"]).output();
        let seen = list()?;
        if !checked.success() {
            let text = tail(&checked.text, 30);
            return Err(Failure::new(format!("actors panicked, and a program failed:\n{text}\n{seen}")));
        }
        let struck = seen.matches("struck 1 of").count();
        if struck != PANICS.len() {
            return Err(Failure::new(format!("{struck} of {} actors panicked:\n{seen}", PANICS.len())));
        }
        daemon.tool("fault").args(["clear"]).output()?;
        if list()?.contains("struck") {
            return Err(Failure::new("a plan is in force that was taken out of it"));
        }
        until(daemon, "the leak report is empty", |status| {
            Ok(status.pointer("/leaks/total").and_then(Value::as_u64) == Some(0))
        })?;
        Ok(format!("{struck} actors panicked under a program: its pixels are right"))
    })
}

/// The actor of a program's context hangs: that program fails, one beside it passes, and the daemon goes on.
fn hang(workspace: &Workspace) -> Result<String> {
    daemon::with_arguments(workspace, &["--watchdog", "2"], |daemon| {
        let victim = thread::scope(|scope| {
            let victim = scope.spawn(|| check(workspace, daemon));
            let under_way = until(daemon, "the program is under way", |status| {
                Ok(number(status, "commands")? > UNDER_WAY)
            });
            let struck = under_way.and_then(|_| {
                daemon.tool("fault").args(["inject", "--actor", "context", "--do", "hang"]).output()
            });
            (victim.join(), struck)
        });
        victim.1?;
        let victim = victim.0.map_err(|_| Failure::new("a thread of xtask panicked"))??;
        if victim.success() || victim.status.is_none() {
            return Err(Failure::new("a program whose context hung did not fail, or did not end"));
        }
        let beside = check(workspace, daemon)?;
        if !beside.success() {
            let text = tail(&beside.text, 30);
            return Err(Failure::new(format!("a context hung, and a program of afterwards failed:\n{text}")));
        }
        until(daemon, "the leak report is empty", |status| {
            Ok(status.pointer("/leaks/total").and_then(Value::as_u64) == Some(0))
        })?;
        Ok("a context hung: it alone was given up".into())
    })
}

/// A queue's actor breaks off in the middle of a step: the device begins anew with all that builds on it. The device keeper
/// hangs when it hears of a loss: another takes its place, and that finds out. Programs of afterwards pass each time.
fn begins_anew(workspace: &Workspace) -> Result<String> {
    daemon::with_arguments(workspace, &["--watchdog", "2"], |daemon| {
        for (losses, actor) in [(1, "control queue"), (2, "transport")] {
            break_off(workspace, daemon, actor, losses)?;
        }
        let status = daemon.status()?;
        let seen = ["control queue", "transport", "cursor queue", "device keeper", "scheme"]
            .map(|child| restarts(&status, child));
        if seen != [Some(1), Some(2), Some(2), Some(2), Some(0)] {
            return Err(Failure::new(format!(
                "not the rest was started anew with the one: {seen:?} of {status}"
            )));
        }
        let message = ["--message", "Transport.Lost", "--do", "hang"];
        daemon.tool("fault").args(["inject", "--actor", "device keeper"]).args(message).output()?;
        kill_process(daemon.device()?, Signal::KILL).context(|| "the device is gone".into())?;
        passes(workspace, daemon, "the device keeper hung")?;
        until(daemon, "another keeper is at work", |status| {
            let up = status.pointer("/device/up").and_then(Value::as_bool) == Some(true);
            Ok(up && restarts(status, "device keeper") == Some(3) && number(status, "losses")? == 1)
        })?;
        Ok("two queues broke off and the keeper hung: the device was begun anew each time".into())
    })
}

fn break_off(workspace: &Workspace, daemon: &Daemon, actor: &str, losses: u64) -> Result<()> {
    let before = number(&daemon.status()?, "commands")?;
    let victim = thread::scope(|scope| {
        let victim = scope.spawn(|| check(workspace, daemon));
        let struck = until(daemon, "the program is under way", |status| {
            Ok(number(status, "commands")? > before + UNDER_WAY)
        })
        .and_then(|_| {
            let what = ["--do", "panic", "--point", "within"];
            daemon.tool("fault").args(["inject", "--actor", actor]).args(what).output()
        });
        (victim.join(), struck)
    });
    victim.1?;
    if victim.0.map_err(|_| Failure::new("a thread of xtask panicked"))??.status.is_none() {
        return Err(Failure::new(format!("the {actor} broke off, and a program never ended")));
    }
    passes(workspace, daemon, &format!("the {actor} broke off"))?;
    until(daemon, "the leak report is empty and the device was begun anew", |status| {
        let left = status.pointer("/leaks/total").and_then(Value::as_u64);
        Ok(left == Some(0) && number(status, "losses")? == losses)
    })?;
    Ok(())
}

/// A program that starts now does what it should.
fn passes(workspace: &Workspace, daemon: &Daemon, after: &str) -> Result<()> {
    let checked = check(workspace, daemon)?;
    if checked.success() {
        return Ok(());
    }
    let text = tail(&checked.text, 30);
    Err(Failure::new(format!("{after}, and a program that started afterwards failed:\n{text}")))
}

/// How often an actor was started anew.
fn restarts(status: &Value, child: &str) -> Option<u64> {
    let supervisors = status.get("supervisors").and_then(Value::as_array)?;
    let mut children = supervisors.iter().filter_map(|it| it.get("children")?.as_array()).flatten();
    let is = |it: &&Value| it.get("name").and_then(Value::as_str) == Some(child);
    children.find(is)?.get("restarts")?.as_u64()
}

fn check(workspace: &Workspace, daemon: &Daemon) -> Result<Finished> {
    daemon
        .run(workspace.release("glcheck"))
        .args(["--expect-renderer", "virgl"])
        .limit(Duration::from_secs(120))
        .capture()
}

/// The status as soon as it is as wanted.
pub(super) fn until(daemon: &Daemon, what: &str, is_so: impl Fn(&Value) -> Result<bool>) -> Result<Value> {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let status = daemon.status()?;
        if is_so(&status)? {
            return Ok(status);
        }
        if Instant::now() > deadline {
            return Err(Failure::new(format!("waited in vain until {what}; the daemon says {status}")));
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// A count of the device's.
pub(super) fn number(status: &Value, name: &str) -> Result<u64> {
    let found = status.pointer(&format!("/device/{name}")).and_then(Value::as_u64);
    found.ok_or_else(|| Failure::new(format!("the daemon's status has no device.{name}")))
}
