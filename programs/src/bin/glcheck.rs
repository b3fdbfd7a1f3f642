//! Checks GL by its pixels: draws with EGL and GLES, and compares with what was computed without them.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use virgld_programs::check::{Case, Tally, cases};
use virgld_programs::egl::{Display, Platform};
use virgld_programs::stop::Verdict;

/// Checks GL by its pixels.
#[derive(Parser)]
struct Options {
    /// How EGL is to reach the GPU.
    #[arg(long, value_enum, default_value_t = Door::Surfaceless)]
    platform: Door,
    /// The node that the GBM platform opens.
    #[arg(long, default_value = "/dev/dri/renderD128")]
    node: PathBuf,
    /// List the cases and end.
    #[arg(long)]
    list: bool,
    /// Fail unless GL_RENDERER contains this.
    #[arg(long, value_name = "SUBSTRING")]
    expect_renderer: Option<String>,
    /// Keep what the cases drew in this folder, one PNG a case.
    #[arg(long, value_name = "DIR")]
    png: Option<PathBuf>,
    /// The cases to run, all if none is named.
    cases: Vec<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Door {
    Surfaceless,
    Gbm,
}

fn main() -> ExitCode {
    let options = Options::parse();
    if options.list {
        cases().for_each(|case| println!("{}", case.name));
        return ExitCode::SUCCESS;
    }
    match run(&options) {
        Ok(tally) if tally.failed == 0 => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(stop) => {
            println!("FAIL glcheck: {stop}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Verdict<Tally> {
    let chosen = chosen(&options.cases)?;
    if let Some(folder) = &options.png {
        std::fs::create_dir_all(folder)?;
    }
    let display = Display::open(&match options.platform {
        Door::Surfaceless => Platform::Surfaceless,
        Door::Gbm => Platform::Gbm(options.node.clone()),
    })?;
    let renderer = display.context()?.gl().renderer();
    println!("GL_RENDERER: {renderer}");
    if let Some(wanted) = &options.expect_renderer
        && !renderer.contains(wanted)
    {
        return Err(format!("expected a renderer that contains {wanted:?}, saw {renderer:?}").into());
    }
    let mut tally = Tally::default();
    for case in chosen {
        let outcome = case.run(&display, options.png.as_deref());
        println!("{}", tally.count(case, &outcome));
    }
    println!("{} passed, {} failed, {} skipped", tally.passed, tally.failed, tally.skipped);
    Ok(tally)
}

fn chosen(names: &[String]) -> Verdict<Vec<Case>> {
    if names.is_empty() {
        return Ok(cases().collect());
    }
    let find = |name: &String| {
        cases().find(|case| case.name == name).ok_or_else(|| format!("no case {name}; see --list").into())
    };
    names.iter().map(find).collect()
}
