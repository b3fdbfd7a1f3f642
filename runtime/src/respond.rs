//! Answers to questions that come from outside the actors.

use std::fmt;

/// Takes one answer, once.
///
/// ```compile_fail,E0382
/// # use virgld_runtime::Respond;
/// fn answer_twice(respond: Respond<u8>) {
///     respond.answer(1);
///     respond.answer(2);
/// }
/// ```
///
/// ```compile_fail,E0277
/// # use virgld_runtime::Respond;
/// fn must_copy<T: Clone>() {}
/// fn copy() { must_copy::<Respond<u8>>() }
/// ```
pub struct Respond<T>(Box<dyn FnOnce(T) + Send>);

impl<T> Respond<T> {
    /// Calls `with` with the answer.
    pub fn new(with: impl FnOnce(T) + Send + 'static) -> Self {
        Self(Box::new(with))
    }

    /// Answers.
    pub fn answer(self, answer: T) {
        (self.0)(answer);
    }
}

impl<T> fmt::Debug for Respond<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Respond")
    }
}
