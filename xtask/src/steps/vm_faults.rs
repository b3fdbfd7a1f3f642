//! A PCI device in trouble, in a virtual machine: it stalls, it needs a reset, it is pulled out and put back, the daemon is killed.
//!
//! QEMU 7.2 plugs and unplugs no virtio-gpu device while a machine runs ("does not support hotplugging"), so the guest's
//! kernel is told to drop the device and to look for it again: to a driver that is the same.

use std::time::Duration;

use crate::failure::Result;
use crate::report::Outcome;
use crate::steps::Session;
use crate::vm::{self, GPU};

/// Boots a guest whose gpu has no interrupt vectors but a line, and does to the device what can happen to one.
pub(crate) fn run(session: &Session) -> Result<Outcome> {
    if let Some(skipped) = vm::skipped() {
        return Ok(skipped);
    }
    let gpu = format!("{GPU},vectors=0,bus=slot1");
    let guest = vm::run(session.released()?, "faults", &gpu, SCRIPT, Duration::from_secs(400))?;
    Ok(guest.outcome())
}

const SCRIPT: &str = r#"
set -eE
export VIRGLD_DIR=/tmp/virgld
gpu=$(grep -l 0x1050 /sys/bus/pci/devices/*/device | cut -d/ -f6)
device=/sys/bus/pci/devices/$gpu
trap 'echo "failed at line $LINENO"' ERR

start() {
    ./virgld serve --device pci:$gpu --rebind --command-deadline 3 2>> /vm/daemon.log &
    daemon=$!
    until ./virgld status > /dev/null 2>&1; do kill -0 $daemon; sleep 0.05; done
}
# Waits until what the daemon says of itself has this in it.
says() {
    for try in $(seq 300); do
        ./virgld status 2> /dev/null | grep -q "$1" && return
        sleep 0.1
    done
    ./virgld status
    return 1
}
draws() { timeout 60 ./virgld run -- ./glcheck --expect-renderer virgl --platform surfaceless clear; }
start
draws
grep -c vfio /proc/interrupts

# The device stalls: it is not let at memory any more, and forgets that it was to work.
printf '\x02' | dd of=$device/config bs=1 seek=4 conv=notrunc 2> /dev/null
timeout 60 ./virgld run -- ./glcheck --platform surfaceless clear > /dev/null 2>&1 || true
says 'losses     1 devices'
draws
echo "a device that stalled was reset"

# It finds its queue where there is no memory, and says that it needs a reset. Its registers are reached through its
# configuration space (virtio 1.2, section 4.1.4.9).
byte() { od -An -tu1 -j$1 -N1 $device/config | tr -d ' '; }
word() { od -An -tu4 -j$1 -N4 $device/config | tr -d ' '; }
put() {
    local bytes= shift
    for shift in 0 8 16 24; do bytes+=$(printf '\\x%02x' $(($2 >> shift & 255))); done
    printf "${bytes:0:$(($3 * 4))}" | dd of=$device/config bs=1 seek=$1 conv=notrunc 2> /dev/null
}
at=$(byte 52)
while [ $at != 0 ]; do
    case $(byte $at)-$(byte $((at + 3))) in
        9-1) bar=$(byte $((at + 4))) common=$(word $((at + 8))) ;;
        9-5) window=$at ;;
    esac
    at=$(byte $((at + 1)))
done
poke() {
    put $((window + 4)) $bar 1
    put $((window + 8)) $((common + $1)) 4
    put $((window + 12)) $2 4
    put $((window + 16)) $3 $2
}
poke 22 2 0  # the control queue
poke 32 4 16 # its descriptors
poke 28 2 1  # is enabled
timeout 60 ./virgld run -- ./glcheck --platform surfaceless clear > /dev/null 2>&1 || true
says 'losses     2 devices'
says NEEDS_RESET
draws
echo "a device that needed a reset was reset"

# It is pulled out under a program, stays away for a moment, and comes back.
EGL_PLATFORM=surfaceless timeout 60 ./virgld run -- ./glbench --seconds 6 small-frames > /dev/null 2>&1 &
client=$!
sleep 2
echo 1 > $device/remove
! [ -e $device ]
sleep 1
kill -0 $daemon
echo 1 > /sys/bus/pci/rescan
says 'losses     3 devices'
says 'without one'
draws
wait $client || echo "the program that it was pulled out under ended with $?"
[ $(basename $(readlink $device/driver)) = vfio-pci ]
echo "a device that was pulled out was taken again"

# The daemon is killed while a program holds its files.
EGL_PLATFORM=surfaceless timeout 60 ./virgld run -- ./glbench --seconds 8 finish-after-clear > /vm/orphan 2>&1 &
client=$!
sleep 2
kill -KILL $daemon
wait $daemon || true
start
draws
code=0
wait $client || code=$?
[ $code != 124 ]

# The device goes back to the kernel's driver, which works.
kill $daemon
wait $daemon
echo > $device/driver_override
[ $(basename $(readlink $device/driver)) = vfio-pci ]
echo $gpu > /sys/bus/pci/drivers/vfio-pci/unbind
echo $gpu > /sys/bus/pci/drivers_probe
timeout 60 ./glcheck --expect-renderer virgl --platform surfaceless clear
echo "an interrupt line; stalled, in need of a reset, pulled out, killed: programs went on"
"#;
