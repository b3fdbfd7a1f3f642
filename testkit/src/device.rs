//! A virtio-gpu device in one value.
//!
//! It takes commands in order and executes each as it takes it; when it answers is another matter: as with real
//! devices, a fenced command is answered later than unfenced ones that came after it. It notes each rule that the
//! driver breaks as an [`Offence`], and has a [`Temper`] that makes it refuse, forget and lie.

mod fault;
mod host;
mod hostile;
mod offence;
mod scanout;

use std::sync::{Arc, Mutex};

use virgld_faults::DeviceWrong;
use virgld_protocol::device::{CONTROL_FLAG_FENCE, Code, ControlHeader, UpdateCursor};
use virgld_protocol::message::transport::{CONTROL_QUEUE, CURSOR_QUEUE};
use virgld_runtime::Time;
use virgld_runtime::link::{Link, LinkEvent};
use zerocopy::FromBytes;

use crate::Random;
use crate::link::{FakeLink, Wire, locked};
use crate::queue::{self, DeviceQueue, Request};

pub use host::{CAPSET_BYTES, Host, Range};
pub use offence::Offence;
pub use scanout::Scanout;

/// How badly a device behaves: each is so many times in a thousand.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Temper {
    /// Commands answered with an error instead of being executed.
    pub error: u32,
    /// Commands never answered.
    pub forget: u32,
    /// Answers of which fewer bytes are said to be written than a header has.
    pub short: u32,
    /// Answers of which more bytes are said to be written than there is room for.
    pub exaggerate: u32,
    /// Answers to fenced commands without the mark of the fence.
    pub unmarked: u32,
    /// Interrupts that get lost.
    pub lost_interrupt: u32,
    /// Regions of memory refused.
    pub refuse_region: u32,
}

/// The device.
pub struct FakeDevice {
    wire: Arc<Mutex<Wire>>,
    queues: Vec<Queue>,
    /// Executed, to be answered; in order.
    held: Vec<Held>,
    host: Host,
    temper: Temper,
    random: Random,
    forgotten: usize,
    dead: bool,
    /// It answers nothing any more, and the connection stays.
    stalled: bool,
    /// It answers for no regions.
    deaf: bool,
    sabotage: fault::Sabotage,
    /// Interrupts that are still to get lost.
    mute: u32,
    now: Time,
}

struct Queue {
    ring: DeviceQueue,
    asleep: bool,
}

struct Held {
    queue: u16,
    request: Request,
    bytes: Vec<u8>,
    fenced: bool,
    /// What it says to have written, if that is a lie.
    lie: Option<u32>,
    /// Not answered before this.
    due: Time,
    /// Answered twice.
    twice: bool,
}

impl FakeDevice {
    /// The device behind a connection.
    pub fn new(link: &FakeLink, temper: Temper, seed: u64) -> Self {
        let areas = [CONTROL_QUEUE, CURSOR_QUEUE].into_iter().filter_map(|index| link.queue(index));
        let queues = areas.map(|area| Queue { ring: DeviceQueue::new(area, link.features()), asleep: false });
        Self {
            wire: link.wire(),
            queues: queues.collect(),
            held: Vec::new(),
            host: Host::new(link.features()),
            temper,
            random: Random::new(seed),
            forgotten: 0,
            dead: false,
            stalled: false,
            deaf: false,
            sabotage: fault::Sabotage::default(),
            mute: 0,
            now: Time(0),
        }
    }

    /// Changes how it behaves from now on.
    pub fn set_temper(&mut self, temper: Temper) {
        self.temper = temper;
    }

    /// Changes what is connected: the driver is told that something has changed.
    pub fn connect_displays(&mut self, displays: Vec<Option<(u32, u32)>>) {
        self.host.displays = displays;
        locked(&self.wire).tell(LinkEvent::ConfigurationChanged);
    }

    /// What it has of contexts and resources.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Every rule that the driver broke so far.
    pub fn offences(&self) -> &[Offence] {
        &self.host.offences
    }

    /// The same, of a device that is gone.
    pub(crate) fn into_offences(self) -> Vec<Offence> {
        self.host.offences
    }

    /// Commands executed and not answered yet, but for those that never will be.
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// Commands that it will never answer.
    pub fn forgotten(&self) -> usize {
        self.forgotten
    }

