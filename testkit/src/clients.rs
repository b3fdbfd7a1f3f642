//! Random clients, and what they may expect.
//!
//! They do what programs do, and some of what programs should not do, and compare each answer with what the
//! capability tables say: a handle of one's own works, any other number is refused.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use virgld_protocol::client::{
    GemClose, PrimeFdToHandle, PrimeHandleToFd, ResourceCreate, ResourceInfo, SyncobjCreate, SyncobjFlags,
    SyncobjWait, TransferFromHost, TransferToHost, Wait,
};
use virgld_protocol::errno::Errno;
use virgld_protocol::ids::{FenceKey, FileId, Token};
use virgld_protocol::message::door::Attach;
use virgld_protocol::message::scheme::{Attached, ExportKey, Node};
use virgld_protocol::virgl::{ObjectKind, Verb, head};
use zerocopy::IntoBytes;

use crate::Random;
use crate::door::{Answer, Submission};
use crate::system::System;

/// A number that is in nobody's table.
const NOBODYS: u32 = 0x4000_0000;
const SHARED: u32 = 1 << 20;
const MOST_FILES: usize = 4;

/// What clients may expect of the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    /// The device is slow, but does all that it is asked.
    Calm,
    /// The device fails: what it was asked may fail, but nothing hangs.
    Stormy,
}

/// Several clients.
pub struct Clients {
    random: Random,
    mood: Mood,
    /// Their streams are virgl's.
    draw: bool,
    clients: Vec<Client>,
    /// Buffers of which the clients have descriptors, and their resources.
    descriptors: Vec<(ExportKey, u32)>,
    /// Those of which they had.
    dropped: Vec<ExportKey>,
    fences: Vec<Promise>,
    foreign: Vec<FenceKey>,
    calls: Vec<(Token, FileId, Expected)>,
    offences: Vec<String>,
}

#[derive(Debug)]
struct Client {
    file: FileId,
    /// What its handles stand for.
    handles: BTreeMap<u32, u32>,
    syncobjs: Vec<u32>,
    /// Handles that it has given up at some time; their numbers come again.
    closed: BTreeSet<u32>,
    /// Its context was killed: work fails.
    killed: bool,
}

/// A fence that a client has.
#[derive(Debug, Clone, Copy)]
struct Promise {
    fence: FenceKey,
    file: FileId,
    /// Whether nothing but the device could make it fail.
    plain: bool,
}

/// What is expected of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    Success,
    Work,
    Refused(Errno),
    /// Success, or one of these.
    SuccessOr(Errno, Errno),
    Created,
    Exported(u32, u32),
    Imported(u32),
    Syncobj,
}

impl Clients {
    /// No clients yet.
    pub fn new(seed: u64, mood: Mood) -> Self {
        Self {
            random: Random::new(seed ^ 0xc11e_0075),
            mood,
            draw: false,
            clients: Vec::new(),
            descriptors: Vec::new(),
            dropped: Vec::new(),
            fences: Vec::new(),
            foreign: Vec::new(),
            calls: Vec::new(),
            offences: Vec::new(),
        }
    }

    /// The same with streams of virgl's, that a journal understands.
    #[must_use]
    pub fn drawing(self) -> Self {
        Self { draw: true, ..self }
    }

    /// What went otherwise than expected.
    pub fn offences(&self) -> &[String] {
        &self.offences
    }

    /// From now on anything may fail.
    pub fn expect_storms(&mut self) {
        self.mood = Mood::Stormy;
    }

    /// One client does one thing; then actors, device and clock go on a little, or not.
    pub fn step(&mut self, system: &mut System) {
        self.act(system);
        if self.random.chance(700) {
            system.run();
        }
        if self.random.chance(600) {
            system.device.step();
        }
        if self.random.chance(60) {
            system.advance(Duration::from_millis(self.random.number() % 300));
        }
        self.harvest(system);
    }

    /// All clients wait for their answers, then leave.
    pub fn leave(&mut self, system: &mut System) {
        self.signal_foreign(system);
        system.outlast();
        self.harvest(system);
        let hanging = (system.door.unanswered(), system.door.unsignalled());
        if hanging != (0, 0) {
            self.offences.push(format!("calls and fences that hang: {hanging:?}"));
        }
        self.clients.drain(..).for_each(|client| system.door.close(client.file));
        self.dropped.extend(self.descriptors.drain(..).map(|(export, _)| export));
        for _ in 0..2 {
            system.outlast();
            self.drop_exports(system);
        }
        system.outlast();
    }

