//! `virgld run --spread`: programs spread over as many daemons as there are processors, each with a device process.
//!
//! A device process executes what its contexts ask for on one thread. Programs that share no buffers need not share that.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::thread::available_parallelism;

use virgld_platform::host::door::own_directory;
use virgld_platform::host::process::RASTER_THREADS;

use super::Error;
use super::command_line::Device;
use super::device::DeviceChoice;

/// The directory of the daemon whose turn it is, below `directory`.
pub(super) fn next(directory: &Path) -> Result<PathBuf, Error> {
    let daemons = available_parallelism().map_or(1, usize::from);
    let turns = directory.join(TURNS);
    let turn = take_turn(&turns, daemons)
        .map_err(|error| format!("cannot take a turn in {}: {error}", turns.display()))?;
    Ok(own_directory(&directory.join(format!("spread-{turn}")))?)
}

/// A number below `daemons`, one more each time. Who asks at the same moment is told another.
fn take_turn(path: &Path, daemons: usize) -> io::Result<usize> {
    let mut file = File::options().read(true).write(true).create(true).truncate(false).open(path)?;
    file.lock()?;
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    // With nothing there, or what nobody wrote who takes turns, it begins anew.
    let turn = text.parse().unwrap_or(0) % daemons;
    file.rewind()?;
    file.set_len(0)?;
    write!(file, "{}", turn + 1)?;
    Ok(turn)
}

/// The device of each of the daemons. Their threads are enough for the processors, so each draws on its own alone,
/// unless something else was chosen.
pub(super) fn device(chosen: &Device) -> Result<Device, Error> {
    let device = chosen.settled()?;
    if !matches!(device.device, DeviceChoice::Process(_) | DeviceChoice::Auto) {
        return Err("--spread starts device processes: with it goes --device vhost-user-gpu".into());
    }
    let alone = || std::env::var_os(RASTER_THREADS).is_none().then_some(0);
    Ok(Device { raster_threads: device.raster_threads.or_else(alone), ..device })
}

/// The file that counts turns.
const TURNS: &str = "spread";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_go_round_and_nobody_has_the_same_at_the_same_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(TURNS);
        let mut turns = std::thread::scope(|scope| {
            let threads = [(); 6].map(|()| scope.spawn(|| take_turn(&path, 3).unwrap()));
            threads.map(|thread| thread.join().unwrap())
        });
        turns.sort_unstable();
        assert_eq!(turns, [0, 0, 1, 1, 2, 2]);
        std::fs::write(&path, "not a number").unwrap();
        assert_eq!((take_turn(&path, 3).unwrap(), take_turn(&path, 3).unwrap()), (0, 1));
        assert_eq!(take_turn(&path, 1).unwrap(), 0, "fewer processors than before");
    }
}
