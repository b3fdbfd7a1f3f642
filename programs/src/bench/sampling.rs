//! Samples and what is made of them.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::stop::{Stop, Verdict};

const SLICE: Duration = Duration::from_millis(50);

/// What a figure counts, and so which way is worse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// A latency.
    Microseconds,
    /// A latency.
    Milliseconds,
    /// So many of something in a second.
    Rate(&'static str),
}

impl Unit {
    /// A rate of that name.
    pub const fn rate(name: &'static str) -> Self {
        Self::Rate(name)
    }

    /// As it is printed.
    pub fn name(self) -> &'static str {
        match self {
            Self::Microseconds => "us",
            Self::Milliseconds => "ms",
            Self::Rate(name) => name,
        }
    }

    fn per_second(self) -> f64 {
        match self {
            Self::Microseconds => 1e6,
            Self::Milliseconds => 1e3,
            Self::Rate(_) => 1.0,
        }
    }
}

/// What came out of a measurement.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// Half the samples are better.
    pub median: f64,
    /// Of a latency the mean; of a rate all that was done by all the time that it took.
    pub mean: f64,
    /// One in a hundred is worse.
    pub p99: f64,
    /// How many samples there were.
    pub samples: usize,
}

/// Collects samples until the time is over.
#[derive(Debug)]
pub struct Sampler {
    limit: Duration,
    samples: Vec<f64>,
    /// The mean of a rate, which is not that of its samples: a slow slice is a long one.
    overall: Option<f64>,
}

impl Sampler {
    /// A sampler that runs for `seconds`.
    pub fn new(seconds: f64) -> Self {
        Self { limit: Duration::from_secs_f64(seconds), samples: Vec::new(), overall: None }
    }

    /// Times each run of `operation`. The first, which compiles and allocates, does not count.
    pub fn latency(&mut self, mut operation: impl FnMut() -> Verdict) -> Verdict {
        operation()?;
        let end = Instant::now() + self.limit;
        while self.samples.is_empty() || Instant::now() < end {
            let start = Instant::now();
            operation()?;
            self.samples.push(start.elapsed().as_secs_f64());
        }
        Ok(())
    }

    /// Counts in slices: `batch` does `amount` of what is counted, and `settle`, inside the slice's time,
    /// waits until all of it is done. The first batch does not count.
    pub fn rate(&mut self, amount: f64, mut batch: impl FnMut() -> Verdict, settle: impl Fn()) -> Verdict {
        batch()?;
        settle();
        let (begin, mut whole) = (Instant::now(), 0.0);
        while self.samples.is_empty() || begin.elapsed() < self.limit {
            let (start, mut done) = (Instant::now(), 0.0);
            while done == 0.0 || start.elapsed() < SLICE {
                batch()?;
                done += amount;
            }
            settle();
            self.samples.push(done / start.elapsed().as_secs_f64());
            whole += done;
        }
        self.overall = Some(whole / begin.elapsed().as_secs_f64());
        Ok(())
    }

    /// Takes what each run says: seconds, or so many in a second. The first does not count.
    pub fn told(&mut self, mut operation: impl FnMut() -> Verdict<f64>) -> Verdict {
        operation()?;
        let end = Instant::now() + self.limit;
        while self.samples.is_empty() || Instant::now() < end {
            self.samples.push(operation()?);
        }
        Ok(())
    }

    /// The figures of all samples.
    pub fn figures(mut self, unit: Unit) -> Verdict<Figures> {
        self.samples.sort_by(f64::total_cmp);
        if let Unit::Rate(_) = unit {
            self.samples.reverse();
        }
        let count = self.samples.len();
        let mean = self.overall.unwrap_or(self.samples.iter().sum::<f64>() / count as f64);
        let at = |hundredths: usize| {
            let index = (count * hundredths / 100).min(count.saturating_sub(1));
            self.samples.get(index).map(|sample| sample * unit.per_second())
        };
        match (at(50), at(99)) {
            (Some(median), Some(p99)) => {
                Ok(Figures { median, mean: mean * unit.per_second(), p99, samples: count })
            }
            _ => Err(Stop::failed("expected samples, saw none")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_99th_percentile_is_the_bad_end() {
        let samples: Vec<f64> = (1..=200).map(f64::from).collect();
        let sampler = || Sampler { limit: Duration::ZERO, samples: samples.clone(), overall: None };
        let rate = sampler().figures(Unit::rate("draws/s")).expect("samples");
        assert_eq!((rate.median, rate.p99, rate.samples), (100.0, 2.0, 200));
        let latency = sampler().figures(Unit::Milliseconds).expect("samples");
        assert_eq!((latency.median, latency.mean, latency.p99), (101e3, 100.5e3, 199e3));
    }

    #[test]
    fn the_mean_of_a_rate_is_what_was_done_by_the_time_it_took() {
        let mut sampler = Sampler::new(0.2);
        let mut batches = 0.0;
        let begin = Instant::now();
        let batch = || {
            batches += 1.0;
            Ok(())
        };
        sampler.rate(1.0, batch, || std::thread::sleep(Duration::from_millis(1))).expect("it samples");
        let least = (batches - 1.0) / begin.elapsed().as_secs_f64();
        let mean = sampler.figures(Unit::rate("batches/s")).expect("samples").mean;
        assert!(mean >= least && mean <= (batches - 1.0) / 0.2, "{least} {mean} {batches}");
    }

    #[test]
    fn no_samples_are_no_figures() {
        assert!(Sampler::new(1.0).figures(Unit::Microseconds).is_err());
    }
}
