//! An open DRM file.

use std::collections::{HashMap, VecDeque};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use virgld_protocol::ids::{FenceKey, Serial};
use virgld_protocol::message::scheme::Credentials;

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
    /// Its last descriptor is gone: once its rings are empty, so is it.
    pub(super) closing: bool,
    /// Foreign fences that are watched for it.
    pub(super) watched: Vec<FenceKey>,
    /// Fences in advance, by token.
    pub(super) stock: HashMap<u32, FenceKey>,
    next_token: u32,
    serial: u64,
    in_flight: VecDeque<InFlight>,
    bytes: usize,
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
    pub(super) fn new(credentials: Credentials, socket: Arc<OwnedFd>, watch: Registration) -> Self {
        Self {
            credentials,
            socket,
            channels: Vec::new(),
            closing: false,
            watched: Vec::new(),
            stock: HashMap::new(),
            next_token: 0,
            serial: 0,
            in_flight: VecDeque::new(),
            bytes: 0,
            allowance: Allowance::default(),
            _watch: watch,
        }
    }

    /// Whether it may have another asynchronous call with a stream of `bytes` under way. One is always allowed.
    pub(super) fn has_credit(&self, bytes: usize, limits: &FileLimits) -> bool {
        self.in_flight.is_empty()
            || (self.in_flight.len() < limits.calls_in_flight && self.bytes + bytes <= limits.bytes_in_flight)
    }

    /// Gives the record `record` of `channel` the next place in the order of asynchronous work.
    pub(super) fn launch(&mut self, channel: u64, record: u64, bytes: usize) -> Serial {
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

    /// The place of the last asynchronous call.
    pub(super) fn last_serial(&self) -> Serial {
        Serial(self.serial)
    }

    /// Takes back the credit of all calls up to `through`, and says which record of which channel each was.
    pub(super) fn retire(&mut self, through: Serial) -> Vec<(u64, u64)> {
        let mut retired: Vec<(u64, u64)> = Vec::new();
        while let Some(call) = self.in_flight.pop_front_if(|call| call.serial <= through) {
            self.bytes -= call.bytes;
            match retired.last_mut() {
                Some((channel, record)) if *channel == call.channel => *record = call.record,
                _ => retired.push((call.channel, call.record)),
            }
        }
        retired
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
