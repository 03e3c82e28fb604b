//! The parameters of a call, from its query and its form body.

use std::collections::BTreeMap;

use super::refusal::Refusal;

/// Decoded parameters by name. Repeat lists have the names `Name.1`, `Name.2`, …
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Params(BTreeMap<String, String>);

impl Params {
    /// Parameters from an `application/x-www-form-urlencoded` text, such as a raw query string. The
    /// last value of a name counts.
    #[must_use]
    pub fn decode(text: &str) -> Self {
        Self(url::form_urlencoded::parse(text.as_bytes()).into_owned().collect())
    }

    /// Adds the parameters of `other`, which win.
    pub fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// The value of `name`. An empty one counts as absent, as at ENS.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The value of a required parameter.
    ///
    /// # Errors
    /// `InvalidParameter.<name>` if it is absent.
    pub fn required(&self, name: &str) -> Result<&str, Refusal> {
        self.get(name).ok_or_else(|| Refusal::invalid_parameter(name))
    }

    /// Every ENI that the call names.
    #[must_use]
    pub fn enis(&self) -> Vec<String> {
        let names =
            |key: &str| key == "NetworkInterfaceId" || key.starts_with("NetworkInterfaceIds.");
        self.0.iter().filter(|(key, _)| names(key)).map(|(_, value)| value.clone()).collect()
    }

    /// A whole number of at least 1, or `default`.
    ///
    /// # Errors
    /// `InvalidParameter.<name>` for anything else.
    pub fn count(&self, name: &str, default: usize) -> Result<usize, Refusal> {
        match self.get(name).map(str::parse) {
            None => Ok(default),
            Some(Ok(count)) if count >= 1 => Ok(count),
            Some(_) => Err(Refusal::invalid_parameter(name)),
        }
    }

    /// The repeat list `name.1`, `name.2`, …, in the order of its numbers; `None` without any.
    ///
    /// # Errors
    /// `InvalidParameter.<name>` for an invalid number, 0, or one above `most`.
    pub fn list(&self, name: &str, most: usize) -> Result<Option<Vec<&str>>, Refusal> {
        let mut found = BTreeMap::new();
        for (key, value) in &self.0 {
            let Some(number) = key.strip_prefix(name).and_then(|rest| rest.strip_prefix('.'))
            else {
                continue;
            };
            match number.parse::<usize>() {
                Ok(number) if (1..=most).contains(&number) => found.insert(number, value.as_str()),
                _ => return Err(Refusal::invalid_parameter(name)),
            };
        }
        Ok((!found.is_empty()).then(|| found.into_values().collect()))
    }

    /// A parameter with a JSON array of strings in a string; `None` if it is absent.
    ///
    /// # Errors
    /// `InvalidParameter.<name>` for anything else, or more than `most` strings.
    pub fn json_list(&self, name: &str, most: usize) -> Result<Option<Vec<String>>, Refusal> {
        let Some(text) = self.get(name) else {
            return Ok(None);
        };
        match serde_json::from_str::<Vec<String>>(text) {
            Ok(list) if list.len() <= most => Ok(Some(list)),
            _ => Err(Refusal::invalid_parameter(name)),
        }
    }
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for Params {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        Self(pairs.into_iter().map(|(key, value)| (key.into(), value.into())).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeat_list_is_ordered_by_number_not_by_text() {
        let params = Params::decode("Id.10=j&Id.2=b&Id.1=a&IdOther.1=x");
        assert_eq!(params.list("Id", 100).unwrap(), Some(vec!["a", "b", "j"]));
        assert_eq!(params.list("Nothing", 100).unwrap(), None);
    }

    #[test]
    fn a_repeat_list_beyond_its_bound_is_refused() {
        for text in ["Id.101=x", "Id.0=x", "Id.one=x"] {
            let refusal = Params::decode(text).list("Id", 100).unwrap_err();
            assert_eq!(refusal.code, "InvalidParameter.Id");
        }
    }

    #[test]
    fn a_json_list_may_be_empty_but_nothing_else_than_a_list() {
        let of =
            |text: &str| Params::from_iter([("InstanceIds", text)]).json_list("InstanceIds", 2);
        assert_eq!(of("[]").unwrap(), Some(vec![]));
        assert_eq!(of(r#"["i-1"]"#).unwrap(), Some(vec!["i-1".to_owned()]));
        for bad in ["i-1", "[1]", r#"["a","b","c"]"#] {
            assert!(of(bad).is_err(), "{bad}");
        }
    }
}
