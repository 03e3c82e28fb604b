//! The file of a policy, in TOML. Every fault is found, not only the first.

use std::collections::BTreeSet;
use std::fmt;

use serde::Deserialize;
use toml::{Table, Value};

use super::entries::entries;
use super::pattern::Pattern;
use super::pattern::is_caller;
use super::request::Action;
use super::rule::{Effect, Rule};
use super::rules::Policy;
use super::{issuers, quotas};
use crate::identity::{Kind, certificate};

/// The version of the format.
const VERSION: i64 = 1;

/// The faults of a policy file, one a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidPolicy {
    /// The faults, in the order of the file's sections.
    pub faults: Vec<String>,
}

impl fmt::Display for InvalidPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.faults.join("\n"))
    }
}

impl std::error::Error for InvalidPolicy {}

/// A rule as the file has it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleText {
    id: String,
    callers: Vec<String>,
    actions: Vec<String>,
    instances: Vec<String>,
    kinds: Option<Vec<String>>,
    issuers: Option<Vec<String>>,
    namespaces: Option<Vec<String>>,
    groups: Option<Vec<String>>,
    interfaces: Option<Vec<String>>,
    validate_only: Option<bool>,
}

impl Policy {
    /// Reads a policy.
    ///
    /// # Errors
    /// [`InvalidPolicy`] with every fault.
    pub fn parse(text: &str) -> Result<Self, InvalidPolicy> {
        let mut faults = Vec::new();
        let table = text.parse::<Table>().unwrap_or_else(|error| {
            faults.push(syntax(text, &error));
            Table::new()
        });
        if !faults.is_empty() {
            return Err(InvalidPolicy { faults });
        }
        let known = ["version", "trust_domains", "issuers", "forbid", "allow", "quotas"];
        for key in table.keys().filter(|key| !known.contains(&key.as_str())) {
            faults.push(format!("{key}: no such key; the keys are {}", known.join(", ")));
        }
        if table.get("version").and_then(Value::as_integer) != Some(VERSION) {
            faults.push(format!("version: is not {VERSION}; write `version = {VERSION}` first"));
        }
        let trust_domains = trust_domains(&table, &mut faults);
        let issuers = issuers::read(&table, &mut faults);
        let aliases: Vec<String> = issuers.iter().map(|issuer| issuer.alias.clone()).collect();
        let mut rules = Vec::new();
        for effect in [Effect::Forbid, Effect::Allow] {
            rules.extend(read_rules(&table, effect, &aliases, &mut faults));
        }
        let quotas = quotas::read(&table, &aliases, &mut faults);
        let mut ids = BTreeSet::new();
        for rule in rules.iter().filter(|rule| !ids.insert(rule.id.clone())) {
            faults.push(format!("rule `{}`: another rule has this id; ids are unique", rule.id));
        }
        if faults.is_empty() && rules.iter().all(|rule| rule.effect == Effect::Forbid) {
            faults.push("allow: no rule allows anything; add an [[allow]] rule".to_owned());
        }
        if faults.is_empty() {
            Ok(Self { trust_domains, issuers, rules, quotas })
        } else {
            Err(InvalidPolicy { faults })
        }
    }
}

fn syntax(text: &str, error: &toml::de::Error) -> String {
    let line = error.span().map_or(1, |span| text[..span.start].matches('\n').count() + 1);
    format!("line {line}: {}", error.message().trim().replace('\n', ", "))
}

fn trust_domains(table: &Table, faults: &mut Vec<String>) -> Vec<String> {
    let Some(value) = table.get("trust_domains") else {
        return Vec::new();
    };
    let Ok(domains) = value.clone().try_into::<Vec<String>>() else {
        faults.push("trust_domains: is not a list of names".to_owned());
        return Vec::new();
    };
    for domain in domains.iter().filter(|domain| !certificate::is_trust_domain(domain)) {
        faults.push(format!(
            "trust_domains: {domain:?} is no trust domain; write it without spiffe:// and path"
        ));
    }
    domains
}

fn read_rules(
    table: &Table,
    effect: Effect,
    aliases: &[String],
    faults: &mut Vec<String>,
) -> Vec<Rule> {
    let rules = entries::<RuleText>(table, effect.name(), "id", faults);
    rules.into_iter().filter_map(|rule| check(rule, effect, aliases, faults)).collect()
}

/// The rule, unless it has faults.
fn check(
    text: RuleText,
    effect: Effect,
    aliases: &[String],
    faults: &mut Vec<String>,
) -> Option<Rule> {
    let before = faults.len();
    let id = text.id;
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let mut fault = |what: String| faults.push(format!("rule `{}`: {what}", id.escape_debug()));
    if id.is_empty() || id.len() > 64 || !id.bytes().all(letter) {
        fault("the id is not 1 to 64 letters, digits, dashes, dots and underscores".to_owned());
    }
    let kinds = text.kinds.map(|names| {
        let find = |name: &String| Kind::ALL.into_iter().find(|kind| kind.name() == name);
        let known = Kind::ALL.map(Kind::name).join(", ");
        every(&names, "kinds", &find, &known, &mut fault)
    });
    let actions = if text.actions == ["*"] {
        Action::ALL.to_vec()
    } else {
        let known = format!("{}, or * alone", Action::ALL.map(Action::name).join(", "));
        every(&text.actions, "actions", &|name| Action::named(name), &known, &mut fault)
    };
    if text.validate_only.is_some() && actions.iter().any(|action| *action != Action::Attach) {
        fault("validate_only: is a condition of attaches; set actions = [\"attach\"]".to_owned());
    }
    let mut patterns = |name: &str, texts: Vec<String>, valid: &dyn Fn(&str) -> bool| {
        if texts.is_empty() {
            fault(format!("{name}: is empty, and would match nothing; write \"*\" for all"));
        }
        for text in texts.iter().filter(|text| text.is_empty() || !valid(text)) {
            fault(format!("{name}: {text:?} can match nothing"));
        }
        texts.into_iter().map(Pattern::new).collect::<Vec<_>>()
    };
    let id_pattern = |text: &str| text.bytes().all(|byte| letter(byte) || byte == b'*');
    let printable = |text: &str| !text.chars().any(char::is_control);
    let rule = Rule {
        callers: patterns("callers", text.callers, &|text| is_caller(text, aliases)),
        issuers: text.issuers.map(|texts| patterns("issuers", texts, &printable)),
        namespaces: text.namespaces.map(|texts| patterns("namespaces", texts, &printable)),
        groups: text.groups.map(|texts| patterns("groups", texts, &printable)),
        instances: patterns("instances", text.instances, &id_pattern),
        interfaces: text.interfaces.map(|texts| patterns("interfaces", texts, &id_pattern)),
        id: id.as_str().into(),
        effect,
        kinds,
        actions,
        validate_only: text.validate_only,
    };
    (faults.len() == before).then_some(rule)
}

/// The value of every name. A name without one is a fault.
fn every<T>(
    names: &[String],
    field: &str,
    find: &dyn Fn(&String) -> Option<T>,
    known: &str,
    fault: &mut dyn FnMut(String),
) -> Vec<T> {
    if names.is_empty() {
        fault(format!("{field}: is empty, and would match nothing; use one of {known}"));
    }
    let found = names.iter().filter_map(|name| {
        let value = find(name);
        if value.is_none() {
            fault(format!("{field}: {name:?} is unknown; use one of {known}"));
        }
        value
    });
    found.collect()
}
