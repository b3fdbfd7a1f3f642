//! Readiness of file descriptors, by epoll, as calls of [`ReadySink`]s.
//!
//! The loop of a stage owns the [`Reactor`] and sleeps in it; whoever has descriptors to watch holds a
//! [`Registrar`], on any thread. An event that the kernel reported before a registration ended is never
//! delivered to a later one: keys carry a generation.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::event::{EventfdFlags, Timespec, epoll, eventfd};
use rustix::io::Errno;
use slab::Slab;
use virgld_runtime::Wake;
use virgld_runtime::io::{Ready, ReadySink};

/// A descriptor to watch. It is shared with the reactor, so that it cannot be closed while it is registered:
/// where another process holds a copy, epoll would go on reporting it and could not be told to stop.
pub type Source = Arc<dyn AsFd + Send + Sync>;

/// What to wait for. Errors and a closed peer are always reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interest {
    /// There is something to read.
    Read,
    /// There is room to write.
    Write,
    /// Either.
    ReadWrite,
}

/// When to report it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trigger {
    /// In every [`Reactor::wait`] for as long as it is so.
    Level,
    /// Once each time it becomes so. An eventfd need not be read; a socket must be read until it is empty, or
    /// be [`Registration::rearm`]ed.
    Edge,
}

/// Waits for readiness. Owned by the loop of one thread.
pub struct Reactor {
    shared: Arc<Shared>,
}

impl Reactor {
    /// A reactor that watches nothing yet. Fails when the process is out of file descriptors.
    pub fn new() -> Result<Self, Errno> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        epoll::add(&epoll, &wake, epoll::EventData::new_u64(WAKE), flags(Interest::Read, Trigger::Edge))?;
        let table = Table { entries: Slab::new(), next: 0 };
        let shared = Arc::new(Shared { epoll, wake, table: Mutex::new(table) });
        Ok(Self { shared })
    }

    /// The authority to have descriptors watched here.
    pub fn registrar(&self) -> Registrar {
        Registrar { shared: self.shared.clone() }
    }

    /// Ends the current [`Reactor::wait`], or the next one, at once; from any thread.
    pub fn waker(&self) -> Arc<dyn Wake> {
        self.shared.clone()
    }

    /// Sleeps until something is ready, someone wakes it, or `timeout` (no limit if there is none) has passed; then
    /// calls the sinks. Returns how many sinks it called. A signal ends the sleep like a wake-up.
    /// Allocates nothing. `awake` is called between the sleep and the sinks: what they send must not wake a
    /// thread that is awake already.
    pub fn wait(&mut self, timeout: Option<Duration>, awake: impl FnOnce()) -> Result<usize, Errno> {
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        let mut room = [MaybeUninit::uninit(); BATCH];
        let events = match epoll::wait(&self.shared.epoll, &mut room, timeout.as_ref()) {
            Ok((events, _)) => events,
            Err(Errno::INTR) => &mut [],
            Err(error) => return Err(error),
        };
        awake();
        let mut called = 0;
        for event in events {
            let data = event.data;
            if data.u64() != WAKE && self.shared.deliver(Key::unpack(data.u64())) {
                called += 1;
            }
        }
        Ok(called)
    }
}

/// The authority to have descriptors watched by one reactor.
#[derive(Clone)]
pub struct Registrar {
    shared: Arc<Shared>,
}

impl Registrar {
    /// Watches `source` and tells `sink` with `token`, until the registration is dropped or the sink says that
    /// nobody hears it any more. Fails for a descriptor that epoll cannot watch (a regular file), for one that
    /// is registered already, and when the system's limit of watches is reached.
    pub fn register(
        &self,
        source: Source,
        interest: Interest,
        trigger: Trigger,
        token: u64,
        sink: ReadySink,
    ) -> Result<Registration, Errno> {
        let flags = flags(interest, trigger);
        let key = self.shared.table().insert(source.clone(), Ready(token), sink);
        if let Err(error) = epoll::add(&self.shared.epoll, &source, key.data(), flags) {
            drop(self.shared.table().remove(key));
            return Err(error);
        }
        Ok(Registration { shared: self.shared.clone(), source, key, flags })
    }
}

/// A descriptor being watched; ends when dropped.
pub struct Registration {
    shared: Arc<Shared>,
    source: Source,
    key: Key,
    flags: epoll::EventFlags,
}

impl Registration {
    /// Reports an edge-triggered source again if it is ready now: for who stopped before it was empty, to let
    /// others have their turn.
    pub fn rearm(&self) {
        // It fails only where the registration has ended because its sink had gone.
        let _ = epoll::modify(&self.shared.epoll, &self.source, self.key.data(), self.flags);
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.shared.forget(self.key);
    }
}

struct Shared {
    epoll: OwnedFd,
    wake: OwnedFd,
    table: Mutex<Table>,
}

