//! The ratios as bars, in SVG.

use std::fmt::Write;

use super::number::short;
use crate::results::{Level, Results, Row, Spread};
use crate::side::Side;

/// A chart of virgld against virpipe and against the floor.
pub(super) fn draw(results: &Results) -> String {
    let panels: Vec<Panel> = [against_virpipe(results), against_floor(results)]
        .into_iter()
        .filter(|panel| !panel.groups.is_empty())
        .collect();
    let mut body = String::new();
    let mut top = MARGIN;
    for panel in &panels {
        top = panel.draw(top, &mut body) + MARGIN;
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {top}\" width=\"{WIDTH}\" height=\"{top}\" \
         font-family=\"system-ui, sans-serif\" font-size=\"13\" fill=\"#1f2328\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n{body}</svg>\n"
    )
}

/// Bars on one axis.
struct Panel {
    title: &'static str,
    legend: &'static str,
    groups: Vec<Group>,
}

/// The bars of one case.
struct Group {
    name: &'static str,
    /// How many clients, and the ratio.
    bars: Vec<(usize, Spread)>,
}

fn against_virpipe(results: &Results) -> Panel {
    Panel {
        title: "virgld against virpipe with virgl_test_server: how many times as fast",
        legend: "longer is better; whiskers: least and most of all rounds",
        groups: groups(results, Level::Gl, |row| row.speed(Side::Virgld, Side::Virpipe)),
    }
}

fn against_floor(results: &Results) -> Panel {
    Panel {
        title: "virgld against the floor: how many times as long",
        legend: "shorter is better; 1 is the device itself",
        groups: groups(results, Level::Device, |row| row.cost(Side::Virgld, Side::Floor)),
    }
}

fn groups(results: &Results, level: Level, ratio: impl Fn(&Row) -> Option<Spread>) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for row in results.rows.iter().filter(|row| row.level == level) {
        let Some(spread) = ratio(row) else { continue };
        let bar = (row.clients, spread);
        match groups.iter_mut().find(|group| group.name == row.case) {
            Some(group) => group.bars.push(bar),
            None => groups.push(Group { name: row.case, bars: vec![bar] }),
        }
    }
    groups
}

impl Panel {
    /// Draws from `top` on. The answer is where it ends.
    fn draw(&self, top: f64, to: &mut String) -> f64 {
        let scale = Scale::of(self.groups.iter().flat_map(|group| &group.bars).map(|(_, spread)| spread));
        text(to, (MARGIN, top + 14.0), "font-size=\"16\" font-weight=\"600\"", self.title);
        text(to, (MARGIN, top + 33.0), "fill=\"#59636e\"", self.legend);
        let bars_top = top + 66.0;
        let height: f64 = self.groups.iter().map(Group::height).sum();
        self.legend_of_clients(top + 33.0, to);
        scale.draw(bars_top, height, to);
        let mut at = bars_top;
        for group in &self.groups {
            group.draw(at, &scale, to);
            at += group.height();
        }
        // The line of 1 lies above the bars that begin at it.
        line(to, (scale.at(1.0), bars_top - 4.0), (scale.at(1.0), at), "#1f2328");
        at
    }

    /// Which colour means how many clients, at the right edge.
    fn legend_of_clients(&self, baseline: f64, to: &mut String) {
        let mut counts: Vec<usize> =
            self.groups.iter().flat_map(|group| &group.bars).map(|(clients, _)| *clients).collect();
        counts.sort_unstable();
        counts.dedup();
        if counts.len() < 2 {
            return;
        }
        let mut left = WIDTH - MARGIN - 90.0 * counts.len() as f64;
        for clients in counts {
            rectangle(to, (left, baseline - 10.0), (12.0, 12.0), colour(clients));
            let label = if clients == 1 { "1 client".into() } else { format!("{clients} clients") };
            text(to, (left + 17.0, baseline), "", &label);
            left += 90.0;
        }
    }
}

impl Group {
    fn height(&self) -> f64 {
        BAR * self.bars.len() as f64 + GAP
    }

