//! The capability sets of the host renderer: asked for once, when a device comes up.

use std::collections::HashMap;

use virgld_protocol::errno::Errno;
use virgld_protocol::ids::Token;
use virgld_protocol::message::ctrlq::{CapsetInfo, ResourceCommand};
use virgld_protocol::message::resource::{Capset, Notice};

use crate::state::Effect;

/// No capability set is anywhere near as large; a device that claims so is not believed.
const LARGEST: u32 = 64 * 1024;
/// Nor are there so many.
const MOST: u32 = 64;

/// The questions under way, and the answers so far.
#[derive(Default)]
pub(crate) struct Capsets {
    features: u64,
    next: u64,
    asked: HashMap<Token, Option<CapsetInfo>>,
    known: Vec<Capset>,
}

impl Capsets {
    /// Asks a device that has `count` of them.
    pub(crate) fn ask(&mut self, features: u64, count: u32, effects: &mut Vec<Effect>) {
        self.features = features;
        self.asked.clear();
        self.known.clear();
        for index in 0..count.min(MOST) {
            let token = self.question(None);
            effects.push(Effect::Control(ResourceCommand::CapsetInfo { token, index }));
        }
        self.announce_if_complete(effects);
    }

    /// A capability set's description came.
    pub(crate) fn info(
        &mut self,
        token: Token,
        result: Result<CapsetInfo, Errno>,
        effects: &mut Vec<Effect>,
    ) {
        if self.asked.remove(&token).is_none() {
            return;
        }
        // A device may count a set and then not have it (rust-vmm's does); it is left out.
        if let Ok(info) = result
            && info.max_size > 0
            && info.max_size <= LARGEST
        {
            let token = self.question(Some(info));
            let (id, version, size) = (info.id, info.max_version, info.max_size);
            effects.push(Effect::Control(ResourceCommand::Capset { token, id, version, size }));
        }
        self.announce_if_complete(effects);
    }

    /// A capability set's contents came.
    pub(crate) fn contents(
        &mut self,
        token: Token,
        result: Result<Vec<u8>, Errno>,
        effects: &mut Vec<Effect>,
    ) {
        if let (Some(Some(info)), Ok(bytes)) = (self.asked.remove(&token), result) {
            self.known.push(Capset { info, bytes: bytes.into() });
        }
        self.announce_if_complete(effects);
    }

    /// The device that was asked is lost.
    pub(crate) fn forget(&mut self) {
        self.asked.clear();
    }

    fn question(&mut self, about: Option<CapsetInfo>) -> Token {
        self.next += 1;
        self.asked.insert(Token(self.next), about);
        Token(self.next)
    }

    fn announce_if_complete(&mut self, effects: &mut Vec<Effect>) {
        if self.asked.is_empty() {
            let capsets = std::mem::take(&mut self.known);
            effects.push(Effect::Scheme(Notice::DeviceUp { features: self.features, capsets }));
        }
    }
}
