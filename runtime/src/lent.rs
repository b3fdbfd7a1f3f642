//! Bytes in memory that goes back to whoever lent it: a message that carries some takes none of the heap's once enough have
//! been lent.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use crate::queue::Queue;

/// Bytes that one holder owns. Their memory goes back to its lender when they are dropped.
#[derive(Default)]
pub struct Lent {
    bytes: Vec<u8>,
    /// None: to the heap.
    home: Option<Arc<Queue<Vec<u8>>>>,
}

/// Lends memory for bytes.
#[derive(Default)]
pub struct Lender {
    home: Arc<Queue<Vec<u8>>>,
}

impl Lender {
    /// No bytes yet, in memory that has served before, if some is back.
    pub fn lend(&self) -> Lent {
        let bytes = self.home.take().unwrap_or_default();
        Lent { bytes, home: Some(self.home.clone()) }
    }
}

impl Lent {
    /// Adds `count` bytes that are zero, and gives these.
    pub fn add(&mut self, count: usize) -> &mut [u8] {
        let end = self.bytes.len();
        self.bytes.resize(end + count, 0);
        &mut self.bytes[end..]
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let mut bytes = std::mem::take(&mut self.bytes);
        if let Some(home) = self.home.as_ref().filter(|_| (1..=MOST_KEPT).contains(&bytes.capacity())) {
            bytes.clear();
            // The lender may be gone at shutdown.
            home.put(bytes);
        }
    }
}

impl From<Vec<u8>> for Lent {
    fn from(bytes: Vec<u8>) -> Self {
        Self { bytes, home: None }
    }
}

impl Clone for Lent {
    fn clone(&self) -> Self {
        self.bytes.clone().into()
    }
}

impl PartialEq for Lent {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for Lent {}

impl fmt::Debug for Lent {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.bytes.fmt(formatter)
    }
}

impl Deref for Lent {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl DerefMut for Lent {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

/// Longer ones go back to the heap: few are, and many lie idle.
const MOST_KEPT: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_serves_again_and_what_was_in_it_is_gone() {
        let lender = Lender::default();
        let mut first = lender.lend();
        first.add(3).copy_from_slice(&[1, 2, 3]);
        first.add(1)[0] = 4;
        assert_eq!(&*first, [1, 2, 3, 4]);
        let place = first.as_ptr();
        let copy = first.clone();
        drop(first);
        let mut second = lender.lend();
        assert_eq!(second.add(2), [0, 0]);
        assert_eq!(second.as_ptr(), place);
        drop(copy);
        assert!(lender.lend().bytes.capacity() == 0, "a copy's memory is its own");
    }

    #[test]
    fn what_is_long_is_not_kept() {
        let lender = Lender::default();
        lender.lend().add(MOST_KEPT + 1);
        assert_eq!(lender.lend().bytes.capacity(), 0);
    }

    #[test]
    fn bytes_outlive_their_lender() {
        let mut lent = Lender::default().lend();
        lent.add(1)[0] = 7;
        assert_eq!(lent, Lent::from(vec![7]));
    }
}
