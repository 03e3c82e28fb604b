//! The effective configuration as TOML: each setting with its meaning, value and source. Secrets
//! are masked.

use std::fmt::Write;

use super::load::Loaded;
use super::settings::ALL;

/// The configuration as TOML.
#[must_use]
pub fn dump(loaded: &Loaded) -> String {
    let mut text = String::new();
    let mut section = "";
    for (setting, value) in ALL.iter().zip(loaded.config.values()) {
        if setting.section != section {
            let gap = if section.is_empty() { "" } else { "\n" };
            section = setting.section;
            push(&mut text, format_args!("{gap}[{section}]"));
        }
        for line in setting.doc {
            push(&mut text, format_args!("#{line}"));
        }
        match value {
            Some(value) => push(
                &mut text,
                format_args!("{} = {value} # {}", setting.key, loaded.origins.of(setting.path)),
            ),
            None => push(&mut text, format_args!("# {} is not set", setting.key)),
        }
    }
    text
}

fn push(text: &mut String, line: std::fmt::Arguments<'_>) {
    // A write to a String cannot fail.
    let _ = writeln!(text, "{line}");
}
