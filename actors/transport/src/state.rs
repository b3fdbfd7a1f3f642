//! The device, its queues and its regions.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use virgld_protocol::ids::Token;
use virgld_protocol::message::transport::{
    CONTROL_QUEUE, CURSOR_QUEUE, DeviceEvent, DeviceNews, Event, Generation, Publish, RegionEvent,
    RegionRequest, Report,
};
use virgld_runtime::Time;
use virgld_runtime::dma::DmaSlice;
use virgld_runtime::io::Ready;
use virgld_runtime::link::{Link, LinkEvent, Region, RegionId};

use crate::queue::Queue;
use crate::urging::Urging;

/// An interrupt may be lost. While the device has commands, the queues are looked at this often without one.
const POLL: Duration = Duration::from_millis(100);
/// How long the device may take for a region, once it has those that were asked for before. It is the patience of the
/// handshake, where regions are first spoken of.
const ADMISSION: Duration = Duration::from_secs(10);
/// While there is no device ready, whoever looks after it is told so this often.
const REMINDER: Duration = Duration::from_secs(5);
const QUEUES: [u16; 2] = [CONTROL_QUEUE, CURSOR_QUEUE];

/// Something that the state wants done.
#[derive(Debug)]
pub enum Effect {
    /// Tell the owner of a queue.
    Queue(u16, Event),
    /// Tell the resource actor.
    Region(RegionEvent),
    /// Tell whoever looks after the device.
    Device(DeviceEvent),
}

/// The device and what it has of ours.
#[derive(Default)]
pub struct State {
    device: Option<Device>,
    /// Which device that is, or was.
    generation: Generation,
    /// Whether it has been ready.
    was_up: bool,
    /// The last that was lost, and whether that had been ready.
    lost: Option<(Generation, bool)>,
    /// Regions that were asked for and are not there yet; those of a device that is lost are asked of the next.
    opening: BTreeMap<RegionId, Opening>,
    /// Regions that are there: the next device gets those that it can reach.
    regions: BTreeMap<RegionId, Region>,
    next_region: u64,
    /// Memory that a device which is not known to be dead could still write.
    quarantine: Vec<DmaSlice>,
    next_poll: Option<Time>,
    /// The region that the device has owed an answer for longest, and until when it may.
    owed: Option<(RegionId, Time)>,
    /// When to say again that no device is ready.
    next_reminder: Option<Time>,
    /// Used elements that a look without an interrupt found, by queue. Their interrupt may only be late: on a busy
    /// machine it comes when the look is over, and then finds nothing.
    unexplained: [u64; QUEUES.len()],
    urging: Urging,
    /// Whether there is something new on the control queue since the plan was made. The device is notified of it when
    /// the stage settles.
    news: bool,
    /// Whether a command that somebody waited for has come back since the plan was made.
    relieved: bool,
    events: Vec<LinkEvent>,
    report: Report,
}

struct Device {
    link: Box<dyn Link>,
    queues: [Queue; QUEUES.len()],
    /// Regions of the device before that this one has to have before it is any use.
    admitting: BTreeSet<RegionId>,
}

/// A region that was asked for.
#[derive(Debug, Clone, Copy)]
struct Opening {
    token: Token,
    bytes: usize,
    device_optional: bool,
}

impl State {
    /// A device is ready. It takes the place of any that was there.
    pub fn attach(&mut self, mut link: Box<dyn Link>, effects: &mut Vec<Effect>) {
        // Nobody need look for another: this is it.
        self.let_go("another device was attached", effects);
        (self.generation.0, self.was_up) = (self.generation.0 + 1, false);
        let features = link.features();
        let queue = |index| {
            let area = link.queue(index).ok_or_else(|| format!("the device has no queue {index}"))?;
            Queue::new(&area, features).map_err(|fault| format!("queue {index} cannot be used: {fault}"))
        };
        match (queue(CONTROL_QUEUE), queue(CURSOR_QUEUE)) {
            (Ok(control), Ok(cursor)) => {
                // The device before is gone for good, and with it whatever could write here.
                self.quarantine.clear();
                self.report.queue_size = control.capacity();
                link.attached();
                let device = Device { link, queues: [control, cursor], admitting: BTreeSet::new() };
                self.bring_memory(device);
                self.come_up(effects);
            }
            (Err(reason), _) | (_, Err(reason)) => {
                self.report.down_reason = Some(reason.clone());
                self.tell_loss(reason, effects);
            }
        }
    }

