//! Finding, starting and setting up a device.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use virgld_platform::host::process::{DeviceProcess, DeviceProgram};
use virgld_platform::host::reactor::Registrar;
use virgld_platform::host::vhost_user::{DeviceSetup, VhostUserLink, connect, dial, gpu_feature};
use virgld_runtime::io::ReadySink;

use super::Error;
use super::command_line::Device;

/// Which device the command line names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum DeviceChoice {
    /// Start QEMU's device process, from where Debian puts it or from a path.
    Process(Option<PathBuf>),
    /// Connect to one that runs.
    Socket(PathBuf),
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            None if text == "vhost-user-gpu" => Ok(Self::Process(None)),
            Some(("vhost-user-gpu", path)) if !path.is_empty() => Ok(Self::Process(Some(path.into()))),
            Some(("unix", path)) if !path.is_empty() => Ok(Self::Socket(path.into())),
            _ => Err("expected vhost-user-gpu, vhost-user-gpu:PATH or unix:SOCKET".into()),
        }
    }
}

/// A device that runs. The process, if it is ours, ends with this.
pub(crate) struct Running {
    pub(crate) link: VhostUserLink,
    pub(crate) process: Option<DeviceProcess>,
}

impl Device {
    /// Starts or connects to the device and sets it up; it reports through sinks that `sink` makes.
    pub(crate) fn start(
        &self,
        registrar: &Registrar,
        sink: &mut dyn FnMut() -> ReadySink,
    ) -> Result<Running, Error> {
        let (process, socket) = match &self.device {
            DeviceChoice::Process(path) => {
                let mut program = DeviceProgram::qemu(self.render_node.as_deref());
                if let Some(path) = path {
                    program.program.clone_from(path);
                }
                let (process, socket) = DeviceProcess::start(&program, Duration::from_secs(10))?;
                (Some(process), socket)
            }
            DeviceChoice::Socket(path) => (None, dial(path)?),
        };
        // Blobs and UUIDs are not used: the devices that offer them fail at the first.
        let gpu_features = gpu_feature::VIRGL | gpu_feature::EDID | gpu_feature::CONTEXT_INIT;
        let setup = DeviceSetup { gpu_features, ..DeviceSetup::default() };
        let link = connect(socket, &setup, registrar, sink)?;
        Ok(Running { link, process })
    }
}

#[cfg(test)]
mod tests {
    use super::DeviceChoice;

    #[test]
    fn devices_are_named_as_the_help_says() {
        assert_eq!("vhost-user-gpu".parse(), Ok(DeviceChoice::Process(None)));
        assert_eq!("vhost-user-gpu:/a:b".parse(), Ok(DeviceChoice::Process(Some("/a:b".into()))));
        assert_eq!("unix:/run/x".parse(), Ok(DeviceChoice::Socket("/run/x".into())));
        for bad in ["", "unix:", "vhost-user-gpu:", "/run/x", "pci:0000:00:02.0"] {
            assert!(bad.parse::<DeviceChoice>().is_err(), "{bad}");
        }
    }
}
