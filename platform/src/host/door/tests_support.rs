//! What the tests of this module share.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use virgld_protocol::message::door::{FromReactor, Message};
use virgld_protocol::message::scheme::{self, FromDoor};
use virgld_runtime::dma::{DmaPool, SizeClass};
use virgld_runtime::io::ReadySink;
use virgld_runtime::{Badge, Mailbox, Stage};

use super::actor::Door;
use super::config::DoorConfig;
use crate::host::memory::SharedMemory;
use crate::host::reactor::Reactor;

/// A directory of a test, removed when it ends.
pub(super) struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// A new one; `name` is for whoever finds it left behind.
    pub(super) fn new(name: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("virgld-{name}-{}-{number}", std::process::id()));
        DirBuilder::new().mode(0o700).create(&path).unwrap();
        Self { path }
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

/// A door whose scheme says nothing, and what it stands on.
pub(super) struct Alone {
    pub(super) door: Door,
    pub(super) reactor: Reactor,
    _scheme: Mailbox<scheme::Message>,
    _own: Mailbox<Message>,
    _stage: Stage,
    _scratch: Scratch,
}

impl Alone {
    pub(super) fn new() -> Self {
        let scratch = Scratch::new("door");
        let reactor = Reactor::new().unwrap();
        let stage = Stage::new(reactor.waker());
        let (own, scheme) = (stage.spawner().mailbox(), stage.spawner().mailbox());
        let classes = [SizeClass { size: 8 << 10, count: 2 }];
        let memory = SharedMemory::new("streams", DmaPool::bytes(&classes)).unwrap();
        let pool = DmaPool::new(memory, 0, 0, &classes).unwrap();
        let to_self = Mailbox::open::<FromReactor>(&own, Badge(0));
        let sinks = Box::new(move || -> ReadySink {
            let to_self = to_self.grant();
            Box::new(move |ready| to_self.send(ready).is_ok())
        });
        let config = DoorConfig::new(scratch.path());
        let to_scheme = scheme.open::<FromDoor>(Badge(0));
        let door = Door::new(config, to_scheme, reactor.registrar(), pool, sinks).unwrap();
        Self { door, reactor, _scheme: scheme, _own: own, _stage: stage, _scratch: scratch }
    }
}