    fn act(&mut self, system: &mut System) {
        if self.clients.is_empty() || (self.clients.len() < MOST_FILES && self.random.chance(40)) {
            return self.open(system);
        }
        let who = self.random.below(self.clients.len());
        match self.random.below(100) {
            0..=19 => self.create(system, who),
            20..=44 => self.submit(system, who),
            45..=56 => self.transfer(system, who),
            57..=66 => self.wait(system, who),
            67..=74 => self.gem_close(system, who),
            75..=79 => self.export(system, who),
            80..=84 => self.import(system, who),
            85..=87 => self.trespass(system, who),
            88..=91 => self.syncobj(system, who),
            92..=93 => self.syncobj_wait(system, who),
            94 => self.signal_foreign(system),
            95..=96 => self.drop_descriptor(system),
            97 => self.kill(system, who),
            _ => self.close(system, who),
        }
    }

    fn open(&mut self, system: &mut System) {
        let file = system.door.open(if self.random.chance(500) { Node::Render } else { Node::Card });
        self.clients.push(Client {
            file,
            handles: BTreeMap::new(),
            syncobjs: Vec::new(),
            closed: BTreeSet::new(),
            killed: false,
        });
    }

    fn close(&mut self, system: &mut System, who: usize) {
        // Descriptors that have come already are its own, and the door will not name them again.
        self.harvest(system);
        let client = self.clients.swap_remove(who);
        system.door.close(client.file);
        self.calls.retain(|(_, file, _)| *file != client.file);
    }

    fn create(&mut self, system: &mut System, who: usize) {
        let bind = if self.random.chance(300) { SHARED } else { 0 };
        let size = u32::try_from(self.random.below(3 * 4096)).unwrap_or(0);
        let fixed =
            ResourceCreate { target: 2, width: 4, height: 4, bind, size, ..ResourceCreate::default() };
        let file = self.clients[who].file;
        let token = system.door.call(file, &fixed, &[]);
        self.calls.push((token, file, Expected::Created));
    }

    fn submit(&mut self, system: &mut System, who: usize) {
        let (file, killed) = (self.clients[who].file, self.clients[who].killed);
        let handles: Vec<u32> =
            self.clients[who].handles.keys().copied().filter(|_| self.random.chance(400)).collect();
        let stream: Vec<u32> = handles.iter().map(|handle| self.clients[who].handles[handle]).collect();
        let stream = if self.draw { self.frame(&stream) } else { stream };
        let wait = self.gate();
        let fence = self.random.chance(400);
        let what =
            Submission { stream: stream.as_bytes(), handles: &handles, fence, wait, ..Submission::default() };
        let Some(submitted) = system.door.submit(file, &what) else { return };
        self.calls.push((submitted.token, file, Expected::Work));
        if let Some(fence) = submitted.fence {
            self.fences.push(Promise { fence, file, plain: !killed && wait.is_none() });
        }
    }

    /// A frame on one of these, which is all that fits a stream here.
    fn frame(&mut self, resources: &[u32]) -> Vec<u32> {
        let Some(target) = self.random.pick(resources).copied() else { return Vec::new() };
        let create = [head(Verb::CREATE_OBJECT, ObjectKind::SURFACE.0, 5), target, target, 1, 0, 0];
        let bind = [head(Verb::SET_FRAMEBUFFER_STATE, 0, 3), 1, 0, target];
        let fill = [head(Verb::TRANSFER3D, 0, 13), target, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 0, 1];
        let destroy = [head(Verb::DESTROY_OBJECT, ObjectKind::SURFACE.0, 1), target];
        match self.random.below(3) {
            0 => [&create[..], &bind, &fill].concat(),
            1 => [&create[..], &bind].concat(),
            _ => [&create[..], &destroy].concat(),
        }
    }

    /// A fence to wait for, now and then.
    fn gate(&mut self) -> Option<Attached> {
        match self.random.below(20) {
            0..=3 => self.random.pick(&self.fences).map(|promise| Attached::Fence(promise.fence)),
            4 => self.random.pick(&self.foreign).map(|fence| Attached::ForeignFence(*fence)),
            _ => None,
        }
    }

    fn transfer(&mut self, system: &mut System, who: usize) {
        let file = self.clients[who].file;
        let Some(bo_handle) = self.handle_of(who) else { return };
        let token = if self.random.chance(500) {
            system.door.call(file, &TransferToHost { bo_handle, w: 1, h: 1, d: 1, ..Default::default() }, &[])
        } else {
            system.door.call(
                file,
                &TransferFromHost { bo_handle, w: 1, h: 1, d: 1, ..Default::default() },
                &[],
            )
        };
        self.calls.push((token, file, Expected::Work));
    }

