//! Mode setting: calls on their way to the display and back.
//!
//! Here the client's numbers become what they stand for (handles become buffers that the file may put on a screen)
//! and the display's answers become bytes. What is on the screens, and who may change it, is the display's matter.

use virgld_protocol::errno::{Errno, Refusal};
use virgld_protocol::ids::{FileId, Token};
use virgld_protocol::message::display::{Answer, Notice};

use crate::state::{Effect, State, answer};

/// A call that the display has.
pub(crate) struct Showing {
    pub(crate) file: FileId,
    token: Option<Token>,
}

impl State {
    /// Takes what the display tells.
    pub fn display(&mut self, notice: Notice, effects: &mut Vec<Effect>) {
        match notice {
            Notice::Answered { token, result } => self.show_answer(token, result, effects),
            Notice::Event { .. } => {}
            Notice::Await { gate, resource } => self.await_work(gate, resource, effects),
            Notice::Held { resource } => {
                if let Some(buffer) = self.buffers.get_mut(&resource) {
                    buffer.framebuffers += 1;
                }
            }
            Notice::Let { resource } => {
                if let Some(buffer) = self.buffers.get_mut(&resource) {
                    buffer.framebuffers -= 1;
                }
                self.release_if_unnamed(resource, effects);
            }
        }
    }

    fn show_answer(&mut self, token: Token, result: Result<Answer, Refusal>, effects: &mut Vec<Effect>) {
        let Some(Showing { token, .. }) = self.shown.remove(&token) else { return };
        let _ = result;
        answer(token, Err(Refusal::new(Errno::EOPNOTSUPP, "")), effects);
    }
}
