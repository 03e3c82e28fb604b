//! Settings' files and variables: every text is read or refused, a password in `ledger.url` is
//! never shown, and what `config dump` prints is a settings' file that says the same.
//!
//! An input is the URL as it stands in the file, with `PASSWORD` for the password; what follows it
//! in the section `ledger` and after; a line `----`; variables as `NAME=value`.
#![no_main]

use std::path::PathBuf;
use std::sync::LazyLock;

use eni_gateway::config::{Faults, Loaded, Sources, dump, load};
use libfuzzer_sys::fuzz_target;

const SECRET: &str = "zX7-correct-horse_9";

/// In memory, where the system has such a folder.
static FILE: LazyLock<PathBuf> = LazyLock::new(|| {
    let memory = PathBuf::from("/dev/shm");
    let folder = if memory.is_dir() { memory } else { std::env::temp_dir() };
    folder.join(format!("eni-gateway-fuzz-{}.toml", std::process::id()))
});

fuzz_target!(|text: &str| {
    let (url, rest) = text.split_once('\n').unwrap_or((text, ""));
    let (file, variables) = rest.split_once("\n----\n").unwrap_or((rest, ""));
    // Settings name files, and some of those that a machine has never end.
    if text.contains("/dev")
        || text.contains("/proc")
        || !holds_a_password(url)
        || rest.contains("PASSWORD")
    {
        return;
    }
    let url = url.replacen("PASSWORD", SECRET, 1);
    let variables = variables.lines().filter_map(|line| line.split_once('='));
    let mut variables: Vec<_> =
        variables.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();

    // One input comes one way, by its length: as it should, and misspelt, in the file and in the
    // environment.
    let bare = url.trim_matches(['"', '\'']);
    let (key, variable) = match text.len() % 4 {
        0 => (Some("url"), None),
        1 => (Some("uri"), None),
        2 => (None, Some("ENI_GATEWAY_LEDGER__URL")),
        _ => (None, Some("ENI_GATEWAY_LEDGER__URI")),
    };
    let line = key.map(|key| format!("{key} = {url}\n")).unwrap_or_default();
    variables.retain(|(name, _)| Some(name.as_str()) != variable);
    variables.extend(variable.map(|name| (name.to_owned(), bare.to_owned())));
    read(&format!("[ledger]\n{line}{file}"), variables);
});

/// Whether `PASSWORD` stands where the password does; elsewhere it may be shown. No other character
/// of TOML's need be right.
fn holds_a_password(url: &str) -> bool {
    let Some((before, after)) = url.trim_start_matches(['"', '\'']).split_once("PASSWORD") else {
        return false;
    };
    let Some((scheme, user)) = before.split_once("://") else {
        return false;
    };
    let word = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    word(scheme)
        && user.strip_suffix(':').is_some_and(word)
        && !after.contains("PASSWORD")
        && !url.contains('\r')
}

fn read(file: &str, environment: Vec<(String, String)>) {
    let loaded = match read_file(file, environment) {
        Ok(loaded) => loaded,
        Err(faults) => {
            assert!(!faults.contains(SECRET), "{file}\n{faults}");
            return;
        }
    };
    assert!(!loaded.warnings.iter().any(|warning| warning.contains(SECRET)));
    let shown = dump::dump(&loaded, &Faults::default());
    assert!(!shown.contains(SECRET) && !format!("{loaded:?}").contains(SECRET), "{file}\n{shown}");

    // A masked password is refused.
    let unmasked = shown.replace(":***@", &format!(":{SECRET}@"));
    let again =
        read_file(&unmasked, Vec::new()).unwrap_or_else(|faults| panic!("{shown}\n{faults}"));
    let (again, values) = (dump::dump(&again, &Faults::default()), values(&shown));
    assert_eq!(self::values(&again), values);
}

fn read_file(text: &str, environment: Vec<(String, String)>) -> Result<Loaded, String> {
    std::fs::write(&*FILE, text).expect("the file can be written");
    let sources = Sources { file: Some(FILE.clone()), environment, flags: Vec::new() };
    load(sources).map_err(|faults| faults.to_string())
}

/// The lines of a dump without where each value came from.
fn values(dump: &str) -> Vec<&str> {
    let lines = dump.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| line.rsplit_once(" # ").map_or(line, |(value, _)| value)).collect()
}
