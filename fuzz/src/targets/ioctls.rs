//! Any ioctl with any argument by several files, on the whole of virgld.

use std::collections::BTreeSet;
use std::time::Duration;

use virgld_protocol::client::{Call, Layout, layout_of};
use virgld_protocol::ids::{FenceKey, FileId, Token};
use virgld_protocol::message::door::Attach;
use virgld_protocol::message::scheme::{Attached, ExportKey, Node, SyncobjKey};
use virgld_testkit::door::{Answer, Submission};
use virgld_testkit::system::{System, SystemConfig};

use crate::Input;

/// Numbers that answers told of are used again: handles, resources, framebuffers, blobs, mode objects.
const MOST_NUMBERS: usize = 64;
const MOST_FILES: usize = 4;
const MOST_STEPS: usize = 200;
/// Calls that may wait for as long as they say: SYNCOBJ_WAIT, SYNCOBJ_TIMELINE_WAIT, WAIT_VBLANK.
const PATIENT: [u8; 3] = [0xc3, 0xca, 0x3a];

struct Strangers {
    files: Vec<FileId>,
    /// Calls not answered, of which file, and their numbers.
    calls: Vec<(Token, FileId, u8)>,
    numbers: Vec<u32>,
    buffers: Vec<ExportKey>,
    fences: Vec<FenceKey>,
    foreign: Vec<FenceKey>,
    syncobjs: Vec<SyncobjKey>,
}

/// Every call is answered, once; no rule is broken towards the device; no actor dies; and when all files are closed,
/// nothing is left of them, neither here nor on the device.
pub(super) fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let mut system = System::new(&SystemConfig::default(), 0);
    let standing = system.device.regions();
    let mut strangers = Strangers {
        files: Vec::new(),
        calls: Vec::new(),
        numbers: vec![1, 2],
        buffers: Vec::new(),
        fences: Vec::new(),
        foreign: Vec::new(),
        syncobjs: Vec::new(),
    };
    for _ in 0..MOST_STEPS {
        if input.is_used_up() {
            break;
        }
        strangers.step(&mut system, &mut input);
    }
    strangers.leave(&mut system);
    judge(&mut system, true);
    let host = system.device.host();
    let left = (host.contexts(), host.resources(), system.device.regions());
    assert_eq!(left, (0, 0, standing), "left on the device: contexts, resources, regions");
}

/// What must be so when all clients have left. `honest` says whether all devices were.
pub(super) fn judge(system: &mut System, honest: bool) {
    // A device that wrote where it may not has no rule to complain of. What a stream names is its client's word: that the
    // device finds it not attached is what protects the others.
    let counts = |it: &String| {
        let named_by_stream = it.contains("Code(519)") && it.contains("not attached");
        !it.starts_with("at the device") || honest && !named_by_stream
    };
    let offences: Vec<String> = system.offences().into_iter().filter(counts).collect();
    assert!(offences.is_empty(), "{}", offences.join("\n"));
    let report = system.report();
    assert!(report.as_ref().is_some_and(|report| report.is_empty()), "left behind: {report:?}");
    let (unanswered, unsignalled) = (system.door.unanswered(), system.door.unsignalled());
    assert_eq!((unanswered, unsignalled), (0, 0), "calls and fences that wait for ever");
}

impl Strangers {
    fn step(&mut self, system: &mut System, input: &mut Input<'_>) {
        let what = input.below(32);
        if self.files.is_empty() || (what == 0 && self.files.len() < MOST_FILES) {
            let node = if input.chance(80) { Node::Render } else { Node::Card };
            return self.files.push(system.door.open(node));
        }
        let which = input.below(self.files.len());
        let file = self.files[which];
        match what {
            0..=20 => self.ioctl(system, input, file),
            21..=22 => self.submit(system, input, file),
            23 => self.mapping(system, input, file),
            24 => {
                let (handle, rights) = (self.number(input), u32::from(input.byte()));
                self.wait_for(file, system.door.restrict(file, handle, rights));
            }
            25 => {
                let handle = self.number(input);
                self.wait_for(file, system.door.revoke(file, handle));
            }
            26 => {
                let fences = [self.descriptor(system, input), self.descriptor(system, input)];
                self.wait_for(
                    file,
                    system.door.merge(file, fences.map(|it| it.unwrap_or(Attached::Unknown))),
                );
            }
            27 => system.settle(),
            28 => system.advance(Duration::from_millis(20 * u64::from(input.byte()))),
            29 => drop(system.device.take(input.below(6))),
            30 if input.chance(96) => {
                system.door.close(self.files.swap_remove(which));
                self.calls.retain(|(_, caller, _)| *caller != file);
            }
            _ => self.let_go(system, input),
        }
        system.run();
        self.listen(system);
    }

    fn ioctl(&mut self, system: &mut System, input: &mut Input<'_>, file: FileId) {
        let known: Vec<&Layout> = (0..=u8::MAX).filter_map(layout_of).collect();
        let number =
            if input.chance(8) { input.byte() } else { input.pick(&known).map_or(0, |layout| layout.number) };
        let bytes = match layout_of(number) {
            Some(layout) => self.argument(input, layout),
            None => input.bytes(16).to_vec(),
        };
        let attached = if input.chance(96) { self.descriptor(system, input) } else { None };
        let token = system.door.raw(file, Call { number, bytes: bytes.into() }, attached);
        self.calls.push((token, file, number));
    }