    fn wait(&mut self, system: &mut System, who: usize) {
        let Some(handle) = self.handle_of(who) else { return };
        let flags = u32::from(self.random.chance(400));
        let file = self.clients[who].file;
        let token = system.door.call(file, &Wait { handle, flags }, &[]);
        self.calls.push((token, file, Expected::SuccessOr(Errno::EBUSY, Errno::EBUSY)));
    }

    fn gem_close(&mut self, system: &mut System, who: usize) {
        let file = self.clients[who].file;
        // An import under way may be about to name the very buffer.
        let importing =
            |it: &(Token, FileId, Expected)| it.1 == file && matches!(it.2, Expected::Imported(_));
        if self.calls.iter().any(importing) {
            return;
        }
        let Some(handle) = self.handle_of(who) else { return };
        self.clients[who].handles.remove(&handle);
        self.clients[who].closed.insert(handle);
        let token = system.door.call(file, &GemClose { handle, pad: 0 }, &[]);
        self.calls.push((token, file, Expected::Success));
    }

    fn export(&mut self, system: &mut System, who: usize) {
        let Some(handle) = self.handle_of(who) else { return };
        let resource = self.clients[who].handles[&handle];
        let file = self.clients[who].file;
        let token = system.door.call(file, &PrimeHandleToFd { handle, flags: 0, fd: -1 }, &[]);
        self.calls.push((token, file, Expected::Exported(resource, handle)));
    }

    fn import(&mut self, system: &mut System, who: usize) {
        let Some((export, resource)) = self.random.pick(&self.descriptors).copied() else { return };
        let file = self.clients[who].file;
        let fixed = PrimeFdToHandle { handle: 0, flags: 0, fd: -1 };
        let token = system.door.call_with(file, &fixed, &[], Some(Attached::Buffer(export)));
        self.calls.push((token, file, Expected::Imported(resource)));
    }

    /// Numbers that are not one's own.
    fn trespass(&mut self, system: &mut System, who: usize) {
        let file = self.clients[who].file;
        let handle = NOBODYS + u32::try_from(self.random.below(100)).unwrap_or(0);
        let (token, errno) = match self.random.below(4) {
            0 => (system.door.call(file, &Wait { handle, flags: 0 }, &[]), Errno::ENOENT),
            1 => (system.door.call(file, &GemClose { handle, pad: 0 }, &[]), Errno::EINVAL),
            2 => {
                let fixed = ResourceInfo { bo_handle: handle, ..ResourceInfo::default() };
                (system.door.call(file, &fixed, &[]), Errno::ENOENT)
            }
            _ => {
                let fixed = PrimeFdToHandle { handle: 0, flags: 0, fd: -1 };
                let forged = Some(Attached::Buffer(ExportKey(u64::from(handle))));
                (system.door.call_with(file, &fixed, &[], forged), Errno::EINVAL)
            }
        };
        self.calls.push((token, file, Expected::Refused(errno)));
    }

    fn syncobj(&mut self, system: &mut System, who: usize) {
        let file = self.clients[who].file;
        let flags = u32::from(self.random.chance(500));
        let token = system.door.call(file, &SyncobjCreate { handle: 0, flags }, &[]);
        self.calls.push((token, file, Expected::Syncobj));
    }

    fn syncobj_wait(&mut self, system: &mut System, who: usize) {
        let file = self.clients[who].file;
        let Some(handle) = self.random.pick(&self.clients[who].syncobjs).copied() else { return };
        let timeout = system.now().after(Duration::from_millis(self.random.number() % 3000)).0;
        let fixed = SyncobjWait {
            timeout_nsec: i64::try_from(timeout).unwrap_or(i64::MAX),
            count_handles: 1,
            flags: if self.random.chance(700) { SyncobjFlags::WAIT_FOR_SUBMIT.bits() } else { 0 },
            ..SyncobjWait::default()
        };
        let token = system.door.call(file, &fixed, &[handle.as_bytes()]);
        self.calls.push((token, file, Expected::SuccessOr(Errno::ETIME, Errno::EINVAL)));
    }

    fn signal_foreign(&mut self, system: &mut System) {
        for fence in std::mem::take(&mut self.foreign) {
            system.door.signal(fence, Ok(()));
        }
        self.foreign.push(system.door.foreign_fence());
    }

