//! Measures GL: latencies and rates of what programs do all day.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use serde_json::{Map, Value, json};
use virgld_programs::bench::{CASES, Case, Figures, first_pixel};
use virgld_programs::egl::Display;
use virgld_programs::stop::Verdict;

/// Measures GL. The 99th percentile is the bad end: a high latency, a low rate.
#[derive(Parser)]
struct Options {
    /// How long each case is measured.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Print one JSON object instead of lines.
    #[arg(long)]
    json: bool,
    /// List the cases and end.
    #[arg(long)]
    list: bool,
    /// Draw one pixel, write it to the standard output, and end: the child of `first-pixel`.
    #[arg(long, hide = true)]
    first_pixel_only: bool,
    /// The cases to measure, all if none is named.
    cases: Vec<String>,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let outcome = match (options.list, options.first_pixel_only) {
        (true, _) => list(),
        (_, true) => write_first_pixel(),
        _ => run(&options),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(stop) => {
            eprintln!("FAIL glbench: {stop}");
            ExitCode::FAILURE
        }
    }
}

fn list() -> Verdict {
    CASES.iter().for_each(|case| println!("{} ({})", case.name, case.unit.name()));
    Ok(())
}

fn write_first_pixel() -> Verdict {
    Ok(io::stdout().write_all(&first_pixel()?)?)
}

fn run(options: &Options) -> Verdict {
    let chosen = chosen(&options.cases)?;
    let display = Display::surfaceless()?;
    let renderer = display.context()?.gl().renderer();
    if !options.json {
        println!("renderer: {renderer}");
    }
    let mut results = Map::new();
    for case in chosen {
        let figures =
            case.measure(&display, options.seconds).map_err(|stop| format!("{}: {stop}", case.name))?;
        if options.json {
            results.insert(case.name.to_owned(), to_json(case, figures));
        } else {
            print(case, figures);
        }
    }
    if options.json {
        println!("{}", json!({ "renderer": renderer, "cases": results }));
    }
    Ok(())
}

fn chosen(names: &[String]) -> Verdict<Vec<Case>> {
    if names.is_empty() {
        return Ok(CASES.to_vec());
    }
    let find = |name: &String| {
        let found = CASES.into_iter().find(|case| case.name == name);
        found.ok_or_else(|| format!("no case {name}; see --list").into())
    };
    names.iter().map(find).collect()
}

fn print(case: Case, Figures { median, mean, p99, samples }: Figures) {
    let (name, unit) = (case.name, case.unit.name());
    println!(
        "{name:<20} median {median:>12.1}  mean {mean:>12.1}  p99 {p99:>12.1}  {unit:<10} ({samples} samples)"
    );
}

fn to_json(case: Case, Figures { median, mean, p99, samples }: Figures) -> Value {
    json!({ "unit": case.unit.name(), "median": median, "mean": mean, "p99": p99, "samples": samples })
}
