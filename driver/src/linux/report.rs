//! What `virgld status` shows, as the daemon says it and as people read it.

use std::collections::HashMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use virgld_context::Budget;
use virgld_protocol::device::Feature;
use virgld_protocol::ids::{ContextId, FileId};
use virgld_protocol::message::scheme::Node;
use virgld_protocol::message::{ctrlq, display, keeper, resource, scheme, transport};
use virgld_runtime::SupervisorReport;

use super::leaks::Leaks;

/// The state of a daemon.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Report {
    /// The daemon itself.
    pub(crate) daemon: Daemon,
    /// The device and its queues.
    pub(crate) device: Device,
    /// What is on the screens.
    pub(crate) display: Display,
    /// Open files.
    pub(crate) clients: Vec<Client>,
    /// GL contexts on the device.
    pub(crate) contexts: usize,
    /// Memory of what they keep to outlive the device, if they are to.
    pub(crate) journals: Option<Journals>,
    /// Resources on the device.
    pub(crate) resources: usize,
    /// Bytes of memory behind them.
    pub(crate) resource_bytes: u64,
    /// Those that the device cannot reach, of which copies are kept.
    pub(crate) copied_resources: usize,
    /// Bytes of these copies.
    pub(crate) copied_bytes: u64,
    /// Regions of clients' memory, whether the device can reach them or not.
    pub(crate) regions: usize,
    /// Buffers that a file names or that are exported.
    pub(crate) buffers: usize,
    /// Synchronisation objects.
    pub(crate) syncobjs: usize,
    /// Fences that have not signalled.
    pub(crate) fences: usize,
    /// Calls and work that an actor never answered, and that were given up.
    pub(crate) silences: u64,
    /// The supervision tree, each supervisor before those below it.
    pub(crate) supervisors: Vec<Supervisor>,
    /// All that is kept for somebody.
    pub(crate) leaks: Leaks,
}

/// A supervisor.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Supervisor {
    pub(crate) name: String,
    /// How many are above it.
    pub(crate) depth: usize,
    /// "one for one" or "rest for one".
    pub(crate) strategy: String,
    /// How often it acts in `period_seconds` before it gives up.
    pub(crate) intensity: usize,
    pub(crate) period_seconds: u64,
    /// How often it had something started anew.
    pub(crate) restarts: u64,
    pub(crate) children: Vec<Worker>,
    /// How many it has besides that are never started anew.
    pub(crate) temporary: usize,
}

/// An actor that is started anew.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Worker {
    pub(crate) name: String,
    /// How often it was, with others or alone.
    pub(crate) restarts: u64,
}

/// What contexts keep to outlive their device, all together.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Journals {
    pub(crate) bytes: usize,
    /// Bytes that there are for them.
    pub(crate) bound: usize,
}

/// The daemon's own process.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Daemon {
    pub(crate) pid: u32,
    /// Open descriptors.
    pub(crate) descriptors: usize,
    /// Resident memory in bytes.
    pub(crate) resident_bytes: u64,
}

/// The device and its queues.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Device {
    pub(crate) up: bool,
    pub(crate) down_reason: Option<String>,
    /// Devices that were lost so far.
    pub(crate) losses: u64,
    /// Why the last was.
    pub(crate) last_loss: Option<String>,
    /// How long it took until the next was ready, in milliseconds.
    pub(crate) last_outage_ms: Option<f64>,
    /// Negotiated feature bits.
    pub(crate) features: u64,
    /// Entries of the control queue.
    pub(crate) queue_size: u16,
    /// Commands that it has.
    pub(crate) in_flight: usize,
    /// Fenced commands among them.
    pub(crate) fenced: usize,
    /// Commands that wait for room in the queue.
    pub(crate) waiting: usize,
    pub(crate) commands: u64,
    pub(crate) kicks: u64,
    pub(crate) interrupts: u64,
    pub(crate) lost_interrupts: u64,
    pub(crate) urges: u64,
    /// Answers that were errors.
    pub(crate) errors: u64,
    /// Commands that were never answered, or not in time.
    pub(crate) lost: u64,
    /// Commands whose answer claimed more bytes than its buffer has.
    pub(crate) exaggerations: u64,
    /// Commands for pointers, which have a queue of their own and are not among `commands`.
    pub(crate) cursor_commands: u64,
}