    fn drop_descriptor(&mut self, system: &mut System) {
        if !self.descriptors.is_empty() {
            let (export, _) = self.descriptors.swap_remove(self.random.below(self.descriptors.len()));
            self.descriptors.retain(|(other, _)| *other != export);
            self.dropped.push(export);
        }
        self.drop_exports(system);
    }

    /// A door reports the end of a buffer's last descriptor when the scheme wants to know, and no call that it
    /// has still to pass on carries one.
    fn drop_exports(&mut self, system: &mut System) {
        system.run();
        self.harvest(system);
        self.dropped.extend(system.door.take_orphans());
        let held = &self.descriptors;
        self.dropped.retain(|export| held.iter().all(|(other, _)| other != export));
        // Reported again whenever it is asked again: an import may have come between.
        self.dropped.sort_unstable();
        self.dropped.dedup();
        for export in &self.dropped {
            system.door.drop_export(*export);
        }
    }

    fn kill(&mut self, system: &mut System, who: usize) {
        if self.random.chance(300) {
            let client = &mut self.clients[who];
            let file = client.file;
            system.kill_context(file);
            self.lost_its_context(file);
        }
    }

    /// From now on this file's work may fail, and nobody else's.
    fn lost_its_context(&mut self, file: FileId) {
        self.clients.iter_mut().filter(|client| client.file == file).for_each(|it| it.killed = true);
        self.fences.iter_mut().filter(|promise| promise.file == file).for_each(|it| it.plain = false);
    }

    fn handle_of(&mut self, who: usize) -> Option<u32> {
        let handles: Vec<u32> = self.clients[who].handles.keys().copied().collect();
        self.random.pick(&handles).copied()
    }

    /// Takes the answers that have come.
    fn harvest(&mut self, system: &mut System) {
        system.bereaved().iter().for_each(|file| self.lost_its_context(*file));
        for (token, file, expected) in std::mem::take(&mut self.calls) {
            match system.door.answer(token) {
                Some(answer) => self.judge(file, expected, &answer),
                None => self.calls.push((token, file, expected)),
            }
        }
        let calm = self.mood == Mood::Calm;
        for promise in &self.fences {
            let open = self.clients.iter().any(|client| client.file == promise.file);
            if let Some(Err(errno)) = system.door.signalled(promise.fence)
                && (calm && open && promise.plain)
            {
                self.offences.push(format!("{promise:?} failed: {errno:?}"));
            }
        }
        self.fences.retain(|promise| system.door.signalled(promise.fence).is_none());
    }

    fn judge(&mut self, file: FileId, expected: Expected, answer: &Answer) {
        let calm = self.mood == Mood::Calm;
        let Some(client) = self.clients.iter_mut().find(|client| client.file == file) else { return };
        let good = match (expected, answer.errno()) {
            (Expected::Refused(wanted), errno) => errno == Some(wanted),
            (Expected::Success, errno) => errno.is_none(),
            (Expected::Work, errno) => errno.is_none() || client.killed || !calm,
            (Expected::SuccessOr(one, two), Some(errno)) => errno == one || errno == two,
            (Expected::Created, Some(errno)) => errno == Errno::ENOMEM || client.killed || !calm,
            // The handle may have been closed while its memory was being moved.
            (Expected::Exported(_, handle), Some(errno)) => {
                errno == Errno::ENOMEM || client.closed.contains(&handle) || !calm
            }
            (Expected::Created, None) => match answer.fixed::<ResourceCreate>() {
                Some(made) => client.handles.insert(made.bo_handle, made.res_handle).is_none(),
                None => false,
            },
            (Expected::Exported(resource, _), None) => match answer.attach {
                Some(Attach::Buffer { export, .. }) => {
                    self.descriptors.push((export, resource));
                    true
                }
                _ => false,
            },
            (Expected::Imported(resource), None) => match answer.fixed::<PrimeFdToHandle>() {
                Some(made) => client.handles.insert(made.handle, resource).is_none_or(|it| it == resource),
                None => false,
            },
            // Its last descriptor may have been closed while the call was under way.
            (Expected::Imported(_), Some(errno)) => errno == Errno::EINVAL,
            (Expected::Syncobj, errno) => {
                client.syncobjs.extend(answer.fixed::<SyncobjCreate>().map(|made| made.handle));
                errno.is_none()
            }
            (Expected::SuccessOr(..), None) => true,
        };
        if !good {
            self.offences.push(format!("{file:?} expected {expected:?} and got {answer:?}"));
        }
    }
}