    fn draw(&self, top: f64, scale: &Scale, to: &mut String) {
        let middle = top + (self.height() - GAP) / 2.0;
        text(to, (LEFT - 12.0, middle + 4.5), "text-anchor=\"end\"", self.name);
        for (index, (clients, spread)) in self.bars.iter().enumerate() {
            let top = top + BAR * index as f64;
            let (one, end) = (scale.at(1.0), scale.at(spread.median));
            rectangle(to, (one.min(end), top), ((end - one).abs().max(1.0), BAR - 2.0), colour(*clients));
            let middle = top + BAR / 2.0 - 1.0;
            let (least, most) = (scale.at(spread.least), scale.at(spread.most));
            line(to, (least, middle), (most, middle), "#59636e");
            let (x, anchor) = if end < one { (least - 6.0, "end") } else { (most + 6.0, "start") };
            let style = format!("font-size=\"11\" text-anchor=\"{anchor}\"");
            text(to, (x, middle + 4.0), &style, &short(spread.median));
        }
    }
}

/// A logarithmic axis between powers of two.
struct Scale {
    low: f64,
    high: f64,
}

impl Scale {
    fn of<'s>(spreads: impl Iterator<Item = &'s Spread>) -> Self {
        let (mut low, mut high) = (-1.0_f64, 1.0_f64);
        for spread in spreads {
            low = low.min(spread.least.log2().floor());
            high = high.max(spread.most.log2().ceil());
        }
        Self { low: low.max(-FURTHEST), high: high.min(FURTHEST) }
    }

    fn at(&self, value: f64) -> f64 {
        let part = (value.log2().clamp(self.low, self.high) - self.low) / (self.high - self.low);
        LEFT + part * (WIDTH - LEFT - RIGHT)
    }

    fn draw(&self, top: f64, height: f64, to: &mut String) {
        let mut power = self.low;
        while power <= self.high {
            let value = power.exp2();
            let x = self.at(value);
            line(to, (x, top - 4.0), (x, top + height), "#d8dee4");
            let label = if value < 1.0 { format!("1/{}", 1.0 / value) } else { value.to_string() };
            text(to, (x, top - 9.0), "font-size=\"11\" fill=\"#59636e\" text-anchor=\"middle\"", &label);
            power += 1.0;
        }
    }
}

fn text(to: &mut String, (x, y): (f64, f64), style: &str, words: &str) {
    let words = words.replace('&', "&amp;").replace('<', "&lt;");
    // Writing to a string does not fail.
    let _ = writeln!(to, "<text x=\"{x:.1}\" y=\"{y:.1}\" {style}>{words}</text>");
}

fn rectangle(to: &mut String, (x, y): (f64, f64), (width, height): (f64, f64), fill: &str) {
    let _ = writeln!(
        to,
        "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" rx=\"2\" fill=\"{fill}\"/>"
    );
}

fn line(to: &mut String, (x1, y1): (f64, f64), (x2, y2): (f64, f64), stroke: &str) {
    let _ = writeln!(
        to,
        "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"{stroke}\"/>"
    );
}

fn colour(clients: usize) -> &'static str {
    match clients {
        1 => "#0a5cad",
        2..=7 => "#4c9be8",
        _ => "#a5cdf5",
    }
}

const WIDTH: f64 = 880.0;
const MARGIN: f64 = 24.0;
/// Where the axis begins; names stand before it.
const LEFT: f64 = 190.0;
/// Room behind the axis, for the number at the longest bar.
const RIGHT: f64 = 70.0;
const BAR: f64 = 15.0;
const GAP: f64 = 12.0;
/// The axis reaches to two to this power at most.
const FURTHEST: f64 = 7.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_axis_holds_all_values_and_one_within_it() {
        let spread = Spread { least: 0.4, median: 3.0, most: 5.0 };
        let scale = Scale::of([&spread].into_iter());
        assert_eq!((scale.low, scale.high), (-2.0, 3.0));
        assert_eq!((scale.at(0.25), scale.at(8.0)), (LEFT, WIDTH - RIGHT));
        assert!(scale.at(1.0) > scale.at(0.5) && scale.at(1.0) < scale.at(2.0));
    }
}
