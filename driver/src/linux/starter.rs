//! Starting a device in place of one that is lost, on a thread of its own: processes and handshakes take their time.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use rustix::process::Signal;
use virgld_platform::host::pci::Loan;
use virgld_platform::host::process::DeviceProcess;
use virgld_platform::host::reactor::Registrar;
use virgld_platform::host::vhost_user::Monitor;
use virgld_protocol::message::keeper::{self, Attempt, StartFailed};
use virgld_protocol::message::transport::{self, NewLink};
use virgld_runtime::io::ReadySink;
use virgld_runtime::link::CommandArea;
use virgld_runtime::{Badge, Cap, Minter};

use super::command_line::Device;

/// What it takes to start a device.
pub(crate) struct Starter {
    pub(crate) device: Device,
    /// Where the pixels of the device before went too.
    pub(crate) monitor: Monitor,
    pub(crate) registrar: Registrar,
    /// How the device's descriptors report to the transport.
    pub(crate) ready: Minter<transport::FromReactor>,
    /// Where the device goes.
    pub(crate) devices: Cap<transport::Devices>,
    /// Who is told that there is none.
    pub(crate) keeper: Cap<keeper::FromStarter>,
    /// What was cut from the first device's memory stays in use.
    pub(crate) commands: CommandArea,
    pub(crate) kept: Slot,
}

/// Where that is kept without which the device is not ours: its process, if we started it, and the loan of one on a bus.
/// They end with this.
#[derive(Clone, Default)]
pub(crate) struct Slot(Arc<Mutex<Kept>>);

#[derive(Default)]
struct Kept {
    process: Option<DeviceProcess>,
    loan: Option<Loan>,
}

impl Slot {
    pub(crate) fn new(process: Option<DeviceProcess>, loan: Option<Loan>) -> Self {
        Self(Arc::new(Mutex::new(Kept { process, loan })))
    }

    /// What is kept, to be ended.
    pub(crate) fn take(&self) -> impl Sized + use<> {
        std::mem::take(&mut *self.lock())
    }

    /// How the process ended, if it did. While this is called no other takes its place.
    pub(crate) fn if_ended(&self, then: impl FnOnce(String)) {
        if let Some(how) = self.lock().process.as_ref().and_then(DeviceProcess::ended) {
            then(how);
        }
    }

    /// Sends the process a signal, if there is one that is ours.
    pub(crate) fn signal(&self, signal: Signal) -> Result<(), String> {
        match &self.lock().process {
            Some(process) => process.signal(signal).map_err(|error| error.to_string()),
            None => Err("there is none that is the daemon's own".into()),
        }
    }

    /// The same for a thread that nobody waits for: it does not keep what ends with the daemon.
    pub(crate) fn glimpse(&self) -> Glimpse {
        Glimpse(Arc::downgrade(&self.0))
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A [`Slot`] as long as somebody else has it.
#[derive(Clone)]
pub(crate) struct Glimpse(Weak<Mutex<Kept>>);

impl Glimpse {
    /// Sends the process a signal, if there is one that is ours.
    pub(crate) fn signal(&self, signal: Signal) -> Result<(), String> {
        self.0
            .upgrade()
            .map_or_else(|| Err("the daemon is about to end".into()), |kept| Slot(kept).signal(signal))
    }
}

impl Starter {
    /// What the device keeper calls.
    pub(crate) fn start_by(starter: &Arc<Self>) -> virgld_keeper::StartDevice {
        let starter = Arc::clone(starter);
        Box::new(move |attempt| {
            let own = Arc::clone(&starter);
            let thread = std::thread::Builder::new().name("device-start".into());
            if let Err(error) = thread.spawn(move || own.start(attempt)) {
                starter.fail(attempt, format!("cannot start a thread to start a device: {error}"));
            }
        })
    }

    fn start(&self, attempt: Attempt) {
        // The device before must be dead before another gets the same memory.
        let before = self.kept.lock().process.take();
        drop(before);
        let mut sink = || -> ReadySink {
            let ready = self.ready.mint(Badge(0));
            Box::new(move |it| ready.send(it).is_ok())
        };
        // Taken out meanwhile: the stage looks in here and must not wait.
        let mut loan = self.kept.lock().loan.take();
        let outcome =
            self.device.replace(&self.commands, &self.monitor, &mut loan, &self.registrar, &mut sink);
        self.kept.lock().loan = loan;
        match outcome {
            Ok(running) => {
                self.kept.lock().process = running.process;
                // If the transport is gone, the daemon is about to end.
                let _ = self.devices.send(NewLink(running.link));
            }
            Err(error) => self.fail(attempt, format!("cannot start a device: {error}")),
        }
    }

    fn fail(&self, attempt: Attempt, reason: String) {
        tracing::warn!("{reason}");
        let _ = self.keeper.send(StartFailed { attempt, reason });
    }
}
