//! The steps of `cargo xtask test`, in the order in which they run.

use std::cell::OnceCell;

use crate::failure::{Failure, Result};
use crate::packages::{DEVICE, Group, PIGLIT, PROGRAMS, VM};
use crate::report::{Outcome, Report};
use crate::workspace::Workspace;
use crate::{process, setup};

mod apart;
mod arrows;
mod attacks;
mod churn;
mod code;
mod deps;
mod docs;
mod faults;
mod glmark2;
mod hung;
mod isolated;
mod kms;
mod licences;
mod many;
mod piglit;
mod programs;
mod redox;
mod session;
mod showing;
mod spread;
mod survival;
mod vm;
mod vm_attacks;
mod vm_faults;
mod vm_piglit;
mod vm_screen;

pub(crate) use churn::settled;

/// One thing that must hold.
pub(crate) struct Step {
    name: &'static str,
    about: &'static str,
    needs: &'static [&'static Group],
    run: fn(&Session) -> Result<Outcome>,
}

/// What the steps of one run share.
pub(crate) struct Session {
    /// The repository.
    pub(crate) workspace: Workspace,
    released: OnceCell<()>,
}

impl Session {
    /// A run that has built nothing yet.
    pub(crate) fn new(workspace: Workspace) -> Self {
        Self { workspace, released: OnceCell::new() }
    }

    /// The workspace with its release build done, once per run.
    pub(crate) fn released(&self) -> Result<&Workspace> {
        if self.released.get().is_none() {
            self.workspace.build_release()?;
            let _ = self.released.set(());
        }
        Ok(&self.workspace)
    }
}

/// Prints what there is.
pub(crate) fn list() {
    for step in STEPS {
        println!("{:<8}  {}", step.name, step.about);
    }
}

/// Runs the steps named in `only`, or all; tells whether every one of them held.
pub(crate) fn run(only: &[String]) -> Result<bool> {
    let chosen = choose(only)?;
    let needs: Vec<&Group> = chosen.iter().flat_map(|step| step.needs.iter().copied()).collect();
    if !needs.is_empty() {
        setup::ensure(&needs)?;
    }
    let session = Session::new(Workspace::load()?);
    let mut report = Report::default();
    for step in chosen {
        if process::interrupted() {
            return Err(Failure::new("interrupted"));
        }
        report.step(step.name, || (step.run)(&session));
    }
    Ok(report.finish())
}

fn choose(only: &[String]) -> Result<Vec<&'static Step>> {
    if let Some(unknown) = only.iter().find(|name| !STEPS.iter().any(|step| step.name == **name)) {
        let names: Vec<_> = STEPS.iter().map(|step| step.name).collect();
        return Err(Failure::new(format!(
            "there is no step `{unknown}`; the steps are {}",
            names.join(", ")
        )));
    }
    Ok(STEPS.iter().filter(|step| only.is_empty() || only.iter().any(|name| name == step.name)).collect())
}

const fn step(
    name: &'static str,
    needs: &'static [&'static Group],
    run: fn(&Session) -> Result<Outcome>,
    about: &'static str,
) -> Step {
    Step { name, about, needs, run }
}

const GL: &[&Group] = &[&DEVICE, &PROGRAMS];

const STEPS: &[Step] = &[
    step("fmt", &[], code::fmt, "the code is formatted"),
    step("clippy", &[], code::clippy, "no warning from clippy in any target"),
    step(
        "deps",
        &[],
        deps::run,
        "crates depend on each other as designed; licences, duplicates, no stray unsafe",
    ),
    step("unit", &[&DEVICE], code::unit, "cargo test on the whole workspace"),
    step("miri", &[], code::miri, "unit tests of portable crates under Miri, where Miri is installed"),
    step("redox", &[], redox::run, "the portable crates compile for x86_64-unknown-redox"),
    step("docs", &[], docs::run, "documentation builds without warning; links and named functions exist"),
    step("glcheck", GL, programs::glcheck, "pixel checks on virgld: surfaceless and GBM"),
    step("glshare", GL, programs::glshare, "two processes share one buffer"),
    step("eglinfo", GL, programs::eglinfo, "eglinfo and es2_info name virgl"),
    step(
        "glmark2",
        GL,
        glmark2::run,
        "glmark2's scenes validate, in a compositor that renders by virgld too",
    ),
    step(
        "kms",
        GL,
        kms::run,
        "what programs put on the screen is what a screenshot has; flips keep the pace",
    ),
    step(
        "session",
        GL,
        session::run,
        "Weston on card0 and without a screen: four clients, each seen and gone; one that is killed; a second is refused",
    ),
    step(
        "many",
        GL,
        many::run,
        "sixteen programs at once, pixels checked; the same where the device has no room for their memory",
    ),
    step("isolated", GL, isolated::run, "programs with a device process of their own, at once"),
    step("spread", GL, spread::run, "programs spread over a device process for each processor"),
    step(
        "attacks",
        GL,
        attacks::run,
        "a hostile client gets nothing, and a program beside it notices nothing",
    ),
    step(
        "faults",
        GL,
        faults::run,
        "the device is killed, aborted and stopped, and actors panic, under programs; others go on, or survive",
    ),
    step(
        "hung",
        GL,
        hung::run,
        "the daemon is stopped under programs: they draw on if it goes on in time, and else end and say why",
    ),
    step("churn", GL, churn::run, "a thousand clients one after another leave nothing behind"),
    step("vm", &[&DEVICE, &PROGRAMS, &VM], vm::run, "the pixel checks on a PCI device, in a virtual machine"),
    step(
        "vm-screen",
        &[&DEVICE, &PROGRAMS, &VM],
        vm_screen::run,
        "what programs show on the PCI device is what QEMU's viewers see; another size is noticed",
    ),
    step(
        "vm-faults",
        &[&DEVICE, &PROGRAMS, &VM],
        vm_faults::run,
        "the PCI device stalls, is pulled out and put back; the daemon is killed",
    ),
    step(
        "vm-attacks",
        &[&DEVICE, &PROGRAMS, &VM],
        vm_attacks::run,
        "a hostile client gets nothing on the PCI device either",
    ),
    step(
        "vm-piglit",
        &[&DEVICE, &PROGRAMS, &VM, &PIGLIT],
        vm_piglit::run,
        "a part of piglit's tests passes on the PCI device",
    ),
    step("piglit", &[&DEVICE, &PROGRAMS, &PIGLIT], piglit::run, "what passes on llvmpipe passes on virgld"),
];
