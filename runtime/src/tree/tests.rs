use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::{ProptestConfig, any, prop_assert, prop_assert_eq, proptest};
use proptest::strategy::Strategy as Generator;

use super::*;

const ONE: Strategy = Strategy::OneForOne;
const REST: Strategy = Strategy::RestForOne;

fn intensity(restarts: usize) -> Intensity {
    Intensity { restarts, period: Duration::from_nanos(10) }
}

/// `daemon` with 1, `device` with 2, 3 and 4, then 5, and `contexts` with 8 and 9, which are temporary.
fn tree(daemon: (Strategy, usize), device: (Strategy, usize)) -> Tree<u32> {
    let mut tree = Tree::new();
    let top = tree.supervisor(None, "daemon", daemon.0, intensity(daemon.1));
    tree.worker(top, 1, "one", Lifetime::Permanent);
    let below = tree.supervisor(Some(top), "device", device.0, intensity(device.1));
    for worker in 2..=4 {
        tree.worker(below, worker, "some", Lifetime::Permanent);
    }
    tree.worker(top, 5, "five", Lifetime::Permanent);
    let contexts = tree.supervisor(Some(top), "contexts", ONE, intensity(0));
    for worker in 8..=9 {
        tree.worker(contexts, worker, "context", Lifetime::Temporary);
    }
    tree
}

fn restart(stop: &[u32], start: &[u32], escalated: bool) -> Verdict<u32> {
    Verdict::Restart { stop: stop.into(), start: start.into(), escalated }
}

#[test]
fn one_for_one_starts_anew_whoever_died_and_nobody_else() {
    let mut tree = tree((ONE, 9), (ONE, 9));
    for worker in 1..=5 {
        assert_eq!(tree.died(Time(0), worker), restart(&[], &[worker], false));
    }
}

#[test]
fn rest_for_one_starts_anew_those_who_were_started_later_too() {
    let mut tree = tree((ONE, 0), (REST, 9));
    assert_eq!(tree.died(Time(0), 2), restart(&[4, 3], &[2, 3, 4], false));
    assert_eq!(tree.died(Time(0), 3), restart(&[4], &[3, 4], false));
    assert_eq!(tree.died(Time(0), 4), restart(&[], &[4], false));
}

#[test]
fn rest_for_one_goes_down_into_what_was_started_later_and_ends_what_is_temporary_there() {
    let mut tree = tree((REST, 9), (ONE, 9));
    assert_eq!(tree.died(Time(0), 1), restart(&[9, 8, 5, 4, 3, 2], &[1, 2, 3, 4, 5], false));
    assert_eq!(tree.died(Time(0), 1), restart(&[5, 4, 3, 2], &[1, 2, 3, 4, 5], false));
    assert_eq!(tree.died(Time(0), 8), Verdict::Gone, "it has ended already");
}

#[test]
fn one_too_many_is_passed_on_and_the_supervisor_begins_anew_with_all_its_children() {
    let mut tree = tree((ONE, 1), (REST, 2));
    assert_eq!(tree.died(Time(0), 4), restart(&[], &[4], false));
    assert_eq!(tree.died(Time(1), 4), restart(&[], &[4], false));
    assert_eq!(tree.died(Time(2), 3), restart(&[4, 2], &[2, 3, 4], true), "not 1 and 5: one for one");
    // It has begun anew, so it counts anew.
    assert_eq!(tree.died(Time(3), 4), restart(&[], &[4], false));
    assert_eq!(tree.died(Time(4), 4), restart(&[], &[4], false));
    let limits =
        "more than 2 restarts within 10ns under device, more than 1 restarts within 10ns under daemon";
    let end = Verdict::End { stop: vec![3, 2, 9, 8, 5, 1], limits: limits.into() };
    assert_eq!(tree.died(Time(5), 4), end);
}

#[test]
fn what_was_long_ago_does_not_count() {
    let mut tree = tree((ONE, 0), (ONE, 1));
    for time in 0..5 {
        assert_eq!(tree.died(Time(time * 10), 3), restart(&[], &[3], false));
    }
    assert!(
        matches!(tree.died(Time(49), 2), Verdict::End { .. }),
        "it counts for its supervisor, whoever died"
    );
}

#[test]
fn the_death_of_a_temporary_child_is_nobody_elses_matter() {
    let mut tree = tree((REST, 0), (REST, 0));
    assert_eq!(tree.died(Time(0), 8), Verdict::Gone);
    let contexts = tree.report().pop().map(|it| (it.name, it.temporary, it.restarts));
    assert_eq!(contexts, Some(("contexts", 1, 0)));
}

#[test]
fn the_report_says_who_is_below_whom_and_how_often_who_was_started_anew() {
    let mut tree = tree((ONE, 1), (REST, 1));
    for worker in [2, 3] {
        tree.died(Time(0), worker);
    }
    let report = tree.report();
    let lines: Vec<_> = report.iter().map(|it| (it.name, it.depth, it.restarts, it.children.len())).collect();
    assert_eq!(lines, [("daemon", 0, 1, 2), ("device", 1, 1, 3), ("contexts", 1, 0, 0)]);
    let restarts: Vec<u64> =
        report.iter().flat_map(|it| &it.children).map(|(_, restarts)| *restarts).collect();
    assert_eq!(restarts, [0, 0, 2, 2, 2]);
}

/// A tree by what it is made of: for each supervisor but the first the one above it, its strategy and intensity; for each
/// worker whose child it is, and whether it is permanent.
#[derive(Debug, Clone)]
struct Plan {
    supervisors: Vec<(usize, bool, usize)>,
    workers: Vec<(usize, bool)>,
    deaths: Vec<(u64, usize)>,
}

