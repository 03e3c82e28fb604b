//! Settings from a TOML file. Scalars are taken as text, numbers as written. Every fault names its
//! line.

use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::fault::{Fault, SettingOrigin};
use super::setting::Given;
use super::settings::{self, ALL, nearest};

/// Reads all settings of the file.
pub(super) fn read(path: &Path, faults: &mut Vec<Fault>) -> Vec<Given> {
    match std::fs::read_to_string(path) {
        Ok(text) => parse(path, &text, faults),
        Err(error) => {
            let remedy = "set another path with --config, or omit it";
            faults.push(Fault::new(
                path.display().to_string(),
                format!("cannot be read ({error})"),
                remedy,
            ));
            Vec::new()
        }
    }
}

fn parse(path: &Path, text: &str, faults: &mut Vec<Fault>) -> Vec<Given> {
    let at = |span: std::ops::Range<usize>| SettingOrigin::File {
        path: path.to_owned(),
        line: line_of(text, span.start),
    };
    let (document, errors) = DeTable::parse_recoverable(text);
    faults.extend(errors.iter().map(|error| {
        let fault =
            Fault::new("syntax", error.message().trim().replace('\n', ", "), "correct the TOML");
        fault.from(at(error.span().unwrap_or_default()))
    }));
    let mut given = Vec::new();
    for (section, content) in document.get_ref() {
        let name = section.get_ref().as_ref();
        if ALL.iter().all(|setting| setting.section != name) {
            faults.push(unknown_section(name).from(at(section.span())));
            continue;
        }
        let DeValue::Table(keys) = content.get_ref() else {
            let fault = Fault::new(
                name,
                "is a section, not a setting",
                format!("write its settings under [{name}]"),
            );
            faults.push(fault.from(at(section.span())));
            continue;
        };
        for (key, value) in keys {
            let origin = at(key.span());
            let subject = format!("{name}.{}", key.get_ref());
            match (settings::find(&subject), scalar(value.get_ref())) {
                (None, _) => faults.push(unknown_key(&subject).from(origin)),
                (Some(setting), Some(text)) => given.push(Given { setting, text, origin }),
                (Some(_), None) => {
                    faults.push(
                        Fault::new(
                            subject,
                            "is not a single value",
                            "set a text, a number, true or false",
                        )
                        .from(origin),
                    );
                }
            }
        }
    }
    given
}

fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}

fn scalar(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => i128::from_str_radix(number.as_str(), number.radix())
            .ok()
            .map(|number| number.to_string()),
        DeValue::Float(number) => Some(number.as_str().to_owned()),
        DeValue::Boolean(flag) => Some(flag.to_string()),
        DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => None,
    }
}

fn unknown_section(name: &str) -> Fault {
    let mut sections: Vec<_> = ALL.iter().map(|setting| setting.section).collect();
    sections.dedup();
    Fault::new(
        name,
        "no such section",
        format!("remove it; the sections are {}", sections.join(", ")),
    )
}

fn unknown_key(subject: &str) -> Fault {
    Fault::new(
        subject,
        "no such setting",
        match nearest(subject, |setting| setting.path.to_owned()) {
            Some(setting) => format!("remove it, or write {} instead", setting.path),
            None => "remove it; `eni-gateway config dump` lists all settings".to_owned(),
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> (Vec<(&'static str, String)>, Vec<String>) {
        let mut faults = Vec::new();
        let given = parse(Path::new("gateway.toml"), text, &mut faults);
        let given = given.into_iter().map(|given| (given.setting.path, given.text)).collect();
        (given, faults.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn scalars_are_text() {
        let (given, faults) = read_text(
            "limit.enis_per_instance = 1_0\n[ledger]\nprefix = 0x1f\nfresh = true\nurl = 'memory://'\n[ens]\nattach_per_second = 10.0\n",
        );
        assert_eq!(faults, [""; 0]);
        assert!(given.contains(&("limit.enis_per_instance", "10".to_owned())), "{given:?}");
        assert!(given.contains(&("ledger.prefix", "31".to_owned())), "{given:?}");
        assert!(given.contains(&("ens.attach_per_second", "10.0".to_owned())), "{given:?}");
    }

    #[test]
    fn everything_that_is_wrong_is_named_with_its_line() {
        let (_, faults) = read_text(
            "grpc = 5\n[ledgr]\nurl = 'x'\n[ens]\nvisibilty_lag = '1s'\nendpoint = ['a']\n[watch]\nheartbeat =\n",
        );
        let all = faults.join("\n");
        assert!(all.contains("grpc (gateway.toml:1): is a section"), "{all}");
        assert!(all.contains("ledgr (gateway.toml:2): no such section"), "{all}");
        assert!(
            all.contains("ens.visibilty_lag (gateway.toml:5): no such setting")
                && all.contains("ens.visibility_lag"),
            "{all}"
        );
        assert!(all.contains("ens.endpoint (gateway.toml:6): is not a single value"), "{all}");
        assert!(all.contains("(gateway.toml:8)"), "{all}");
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "\\PC*|([a-z.\\[\\]=\"'0-9\n _-]*)") {
            read_text(&text);
        }
    }
}
