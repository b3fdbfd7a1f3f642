//! A device process at the other end of its two sockets: what it answers in the handshake and after, and what it sends to be
//! shown.

mod device;

use std::collections::BTreeMap;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use virgld_platform::host::memory::SharedMemory;
use virgld_platform::host::reactor::Reactor;
use virgld_platform::host::vhost_user::{DeviceSetup, Monitor, VhostUserLink, connect};
use virgld_runtime::io::{Ready, ReadySink};
use virgld_runtime::link::{Link, LinkEvent, Region, RegionId};

use crate::Input;
use device::Device;

/// The handshake ends with a device, or with an error that says something. After it no region is answered for twice, or
/// without having been asked for; an interrupt names a queue that there is; nothing is heard of the device after its end;
/// whoever asks on the display socket gets an answer of the right size; and what is kept of screens has a bound. A device
/// that did nothing wrong is not given up, and has answered for all regions in the end.
pub(super) fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
    let mut device = Device::new(theirs);
    device.answer_in_advance(&mut input);
    let mut reactor = Reactor::new().expect("a reactor");
    let ready = Arc::<Mutex<Vec<u64>>>::default();
    let mut sink = || -> ReadySink {
        let ready = ready.clone();
        Box::new(move |Ready(token)| ready.lock().map(|mut list| list.push(token)).is_ok())
    };
    let monitor = Monitor::default();
    let setup = DeviceSetup {
        command_bytes: 4096,
        control_entries: 4,
        cursor_entries: 4,
        monitor: monitor.clone(),
        // All that it will say in the handshake it has said.
        step_deadline: Duration::from_millis(1),
        ..DeviceSetup::default()
    };
    match connect(ours, &setup, &reactor.registrar(), &mut sink) {
        Err(error) => assert!(!error.to_string().is_empty()),
        Ok(link) => {
            device.hear();
            let mut session = Session { link, device, monitor, asked: BTreeMap::new(), down: false };
            session.link.attached();
            session.play(&mut input, &mut || {
                reactor.wait(Some(Duration::ZERO), || ()).expect("the reactor waits");
                ready.lock().map(|mut list| std::mem::take(&mut *list)).unwrap_or_default()
            });
        }
    }
}

/// A device that is set up.
struct Session {
    link: VhostUserLink,
    device: Device,
    monitor: Monitor,
    /// The regions that were asked for, and how often each was answered for.
    asked: BTreeMap<u64, u32>,
    down: bool,
}

impl Session {
    fn play(&mut self, input: &mut Input<'_>, wait: &mut dyn FnMut() -> Vec<u64>) {
        self.rest(wait);
        for _ in 0..MOST_STEPS {
            if input.is_used_up() {
                break;
            }
            self.step(input);
            self.rest(wait);
        }
        let mut left = MOST_STEPS;
        while self.device.answer(0) && left > 0 {
            self.rest(wait);
            left -= 1;
        }
        self.rest(wait);
        if self.device.is_honest() {
            assert!(!self.down, "an honest device was given up");
            assert!(self.asked.values().all(|times| *times == 1), "regions answered for: {:?}", self.asked);
        }
        let screens = self.monitor.screens();
        let kept: usize = screens.iter().map(|screen| screen.pixels.len()).sum();
        assert!(kept <= MOST_KEPT, "{kept} bytes of screens are kept");
        for screen in screens {
            assert_eq!(screen.pixels.len(), screen.width as usize * screen.height as usize * 4);
        }
    }

    /// One thing that happens on either side.
    fn step(&mut self, input: &mut Input<'_>) {
        match input.below(16) {
            0 | 1 => {
                let id = self.ask();
                self.link.open_region(id, 4096 * (1 + input.below(3)), input.flag());
            }
            2 => self.link.close_region(RegionId(input.below(8) as u64)),
            3 => {
                let memory = SharedMemory::new("admitted", 4096).expect("a page of memory");
                // Where regions may lie, mostly.
                let address = if input.chance(64) { input.long() } else { input.long() << 36 };
                let id = self.ask();
                self.link.admit_region(Region { id, memory, address: Some(address) });
            }
            4 => self.link.kick(input.short()),
            5 => drop(self.monitor.resize(input.number(), input.number())),
            6..=8 => {
                let code = if input.chance(128) { input.long() } else { 0 };
                self.device.answer(code);
            }
            9 => self.device.lie(input),
            10 => self.device.ring(input),
            11 => self.device.leave(input),
            _ => self.device.show(input),
        }
    }

    fn ask(&mut self) -> RegionId {
        let id = self.asked.len() as u64;
        self.asked.insert(id, 0);
        RegionId(id)
    }

    /// Lets the daemon's side hear all that there is, and the device's side too.
    fn rest(&mut self, wait: &mut dyn FnMut() -> Vec<u64>) {
        for _ in 0..MOST_STEPS {
            let tokens = wait();
            if tokens.is_empty() {
                break;
            }
            for token in tokens {
                let mut events = Vec::new();
                self.link.ready(token, &mut events);
                events.into_iter().for_each(|event| self.judge(event));
            }
        }
        self.device.hear();
    }

    fn judge(&mut self, event: LinkEvent) {
        match event {
            LinkEvent::Interrupt { queue } => assert!(queue < 2 && !self.down, "an interrupt of {queue}"),
            LinkEvent::RegionOpened(Region { id, .. }) | LinkEvent::RegionRefused { id, .. } => {
                let times = self.asked.get_mut(&id.0).expect("a region that nobody asked for");
                *times += 1;
                assert_eq!(*times, 1, "region {} is answered for again", id.0);
            }
            LinkEvent::ConfigurationChanged => {}
            LinkEvent::Down { reason } => {
                assert!(!self.down && !reason.is_empty(), "the end, told again");
                self.down = true;
            }
        }
    }
}

const MOST_STEPS: usize = 64;
/// One screen of the largest size.
const MOST_KEPT: usize = 8192 * 8192 * 4;