/// What is on the screens.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Display {
    /// The file that may change it.
    pub(crate) master: Option<u64>,
    pub(crate) framebuffers: usize,
    pub(crate) outputs: Vec<Output>,
}

/// One screen.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Output {
    /// Width and height that the display says it has, if one is connected.
    pub(crate) connected: Option<(u32, u32)>,
    /// Width and height of the mode that is set, if it is on.
    pub(crate) mode: Option<(u32, u32)>,
    /// Refreshes in a thousand seconds.
    pub(crate) millihertz: u32,
    /// Flips that were shown.
    pub(crate) flips: u64,
    /// Where the pointer is, if it is shown.
    pub(crate) pointer: Option<(i32, i32)>,
}

/// An open file.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Client {
    pub(crate) file: u64,
    pub(crate) pid: u32,
    pub(crate) uid: u32,
    pub(crate) node: String,
    pub(crate) context: bool,
    /// The device has lost the GL context.
    pub(crate) lost: bool,
    /// That was because it had something of a buffer that was revoked.
    pub(crate) expelled: bool,
    /// How many devices the GL context has outlived.
    pub(crate) revivals: u32,
    /// Why it would not outlive another, though it was to.
    pub(crate) unjournaled: Option<String>,
    /// GEM handles.
    pub(crate) handles: usize,
    pub(crate) derived: usize,
    pub(crate) syncobjs: usize,
    /// Bytes of memory behind its resources.
    pub(crate) bytes: u64,
    /// Bytes of copies that the daemon keeps of what the device cannot reach.
    pub(crate) copied_bytes: u64,
    /// Calls that failed after they were accepted.
    pub(crate) errors: u64,
}

/// What the actors say of themselves.
#[derive(Debug, Default)]
pub(crate) struct Accounts {
    pub(crate) transport: Option<transport::Report>,
    pub(crate) control: Option<ctrlq::Report>,
    pub(crate) resource: Option<resource::Report>,
    pub(crate) scheme: Option<scheme::Report>,
    pub(crate) keeper: Option<keeper::Report>,
    pub(crate) display: Option<display::Report>,
}

/// An actor's account of itself.
pub(crate) enum Part {
    Transport(transport::Report),
    Control(ctrlq::Report),
    Resource(resource::Report),
    Scheme(scheme::Report),
    Keeper(keeper::Report),
    Display(display::Report),
}

impl Accounts {
    /// Takes a part.
    pub(crate) fn take(&mut self, part: Part) {
        match part {
            Part::Transport(report) => self.transport = Some(report),
            Part::Control(report) => self.control = Some(report),
            Part::Resource(report) => self.resource = Some(report),
            Part::Scheme(report) => self.scheme = Some(report),
            Part::Keeper(report) => self.keeper = Some(report),
            Part::Display(report) => self.display = Some(report),
        }
    }

    /// The whole, once all parts are there. `contexts` says whose each is.
    pub(crate) fn complete(
        &self,
        contexts: &HashMap<ContextId, FileId>,
        journals: Option<&Budget>,
        supervisors: Vec<Supervisor>,
    ) -> Option<Report> {
        let leaks = Leaks::of(self, contexts)?;
        let (transport, control) = (self.transport.as_ref()?, self.control.as_ref()?);
        let (resource, scheme) = (self.resource.as_ref()?, self.scheme.as_ref()?);
        let clients = scheme.files.iter().map(|file| client(file, resource)).collect();
        Some(Report {
            daemon: Daemon::of_this_process(),
            device: Device::new(transport, control, self.keeper.as_ref()?),
            display: Display::of(self.display.as_ref()?),
            clients,
            contexts: control.contexts,
            journals: journals.map(|it| Journals { bytes: it.used(), bound: it.total() }),
            resources: resource.resources.len(),
            resource_bytes: resource.resources.iter().map(|it| it.bytes).sum(),
            copied_resources: resource.resources.iter().filter(|it| it.copied_bytes > 0).count(),
            copied_bytes: resource.resources.iter().map(|it| it.copied_bytes).sum(),
            regions: resource.regions,
            buffers: scheme.buffers,
            syncobjs: scheme.syncobjs,
            fences: scheme.fences,
            silences: scheme.silences,
            supervisors,
            leaks,
        })
    }
}

