//! Colours and clean text for terminals. Colours are always written, and stripped if standard
//! output is no terminal.

use anstyle::{AnsiColor, Style};

pub(super) const GOOD: Style = AnsiColor::Green.on_default();
pub(super) const BAD: Style = AnsiColor::Red.on_default();
pub(super) const BUSY: Style = AnsiColor::Yellow.on_default();
pub(super) const HEAD: Style = Style::new().bold();
pub(super) const ERROR: Style = AnsiColor::Red.on_default().bold();

/// `text` in a style.
pub(super) fn paint(style: Style, text: &str) -> String {
    format!("{style}{text}{style:#}")
}

/// `text` without control characters. It may come from outside.
pub(super) fn clean(text: &str) -> String {
    text.replace(char::is_control, " ")
}
