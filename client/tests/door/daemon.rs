//! A door on a thread, with a scheme that answers at once.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use virgld_platform::host::clock::now;
use virgld_platform::host::door::{Door, DoorConfig};
use virgld_platform::host::memory::SharedMemory;
use virgld_platform::host::reactor::Reactor;
use virgld_protocol::message::{door, scheme};
use virgld_runtime::dma::{DmaPool, SizeClass};
use virgld_runtime::io::ReadySink;
use virgld_runtime::{Badge, Mailbox, Stage, Wake};

use crate::scheme::{Scheme, Seen};

pub(crate) struct Daemon {
    directory: PathBuf,
    seen: Arc<Mutex<Seen>>,
    stop: Arc<AtomicBool>,
    waker: Arc<dyn Wake>,
    thread: Option<JoinHandle<()>>,
}

impl Daemon {
    pub(crate) fn start() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self::start_in(std::env::temp_dir().join(format!("virgld-door-{}-{number}", std::process::id())))
    }

    pub(crate) fn start_in(directory: PathBuf) -> Self {
        let (seen, stop) = (Arc::<Mutex<Seen>>::default(), Arc::<AtomicBool>::default());
        let (sender, receiver) = std::sync::mpsc::channel();
        let (stopped, home, seeing) = (stop.clone(), directory.clone(), seen.clone());
        let thread = std::thread::spawn(move || {
            // A reactor cannot be moved between threads.
            let mut reactor = Reactor::new().unwrap();
            let mut stage = Stage::new(reactor.waker());
            wire(&stage, &reactor, &home, seeing);
            sender.send(reactor.waker()).unwrap();
            run(&mut stage, &mut reactor, &stopped);
        });
        let waker = receiver.recv().unwrap();
        Self { directory, seen, stop, waker, thread: Some(thread) }
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(crate) fn seen(&self) -> Seen {
        self.seen.lock().unwrap().clone()
    }

    /// Lets a scheme that was told to hang go on.
    pub(crate) fn thaw(&self) {
        self.seen.lock().unwrap().thawed = true;
    }

    pub(crate) fn wait_for(&self, what: &str, is_so: impl Fn(&Seen) -> bool) {
        let start = Instant::now();
        while !is_so(&self.seen.lock().unwrap()) {
            assert!(start.elapsed() < Duration::from_secs(20), "not so: {what}; {:?}", self.seen());
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        self.waker.wake();
        let ended = self.thread.take().map(JoinHandle::join);
        let _ = std::fs::remove_dir_all(&self.directory);
        if !std::thread::panicking() {
            ended.unwrap().unwrap();
        }
    }
}

fn run(stage: &mut Stage, reactor: &mut Reactor, stopped: &AtomicBool) {
    while !stopped.load(Ordering::Acquire) {
        stage.run(now());
        let dead = stage.casualties();
        assert!(dead.is_empty(), "{dead:?}");
        let sleeps = stage.may_sleep();
        let until = stage.deadline().map(|deadline| deadline.since(now()));
        let until = if sleeps { until } else { Some(Duration::ZERO) };
        reactor.wait(until, || stage.awake()).unwrap();
    }
}

fn wire(stage: &Stage, reactor: &Reactor, directory: &Path, seen: Arc<Mutex<Seen>>) {
    let spawner = stage.spawner();
    let door_box: Mailbox<door::Message> = spawner.mailbox();
    let scheme_box: Mailbox<scheme::Message> = spawner.mailbox();
    let classes = [SizeClass { size: 8 << 10, count: 64 }, SizeClass { size: 512 << 10, count: 24 }];
    let memory = SharedMemory::new("streams", DmaPool::bytes(&classes)).unwrap();
    let pool = DmaPool::new(memory, 0, 0, &classes).unwrap();
    let to_self = door_box.open::<door::FromReactor>(Badge(0));
    let sinks = Box::new(move || -> ReadySink {
        let to_self = to_self.grant();
        Box::new(move |ready| to_self.send(ready).is_ok())
    });
    let to_scheme = scheme_box.open::<scheme::FromDoor>(Badge(0));
    let to_door = door_box.open::<door::FromScheme>(Badge(0));
    let door = Door::new(DoorConfig::new(directory), to_scheme, reactor.registrar(), pool, sinks).unwrap();
    spawner.start("door", door_box, door);
    spawner.start("scheme", scheme_box, Scheme::new(to_door, seen));
}
