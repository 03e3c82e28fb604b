//! Structs that are stored as JSON objects, and keep what this version does not know: fields that a newer version wrote, and its
//! new variants. During a rolling change of versions both read and write the same records.
//!
//! `stored!` takes the struct as it stands and adds the field `unknown`. A field is written and needed, unless a word follows
//! its type: `= optional` leaves it out at its default; `= open` is for an enum that may grow. Written by hand, because
//! `#[serde(flatten)]` reads every object twice.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer, StrDeserializer};
use serde::de::{Error, MapAccess, SeqAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

/// What a newer version wrote into an object: fields, and variants of known fields, verbatim. Written back with the object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unknown(Option<Box<Map<String, Value>>>);

impl Unknown {
    /// Keeps a field.
    pub fn insert(&mut self, name: String, value: Value) {
        self.0.get_or_insert_default().insert(name, value);
    }

    /// Forgets a field.
    pub fn remove(&mut self, name: &str) {
        if let Some(fields) = &mut self.0 {
            fields.remove(name);
        }
        self.0.take_if(|fields| fields.is_empty());
    }

    /// A field that is kept.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.as_ref()?.get(name)
    }

    /// Whether there is nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// About how many bytes it takes as JSON.
    #[must_use]
    pub fn size(&self) -> usize {
        self.0.as_ref().map_or(0, |fields| {
            fields
                .iter()
                .map(|(name, value)| name.len() + value.to_string().len() + 4)
                .sum()
        })
    }

    /// Writes every field but those that `known` names: they were written already.
    pub(crate) fn write<M: SerializeMap>(&self, known: &[&str], map: &mut M) -> Result<(), M::Error> {
        let fields = self.0.iter().flat_map(|fields| fields.iter());
        for (name, value) in fields.filter(|(name, _)| !known.contains(&name.as_str())) {
            map.serialize_entry(name, value)?;
        }
        Ok(())
    }
}

/// An enum that may grow: what this version does not know is read as [`Open::OTHER`], and its text is kept beside.
pub(crate) trait Open: PartialEq {
    /// What stands for a variant that this version does not know.
    const OTHER: Self;
}

/// A variant, or what a newer version wrote in its place.
pub(crate) enum Variant<T> {
    Known(T),
    Unknown(Value),
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Variant<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Read<T> {
            type Value = Variant<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a variant")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
                let known = T::deserialize(StrDeserializer::<E>::new(text));
                Ok(known.map_or_else(|_| Variant::Unknown(text.into()), Variant::Known))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                Value::deserialize(MapAccessDeserializer::new(map)).map(Variant::Unknown)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
                Value::deserialize(SeqAccessDeserializer::new(seq)).map(Variant::Unknown)
            }
        }
        deserializer.deserialize_any(Read(PhantomData))
    }
}

