//! Random lives of resources; what must always be so is checked as they go, in `setup`.

use proptest::prelude::*;
use proptest::sample::Index;
use virgld_protocol::ids::{FileId, ResourceId};

use crate::setup::{Desk, Grant, PAGE};

#[derive(Debug, Clone)]
enum Step {
    Create { owner: u64, pages: u64, shareable: bool },
    Isolate(Index),
    Move(Index),
    Release(Index),
    Retire { owner: u64 },
    Grant(Index, Grant),
    Forget(Index),
}

fn step() -> impl Strategy<Value = Step> {
    let grant = prop_oneof![
        4 => Just(Grant::Address),
        1 => Just(Grant::NoAddress),
        1 => Just(Grant::Refusal),
    ];
    prop_oneof![
        4 => (0..3_u64, 0..4_u64, any::<bool>())
            .prop_map(|(owner, pages, shareable)| Step::Create { owner, pages, shareable }),
        2 => any::<Index>().prop_map(Step::Isolate),
        1 => any::<Index>().prop_map(Step::Move),
        3 => any::<Index>().prop_map(Step::Release),
        1 => (0..3_u64).prop_map(|owner| Step::Retire { owner }),
        4 => (any::<Index>(), grant).prop_map(|(index, grant)| Step::Grant(index, grant)),
        3 => any::<Index>().prop_map(Step::Forget),
    ]
}

/// The files of one life: a closed one is followed by a new one.
struct Files([u64; 3]);

impl Files {
    fn current(&self, owner: u64) -> FileId {
        FileId(self.0[usize::try_from(owner).unwrap()] * 3 + owner)
    }

    fn next(&mut self, owner: u64) {
        self.0[usize::try_from(owner).unwrap()] += 1;
    }
}

fn live(desk: &Desk) -> Vec<ResourceId> {
    desk.held.iter().filter(|(_, held)| !held.released).map(|(resource, _)| *resource).collect()
}

proptest! {
    #[test]
    fn nothing_is_shared_and_nothing_is_left(steps in proptest::collection::vec(step(), 1..60)) {
        let mut desk = Desk::new();
        let mut files = Files([1; 3]);
        for step in steps {
            match step {
                Step::Create { owner, pages, shareable } => {
                    desk.create(files.current(owner), pages * PAGE, shareable);
                }
                Step::Isolate(index) if !live(&desk).is_empty() => {
                    desk.isolate(*index.get(&live(&desk)));
                }
                Step::Move(index) if !live(&desk).is_empty() => {
                    desk.renew(*index.get(&live(&desk)));
                }
                Step::Release(index) if !live(&desk).is_empty() => desk.release(*index.get(&live(&desk))),
                Step::Retire { owner } => {
                    let file = files.current(owner);
                    files.next(owner);
                    for resource in live(&desk) {
                        if desk.held[&resource].owner == file {
                            desk.release(resource);
                        }
                    }
                    desk.retire(file);
                }
                Step::Grant(index, grant) if !desk.opening.is_empty() => {
                    desk.grant(index.index(desk.opening.len()), grant);
                }
                Step::Forget(index) if !desk.leaving.is_empty() => {
                    desk.forget(index.index(desk.leaving.len()));
                }
                _ => {}
            }
        }
        // Everything that is still asked for comes, and goes again.
        while !desk.opening.is_empty() || !desk.leaving.is_empty() || !live(&desk).is_empty() {
            desk.grant_all();
            for resource in live(&desk) {
                desk.release(resource);
            }
            while !desk.leaving.is_empty() {
                desk.forget(0);
            }
        }
        for owner in 0..3 {
            desk.retire(files.current(owner));
        }
        prop_assert!(desk.is_quiet());
        prop_assert!(desk.is_empty());
    }
}
