//! What was measured in the virtual machine, side by side.

use std::fmt;

use serde::Serialize;

/// Which driver the programs ran on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Kernel,
    Virgld,
}

/// One case on one side.
#[derive(Serialize)]
pub(super) struct Measured {
    pub(super) case: String,
    pub(super) unit: String,
    /// Whether more is better.
    pub(super) rate: bool,
    pub(super) value: f64,
    /// Processors that were busy in the guest while it ran.
    pub(super) guest: f64,
    /// Processors that QEMU kept busy.
    pub(super) machine: f64,
}

/// One case on both.
#[derive(Serialize)]
pub(super) struct Row {
    pub(super) kernel: Measured,
    pub(super) virgld: Measured,
}

impl fmt::Display for Side {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Kernel => "the kernel's virtio_gpu",
            Self::Virgld => "virgld",
        })
    }
}

impl Row {
    /// How many times as fast virgld is.
    fn speed(&self) -> Option<f64> {
        let (ours, theirs) = (self.virgld.value, self.kernel.value);
        let speed = if self.virgld.rate { ours / theirs } else { theirs / ours };
        speed.is_finite().then_some(speed)
    }

    /// How much of the guest's time virgld takes for the same work, by what the kernel's driver takes.
    fn cost(&self) -> Option<f64> {
        let cost = self.virgld.guest / self.kernel.guest / self.speed()?;
        cost.is_finite().then_some(cost)
    }
}

/// Of several rounds of the same cases the median of each case, if any round has it.
pub(super) fn medians(rounds: Vec<Vec<Option<Measured>>>) -> Vec<Option<Measured>> {
    let mut cases: Vec<Vec<Measured>> = Vec::new();
    for round in rounds {
        cases.resize_with(round.len(), Vec::new);
        cases.iter_mut().zip(round).for_each(|(case, measured)| case.extend(measured));
    }
    let median = |mut case: Vec<Measured>| {
        case.sort_by(|one, other| one.value.total_cmp(&other.value));
        let middle = case.len().saturating_sub(1) / 2;
        case.into_iter().nth(middle)
    };
    cases.into_iter().map(median).collect()
}

/// The table.
pub(super) fn markdown(rows: &[Row]) -> String {
    let mut table = String::from(
        "| case | kernel's driver | virgld | speed | busy in the guest: kernel's driver | virgld | for the same work | \
         QEMU busy: kernel's driver | virgld |\n|---|--:|--:|--:|--:|--:|--:|--:|--:|\n",
    );
    for row in rows {
        let Row { kernel, virgld } = row;
        let unit = if kernel.unit.is_empty() { String::new() } else { format!(" ({})", kernel.unit) };
        let ratio = |ratio: Option<f64>| ratio.map_or_else(|| "–".into(), |it| format!("{it:.2}"));
        let value = |it: &Measured| if it.unit.is_empty() { "–".into() } else { number(it.value) };
        table += &format!(
            "| {}{unit} | {} | {} | {} | {:.2} | {:.2} | {} | {:.2} | {:.2} |\n",
            kernel.case,
            value(kernel),
            value(virgld),
            ratio(row.speed()),
            kernel.guest,
            virgld.guest,
            ratio(row.cost()),
            kernel.machine,
            virgld.machine,
        );
    }
    table
}

/// Three digits that matter.
fn number(value: f64) -> String {
    match value {
        _ if value >= 100.0 => format!("{value:.0}"),
        _ if value >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(rate: bool, kernel: f64, virgld: f64) -> Row {
        let side =
            |value, guest| Measured { case: "x".into(), unit: "us".into(), rate, value, guest, machine: 1.0 };
        Row { kernel: side(kernel, 0.5), virgld: side(virgld, 1.0) }
    }

    #[test]
    fn the_median_round_counts_and_one_that_failed_does_not() {
        let measured = |value| Some(row(true, value, 1.0).kernel);
        let rounds = vec![
            vec![measured(3.0), None],
            vec![measured(9.0), measured(4.0)],
            vec![measured(5.0), None],
            vec![None, None],
        ];
        let values: Vec<_> = medians(rounds).into_iter().map(|case| case.map(|it| it.value)).collect();
        assert_eq!(values, [Some(5.0), Some(4.0)]);
        assert!(medians(vec![vec![None]])[0].is_none());
    }

    #[test]
    fn faster_is_more_than_one_whatever_is_counted() {
        assert_eq!(row(false, 12000.0, 1000.0).speed(), Some(12.0));
        assert_eq!(row(true, 10.0, 40.0).speed(), Some(4.0));
        assert_eq!(row(true, 10.0, 40.0).cost(), Some(0.5), "twice as busy, four times as much done");
        assert_eq!(row(true, 0.0, 40.0).speed(), None);
        assert!(
            markdown(&[row(false, 12000.0, 1000.0)])
                .ends_with("| 12000 | 1000 | 12.00 | 0.50 | 1.00 | 0.17 | 1.00 | 1.00 |\n")
        );
    }
}
