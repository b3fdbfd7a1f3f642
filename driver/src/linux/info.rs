//! `virgld info`: what a device offers.

use std::fmt;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde::Serialize;
use virgld_ctrlq::ControlQueue;
use virgld_platform::host::clock::now;
use virgld_platform::host::reactor::Reactor;
use virgld_platform::host::vhost_user::Monitor;
use virgld_protocol::channel::MAX_BULK;
use virgld_protocol::device::{Configuration, Feature};
use virgld_protocol::message::resource::Notice;
use virgld_protocol::message::transport::NewLink;
use virgld_protocol::message::{ctrlq, cursorq, display, keeper, resource, scheme, transport};
use virgld_resource::Resources;
use virgld_runtime::dma::{DmaPool, SizeClass};
use virgld_runtime::io::ReadySink;
use virgld_runtime::link::Link;
use virgld_runtime::{Actor, Badge, Fault, Mailbox, Stage, Turn};
use virgld_transport::Transport;
use zerocopy::FromBytes;

use super::command_line::Info;
use super::{Error, show};

/// How long the device may take to answer all questions.
const PATIENCE: Duration = Duration::from_secs(10);
const POOL: [SizeClass; 2] = [SizeClass { size: 512, count: 64 }, SizeClass { size: 80 << 10, count: 4 }];

/// What is shown.
#[derive(Debug, Serialize)]
struct Account {
    features: u64,
    feature_names: Vec<&'static str>,
    scanouts: u32,
    queue_entries: [u16; 2],
    command_bytes: usize,
    longest_stream: usize,
    capsets: Vec<CapsetAccount>,
}

#[derive(Debug, Serialize)]
struct CapsetAccount {
    id: u32,
    name: &'static str,
    version: u32,
    bytes: usize,
}

/// Sets a device up, asks it, and lets it go.
pub(crate) fn info(options: &Info) -> Result<(), Error> {
    let account = ask(options)?;
    if options.json {
        return show(&format!("{}\n", serde_json::to_string_pretty(&account)?));
    }
    show(&account.to_string())
}

impl fmt::Display for Account {
    fn fmt(&self, text: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(text, "features         {:#x}  {}", self.features, self.feature_names.join(" "))?;
        let has_3d = if self.features & Feature::VIRGL == 0 {
            "no: modes, dumb buffers and pointers only"
        } else {
            "yes"
        };
        writeln!(text, "3D               {has_3d}")?;
        writeln!(text, "scanouts         {}", self.scanouts)?;
        let [control, cursor] = self.queue_entries;
        writeln!(text, "queues           control {control}, cursor {cursor} entries")?;
        writeln!(text, "command memory   {} bytes", self.command_bytes)?;
        writeln!(text, "longest stream   {} bytes", self.longest_stream)?;
        for CapsetAccount { id, name, version, bytes } in &self.capsets {
            writeln!(text, "capability set   {id} {name} version {version}, {bytes} bytes")?;
        }
        Ok(())
    }
}

/// Stands where the scheme stands in the daemon: hears what the resource actor learns of the device.
struct Listener(mpsc::Sender<Notice>);

impl Actor for Listener {
    type Message = scheme::Message;

    fn handle(&mut self, _: Turn, message: scheme::Message) -> Result<(), Fault> {
        if let scheme::Message::Resource(notice) = message {
            self.0.send(notice).map_err(|_| Fault::new("nobody listens"))?;
        }
        Ok(())
    }
}

