//! Faults on purpose, at the boundary of every actor.
//!
//! The stage strikes, so no actor has code for it, and without rules it does not even look at what words are called.

use std::cell::Cell;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Where in an actor's step a fault strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Point {
    /// The word has come and is not handled.
    Before,
    /// The actor is in the middle of its step: what it has decided has not been carried out.
    Within,
    /// It is handled, and nothing of what follows has been sent.
    After,
    /// All that follows has been sent.
    Effect,
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrong {
    /// The actor panics.
    Panic,
    /// The actor does not return.
    Hang,
    /// The word, or what follows from it, comes so much later, and all behind it too.
    Delay(Duration),
    /// The word, or what follows from it, gets lost.
    Drop,
    /// The word comes twice.
    Duplicate,
    /// The word comes after the next one, or what follows from it comes the other way round.
    Reorder,
    /// A word that says success says failure.
    Corrupt,
    /// A request becomes one that is refused.
    Refuse,
}

impl Wrong {
    /// Whether it can happen at this point.
    pub fn strikes_at(self, point: Point) -> bool {
        match self {
            Self::Panic => true,
            Self::Hang => point != Point::Within,
            Self::Delay(_) | Self::Drop | Self::Reorder => matches!(point, Point::Before | Point::After),
            Self::Duplicate | Self::Corrupt | Self::Refuse => point == Point::Before,
        }
    }
}

/// Which of the words that a rule is about it strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// The one with this number, from 1 on.
    Nth(u64),
    /// Each of which the number is a multiple of this.
    Every(u64),
    /// Each with so much in a million.
    Chance(u32),
}

/// One fault of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The actor's name.
    pub actor: String,
    /// The word's name, or its beginning up to a dot; any word if there is none.
    pub word: Option<String>,
    /// Where.
    pub point: Point,
    /// What.
    pub wrong: Wrong,
    /// Which.
    pub when: When,
    /// How often at most.
    pub times: u64,
}

/// A rule and what came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// The rule.
    pub rule: Rule,
    /// Words that it was about.
    pub seen: u64,
    /// How often it struck.
    pub struck: u64,
    /// How often it should have, and the word did not allow it.
    pub impossible: u64,
}

impl Account {
    fn is_about(&self, actor: &str, word: &str) -> bool {
        let begins = |wanted: &String| {
            word.strip_prefix(wanted.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        self.rule.actor == actor && self.rule.word.as_ref().is_none_or(begins)
    }

    /// Counts a word that it is about. Says whether it strikes.
    fn strikes(&mut self, chance: impl FnOnce() -> u64) -> bool {
        self.seen += 1;
        let due = match self.rule.when {
            When::Nth(number) => self.seen == number,
            When::Every(number) => self.seen.is_multiple_of(number),
            When::Chance(millionths) => chance() % 1_000_000 < u64::from(millionths),
        };
        let strikes = due && self.struck < self.rule.times;
        self.struck += u64::from(strikes);
        strikes
    }
}

/// What is to go wrong with one word.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Strikes {
    pub(crate) before: Option<(usize, Wrong)>,
    /// A panic is the only one.
    pub(crate) within: Option<usize>,
    pub(crate) after: Option<Wrong>,
    pub(crate) effect: Option<Wrong>,
}

/// The rules in force.
#[derive(Default)]
pub(crate) struct Book {
    accounts: Vec<Account>,
    random: u64,
}

impl Book {
    /// What is to go wrong with this word: of several rules for one point the first.
    pub(crate) fn strike(&mut self, actor: &str, word: &str) -> Strikes {
        let mut strikes = Strikes::default();
        for (index, account) in self.accounts.iter_mut().enumerate() {
            if !account.is_about(actor, word) || !account.strikes(|| number(&mut self.random)) {
                continue;
            }
            let wrong = account.rule.wrong;
            match account.rule.point {
                Point::Before => strikes.before = strikes.before.or(Some((index, wrong))),
                Point::Within => strikes.within = strikes.within.or(Some(index)),
                Point::After => strikes.after = strikes.after.or(Some(wrong)),
                Point::Effect => strikes.effect = strikes.effect.or(Some(wrong)),
            }
        }
        strikes
    }

