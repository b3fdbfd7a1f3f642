//! `cargo xtask bench --vm`: the same programs on the same virtual machine, first with the kernel's driver for its
//! gpu, then with virgld.

mod cases;
mod table;

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Parser;

use self::cases::{CASES, Case};
use self::table::{Measured, Row, Side};
use super::{GPU, Image, Machine};
use crate::failure::{Context, Failure, Result};
use crate::packages::{DEVICE, PROGRAMS, VM};
use crate::workspace::Workspace;
use crate::{process, setup};

/// Measures virgld beside the kernel's driver: the same virtual machine is booted twice, and the same programs run in it.
///
/// Takes about three minutes where nothing helps QEMU to run the guest.
#[derive(Parser)]
#[command(bin_name = "cargo xtask bench --vm")]
struct Options {
    /// Measure only these cases, separated by commas.
    #[arg(long, value_name = "CASE", value_delimiter = ',')]
    only: Vec<String>,
    /// How often each side is booted, in turns; of what was measured the median counts. More than once where the machine
    /// has other work.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Write the table to this file, as Markdown.
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// Write all that was measured to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Measures, prints, and writes what was asked for.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let words = std::iter::once("bench --vm").chain(arguments.iter().map(String::as_str));
    let options = Options::parse_from(words);
    let chosen = choose(&options.only)?;
    setup::ensure(&[&DEVICE, &PROGRAMS, &VM])?;
    let workspace = Workspace::load()?;
    workspace.build_release()?;
    let image = Image::build(&workspace, "bench", &["vfio_pci", "vfio_iommu_type1", "virtio_gpu"])?;
    let programs = workspace.release_folder();
    let (mut kernel, mut virgld, mut failed) = (Vec::new(), Vec::new(), 0_u32);
    for _ in 0..options.rounds {
        for (side, rounds) in [(Side::Kernel, &mut kernel), (Side::Virgld, &mut virgld)] {
            match boot(&image, &programs, &chosen, side) {
                Ok(measured) => rounds.push(measured),
                Err(_) if process::interrupted() => return Err(Failure::new("interrupted")),
                // What the other rounds have measured is not lost for that.
                Err(failure) => {
                    eprintln!("{failure}");
                    failed += 1;
                }
            }
        }
    }
    let both = table::medians(kernel).into_iter().zip(table::medians(virgld));
    let rows: Vec<Row> =
        both.filter_map(|(kernel, virgld)| Some(Row { kernel: kernel?, virgld: virgld? })).collect();
    let table = table::markdown(&rows);
    println!("{table}");
    let write = |file: Option<PathBuf>, text: &str| match file {
        Some(file) => std::fs::write(&file, text).context(|| format!("cannot write {}", file.display())),
        None => Ok(()),
    };
    write(options.markdown, &table)?;
    let json = serde_json::to_string_pretty(&rows).map_err(|error| Failure::new(error.to_string()))?;
    write(options.json, &json)?;
    match (chosen.len() - rows.len(), failed) {
        (0, 0) => Ok(()),
        (missing, failed) => Err(Failure::new(format!(
            "{failed} guests did not come to their end; {missing} of {} cases could not be measured",
            chosen.len()
        ))),
    }
}

fn choose(only: &[String]) -> Result<Vec<&'static Case>> {
    if let Some(unknown) = only.iter().find(|name| !CASES.iter().any(|case| case.name == **name)) {
        let names: Vec<_> = CASES.iter().map(|case| case.name).collect();
        return Err(Failure::new(format!("there is no case {unknown}; there are {}", names.join(", "))));
    }
    Ok(CASES.iter().filter(|case| only.is_empty() || only.iter().any(|name| name == case.name)).collect())
}

/// Boots the machine and has it measure everything on one side.
fn boot(image: &Image, programs: &Path, cases: &[&Case], side: Side) -> Result<Vec<Option<Measured>>> {
    println!("measuring in the virtual machine: {side}");
    let lines: String = cases.iter().map(|case| case.line()).collect();
    let start = if side == Side::Virgld { VIRGLD } else { "" };
    let script = format!("cd {}\n{PRELUDE}{start}{lines}{EPILOGUE}", programs.display());
    // A size that both drivers offer as the largest, so that programs which take that one show the same.
    let gpu = format!("{GPU},xres=800,yres=600");
    let words = "drm.edid_firmware=edid/800x600.bin";
    let limit = Duration::from_secs(400);
    let machine = Machine { image, gpu: &gpu, words, script: &script, limit, screen: false };
    let guest = machine.run()?;
    if guest.code != 0 {
        return Err(Failure::new(guest.complaint()));
    }
    println!("{}; {:.0} s from power on to power off", guest.output.trim(), guest.took.as_secs_f64());
    let read = |case: &&Case| {
        case.read(guest.folder.path(), side).inspect_err(|failure| eprintln!("{failure}")).ok()
    };
    Ok(cases.iter().map(read).collect())
}

const PRELUDE: &str = r#"
set -e
export VIRGLD_DIR=/tmp/virgld
run=
guest() { local words; read -a words < /proc/stat; echo $((words[1] + words[2] + words[3] + words[6] + words[7])); }
machine() { local words; read -a words < /machine/stat; echo $((words[13] + words[14])); }
# Runs a program and keeps what it wrote, beside how long it took and what it cost in both systems.
measure() {
    local name=$1 since=$(date +%s%N) guest=$(guest) machine=$(machine)
    shift
    timeout -k 5 90 "$@" > /vm/$name.text 2>&1 < /tmp/open || echo "ended with $?" >> /vm/$name.text
    echo $(($(date +%s%N) - since)) $(($(guest) - guest)) $(($(machine) - machine)) > /vm/$name.cost
}
# kmscube ends when there is something to read: nothing ever is.
mkfifo /tmp/open
exec 9<> /tmp/open
"#;

const VIRGLD: &str = r#"
./virgld serve --device auto --rebind 2> /vm/daemon.log &
for try in $(seq 200); do ./virgld status > /dev/null 2>&1 && break; sleep 0.05; done
run="./virgld run --"
"#;

const EPILOGUE: &str = r#"
[ -z "$run" ] || ./virgld status | grep -i interrupt || true
echo "$(EGL_PLATFORM=surfaceless $run ./glbench --seconds 0.1 flush | sed -n 1p)"
"#;
