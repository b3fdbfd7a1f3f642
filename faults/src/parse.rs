//! Reading a plan.

use std::ops::Range;
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;
use virgld_runtime::fault::{Point, Rule, When, Wrong};

use crate::{DeviceRule, DeviceWrong, Plan, actors};

/// What is wrong with a plan, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {what}")]
pub struct PlanError {
    /// From 1 on.
    pub line: usize,
    /// From 1 on.
    pub column: usize,
    /// What is wrong, and what would be right.
    pub what: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPlan {
    #[serde(default)]
    seed: u64,
    #[serde(default)]
    fault: Vec<Spanned<RawFault>>,
    #[serde(default)]
    device: Vec<Spanned<RawDevice>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFault {
    actor: Spanned<String>,
    message: Option<Spanned<String>>,
    point: Option<Spanned<String>>,
    r#do: Spanned<String>,
    delay_ms: Option<Spanned<u64>>,
    nth: Option<Spanned<u64>>,
    every: Option<Spanned<u64>>,
    probability: Option<Spanned<f64>>,
    times: Option<Spanned<u64>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawDevice {
    r#do: Spanned<String>,
    delay_ms: Option<Spanned<u64>>,
    nth: Option<Spanned<u64>>,
    every: Option<Spanned<u64>>,
    probability: Option<Spanned<f64>>,
    after_ms: Option<Spanned<u64>>,
    times: Option<Spanned<u64>>,
}

/// Something wrong with these bytes of the text.
struct Offence {
    at: Range<usize>,
    what: String,
}

type Parsed<T> = Result<T, Offence>;

impl Plan {
    /// Reads a plan for a device that can do all faults: the simulated one.
    pub fn parse(text: &str) -> Result<Self, PlanError> {
        Self::parse_for(text, |_| true)
    }

    /// Reads a plan for a device process: of its faults there are those that a signal makes, and by time.
    pub fn parse_for_process(text: &str) -> Result<Self, PlanError> {
        Self::parse_for(text, |rule| rule.wrong.is_real() && rule.after.is_some())
    }

    fn parse_for(text: &str, possible: fn(&DeviceRule) -> bool) -> Result<Self, PlanError> {
        let raw: RawPlan = toml::from_str(text).map_err(|error| {
            let at = error.span().unwrap_or(0..0);
            located(text, &Offence { at, what: error.message().to_owned() })
        })?;
        raw.refine(possible).map_err(|offence| located(text, &offence))
    }
}

fn located(text: &str, offence: &Offence) -> PlanError {
    let before = text.get(..offence.at.start).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
    PlanError { line, column, what: offence.what.clone() }
}

impl RawPlan {
    fn refine(self, possible: fn(&DeviceRule) -> bool) -> Parsed<Plan> {
        let faults = self.fault.into_iter().map(refine_fault).collect::<Parsed<_>>()?;
        let device =
            self.device.into_iter().map(|raw| refine_device(raw, possible)).collect::<Parsed<_>>()?;
        Ok(Plan { seed: self.seed, faults, device })
    }
}

fn refine_fault(raw: Spanned<RawFault>) -> Parsed<Rule> {
    let whole = raw.span();
    let raw = raw.into_inner();
    let known = actors();
    let Some(actor) = known.iter().find(|it| it.name == raw.actor.get_ref()) else {
        return Err(unknown("actor", &raw.actor, known.iter().map(|it| it.name)));
    };
    let point = match &raw.point {
        None => Point::Before,
        Some(point) => one_of("point", point, &POINTS)?,
    };
    let wrong = match one_of("fault", &raw.r#do, &WRONGS)? {
        Wrong::Delay(_) => Wrong::Delay(delay(raw.delay_ms.as_ref(), &raw.r#do)?),
        wrong => refuse_delay(raw.delay_ms.as_ref(), wrong)?,
    };
    if !wrong.strikes_at(point) {
        let what = format!("`{}` cannot happen at this point; `before` always can", raw.r#do.get_ref());
        let at = raw.point.as_ref().map_or(whole, Spanned::span);
        return Err(Offence { at, what });
    }
    if let Some(message) = &raw.message
        && !actor.words.iter().any(|word| begins(word, message.get_ref()))
    {
        return Err(unknown(&format!("message of {}", actor.name), message, actor.words.iter().copied()));
    }
    let when = when(raw.nth.as_ref(), raw.every.as_ref(), raw.probability.as_ref())?.unwrap_or(When::Nth(1));
    let times = times(raw.times.as_ref(), when)?;
    let word = raw.message.map(Spanned::into_inner);
    Ok(Rule { actor: actor.name.into(), word, point, wrong, when, times })
}

fn refine_device(raw: Spanned<RawDevice>, possible: fn(&DeviceRule) -> bool) -> Parsed<DeviceRule> {
    let raw = raw.into_inner();
    let wrong = match one_of("fault of the device", &raw.r#do, &DeviceWrong::ALL)? {
        DeviceWrong::LateResponse(_) => DeviceWrong::LateResponse(delay(raw.delay_ms.as_ref(), &raw.r#do)?),
        wrong => refuse_delay(raw.delay_ms.as_ref(), wrong)?,
    };
    let when = when(raw.nth.as_ref(), raw.every.as_ref(), raw.probability.as_ref())?;
    let after = raw.after_ms.as_ref().map(|after| Duration::from_millis(*after.get_ref()));
    let when = match (when, after) {
        (Some(_), Some(_)) => {
            let at = raw.after_ms.as_ref().map_or(0..0, Spanned::span);
            let what = "a fault of the device goes by time or by commands, not by both".into();
            return Err(Offence { at, what });
        }
        (None, None) => Some(When::Nth(1)),
        (when, _) => when,
    };
    let times = times(raw.times.as_ref(), when.unwrap_or(When::Nth(1)))?;
    let rule = DeviceRule { wrong, when, after, times };
    if !possible(&rule) {
        let what = format!(
            "the fault `{}` is for the simulated device: to a device process only `death` and `stall` can be done, and \
             by time, with `after_ms`",
            raw.r#do.get_ref()
        );
        return Err(Offence { at: raw.r#do.span(), what });
    }
    Ok(rule)
}

/// Whether a word is the one named, or one of those whose names begin so.
fn begins(word: &str, name: &str) -> bool {
    word.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

fn unknown<'a>(kind: &str, name: &Spanned<String>, known: impl Iterator<Item = &'a str>) -> Offence {
    let known: Vec<&str> = known.collect();
    let what = format!("there is no {kind} `{}`; there are {}", name.get_ref(), known.join(", "));
    Offence { at: name.span(), what }
}

fn one_of<T: Copy>(kind: &str, name: &Spanned<String>, all: &[(&'static str, T)]) -> Parsed<T> {
    let found = all.iter().find(|(known, _)| known == name.get_ref());
    found.map(|(_, it)| *it).ok_or_else(|| unknown(kind, name, all.iter().map(|(known, _)| *known)))
}

fn delay(delay: Option<&Spanned<u64>>, of: &Spanned<String>) -> Parsed<Duration> {
    let missing = || Offence { at: of.span(), what: format!("`{}` needs `delay_ms`", of.get_ref()) };
    delay.map(|it| Duration::from_millis(*it.get_ref())).ok_or_else(missing)
}

fn refuse_delay<T>(delay: Option<&Spanned<u64>>, wrong: T) -> Parsed<T> {
    match delay {
        None => Ok(wrong),
        Some(delay) => Err(Offence { at: delay.span(), what: "this fault takes no time".into() }),
    }
}

fn when(
    nth: Option<&Spanned<u64>>,
    every: Option<&Spanned<u64>>,
    probability: Option<&Spanned<f64>>,
) -> Parsed<Option<When>> {
    let whole = |number: &Spanned<u64>| match *number.get_ref() {
        0 => Err(Offence { at: number.span(), what: "counting begins at 1".into() }),
        number => Ok(number),
    };
    match (nth, every, probability) {
        (None, None, None) => Ok(None),
        (Some(nth), None, None) => Ok(Some(When::Nth(whole(nth)?))),
        (None, Some(every), None) => Ok(Some(When::Every(whole(every)?))),
        (None, None, Some(probability)) => chance(probability).map(Some),
        (_, Some(second), _) => Err(one_alone(second.span())),
        (_, _, Some(second)) => Err(one_alone(second.span())),
    }
}

fn one_alone(at: Range<usize>) -> Offence {
    Offence { at, what: "`nth`, `every` and `probability` exclude one another".into() }
}

fn chance(probability: &Spanned<f64>) -> Parsed<When> {
    let value = *probability.get_ref();
    if !(0.0..=1.0).contains(&value) {
        return Err(Offence { at: probability.span(), what: "a probability lies between 0 and 1".into() });
    }
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and a million")]
    Ok(When::Chance((value * 1e6).round() as u32))
}

fn times(times: Option<&Spanned<u64>>, when: When) -> Parsed<u64> {
    match times.map(|it| (*it.get_ref(), it.span())) {
        Some((0, at)) => Err(Offence { at, what: "a fault that never happens is none".into() }),
        Some((times, _)) => Ok(times),
        None if matches!(when, When::Nth(_)) => Ok(1),
        None => Ok(u64::MAX),
    }
}

const POINTS: [(&str, Point); 4] = [
    ("before", Point::Before),
    ("within", Point::Within),
    ("after", Point::After),
    ("effect", Point::Effect),
];

const WRONGS: [(&str, Wrong); 8] = [
    ("panic", Wrong::Panic),
    ("hang", Wrong::Hang),
    ("delay", Wrong::Delay(Duration::ZERO)),
    ("drop", Wrong::Drop),
    ("duplicate", Wrong::Duplicate),
    ("reorder", Wrong::Reorder),
    ("corrupt", Wrong::Corrupt),
    ("refuse", Wrong::Refuse),
];
