//! Who may speak to whom, and who shares a thread: the one place that names every actor.
//!
//! ```text
//!            FromDoor          FromScheme            ContextCommands        ControlQueue
//!   Door ───────────► Scheme ─────────────► Context ────────────────► CtrlQ ────────────► Transport ──► device
//!     ▲                │  ▲                    │ ▲                     ▲ │                    ▲ │ ▲
//!     └────────────────┘  └────────────────────┘ └─────────────────────┘ │   Regions          │ │ └─ CursorQ
//!        FromScheme    │       FromContext             FromControl       ▼   ┌────────────────┘ │
//!                      └──────────────────────────────► Resources ◄──────────┘◄─────────────────┘
//! ```
//!
//! Not in the picture: the transport tells the device keeper of the device's loss, and the control queue complains to the
//! transport of one that stalls.
//!
//! All of them share one stage: a submit passes through five actors without a thread switch. An arrow is a
//! capability, and there is none that is not drawn.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use virgld_context::{Budget, Context};
use virgld_ctrlq::ControlQueue;
use virgld_cursorq::CursorQueue;
use virgld_display::{Display, Presentation};
use virgld_keeper::Keeper;
use virgld_platform::host::door::{Door, DoorConfig};
use virgld_platform::host::reactor::Reactor;
use virgld_platform::host::vhost_user::Monitor;
use virgld_protocol::channel::MAX_BULK;
use virgld_protocol::device::Feature;
use virgld_protocol::ids::{ContextId, FileId};
use virgld_protocol::message::ctrlq::STREAM_OFFSET;
use virgld_protocol::message::transport::{Complaint, NewLink};
use virgld_protocol::message::{context, ctrlq, cursorq, display, door, keeper, resource, scheme, transport};
use virgld_resource::Resources;
use virgld_runtime::dma::{DmaPool, SizeClass};
use virgld_runtime::fault::Injector;
use virgld_runtime::io::ReadySink;
use virgld_runtime::link::CommandArea;
use virgld_runtime::{Badge, Cap, Casualty, Death, Intensity, Mailbox, Minter, SlotId, Spawner, Stage};
use virgld_scheme::Scheme;
use virgld_transport::Transport;

use super::Error;
use super::command_line::Device;
use super::control::{self, Control};
use super::device::Running;
use super::directory::{CONTROL, PICTURE};
use super::pictures::{self, Pictures};
use super::policy::Policy;
use super::starter::{Slot, Starter};
use super::tree::Tree;

/// Memory for commands but for streams: one for each command under way.
const SMALL: [SizeClass; 3] = [
    SizeClass { size: 512, count: 1024 },
    SizeClass { size: 80 << 10, count: 4 },
    // The longest command of a stream that a journal has kept.
    SizeClass { size: 320 << 10, count: 2 },
];
/// Memory for cursor commands.
const CURSOR: [SizeClass; 1] = [SizeClass { size: 128, count: 8 }];
/// Memory for command streams. Mesa's longest is 266,240 bytes; the last class takes what a call can carry.
const STREAMS: [SizeClass; 4] = [
    SizeClass { size: 8 << 10, count: 256 },
    SizeClass { size: 64 << 10, count: 64 },
    SizeClass { size: 320 << 10, count: 32 },
    SizeClass { size: (STREAM_OFFSET + MAX_BULK).next_multiple_of(4096), count: 8 },
];

/// A device that dies oftener than this is not worth starting.
const DEVICES: Intensity = Intensity { restarts: 10, period: Duration::from_secs(30) };

/// A wired system, ready to run.
pub(crate) struct System {
    /// Until it is run.
    stage: Option<Stage>,
    pub(crate) reactor: Reactor,
    pub(crate) supervisor: Supervisor,
    /// The device's process, if it is ours, and what was lent to us; they end with this, after the stage has let go of the
    /// device.
    pub(crate) kept: Slot,
    /// What is connected to a device process.
    pub(crate) monitor: Monitor,
    /// The authority to make things go wrong.
    pub(crate) injector: Injector,
    /// Whom to ask what is left when the daemon ends.
    pub(crate) parts: control::Parts,
}

