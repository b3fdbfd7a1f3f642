//! The actors, and the words that each hears.

use virgld_protocol::message::{context, ctrlq, cursorq, display, door, keeper, resource, scheme, transport};
use virgld_runtime::Words;

/// An actor, as plans know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Actor {
    /// What it is called.
    pub name: &'static str,
    /// The words that it hears.
    pub words: &'static [&'static str],
}

/// All actors that faults can strike.
pub fn actors() -> [Actor; 9] {
    fn actor<W: Words>(name: &'static str) -> Actor {
        Actor { name, words: W::WORDS }
    }
    [
        actor::<door::Message>("door"),
        actor::<scheme::Message>("scheme"),
        actor::<context::Message>("context"),
        actor::<resource::Message>("resource"),
        actor::<display::Message>("display"),
        actor::<ctrlq::Message>("control queue"),
        actor::<cursorq::Message>("cursor queue"),
        actor::<transport::Message>("transport"),
        actor::<keeper::Message>("device keeper"),
    ]
}
