//! Mode setting on a PCI device: what programs draw in the virtual machine is what QEMU's viewers see.

use std::fs;
use std::time::Duration;

use crate::failure::{Context, Result};
use crate::report::Outcome;
use crate::sheet::Picture;
use crate::steps::{Session, kms};
use crate::vm::screen::{Screen, until};
use crate::vm::{self, GPU, Image, Machine};

const PATIENCE: Duration = Duration::from_secs(40);
/// Of which modeflip's pointer is, and where the script below has it moved.
const ORANGE: [u8; 3] = [0xf0, 0x80, 0x10];
const PLACE: (i32, i32) = (311, 77);

/// Boots a guest, has it show one picture after the other, and looks at each from outside.
pub(crate) fn run(session: &Session) -> Result<Outcome> {
    if let Some(skipped) = vm::skipped() {
        return Ok(skipped);
    }
    let workspace = session.released()?;
    workspace.build_examples()?;
    let image = Image::build(workspace, "screen", &["vfio_pci", "vfio_iommu_type1", "virtio_gpu"])?;
    let (folder, example) = (workspace.release_folder(), workspace.example("modeflip"));
    let script = format!("cd {}\nmodeflip={}\n{SCRIPT}", folder.display(), example.display());
    // One interrupt vector for everything.
    let gpu = format!("{GPU},xres=640,yres=480,vectors=1");
    let limit = Duration::from_secs(240);
    let machine = Machine { image: &image, gpu: &gpu, words: "", script: &script, limit, screen: true };
    let guest = machine.start()?;
    let seen =
        |name: &str| fs::write(guest.folder().join(format!("{name}.seen")), "").context(|| name.into());

    guest.await_file("modeflip")?;
    let mut screen = Screen::connect(&guest.screen())?;
    let drawn = guest.folder().join("modeflip.png");
    until(&mut screen, "modeflip's last frame", PATIENCE, |seen, _| {
        Picture::read(&drawn).is_ok_and(|drawn| drawn.bytes() == seen.bytes())
    })
    .map_err(|failure| guest.failure(&failure.to_string()))?;
    until(&mut screen, "modeflip's pointer, at its place", PATIENCE, |_, screen| {
        let orange = |pointer: &Picture| pointer.bytes().as_chunks::<3>().0.iter().all(|it| *it == ORANGE);
        screen.pointer().is_some_and(orange) && guest.pointer() == Some(PLACE)
    })
    .map_err(|failure| {
        guest.failure(&format!("{failure}: the device was told {:?}, not {PLACE:?}", guest.pointer()))
    })?;
    seen("modeflip")?;

    guest.await_file("modetest")?;
    until(&mut screen, "modetest's pattern and a pointer", PATIENCE, |seen, screen| {
        let bars = [(20, [192, 192, 192]), (320, [0, 192, 0]), (630, [0, 0, 192])];
        let pattern = bars.iter().all(|(x, colour)| seen.pixel(*x, 2) == Some(*colour));
        let grey = |pointer: &Picture| pointer.bytes().contains(&0x77);
        pattern && screen.pointer().is_some_and(grey)
    })
    .map_err(|failure| guest.failure(&failure.to_string()))?;
    seen("modetest")?;

    guest.await_file("kmscube")?;
    until(&mut screen, "a cube on grey", PATIENCE, |seen, _| kms::is_a_cube(seen))
        .map_err(|failure| guest.failure(&failure.to_string()))?;
    seen("kmscube")?;

    guest.await_file("resize")?;
    screen.resize(1000, 700)?;
    let guest = guest.finish()?;
    Ok(guest.outcome())
}

const SCRIPT: &str = r#"
set -eE
export VIRGLD_DIR=/tmp/virgld
trap 'echo "failed at line $LINENO"' ERR
./virgld serve --device auto --rebind 2> /vm/daemon.log &
daemon=$!
until ./virgld status > /dev/null 2>&1; do kill -0 $daemon; sleep 0.05; done

# Shows something until it has been seen: the programs end with their input.
show() {
    local name=$1
    shift
    mkfifo /tmp/$name
    timeout 60 ./virgld run -- "$@" < /tmp/$name > /vm/$name.log 2>&1 &
    exec 8> /tmp/$name
    sleep 1
    echo > /vm/$name
    for try in $(seq 500); do
        [ -e /vm/$name.seen ] && break
        sleep 0.1
    done
    echo >&8 || true
    exec 8>&-
    wait %+ || true
    [ -e /vm/$name.seen ]
}
show modeflip $modeflip --flips 30 --any-pace --pointer 311,77 --png /vm/modeflip.png
./virgld run -- modetest -M virtio_gpu > /tmp/listed
number() { grep -A2 "^$1:" /tmp/listed | tail -1 | cut -f1; }
show modetest modetest -M virtio_gpu -s $(number Connectors)@$(number CRTCs):640x480 -C
show kmscube kmscube -D /dev/dri/card0

# A viewer asks for another size: the device says so by its configuration's interrupt.
! grep -q 1000x700 /tmp/listed
echo > /vm/resize
for try in $(seq 100); do
    ./virgld run -- modetest -M virtio_gpu -c > /tmp/listed
    grep -q 1000x700 /tmp/listed && break
    sleep 0.2
done
grep -q 1000x700 /tmp/listed
kill $daemon
wait $daemon
echo "pictures, pointer and another size are as QEMU's viewers see them"
"#;
