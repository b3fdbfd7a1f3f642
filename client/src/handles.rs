//! What this process knows of the GEM handles of one DRM file.
//!
//! A handle that another process, or another file, may use as well is known here but not trusted to be idle.

/// What is known of one handle.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Known {
    /// Serial of the last record that used it; 0 if none has.
    pub(crate) last_use: u64,
    /// Whether it was ever imported or exported.
    pub(crate) shared: bool,
    /// What MAP gives; 0 if that must be asked.
    pub(crate) offset: u64,
    /// How often in a row it was found busy without asking the daemon.
    pub(crate) found_busy: u32,
}

/// The handles, by number: the daemon gives out small ones.
#[derive(Debug, Default)]
pub(crate) struct Handles {
    known: Vec<Option<Known>>,
}

impl Handles {
    /// The daemon gave out `handle`. What was known of it stays: an import may yield a handle that is there.
    pub(crate) fn learn(&mut self, handle: u32, shared: bool) {
        let index = handle as usize;
        if handle == 0 || index >= MOST {
            return;
        }
        if self.known.len() <= index {
            self.known.resize(index + 1, None);
        }
        self.known[index].get_or_insert_default().shared |= shared;
    }

    /// The handle was given up.
    pub(crate) fn forget(&mut self, handle: u32) -> bool {
        self.known.get_mut(handle as usize).is_some_and(|known| known.take().is_some())
    }

    /// What is known of `handle`.
    pub(crate) fn find(&mut self, handle: u32) -> Option<&mut Known> {
        self.known.get_mut(handle as usize)?.as_mut()
    }

    /// The record `serial` uses `handle`.
    pub(crate) fn used(&mut self, handle: u32, serial: u64) {
        if let Some(known) = self.find(handle) {
            known.last_use = serial;
            known.found_busy = 0;
        }
    }
}

/// Handles beyond this are not remembered; calls on them ask the daemon.
const MOST: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_is_known_from_its_creation_to_its_end() {
        let mut handles = Handles::default();
        assert!(handles.find(3).is_none());
        handles.learn(3, false);
        handles.used(3, 17);
        assert_eq!(handles.find(3).unwrap().last_use, 17);
        handles.learn(3, true);
        assert_eq!(*handles.find(3).unwrap(), Known { last_use: 17, shared: true, ..Known::default() });
        assert!(handles.forget(3));
        assert!(!handles.forget(3));
        assert!(handles.find(3).is_none());
    }

    #[test]
    fn no_handle_and_absurd_handles_are_not_remembered() {
        let mut handles = Handles::default();
        handles.learn(0, false);
        handles.learn(u32::MAX, false);
        assert!(handles.find(0).is_none() && handles.find(u32::MAX).is_none());
    }
}