    /// The word did not allow what a rule wanted.
    pub(crate) fn impossible(&mut self, index: usize) {
        if let Some(account) = self.accounts.get_mut(index) {
            account.impossible += 1;
            account.struck -= 1;
        }
    }
}

/// SplitMix64.
fn number(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

thread_local! {
    /// The word at which the step under way is to break off.
    static BREAKS_OFF: Cell<Option<&'static str>> = const { Cell::new(None) };
}

/// The step that this thread is about to make is to break off in its middle.
pub(crate) fn break_off(word: &'static str) {
    BREAKS_OFF.set(Some(word));
}

/// It is not to any more. Says whether it still was.
pub(crate) fn go_through() -> bool {
    BREAKS_OFF.take().is_some()
}

/// The middle of a step: its actor has decided what is to be done, and done nothing of it. Whoever decides nothing, and does
/// at once what a message wants, says so itself.
pub fn midst() {
    if let Some(word) = BREAKS_OFF.take() {
        // Past the hook of panics: nothing is wrong with the program.
        resume_unwind(Box::new(format!("injected, in the middle of {word}")));
    }
}

/// What it is for an actor of this stage to hang.
pub type Hang = Box<dyn Fn() + Send + Sync>;

/// What a stage and those who inject faults into it share.
pub(crate) struct Faults {
    armed: AtomicBool,
    book: Mutex<Book>,
    hang: Mutex<Option<Arc<Hang>>>,
}

impl Faults {
    pub(crate) fn new() -> Self {
        Self { armed: AtomicBool::new(false), book: Mutex::default(), hang: Mutex::new(None) }
    }

    /// Whether there are any rules.
    pub(crate) fn armed(&self) -> bool {
        // Relaxed: rules take effect soon, not at an instant.
        self.armed.load(Ordering::Relaxed)
    }

    pub(crate) fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hangs as this stage does; where it only plays at that, this returns.
    pub(crate) fn hang(&self) {
        let hang = self.hang.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(hang) = hang {
            hang();
        }
    }
}

/// The authority to make things go wrong on one stage.
#[derive(Clone)]
pub struct Injector {
    faults: Arc<Faults>,
}

impl Injector {
    pub(crate) fn new(faults: Arc<Faults>) -> Self {
        Self { faults }
    }

    /// Puts rules in force, beside those that are. Chances are decided by `seed` from now on.
    pub fn inject(&self, seed: u64, rules: Vec<Rule>) {
        let mut book = self.faults.book();
        book.random = seed;
        book.accounts.extend(rules.into_iter().map(|rule| Account {
            rule,
            seen: 0,
            struck: 0,
            impossible: 0,
        }));
        self.faults.armed.store(!book.accounts.is_empty(), Ordering::Relaxed);
    }

    /// Takes all rules out of force.
    pub fn clear(&self) {
        self.faults.book().accounts.clear();
        self.faults.armed.store(false, Ordering::Relaxed);
    }

    /// The rules in force, and what came of them.
    pub fn accounts(&self) -> Vec<Account> {
        self.faults.book().accounts.clone()
    }

    /// Says what it is for an actor to hang: not to return. Without it, or if it does return, a stage only plays at it:
    /// the actor dies.
    pub fn hang_by(&self, hang: Hang) {
        *self.faults.hang.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(hang));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn book(when: When, times: u64, word: Option<&str>) -> Book {
        let rule = Rule {
            actor: "a".into(),
            word: word.map(Into::into),
            point: Point::Before,
            wrong: Wrong::Drop,
            when,
            times,
        };
        Book { accounts: vec![Account { rule, seen: 0, struck: 0, impossible: 0 }], random: 1 }
    }

    fn struck(mut book: Book) -> Vec<u64> {
        (1..13).filter(|_| book.strike("a", "W.x").before.is_some()).collect()
    }

    #[test]
    fn rules_strike_what_they_say_and_no_oftener() {
        assert_eq!(struck(book(When::Nth(3), 9, None)), [3]);
        assert_eq!(struck(book(When::Every(4), 2, None)), [4, 8]);
        assert_eq!(struck(book(When::Chance(1_000_000), 2, None)), [1, 2]);
        assert!(struck(book(When::Chance(0), 2, None)).is_empty());
    }

    #[test]
    fn a_word_is_named_whole_or_up_to_a_dot() {
        for (wanted, hits) in [("W", 1), ("W.x", 1), ("W.", 0), ("W.xy", 0), ("x", 0)] {
            assert_eq!(struck(book(When::Nth(1), 1, Some(wanted))).len(), hits, "{wanted}");
        }
        assert!(book(When::Nth(1), 1, None).strike("b", "W.x").before.is_none());
    }

    #[test]
    fn the_same_seed_strikes_the_same_words() {
        let runs = [(); 2].map(|()| struck(book(When::Chance(300_000), 99, None)));
        assert_eq!(runs[0], runs[1]);
        assert!((1..12).contains(&runs[0].len()), "{runs:?}");
    }
}