impl Wake for Shared {
    fn wake(&self) {
        signal(&self.wake);
    }
}

impl Shared {
    fn table(&self) -> MutexGuard<'_, Table> {
        // The table is whole between any two of its operations, so a panic elsewhere does not taint it.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls one sink, with the table unlocked, so that the sink may register and deregister.
    fn deliver(&self, key: Key) -> bool {
        let Some((ready, sink)) = self.table().lend(key) else { return false };
        if sink(ready) {
            self.table().give_back(key, sink);
        } else {
            self.forget(key);
        }
        true
    }

    fn forget(&self, key: Key) {
        // The entry is dropped after the lock is released: a sink's own drop may do anything.
        let entry = self.table().remove(key);
        if let Some(entry) = &entry {
            let _ = epoll::delete(&self.epoll, &entry.source);
        }
    }
}

struct Table {
    entries: Slab<Entry>,
    next: u32,
}

struct Entry {
    generation: u32,
    source: Source,
    ready: Ready,
    /// Empty while it is being called.
    sink: Option<ReadySink>,
}

/// Which entry, and which of those that had its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Key {
    index: u32,
    generation: u32,
}

impl Key {
    fn data(self) -> epoll::EventData {
        epoll::EventData::new_u64(u64::from(self.index) << 32 | u64::from(self.generation))
    }

    #[expect(clippy::cast_possible_truncation, reason = "the two halves of the number, on purpose")]
    fn unpack(data: u64) -> Self {
        Self { index: (data >> 32) as u32, generation: data as u32 }
    }
}

impl Table {
    fn insert(&mut self, source: Source, ready: Ready, sink: ReadySink) -> Key {
        self.next = self.next.wrapping_add(1);
        let generation = self.next;
        let index = self.entries.insert(Entry { generation, source, ready, sink: Some(sink) });
        // PANIC: a process cannot have 2^32 descriptors.
        Key { index: u32::try_from(index).expect("fewer registrations than 2^32"), generation }
    }

    fn entry(&mut self, key: Key) -> Option<&mut Entry> {
        self.entries.get_mut(key.index as usize).filter(|entry| entry.generation == key.generation)
    }

    fn lend(&mut self, key: Key) -> Option<(Ready, ReadySink)> {
        let entry = self.entry(key)?;
        Some((entry.ready, entry.sink.take()?))
    }

    fn give_back(&mut self, key: Key, sink: ReadySink) {
        if let Some(entry) = self.entry(key) {
            entry.sink = Some(sink);
        }
    }

    fn remove(&mut self, key: Key) -> Option<Entry> {
        self.entry(key)?;
        Some(self.entries.remove(key.index as usize))
    }
}

/// Adds one to an eventfd.
pub(super) fn signal(eventfd: impl AsFd) {
    // It fails only at the top of its range; then the other side has been told 2^64 times.
    let _ = rustix::io::write(eventfd, &1_u64.to_ne_bytes());
}

fn flags(interest: Interest, trigger: Trigger) -> epoll::EventFlags {
    let interest = match interest {
        Interest::Read => epoll::EventFlags::IN,
        Interest::Write => epoll::EventFlags::OUT,
        Interest::ReadWrite => epoll::EventFlags::IN | epoll::EventFlags::OUT,
    };
    match trigger {
        Trigger::Level => interest,
        Trigger::Edge => interest | epoll::EventFlags::ET,
    }
}

/// Index 2^32 - 1 is never given to an entry.
const WAKE: u64 = u64::MAX;