    /// Gives the device the memory of the one before, and asks it for what that one did not get round to.
    fn bring_memory(&mut self, mut device: Device) {
        for region in self.regions.values().filter(|region| region.address.is_some()) {
            device.admitting.insert(region.id);
            device.link.admit_region(region.clone());
        }
        for (id, Opening { bytes, device_optional, .. }) in &self.opening {
            device.link.open_region(*id, *bytes, *device_optional);
        }
        self.device = Some(device);
    }

    /// Tells that the device is there, once it has all the memory that it must have.
    fn come_up(&mut self, effects: &mut Vec<Effect>) {
        let Some(device) = self.device.as_ref().filter(|device| device.admitting.is_empty()) else { return };
        let (features, configuration) = (device.link.features(), device.link.configuration());
        self.report.features = features;
        self.report.down_reason = None;
        for index in QUEUES {
            let configuration = configuration.to_vec();
            effects.push(Effect::Queue(index, Event::Up { features, configuration }));
        }
        self.was_up = true;
        let (generation, news) = (self.generation, DeviceNews::Up);
        effects.push(Effect::Device(DeviceEvent { generation, news }));
    }

    /// Takes a command for the device.
    pub fn publish(&mut self, publish: Publish, effects: &mut Vec<Effect>) {
        let index = publish.queue;
        let Some(device) = self.device.as_mut().filter(|device| device.admitting.is_empty()) else {
            return effects.push(Effect::Queue(index, Event::Lost { cookie: publish.cookie }));
        };
        let Some(queue) = device.queues.get_mut(usize::from(index)) else { return };
        match queue.publish(publish) {
            Ok(()) if index == CURSOR_QUEUE => self.report.cursor_commands += 1,
            Ok(()) => self.news = true,
            Err(cookie) => effects.push(Effect::Queue(index, Event::Lost { cookie })),
        }
    }

    /// Takes a request about memory.
    pub fn region(&mut self, request: RegionRequest) {
        match request {
            RegionRequest::Open { token, bytes, device_optional } => {
                self.next_region += 1;
                let id = RegionId(self.next_region);
                self.opening.insert(id, Opening { token, bytes, device_optional });
                if let Some(device) = &mut self.device {
                    device.link.open_region(id, bytes, device_optional);
                }
            }
            RegionRequest::Close { id } => {
                self.regions.remove(&id);
                if let Some(device) = &mut self.device {
                    device.link.close_region(id);
                }
            }
            RegionRequest::Show { id, offset, length } => {
                if let Some(device) = &mut self.device {
                    device.link.show(id, offset, length);
                }
            }
            RegionRequest::Hide { id, offset, length } => {
                if let Some(device) = &mut self.device {
                    device.link.hide(id, offset, length);
                }
            }
        }
    }

    /// Something that the link waits for is ready.
    pub fn ready(&mut self, ready: Ready, effects: &mut Vec<Effect>) {
        let Some(device) = &mut self.device else { return };
        let mut events = std::mem::take(&mut self.events);
        device.link.ready(ready.0, &mut events);
        for event in events.drain(..) {
            self.link_event(event, effects);
        }
        self.events = events;
    }

    fn link_event(&mut self, event: LinkEvent, effects: &mut Vec<Effect>) {
        match event {
            LinkEvent::Interrupt { queue } => {
                self.report.interrupts += 1;
                // What is there now was told of: the next look without an interrupt is a whole period away.
                self.next_poll = None;
                if self.collect(queue, effects) == 0
                    && let Some(unexplained) = self.unexplained.get_mut(usize::from(queue))
                {
                    *unexplained = 0;
                }
            }
            LinkEvent::RegionOpened(region) => self.region_opened(region, effects),
            LinkEvent::RegionRefused { id, reason } => self.region_refused(id, &reason, effects),
            LinkEvent::ConfigurationChanged => {
                effects.push(Effect::Queue(CONTROL_QUEUE, Event::ConfigurationChanged));
            }
            LinkEvent::Down { reason } => self.condemn(&reason, effects),
        }
    }

    fn region_opened(&mut self, region: Region, effects: &mut Vec<Effect>) {
        if let Some(Opening { token, .. }) = self.opening.remove(&region.id) {
            self.regions.insert(region.id, region.clone());
            return effects.push(Effect::Region(RegionEvent::Opened { token, region }));
        }
        let admitted = self.device.as_mut().is_some_and(|device| device.admitting.remove(&region.id));
        let known = self.regions.get(&region.id);
        if admitted && known.is_some_and(|known| known.address != region.address) {
            // What clients see there is where the device before had it, and nowhere else.
            let reason = format!("the device did not take region {} of the one before", region.id.0);
            self.down(&reason, effects);
        } else if admitted {
            self.come_up(effects);
        }
    }

