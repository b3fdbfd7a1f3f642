//! The words that an actor hears, as far as faults are concerned: what they are called, and what can be done to one on
//! its way.

/// All that one actor hears.
///
/// [`crate::words!`] writes the names and the function that finds them from one list, so that a word without a name does not
/// compile.
pub trait Words: Send + Sized + 'static {
    /// What the words are called.
    const WORDS: &'static [&'static str];

    /// What this one is called.
    fn word(&self) -> &'static str;

    /// The same again, if it can be said twice. Most cannot: they carry memory, or the right to answer.
    fn twin(&self) -> Option<Self> {
        None
    }

    /// Makes a report of success one of failure. Says whether it is such a report.
    fn corrupt(&mut self) -> bool {
        false
    }

    /// Makes a request one that its hearer refuses. Says whether it is such a request.
    fn refuse(&mut self) -> bool {
        false
    }
}

/// Implements [`Words`]: a name for each pattern, then, where there is more to say, the functions in question.
#[macro_export]
macro_rules! words {
    ($message:ty { $($name:literal => $pattern:pat,)* } $($rest:item)*) => {
        impl $crate::Words for $message {
            const WORDS: &'static [&'static str] = &[$($name),*];

            fn word(&self) -> &'static str {
                match self { $($pattern => $name,)* }
            }

            $($rest)*
        }
    };
}
