//! The one clock of the daemon. Actors never see it; they are told the time.

use std::time::Instant;

use virgld_runtime::Time;

/// A monotonic clock that began at zero when it was made.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// A clock that reads zero now. One per daemon: times of two clocks cannot be compared.
    pub fn start() -> Self {
        Self { start: Instant::now() }
    }

    /// The time since the start, in nanoseconds; it holds 584 years.
    pub fn now(&self) -> Time {
        Time::default().after(self.start.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_goes_forward() {
        let clock = Clock::start();
        let earlier = clock.now();
        std::thread::sleep(std::time::Duration::from_millis(2));
        assert!(clock.now().since(earlier).as_millis() >= 2);
    }
}
