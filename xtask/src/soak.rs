//! The endurance run: clients come, go and get killed, the device is killed, all at random; what the daemon holds must
//! stay as it is.
//!
//! It goes in rounds. At the end of each everybody has gone: then the leak report must be empty, and what the daemon
//! holds is compared with what it held after the first.

use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Signal, kill_process};
use serde_json::Value;

use crate::daemon::{self, Daemon, Usage};
use crate::failure::{Context, Failure, Result};
use crate::process::{interrupted, tail};
use crate::steps::settled;
use crate::workspace::Workspace;

mod plot;
mod random;

use random::Random;

/// How long to run, and in which order of events.
pub(crate) struct Plan {
    pub(crate) minutes: f64,
    pub(crate) seed: u64,
    /// Where the picture goes.
    pub(crate) picture: Option<PathBuf>,
}

/// What the daemon held at one moment.
struct Sample {
    seconds: f64,
    usage: Usage,
    clients: u64,
    /// Devices lost so far.
    losses: u64,
    /// Nobody was there, and nothing was left.
    rest: bool,
}

/// What has happened, by all threads.
#[derive(Default)]
struct Events {
    ended: AtomicU64,
    killed: AtomicU64,
    /// Programs that failed because the device was lost under them.
    bereft: AtomicU64,
}

struct Soak<'a> {
    workspace: &'a Workspace,
    daemon: &'a Daemon,
    started: Instant,
    samples: Mutex<Vec<Sample>>,
    events: Events,
}

/// Runs it; tells whether what the daemon held stayed as it was.
pub(crate) fn run(workspace: &Workspace, plan: &Plan) -> Result<bool> {
    workspace.build_release()?;
    println!("seed {}", plan.seed);
    daemon::with(workspace, |daemon| {
        let soak = Soak {
            workspace,
            daemon,
            started: Instant::now(),
            samples: Mutex::default(),
            events: Events::default(),
        };
        let end = soak.started + Duration::from_secs_f64(plan.minutes * 60.0);
        let mut round = 0;
        while Instant::now() < end {
            soak.round(&mut Random::new(plan.seed.wrapping_add(round)))?;
            round += 1;
        }
        soak.judge(plan)
    })
}

