//! The device's ends of the sockets.

use std::collections::VecDeque;
use std::io::{IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use virgld_platform::host::vhost_user::{Request, gpu_feature};

use crate::Input;

/// What plays the device.
pub(super) struct Device {
    socket: UnixStream,
    /// The display socket, once it was given.
    display: Option<UnixStream>,
    /// The eventfds that it rings, in the order in which they were given.
    bells: Vec<OwnedFd>,
    /// Requests that want a confirmation and have none.
    wanting: VecDeque<u32>,
    /// Whether it has done nothing for which it could be given up.
    honest: bool,
    /// Whether its display socket is whole: an answer comes back whole then.
    sensible: bool,
    heard: Vec<u8>,
}

impl Device {
    pub(super) fn new(socket: UnixStream) -> Self {
        socket.set_nonblocking(true).expect("a socket of our own");
        let (bells, wanting, heard) = (Vec::new(), VecDeque::new(), Vec::new());
        Self { socket, display: None, bells, wanting, honest: true, sensible: true, heard }
    }

    pub(super) fn is_honest(&self) -> bool {
        self.honest
    }

    /// Says all that a device says in the handshake before it is asked: mostly what is right.
    pub(super) fn answer_in_advance(&mut self, input: &mut Input<'_>) {
        let features = if input.chance(32) { input.long() } else { FEATURES };
        let protocol = if input.chance(64) { input.long() } else { PROTOCOL };
        let confirms = protocol & REPLY_ACK != 0;
        let mut answers = vec![(Request::GET_FEATURES, features), (Request::GET_PROTOCOL_FEATURES, protocol)];
        if protocol & MQ != 0 {
            answers.push((Request::GET_QUEUE_NUM, if input.chance(16) { input.long() } else { 2 }));
        }
        answers.extend(confirms.then_some((Request::SET_FEATURES, 0)));
        answers.push((Request::GET_FEATURES, features));
        if confirms && protocol & SLOTS != 0 {
            answers.push((Request::GET_MAX_MEM_SLOTS, if input.chance(128) { input.long() } else { 8 }));
        }
        for (request, value) in answers {
            self.say(input, request, &value.to_ne_bytes());
        }
        let configuration = [0, 16, 0, input.number(), 0, input.number(), input.number()];
        self.say(input, Request::GET_CONFIG, &bytes_of(&configuration));
        if confirms {
            self.say(input, Request::SET_MEM_TABLE, &[0; 8]);
            for request in QUEUE.repeat(2) {
                self.say(input, request, &[0; 8]);
            }
        }
    }

    /// One answer; now and then with something wrong in it.
    fn say(&mut self, input: &mut Input<'_>, request: Request, payload: &[u8]) {
        let size = u32::try_from(payload.len()).expect("payloads are short");
        let mut message = bytes_of(&[request.0, ANSWER, size]);
        message.extend_from_slice(payload);
        if input.chance(6) {
            self.honest = false;
            match input.below(4) {
                0 => message.truncate(input.below(message.len())),
                1 => message.extend_from_slice(some(input)),
                _ => {
                    let at = input.below(message.len());
                    message[at] = input.byte();
                }
            }
        }
        self.write(&message);
    }

    /// Takes what it was sent.
    pub(super) fn hear(&mut self) {
        while let Some((request, flags)) = self.message() {
            if flags & NEED_REPLY != 0 {
                self.wanting.push_back(request);
            }
        }
        let mut room = [0; 4096];
        while let Some(display) = &mut self.display
            && let Ok(count @ 1..) = display.read(&mut room)
        {
            self.heard.extend_from_slice(&room[..count]);
        }
        self.judge_answers();
    }

    fn message(&mut self) -> Option<(u32, u32)> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut header = [0; HEADER];
        let got =
            recvmsg(&self.socket, &mut [IoSliceMut::new(&mut header)], &mut control, RecvFlags::DONTWAIT);
        if got.ok()?.bytes < HEADER {
            return None;
        }
        let [request, flags, size] = [0, 4, 8].map(|at| word(&header, at));
        let mut given = Vec::new();
        for part in control.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = part {
                given.extend(rights);
            }
        }
        let mut payload = vec![0; size as usize];
        self.socket.read_exact(&mut payload).expect("messages are sent whole");
        match Request(request) {
            // What was confirmed in advance.
            Request::GPU_SET_SOCKET => self.display = given.pop().map(UnixStream::from),
            Request::SET_VRING_CALL | Request::SET_VRING_ERR => self.bells.extend(given),
            _ => {}
        }
        if let Some(display) = &self.display {
            display.set_nonblocking(true).expect("a socket that we were given");
        }
        let confirmed_before = ![Request::ADD_MEM_REG, Request::REM_MEM_REG].contains(&Request(request));
        Some((request, if confirmed_before { flags & !NEED_REPLY } else { flags }))
    }

    /// Confirms the oldest request, with 0 for yes. Says whether there was one.
    pub(super) fn answer(&mut self, code: u64) -> bool {
        let Some(request) = self.wanting.pop_front() else { return false };
        let mut message = bytes_of(&[request, ANSWER, 8]);
        message.extend_from_slice(&code.to_ne_bytes());
        self.write(&message);
        true
    }

    /// Says on the main socket what it is not to say.
    pub(super) fn lie(&mut self, input: &mut Input<'_>) {
        self.honest = false;
        let request = self.wanting.front().copied().unwrap_or_else(|| input.number());
        let message = match input.below(3) {
            0 => bytes_of(&[request, input.number(), input.number(), input.number(), input.number()]),
            1 => bytes_of(&[input.number(), ANSWER, 8, 0, 0]),
            _ => some(input).to_vec(),
        };
        self.write(&message);
    }

    /// Rings for a queue: that it used buffers, or that it is broken.
    pub(super) fn ring(&mut self, input: &mut Input<'_>) {
        let which = input.below(4);
        // Of each queue first the one that says that it is broken, which is rung for nothing but once in a while.
        let broken = which.is_multiple_of(2);
        if let Some(bell) = self.bells.get(which).filter(|_| !broken || input.chance(64)) {
            self.honest &= !broken;
            let _ = rustix::io::write(bell, &1_u64.to_ne_bytes());
        }
    }

    /// Closes one of its sockets, wholly or for one direction.
    pub(super) fn leave(&mut self, input: &mut Input<'_>) {
        let how = [Shutdown::Read, Shutdown::Write, Shutdown::Both][input.below(3)];
        let which = input.below(8);
        self.honest &= which > 2;
        match which {
            0 => drop(self.socket.shutdown(how)),
            1 => {
                self.sensible = false;
                let _ = self.display.as_ref().map(|display| display.shutdown(how));
            }
            2 => self.display = None,
            _ => {}
        }
    }

    /// Says something on the display socket.
    pub(super) fn show(&mut self, input: &mut Input<'_>) {
        let kind = if input.chance(32) { input.number() } else { 1 + u32::from(input.byte() % 12) };
        let mut payload = match kind {
            SCANOUT => bytes_of(&[u32::from(input.byte() % 17), side(input), side(input)]),
            UPDATE => {
                let place = [input.below(3), input.below(8), input.below(8), input.below(8), input.below(8)];
                let mut payload = bytes_of(&place.map(|it| u32::try_from(it).expect("small")));
                payload.extend_from_slice(some(input));
                payload
            }
            _ => some(input).to_vec(),
        };
        if input.chance(8) {
            let at = input.below(payload.len().max(1));
            payload.truncate(at);
        }
        let mut size = u32::try_from(payload.len()).expect("payloads are short");
        if input.chance(8) {
            (size, self.sensible) = (input.number(), false);
        }
        let mut message = bytes_of(&[kind, input.number(), size]);
        message.extend_from_slice(&payload);
        if let Some(display) = &mut self.display {
            let _ = display.write(&message);
        }
    }

    /// Answers are whole, of those kinds and sizes alone that a device knows how to read.
    fn judge_answers(&mut self) {
        while self.heard.len() >= HEADER {
            let [request, flags, size] = [0, 4, 8].map(|at| word(&self.heard, at));
            let expected = match request {
                1 => 8,
                3 => 408,
                10 => 0,
                11 => 1056,
                other => panic!("an answer to display request {other}"),
            };
            assert_eq!((flags, size), (4, expected), "the answer to display request {request}");
            let length = HEADER + size as usize;
            assert!(self.heard.len() >= length || !self.sensible, "half an answer");
            if self.heard.len() < length {
                break;
            }
            self.heard.drain(..length);
        }
    }

    /// A socket that is full or closed takes nothing: then the daemon's side has an end to notice.
    fn write(&mut self, message: &[u8]) {
        if !matches!(self.socket.write(message), Ok(count) if count == message.len()) {
            self.honest = false;
        }
    }
}