/// How many events one wait takes; more wait for the next.
const BATCH: usize = 64;

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use crossbeam_channel::{Receiver, unbounded};
    use rustix::io::{read, write};
    use rustix::pipe::pipe;

    use super::*;

    const NOW: Option<Duration> = Some(Duration::ZERO);

    fn sink() -> (ReadySink, Receiver<Ready>) {
        let (sender, receiver) = unbounded();
        (Box::new(move |ready| sender.send(ready).is_ok()), receiver)
    }

    fn event() -> Arc<OwnedFd> {
        Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap())
    }

    #[test]
    fn every_signal_of_an_unread_eventfd_is_one_edge() {
        let mut reactor = Reactor::new().unwrap();
        let (event, (sink, heard)) = (event(), sink());
        let _kept =
            reactor.registrar().register(event.clone(), Interest::Read, Trigger::Edge, 7, sink).unwrap();
        assert_eq!(reactor.wait(NOW, || ()), Ok(0));
        for _ in 0..3 {
            signal(&event);
            assert_eq!((reactor.wait(NOW, || ()), reactor.wait(NOW, || ())), (Ok(1), Ok(0)));
            assert_eq!(heard.try_recv(), Ok(Ready(7)));
        }
    }

    #[test]
    fn a_level_is_reported_until_it_is_read() {
        let mut reactor = Reactor::new().unwrap();
        let ((source, drain), (sink, heard)) = (pipe().unwrap(), sink());
        let source = Arc::new(source);
        let _kept =
            reactor.registrar().register(source.clone(), Interest::Read, Trigger::Level, 1, sink).unwrap();
        write(&drain, b"x").unwrap();
        assert_eq!((reactor.wait(NOW, || ()), reactor.wait(NOW, || ())), (Ok(1), Ok(1)));
        read(&source, &mut [0; 8]).unwrap();
        assert_eq!((reactor.wait(NOW, || ()), heard.len()), (Ok(0), 2));
    }

    #[test]
    fn rearming_reports_an_edge_again_while_it_is_ready() {
        let mut reactor = Reactor::new().unwrap();
        let (event, (sink, _heard)) = (event(), sink());
        let kept =
            reactor.registrar().register(event.clone(), Interest::Read, Trigger::Edge, 1, sink).unwrap();
        signal(&event);
        assert_eq!((reactor.wait(NOW, || ()), reactor.wait(NOW, || ())), (Ok(1), Ok(0)));
        kept.rearm();
        assert_eq!((reactor.wait(NOW, || ()), reactor.wait(NOW, || ())), (Ok(1), Ok(0)));
    }

    #[test]
    fn a_dropped_registration_is_silent_though_another_process_holds_the_descriptor() {
        let mut reactor = Reactor::new().unwrap();
        let (event, (sink, heard)) = (event(), sink());
        let copy = event.try_clone().unwrap();
        let kept = reactor.registrar().register(event, Interest::Read, Trigger::Level, 1, sink).unwrap();
        signal(&copy);
        drop(kept);
        assert_eq!((reactor.wait(NOW, || ()), heard.is_empty()), (Ok(0), true));
    }

    #[test]
    fn a_stale_event_does_not_reach_the_next_in_its_place() {
        let reactor = Reactor::new().unwrap();
        let registrar = reactor.registrar();
        let (sink_1, _) = sink();
        let kept = registrar.register(event(), Interest::Read, Trigger::Edge, 1, sink_1).unwrap();
        let stale = kept.key;
        drop(kept);
        let (sink_2, heard) = sink();
        let kept = registrar.register(event(), Interest::Read, Trigger::Edge, 2, sink_2).unwrap();
        assert_eq!(kept.key.index, stale.index);
        assert!(!reactor.shared.deliver(stale));
        assert!(heard.is_empty());
    }

    #[test]
    fn a_sink_that_nobody_hears_ends_its_registration() {
        let mut reactor = Reactor::new().unwrap();
        let (event, (sink, heard)) = (event(), sink());
        let _kept =
            reactor.registrar().register(event.clone(), Interest::Read, Trigger::Level, 1, sink).unwrap();
        signal(&event);
        drop(heard);
        assert_eq!((reactor.wait(NOW, || ()), reactor.wait(NOW, || ())), (Ok(1), Ok(0)));
    }

    #[test]
    fn a_sink_may_register_and_deregister() {
        let mut reactor = Reactor::new().unwrap();
        let registrar = reactor.registrar();
        let (outer, inner) = (event(), event());
        let own: Arc<Mutex<Option<Registration>>> = Arc::default();
        let (registrar_inside, own_inside) = (registrar.clone(), own.clone());
        let sink: ReadySink = Box::new(move |_| {
            let next = registrar_inside.register(
                inner.clone(),
                Interest::Write,
                Trigger::Edge,
                2,
                Box::new(|_| true),
            );
            *own_inside.lock().unwrap() = next.ok();
            true
        });
        let kept = registrar.register(outer.clone(), Interest::Read, Trigger::Edge, 1, sink).unwrap();
        *own.lock().unwrap() = Some(kept);
        signal(&outer);
        assert_eq!(reactor.wait(NOW, || ()), Ok(1));
        assert_eq!(reactor.wait(NOW, || ()), Ok(1), "the inner one is writable at once");
        signal(&outer);
        assert_eq!(reactor.wait(NOW, || ()), Ok(0), "the outer one was replaced");
    }

    #[test]
    fn a_wake_before_the_wait_is_not_lost_and_a_timeout_ends_it() {
        let mut reactor = Reactor::new().unwrap();
        let waker = reactor.waker();
        std::thread::spawn(move || waker.wake()).join().unwrap();
        let start = Instant::now();
        assert_eq!(reactor.wait(Some(Duration::from_secs(20)), || ()), Ok(0));
        assert!(start.elapsed() < Duration::from_secs(10));
        assert_eq!(reactor.wait(Some(Duration::from_millis(5)), || ()), Ok(0));
        assert!(start.elapsed() >= Duration::from_millis(5));
    }
}