fn plans() -> impl Generator<Value = Plan> {
    let supervisors = proptest::collection::vec((any::<usize>(), any::<bool>(), 0..4_usize), 1..6);
    let workers = proptest::collection::vec((any::<usize>(), proptest::bool::weighted(0.8)), 1..10);
    let deaths = proptest::collection::vec((0..6_u64, any::<usize>()), 1..60);
    (supervisors, workers, deaths).prop_map(|(supervisors, workers, deaths)| Plan {
        supervisors,
        workers,
        deaths,
    })
}

impl Plan {
    /// The tree, in which supervisors and workers are mixed as children.
    fn tree(&self) -> Tree<usize> {
        let mut tree = Tree::new();
        let mut workers = self.workers.iter().enumerate();
        for (number, (parent, rest, restarts)) in self.supervisors.iter().enumerate() {
            let parent = (number > 0).then(|| parent % number.max(1));
            let strategy = if *rest { REST } else { ONE };
            tree.supervisor(parent.map(SupervisorId), "s", strategy, intensity(*restarts));
            for (worker, (under, permanent)) in workers.by_ref().take(2) {
                let lifetime = if *permanent { Lifetime::Permanent } else { Lifetime::Temporary };
                tree.worker(SupervisorId(under % (number + 1)), worker, "w", lifetime);
            }
        }
        tree
    }
}

/// All workers in the order in which they were started, and each one's supervisors from below.
fn order(tree: &Tree<usize>) -> Vec<(usize, bool, Vec<usize>)> {
    fn walk(tree: &Tree<usize>, id: usize, path: &[usize], into: &mut Vec<(usize, bool, Vec<usize>)>) {
        let path = [&[id], path].concat();
        for child in &tree.supervisors[id].children {
            match child {
                Child::Worker { worker, lifetime, .. } => {
                    into.push((*worker, *lifetime == Lifetime::Permanent, path.clone()));
                }
                Child::Supervisor(below) => walk(tree, below.0, &path, into),
            }
        }
    }
    let mut all = Vec::new();
    walk(tree, 0, &[], &mut all);
    all
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 8 } else { 256 }, failure_persistence: None, ..ProptestConfig::default() })]

    /// What OTP promises, said without the way in which it is found out.
    #[test]
    fn a_sequence_of_deaths_leads_to_what_otp_says(plan in plans()) {
        let mut tree = plan.tree();
        // When each supervisor restarted something, since it was begun anew itself.
        let mut history: BTreeMap<usize, Vec<u64>> = BTreeMap::new();
        let mut now = 0;
        for (later, victim) in &plan.deaths {
            now += later;
            let all = order(&tree);
            if all.is_empty() {
                return Ok(());
            }
            let (worker, permanent, path) = all[victim % all.len()].clone();
            let verdict = tree.died(Time(now), worker);
            if !permanent {
                prop_assert_eq!(verdict, Verdict::Gone);
                prop_assert!(!tree.whose.contains_key(&worker));
                continue;
            }
            let of_late = |id: &usize| {
                history.get(id).map_or(0, |times| times.iter().filter(|time| now - **time < 10).count())
            };
            // The first from below that has not done so too often decides.
            let Some(by) = path.iter().find(|id| of_late(id) < plan.supervisors[**id].2).copied() else {
                let Verdict::End { stop, .. } = verdict else { panic!("it went on: {verdict:?}") };
                let mut ended: Vec<usize> = stop.into_iter().chain([worker]).collect();
                ended.sort_unstable();
                let mut everybody: Vec<usize> = all.iter().map(|it| it.0).collect();
                everybody.sort_unstable();
                prop_assert_eq!(ended, everybody);
                return Ok(());
            };
            let Verdict::Restart { stop, start, escalated } = verdict else { panic!("it ended: {verdict:?}") };
            prop_assert_eq!(escalated, by != path[0]);
            // Below the one that decided, all that the failed child has; and what was started later if it is rest for one.
            let failed = path.iter().position(|id| *id == by).and_then(|at| at.checked_sub(1)).map(|at| path[at]);
            let is_failed = |it: &(usize, bool, Vec<usize>)| match failed {
                Some(supervisor) => it.2.contains(&supervisor),
                None => it.0 == worker,
            };
            let first = all.iter().position(is_failed).expect("it is there");
            let rest = plan.supervisors[by].1;
            let affected = |(index, it): &(usize, &(usize, bool, Vec<usize>))| {
                is_failed(it) || rest && *index > first && it.2.contains(&by)
            };
            let affected: Vec<_> = all.iter().enumerate().filter(affected).map(|(_, it)| it).collect();
            let expected: Vec<usize> = affected.iter().filter(|it| it.1).map(|it| it.0).collect();
            prop_assert_eq!(&start, &expected, "in the order in which they were started");
            let mut stopped = stop.clone();
            stopped.sort_unstable();
            let mut others: Vec<usize> = affected.iter().map(|it| it.0).filter(|it| *it != worker).collect();
            others.sort_unstable();
            prop_assert_eq!(stopped, others, "each is stopped once");
            if !escalated {
                let backwards: Vec<usize> = affected.iter().rev().map(|it| it.0).filter(|it| *it != worker).collect();
                prop_assert_eq!(stop, backwards, "the last of them first");
            }
            history.entry(by).or_default().push(now);
            // Supervisors that were begun anew have done nothing yet.
            for id in affected.iter().flat_map(|it| it.2.iter().take_while(|id| **id != by)) {
                history.remove(id);
            }
        }
    }
}