/// A few bytes, sometimes more than what is kept of a message.
fn some<'a>(input: &mut Input<'a>) -> &'a [u8] {
    let length = usize::from(input.byte() % 48);
    input.bytes(length)
}

/// Of a screen.
fn side(input: &mut Input<'_>) -> u32 {
    const SIDES: [u32; 8] = [8, 0, 1, 64, 4096, 8193, u32::MAX, 8192];
    if input.chance(16) { input.number() } else { SIDES[input.below(SIDES.len())] }
}

fn bytes_of(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

fn word(bytes: &[u8], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u32::from_ne_bytes(word)
}

const HEADER: usize = 12;
/// Version 1, a reply.
const ANSWER: u32 = 1 | 1 << 2;
const NEED_REPLY: u32 = 1 << 3;
const MQ: u64 = 1 << 0;
const REPLY_ACK: u64 = 1 << 3;
const CONFIG: u64 = 1 << 9;
const SLOTS: u64 = 1 << 15;
const PROTOCOL: u64 = MQ | REPLY_ACK | CONFIG | SLOTS;
/// EVENT_IDX, PROTOCOL_FEATURES, VERSION_1.
const FEATURES: u64 = 1 << 29 | 1 << 30 | 1 << 32 | gpu_feature::VIRGL | gpu_feature::EDID;
/// What is asked about each queue.
const QUEUE: [Request; 7] = [
    Request::SET_VRING_NUM,
    Request::SET_VRING_BASE,
    Request::SET_VRING_ADDR,
    Request::SET_VRING_ERR,
    Request::SET_VRING_CALL,
    Request::SET_VRING_KICK,
    Request::SET_VRING_ENABLE,
];
/// Of the display socket (QEMU, docs/interop/vhost-user-gpu.rst).
const SCANOUT: u32 = 7;
const UPDATE: u32 = 8;
