//! The same programs on the real thing: a PCI device in a virtual machine, driven through VFIO.

use std::time::Duration;

use crate::failure::Result;
use crate::report::Outcome;
use crate::steps::Session;
use crate::vm::{self, GPU};

/// Boots a guest, has virgld take its gpu from the kernel's driver, and runs the programs.
pub(crate) fn run(session: &Session) -> Result<Outcome> {
    if let Some(skipped) = vm::skipped() {
        return Ok(skipped);
    }
    let guest = vm::run(session.released()?, "vfio", GPU, SCRIPT, Duration::from_secs(300))?;
    Ok(guest.outcome())
}

const SCRIPT: &str = r#"
set -e
export VIRGLD_DIR=/tmp/virgld
gpu=$(grep -l 0x1050 /sys/bus/pci/devices/*/device | cut -d/ -f6)
driver() { basename $(readlink /sys/bus/pci/devices/$gpu/driver); }
finish() { EGL_PLATFORM=surfaceless timeout 60 "$@" ./glbench --seconds 2 finish-after-clear | grep finish; }
# What glmark2 makes of its own pixels. It knows them in one size of window, which KMS does not give it: so not all are
# right with any driver.
scenes() {
    local scene words=
    for scene in build texture shading bump effect2d conditionals function loop; do words+=" -b $scene"; done
    timeout 120 "$@" glmark2-es2-drm --winsys-options=drm-device=/dev/dri/card0 --validate $words < /dev/null |
        grep -o '^.*Validation: .*'
}

# Without leave the device is not taken: what is said names who has it and how to change that.
! ./virgld info --device pci:$gpu 2> /vm/refusal
grep -q 'held by virtio-pci' /vm/refusal && grep -q driver_override /vm/refusal
kernel=$(finish)
scenes > /vm/kernels

start() {
    ./virgld serve --device auto --rebind 2>> /vm/daemon.log &
    daemon=$!
    for try in $(seq 200); do
        ./virgld status > /dev/null 2>&1 && return
        kill -0 $daemon || return
        sleep 0.05
    done
}
trap 'cat /vm/refusal' ERR
start
[ $(driver) = vfio-pci ]
for platform in surfaceless gbm; do
    timeout 120 ./virgld run -- ./glcheck --expect-renderer virgl --platform $platform
done
timeout 60 ./virgld run -- ./glshare
timeout 60 ./virgld run -- eglinfo -B > /vm/eglinfo || true
[ $(grep -c 'EGL driver name: virtio_gpu' /vm/eglinfo) -ge 2 ]

scenes ./virgld run -- > /vm/ours
diff /vm/kernels /vm/ours
scenes=$(wc -l < /vm/ours)
[ $scenes -ge 8 ]

# A large texture's memory lies in huge pages, and the program has them mapped whole.
EGL_PLATFORM=surfaceless timeout 60 ./virgld run -- ./glbench --seconds 3 upload-4mib > /vm/upload &
uploads=$!
huge() { grep -qs 'ShmemPmdMapped: *[1-9]' $(printf '/proc/%s/smaps ' $(pgrep -x glbench)); }
for try in $(seq 100); do huge && break; sleep 0.05; done
huge
wait $uploads

# Many at once, and nothing is left.
many=()
for index in $(seq 8); do
    timeout 120 ./virgld run -- ./glcheck --expect-renderer virgl --platform surfaceless clear buffer-copy fence-many > /vm/many.$index &
    many+=($!)
done
for program in ${many[@]}; do wait $program; done
for try in $(seq 100); do ./virgld leaks && break; sleep 0.1; done
./virgld leaks
ours=$(finish ./virgld run --)
./virgld status

# A daemon that is killed leaves the device to the next; one that ends gives it back to the kernel's driver.
kill -KILL $daemon
wait $daemon || true
start
timeout 60 ./virgld run -- ./glcheck --expect-renderer virgl --platform surfaceless clear
kill $daemon
wait $daemon
echo vfio-pci had it before: $(driver)
echo > /sys/bus/pci/devices/$gpu/driver_override
echo $gpu > /sys/bus/pci/drivers/vfio-pci/unbind
echo $gpu > /sys/bus/pci/drivers_probe
[ $(driver) = virtio-pci ]
start
[ $(driver) = vfio-pci ]
kill $daemon
wait $daemon
[ $(driver) = virtio-pci ]
timeout 60 ./glcheck --expect-renderer virgl --platform surfaceless clear
microseconds() { sed 's/.*median *//; s/ .*//' <<< "$1"; }
echo "all pixels; $scenes scenes of glmark2 as the kernel's driver has them; eight programs at once; given back; glFinish $(microseconds "$ours") us, the kernel's driver $(microseconds "$kernel") us"
"#;