macro_rules! stored {
    (
        $(#[$meta:meta])*
        $vis:vis struct $name:ident {
            $($(#[$doc:meta])* $field_vis:vis $field:ident: $type:ty $(= $how:ident)?,)+
        }
    ) => {
        $(#[$meta])*
        $vis struct $name {
            $($(#[$doc])* $field_vis $field: $type,)+
            /// What a newer version wrote.
            $vis unknown: $crate::model::Unknown,
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                use serde::ser::SerializeMap as _;
                let mut map = serializer.serialize_map(None)?;
                $($crate::model::stored::stored!(@write self map $field: $type $(= $how)?);)+
                self.unknown.write(&[$(stringify!($field)),+], &mut map)?;
                map.end()
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                #[derive(serde::Deserialize)]
                #[serde(field_identifier)]
                #[allow(non_camel_case_types)]
                enum Field { $($field,)+ Unknown(String) }

                struct Read;
                impl<'de> serde::de::Visitor<'de> for Read {
                    type Value = $name;

                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str(concat!("an object: ", stringify!($name)))
                    }

                    fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<$name, A::Error> {
                        let mut unknown = $crate::model::Unknown::default();
                        $(let mut $field: Option<$type> = None;)+
                        while let Some(field) = map.next_key()? {
                            match field {
                                $(Field::$field => {
                                    $crate::model::stored::stored!(@read map unknown $field: $type $(= $how)?);
                                })+
                                Field::Unknown(name) => unknown.insert(name, map.next_value()?),
                            }
                        }
                        $(let $field = $crate::model::stored::stored!(@need $field: $type $(= $how)?);)+
                        Ok($name { $($field,)+ unknown })
                    }
                }
                deserializer.deserialize_map(Read)
            }
        }
    };

    (@write $self:ident $map:ident $field:ident: $type:ty) => {
        $map.serialize_entry(stringify!($field), &$self.$field)?
    };
    (@write $self:ident $map:ident $field:ident: $type:ty = optional) => {
        if $self.$field != <$type>::default() {
            $map.serialize_entry(stringify!($field), &$self.$field)?
        }
    };
    (@write $self:ident $map:ident $field:ident: $type:ty = open) => {
        let kept = $self.unknown.get(stringify!($field));
        match kept.filter(|_| $self.$field == <$type as $crate::model::stored::Open>::OTHER) {
            Some(kept) => $map.serialize_entry(stringify!($field), kept)?,
            None => $map.serialize_entry(stringify!($field), &$self.$field)?,
        }
    };

    (@read $map:ident $unknown:ident $field:ident: $type:ty $(= optional)?) => {
        $field = Some($map.next_value()?)
    };
    (@read $map:ident $unknown:ident $field:ident: $type:ty = open) => {
        $field = Some(match $map.next_value()? {
            // Of a field that stands there twice, the last one counts.
            $crate::model::stored::Variant::Known(known) => {
                $unknown.remove(stringify!($field));
                known
            }
            $crate::model::stored::Variant::Unknown(value) => {
                $unknown.insert(stringify!($field).to_owned(), value);
                <$type as $crate::model::stored::Open>::OTHER
            }
        })
    };

    (@need $field:ident: $type:ty = optional) => { $field.unwrap_or_default() };
    (@need $field:ident: $type:ty $(= open)?) => {
        $field.ok_or_else(|| serde::de::Error::missing_field(stringify!($field)))?
    };
}
pub(crate) use stored;

#[cfg(test)]
mod tests {
    use serde::Serialize;
    use serde_json::json;

    use super::*;

    #[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
    enum Colour {
        Red,
        Other,
    }

    impl Open for Colour {
        const OTHER: Self = Self::Other;
    }

    stored! {
        /// Anything.
        #[derive(Clone, Debug, PartialEq)]
        struct Thing {
            /// Needed.
            number: u32,
            /// Not written if empty.
            text: String = optional,
            /// May grow.
            colour: Colour = open,
        }
    }

    fn read(value: Value) -> Thing {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn what_is_not_known_comes_back_as_it_was() {
        for value in [
            json!({"number": 1, "colour": "Red"}),
            json!({"number": 1, "text": "t", "colour": "Red", "more": {"deep": [1, null, 0.1]}}),
            json!({"number": 1, "colour": "Blue", "n": null}),
            json!({"number": 1, "colour": {"Mixed": ["Red", 2]}}),
            json!({"number": 1, "colour": ["Red"]}),
        ] {
            assert_eq!(serde_json::to_value(read(value.clone())).unwrap(), value);
        }
        assert_eq!(read(json!({"number": 1, "colour": "Blue"})).colour, Colour::Other);
    }

    #[test]
    fn what_is_set_replaces_a_variant_that_was_not_known() {
        let mut thing = read(json!({"number": 1, "colour": "Blue"}));
        thing.colour = Colour::Red;
        let stored = serde_json::to_value(&thing).unwrap();
        assert_eq!(stored, json!({"number": 1, "colour": "Red"}));
    }

    #[test]
    fn of_a_field_that_stands_there_twice_the_last_one_counts() {
        let read = |text| serde_json::from_str::<Thing>(text).unwrap();
        let thing = read(r#"{"number": 1, "colour": "Blue", "colour": "Red"}"#);
        assert_eq!((thing.colour, thing.unknown.is_empty()), (Colour::Red, true));
        let thing = read(r#"{"number": 1, "colour": "Red", "colour": "Blue"}"#);
        assert_eq!(
            serde_json::to_value(&thing).unwrap(),
            json!({"number": 1, "colour": "Blue"})
        );
    }

    #[test]
    fn what_is_missing_or_of_another_type_is_refused() {
        for value in [
            json!({"colour": "Red"}),
            json!({"number": "1", "colour": "Red"}),
            json!([]),
            json!({"number": 1, "colour": 7}),
        ] {
            assert!(serde_json::from_value::<Thing>(value).is_err());
        }
    }
}