impl Supervisor {
    pub(crate) fn of(report: &SupervisorReport) -> Self {
        let worker = |(name, restarts): &(&str, u64)| Worker { name: (*name).into(), restarts: *restarts };
        Self {
            name: report.name.into(),
            depth: report.depth,
            strategy: report.strategy.to_string(),
            intensity: report.intensity.restarts,
            period_seconds: report.intensity.period.as_secs(),
            restarts: report.restarts,
            children: report.children.iter().map(worker).collect(),
            temporary: report.temporary,
        }
    }
}

impl fmt::Display for Supervisor {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, strategy, intensity, period_seconds, restarts, .. } = self;
        let indent = 2 * self.depth;
        write!(
            to,
            "  {:indent$}{name}: {strategy}, {restarts} restarts ({intensity} in {period_seconds} s)",
            ""
        )?;
        let restarted = |times| if times == 0 { String::new() } else { format!(" ({times} restarts)") };
        let mut children: Vec<String> =
            self.children.iter().map(|it| format!("{}{}", it.name, restarted(it.restarts))).collect();
        if self.temporary > 0 {
            children.push(format!("{} temporary", self.temporary));
        }
        if !children.is_empty() {
            write!(to, "; {}", children.join(", "))?;
        }
        writeln!(to)
    }
}

impl Device {
    fn new(transport: &transport::Report, control: &ctrlq::Report, keeper: &keeper::Report) -> Self {
        Self {
            up: transport.up,
            down_reason: transport.down_reason.clone(),
            losses: keeper.losses,
            last_loss: keeper.last_reason.clone(),
            last_outage_ms: keeper.last_outage.map(|outage| outage.as_secs_f64() * 1e3),
            features: transport.features,
            queue_size: transport.queue_size,
            in_flight: transport.in_flight,
            fenced: control.fences,
            waiting: transport.waiting,
            commands: control.sent,
            kicks: transport.kicks,
            interrupts: transport.interrupts,
            lost_interrupts: transport.lost_interrupts,
            urges: transport.urges,
            errors: control.errors,
            lost: control.lost,
            exaggerations: transport.exaggerations,
            cursor_commands: transport.cursor_commands,
        }
    }
}

impl Display {
    fn of(report: &display::Report) -> Self {
        let outputs = report.outputs.iter().map(|it| Output {
            connected: it.connected,
            mode: it.mode,
            millihertz: it.millihertz,
            flips: it.flips,
            pointer: it.pointer,
        });
        Self {
            master: report.master.map(|file| file.0),
            framebuffers: report.framebuffers,
            outputs: outputs.collect(),
        }
    }
}

impl fmt::Display for Display {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let master = self.master.map_or("nobody".into(), |file| format!("file {file}"));
        writeln!(to, "display    master: {master}; {} framebuffers", self.framebuffers)?;
        for (number, output) in self.outputs.iter().enumerate() {
            let connected = output
                .connected
                .map_or("nothing connected".into(), |(width, height)| format!("{width}x{height}"));
            write!(to, "  output {number}: {connected}; ")?;
            match output.mode {
                None => write!(to, "off")?,
                Some((width, height)) => {
                    let hertz = f64::from(output.millihertz) / 1e3;
                    write!(to, "shows {width}x{height} at {hertz:.2} Hz")?;
                }
            }
            write!(to, ", {} flips", output.flips)?;
            match output.pointer {
                None => writeln!(to)?,
                Some((x, y)) => writeln!(to, ", pointer at {x},{y}")?,
            }
        }
        Ok(())
    }
}

fn client(file: &scheme::FileReport, resources: &resource::Report) -> Client {
    let owned = || resources.resources.iter().filter(|it| it.owner == file.file);
    Client {
        file: file.file.0,
        pid: file.credentials.pid,
        uid: file.credentials.uid,
        node: match file.node {
            Node::Card => "card0".into(),
            Node::Render => "renderD128".into(),
        },
        context: file.context,
        lost: file.lost,
        expelled: file.expelled,
        revivals: file.revivals,
        unjournaled: file.unjournaled.map(Into::into),
        handles: file.handles,
        derived: file.derived,
        syncobjs: file.syncobjs,
        bytes: owned().map(|it| it.bytes).sum(),
        copied_bytes: owned().map(|it| it.copied_bytes).sum(),
        errors: file.errors,
    }
}

