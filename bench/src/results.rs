//! What was measured, and the ratios in it.

use std::collections::BTreeMap;

use serde::Serialize;
use virgld_programs::bench::{Figures, Unit};

use crate::machine::Machine;
use crate::memory::Cost;
use crate::options::Pace;
use crate::side::Side;

/// All that one run found.
#[derive(Debug, Serialize)]
pub(crate) struct Results {
    /// Where.
    pub(crate) machine: Machine,
    /// Case by case.
    pub(crate) rows: Vec<Row>,
    /// Client by client.
    pub(crate) memory: Vec<Cost>,
    /// What each side said that it measures on.
    pub(crate) grounds: BTreeMap<Side, String>,
    /// Which mode flips were measured in.
    pub(crate) screen: Option<String>,
    /// What could not be measured, and why.
    pub(crate) gaps: Vec<String>,
}

/// Which part of the stack a case measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Level {
    /// Device commands, and the ioctls that lead to them.
    Device,
    /// Flips and pointers.
    Screen,
    /// GL.
    Gl,
    /// GL of one client beside another.
    Beside,
}

/// One case, on all sides.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    /// What it measures.
    pub(crate) level: Level,
    /// How many clients did it at once.
    pub(crate) clients: usize,
    /// Its name.
    pub(crate) case: &'static str,
    /// What its figures count.
    pub(crate) unit: &'static str,
    /// Whether more is better.
    pub(crate) rate: bool,
    /// How it was measured.
    pub(crate) pace: Pace,
    /// What was measured, round by round.
    pub(crate) rounds: Vec<BTreeMap<Side, Figures>>,
}

/// A figure over the rounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    /// Of the lowest round.
    pub(crate) least: f64,
    /// Half the rounds are lower.
    pub(crate) median: f64,
    /// Of the highest round.
    pub(crate) most: f64,
}

impl Row {
    /// An empty row.
    pub(crate) fn new(level: Level, clients: usize, case: &'static str, unit: Unit, pace: Pace) -> Self {
        let rate = matches!(unit, Unit::Rate(_));
        let rounds = vec![BTreeMap::new(); pace.rounds];
        Self { level, clients, case, unit: unit.name(), rate, pace, rounds }
    }

    /// What all clients of one side did together. The means of rates add up, and not their medians: of clients that take
    /// turns each may do most of its work in few slices, and of latencies the mean counts for the same reason. The 99th
    /// percentile is that of the worst-off client, times their number for a rate. Beside another, the first alone counts.
    pub(crate) fn together(&self, figures: &[Figures]) -> Option<Figures> {
        let figures = if self.level == Level::Beside { figures.get(..1)? } else { figures };
        if let [alone] = figures {
            return Some(*alone);
        }
        let ends = figures.iter().map(|it| it.p99);
        let samples = figures.iter().map(|it| it.samples).sum();
        let sum: f64 = figures.iter().map(|it| it.mean).sum();
        let count = figures.len() as f64;
        let (mean, p99) = if self.rate {
            (sum, ends.min_by(f64::total_cmp)? * count)
        } else {
            (sum / count, ends.max_by(f64::total_cmp)?)
        };
        Some(Figures { median: mean, mean, p99, samples })
    }

    /// The rounds' medians on one side.
    pub(crate) fn median(&self, side: Side) -> Option<Spread> {
        Spread::of(self.figures(side).map(|figure| figure.median))
    }

    /// The rounds' 99th percentiles on one side.
    pub(crate) fn p99(&self, side: Side) -> Option<Spread> {
        Spread::of(self.figures(side).map(|figure| figure.p99))
    }

    /// How many times as long as on `other` the same takes on `side`.
    pub(crate) fn cost(&self, side: Side, other: Side) -> Option<Spread> {
        self.ratio(side, other, !self.rate)
    }

    /// How many times as fast as on `other` it is on `side`.
    pub(crate) fn speed(&self, side: Side, other: Side) -> Option<Spread> {
        self.ratio(side, other, self.rate)
    }

