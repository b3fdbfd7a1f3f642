//! One virtqueue and the buffers that the device has of it.

use std::collections::VecDeque;

use slab::Slab;
use virgld_protocol::message::transport::{Publish, Report};
use virgld_runtime::dma::DmaSlice;
use virgld_runtime::link::QueueArea;

use crate::ring::{Chain, Refused, Ring, RingFault, RingFeatures, Segment, Table};

/// A buffer that the device has.
struct Flight {
    cookie: u32,
    slice: DmaSlice,
    awaited: bool,
}

/// A buffer that came back.
pub(crate) struct Landed {
    pub(crate) cookie: u32,
    pub(crate) slice: DmaSlice,
    pub(crate) written: u32,
    pub(crate) awaited: bool,
}

/// A queue.
pub(crate) struct Queue {
    ring: Ring,
    flights: Slab<Flight>,
    /// How many of them somebody waits for.
    awaited: usize,
    /// What found no descriptor free; in order.
    waiting: VecDeque<Publish>,
    /// Whether the device was asked for an interrupt with what it uses next, and has used nothing since.
    armed: bool,
}

impl Queue {
    pub(crate) fn new(area: &QueueArea, features: u64) -> Result<Self, RingFault> {
        let ring = Ring::new(area, RingFeatures::from_bits_truncate(features))?;
        Ok(Self { ring, flights: Slab::new(), awaited: 0, waiting: VecDeque::new(), armed: true })
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.flights.is_empty()
    }

    /// Adds a command to what the device will see at the next flush. Gives its cookie back if it makes no chain:
    /// then its owner has built it wrongly.
    pub(crate) fn publish(&mut self, publish: Publish) -> Result<(), u32> {
        if !self.waiting.is_empty() {
            self.waiting.push_back(publish);
            return Ok(());
        }
        match self.enter(&publish) {
            Ok(()) => {
                self.awaited += usize::from(publish.awaited);
                // The ring knows the flight by the key that `enter` promised it.
                self.flights.insert(Flight {
                    cookie: publish.cookie,
                    slice: publish.slice,
                    awaited: publish.awaited,
                });
                Ok(())
            }
            Err(Refused::Full { .. }) => {
                self.waiting.push_back(publish);
                Ok(())
            }
            Err(_) => Err(publish.cookie),
        }
    }

    fn enter(&mut self, publish: &Publish) -> Result<(), Refused> {
        let segment = |(offset, length): (u32, u32)| {
            Segment::of(&publish.slice, offset as usize, length as usize).map_err(RingFault::from)
        };
        let (readable, writable) = ([segment(publish.request)?], [segment(publish.response)?]);
        let writable = if publish.response.1 == 0 { &writable[..0] } else { &writable[..] };
        let table = Some(Table { slice: &publish.slice, offset: 0 });
        let key = u32::try_from(self.flights.vacant_key()).unwrap_or(u32::MAX);
        self.ring.publish(&Chain { readable: &readable, writable, table }, key).map(|_| ())
    }

    /// Publishes what waited, as far as there is room. The cookie of what makes no chain is given back.
    pub(crate) fn retry(&mut self) -> Option<u32> {
        let mut waiting = std::mem::take(&mut self.waiting);
        while let Some(publish) = waiting.pop_front() {
            let before = self.flights.len();
            if let Err(cookie) = self.publish(publish) {
                self.waiting = waiting;
                return Some(cookie);
            }
            if self.flights.len() == before {
                break;
            }
        }
        self.waiting.append(&mut waiting);
        None
    }

    /// Makes all that was published visible. Says whether the device wants to be kicked.
    pub(crate) fn flush(&mut self) -> Result<bool, RingFault> {
        self.ring.flush()
    }

    /// The next buffer that came back.
    pub(crate) fn land(&mut self, report: &mut Report) -> Result<Option<Landed>, RingFault> {
        let Some(used) = self.ring.pop()? else { return Ok(None) };
        self.armed = false;
        report.exaggerations += u64::from(used.exaggerated());
        let flight = self.flights.try_remove(used.cookie as usize);
        Ok(flight.map(|flight| {
            let Flight { cookie, slice, awaited } = flight;
            self.awaited -= usize::from(awaited);
            Landed { cookie, slice, written: used.written, awaited }
        }))
    }

    /// Asks for an interrupt at the next used buffer; says false if one is there already.
    pub(crate) fn arm(&mut self) -> Result<bool, RingFault> {
        self.armed = self.ring.arm()?;
        Ok(self.armed)
    }

    /// Whether it was asked for one with what it uses next.
    pub(crate) fn is_armed(&self) -> bool {
        self.armed
    }

    /// Whether the device has used a buffer that did not come back yet.
    pub(crate) fn has_used(&self) -> bool {
        self.ring.has_more_used()
    }

    /// Whether the device has a command that somebody waits for.
    pub(crate) fn is_awaited(&self) -> bool {
        self.awaited > 0
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.flights.len()
    }

    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    pub(crate) fn capacity(&self) -> u16 {
        self.ring.capacity()
    }

    /// The device is gone: the cookies of all commands that it will not answer, and what must outlive it.
    pub(crate) fn abandon(mut self) -> (Vec<u32>, Vec<DmaSlice>) {
        let flights = self.flights.drain().map(|flight| (flight.cookie, flight.slice));
        let waiting = self.waiting.into_iter().map(|publish| (publish.cookie, publish.slice));
        flights.chain(waiting).unzip()
    }
}
