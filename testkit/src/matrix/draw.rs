//! The matrix as a table and as a picture.

use std::fmt::Write;

use super::{Entry, Told, exception};

/// Rows and columns in order, each once.
fn names(entries: &[Entry], of: impl Fn(&Entry) -> &'static str) -> Vec<&'static str> {
    let mut names: Vec<&'static str> = Vec::new();
    for entry in entries {
        let name = of(entry);
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// A table in Markdown: faults of actors in columns, or those of the device in lines.
pub fn markdown(entries: &[Entry]) -> String {
    let mut text = String::from(
        "| where | fault | struck | the client at work was told | works again after | the other client was told | left behind |\n\
         |---|---|--:|---|--:|---|---|\n",
    );
    for (row, column, cell) in entries {
        if cell.struck == 0 {
            let _ = writeln!(text, "| {row} | {column} | 0 | – | – | – | – |");
            continue;
        }
        let left = if cell.left.is_empty() { "nothing" } else { "something" };
        let (concerned, other, recovery) = (cell.concerned, cell.other, cell.recovery.as_millis());
        let _ = writeln!(
            text,
            "| {row} | {column} | {} | {concerned} | {recovery} ms | {other} | {left} |",
            cell.struck
        );
    }
    text += "\nWhat is not good in it, and why it is left so:\n\n";
    text + &exception::markdown()
}

/// A picture: a field for each cell, in the colour of what the client at work was told.
pub fn svg(actors: &[Entry], device: &[Entry]) -> String {
    let mut body = String::new();
    let mut top = HEAD;
    for entries in [actors, device] {
        let (rows, columns) = (names(entries, |it| it.0), names(entries, |it| it.1));
        for (index, column) in columns.iter().enumerate() {
            let x = LEFT + WIDTH * index as f64 + 12.0;
            let y = top - 6.0;
            let _ =
                writeln!(body, "<text x=\"{x}\" y=\"{y}\" transform=\"rotate(-24 {x} {y})\">{column}</text>");
        }
        for row in rows {
            let _ = writeln!(
                body,
                "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{row}</text>",
                LEFT - 8.0,
                top + 19.0
            );
            for (index, column) in columns.iter().enumerate() {
                let Some((_, _, cell)) = entries.iter().find(|it| (it.0, it.1) == (row, *column)) else {
                    continue;
                };
                let x = LEFT + WIDTH * index as f64;
                let (colour, words) = match cell.concerned {
                    _ if cell.struck == 0 => ("#f6f8fa", String::new()),
                    Told::Nothing => ("#aceebb", format!("{} ms", cell.recovery.as_millis())),
                    Told::Error => ("#fff8c5", format!("{} ms", cell.recovery.as_millis())),
                    Told::Lost => ("#ffd8b5", format!("{} ms", cell.recovery.as_millis())),
                    Told::Silence => ("#ffcecb", "–".into()),
                };
                let _ = writeln!(
                    body,
                    "<rect x=\"{x}\" y=\"{top}\" width=\"{}\" height=\"{}\" fill=\"{colour}\"/>\
                     <text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{words}</text>",
                    WIDTH - 2.0,
                    HEIGHT - 2.0,
                    x + WIDTH / 2.0,
                    top + 19.0
                );
            }
            top += HEIGHT;
        }
        top += HEAD;
    }
    let legend = [
        "What the client at work was told: green, nothing; yellow, an error; orange, its context is lost; red, no answer.",
        "Times are until it works again, by the simulated clock. White: this client has the actor hear no such message.",
    ];
    for (line, y) in legend.iter().zip([28.0, 46.0]) {
        let _ = writeln!(body, "<text x=\"{MARGIN}\" y=\"{}\">{line}</text>", top - HEAD + y);
    }
    let (width, height) = (LEFT + WIDTH * 13.0 + HEAD, top - HEAD + 66.0);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" \
         font-family=\"system-ui, sans-serif\" font-size=\"12\" fill=\"#1f2328\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n{body}</svg>\n"
    )
}

const MARGIN: f64 = 16.0;
const LEFT: f64 = 110.0;
const HEAD: f64 = 72.0;
const WIDTH: f64 = 80.0;
const HEIGHT: f64 = 30.0;
