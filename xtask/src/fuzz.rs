//! Long runs of the fuzz targets, guided by coverage.
//!
//! libFuzzer needs code that counts which branches it takes. The flags for that are stable rustc's; a nightly compiler is
//! only needed for sanitizers, which find little in safe Rust. The counting build goes into a folder of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::failure::{Context, Failure, Result};
use crate::process::{Task, tail};
use crate::workspace::Workspace;

const TRIPLE: &str = "x86_64-unknown-linux-gnu";
/// What `cargo fuzz` passes too.
const COUNTING: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
     -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
     -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1";
/// No input takes as long as this.
const HANG: u32 = 20;

/// Fuzzes each of `targets`, all if none is named, for an equal part of so many minutes; tells whether nothing was found.
pub(crate) fn run(workspace: &Workspace, minutes: u32, targets: &[String]) -> Result<bool> {
    let chosen = choose(workspace, targets)?;
    let program = build(workspace)?;
    let seconds = (minutes * 60 / u32::try_from(chosen.len()).unwrap_or(1)).max(1);
    let mut clean = true;
    for name in &chosen {
        clean &= fuzz(workspace, &program, name, seconds)?;
    }
    Ok(clean)
}

fn choose(workspace: &Workspace, wanted: &[String]) -> Result<Vec<String>> {
    let list = workspace.cargo(["run", "--quiet", "--package", "virgld-fuzz", "--", "list"]).output()?;
    let all: Vec<String> =
        list.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect();
    if let Some(unknown) = wanted.iter().find(|name| !all.contains(name)) {
        return Err(Failure::new(format!(
            "there is no target `{unknown}`; the targets are {}",
            all.join(", ")
        )));
    }
    Ok(if wanted.is_empty() { all } else { wanted.to_vec() })
}

fn build(workspace: &Workspace) -> Result<PathBuf> {
    let folder = workspace.target_folder("fuzz")?;
    println!("building with coverage counters (a few minutes the first time)");
    workspace
        .cargo(["build", "--quiet", "--profile", "fuzz", "--target", TRIPLE, "--package", "virgld-fuzz"])
        .args(["--bin", "virgld-fuzz-guided", "--features", "guided", "--target-dir"])
        .arg(&folder)
        .env("RUSTFLAGS", COUNTING)
        .show()?;
    Ok(folder.join(TRIPLE).join("fuzz").join("virgld-fuzz-guided"))
}

fn fuzz(workspace: &Workspace, program: &Path, name: &str, seconds: u32) -> Result<bool> {
    let folder = workspace.target_folder("fuzz")?;
    let (corpus, found) = (folder.join("corpus").join(name), folder.join("found"));
    for folder in [&corpus, &found] {
        fs::create_dir_all(folder).context(|| format!("cannot make {}", folder.display()))?;
    }
    println!("{name}: {seconds} s");
    let finished = Task::new(program)
        .arg(&corpus)
        .arg(workspace.root.join("fuzz/seeds").join(name))
        .args([
            format!("-max_total_time={seconds}"),
            format!("-timeout={HANG}"),
            format!("-artifact_prefix={}/{name}-", found.display()),
        ])
        .args(["-max_len=1024", "-print_final_stats=1", "-verbosity=0"])
        .env("VIRGLD_FUZZ_TARGET", name)
        .limit(Duration::from_secs(u64::from(seconds) + 120))
        .capture()?;
    for line in finished.text.lines().filter(|line| line.starts_with("stat::number_of_executed_units")) {
        println!("{name}: inputs {}", line.rsplit(' ').next().unwrap_or_default());
    }
    if finished.success() {
        return Ok(true);
    }
    println!("{}", tail(&finished.text, 40));
    let written = finished.text.lines().find_map(|line| line.split("Test unit written to ").nth(1));
    println!("again: cargo run --package virgld-fuzz -- replay {name} {}", written.unwrap_or("FILE"));
    Ok(false)
}
