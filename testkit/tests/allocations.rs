//! What a submit costs the daemon's allocator once everything has found its size: nothing.
//!
//! Every actor is there, from the scheme to the transport, between a simulated door and a simulated device; these two are
//! not counted, nor is what the test itself does.
#![expect(clippy::unwrap_used, reason = "all of it is a test")]

use std::alloc::{GlobalAlloc, Layout, System as Heap};
use std::cell::Cell;

use virgld_protocol::client::{Map, ResourceCreate, TransferToHost, Wait};
use virgld_protocol::ids::FileId;
use virgld_protocol::message::scheme::{Attached, Node};
use virgld_testkit::aside::is_aside;
use virgld_testkit::door::Submission;
use virgld_testkit::system::{System, SystemConfig};
use zerocopy::IntoBytes;

/// The heap, and how often this thread asked for some of it while that was counted.
struct Counting;

thread_local! {
    static COUNTS: Cell<bool> = const { Cell::new(false) };
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

impl Counting {
    fn note() {
        if COUNTS.get() && !is_aside() {
            COUNT.set(COUNT.get() + 1);
            // Saying where takes memory too.
            COUNTS.set(false);
            if std::env::var_os("WHERE").is_some() {
                eprintln!("{}", std::backtrace::Backtrace::force_capture());
            }
            COUNTS.set(true);
        }
    }
}

// SAFETY: everything is passed on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::note();
        // SAFETY: the caller's promise.
        unsafe { Heap.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        Self::note();
        // SAFETY: the caller's promise.
        unsafe { Heap.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        Self::note();
        // SAFETY: the caller's promise.
        unsafe { Heap.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { Heap.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A program that draws.
struct Desk {
    system: System,
    file: FileId,
    handle: u32,
    /// Its number on the device; the simulated host reads streams as lists of these.
    resource: u32,
}

impl Desk {
    fn new() -> Self {
        let mut system = System::new(&SystemConfig::default(), 1);
        let file = system.door.open(Node::Render);
        let made = system.door.call(
            file,
            &ResourceCreate { target: 2, format: 1, width: 16, height: 16, size: 4096, ..Default::default() },
            &[],
        );
        system.settle();
        let made: ResourceCreate = system.door.answer(made).unwrap().fixed().unwrap();
        let (handle, resource) = (made.bo_handle, made.res_handle);
        let mapped = system.door.call(file, &Map { handle, ..Default::default() }, &[]);
        system.settle();
        assert!(system.door.answer(mapped).unwrap().result.is_ok());
        Self { system, file, handle, resource }
    }

    /// Lets the actors do what they can, and counts how often they ask for memory.
    fn run(&mut self) -> u64 {
        COUNT.set(0);
        COUNTS.set(true);
        self.system.run();
        COUNTS.set(false);
        COUNT.get()
    }

    /// Until actors and device have nothing more to do.
    fn settle(&mut self) -> u64 {
        let mut count = self.run();
        while self.system.device.finish() {
            count += self.run();
        }
        count
    }

    /// A submit, and a WAIT for it.
    fn draw(&mut self, fence: bool) -> u64 {
        let stream = [self.resource; 16];
        let submission =
            Submission { stream: stream.as_bytes(), handles: &[self.handle], fence, ..Default::default() };
        let submitted = self.system.door.submit(self.file, &submission).unwrap();
        let mut count = self.run();
        let wait = self.system.door.call(self.file, &Wait { handle: self.handle, flags: 0 }, &[]);
        count += self.settle();
        assert!(self.system.door.answer(wait).unwrap().result.is_ok(), "it was waited for");
        assert_eq!(self.system.door.retired(self.file), submitted.serial);
        if let Some(fence) = submitted.fence {
            assert_eq!(self.system.door.signalled(fence), Some(Ok(())));
        }
        self.system.door.answer(submitted.token);
        count
    }

    /// A submit that waits for a fence of another file's.
    fn draw_behind(&mut self, other: FileId) -> u64 {
        let first = Submission { fence: true, ..Default::default() };
        let fence = self.system.door.submit(other, &first).unwrap().fence.unwrap();
        let mut count = self.run();
        let wait = Some(Attached::Fence(fence));
        let second = self.system.door.submit(self.file, &Submission { wait, ..Default::default() }).unwrap();
        count += self.run();
        assert!(self.system.door.retired(self.file) < second.serial, "it is held");
        count += self.settle();
        count + self.draw(false)
    }

    fn upload(&mut self) -> u64 {
        let what = TransferToHost { bo_handle: self.handle, w: 16, h: 16, d: 1, ..Default::default() };
        let call = self.system.door.call(self.file, &what, &[]);
        let count = self.settle();
        assert!(self.system.door.answer(call).unwrap().result.is_ok());
        count
    }
}

/// How often the actors ask for memory in so many rounds, after as many in which everything finds its size.
fn count(mut round: impl FnMut(&mut Desk) -> u64) -> u64 {
    let mut desk = Desk::new();
    (0..ROUNDS).for_each(|_| {
        round(&mut desk);
    });
    (0..ROUNDS).map(|_| round(&mut desk)).sum()
}

#[test]
fn what_is_counted_is_counted() {
    COUNTS.set(true);
    drop(std::hint::black_box(vec![1_u8; 10]));
    COUNTS.set(false);
    assert_eq!(COUNT.get(), 1);
}

#[test]
fn a_submit_with_a_fence_that_is_waited_for_takes_no_memory() {
    assert_eq!(count(|desk| desk.draw(true)), 0, "in {ROUNDS} rounds");
}

#[test]
fn a_submit_without_a_fence_that_is_waited_for_takes_no_memory() {
    assert_eq!(count(|desk| desk.draw(false)), 0, "in {ROUNDS} rounds");
}

#[test]
fn a_submit_that_is_held_takes_lists_of_what_it_waits_for() {
    let mut desk = Desk::new();
    let other = desk.system.door.open(Node::Render);
    (0..ROUNDS).for_each(|_| {
        desk.draw_behind(other);
    });
    let count: u64 = (0..ROUNDS).map(|_| desk.draw_behind(other)).sum();
    assert!((1..=2 * ROUNDS).contains(&count), "{count} in {ROUNDS} rounds");
}

#[test]
fn a_transfer_to_the_host_takes_no_memory() {
    assert_eq!(count(Desk::upload), 0, "in {ROUNDS} rounds");
}

/// More than any block of a queue holds.
const ROUNDS: u64 = 1000;
