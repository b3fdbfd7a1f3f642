//! Which pipes are fences of a file: a program waits for them in `poll`, and nothing about a pipe tells whose it is.

use std::collections::VecDeque;

/// The inodes of the last fences that a file has given.
#[derive(Debug, Default)]
pub(crate) struct Remembered {
    inodes: VecDeque<u64>,
}

impl Remembered {
    /// Remembers one more, and forgets the oldest where there are too many.
    pub(crate) fn remember(&mut self, inode: u64) {
        if self.inodes.len() == MOST {
            self.inodes.pop_front();
        }
        self.inodes.push_back(inode);
    }

    /// Whether the pipe with this inode is one of them.
    pub(crate) fn has(&self, inode: u64) -> bool {
        self.inodes.contains(&inode)
    }
}

/// Programs have fewer under way: the daemon takes 64 submits of a file at a time. One that fills its ring with thousands
/// of small ones and then waits for the first is not looked after.
const MOST: usize = 1 << 12;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_is_forgotten() {
        let mut remembered = Remembered::default();
        (0..MOST as u64 + 3).for_each(|inode| remembered.remember(inode));
        assert!(!remembered.has(2) && remembered.has(3) && remembered.has(MOST as u64 + 2));
        assert_eq!(remembered.inodes.len(), MOST);
    }
}
