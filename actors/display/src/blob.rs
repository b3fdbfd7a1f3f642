//! Blobs: bytes with a number, made by a client or by the display.

use virgld_protocol::client::kms::ModeInfo as Mode;
use virgld_protocol::errno::{Errno, Refusal};
use virgld_protocol::ids::FileId;
use virgld_protocol::message::display::Answer;
use zerocopy::{FromBytes, IntoBytes};

use crate::mode;
use crate::output::Config;
use crate::state::{DONE, Outcome, State};

/// Bytes with a number.
#[derive(Debug)]
pub(crate) struct Blob {
    /// The file that made it; none for the display's own, and for those that their makers have given up.
    pub(crate) owner: Option<FileId>,
    pub(crate) bytes: Vec<u8>,
}

/// How many bytes of blobs a file may have. A mode takes 68.
const MOST_BYTES: usize = 1 << 20;
const MOST_BLOBS: usize = 4096;

const UNKNOWN: Refusal = Refusal::new(Errno::ENOENT, "no such blob");

impl State {
    pub(crate) fn blob(&mut self, id: u32) -> Result<Outcome, Refusal> {
        let blob = self.blobs.get(&id).ok_or(UNKNOWN)?;
        Ok(Outcome::Answer(Answer::Blob(blob.bytes.clone())))
    }

    pub(crate) fn create_blob(&mut self, file: FileId, bytes: &[u8]) -> Result<Outcome, Refusal> {
        const EMPTY: Refusal = Refusal::new(Errno::EINVAL, "a blob has at least one byte");
        const MANY: Refusal = Refusal::new(Errno::ENOMEM, "the file has too many blobs");
        if bytes.is_empty() {
            return Err(EMPTY);
        }
        let own = self.blobs.values().filter(|blob| blob.owner == Some(file));
        let (count, total) = own.fold((0, 0), |(count, total), blob| (count + 1, total + blob.bytes.len()));
        if count >= MOST_BLOBS || total + bytes.len() > MOST_BYTES {
            return Err(MANY);
        }
        let id = self.keep_blob(Some(file), bytes.to_vec());
        Ok(Outcome::Answer(Answer::Made(id)))
    }

    pub(crate) fn destroy_blob(&mut self, file: FileId, id: u32) -> Result<Outcome, Refusal> {
        const NOT_YOURS: Refusal = Refusal::new(Errno::EPERM, "the file did not make the blob");
        let blob = self.blobs.get_mut(&id).ok_or(UNKNOWN)?;
        if blob.owner != Some(file) {
            return Err(NOT_YOURS);
        }
        blob.owner = None;
        self.disowned.insert(id);
        DONE
    }

    pub(crate) fn keep_blob(&mut self, owner: Option<FileId>, bytes: Vec<u8>) -> u32 {
        let id = self.fresh_object();
        self.blobs.insert(id, Blob { owner, bytes });
        if owner.is_none() {
            self.disowned.insert(id);
        }
        id
    }

    /// A file is closed: its blobs are nobody's.
    pub(crate) fn disown_blobs_of(&mut self, file: FileId) {
        for (id, blob) in self.blobs.iter_mut().filter(|(_, blob)| blob.owner == Some(file)) {
            blob.owner = None;
            self.disowned.insert(*id);
        }
    }

    /// Forgets blobs that are nobody's and hold no mode that is set, nor what a display tells of itself.
    pub(crate) fn sweep_blobs(&mut self) {
        let outputs = &self.outputs;
        let named = |id: u32| {
            let set = |config: &Config| config.mode.as_ref().is_some_and(|(blob, _)| *blob == id);
            outputs.iter().any(|it| set(&it.config) || set(&it.shown) || it.monitor.edid == Some(id))
        };
        for id in self.disowned.extract_if(.., |id| !named(*id)) {
            self.blobs.remove(&id);
        }
    }

    /// The mode that a blob holds; none for blob 0.
    pub(crate) fn mode_of(&self, id: u32) -> Result<Option<(u32, Mode)>, Refusal> {
        const NO_MODE: Refusal = Refusal::new(Errno::EINVAL, "the blob holds no mode");
        if id == 0 {
            return Ok(None);
        }
        // Linux says EINVAL for an unknown blob as the value of a property.
        let blob = self.blobs.get(&id).ok_or(NO_MODE)?;
        let mode = Mode::read_from_bytes(&blob.bytes).map_err(|_| NO_MODE)?;
        mode::check(&mode).map_err(|_| NO_MODE)?;
        Ok(Some((id, mode)))
    }

    /// A blob that holds this mode, for clients who ask which is set.
    pub(crate) fn blob_of(&mut self, mode: &Mode) -> u32 {
        let same = |blob: &Blob| blob.owner.is_none() && blob.bytes == mode.as_bytes();
        let found = self.blobs.iter().find(|(_, blob)| same(blob)).map(|(id, _)| *id);
        found.unwrap_or_else(|| self.keep_blob(None, mode.as_bytes().to_vec()))
    }
}
