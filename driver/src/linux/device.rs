//! Finding, starting and setting up a device.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, Instant};

use virgld_platform::host::pci::{self, Address, Loan, PciSetup};
use virgld_platform::host::process::{DeviceProcess, DeviceProgram};
use virgld_platform::host::reactor::Registrar;
use virgld_platform::host::vhost_user::{
    ConnectError, DeviceSetup, Monitor, connect, dial, gpu_feature, replace,
};
use virgld_runtime::io::ReadySink;
use virgld_runtime::link::{CommandArea, Link};

use super::Error;
use super::command_line::Device;

/// Which device the command line names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum DeviceChoice {
    /// Start QEMU's device process, from where Debian puts it or from a path.
    Process(Option<PathBuf>),
    /// Connect to one that runs.
    Socket(PathBuf),
    /// Drive one on the PCI bus.
    Pci(Address),
    /// Drive one on the PCI bus if there is one; else start a process.
    Auto,
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            None if text == "vhost-user-gpu" => Ok(Self::Process(None)),
            None if text == "auto" => Ok(Self::Auto),
            Some(("pci", address)) => {
                address.parse().map(Self::Pci).map_err(|error: pci::BadAddress| error.to_string())
            }
            Some(("vhost-user-gpu", path)) if !path.is_empty() => Ok(Self::Process(Some(path.into()))),
            Some(("unix", path)) if !path.is_empty() => Ok(Self::Socket(path.into())),
            _ => Err("expected auto, pci:ADDRESS, vhost-user-gpu, vhost-user-gpu:PATH or unix:SOCKET".into()),
        }
    }
}

/// A device that runs. The process, if it is ours, ends with this.
pub(crate) struct Running {
    pub(crate) link: Box<dyn Link>,
    pub(crate) process: Option<DeviceProcess>,
    /// Whether it can scan out what GL drew. QEMU's device process without a GPU aborts when it is told to.
    pub(crate) scans_out: bool,
    /// What is ours only as long as this is kept.
    pub(crate) loan: Option<Loan>,
}

impl Device {
    /// The same with a device for `auto`: the one on the bus if there is one. Whatever happens later, it stays with that.
    pub(crate) fn settled(&self) -> Result<Self, Error> {
        let found = if self.device == DeviceChoice::Auto { pci::find()? } else { None };
        let device = found.map_or_else(|| self.device.clone(), DeviceChoice::Pci);
        Ok(Self { device, ..self.clone() })
    }

    /// Starts or connects to the device and sets it up; it reports through sinks that `sink` makes. Pixels that it sends
    /// go to the monitor.
    pub(crate) fn start(
        &self,
        monitor: &Monitor,
        registrar: &Registrar,
        sink: &mut dyn FnMut() -> ReadySink,
    ) -> Result<Running, Error> {
        let (process, socket) = match &self.device {
            DeviceChoice::Pci(address) => return self.start_pci(*address, registrar, sink),
            DeviceChoice::Auto => self.start_process(None)?,
            DeviceChoice::Process(path) => self.start_process(path.as_ref())?,
            DeviceChoice::Socket(path) => (None, dial(path)?),
        };
        let link = Box::new(connect(socket, &self.setup(monitor), registrar, sink)?);
        Ok(Running { link, process, scans_out: self.scans_out(), loan: None })
    }

    fn start_pci(
        &self,
        address: Address,
        registrar: &Registrar,
        sink: &mut dyn FnMut() -> ReadySink,
    ) -> Result<Running, Error> {
        if self.no_3d {
            return Err("--no-3d is for device processes: give --device vhost-user-gpu too".into());
        }
        let loan = self.rebind.then(|| pci::lend(address)).transpose()?;
        let link = Box::new(pci::connect(address, &pci_setup(), registrar, sink)?);
        Ok(Running { link, process: None, scans_out: true, loan })
    }