    fn region_refused(&mut self, id: RegionId, reason: &str, effects: &mut Vec<Effect>) {
        if let Some(Opening { token, .. }) = self.opening.remove(&id) {
            effects.push(Effect::Region(RegionEvent::Refused { token }));
        } else if self.device.as_ref().is_some_and(|device| device.admitting.contains(&id)) {
            // Without it the device is of no use, and would be waited for.
            self.down(&format!("the device refused region {} of the one before: {reason}", id.0), effects);
        }
    }

    /// Somebody has found the device to be of no use any more.
    pub fn condemn(&mut self, reason: &str, effects: &mut Vec<Effect>) {
        // What it was through with is done, and whose command it died of is told from what is not.
        self.look(effects);
        self.down(reason, effects);
    }

    /// Takes back what the device has used. Says how many.
    fn collect(&mut self, index: u16, effects: &mut Vec<Effect>) -> usize {
        let mut landed = 0;
        let Some(device) = &mut self.device else { return 0 };
        let Some(queue) = device.queues.get_mut(usize::from(index)) else { return 0 };
        let fault = loop {
            match queue.land(&mut self.report) {
                Ok(Some(it)) => {
                    landed += 1;
                    self.relieved |= it.awaited;
                    let (cookie, slice, written) = (it.cookie, it.slice, it.written);
                    effects.push(Effect::Queue(index, Event::Returned { cookie, slice, written }));
                }
                Ok(None) => break None,
                Err(fault) => break Some(fault),
            }
        };
        if landed > 0 {
            while let Some(cookie) = queue.retry() {
                effects.push(Effect::Queue(index, Event::Lost { cookie }));
            }
        }
        if let Some(fault) = fault {
            self.down(&format!("queue {index}: {fault}"), effects);
        }
        landed
    }

    /// Whether the device has used something that was not taken back.
    pub fn sees_used(&self) -> bool {
        self.device.as_ref().is_some_and(|device| device.queues.iter().any(Queue::has_used))
    }

    /// Takes back what the device has used, be there an interrupt for it or not.
    pub fn look(&mut self, effects: &mut Vec<Effect>) {
        for index in QUEUES {
            self.collect(index, effects);
        }
    }

    /// Asks for an interrupt with whatever the device uses next.
    pub fn arm(&mut self, effects: &mut Vec<Effect>) {
        for index in QUEUES {
            loop {
                let Some(Device { queues, .. }) = &mut self.device else { return };
                match queues[usize::from(index)].arm() {
                    Ok(true) => break,
                    // There may be an interrupt for it or not. Nothing is taken twice, so this comes to its end.
                    Ok(false) => drop(self.collect(index, effects)),
                    Err(fault) => self.down(&format!("queue {index}: {fault}"), effects),
                }
            }
        }
    }

    /// Shows the device all that was published, with one kick for many.
    pub fn flush(&mut self, effects: &mut Vec<Effect>) {
        let Some(Device { link, queues, .. }) = &mut self.device else { return };
        let mut fault = None;
        for (index, queue) in (0..).zip(queues.iter_mut()) {
            match queue.flush() {
                Ok(true) => {
                    self.report.kicks += 1;
                    link.kick(index);
                }
                Ok(false) => {}
                Err(error) => fault = Some(format!("queue {index}: {error}")),
            }
        }
        if let Some(reason) = fault {
            self.down(&reason, effects);
        }
    }

    /// When the queues are to be looked at without an interrupt, or the device has owed a region for too long, or is
    /// away; `None` while it is there, has nothing and owes nothing.
    pub fn deadline(&self) -> Option<Time> {
        let owed = self.owed.map(|(_, until)| until);
        [self.next_poll, self.urging.deadline(), owed, self.next_reminder].into_iter().flatten().min()
    }

    /// Sets the next look, if one is due and none is set; tells the policy of urging who waits; notes what the device owes.
    pub fn plan(&mut self, now: Time) {
        let awaited = self.device.as_ref().is_some_and(|device| device.queues.iter().any(Queue::is_awaited));
        if std::mem::take(&mut self.relieved) {
            self.urging.end(now, awaited);
        } else if awaited {
            self.urging.begin(now);
        }
        if std::mem::take(&mut self.news) {
            self.urging.notified(now);
        }
        let idle = self.device.as_ref().is_none_or(|device| device.queues.iter().all(Queue::is_idle));
        self.next_poll = if idle { None } else { self.next_poll.or(Some(now.after(POLL))) };
        let oldest = self.oldest_owed();
        if oldest != self.owed.map(|(id, _)| id) {
            self.owed = oldest.map(|id| (id, now.after(ADMISSION)));
        }
        // There is a reason from the loss on until the next is ready, and none before the first.
        let away = self.report.down_reason.is_some();
        self.next_reminder = if away { self.next_reminder.or(Some(now.after(REMINDER))) } else { None };
    }

