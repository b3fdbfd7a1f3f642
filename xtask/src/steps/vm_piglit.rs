//! A part of Debian's piglit on a PCI device: what passes with a device process passes there.

use std::time::Duration;

use super::piglit::{Verdict, installed_folder, lines, verdict};
use crate::failure::{Failure, Result};
use crate::report::Outcome;
use crate::steps::Session;
use crate::vm::{self, GPU};
use crate::workspace::Workspace;

/// Boots a guest and runs the tests in it.
pub(crate) fn run(session: &Session) -> Result<Outcome> {
    if let Some(skipped) = vm::skipped() {
        return Ok(skipped);
    }
    let workspace = session.released()?;
    let tests = list(workspace)?;
    let script = script(&tests)?;
    let guest = vm::run(workspace, "piglit", GPU, &script, Duration::from_secs(500))?;
    if guest.code != 0 {
        return Err(Failure::new(guest.complaint()));
    }
    let seen =
        tests.iter().enumerate().map(|(index, test)| (test, verdict(&guest.read(&format!("{index}")))));
    let bad: Vec<String> = seen
        .filter(|(_, verdict)| *verdict != Verdict::Pass)
        .map(|(test, verdict)| format!("{test}: {}", verdict.text()))
        .collect();
    if !bad.is_empty() {
        return Ok(Outcome::Failed(format!(
            "of {} tests {} do not pass:\n{}",
            tests.len(),
            bad.len(),
            bad.join("\n")
        )));
    }
    Ok(guest.passed(&format!("{} tests pass", tests.len())))
}

/// The tests. Each is one that the step `piglit` compares with llvmpipe.
fn list(workspace: &Workspace) -> Result<Vec<String>> {
    let folder = workspace.root.join("xtask");
    let (tests, all) = (lines(&folder.join("piglit-vm.txt"))?, lines(&folder.join("piglit.txt"))?);
    match tests.iter().find(|test| !all.contains(test)) {
        Some(unknown) => Err(Failure::new(format!("piglit-vm.txt: `{unknown}` is not in piglit.txt"))),
        None => Ok(tests),
    }
}

/// Runs them two at a time; what each says is left in a file by its number.
fn script(tests: &[String]) -> Result<String> {
    let folder = installed_folder()?;
    let numbered: String =
        tests.iter().enumerate().map(|(index, test)| format!("{index} {test}\n")).collect();
    Ok(format!("folder={}\n{SCRIPT}{numbered}END\n{EPILOGUE}", folder.display()))
}

const SCRIPT: &str = r#"
set -e
export VIRGLD_DIR=/tmp/virgld virgld=$PWD/virgld
$virgld serve --device auto --rebind 2> /vm/daemon.log &
daemon=$!
until $virgld status > /dev/null 2>&1; do kill -0 $daemon; sleep 0.05; done
export EGL_PLATFORM=surfaceless PIGLIT_PLATFORM=surfaceless_egl PIGLIT_SOURCE_DIR=$folder MESA_DEBUG=silent
# A fall-back to llvmpipe would pass everything.
timeout 60 $virgld run -- eglinfo -B > /tmp/eglinfo || true
[ $(grep -c 'EGL driver name: virtio_gpu' /tmp/eglinfo) -ge 2 ]
cd $folder
one() { timeout -k 2 60 $virgld run -- ./bin/${@:2} -auto -fbo > /vm/$1 2>&1 < /dev/null || true; }
export -f one
xargs -P 2 -L 1 bash -c 'one "$@"' one << END
"#;

const EPILOGUE: &str = r#"
for try in $(seq 100); do $virgld leaks && break; sleep 0.1; done
$virgld leaks
"#;
