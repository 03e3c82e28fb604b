//! `ledger.url`: what is read is shown without its password, and what is shown is read as the same.
#![no_main]

use eni_gateway::config::LedgerUrl;
use eni_gateway::config::value::Value;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(url) = LedgerUrl::parse(text) else {
        return;
    };
    let shown = url.to_string();
    assert!(!shown.contains(char::is_control), "{shown:?}");
    let again = LedgerUrl::parse(&shown)
        .unwrap_or_else(|problem| panic!("{text:?} is shown as {shown:?}: {problem}"));
    // A password's own Debug is the same for all of them.
    assert_eq!(format!("{again:?}"), format!("{url:?}"), "{text:?} is shown as {shown:?}");

    let mut other = url.clone();
    if let LedgerUrl::Redis { login, .. }
    | LedgerUrl::Sentinel { login, .. }
    | LedgerUrl::Cluster { login, .. } = &mut other
        && let Some(password) = &mut login.password
    {
        *password = "another".into();
    }
    assert_eq!(other.to_string(), shown, "nothing of the password is shown");
});