impl System {
    /// The stage, to be run; and the rest.
    pub(crate) fn part(mut self) -> Result<(Stage, Self), Error> {
        let stage = self.stage.take().ok_or("the stage runs already")?;
        Ok((stage, self))
    }
}

/// What the wiring keeps: the means to clean up after a context that died.
pub(crate) struct Supervisor {
    contexts: Arc<Mutex<HashMap<SlotId, (FileId, ContextId)>>>,
    registrar: Cap<ctrlq::Registrar>,
    scheme: Cap<scheme::FromDaemon>,
    complaints: Cap<transport::Complaints>,
}

impl Supervisor {
    /// The device's process has ended: the transport need not wait until its socket says so.
    pub(crate) fn device_ended(&self, how: &str) {
        // If the transport is gone, the daemon is about to end.
        let _ = self.complaints.send(Complaint { reason: format!("the device process {how}") });
    }

    /// The scheme, for the daemon's questions.
    pub(crate) fn scheme(&self) -> &Cap<scheme::FromDaemon> {
        &self.scheme
    }

    /// Mends what the death of an actor broke. Says why the daemon must end, if it must.
    pub(crate) fn mourn(&self, casualty: &Casualty) -> Result<(), Error> {
        let Casualty { slot, name, fault, death, with } = casualty;
        if *death == Death::Restarted {
            let with = with.join(", ");
            tracing::error!(actor = name, %fault, with, "an actor died and was started anew");
            return Ok(());
        }
        let lost = locked(&self.contexts).remove(slot);
        let Some((file, context)) = lost else {
            return Err(format!("the {name} actor died: {fault}").into());
        };
        tracing::error!(file = file.0, context = context.0, fault = %casualty.fault, "a context actor died");
        self.registrar.send(ctrlq::Register::Died { context })?;
        self.scheme.send(scheme::Service::ContextDied { file })?;
        Ok(())
    }
}

