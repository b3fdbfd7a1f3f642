//! How often a thread asks for memory: that of the program, with the library in it, and that of the daemon.
//!
//! The library has an allocator of its own, but all memory is `malloc`'s, and this program's comes before glibc's.

use std::cell::Cell;
use std::ffi::c_void;

thread_local! {
    static COUNTS: Cell<bool> = const { Cell::new(false) };
    static ASIDE: Cell<bool> = const { Cell::new(false) };
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

/// From now on this thread's are counted.
pub(crate) fn begin() {
    COUNT.set(0);
    COUNTS.set(true);
}

/// How many there were. From now on they are not counted.
pub(crate) fn end() -> u64 {
    COUNTS.set(false);
    COUNT.get()
}

/// Does something that is not counted.
pub(crate) fn aside<T>(what: impl FnOnce() -> T) -> T {
    let before = ASIDE.replace(true);
    let done = what();
    ASIDE.set(before);
    done
}

fn note() {
    if COUNTS.get() && !ASIDE.get() {
        COUNT.set(COUNT.get() + 1);
        // Saying where takes memory too.
        aside(|| {
            if std::env::var_os("WHERE").is_some() {
                eprintln!("{}", std::backtrace::Backtrace::force_capture());
            }
        });
    }
}

unsafe extern "C" {
    fn __libc_malloc(size: usize) -> *mut c_void;
    fn __libc_calloc(count: usize, size: usize) -> *mut c_void;
    fn __libc_realloc(pointer: *mut c_void, size: usize) -> *mut c_void;
}

/// As in C.
///
/// # Safety
///
/// As in C.
#[unsafe(no_mangle)]
unsafe extern "C" fn malloc(size: usize) -> *mut c_void {
    note();
    // SAFETY: the caller's promise.
    unsafe { __libc_malloc(size) }
}

/// As in C.
///
/// # Safety
///
/// As in C.
#[unsafe(no_mangle)]
unsafe extern "C" fn calloc(count: usize, size: usize) -> *mut c_void {
    note();
    // SAFETY: the caller's promise.
    unsafe { __libc_calloc(count, size) }
}

/// As in C.
///
/// # Safety
///
/// As in C.
#[unsafe(no_mangle)]
unsafe extern "C" fn realloc(pointer: *mut c_void, size: usize) -> *mut c_void {
    note();
    // SAFETY: the caller's promise.
    unsafe { __libc_realloc(pointer, size) }
}

/// The client's side: how often the program and the daemon ask for memory in so many calls of a kind.
pub(crate) mod program {
    use crate::calls::*;
    use crate::scheme::{BEGIN, END};

    const ROUNDS: u64 = 1000;

    pub(crate) fn run() {
        super::begin();
        drop(std::hint::black_box(vec![1_u8; 10]));
        assert_eq!(super::end(), 1, "what is counted is counted");
        let fd = render();
        let handles = [create(fd), create(fd)];
        let words = stream(0, 300);
        let submit_and_wait = || {
            submit(fd, 0, &words, &handles, -1).unwrap();
            while wait(fd, handles[1], true).is_err() {}
        };
        let upload = || {
            drm(fd, 0x47, &mut [handles[0], 0, 0, 0, 1, 1, 1, 0, 0]).unwrap();
            while wait(fd, handles[0], true).is_err() {}
        };
        let with_a_fence = || {
            let fence = submit(fd, 2, &words, &handles, -1).unwrap();
            assert!(readable(fence, 5000));
            close(fence);
        };
        assert_eq!(count(fd, submit_and_wait), (0, 0), "a submit, and a WAIT, {ROUNDS} times");
        assert_eq!(count(fd, upload), (0, 0), "a transfer, {ROUNDS} times");
        // A fence is a pipe. They are made in advance, sixteen at a time, with lists of them.
        let (program, daemon) = count(fd, with_a_fence);
        assert!(program <= ROUNDS / 7 && daemon <= 2 * ROUNDS, "{ROUNDS} fences: {program} and {daemon}");
    }

    /// After as many rounds in which everything finds its size.
    fn count(fd: i32, round: impl Fn()) -> (u64, u64) {
        (0..ROUNDS).for_each(|_| round());
        get_cap(fd, BEGIN).unwrap();
        super::begin();
        (0..ROUNDS).for_each(|_| round());
        let program = super::end();
        (program, get_cap(fd, END).unwrap())
    }
}
