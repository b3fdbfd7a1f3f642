//! From the scheme's answer to the bytes in a slot.

use std::os::fd::AsFd;

use rustix::io::Errno as SystemErrno;
use virgld_protocol::channel::{ANSWER_BYTES, Answer};
use virgld_protocol::client::{Direction, MAX_ARRAYS, Reply, layout_of};
use virgld_protocol::errno::Errno;
use virgld_protocol::ids::Token;
use virgld_protocol::message::door::Attach;
use virgld_runtime::Fault;
use zerocopy::IntoBytes;

use super::actor::Door;
use super::attach::Given;
use super::token;

impl Door {
    /// Answers a call; nothing happens if its caller is gone.
    pub(super) fn answer(
        &mut self,
        token: Token,
        result: Result<Reply, Errno>,
        attach: Option<Attach>,
    ) -> Result<(), Fault> {
        // Made also for a caller who is gone: that nobody has an object any more is known by the end of its last descriptor,
        // and one of which there never was any would be kept for ever.
        let given = match attach {
            Some(attach) => self.give(attach)?.map(Some),
            None => Ok(None),
        };
        self.put(token, result, given);
        Ok(())
    }

    fn put(&mut self, token: Token, result: Result<Reply, Errno>, given: Result<Option<Given>, Errno>) {
        let (id, slot) = token::slot_of(token);
        let Some(channel) = self.channels.get_mut(&id) else { return };
        let Some(pending) = channel.ring.take_pending(slot) else { return };
        let outcome = result.and_then(|reply| {
            let given = given?;
            let mapped = given.as_ref().and_then(|given| given.mapped);
            Ok((head_of(pending.ioctl, &reply)?, reply, given, mapped))
        });
        let Some(channel) = self.channels.get(&id) else { return };
        match outcome {
            Err(errno) => {
                channel.ring.answer(slot, Err(errno), 0);
                // Its caller will never have it.
                if let Some(fence) = pending.fence_out {
                    self.fences.signal(fence, Err(errno));
                }
            }
            Ok((head, reply, given, mapped)) => {
                if let Some(given) = &given
                    && let Err(error) = channel.pass(pending.serial, &[given.as_fd()])
                {
                    return channel.ring.answer(slot, Err(errno_of(error)), 0);
                }
                // No ioctl has more arrays, and the head was made for as many as there are.
                let mut parts: [&[u8]; 3 + MAX_ARRAYS] = [&[]; _];
                parts[0] = head.as_ref().map_or(&[], IntoBytes::as_bytes);
                parts[1] = mapped.as_ref().map_or(&[], IntoBytes::as_bytes);
                parts[2] = &reply.fixed;
                parts[3..].iter_mut().zip(&reply.arrays).for_each(|(part, array)| *part = array);
                channel.ring.answer(slot, Ok(&parts), u32::from(given.is_some()));
            }
        }
    }
}

/// What goes before the answer to an ioctl; nothing before that to a service. An answer that does not fit its
/// table, or its room, is the daemon's own error.
fn head_of(ioctl: Option<u8>, reply: &Reply) -> Result<Option<Answer>, Errno> {
    let Some(layout) = ioctl.and_then(layout_of) else { return Ok(None) };
    let size = |bytes: &[u8]| u32::try_from(bytes.len()).map_err(|_| Errno::EIO);
    let mut head = Answer { fixed: size(&reply.fixed)?, ..Answer::default() };
    if !reply.fixed.is_empty() && reply.fixed.len() != layout.wire {
        return Err(Errno::EIO);
    }
    let outgoing = layout.arrays.iter().zip(&mut head.arrays);
    let outgoing = outgoing.filter(|(array, _)| array.direction == Direction::Out);
    let mut arrays = reply.arrays.iter();
    for ((_, length), array) in outgoing.zip(arrays.by_ref()) {
        *length = size(array)?;
    }
    let total =
        reply.arrays.iter().fold(size_of::<Answer>() + reply.fixed.len(), |sum, array| sum + array.len());
    if arrays.next().is_some() || total > ANSWER_BYTES { Err(Errno::EIO) } else { Ok(Some(head)) }
}

/// A system error as clients are told it.
pub(super) fn errno_of(error: SystemErrno) -> Errno {
    Errno(error.raw_os_error())
}

#[cfg(test)]
mod tests {
    use virgld_protocol::message::scheme::SyncobjKey;

    use super::super::tests_support::Alone;
    use super::*;

    #[test]
    fn what_is_made_for_a_caller_who_is_gone_is_noticed_to_be_nobodys() {
        let mut alone = Alone::new();
        let key = SyncobjKey(7);
        let nobody = token::of_slot(99, 0);
        alone.door.answer(nobody, Ok(Reply::empty()), Some(Attach::Syncobj(key))).unwrap();
        assert!(alone.door.exports.has_syncobj(key));
        // Its end is heard of like that of any other.
        assert_eq!(alone.reactor.wait(Some(std::time::Duration::ZERO), || ()), Ok(1));
        assert!(alone.door.exports.reap_syncobj(key) && !alone.door.exports.has_syncobj(key));
    }

    #[test]
    fn heads_count_outgoing_arrays_by_their_index() {
        let query = Reply { fixed: Vec::new(), arrays: vec![vec![0; 24]] };
        assert_eq!(head_of(Some(0xcb), &query), Ok(Some(Answer { fixed: 0, arrays: [0, 24, 0, 0] })));
        assert_eq!(head_of(None, &query), Ok(None));
    }

    #[test]
    fn answers_that_do_not_fit_are_errors() {
        assert_eq!(head_of(Some(9), &Reply::empty().with(vec![1])), Err(Errno::EIO), "one array too many");
        assert_eq!(head_of(Some(9), &Reply { fixed: vec![0; 7], arrays: vec![] }), Err(Errno::EIO));
        assert_eq!(head_of(Some(0x49), &Reply::empty().with(vec![0; ANSWER_BYTES])), Err(Errno::EIO));
    }
}
