//! A progress bar on terminals, and nothing on pipes.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressStyle};

use super::Context;

/// A bar over bytes with a few words behind.
pub struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// Shown only when somebody looks.
    pub fn new(context: Context, what: &str) -> Self {
        if !context.speaks() || !std::io::stderr().is_terminal() {
            return Progress { bar: ProgressBar::hidden() };
        }
        let bar = ProgressBar::new(0);
        let template = "{prefix} [{bar:40}] {percent}% {msg} ({eta})";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_prefix(what.to_owned());
        Progress { bar }
    }

    /// Moves the bar.
    pub fn set(&self, done: u64, all: u64, words: impl FnOnce() -> String) {
        if self.bar.is_hidden() {
            return;
        }
        self.bar.set_length(all.max(1));
        self.bar.set_position(done.min(all));
        self.bar.set_message(words());
    }

    /// Takes the bar away.
    pub fn done(&self) {
        self.bar.finish_and_clear();
    }
}
