//! The one clock of the daemon. Actors never see it; they are told the time.

use rustix::time::{ClockId, clock_gettime};
use virgld_runtime::Time;

/// Now, by CLOCK_MONOTONIC: clients give absolute times of that clock.
pub fn now() -> Time {
    let time = clock_gettime(ClockId::Monotonic);
    let (seconds, nanoseconds) = (time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs());
    Time(seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds))
}

#[cfg(test)]
mod tests {
    use super::now;

    #[test]
    fn time_goes_forward() {
        let earlier = now();
        std::thread::sleep(std::time::Duration::from_millis(2));
        assert!(now().since(earlier).as_millis() >= 2);
    }
}
