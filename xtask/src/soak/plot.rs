//! Memory, descriptors and clients over time, in SVG.

use std::fmt::Write;

use super::Sample;

/// A picture of the run.
pub(super) fn draw(samples: &[Sample]) -> String {
    let end = samples.last().map_or(1.0, |last| last.seconds).max(1.0);
    let panels = [
        panel("Resident memory of the daemon, MiB", samples, |it| it.usage.memory as f64 / 1024.0),
        panel("Open descriptors of the daemon", samples, |it| it.usage.descriptors as f64),
        panel("Open files of clients", samples, |it| it.clients as f64),
    ];
    let height = MARGIN + (PANEL + GAP) * panels.len() as f64 + MARGIN;
    let mut body = String::new();
    let mut top = MARGIN;
    for panel in &panels {
        panel.draw(top, end, samples, &mut body);
        top += PANEL + GAP;
    }
    let note = "line: while clients come, go and are killed; dots: at rest, the leak report empty; \
                red: the device was killed; across: seconds";
    text(&mut body, (LEFT, top - GAP / 2.0 + 14.0), "fill=\"#59636e\"", note);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" \
         font-family=\"system-ui, sans-serif\" font-size=\"13\" fill=\"#1f2328\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n{body}</svg>\n"
    )
}

/// One quantity.
struct Panel {
    title: &'static str,
    /// When, how much, and whether at rest.
    points: Vec<(f64, f64, bool)>,
    most: f64,
}

fn panel(title: &'static str, samples: &[Sample], amount: impl Fn(&Sample) -> f64) -> Panel {
    let points: Vec<_> = samples.iter().map(|it| (it.seconds, amount(it), it.rest)).collect();
    let most = points.iter().map(|(_, amount, _)| *amount).fold(1.0, f64::max) * 1.1;
    Panel { title, points, most }
}

impl Panel {
    fn draw(&self, top: f64, end: f64, samples: &[Sample], to: &mut String) {
        let across = |seconds: f64| LEFT + seconds / end * (WIDTH - LEFT - MARGIN);
        let down = |amount: f64| top + PANEL - amount / self.most * (PANEL - 24.0);
        text(to, (LEFT, top + 14.0), "font-weight=\"600\"", self.title);
        for part in [0.0, 0.5, 1.0] {
            let amount = self.most / 1.1 * part;
            let y = down(amount);
            let _ = writeln!(
                to,
                "<line x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{:.1}\" y2=\"{y:.1}\" stroke=\"#d1d9e0\"/>",
                WIDTH - MARGIN
            );
            text(to, (LEFT - 8.0, y + 4.0), "font-size=\"11\" text-anchor=\"end\"", &format!("{amount:.0}"));
            let x = across(end * part);
            let style = "font-size=\"11\" text-anchor=\"middle\" fill=\"#59636e\"";
            text(to, (x, top + PANEL + 14.0), style, &format!("{:.0}", end * part));
        }
        for pair in samples.windows(2).filter(|pair| pair[1].losses > pair[0].losses) {
            let x = across(pair[1].seconds);
            let _ = writeln!(
                to,
                "<line x1=\"{x:.1}\" y1=\"{:.1}\" x2=\"{x:.1}\" y2=\"{:.1}\" stroke=\"#d1242f\" stroke-opacity=\"0.35\"/>",
                top + 22.0,
                top + PANEL
            );
        }
        let line: Vec<_> =
            self.points.iter().map(|(x, y, _)| format!("{:.1},{:.1}", across(*x), down(*y))).collect();
        let _ = writeln!(to, "<polyline points=\"{}\" fill=\"none\" stroke=\"#0969da\"/>", line.join(" "));
        for (x, y, _) in self.points.iter().filter(|(_, _, rest)| *rest) {
            let _ = writeln!(
                to,
                "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"3.5\" fill=\"#1f2328\"/>",
                across(*x),
                down(*y)
            );
        }
    }
}

fn text(to: &mut String, (x, y): (f64, f64), style: &str, words: &str) {
    let _ = writeln!(to, "<text x=\"{x:.1}\" y=\"{y:.1}\" {style}>{words}</text>");
}

const WIDTH: f64 = 960.0;
const MARGIN: f64 = 24.0;
const LEFT: f64 = 64.0;
const PANEL: f64 = 150.0;
const GAP: f64 = 40.0;
