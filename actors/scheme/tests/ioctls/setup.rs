//! A system in which calls are answered at once, and the device does something only when the test says so.

use std::time::Duration;

use virgld_protocol::client::{
    ContextInit, ContextParameter, Ioctl, PrimeFdToHandle, PrimeHandleToFd, ResourceCreate,
};
use virgld_protocol::device::Feature;
use virgld_protocol::errno::Errno;
use virgld_protocol::ids::{FenceKey, FileId, Token};
use virgld_protocol::message::door::Attach;
use virgld_protocol::message::scheme::{Attached, ExportKey, Node};
use virgld_testkit::door::{Answer, Submission, Submitted};
use virgld_testkit::system::{System, SystemConfig};
use zerocopy::IntoBytes;

pub(crate) const SHARED: u32 = 1 << 20;

pub(crate) struct Desk {
    pub(crate) system: System,
}

impl Desk {
    pub(crate) fn new() -> Self {
        Self { system: System::new(&SystemConfig::default(), 0) }
    }

    /// With so many places for regions on the device.
    pub(crate) fn with_places(places: usize) -> Self {
        let mut config = SystemConfig::default();
        config.link.places = places;
        Self { system: System::new(&config, 0) }
    }

    /// With contexts that have rings.
    pub(crate) fn with_rings() -> Self {
        let mut config = SystemConfig::default();
        config.link.features |= Feature::CONTEXT_INIT;
        Self { system: System::new(&config, 0) }
    }

    /// Opens a file with a context of two rings.
    pub(crate) fn open_with_rings(&mut self) -> FileId {
        let file = self.open();
        let rings = ContextParameter { param: ContextParameter::NUM_RINGS, value: 2 };
        let answer = self.ask(file, &ContextInit { num_params: 1, pad: 0 }, &[rings.as_bytes()]);
        assert_eq!(answer.errno(), None);
        file
    }

    pub(crate) fn open(&mut self) -> FileId {
        self.system.door.open(Node::Render)
    }

    /// Lets everything happen for which no command must be executed.
    pub(crate) fn go(&mut self) {
        while self.system.run() | self.system.device.open_regions() {}
    }

    /// Makes a call that is answered without the device.
    pub(crate) fn ask<T: Ioctl>(&mut self, file: FileId, fixed: &T, arrays: &[&[u8]]) -> Answer {
        let token = self.system.door.call(file, fixed, arrays);
        self.answer(token).unwrap_or_else(|| panic!("{} has no answer", T::TABLE.name))
    }

    /// The same, with a descriptor.
    pub(crate) fn ask_with<T: Ioctl>(&mut self, file: FileId, fixed: &T, attached: Attached) -> Answer {
        let token = self.system.door.call_with(file, fixed, &[], Some(attached));
        self.answer(token).unwrap_or_else(|| panic!("{} has no answer", T::TABLE.name))
    }

    /// The answer to a call, if there is one by now.
    pub(crate) fn answer(&mut self, token: Token) -> Option<Answer> {
        self.go();
        self.system.door.answer(token)
    }

    pub(crate) fn errno(&mut self, token: Token) -> Option<Errno> {
        self.answer(token).and_then(|answer| answer.errno())
    }

    /// Makes a buffer of one page: its handle and its number.
    pub(crate) fn create(&mut self, file: FileId, bind: u32) -> (u32, u32) {
        self.try_create(file, bind).unwrap()
    }

    pub(crate) fn try_create(&mut self, file: FileId, bind: u32) -> Result<(u32, u32), Errno> {
        let asked = ResourceCreate { bind, size: 1, ..ResourceCreate::default() };
        let token = self.system.door.call(file, &asked, &[]);
        let answer = self.answer(token).or_else(|| {
            // It waits for memory that the device has not let go of yet.
            self.finish();
            self.answer(token)
        });
        let answer = answer.expect("a buffer, or a refusal");
        let made = answer.fixed::<ResourceCreate>().ok_or_else(|| answer.errno().unwrap())?;
        Ok((made.bo_handle, made.res_handle))
    }

    pub(crate) fn export(&mut self, file: FileId, handle: u32) -> Result<ExportKey, Errno> {
        let answer = self.ask(file, &PrimeHandleToFd { handle, flags: 0, fd: -1 }, &[]);
        match (answer.errno(), answer.attach) {
            (None, Some(Attach::Buffer { export, .. })) => Ok(export),
            (errno, _) => Err(errno.unwrap()),
        }
    }

    pub(crate) fn import(&mut self, file: FileId, export: ExportKey) -> Result<u32, Errno> {
        let answer = self.ask_with(file, &PrimeFdToHandle::default(), Attached::Buffer(export));
        answer.fixed::<PrimeFdToHandle>().map(|made| made.handle).ok_or_else(|| answer.errno().unwrap())
    }

    /// Submits, which must be accepted.
    pub(crate) fn submit(&mut self, file: FileId, what: &Submission<'_>) -> Submitted {
        let submitted = self.system.door.submit(file, what).unwrap();
        assert_eq!(self.answer(submitted.token).unwrap().errno(), None);
        submitted
    }

    /// Submits an empty stream with a fence.
    pub(crate) fn fenced(&mut self, file: FileId) -> FenceKey {
        self.submit(file, &Submission { fence: true, ..Submission::default() }).fence.unwrap()
    }

    /// Lets the device do all that it has been asked, and what it is asked a little later: a fence behind work that
    /// nobody waited for.
    pub(crate) fn finish(&mut self) {
        self.system.settle();
        self.system.advance(Duration::from_millis(2));
        self.system.settle();
    }

    /// Checks that no rule was broken and nothing is left once these files are closed.
    pub(crate) fn end(mut self, files: &[FileId]) {
        for file in files {
            self.system.door.close(*file);
        }
        self.system.outlast();
        assert_eq!(self.system.offences(), [""; 0]);
        let report = self.system.report().unwrap();
        assert!(report.is_empty(), "{report:#?}");
        assert_eq!((self.system.door.unanswered(), self.system.door.unsignalled()), (0, 0));
    }
}
