//! The whole of virgld but for its ground: every actor, wired as `driver/src/linux/wiring.rs` wires them, between
//! a simulated device and simulated clients, on one thread and with a clock that stands still until told.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use virgld_context::{Budget, Context};
use virgld_ctrlq::ControlQueue;
use virgld_cursorq::CursorQueue;
use virgld_display::{Display, Presentation};
use virgld_faults::Plan;
use virgld_keeper::Keeper;
use virgld_protocol::ids::{ContextId, FileId};
use virgld_protocol::message::transport::NewLink;
use virgld_protocol::message::{context, ctrlq, cursorq, display, door, keeper, resource, scheme, transport};
use virgld_resource::{Quota, Resources};
use virgld_runtime::dma::{DmaPool, SizeClass};
use virgld_runtime::fault::{Account, Injector};
use virgld_runtime::link::{CommandArea, Link};
use virgld_runtime::memory::HeapMemory;
use virgld_runtime::{
    Badge, Cap, Casualty, Death, Intensity, Interface, Mailbox, Minter, Respond, SlotId, Spawner, Stage,
    Strategy, SupervisorReport, Time, Wake,
};
use virgld_scheme::Scheme;
use virgld_transport::Transport;

use crate::Random;
use crate::device::{FakeDevice, Offence, Temper};
use crate::door::FakeDoor;
use crate::link::{FakeLink, LinkConfig, locked};

const ANY: Badge = Badge(0);
/// After how long an actor that does not return is given up: sooner than a command is, as in the daemon.
const WATCH: Duration = Duration::from_secs(3);
/// How long a command may take, if nothing else is said.
const PATIENCE: Duration = Duration::from_secs(5);
/// What deaths that a plan wanted say.
const INJECTED: &str = "injected";
/// Memory for cursor commands.
const CURSOR: [SizeClass; 1] = [SizeClass { size: 128, count: 4 }];

/// What a system is made of.
#[derive(Debug, Clone)]
pub struct SystemConfig {
    /// The connection to the device; memory for commands is as much as the pools below take.
    pub link: LinkConfig,
    /// How the device behaves.
    pub temper: Temper,
    /// What each file may have.
    pub resources: virgld_resource::Limits,
    /// How long things may take.
    pub scheme: virgld_scheme::Limits,
    /// How pictures get to where people see them.
    pub presentation: Presentation,
    /// How many bytes contexts may keep, all together, to outlive their device; they do not if nothing is said.
    pub journals: Option<usize>,
    /// How long a command may take.
    pub patience: Duration,
    /// How many devices may be lost in what time.
    pub devices: Intensity,
    /// Memory for commands but for streams.
    pub small: Vec<SizeClass>,
    /// Memory for command streams.
    pub streams: Vec<SizeClass>,
}

impl Default for SystemConfig {
    fn default() -> Self {
        let file = Quota {
            bytes: 64 * 4096,
            isolated_bytes: 4 * 4096,
            resources: 16,
            isolated: 16,
            copied_bytes: 64 * 4096,
        };
        let user = Quota {
            bytes: 4 * file.bytes,
            isolated_bytes: 16 * 4096,
            resources: 64,
            isolated: 64,
            copied_bytes: 4 * file.copied_bytes,
        };
        Self {
            link: LinkConfig::default(),
            temper: Temper::default(),
            resources: virgld_resource::Limits {
                arena_bytes: 4 * 4096,
                file,
                user,
                overflow_bytes: 6 * 4096,
            },
            scheme: virgld_scheme::Limits {
                silence: Duration::from_secs(20),
                command: PATIENCE,
                ..virgld_scheme::Limits::default()
            },
            presentation: Presentation::Scanout,
            journals: None,
            patience: PATIENCE,
            devices: Intensity { restarts: 1000, period: Duration::from_secs(1) },
            small: vec![SizeClass { size: 256, count: 40 }, SizeClass { size: 2048, count: 2 }],
            streams: vec![SizeClass { size: 256, count: 16 }],
        }
    }
}

/// Actors that die oftener than this end the daemon.
const INTENSITY: Intensity = Intensity { restarts: 5, period: Duration::from_secs(30) };

/// What all actors report, together.
#[derive(Debug, Clone)]
pub struct Report {
    /// The transport's.
    pub transport: transport::Report,
    /// The control queue's.
    pub control: ctrlq::Report,
    /// The resource actor's.
    pub resource: resource::Report,
    /// The scheme's.
    pub scheme: scheme::Report,
    /// The display's.
    pub display: display::Report,
    /// The device keeper's.
    pub keeper: keeper::Report,
}

