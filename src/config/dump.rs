//! The effective configuration as TOML: each setting with its meaning, value and source. Secrets
//! are masked. A value that cannot be read is a comment with its fault.

use std::fmt::Write;

use super::fault::Faults;
use super::load::Loaded;
use super::settings::ALL;

/// The configuration as TOML, with the faults of single values.
#[must_use]
pub fn dump(loaded: &Loaded, faults: &Faults) -> String {
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
        let key = setting.key;
        match (faults.of(setting.path), value) {
            (Some(fault), _) => push(
                &mut text,
                format_args!("# {key} = \"\"  # wrong: {}; {}", fault.problem, fault.remedy),
            ),
            (None, Some(value)) => push(
                &mut text,
                format_args!("{key} = {value} # {}", loaded.origins.of(setting.path)),
            ),
            (None, None) => push(&mut text, format_args!("# {key} is not set")),
        }
    }
    text
}

fn push(text: &mut String, line: std::fmt::Arguments<'_>) {
    // A write to a String cannot fail.
    let _ = writeln!(text, "{line}");
}