    /// Regions that the driver has.
    pub fn regions(&self) -> usize {
        locked(&self.wire).regions()
    }

    /// Dies: the connection breaks, and nothing is answered any more.
    pub fn die(&mut self) {
        self.dead = true;
        locked(&self.wire).tell(LinkEvent::Down { reason: "the test ended the device".into() });
    }

    /// From now on it answers for no regions, as one whose process hangs when it is to map memory.
    pub fn stall_at_regions(&mut self) {
        self.deaf = true;
    }

    /// Does a little of all that there is to do. Says whether there was anything.
    pub fn step(&mut self) -> bool {
        let (take, answer) = (self.random.below(6), self.random.below(4));
        let opened = self.open_regions();
        let taken = self.take(take);
        let answered = self.answer(answer);
        opened || taken > 0 || answered > 0 || self.is_busy()
    }

    /// Does all that there is to do. Says whether there was anything.
    pub fn finish(&mut self) -> bool {
        let opened = self.open_regions();
        let taken = self.take(usize::MAX);
        let answered = self.answer(usize::MAX);
        opened || taken > 0 || answered > 0
    }

    /// Answers for the regions that were asked for. Says whether there were any.
    pub fn open_regions(&mut self) -> bool {
        if self.is_cut() || self.deaf {
            return false;
        }
        let opening = std::mem::take(&mut locked(&self.wire).opening);
        let any = !opening.is_empty();
        for region in opening {
            let refuse = self.random.chance(self.temper.refuse_region);
            locked(&self.wire).answer(region, refuse);
        }
        any
    }

    /// Takes and executes up to so many commands of each queue. Says how many.
    pub fn take(&mut self, most: usize) -> usize {
        if self.is_cut() {
            return 0;
        }
        for closed in std::mem::take(&mut locked(&self.wire).closed) {
            self.host.closed(closed);
        }
        let mut taken = 0;
        for index in [CONTROL_QUEUE, CURSOR_QUEUE] {
            match self.take_from(index, most) {
                Ok(count) => taken += count,
                Err(offence) => self.host.offences.push(Offence::Queue { queue: index, offence }),
            }
        }
        taken
    }

    /// Answers up to so many commands, unfenced ones ahead of fenced ones now and then. Says how many.
    pub fn answer(&mut self, most: usize) -> usize {
        let mut answered = 0;
        while answered < most && !self.held.is_empty() && !self.is_cut() {
            let overtakes = self.random.chance(500);
            let now = self.now;
            let Some(first) = self.held.iter().position(|held| held.due <= now) else { break };
            let unfenced = self.held.iter().position(|held| !held.fenced && held.due <= now);
            let held = self.held.remove(unfenced.filter(|_| overtakes).unwrap_or(first));
            self.give_back(held);
            answered += 1;
        }
        self.interrupt();
        answered
    }

    /// Answers the held command of this index, whatever came before it.
    pub fn answer_at(&mut self, index: usize) {
        let held = self.held.remove(index);
        self.give_back(held);
        self.interrupt();
    }

    fn is_cut(&self) -> bool {
        self.dead || self.stalled || locked(&self.wire).cut
    }

    fn is_busy(&self) -> bool {
        let due = self.held.iter().any(|held| held.due <= self.now);
        !self.is_cut() && (due || self.queues.iter().any(|queue| !queue.asleep))
    }

    fn take_from(&mut self, index: u16, most: usize) -> Result<usize, queue::Offence> {
        let at = usize::from(index);
        let kicked = std::mem::take(&mut locked(&self.wire).kicked[at]);
        if self.queues[at].asleep && !kicked {
            return Ok(0);
        }
        self.queues[at].asleep = false;
        self.queues[at].ring.refuse_kicks()?;
        let mut taken = 0;
        while taken < most {
            let space = locked(&self.wire).space.clone();
            let Some(request) = self.queues[at].ring.pop(&space)? else {
                self.queues[at].ring.ask_for_kick()?;
                self.queues[at].asleep = self.queues[at].ring.available()? == 0;
                if self.queues[at].asleep {
                    break;
                }
                continue;
            };
            taken += 1;
            let bytes = request.read(&space)?;
            self.execute(index, request, &bytes);
        }
        Ok(taken)
    }