impl Report {
    /// Whether nothing of any client is left, neither here nor on the way.
    pub fn is_empty(&self) -> bool {
        self.scheme.files.is_empty()
            && (self.scheme.buffers, self.scheme.syncobjs, self.scheme.fences) == (0, 0, 0)
            && (self.display.framebuffers, self.display.blobs) == (0, 0)
            && self.resource.resources.is_empty()
            && (self.resource.regions, self.control.contexts) == (0, 0)
            && (self.transport.in_flight, self.transport.waiting) == (0, 0)
    }
}

/// A running system.
pub struct System {
    /// The device.
    pub device: FakeDevice,
    /// The clients' way in.
    pub door: FakeDoor,
    /// The display's way to the pointer.
    pub pointer: Cap<cursorq::FromDisplay>,
    /// The way to see what is on the screens.
    pub screens: Cap<display::Looks>,
    stage: Stage,
    now: Time,
    casualties: Vec<Casualty>,
    bereaved: Vec<FileId>,
    daemon: Daemon,
    contexts: Contexts,
    registrar: Cap<ctrlq::Registrar>,
    spawner: Spawner,
    injector: Injector,
    heir: Heir,
}

/// What a device that takes the place of another is made of.
struct Heir {
    /// The device keeper asked for one.
    wanted: Arc<AtomicBool>,
    offered: LinkConfig,
    commands: Arc<HeapMemory>,
    ready: Minter<transport::FromReactor>,
    devices: Cap<transport::Devices>,
    random: Random,
    temper: Temper,
    /// How many of the next are to answer for no regions.
    deaf: u32,
    /// The rules broken towards devices that are gone.
    past: Vec<Offence>,
    /// How often faults struck at those.
    struck: u64,
    /// How many there were that took the place of another.
    count: u64,
}

/// Which slot runs which context.
type Contexts = Arc<Mutex<HashMap<SlotId, (FileId, ContextId)>>>;

/// The daemon's questions.
struct Daemon {
    transport: Cap<transport::FromDaemon>,
    control: Cap<ctrlq::FromDaemon>,
    resource: Cap<resource::FromDaemon>,
    scheme: Cap<scheme::FromDaemon>,
    display: Cap<display::FromDaemon>,
    keeper: Cap<keeper::FromDaemon>,
}

/// The thread of a test never sleeps.
struct Awake;

impl Wake for Awake {
    fn wake(&self) {}
}