/// Starts the device and wires the actors to it.
pub(crate) fn wire(
    device: &Device,
    directory: &std::path::Path,
    command_deadline: Duration,
    policy: &Policy,
    journals: Option<Budget>,
) -> Result<System, Error> {
    let reactor = Reactor::new()?;
    let stage = Stage::new(reactor.waker());
    let spawner = stage.spawner();
    let tree = Tree::new(&spawner);

    let transport_box: Mailbox<transport::Message> = spawner.mailbox();
    let control_box: Mailbox<ctrlq::Message> = spawner.mailbox();
    let cursor_box: Mailbox<cursorq::Message> = spawner.mailbox();
    let resource_box: Mailbox<resource::Message> = spawner.mailbox();
    let display_box: Mailbox<display::Message> = spawner.mailbox();
    let scheme_box: Mailbox<scheme::Message> = spawner.mailbox();
    let door_box: Mailbox<door::Message> = spawner.mailbox();
    let keeper_box: Mailbox<keeper::Message> = spawner.mailbox();
    let status_box: Mailbox<control::Message> = spawner.mailbox();
    let picture_box: Mailbox<pictures::Message> = spawner.mailbox();
    const ANY: Badge = Badge(0);

    // The device first: without one, nothing else makes sense.
    let ready = transport_box.open::<transport::FromReactor>(ANY);
    let mut sink = || -> ReadySink {
        let ready = ready.grant();
        Box::new(move |it| ready.send(it).is_ok())
    };
    let monitor = Monitor::default();
    let Running { link, process, scans_out, loan } =
        device.start(&monitor, &reactor.registrar(), &mut sink)?;
    let presentation = if scans_out || link.features() & Feature::VIRGL == 0 {
        Presentation::Scanout
    } else {
        Presentation::ReadBack
    };
    let commands = link.commands();
    let [small, cursor, streams] = pools(&commands)?;
    let kept = Slot::new(process, loan);
    let starter = Arc::new(Starter {
        device: device.clone(),
        monitor: monitor.clone(),
        registrar: reactor.registrar(),
        ready: transport_box.minter(),
        devices: transport_box.open(ANY),
        keeper: keeper_box.open(ANY),
        commands,
        kept: kept.clone(),
    });

    let registrar = control_box.open::<ctrlq::Registrar>(ANY);
    let contexts = Arc::default();
    let supervisor = Supervisor {
        contexts: Arc::clone(&contexts),
        registrar: registrar.grant(),
        scheme: scheme_box.open(ANY),
        complaints: transport_box.open(ANY),
    };
    let contexts = context_authority(ContextParts {
        spawner: tree.contexts.spawner(),
        commands: control_box.minter(),
        notices: scheme_box.minter(),
        registrar,
        contexts,
        journals: journals.as_ref().map(Budget::grant),
    });

    let door_ready = door_box.minter::<door::FromReactor>();
    let sinks = Box::new(move || -> ReadySink {
        let ready = door_ready.mint(ANY);
        Box::new(move |it| ready.send(it).is_ok())
    });
    let config =
        DoorConfig { directory: directory.to_owned(), access: policy.access(), limits: policy.door() };
    let door = Door::new(config, scheme_box.open(ANY), reactor.registrar(), streams, sinks)?;

    // One to answer who asks while the daemon runs, and one for what it says at its end.
    let [status_parts, last_parts] = [(); 2].map(|()| control::Parts {
        transport: transport_box.open(ANY),
        control: control_box.open(ANY),
        resource: resource_box.open(ANY),
        scheme: scheme_box.open(ANY),
        keeper: keeper_box.open(ANY),
        display: display_box.open(ANY),
        contexts: whose(&supervisor.contexts),
        supervisors: spawner.grant(),
        journals: journals.as_ref().map(Budget::grant),
    });
    let status_ready = status_box.open::<control::FromReactor>(ANY);
    let status_sink: ReadySink = Box::new(move |it| status_ready.send(it).is_ok());
    let status = Control::new(
        &directory.join(CONTROL),
        &reactor.registrar(),
        status_sink,
        status_parts,
        status_box.open(ANY),
    )?;

    let picture_parts = pictures::Parts {
        screens: display_box.open(ANY),
        display: display_box.open(ANY),
        own: picture_box.open(ANY),
        monitor: monitor.clone(),
    };
    let picture_ready = picture_box.open::<pictures::FromReactor>(ANY);
    let picture_sink: ReadySink = Box::new(move |it| picture_ready.send(it).is_ok());
    let pictures =
        Pictures::new(&directory.join(PICTURE), &reactor.registrar(), picture_sink, picture_parts)?;

    let devices = transport_box.open::<transport::Devices>(ANY);
    let transport = Transport::new(
        control_box.open(ANY),
        cursor_box.open(ANY),
        resource_box.open(ANY),
        keeper_box.open(ANY),
    );
    let control = ControlQueue::new(
        small,
        command_deadline,
        transport_box.open(ANY),
        transport_box.open(ANY),
        resource_box.open(ANY),
        display_box.open(ANY),
    );
    let cursors = CursorQueue::new(cursor, transport_box.open(ANY));
    let resources = Resources::new(
        policy.resource(),
        control_box.open(ANY),
        control_box.open(ANY),
        transport_box.open(ANY),
        scheme_box.open(ANY),
        display_box.open(ANY),
    );
    let displays = Display::new(
        presentation,
        scheme_box.open(ANY),
        control_box.open(ANY),
        cursor_box.open(ANY),
        resource_box.open(ANY),
    );
    let scheme = Scheme::new(
        scheme_limits(policy, command_deadline, journals.is_some()),
        door_box.open(ANY),
        resource_box.open(ANY),
        display_box.open(ANY),
        contexts,
    );

    tree.device.start("control queue", control_box, control);
    tree.device.start("transport", transport_box, transport);
    tree.device.start("cursor queue", cursor_box, cursors);
    let keeper = move || Keeper::new(DEVICES, Starter::start_by(&starter));
    tree.device.start_by("device keeper", keeper_box, keeper);
    tree.daemon.start("resource", resource_box, resources);
    tree.daemon.start("display", display_box, displays);
    tree.daemon.start("scheme", scheme_box, scheme);
    tree.daemon.start("door", door_box, door);
    tree.sockets.start("control socket", status_box, status);
    tree.sockets.start("picture socket", picture_box, pictures);
    devices.send(NewLink(link))?;
    let injector = spawner.injector();
    Ok(System { stage: Some(stage), reactor, supervisor, kept, monitor, injector, parts: last_parts })
}