    fn execute(&mut self, queue: u16, request: Request, bytes: &[u8]) {
        if queue == CURSOR_QUEUE {
            self.move_cursor(bytes);
            let bytes = Vec::new();
            let held = Held { queue, request, bytes, fenced: false, lie: None, due: self.now, twice: false };
            return self.held.push(held);
        }
        let wrong = self.sabotage.strike();
        if !self.suffer(wrong) {
            return;
        }
        let refuse = wrong == Some(DeviceWrong::ErrorResponse) || self.random.chance(self.temper.error);
        let space = locked(&self.wire).space.clone();
        let mut answer = self.host.execute(bytes, &space, refuse);
        if request.room() < answer.bytes.len() as u64 {
            let code = code_of(bytes);
            self.host.offences.push(Offence::NoRoom(code));
        }
        let lie = match wrong {
            Some(DeviceWrong::ShortLength) => Some(SHORT),
            Some(DeviceWrong::LongLength) => Some(u32::MAX),
            _ => self.lie(),
        };
        if wrong == Some(DeviceWrong::WrongResponse) && answer.bytes.len() >= 4 {
            answer.bytes[..4].copy_from_slice(&OK_RESOURCE_UUID.to_le_bytes());
            self.host.forgive(bytes);
        }
        let forgotten = self.random.chance(self.temper.forget);
        if lie == Some(SHORT) || forgotten {
            self.host.forgive(bytes);
        }
        if forgotten {
            self.forgotten += 1;
        } else {
            let (due, twice) = (self.late_by(wrong), wrong == Some(DeviceWrong::UsedTwice));
            let (bytes, fenced) = (answer.bytes, answer.fenced);
            self.held.push(Held { queue, request, bytes, fenced, lie, due, twice });
        }
    }

    fn lie(&mut self) -> Option<u32> {
        let short = self.random.chance(self.temper.short).then_some(SHORT);
        short.or(self.random.chance(self.temper.exaggerate).then_some(u32::MAX))
    }

    fn move_cursor(&mut self, bytes: &[u8]) {
        let code = code_of(bytes);
        if code.0 & 0xff00 != 0x300 {
            self.host.offences.push(Offence::UnknownCommand(code));
        } else if bytes.len() != size_of::<ControlHeader>() + size_of::<UpdateCursor>() {
            self.host.offences.push(Offence::Length { code, length: bytes.len() });
        }
    }

    fn give_back(&mut self, held: Held) {
        let Held { queue, request, mut bytes, fenced, lie, due: _, twice } = held;
        let id = u32::from(request.head());
        if fenced {
            self.host.fence_done();
        }
        if fenced && self.random.chance(self.temper.unmarked) {
            const FLAGS: std::ops::Range<usize> = 4..8;
            let flags = u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]) & !CONTROL_FLAG_FENCE;
            bytes[FLAGS].copy_from_slice(&flags.to_le_bytes());
        }
        let space = locked(&self.wire).space.clone();
        let written = request.write(&space, &bytes).map_err(queue::Offence::from);
        let ring = &mut self.queues[usize::from(queue)].ring;
        let pushed = written.and_then(|written| ring.push(request, lie.unwrap_or(written)));
        if let Err(offence) = pushed {
            self.host.offences.push(Offence::Queue { queue, offence });
        }
        if twice {
            self.forge(id);
        }
    }

    fn interrupt(&mut self) {
        if self.is_cut() {
            return;
        }
        for index in [CONTROL_QUEUE, CURSOR_QUEUE] {
            match self.queues[usize::from(index)].ring.wants_interrupt() {
                Ok(true) if self.mute > 0 => self.mute -= 1,
                Ok(true) if !self.random.chance(self.temper.lost_interrupt) => {
                    locked(&self.wire).tell(LinkEvent::Interrupt { queue: index });
                }
                Ok(_) => {}
                Err(offence) => self.host.offences.push(Offence::Queue { queue: index, offence }),
            }
        }
    }
}

/// The answer to a command that the driver never gives (virtio 1.2, section 5.7.6.7).
const OK_RESOURCE_UUID: u32 = 0x1105;
/// Fewer bytes than a header has.
const SHORT: u32 = 8;

/// What a command says it is.
fn code_of(bytes: &[u8]) -> Code {
    ControlHeader::read_from_prefix(bytes).map_or(Code(0), |(header, _)| header.code)
}
