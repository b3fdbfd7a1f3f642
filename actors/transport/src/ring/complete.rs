//! From the device: used elements, and when to be interrupted for them.

use virgld_runtime::memory::full_barrier;

use super::{Ring, RingFault, RingFeatures};

/// VIRTQ_AVAIL_F_NO_INTERRUPT: the driver wants no interrupts.
const NO_INTERRUPT: u16 = 1;

/// A chain that the device gave back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Used {
    /// What the chain was published with.
    pub cookie: u32,
    /// How many bytes the device wrote, as far as it can have: no more than the chain lets it write.
    pub written: u32,
    /// How many it said that it wrote.
    pub claimed: u32,
}

impl Used {
    /// Whether the device claims more than it can have written. Real ones do, so it is no fault.
    pub fn exaggerated(&self) -> bool {
        self.claimed > self.written
    }
}

impl Ring {
    /// Takes the next used element, in whichever order the device uses them (section 2.7.14).
    pub fn pop(&mut self) -> Result<Option<Used>, RingFault> {
        self.healthy()?;
        if !self.has_used() {
            self.observe()?;
            if !self.has_used() {
                return Ok(None);
            }
        }
        let element = self.layout.read_used(self.used);
        let (id, claimed) = self.convict(element)?;
        let returned = self.slots.give_back(id);
        let returned = self.convict(returned)?;
        self.used = self.used.wrapping_add(1);
        Ok(Some(Used { cookie: returned.cookie, written: claimed.min(returned.writable), claimed }))
    }

    /// Asks for an interrupt with the next used element (section 2.7.7). False if there is one already, for
    /// which an interrupt may come or not: pop it before sleeping. That pop takes an element or finds a fault, so a
    /// device can't keep its driver turning between the two.
    pub fn arm(&mut self) -> Result<bool, RingFault> {
        self.healthy()?;
        if self.has_used() {
            return Ok(false);
        }
        let stored = if self.features.contains(RingFeatures::EVENT_IDX) {
            self.layout.store_used_event(self.used)
        } else {
            self.layout.store_available_flags(0)
        };
        self.convict(stored)?;
        // As in `flush`, with the parts exchanged.
        full_barrier();
        self.observe()?;
        Ok(!self.has_used())
    }

    /// Asks for no interrupts, while the caller polls anyway. A hint: some may still come.
    pub fn disarm(&mut self) -> Result<(), RingFault> {
        self.healthy()?;
        let stored = if self.features.contains(RingFeatures::EVENT_IDX) {
            // The flag must stay clear with EVENT_IDX (section 2.7.7.1), but an event just behind the device is
            // 65535 elements away.
            self.layout.store_used_event(self.used.wrapping_sub(1))
        } else {
            self.layout.store_available_flags(NO_INTERRUPT)
        };
        self.convict(stored)
    }

    /// Whether [`Ring::pop`] would find something, be it a fault.
    pub fn has_more_used(&self) -> bool {
        let moved = || !matches!(self.layout.load_used_index(), Ok(index) if index == self.used);
        self.fault.is_none() && (self.has_used() || moved())
    }

    fn has_used(&self) -> bool {
        self.used != self.used_seen
    }

    /// Reads the device's index anew and checks that it can be true.
    fn observe(&mut self) -> Result<(), RingFault> {
        let loaded = self.layout.load_used_index();
        let to = self.convict(loaded)?;
        let hidden = self.available.wrapping_sub(self.visible);
        let held = self.in_flight() - hidden;
        if to.wrapping_sub(self.used) > held {
            return self.convict(Err(RingFault::IndexJump { from: self.used, to, held }));
        }
        self.used_seen = to;
        Ok(())
    }
}