impl System {
    /// Wires a system and waits until its device is up.
    pub fn new(config: &SystemConfig, seed: u64) -> Self {
        let stage = Stage::new(Arc::new(Awake));
        let spawner = stage.spawner();
        // As `driver/src/linux/tree.rs` has it.
        let top = spawner.supervisor("daemon", Strategy::OneForOne, INTENSITY);
        let below = top.supervisor("device", Strategy::RestForOne, INTENSITY);
        let temporary = top.supervisor("contexts", Strategy::OneForOne, INTENSITY);
        let transport_box: Mailbox<transport::Message> = spawner.mailbox();
        let control_box: Mailbox<ctrlq::Message> = spawner.mailbox();
        let cursor_box: Mailbox<cursorq::Message> = spawner.mailbox();
        let resource_box: Mailbox<resource::Message> = spawner.mailbox();
        let display_box: Mailbox<display::Message> = spawner.mailbox();
        let scheme_box: Mailbox<scheme::Message> = spawner.mailbox();
        let door_box: Mailbox<door::Message> = spawner.mailbox();
        let keeper_box: Mailbox<keeper::Message> = spawner.mailbox();

        let ready = transport_box.open::<transport::FromReactor>(ANY);
        let command_bytes =
            [&config.small[..], &CURSOR, &config.streams[..]].map(DmaPool::bytes).iter().sum();
        let offered = LinkConfig { command_bytes, ..config.link };
        let link = FakeLink::new(offered, Box::new(move |it| ready.send(it).is_ok()));
        let wanted = Arc::new(AtomicBool::new(false));
        let (want, intensity) = (Arc::clone(&wanted), config.devices);
        let keeper = move || {
            let want = Arc::clone(&want);
            Keeper::new(intensity, Box::new(move |_| want.store(true, Ordering::Relaxed)))
        };
        let heir = Heir {
            wanted,
            offered,
            commands: link.heirloom(),
            ready: transport_box.minter(),
            devices: transport_box.open(ANY),
            random: Random::new(seed),
            temper: config.temper,
            deaf: 0,
            past: Vec::new(),
            struck: 0,
            count: 0,
        };
        let device = FakeDevice::new(&link, config.temper, seed);
        let [small, cursor, streams] = pools(&link.commands(), config);

        let registrar = control_box.open::<ctrlq::Registrar>(ANY);
        let contexts = Contexts::default();
        let authority = context_authority(ContextParts {
            spawner: temporary.spawner(),
            commands: control_box.minter(),
            notices: scheme_box.minter(),
            registrar: registrar.grant(),
            contexts: Arc::clone(&contexts),
            journals: config.journals.map(Budget::new),
        });
        let (door, door_actor) = FakeDoor::new(scheme_box.open(ANY), streams);
        let daemon = Daemon {
            transport: transport_box.open(ANY),
            control: control_box.open(ANY),
            resource: resource_box.open(ANY),
            scheme: scheme_box.open(ANY),
            display: display_box.open(ANY),
            keeper: keeper_box.open(ANY),
        };
        let pointer = cursor_box.open(ANY);
        let screens = display_box.open(ANY);
        let devices = transport_box.open::<transport::Devices>(ANY);

        let transport = Transport::new(
            control_box.open(ANY),
            cursor_box.open(ANY),
            resource_box.open(ANY),
            keeper_box.open(ANY),
        );
        let control = ControlQueue::new(
            small,
            config.patience,
            transport_box.open(ANY),
            transport_box.open(ANY),
            resource_box.open(ANY),
            display_box.open(ANY),
        );
        let cursors = CursorQueue::new(cursor, transport_box.open(ANY));
        let resources = Resources::new(
            config.resources,
            control_box.open(ANY),
            control_box.open(ANY),
            transport_box.open(ANY),
            scheme_box.open(ANY),
            display_box.open(ANY),
        );
        let displays = Display::new(
            config.presentation,
            scheme_box.open(ANY),
            control_box.open(ANY),
            cursor_box.open(ANY),
            resource_box.open(ANY),
        );
        let scheme = Scheme::new(
            virgld_scheme::Limits { journals: config.journals.is_some(), ..config.scheme },
            door_box.open(ANY),
            resource_box.open(ANY),
            display_box.open(ANY),
            authority,
        );

        below.start("control queue", control_box, control);
        below.start("transport", transport_box, transport);
        below.start("cursor queue", cursor_box, cursors);
        below.start_by("device keeper", keeper_box, keeper);
        top.start("resource", resource_box, resources);
        top.start("display", display_box, displays);
        top.start("scheme", scheme_box, scheme);
        top.start("door", door_box, door_actor);
        // The transport is there to hear it: it was started above.
        let _ = devices.send(NewLink(Box::new(link)));
        let mut system = Self {
            device,
            door,
            pointer,
            screens,
            stage,
            now: Time(1),
            casualties: Vec::new(),
            bereaved: Vec::new(),
            daemon,
            contexts,
            registrar,
            injector: spawner.injector(),
            spawner,
            heir,
        };
        // Interrupts may be lost, even now: then the transport's poll finds what there is.
        for _ in 0..5 {
            system.settle();
            system.advance(Duration::from_millis(200));
        }
        system
    }

    /// What time it is.
    pub fn now(&self) -> Time {
        self.now
    }

    /// Lets every actor do what it can. Says whether there was anything.
    pub fn run(&mut self) -> bool {
        self.device.tell_time(self.now);
        let mut ran = self.stage.run(self.now);
        while self.stage.is_hung() {
            // As long as the watchdog needs, no actor does anything; the device knows nothing of that.
            self.now = self.now.after(WATCH);
            self.device.tell_time(self.now);
            self.device.finish();
            self.stage.end_hung();
            self.stage.run(self.now);
            ran = true;
        }
        for casualty in self.stage.casualties() {
            self.mourn(casualty);
        }
        ran
    }

    /// Notes a death, and mends what that of a context breaks, as the daemon does.
    fn mourn(&mut self, casualty: Casualty) {
        let found = locked(&self.contexts).remove(&casualty.slot);
        if let Some((file, context)) = found {
            self.bury(file, context);
            self.bereaved.push(file);
        }
        self.casualties.push(casualty);
    }

    /// Puts a plan in force, beside any that is: from now on things go wrong.
    pub fn inject(&mut self, plan: &Plan) {
        self.injector.inject(plan.seed, plan.faults.clone());
        self.device.inject(plan.seed, plan.device.clone());
    }

