//! The hostile client against the daemon on a PCI device, where an IOMMU is all that stands between device and memory.
//!
//! Left out are the streams that hang or crash the host's renderer (`attacks --host`): that is in QEMU here, and the
//! machine goes with it. The step `attacks` has them, with a device process that can be replaced. Left out is also
//! `quota-of-copied-memory`: this device reaches all memory, and nothing is copied.

use std::time::Duration;

use crate::failure::Result;
use crate::process::tail;
use crate::report::Outcome;
use crate::steps::Session;
use crate::vm::{self, GPU};

/// Boots a guest and runs all attacks in it that leave the machine alive.
pub(crate) fn run(session: &Session) -> Result<Outcome> {
    if let Some(skipped) = vm::skipped() {
        return Ok(skipped);
    }
    let guest = vm::run(session.released()?, "attacks", GPU, SCRIPT, Duration::from_secs(500))?;
    let said = guest.read("attacks");
    print!("{said}");
    if guest.code == 0 {
        let held = said.lines().filter(|line| line.starts_with("ok ")).count();
        return Ok(guest.passed(&format!("{held} attacks held, {}", guest.last_line())));
    }
    Ok(Outcome::Failed(format!("{}\n{}", tail(&said, 60), guest.complaint())))
}

const SCRIPT: &str = r#"
set -eE
export VIRGLD_DIR=/tmp/virgld
trap 'echo "failed at line $LINENO"' ERR
# The attacker holds more descriptors than init has.
ulimit -n 65536
./virgld serve --device auto --rebind 2> /vm/daemon.log &
daemon=$!
until ./virgld status > /dev/null 2>&1; do kill -0 $daemon; sleep 0.05; done
draws() { timeout 60 ./virgld run -- ./glcheck --expect-renderer virgl --platform surfaceless clear draw-shaded; }
draws
./virgld run -- ./attacks $(./attacks --list | grep -v quota-of-copied-memory) > /vm/attacks 2>&1
draws
for try in $(seq 100); do ./virgld leaks > /vm/leaks && break; sleep 0.1; done
./virgld leaks
./virgld status | tee /vm/status
! grep -q 'losses' /vm/status
echo "nothing is left, and the device was never lost"
"#;
