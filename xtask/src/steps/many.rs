//! Many programs at once through one daemon, each with its pixels checked: on a device with room for the memory of all, with
//! room for that of some, and with room for none, where all that is mapped is copied.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::daemon::{self, Daemon};
use crate::failure::{Failure, Result};
use crate::process::{Finished, tail};
use crate::report::Outcome;
use crate::steps::Session;
use crate::workspace::Workspace;

const PROGRAMS: usize = 16;
/// One for the copies, one for each of five arenas: four places are kept for arenas, so no shareable buffer has one.
const FEW_REGIONS: &str = "6";
/// How many programs have all of their memory copied.
const COPIED: usize = 8;

/// What the daemon had at most, at any moment that was looked at.
#[derive(Debug, Default)]
struct Most {
    /// Buffers that the device cannot reach.
    copied: u64,
    /// Buffers that it can.
    reached: u64,
}

/// Starts them together and waits for all, on each device.
pub(crate) fn run(session: &Session) -> Result<Outcome> {
    let workspace = session.released()?;
    let usual = daemon::with(workspace, |daemon| at_once(workspace, daemon, PROGRAMS))?;
    let some = daemon::with_arguments(workspace, &["--regions", FEW_REGIONS], |daemon| {
        at_once(workspace, daemon, PROGRAMS)
    })?;
    if some.copied == 0 || some.reached == 0 {
        return Err(Failure::new(format!(
            "with six regions, some buffers should be copied and some not: {some:?}"
        )));
    }
    let none =
        daemon::with_arguments(workspace, &["--regions", "1"], |daemon| at_once(workspace, daemon, COPIED))?;
    if none.copied == 0 || none.reached > 0 {
        return Err(Failure::new(format!("with no place for them, all buffers should be copied: {none:?}")));
    }
    Ok(Outcome::Passed(format!(
        "{PROGRAMS} programs, pixels right in each, with up to {} buffers copied; the same with {FEW_REGIONS} regions and \
         up to {} copied; {COPIED} with all of theirs copied",
        usual.copied, some.copied
    )))
}

fn at_once(workspace: &Workspace, daemon: &Daemon, programs: usize) -> Result<Most> {
    let over = AtomicBool::new(false);
    let (results, most) = thread::scope(|scope| {
        let watch = scope.spawn(|| watch(daemon, &over));
        let programs: Vec<_> = (0..programs).map(|_| scope.spawn(|| check(workspace, daemon))).collect();
        let results: Vec<_> = programs.into_iter().map(|program| program.join()).collect();
        over.store(true, Ordering::Relaxed);
        (results, watch.join())
    });
    let panicked = |_| Failure::new("a thread of xtask panicked");
    for (index, result) in results.into_iter().enumerate() {
        let finished = result.map_err(panicked)??;
        println!("program {index}: {:.1} s", finished.took.as_secs_f64());
        if !finished.success() {
            return Err(Failure::new(format!("program {index} failed:\n{}", tail(&finished.text, 30))));
        }
    }
    most.map_err(panicked)?
}

/// Looks at the daemon until it is over.
fn watch(daemon: &Daemon, over: &AtomicBool) -> Result<Most> {
    let mut most = Most::default();
    while !over.load(Ordering::Relaxed) {
        let status = daemon.status()?;
        let count = |name: &str| status[name].as_u64().unwrap_or_default();
        let copied = count("copied_resources");
        most.copied = most.copied.max(copied);
        most.reached = most.reached.max(count("resources").saturating_sub(copied));
        thread::sleep(Duration::from_millis(50));
    }
    Ok(most)
}

fn check(workspace: &Workspace, daemon: &Daemon) -> Result<Finished> {
    daemon
        .run(workspace.release("glcheck"))
        .args(["--expect-renderer", "virgl"])
        .limit(Duration::from_secs(240))
        .capture()
}
