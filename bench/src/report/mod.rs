//! The results for people: tables and a chart; and for programs: JSON.

mod chart;
mod number;
mod table;
mod tables;

use std::fs;
use std::path::Path;

use crate::failure::{Context, Result};
use crate::options::Options;
use crate::results::{Results, Row};
use crate::side::Side;
use number::short;

/// Prints the tables and writes the files that were asked for.
pub(crate) fn write(options: &Options, results: &Results) -> Result<()> {
    let tables = tables::of(results);
    println!("{}", tables::ground(results));
    tables.iter().for_each(|table| println!("\n{}", table.text()));
    results.gaps.iter().for_each(|gap| println!("\nnot measured: {gap}"));
    if let Some(path) = &options.markdown {
        let parts: Vec<_> = tables.iter().map(table::Table::markdown).collect();
        save(path, &format!("{}\n\n{}", tables::ground(results), parts.join("\n")))?;
    }
    if let Some(path) = &options.svg {
        save(path, &chart::draw(results))?;
    }
    if let Some(path) = &options.json {
        save(path, &serde_json::to_string_pretty(results).context("cannot write JSON")?)?;
    }
    Ok(())
}

/// Says on the terminal that a case is done, and roughly how.
pub(crate) fn progress(row: &Row) {
    let others = [Side::Floor, Side::Llvmpipe, Side::Virpipe];
    let ours = [Side::Virgld, Side::Isolated, Side::Spread, Side::Surviving, Side::Copying];
    let sides = others.iter().chain(&ours);
    let known = sides.filter_map(|side| Some((side, row.median(*side)?)));
    let figures: Vec<_> = known.map(|(side, spread)| format!("{side} {}", short(spread.median))).collect();
    eprintln!("{:>2} x {:<19} {}  ({})", row.clients, row.case, figures.join("  "), row.unit);
}

fn save(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).context(format_args!("cannot write {}", path.display()))
}
