//! Types stored as JSON objects that keep unknown fields and enum variants of a newer version.
//! During a rolling upgrade both versions read and write the same records.
//!
//! `stored!` adds the field `unknown` to a struct. A field is written and required, unless a word
//! follows its type. `= optional` omits it at its default; `= open` is for a plain enum that may
//! grow. `#[serde(flatten)]` would read every object twice.
//!
//! `stored!` also takes an enum whose variants own such structs, and adds the variant `Unknown`. It
//! is stored as the struct's object with the variant's name in the field `kind`.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer, StrDeserializer};
use serde::de::{Error, MapAccess, SeqAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

/// Fields and variants of a newer version, verbatim. They are written back with the object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unknown(Option<Box<Map<String, Value>>>);

impl Unknown {
    /// Adds a field.
    pub fn insert(&mut self, name: String, value: Value) {
        self.0.get_or_insert_default().insert(name, value);
    }

    /// Removes a field.
    pub fn remove(&mut self, name: &str) {
        if let Some(fields) = &mut self.0 {
            fields.remove(name);
        }
        self.0.take_if(|fields| fields.is_empty());
    }

    /// The value of a field.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.as_ref()?.get(name)
    }

    /// Whether there is nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Approximate size as JSON, in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        self.0.as_ref().map_or(0, |fields| {
            fields.iter().map(|(name, value)| name.len() + value.to_string().len() + 4).sum()
        })
    }

    /// Writes every field except `known`, which are written already.
    pub(crate) fn write<M: SerializeMap>(
        &self,
        known: &[&str],
        map: &mut M,
    ) -> Result<(), M::Error> {
        let fields = self.0.iter().flat_map(|fields| fields.iter());
        for (name, value) in fields.filter(|(name, _)| !known.contains(&name.as_str())) {
            map.serialize_entry(name, value)?;
        }
        Ok(())
    }
}

/// The field that names the variant of an enum.
pub(crate) const KIND: &str = "kind";

/// An enum that is stored as the object of its variant.
pub(crate) trait Kinds: Sized {
    /// Reads the variant `kind` from the other fields of its object.
    fn of<'de, D: Deserializer<'de>>(kind: String, fields: D) -> Result<Self, D::Error>;
}

/// Reads an enum from its object. An object that this crate wrote begins with [`KIND`], and is read
/// in one go.
pub(crate) fn read_kind<'de, A: MapAccess<'de>, T: Kinds>(mut map: A) -> Result<T, A::Error> {
    let first: Option<String> = map.next_key()?;
    if first.as_deref() == Some(KIND) {
        let kind = map.next_value()?;
        return T::of(kind, MapAccessDeserializer::new(map));
    }
    let mut fields = Map::new();
    if let Some(name) = first {
        fields.insert(name, map.next_value()?);
    }
    while let Some((name, value)) = map.next_entry()? {
        fields.insert(name, value);
    }
    match fields.remove(KIND) {
        Some(Value::String(kind)) => T::of(kind, Value::Object(fields)).map_err(A::Error::custom),
        _ => Err(A::Error::missing_field(KIND)),
    }
}

/// An enum that may grow. An unknown variant is read as [`Open::OTHER`], and its text is kept.
pub(crate) trait Open: PartialEq {
    /// The stand-in for an unknown variant.
    const OTHER: Self;
}

/// A variant, or a newer version's value.
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
            $($(#[$doc:meta])* $field_vis:vis $field:ident: $type:ty $(= $how:ident)?,)*
        }
    ) => {
        $(#[$meta])*
        $vis struct $name {
            $($(#[$doc])* $field_vis $field: $type,)*
            /// Data of a newer version.
            $vis unknown: $crate::model::Unknown,
        }

        impl $name {
            /// Writes every field into an object.
            pub(crate) fn write<M: serde::ser::SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
                $($crate::model::stored::stored!(@write self map $field: $type $(= $how)?);)*
                self.unknown.write(&[$(stringify!($field)),*], map)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                use serde::ser::SerializeMap as _;
                let mut map = serializer.serialize_map(None)?;
                self.write(&mut map)?;
                map.end()
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                #[derive(serde::Deserialize)]
                #[serde(field_identifier)]
                #[allow(non_camel_case_types)]
                enum Field { $($field,)* Unknown(String) }

                struct Read;
                impl<'de> serde::de::Visitor<'de> for Read {
                    type Value = $name;

                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str(concat!("an object: ", stringify!($name)))
                    }

                    fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<$name, A::Error> {
                        let mut unknown = $crate::model::Unknown::default();
                        $(let mut $field: Option<$type> = None;)*
                        while let Some(field) = map.next_key()? {
                            match field {
                                $(Field::$field => {
                                    $crate::model::stored::stored!(@read map unknown $field: $type $(= $how)?);
                                })*
                                Field::Unknown(name) => unknown.insert(name, map.next_value()?),
                            }
                        }
                        $(let $field = $crate::model::stored::stored!(@need $field: $type $(= $how)?);)*
                        Ok($name { $($field,)* unknown })
                    }
                }
                deserializer.deserialize_map(Read)
            }
        }
    };

    (
        $(#[$meta:meta])*
        $vis:vis enum $name:ident {
            $($(#[$doc:meta])* $variant:ident($data:ty) = $kind:literal,)+
        }
    ) => {
        $(#[$meta])*
        $vis enum $name {
            $($(#[$doc])* $variant($data),)+
            /// The object of a variant that this version does not know, as a newer version wrote
            /// it.
            Unknown(serde_json::Map<String, serde_json::Value>),
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                use serde::ser::SerializeMap as _;
                let mut map = serializer.serialize_map(None)?;
                match self {
                    $(Self::$variant(data) => {
                        map.serialize_entry($crate::model::stored::KIND, $kind)?;
                        data.write(&mut map)?;
                    })+
                    Self::Unknown(fields) => {
                        for (name, value) in fields {
                            map.serialize_entry(name, value)?;
                        }
                    }
                }
                map.end()
            }
        }

        impl $crate::model::stored::Kinds for $name {
            fn of<'de, D: serde::Deserializer<'de>>(kind: String, fields: D) -> Result<Self, D::Error> {
                match kind.as_str() {
                    $($kind => <$data as serde::Deserialize>::deserialize(fields).map(|mut data| {
                        // If a field occurs twice, the first value is used.
                        data.unknown.remove($crate::model::stored::KIND);
                        Self::$variant(data)
                    }),)+
                    _ => <serde_json::Map<_, _> as serde::Deserialize>::deserialize(fields).map(|mut fields| {
                        fields.insert($crate::model::stored::KIND.to_owned(), kind.into());
                        Self::Unknown(fields)
                    }),
                }
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Read;
                impl<'de> serde::de::Visitor<'de> for Read {
                    type Value = $name;

                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str(concat!("an object: ", stringify!($name)))
                    }

                    fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<$name, A::Error> {
                        $crate::model::stored::read_kind(map)
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
            // The last of duplicate fields counts.
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
mod tests;
