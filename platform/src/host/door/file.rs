//! An open DRM file.

use std::collections::VecDeque;

use foldhash::HashMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use virgld_protocol::ids::{FenceKey, Serial};
use virgld_protocol::message::scheme::Credentials;
use virgld_runtime::Time;

use super::config::FileLimits;
use super::load::Allowance;
use crate::host::reactor::Registration;

/// One open file.
pub(super) struct File {
    /// By whom it was opened.
    pub(super) credentials: Credentials,
    /// The connection.
    pub(super) socket: Arc<OwnedFd>,
    /// Its channels.
    pub(super) channels: Vec<u64>,
    /// Since when it has been open without a greeting. Once greeted, always greeted.
    pub(super) silent_since: Option<Time>,
    /// Since when its last descriptor is gone: once its rings are empty, so is it.
    pub(super) closing: Option<Time>,
    /// When work of it retired last.
    pub(super) last_retired: Time,
    /// Foreign fences that are watched for it.
    pub(super) watched: Vec<FenceKey>,
    /// Fences in advance, by token.
    pub(super) stock: HashMap<u32, FenceKey>,
    next_token: u32,
    serial: u64,
    in_flight: VecDeque<InFlight>,
    bytes: usize,
    /// When it last asked for work.
    last_launch: Option<Time>,
    /// Calls that it may make now.
    pub(super) allowance: Allowance,
    _watch: Registration,
}

/// An asynchronous call that has not retired.
struct InFlight {
    serial: Serial,
    channel: u64,
    record: u64,
    bytes: usize,
}

impl File {
    /// A file that has just been opened.
    pub(super) fn new(
        credentials: Credentials,
        socket: Arc<OwnedFd>,
        watch: Registration,
        now: Time,
    ) -> Self {
        Self {
            credentials,
            socket,
            channels: Vec::new(),
            silent_since: Some(now),
            closing: None,
            last_retired: now,
            watched: Vec::new(),
            stock: HashMap::default(),
            next_token: 0,
            serial: 0,
            in_flight: VecDeque::new(),
            bytes: 0,
            last_launch: None,
            allowance: Allowance::default(),
            _watch: watch,
        }
    }

    /// Whether it may have another asynchronous call with a stream of `bytes` under way. One is always allowed.
    pub(super) fn has_credit(&self, bytes: usize, limits: &FileLimits, alone: bool) -> bool {
        let (mut calls, mut most) = (limits.calls_in_flight, limits.bytes_in_flight);
        if !alone {
            calls = calls.min(limits.calls_beside_others);
            most = most.min(limits.bytes_beside_others);
        }
        self.in_flight.is_empty() || (self.in_flight.len() < calls && self.bytes + bytes <= most)
    }

    /// Gives the record `record` of `channel` the next place in the order of asynchronous work.
    pub(super) fn launch(&mut self, now: Time, channel: u64, record: u64, bytes: usize) -> Serial {
        self.last_launch = Some(now);
        self.serial += 1;
        let serial = Serial(self.serial);
        self.in_flight.push_back(InFlight { serial, channel, record, bytes });
        self.bytes += bytes;
        serial
    }

    /// Its asynchronous calls that have not retired, and the bytes of their streams.
    pub(super) fn under_way(&self) -> (usize, usize) {
        (self.in_flight.len(), self.bytes)
    }

    /// Whether it competes for the device: it has work there, or had some a moment ago. A program that waits for each
    /// frame before it draws the next has none between the two.
    pub(super) fn competes(&self, now: Time) -> bool {
        !self.in_flight.is_empty() || self.last_launch.is_some_and(|last| now.since(last) < MOMENT)
    }

    /// The place of the last asynchronous call.
    pub(super) fn last_serial(&self) -> Serial {
        Serial(self.serial)
    }

    /// Takes back the credit of all calls up to `through`, and tells which record of which channel each was.
    pub(super) fn retire(&mut self, through: Serial, mut tell: impl FnMut(u64, u64)) {
        while let Some(call) = self.in_flight.pop_front_if(|call| call.serial <= through) {
            self.bytes -= call.bytes;
            tell(call.channel, call.record);
        }
    }

    /// Puts a fence in stock and names it.
    pub(super) fn stock_up(&mut self, fence: FenceKey) -> u32 {
        loop {
            self.next_token = self.next_token.wrapping_add(1);
            // u32::MAX stands for no fence on the wire.
            if self.next_token != u32::MAX && !self.stock.contains_key(&self.next_token) {
                self.stock.insert(self.next_token, fence);
                return self.next_token;
            }
        }
    }
}

/// Longer than a program takes between two frames.
const MOMENT: Duration = Duration::from_millis(50);

#[cfg(test)]
pub(super) mod tests_support {
    use rustix::event::{EventfdFlags, eventfd};

    use super::*;
    use crate::host::reactor::{Interest, Reactor, Trigger};

    /// A file of which no process knows.
    pub(in crate::host::door) fn file() -> File {
        let socket = Arc::new(eventfd(0, EventfdFlags::CLOEXEC).unwrap());
        let registrar = Reactor::new().unwrap().registrar();
        let sink = Box::new(|_| true);
        let watch = registrar.register(socket.clone(), Interest::Read, Trigger::Edge, 1, sink).unwrap();
        File::new(Credentials::default(), socket, watch, Time::default())
    }
}