impl Daemon {
    fn of_this_process() -> Self {
        let descriptors = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
        let pages = std::fs::read_to_string("/proc/self/statm").ok();
        let pages = pages.and_then(|text| text.split(' ').nth(1)?.parse::<u64>().ok()).unwrap_or(0);
        let page = rustix::param::page_size() as u64;
        Self { pid: std::process::id(), descriptors, resident_bytes: pages * page }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mebibytes = |bytes: u64| (bytes as f64) / f64::from(1 << 20);
        let Self { daemon, device, .. } = self;
        let resident = mebibytes(daemon.resident_bytes);
        writeln!(to, "daemon     pid {}, {resident:.1} MiB, {} descriptors", daemon.pid, daemon.descriptors)?;
        match &device.down_reason {
            Some(reason) => writeln!(to, "device     down: {reason}")?,
            None => {
                let without = if device.features & Feature::VIRGL == 0 { ", no 3D" } else { "" };
                writeln!(to, "device     up, features {:#x}{without}", device.features)?;
            }
        }
        if let Some(reason) = &device.last_loss {
            let outage =
                device.last_outage_ms.map_or(String::new(), |time| format!(", {time:.0} ms without one"));
            writeln!(to, "losses     {} devices{outage}; the last: {reason}", device.losses)?;
        }
        writeln!(
            to,
            "queue      {} of {} in flight, {} fenced, {} waiting",
            device.in_flight, device.queue_size, device.fenced, device.waiting
        )?;
        writeln!(
            to,
            "commands   {} sent, {} for pointers, {} errors, {} lost, {} exaggerations; {} kicks, {} urges, {} interrupts, {} lost interrupts",
            device.commands,
            device.cursor_commands,
            device.errors,
            device.lost,
            device.exaggerations,
            device.kicks,
            device.urges,
            device.interrupts,
            device.lost_interrupts
        )?;
        let total = mebibytes(self.resource_bytes);
        let (copied, copies) = (self.copied_resources, mebibytes(self.copied_bytes));
        write!(to, "resources  {}, {total:.1} MiB in {} regions", self.resources, self.regions)?;
        writeln!(to, "; {copied} the device cannot reach, {copies:.1} MiB of copies")?;
        writeln!(to, "fences     {} pending; {} synchronisation objects", self.fences, self.syncobjs)?;
        writeln!(
            to,
            "silences   {} calls and pieces of work given up, as an actor never answered",
            self.silences
        )?;
        write!(to, "contexts   {}", self.contexts)?;
        match &self.journals {
            None => writeln!(to)?,
            Some(Journals { bytes, bound }) => {
                let [bytes, bound] = [bytes, bound].map(|it| mebibytes(*it as u64));
                writeln!(to, "; to outlive the device they keep {bytes:.1} of {bound:.0} MiB")?;
            }
        }
        self.display.fmt(to)?;
        writeln!(to, "restarts   {}", self.supervisors.iter().map(|it| it.restarts).sum::<u64>())?;
        for supervisor in &self.supervisors {
            supervisor.fmt(to)?;
        }
        writeln!(to, "clients    {}", self.clients.len())?;
        for client in &self.clients {
            writeln!(
                to,
                "  file {} of pid {} uid {} on {}: {} handles, {:.1} MiB, {} synchronisation objects, {} errors{}",
                client.file,
                client.pid,
                client.uid,
                client.node,
                client.handles,
                mebibytes(client.bytes),
                client.syncobjs,
                client.errors,
                match (client.context, client.lost) {
                    (_, true) => ", GL context lost",
                    (true, false) => ", GL context",
                    (false, false) => "",
                }
            )?;
            if client.expelled {
                writeln!(to, "    its GL context had views or the like of a buffer that was revoked")?;
            }
            if client.copied_bytes > 0 {
                writeln!(to, "    {:.1} MiB of copies are kept for it", mebibytes(client.copied_bytes))?;
            }
            if client.revivals > 0 {
                writeln!(to, "    its GL context has outlived {} devices", client.revivals)?;
            }
            if let Some(why) = &client.unjournaled {
                writeln!(to, "    its GL context would not outlive the device: {why}")?;
            }
        }
        Ok(())
    }
}
