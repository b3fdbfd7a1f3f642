//! Sees to it that an actor that hangs does not hang every client with it.
//!
//! All actors share one thread, so one that does not return from a step stops them all. The daemon then ends: a
//! client finds its daemon gone within 100 ms and gets EIO, instead of waiting for ever.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

/// Counts the turns of the loop that is watched.
#[derive(Clone, Default)]
pub(crate) struct Pulse(Arc<AtomicU64>);

impl Pulse {
    /// The loop has come round.
    pub(crate) fn beat(&self) {
        // Relaxed: only that it changes matters.
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// How often the watchdog has looked and seen no beat.
#[derive(Default)]
struct Watch {
    last: u64,
    missed: u32,
}

impl Watch {
    /// Looks once. Says whether the loop counts as hung. Looks are counted, not time: a daemon that was stopped
    /// as a whole, with its machine perhaps, has missed nothing.
    fn look(&mut self, beats: u64) -> bool {
        self.missed = if beats == self.last { self.missed + 1 } else { 0 };
        self.last = beats;
        self.missed >= MISSES
    }
}

/// Ends the process if the loop behind `pulse` hangs.
pub(crate) fn start(pulse: &Pulse) -> Result<(), std::io::Error> {
    let pulse = pulse.clone();
    let body = move || {
        let mut watch = Watch::default();
        while !watch.look(pulse.0.load(Ordering::Relaxed)) {
            thread::sleep(LOOK);
        }
        tracing::error!("an actor has not returned from a step for {MISSES} s: the daemon ends");
        // Nothing of the hung thread can be cleaned up; the kernel takes all there is, the device process included.
        std::process::exit(EXIT_CODE);
    };
    thread::Builder::new().name("watchdog".into()).spawn(body).map(drop)
}

/// The loop comes round four times in this.
const LOOK: Duration = Duration::from_secs(1);
const MISSES: u32 = 30;
const EXIT_CODE: i32 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_that_comes_round_now_and_then_lives_and_one_that_does_not_is_found() {
        let mut watch = Watch::default();
        for turn in 1..100 {
            for _ in 1..MISSES {
                assert!(!watch.look(turn));
            }
        }
        let looks = (1..).find(|_| watch.look(99));
        assert_eq!(looks, Some(2));
    }
}
