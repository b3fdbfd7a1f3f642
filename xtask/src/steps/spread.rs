//! Programs spread over as many daemons as there are processors.

use std::thread;
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::daemon::status;
use crate::failure::{Context, Failure, Result};
use crate::report::Outcome;
use crate::steps::Session;
use crate::steps::apart::check_at_once;

/// How long daemons may take to end after their last program: ten seconds, and something for a busy machine.
const IDLE: Duration = Duration::from_secs(40);

/// Fewer commands set a device up; `glcheck` gives it thousands.
const DRAWN: u64 = 1000;

/// As many at once as there are processors, and as many again, draw right; each daemon has had some of them, and all end
/// when nobody uses them any more.
pub(crate) fn run(session: &Session) -> Result<Outcome> {
    let workspace = session.released()?;
    let folder = tempfile::Builder::new().prefix("virgld-").tempdir().context(|| "no folder".into())?;
    let (virgld, meeting) = (workspace.release("virgld"), folder.path().join("run"));
    let daemons = available_parallelism().map_or(1, usize::from);
    check_at_once(workspace, "--spread", &meeting, 2 * daemons)?;
    let served: Vec<_> = (0..daemons).map(|daemon| meeting.join(format!("spread-{daemon}"))).collect();
    for meeting in &served {
        let said = status(&virgld, meeting)?;
        let commands = said.pointer("/device/commands").and_then(Value::as_u64).unwrap_or_default();
        if commands < DRAWN {
            return Err(Failure::new(format!("{}: {commands} commands are no program's", meeting.display())));
        }
    }
    let begin = Instant::now();
    while served.iter().any(|meeting| status(&virgld, meeting).is_ok()) {
        if begin.elapsed() > IDLE {
            return Err(Failure::new(format!("a daemon that nobody uses still serves after {IDLE:?}")));
        }
        thread::sleep(Duration::from_millis(500));
    }
    Ok(Outcome::Passed(format!(
        "{} programs at once on {daemons} daemons, which ended by themselves",
        2 * daemons
    )))
}
