//! The GL benchmark: how fast a driver does what programs do all day.
//!
//! A rate is measured in slices of a fixed length, a latency operation by operation; the median over them
//! is the figure, and the 99th percentile is the sample that only one in a hundred is worse than: for a
//! rate a low one, for a latency a high one.

mod churn;
mod draws;
mod latency;
mod sampling;
mod transfers;

pub use latency::{FIRST_PIXEL, first_pixel};
pub use sampling::{Figures, Sampler, Unit};

use crate::egl::Display;
use crate::gl::Gl;
use crate::stop::Verdict;

/// A named measurement.
#[derive(Clone, Copy)]
pub struct Case {
    /// What one types to run it.
    pub name: &'static str,
    /// What its figures count.
    pub unit: Unit,
    run: fn(&Gl, &mut Sampler) -> Verdict,
}

/// All cases, in the order in which they run.
pub const CASES: [Case; 9] = [
    Case { name: "finish-after-clear", unit: Unit::Microseconds, run: latency::finish_after_clear },
    Case { name: "small-frames", unit: Unit::rate("frames/s"), run: draws::small_frames },
    Case { name: "draw-calls", unit: Unit::rate("draws/s"), run: draws::draw_calls },
    Case { name: "flush", unit: Unit::rate("flushes/s"), run: draws::flush },
    Case { name: "upload-4mib", unit: Unit::rate("MB/s"), run: transfers::upload },
    Case { name: "readback-256", unit: Unit::rate("reads/s"), run: transfers::readback },
    Case { name: "buffer-churn", unit: Unit::rate("buffers/s"), run: churn::buffers },
    Case { name: "texture-churn", unit: Unit::rate("textures/s"), run: churn::textures },
    Case { name: "first-pixel", unit: Unit::Milliseconds, run: latency::first_pixels },
];

impl Case {
    /// Measures for `seconds`, in a context of its own.
    pub fn measure(self, display: &Display, seconds: f64) -> Verdict<Figures> {
        let context = display.context()?;
        let mut sampler = Sampler::new(seconds);
        (self.run)(context.gl(), &mut sampler)?;
        context.gl().check()?;
        sampler.figures(self.unit)
    }
}
