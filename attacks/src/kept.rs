//! What the daemon keeps for whom, as it says itself to its owner.

use std::collections::HashSet;
use std::io::Read;
use std::os::unix::net::UnixStream;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::wire::{Door, Failed, Outcome};

/// Fails unless nothing is kept for these processes, which have ended: no file, no context, resource or object of any kind, in
/// the daemon or on the device. It may take the daemon a moment to learn of the end of each.
pub(crate) fn nothing_is_kept_for(door: &Door, processes: &HashSet<u32>) -> Outcome<()> {
    let end = Instant::now() + PATIENCE;
    loop {
        let kept = kept_for(&state(door)?, processes);
        if kept.is_empty() {
            return Ok(());
        }
        if Instant::now() > end {
            return Err(Failed::Setup(format!("left behind by clients that are gone: {}", kept.join(", "))));
        }
        sleep(Duration::from_millis(20));
    }
}

/// How many files a process has open.
pub(crate) fn files_of(door: &Door, process: u32) -> Outcome<usize> {
    let state = state(door)?;
    let files = state.get("clients").and_then(Value::as_array).into_iter().flatten();
    Ok(files.filter(|file| file.get("pid").and_then(Value::as_u64) == Some(process.into())).count())
}

/// All that a daemon says of its state.
fn state(door: &Door) -> Outcome<Value> {
    let mut text = String::new();
    UnixStream::connect(door.0.join("control"))
        .and_then(|mut stream| stream.read_to_string(&mut text))
        .map_err(|error| Failed::Setup(format!("the daemon does not tell its state: {error}")))?;
    serde_json::from_str(&text).map_err(|error| Failed::Setup(format!("the daemon's state: {error}")))
}

fn kept_for(state: &Value, processes: &HashSet<u32>) -> Vec<String> {
    let list = |path: &str| state.pointer(path).and_then(Value::as_array).into_iter().flatten();
    let theirs =
        |number: Option<u64>| number.is_some_and(|it| processes.iter().any(|pid| u64::from(*pid) == it));
    let files = list("/clients")
        .filter(|file| theirs(file.get("pid").and_then(Value::as_u64)))
        .map(|file| format!("open file {file}"));
    let objects = list("/leaks/objects").filter(|object| {
        let owner = object.get("owner").and_then(Value::as_str).unwrap_or_default();
        // An owner that is gone altogether is as bad as one that was killed, and what counts for a user alone is passed
        // from process to process: of that nothing lasts.
        let of_nobody = ["user ", "nobody"].iter().any(|word| owner.starts_with(word));
        let gone = owner.contains("gone") || owner.contains("closed long ago");
        of_nobody
            || gone
            || theirs(owner.strip_prefix("pid ").and_then(|it| it.split(' ').next()?.parse().ok()))
    });
    files.chain(objects.map(Value::to_string)).collect()
}

/// Longer than the daemon waits for what a client left that waits for what does not come.
const PATIENCE: Duration = Duration::from_secs(15);