    /// So many of the devices that take the place of others hang when they are to take the memory of the one before.
    pub fn stall_heirs_at_regions(&mut self, count: u32) {
        self.heir.deaf = count;
    }

    /// From now on nobody starts devices any more: whoever was to has got lost.
    pub fn lose_starter(&mut self) {
        self.heir.wanted = Arc::default();
    }

    /// From now on nothing goes wrong any more.
    pub fn calm(&mut self) {
        self.injector.clear();
        self.device.inject(0, Vec::new());
    }

    /// The faults in force at actors, and what came of them.
    pub fn faults(&self) -> Vec<Account> {
        self.injector.accounts()
    }

    /// How often faults struck at devices so far.
    pub fn device_struck(&self) -> u64 {
        self.heir.struck + self.device.struck()
    }

    /// How many devices were started in place of others.
    pub fn heirs(&self) -> u64 {
        self.heir.count
    }

    /// What the supervisors have done.
    pub fn supervisors(&self) -> Vec<SupervisorReport> {
        self.spawner.supervisors()
    }

    /// Actors that died so far, and what became of them.
    pub fn casualties(&self) -> &[Casualty] {
        &self.casualties
    }

    /// The files whose contexts died of themselves so far.
    pub fn bereaved(&self) -> &[FileId] {
        &self.bereaved
    }

    /// Sets up a device in place of one that is lost, if one is wanted: that takes time, so it happens only where the
    /// clock goes on.
    fn replace_device(&mut self) {
        if !self.heir.wanted.swap(false, Ordering::Relaxed) {
            return;
        }
        let ready = self.heir.ready.mint(ANY);
        let commands = Arc::clone(&self.heir.commands);
        let sink = Box::new(move |it| ready.send(it).is_ok());
        let link = FakeLink::replacing(self.heir.offered, commands, sink);
        let mut device = FakeDevice::new(&link, self.heir.temper, self.heir.random.number());
        if self.heir.deaf > 0 {
            self.heir.deaf -= 1;
            device.stall_at_regions();
        }
        self.heir.count += 1;
        self.heir.struck += self.device.struck();
        self.heir.past.extend(std::mem::replace(&mut self.device, device).into_offences());
        // The transport is there to hear it, or its death is on record.
        let _ = self.heir.devices.send(NewLink(Box::new(link)));
        self.run();
    }

    /// Lets the clock go on, stopping wherever an actor wants to be woken.
    pub fn advance(&mut self, by: Duration) {
        self.replace_device();
        let end = self.now.after(by);
        while let Some(next) = self.stage.deadline().filter(|next| *next <= end) {
            self.now = self.now.max(next);
            self.run();
        }
        self.now = end;
        self.run();
    }

    /// Lets actors and device do all they can while the clock stands still.
    pub fn settle(&mut self) {
        while self.run() | self.device.finish() {}
    }

    /// Settles, and lets the clock go on for as long as any patience lasts, so that all that can end has ended.
    pub fn outlast(&mut self) {
        // A WAIT lasts 15 seconds; a submit may be held for 10 and then have 5 at the device.
        let end = self.now.after(Duration::from_secs(20));
        self.settle();
        self.replace_device();
        self.settle();
        while let Some(next) = self.stage.deadline().filter(|next| *next <= end) {
            self.now = self.now.max(next);
            self.settle();
            self.replace_device();
            self.settle();
        }
        self.now = end;
        self.settle();
    }

    /// Ends the actor of a file's context as a fault would, and mends what that breaks, as the daemon does.
    pub fn kill_context(&mut self, file: FileId) {
        let found =
            locked(&self.contexts).iter().find(|(_, (it, _))| *it == file).map(|(slot, it)| (*slot, it.1));
        let Some((slot, context)) = found else { return };
        locked(&self.contexts).remove(&slot);
        self.spawner.stop(slot);
        self.run();
        self.bury(file, context);
    }

    fn bury(&self, file: FileId, context: ContextId) {
        // Actors that died are casualties, and tests look at those.
        let _ = self.registrar.send(ctrlq::Register::Died { context });
        let _ = self.daemon.scheme.send(scheme::Service::ContextDied { file });
    }

    /// What all actors report.
    pub fn report(&mut self) -> Option<Report> {
        Some(Report {
            transport: self.ask(|system, respond| system.daemon.transport.send(respond).is_ok())?,
            control: self.ask(|system, respond| system.daemon.control.send(respond).is_ok())?,
            resource: self.ask(|system, respond| system.daemon.resource.send(respond).is_ok())?,
            keeper: self.ask(|system, respond| system.daemon.keeper.send(respond).is_ok())?,
            scheme: self
                .ask(|system, respond| system.daemon.scheme.send(scheme::Service::Report(respond)).is_ok())?,
            display: self.ask(|system, respond| system.daemon.display.send(respond).is_ok())?,
        })
    }