    fn ratio(&self, side: Side, other: Side, upright: bool) -> Option<Spread> {
        let pairs = self.rounds.iter().filter_map(|round| Some((round.get(&side)?, round.get(&other)?)));
        Spread::of(pairs.map(
            |(one, other)| {
                if upright { one.median / other.median } else { other.median / one.median }
            },
        ))
    }

    fn figures(&self, side: Side) -> impl Iterator<Item = &Figures> {
        self.rounds.iter().filter_map(move |round| round.get(&side))
    }
}

impl Spread {
    /// Nothing of nothing.
    fn of(values: impl Iterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        let (least, most) = (*values.first()?, *values.last()?);
        let half = values.len() / 2;
        // PANIC: there is a first value, so there is one at half the length and, for an even one, one below.
        let median =
            if values.len() % 2 == 1 { values[half] } else { f64::midpoint(values[half - 1], values[half]) };
        Some(Self { least, median, most })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACE: Pace = Pace { rounds: 3, seconds: 1.0 };

    fn figure(median: f64, p99: f64) -> Figures {
        Figures { median, mean: median + 1.0, p99, samples: 10 }
    }

    fn row(unit: Unit, pairs: [(f64, f64); 3]) -> Row {
        let mut row = Row::new(Level::Gl, 1, "case", unit, PACE);
        for (round, (ours, theirs)) in row.rounds.iter_mut().zip(pairs) {
            round.insert(Side::Virgld, figure(ours, 0.0));
            round.insert(Side::Virpipe, figure(theirs, 0.0));
        }
        row
    }

    #[test]
    fn ratios_are_taken_round_by_round() {
        let row = row(Unit::rate("x/s"), [(100.0, 50.0), (10.0, 2.0), (9.0, 3.0)]);
        let speed = row.speed(Side::Virgld, Side::Virpipe);
        assert_eq!(speed, Some(Spread { least: 2.0, median: 3.0, most: 5.0 }));
        assert_eq!(row.speed(Side::Virgld, Side::Floor), None);
    }

    #[test]
    fn a_low_latency_is_fast_and_a_high_rate_cheap() {
        let latency = row(Unit::Microseconds, [(10.0, 20.0); 3]);
        let rate = row(Unit::rate("x/s"), [(20.0, 10.0); 3]);
        for row in [latency, rate] {
            assert_eq!(row.speed(Side::Virgld, Side::Virpipe).map(|it| it.median), Some(2.0));
            assert_eq!(row.cost(Side::Virgld, Side::Virpipe).map(|it| it.median), Some(0.5));
        }
    }

    #[test]
    fn rates_of_clients_add_up_and_latencies_do_not() {
        let figures = [figure(10.0, 5.0), figure(30.0, 40.0), figure(20.0, 20.0)];
        let rate = row(Unit::rate("x/s"), [(1.0, 1.0); 3]).together(&figures);
        assert_eq!(rate, Some(Figures { median: 63.0, mean: 63.0, p99: 15.0, samples: 30 }));
        let latency = row(Unit::Microseconds, [(1.0, 1.0); 3]).together(&figures);
        assert_eq!(latency, Some(Figures { median: 21.0, mean: 21.0, p99: 40.0, samples: 30 }));
        assert_eq!(row(Unit::Microseconds, [(1.0, 1.0); 3]).together(&[]), None);
        let alone = row(Unit::rate("x/s"), [(1.0, 1.0); 3]).together(&figures[..1]);
        assert_eq!(alone, Some(figures[0]), "of one the median counts");
        let beside = Row::new(Level::Beside, 2, "case", Unit::rate("x/s"), PACE);
        assert_eq!(beside.together(&figures), Some(figures[0]));
    }

    #[test]
    fn an_even_number_of_rounds_has_its_median_between_two() {
        let spread = Spread::of([4.0, 1.0, 2.0, 8.0].into_iter());
        assert_eq!(spread, Some(Spread { least: 1.0, median: 3.0, most: 8.0 }));
    }
}
