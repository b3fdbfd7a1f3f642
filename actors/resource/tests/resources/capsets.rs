//! Capability sets: asked for when a device comes, announced when all are known.

use virgld_protocol::errno::Errno;
use virgld_protocol::ids::Token;
use virgld_protocol::message::ctrlq::{CapsetInfo, ResourceCommand, ResourceEvent};
use virgld_protocol::message::resource::Notice;
use virgld_resource::{Effect, State};

use crate::setup::limits;

fn tell(state: &mut State, event: ResourceEvent) -> Vec<Effect> {
    let mut effects = Vec::new();
    state.control(event, &mut effects);
    effects
}

fn questions(effects: &[Effect]) -> Vec<Token> {
    let token = |effect: &Effect| match effect {
        Effect::Control(
            ResourceCommand::CapsetInfo { token, .. } | ResourceCommand::Capset { token, .. },
        ) => Some(*token),
        _ => None,
    };
    effects.iter().filter_map(token).collect()
}

fn announced(effects: &[Effect]) -> Option<Vec<u32>> {
    effects.iter().find_map(|effect| match effect {
        Effect::Scheme(Notice::DeviceUp { capsets, .. }) => {
            Some(capsets.iter().map(|capset| capset.info.id).collect())
        }
        _ => None,
    })
}

#[test]
fn a_device_without_any_is_up_at_once() {
    let mut state = State::new(limits());
    let effects = tell(&mut state, ResourceEvent::Up { features: 1, capsets: 0 });
    assert_eq!(announced(&effects), Some(vec![]));
}

#[test]
fn those_that_are_refused_or_absurd_are_left_out() {
    let mut state = State::new(limits());
    let asked = questions(&tell(&mut state, ResourceEvent::Up { features: 1, capsets: 4 }));
    assert_eq!(asked.len(), 4);
    let info = |id, max_size| Ok(CapsetInfo { id, max_version: 1, max_size });
    let results = [Err(Errno::EINVAL), info(5, 0), info(6, u32::MAX), info(2, 8)];
    let mut last = Vec::new();
    for (token, result) in asked.into_iter().zip(results) {
        last = tell(&mut state, ResourceEvent::CapsetInfo { token, result });
        assert_eq!(announced(&last), None);
    }
    let token = questions(&last)[0];
    let effects = tell(&mut state, ResourceEvent::Capset { token, result: Ok(vec![0; 8]) });
    assert_eq!(announced(&effects), Some(vec![2]));
}

/// The answers of a device that is gone say nothing of the next.
#[test]
fn late_answers_of_an_earlier_device_are_ignored() {
    let mut state = State::new(limits());
    let old = questions(&tell(&mut state, ResourceEvent::Up { features: 1, capsets: 1 }));
    tell(&mut state, ResourceEvent::Down);
    tell(&mut state, ResourceEvent::Up { features: 1, capsets: 1 });
    let result = Ok(CapsetInfo { id: 1, max_version: 1, max_size: 8 });
    assert!(tell(&mut state, ResourceEvent::CapsetInfo { token: old[0], result }).is_empty());
}