impl Soak<'_> {
    /// A time with clients, and a look at what is left.
    fn round(&self, random: &mut Random) -> Result<()> {
        let over = AtomicBool::new(false);
        let seeds: Vec<u64> = (0..=WORKERS).map(|_| random.number()).collect();
        thread::scope(|scope| {
            let workers: Vec<_> = seeds[1..]
                .iter()
                .map(|seed| scope.spawn(|| self.clients(&mut Random::new(*seed), &over)))
                .collect();
            let killer = scope.spawn(|| self.kill_devices(&mut Random::new(seeds[0]), &over));
            let watched = self.watch(Instant::now() + ROUND);
            over.store(true, Ordering::Relaxed);
            let ended = workers.into_iter().chain([killer]).map(|thread| {
                thread.join().map_err(|_| Failure::new("a thread of xtask panicked")).and_then(|it| it)
            });
            let ended: Result<Vec<()>> = ended.collect();
            watched.and(ended.map(|_| ()))
        })?;
        let usage = settled(self.daemon)?;
        let status = self.daemon.status()?;
        self.keep(usage, &status, true)?;
        println!(
            "{:4.0} s: {} clients ended, {} killed, {} lost their device; {} devices killed; at rest {} descriptors, {} KiB",
            self.started.elapsed().as_secs_f64(),
            self.events.ended.load(Ordering::Relaxed),
            self.events.killed.load(Ordering::Relaxed),
            self.events.bereft.load(Ordering::Relaxed),
            losses(&status)?,
            usage.descriptors,
            usage.memory
        );
        Ok(())
    }

    /// Looks at the daemon until `end`.
    fn watch(&self, end: Instant) -> Result<()> {
        while Instant::now() < end {
            if interrupted() {
                return Err(Failure::new("interrupted"));
            }
            let status = self.daemon.status()?;
            self.keep(self.daemon.usage()?, &status, false)?;
            thread::sleep(SAMPLING);
        }
        Ok(())
    }

    fn keep(&self, usage: Usage, status: &Value, rest: bool) -> Result<()> {
        let clients = status.get("clients").and_then(Value::as_array).map_or(0, |list| list.len() as u64);
        let (seconds, losses) = (self.started.elapsed().as_secs_f64(), losses(status)?);
        let sample = Sample { seconds, usage, clients, losses, rest };
        self.samples.lock().map_err(|_| Failure::new("a thread of xtask panicked"))?.push(sample);
        Ok(())
    }

    /// One client after another, some of which do not live to see their end.
    fn clients(&self, random: &mut Random, over: &AtomicBool) -> Result<()> {
        while !over.load(Ordering::Relaxed) && !interrupted() {
            let cases = *random.pick(&CASES).unwrap_or(&CASES[0]);
            let fate = random.chance(400).then(|| Duration::from_millis(random.number() % 1500));
            let before = losses(&self.daemon.status()?)?;
            let program = self.daemon.run(self.workspace.release("glcheck"));
            let program = program.args(["--expect-renderer", "virgl"]).args(cases);
            let finished = program.limit(fate.unwrap_or(Duration::from_secs(120))).capture()?;
            let lost = losses(&self.daemon.status()?)? != before;
            let counted = match (finished.status, fate) {
                (None, Some(_)) => &self.events.killed,
                (Some(status), _) if status.success() => &self.events.ended,
                (Some(_), _) if lost => &self.events.bereft,
                (None, None) => return Err(Failure::new("a program hung")),
                (Some(status), _) => {
                    let text = tail(&finished.text, 20);
                    return Err(Failure::new(format!(
                        "a program failed with its device alive: {status}\n{text}"
                    )));
                }
            };
            counted.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Kills one device after another, seldom enough for the keeper's patience.
    fn kill_devices(&self, random: &mut Random, over: &AtomicBool) -> Result<()> {
        loop {
            let next = Instant::now() + Duration::from_millis(4000 + random.number() % 8000);
            while Instant::now() < next {
                if over.load(Ordering::Relaxed) {
                    return Ok(());
                }
                thread::sleep(Duration::from_millis(50));
            }
            // None is there while one is being replaced.
            if let Ok(device) = self.daemon.device() {
                let _ = kill_process(device, Signal::KILL);
            }
        }
    }

    /// Whether what the daemon held at rest stayed as it was after the first round.
    fn judge(self, plan: &Plan) -> Result<bool> {
        let samples = self.samples.into_inner().map_err(|_| Failure::new("a thread of xtask panicked"))?;
        let picture = match &plan.picture {
            Some(path) => path.clone(),
            None => self.workspace.target_folder("soak")?.join("soak.svg"),
        };
        std::fs::write(&picture, plot::draw(&samples))
            .context(|| format!("cannot write {}", picture.display()))?;
        println!("{}", picture.display());
        let rests: Vec<Usage> = samples.iter().filter(|it| it.rest).map(|it| it.usage).collect();
        let verdict = flat(&rests);
        match &verdict {
            Ok(seen) => println!("flat: {seen}"),
            Err(seen) => println!("not flat: {seen}; the seed was {}", plan.seed),
        }
        Ok(verdict.is_ok())
    }
}

/// Compares what was held at each rest with the first.
fn flat(rests: &[Usage]) -> std::result::Result<String, String> {
    let (Some(first), Some(last)) = (rests.first(), rests.last()) else {
        return Err("no round ended".into());
    };
    let seen = format!(
        "{} rests; descriptors {} then {}, memory {} then {} KiB",
        rests.len(),
        first.descriptors,
        last.descriptors,
        first.memory,
        last.memory
    );
    let grown = last.descriptors > first.descriptors || last.memory > first.memory + SLACK;
    if grown { Err(seen) } else { Ok(seen) }
}

fn losses(status: &Value) -> Result<u64> {
    let found = status.pointer("/device/losses").and_then(Value::as_u64);
    found.ok_or_else(|| Failure::new("the daemon's status has no device.losses"))
}

/// Programs that run at once.
const WORKERS: usize = 3;
const ROUND: Duration = Duration::from_secs(20);
const SAMPLING: Duration = Duration::from_millis(250);
/// Memory that an allocator may keep for itself, in KiB.
const SLACK: u64 = 4096;
/// What a client draws: all that there is, or a little.
const CASES: [&[&str]; 4] =
    [&[], &["clear"], &["draw-shaded", "clear"], &["clear", "draw-shaded", "draw-indexed"]];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_descriptor_more_at_the_end_is_not_flat_and_a_page_more_is() {
        let first = Usage { descriptors: 30, memory: 9000 };
        let page = Usage { memory: 9004, ..first };
        let leak = Usage { descriptors: 31, ..first };
        assert!(flat(&[first, leak, page]).is_ok());
        assert!(flat(&[first, leak]).is_err());
        assert!(flat(&[first, Usage { memory: 20_000, ..first }]).is_err());
        assert!(flat(&[]).is_err());
    }
}