/// Cuts the device's command memory into one pool for each actor that builds commands.
fn pools(area: &CommandArea) -> Result<[DmaPool; 3], Error> {
    let mut offset = area.offset;
    let mut pool = |classes: &[SizeClass]| {
        let pool = DmaPool::new(area.memory.clone(), area.address, offset, classes);
        offset += DmaPool::bytes(classes);
        pool
    };
    Ok([pool(&SMALL)?, pool(&CURSOR)?, pool(&STREAMS)?])
}

/// What it takes to start a context's actor.
struct ContextParts {
    spawner: Spawner,
    commands: Minter<ctrlq::ContextCommands>,
    notices: Minter<scheme::FromContext>,
    registrar: Cap<ctrlq::Registrar>,
    contexts: Arc<Mutex<HashMap<SlotId, (FileId, ContextId)>>>,
    /// Memory for what contexts keep to outlive their device.
    journals: Option<Budget>,
}

/// How long things may take, and how many there may be, at the scheme.
fn scheme_limits(policy: &Policy, command: Duration, journals: bool) -> virgld_scheme::Limits {
    // The keeper ends the daemon when there is no device for so long; until then calls may wait for one.
    let silence = virgld_keeper::PATIENCE + command;
    virgld_scheme::Limits { journals, silence, command, ..policy.scheme() }
}

/// Starts the actor of each new context, and ends one that has gone wrong without dying.
fn context_authority(parts: ContextParts) -> virgld_scheme::Contexts {
    let (spawner, registrar) = (parts.spawner.grant(), parts.registrar.grant());
    let contexts = Arc::clone(&parts.contexts);
    let end = Box::new(move |file| {
        let mut contexts = locked(&contexts);
        let found =
            contexts.iter().find(|(_, (of, _))| *of == file).map(|(slot, (_, context))| (*slot, *context));
        let Some((slot, context)) = found else { return };
        contexts.remove(&slot);
        tracing::error!(
            file = file.0,
            context = context.0,
            "a context's work went on no more: its actor is ended"
        );
        spawner.stop(slot);
        // If the control queue is gone, the daemon is about to end.
        let _ = registrar.send(ctrlq::Register::Died { context });
    });
    virgld_scheme::Contexts { start: context_starter(parts), end }
}

/// Starts the actor of each new context, with the authority to be that context and no other.
fn context_starter(parts: ContextParts) -> Box<dyn FnMut(FileId) -> Cap<context::FromScheme> + Send> {
    let mut next = 0_u32;
    Box::new(move |file| {
        // Never reused while anybody could remember it: it takes 4 billion contexts to come round.
        next = next.checked_add(1).unwrap_or(1);
        let context = ContextId(next);
        let mailbox: Mailbox<context::Message> = parts.spawner.mailbox();
        let slot = mailbox.slot();
        let cap = mailbox.open(Badge(0));
        let events = mailbox.open(Badge(0));
        // If the control queue is gone, the daemon is about to end.
        let _ = parts.registrar.send(ctrlq::Register::Begin { context, events });
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

/// Tells whose each context is.
fn whose(contexts: &Arc<Mutex<HashMap<SlotId, (FileId, ContextId)>>>) -> control::Contexts {
    let contexts = Arc::clone(contexts);
    Box::new(move || locked(&contexts).values().map(|(file, context)| (*context, *file)).collect())
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
