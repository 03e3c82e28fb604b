//! Lists of tables in the file of a policy.

use serde::de::DeserializeOwned;
use toml::{Table, Value};

/// The entries of a list of tables, each by itself.
pub(super) fn entries<T: DeserializeOwned>(
    table: &Table,
    name: &str,
    id: &str,
    faults: &mut Vec<String>,
) -> Vec<T> {
    let entries = match table.get(name) {
        None => return Vec::new(),
        Some(Value::Array(entries)) => entries,
        Some(_) => {
            faults.push(format!("{name}: is not a list; begin each entry with [[{name}]]"));
            return Vec::new();
        }
    };
    let mut read = Vec::new();
    for (number, entry) in (1..).zip(entries) {
        match entry.clone().try_into() {
            Ok(entry) => read.push(entry),
            Err(error) => {
                let id = entry.get(id).and_then(Value::as_str);
                let which = id.map_or_else(|| format!("number {number}"), |id| format!("`{id}`"));
                faults.push(format!("{name} {which}: {}", error.message().trim()));
            }
        }
    }
    read
}
