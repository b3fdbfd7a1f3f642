//! Where the queues and the commands lie in the one region that no client ever maps.

use std::ops::Range;

/// Where one queue's parts lie in region 0, in bytes (virtio 1.2, section 2.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct QueueLayout {
    pub(super) size: u16,
    pub(super) descriptors: usize,
    pub(super) available: usize,
    pub(super) used: usize,
    end: usize,
}

impl QueueLayout {
    /// A queue of `size` entries from `start`, a page, on.
    fn new(start: usize, size: u16) -> Self {
        let entries = usize::from(size);
        let available = start + 16 * entries;
        // The device writes only the used part: it gets cache lines of its own.
        let used = (available + 6 + 2 * entries).next_multiple_of(CACHE_LINE);
        Self { size, descriptors: start, available, used, end: used + 6 + 8 * entries }
    }
}

/// What lies where in region 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) queues: [QueueLayout; 2],
    pub(super) commands: Range<usize>,
}

impl Layout {
    /// Queues of these sizes, then `command_bytes` for commands; each begins a page.
    pub(super) fn new(sizes: [u16; 2], command_bytes: usize) -> Self {
        let control = QueueLayout::new(0, sizes[0]);
        let cursor = QueueLayout::new(control.end.next_multiple_of(PAGE), sizes[1]);
        let start = cursor.end.next_multiple_of(PAGE);
        let end = (start + command_bytes).next_multiple_of(PAGE);
        Self { queues: [control, cursor], commands: start..end }
    }

    /// Size of region 0 in bytes.
    pub(super) fn size(&self) -> usize {
        self.commands.end
    }
}

const PAGE: usize = 4096;
const CACHE_LINE: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_aligned_as_virtio_demands_and_do_not_overlap() {
        for size in [1, 2, 16, 256, 1024, 32768] {
            let layout = Layout::new([size, 16], 1000);
            for queue in layout.queues {
                assert_eq!((queue.descriptors % 16, queue.available % 2, queue.used % 4), (0, 0, 0));
                assert!(queue.descriptors + 16 * usize::from(queue.size) <= queue.available);
                assert!(queue.available + 6 + 2 * usize::from(queue.size) <= queue.used);
            }
            assert!(layout.queues[0].end <= layout.queues[1].descriptors);
            assert!(layout.queues[1].end <= layout.commands.start);
            assert_eq!(layout.commands.len(), 4096);
        }
    }
}
