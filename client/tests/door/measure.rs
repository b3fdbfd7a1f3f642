//! How long calls take.

use std::time::Instant;

use crate::calls::*;

pub(crate) fn run() {
    let fd = render();
    let handle = create(fd);
    eprintln!("GET_CAP, answered:            {} ns", median(20_000, || assert!(get_cap(fd, 5).is_ok())));
    let small = stream(0, 1250);
    eprintln!(
        "EXECBUFFER of 5000 bytes:     {} ns",
        median(20_000, || assert!(submit(fd, 0, &small, &[handle], -1).is_ok()))
    );
    eprintln!(
        "the same, with a fence:       {} ns",
        median(20_000, || close(submit(fd, 2, &small, &[handle], -1).unwrap()))
    );
    eprintln!(
        "with a fence, until it signals: {} ns",
        median(5_000, || {
            let fence = submit(fd, 2, &small, &[handle], -1).unwrap();
            assert!(readable(fence, 5000));
            close(fence);
        })
    );
    eprintln!(
        "WAIT, known to be idle:       {} ns",
        median(20_000, || while wait(fd, handle, true).is_err() {})
    );
}

fn median(rounds: usize, mut call: impl FnMut()) -> u128 {
    let mut times: Vec<u128> = (0..rounds)
        .map(|_| {
            let start = Instant::now();
            call();
            start.elapsed().as_nanos()
        })
        .collect();
    times.sort_unstable();
    times[rounds / 2]
}
