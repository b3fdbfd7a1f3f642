//! What a case works with: a fresh context, and a place for its pictures.

use std::path::Path;

use crate::canvas::Canvas;
use crate::egl::{Context, Display};
use crate::gl::Gl;
use crate::picture::Picture;
use crate::stop::Verdict;

/// A case's surroundings.
pub struct Stage<'c> {
    context: &'c Context<'c>,
    name: &'static str,
    pictures: Option<&'c Path>,
}

impl<'c> Stage<'c> {
    /// The surroundings of the case `name`, which draws in `context`.
    pub fn new(context: &'c Context<'c>, name: &'static str, pictures: Option<&'c Path>) -> Self {
        Self { context, name, pictures }
    }

    /// The case's own context.
    pub fn context(&self) -> &'c Context<'c> {
        self.context
    }

    /// The functions of the case's own context.
    pub fn gl(&self) -> &'c Gl {
        self.context.gl()
    }

    /// The display.
    pub fn display(&self) -> &'c Display {
        self.context.display()
    }

    /// A canvas in the case's own context, bound and ready to draw on.
    pub fn canvas(&self, width: i32, height: i32) -> Verdict<Canvas> {
        Canvas::new(self.gl(), width, height)
    }

    /// What is on the bound canvas; kept as a PNG if the user asked for pictures.
    pub fn shot(&self, canvas: &Canvas) -> Verdict<Picture> {
        let picture = canvas.picture(self.gl());
        if let Some(folder) = self.pictures {
            picture.write(&folder.join(format!("{}.png", self.name)), None)?;
        }
        Ok(picture)
    }
}