    /// Of the regions that a device has been asked for the one that was first: they are numbered as they are asked for,
    /// and those of a device before come first.
    fn oldest_owed(&self) -> Option<RegionId> {
        let device = self.device.as_ref()?;
        device.admitting.iter().chain(self.opening.keys()).min().copied()
    }

    /// A moment that was planned for has come.
    pub fn wake(&mut self, now: Time, effects: &mut Vec<Effect>) {
        if self.urging.due(now)
            && let Some(device) = &mut self.device
        {
            self.report.urges += 1;
            device.link.kick(CONTROL_QUEUE);
        }
        if self.next_poll.is_some_and(|poll| poll <= now) {
            self.poll(now, effects);
        }
        if let Some((RegionId(id), _)) = self.owed.take_if(|(_, until)| *until <= now) {
            let reason =
                format!("the device has not answered for region {id} for {ADMISSION:?}: it is stalled");
            self.down(&reason, effects);
        }
        if self.next_reminder.take_if(|due| *due <= now).is_some()
            && let (Some(reason), Some((generation, was_up))) = (self.report.down_reason.clone(), self.lost)
        {
            // Another that is there already, and not ready yet, is not lost.
            let news = DeviceNews::Away { reason, was_up };
            effects.push(Effect::Device(DeviceEvent { generation, news }));
        }
    }

    /// Looks at the queues without an interrupt.
    fn poll(&mut self, now: Time, effects: &mut Vec<Effect>) {
        self.next_poll = Some(now.after(POLL));
        for index in QUEUES {
            let armed =
                self.device.as_ref().is_some_and(|device| device.queues[usize::from(index)].is_armed());
            let found = self.collect(index, effects) as u64;
            // Where none was asked for, none is missing.
            let found = if armed { found } else { 0 };
            if let Some(unexplained) = self.unexplained.get_mut(usize::from(index)) {
                // Nothing has explained those of the last look for a whole period.
                self.report.lost_interrupts += std::mem::replace(unexplained, found);
            }
        }
    }

    /// The device is gone, or broke its word. Everybody concerned hears of it.
    fn down(&mut self, reason: &str, effects: &mut Vec<Effect>) {
        if self.let_go(reason, effects) {
            self.tell_loss(reason.to_owned(), effects);
        }
    }

    fn tell_loss(&mut self, reason: String, effects: &mut Vec<Effect>) {
        let (generation, was_up) = (self.generation, self.was_up);
        self.lost = Some((generation, was_up));
        let news = DeviceNews::Lost { reason, was_up };
        effects.push(Effect::Device(DeviceEvent { generation, news }));
    }

    /// The same, but for whoever looks after the device. Says whether there was one.
    fn let_go(&mut self, reason: &str, effects: &mut Vec<Effect>) -> bool {
        let Some(Device { link, queues, .. }) = self.device.take() else { return false };
        drop(link);
        // The next is asked anew, and has all the time for it.
        self.owed = None;
        self.urging.forget();
        self.unexplained = [0; QUEUES.len()];
        for (index, queue) in (0..).zip(queues) {
            let (cookies, slices) = queue.abandon();
            self.quarantine.extend(slices);
            // First, so that nobody takes the loss of a command for the device's refusal of it.
            effects.push(Effect::Queue(index, Event::Down { reason: reason.to_owned() }));
            for cookie in cookies {
                effects.push(Effect::Queue(index, Event::Lost { cookie }));
            }
        }
        self.report.down_reason = Some(reason.to_owned());
        true
    }

    /// The transport's account.
    pub fn report(&self) -> Report {
        let queues = self.device.as_ref().map(|device| device.queues.iter());
        let count = |of: fn(&Queue) -> usize| queues.clone().map_or(0, |queues| queues.map(of).sum());
        Report {
            up: self.device.as_ref().is_some_and(|device| device.admitting.is_empty()),
            in_flight: count(Queue::in_flight),
            waiting: count(Queue::waiting),
            ..self.report.clone()
        }
    }
}