fn ask(options: &Info) -> Result<Account, Error> {
    const ANY: Badge = Badge(0);
    let mut reactor = Reactor::new()?;
    let mut stage = Stage::new(reactor.waker());
    let spawner = stage.spawner();
    let transport_box: Mailbox<transport::Message> = spawner.mailbox();
    let control_box: Mailbox<ctrlq::Message> = spawner.mailbox();
    let cursor_box: Mailbox<cursorq::Message> = spawner.mailbox();
    let resource_box: Mailbox<resource::Message> = spawner.mailbox();
    let scheme_box: Mailbox<scheme::Message> = spawner.mailbox();
    // What is displayed is nobody's matter here.
    let display_box: Mailbox<display::Message> = spawner.mailbox();
    let mut sink = || -> ReadySink {
        let ready = transport_box.open::<transport::FromReactor>(ANY);
        Box::new(move |it| ready.send(it).is_ok())
    };
    let running = options.device.start(&Monitor::default(), &reactor.registrar(), &mut sink)?;
    let link = running.link;
    let commands = link.commands();
    let mut account = account(&*link);
    let pool = DmaPool::new(commands.memory, commands.address, commands.offset, &POOL)?;
    let (sender, heard) = mpsc::channel();
    let devices = transport_box.open::<transport::Devices>(ANY);
    // Nobody looks after this device: it is asked once.
    let keeper_box: Mailbox<keeper::Message> = spawner.mailbox();
    let transport = Transport::new(
        control_box.open(ANY),
        cursor_box.open(ANY),
        resource_box.open(ANY),
        keeper_box.open(ANY),
    );
    let control = ControlQueue::new(
        pool,
        PATIENCE,
        transport_box.open(ANY),
        transport_box.open(ANY),
        resource_box.open(ANY),
        display_box.open(ANY),
    );
    let limits = virgld_resource::Limits::default();
    let resources = Resources::new(
        limits,
        control_box.open(ANY),
        control_box.open(ANY),
        transport_box.open(ANY),
        scheme_box.open(ANY),
        display_box.open(ANY),
    );
    spawner.start("transport", transport_box, transport);
    spawner.start("control queue", control_box, control);
    spawner.start("resource", resource_box, resources);
    spawner.start("listener", scheme_box, Listener(sender));
    devices.send(NewLink(link))?;

    let begin = Instant::now();
    while begin.elapsed() < PATIENCE {
        stage.run(now());
        match heard.try_recv() {
            Ok(Notice::DeviceUp { capsets, .. }) => {
                account.capsets = capsets.iter().map(capset).collect();
                return Ok(account);
            }
            Ok(Notice::DeviceDown) => return Err("the device went away while it was asked".into()),
            _ => {}
        }
        reactor.wait(Some(Duration::from_millis(20)), || stage.awake())?;
    }
    Err("the device does not answer".into())
}

fn account(link: &dyn Link) -> Account {
    const NAMES: [(u64, &str); 8] = [
        (Feature::VIRGL, "VIRGL"),
        (Feature::EDID, "EDID"),
        (Feature::RESOURCE_UUID, "RESOURCE_UUID"),
        (Feature::RESOURCE_BLOB, "RESOURCE_BLOB"),
        (Feature::CONTEXT_INIT, "CONTEXT_INIT"),
        (1 << 28, "INDIRECT_DESC"),
        (1 << 29, "EVENT_IDX"),
        (1 << 32, "VERSION_1"),
    ];
    let features = link.features();
    let configuration = Configuration::read_from_prefix(link.configuration())
        .map_or_else(|_| Configuration::default(), |(configuration, _)| configuration);
    let entries = |index| link.queue(index).map_or(0, |area| area.size);
    Account {
        features,
        feature_names: NAMES.iter().filter(|(bit, _)| features & bit != 0).map(|(_, name)| *name).collect(),
        scanouts: configuration.num_scanouts,
        queue_entries: [entries(transport::CONTROL_QUEUE), entries(transport::CURSOR_QUEUE)],
        command_bytes: link.commands().size,
        longest_stream: MAX_BULK,
        capsets: Vec::new(),
    }
}

fn capset(capset: &resource::Capset) -> CapsetAccount {
    let name = match capset.info.id {
        1 => "VIRGL",
        2 => "VIRGL2",
        4 => "VENUS",
        _ => "unknown",
    };
    CapsetAccount { id: capset.info.id, name, version: capset.info.max_version, bytes: capset.bytes.len() }
}