    /// Fields are numbers that mean something or edges; arrays have as many elements as their counts say, mostly.
    fn argument(&mut self, input: &mut Input<'_>, layout: &Layout) -> Vec<u8> {
        let mut bytes = vec![0; layout.wire];
        for word in bytes.chunks_mut(4) {
            let value = self.number(input).to_le_bytes();
            word.copy_from_slice(&value[..word.len()]);
        }
        let mut rest = Vec::new();
        for (index, array) in layout.arrays.iter().enumerate() {
            let count = if layout.bulk == Some(index) { 0 } else { input.below(6) };
            bytes[array.wire_count..array.wire_count + array.count_size].fill(0);
            bytes[array.wire_count] = u8::try_from(count).unwrap_or(0);
            for _ in 0..(count * array.element).div_ceil(4) {
                rest.extend_from_slice(&self.number(input).to_le_bytes());
            }
            rest.truncate(rest.len() - (count * array.element).next_multiple_of(4) + count * array.element);
        }
        bytes.append(&mut rest);
        if input.chance(8) {
            bytes.truncate(input.below(bytes.len() + 1));
        }
        bytes
    }

    fn submit(&mut self, system: &mut System, input: &mut Input<'_>, file: FileId) {
        let handles: Vec<u32> = (0..input.below(4)).map(|_| self.number(input)).collect();
        let wait = if input.chance(64) { self.descriptor(system, input) } else { None };
        let stream = input.bytes(32).to_vec();
        let what = Submission {
            stream: &stream,
            handles: &handles,
            fence: input.flag(),
            wait,
            ..Default::default()
        };
        if let Some(submitted) = system.door.submit(file, &what) {
            self.wait_for(file, submitted.token);
            self.fences.extend(submitted.fence);
        }
    }

    fn mapping(&mut self, system: &mut System, input: &mut Input<'_>, file: FileId) {
        let offset = u64::from(self.number(input)) << (12 * u32::from(input.flag()));
        let length = input.long();
        self.wait_for(file, system.door.map(file, offset, length));
    }

    fn wait_for(&mut self, file: FileId, token: Token) {
        self.calls.push((token, file, 0));
    }

    fn number(&self, input: &mut Input<'_>) -> u32 {
        if input.chance(128) { input.pick(&self.numbers).copied().unwrap_or(0) } else { input.number() }
    }

    fn descriptor(&mut self, system: &mut System, input: &mut Input<'_>) -> Option<Attached> {
        match input.below(6) {
            0..=1 => input.pick(&self.buffers).map(|it| Attached::Buffer(*it)),
            2 => input.pick(&self.fences).map(|it| Attached::Fence(*it)),
            3 => input.pick(&self.syncobjs).map(|it| Attached::Syncobj(*it)),
            4 => {
                let fence = system.door.foreign_fence();
                self.foreign.push(fence);
                Some(Attached::ForeignFence(fence))
            }
            _ => Some(Attached::Unknown),
        }
    }

    /// Closes descriptors, or signals what others have to signal.
    fn let_go(&mut self, system: &mut System, input: &mut Input<'_>) {
        if input.flag() {
            self.foreign.drain(..).for_each(|fence| system.door.signal(fence, Ok(())));
        } else if !self.buffers.is_empty() {
            let gone = self.buffers.swap_remove(input.below(self.buffers.len()));
            self.buffers.retain(|other| *other != gone);
            system.door.drop_export(gone);
        }
    }

    fn listen(&mut self, system: &mut System) {
        let calls = std::mem::take(&mut self.calls);
        for (token, file, number) in calls {
            match system.door.answer(token) {
                Some(answer) => self.learn(answer),
                None => self.calls.push((token, file, number)),
            }
        }
    }

    fn learn(&mut self, answer: Answer) {
        match answer.attach {
            Some(Attach::Buffer { export, .. }) => self.buffers.push(export),
            Some(Attach::Fence { fence, .. }) => self.fences.push(fence),
            Some(Attach::Syncobj(syncobj)) => self.syncobjs.push(syncobj),
            Some(Attach::Memory { .. }) | None => {}
        }
        let Ok(reply) = answer.result else { return };
        let words = reply.arrays.iter().chain([&reply.fixed]).flat_map(|bytes| bytes.chunks_exact(4));
        for word in words {
            let number = word.try_into().map_or(0, u32::from_le_bytes);
            if number != 0 && !self.numbers.contains(&number) {
                self.numbers.push(number);
            }
        }
        let surplus = self.numbers.len().saturating_sub(MOST_NUMBERS);
        self.numbers.drain(..surplus);
    }

    /// All that waits for somebody ends, then all files are closed, then all descriptors.
    fn leave(&mut self, system: &mut System) {
        self.foreign.drain(..).for_each(|fence| system.door.signal(fence, Ok(())));
        system.outlast();
        self.listen(system);
        let hung: BTreeSet<u8> = self
            .calls
            .iter()
            .map(|(_, _, number)| *number)
            .filter(|number| !PATIENT.contains(number))
            .collect();
        let open = !self.files.is_empty();
        self.files.drain(..).for_each(|file| system.door.close(file));
        system.outlast();
        for _ in 0..3 {
            self.buffers.extend(system.door.take_orphans());
            self.buffers.extend(system.door.watched());
            self.buffers.drain(..).for_each(|export| system.door.drop_export(export));
            self.syncobjs.drain(..).for_each(|syncobj| system.door.drop_syncobj(syncobj));
            system.outlast();
        }
        assert!(!open || hung.is_empty(), "calls that are never answered: {hung:x?}");
    }
}