    /// The rules broken towards devices so far.
    pub fn device_offences(&self) -> impl Iterator<Item = &Offence> {
        self.heir.past.iter().chain(self.device.offences())
    }

    /// Everything that anybody did wrong so far: actors that died, rules broken towards the device or the door.
    pub fn offences(&self) -> Vec<String> {
        let device = self.device_offences().map(|it| format!("at the device: {it}"));
        self.misconduct().chain(device).collect()
    }

    /// What was done wrong but for the device.
    pub fn misconduct(&self) -> impl Iterator<Item = String> {
        let unwanted = |it: &&Casualty| it.death == Death::Escalated || !it.fault.what.contains(INJECTED);
        let died = self.casualties.iter().filter(unwanted);
        let died = died.map(|it| format!("the {} actor died: {}", it.name, it.fault));
        let door = self.door.offences().into_iter().map(|it| format!("at the door: {it}"));
        died.chain(door)
    }

    fn ask<T: Send + 'static>(&mut self, send: impl FnOnce(&Self, Respond<T>) -> bool) -> Option<T> {
        let answer = Arc::new(Mutex::new(None));
        let place = Arc::clone(&answer);
        send(self, Respond::new(move |it| *locked(&place) = Some(it)));
        self.run();
        locked(&answer).take()
    }
}

/// Cuts the device's command memory into one pool for each actor that builds commands.
fn pools(area: &CommandArea, config: &SystemConfig) -> [DmaPool; 3] {
    let mut offset = area.offset;
    [&config.small[..], &CURSOR, &config.streams[..]].map(|classes| {
        let pool = DmaPool::new(area.memory.clone(), area.address, offset, classes);
        offset += DmaPool::bytes(classes);
        // PANIC: the link was made with as many bytes as these pools take together.
        pool.expect("the pools fit the link's memory for commands")
    })
}

/// What it takes to start a context's actor.
struct ContextParts {
    spawner: Spawner,
    commands: Minter<ctrlq::ContextCommands>,
    notices: Minter<scheme::FromContext>,
    registrar: Cap<ctrlq::Registrar>,
    contexts: Contexts,
    journals: Option<Budget>,
}

/// Starts the actor of each new context, and ends one that has gone wrong, as the daemon does.
fn context_authority(parts: ContextParts) -> virgld_scheme::Contexts {
    let (spawner, registrar) = (parts.spawner.grant(), parts.registrar.grant());
    let contexts = Arc::clone(&parts.contexts);
    let end = Box::new(move |file| {
        let mut contexts = locked(&contexts);
        let found = contexts.iter().find(|(_, (of, _))| *of == file).map(|(slot, it)| (*slot, it.1));
        let Some((slot, context)) = found else { return };
        contexts.remove(&slot);
        spawner.stop(slot);
        let _ = registrar.send(ctrlq::Register::Died { context });
    });
    virgld_scheme::Contexts { start: context_starter(parts), end }
}

/// Starts the actor of each new context, as the daemon does.
fn context_starter(parts: ContextParts) -> Box<dyn FnMut(FileId) -> Cap<context::FromScheme> + Send> {
    let mut next = 0_u32;
    Box::new(move |file| {
        next += 1;
        let context = ContextId(next);
        let mailbox: Mailbox<context::Message> = parts.spawner.mailbox();
        let slot = mailbox.slot();
        let cap = open(&mailbox);
        // Actors that died are casualties, and tests look at those.
        let _ = parts.registrar.send(ctrlq::Register::Begin { context, events: open(&mailbox) });
        let commands = parts.commands.mint(Badge(u64::from(context.0)));
        let notices = parts.notices.mint(Badge(file.0));
        locked(&parts.contexts).insert(slot, (file, context));
        let (spawner, contexts) = (parts.spawner.grant(), Arc::clone(&parts.contexts));
        let finish = Box::new(move || {
            locked(&contexts).remove(&slot);
            spawner.stop(slot);
        });
        let journal = parts.journals.as_ref().map(Budget::grant);
        parts.spawner.start("context", mailbox, Context::new(commands, notices, journal, finish));
        cap
    })
}

fn open<I: Interface>(mailbox: &Mailbox<I::Whole>) -> Cap<I>
where
    I::Whole: Send,
{
    mailbox.open(ANY)
}