    /// The same in place of one that is dead, with the memory for commands that it had. Whoever looks after a device
    /// that is not ours has some time to start another, or to plug it in again; what was lent to us is taken again then.
    pub(crate) fn replace(
        &self,
        commands: &CommandArea,
        monitor: &Monitor,
        loan: &mut Option<Loan>,
        registrar: &Registrar,
        sink: &mut dyn FnMut() -> ReadySink,
    ) -> Result<Running, Error> {
        let (process, socket) = match &self.device {
            DeviceChoice::Pci(address) => {
                await_device(*address, START_DEADLINE);
                if let Some(loan) = loan {
                    loan.renew()?;
                }
                let link = Box::new(pci::replace(*address, &pci_setup(), commands, registrar, sink)?);
                return Ok(Running { link, process: None, scans_out: true, loan: None });
            }
            DeviceChoice::Auto => self.start_process(None)?,
            DeviceChoice::Process(path) => self.start_process(path.as_ref())?,
            DeviceChoice::Socket(path) => (None, dial_for(path, START_DEADLINE)?),
        };
        let link = Box::new(replace(socket, &self.setup(monitor), commands, registrar, sink)?);
        Ok(Running { link, process, scans_out: self.scans_out(), loan: None })
    }

    fn start_process(&self, path: Option<&PathBuf>) -> Result<(Option<DeviceProcess>, UnixStream), Error> {
        let mut program = if self.no_3d {
            DeviceProgram::qemu_without_3d()
        } else {
            DeviceProgram::qemu(self.render_node.as_deref())
        };
        if let Some(path) = path {
            program.program.clone_from(path);
        }
        program.raster_threads = self.raster_threads;
        let (process, socket) = DeviceProcess::start(&program, START_DEADLINE)?;
        Ok((Some(process), socket))
    }

    /// Whether a device process shows what it is told to: without a GPU, only what is no texture.
    fn scans_out(&self) -> bool {
        self.no_3d || self.render_node.is_some()
    }

    fn setup(&self, monitor: &Monitor) -> DeviceSetup {
        let gpu_features = if self.no_3d { GPU_FEATURES & !gpu_feature::VIRGL } else { GPU_FEATURES };
        let usual = DeviceSetup::default();
        let most_places = self.regions.map_or(usual.most_places, usize::from);
        DeviceSetup { gpu_features, monitor: monitor.clone(), most_places, ..usual }
    }
}

/// Blobs and UUIDs are not used: the devices that offer them fail at the first.
const GPU_FEATURES: u64 = gpu_feature::VIRGL | gpu_feature::EDID | gpu_feature::CONTEXT_INIT;

fn pci_setup() -> PciSetup {
    PciSetup { gpu_features: GPU_FEATURES, ..PciSetup::default() }
}

/// Waits until a device is plugged in.
fn await_device(address: Address, limit: Duration) {
    let end = Instant::now() + limit;
    while !pci::is_there(address) && Instant::now() < end {
        std::thread::sleep(DIAL_PAUSE);
    }
}

/// Connects as soon as somebody listens.
fn dial_for(path: &Path, limit: Duration) -> Result<UnixStream, ConnectError> {
    let end = Instant::now() + limit;
    loop {
        match dial(path) {
            Err(_) if Instant::now() < end => std::thread::sleep(DIAL_PAUSE),
            outcome => return outcome,
        }
    }
}

const START_DEADLINE: Duration = Duration::from_secs(10);
const DIAL_PAUSE: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::DeviceChoice;

    #[test]
    fn devices_are_named_as_the_help_says() {
        assert_eq!("vhost-user-gpu".parse(), Ok(DeviceChoice::Process(None)));
        assert_eq!("vhost-user-gpu:/a:b".parse(), Ok(DeviceChoice::Process(Some("/a:b".into()))));
        assert_eq!("unix:/run/x".parse(), Ok(DeviceChoice::Socket("/run/x".into())));
        assert_eq!("auto".parse(), Ok(DeviceChoice::Auto));
        let Ok(DeviceChoice::Pci(address)) = "pci:0000:00:02.0".parse() else { panic!("a PCI device") };
        assert_eq!(address.to_string(), "0000:00:02.0");
        for bad in ["", "unix:", "vhost-user-gpu:", "/run/x", "pci:", "pci:2", "auto:"] {
            assert!(bad.parse::<DeviceChoice>().is_err(), "{bad}");
        }
    }
}
