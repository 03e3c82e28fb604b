//! What a newer version wrote survives being read and written.

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

stored! {
    /// Nothing but its kind.
    #[derive(Clone, Debug, Default, PartialEq)]
    struct Nothing {}
}

stored! {
    /// Either.
    #[derive(Clone, Debug, PartialEq)]
    enum Either {
        /// With fields.
        Thing(Thing) = "thing",
        /// Without.
        Nothing(Nothing) = "nothing",
    }
}

fn read(value: Value) -> Thing {
    serde_json::from_value(value).unwrap()
}

#[test]
fn an_enum_is_its_variants_object_wherever_the_kind_stands() {
    let texts = [
        r#"{"kind":"thing","number":1,"colour":"Blue","newer":[0.1]}"#,
        r#"{"kind":"nothing"}"#,
        r#"{"kind":"nothing","newer":null}"#,
        r#"{"kind":"newer","number":{"deep":1}}"#,
    ];
    for text in texts {
        let read: Either = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&read).unwrap(), text);
        // A value has its fields in another order.
        let value: Value = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::from_value::<Either>(value).unwrap(), read);
    }
    let newer = serde_json::from_str::<Either>(texts[3]).unwrap();
    assert!(matches!(newer, Either::Unknown(_)), "{newer:?}");
}

#[test]
fn a_known_variant_with_another_type_and_an_object_without_a_kind_are_refused() {
    for text in [
        r#"{"kind":"thing","number":"1","colour":"Red"}"#,
        r#"{"number":1,"kind":"thing"}"#,
        r#"{"number":1,"colour":"Red"}"#,
        r#"{"kind":7}"#,
        r#""nothing""#,
        "{}",
    ] {
        assert!(serde_json::from_str::<Either>(text).is_err(), "{text}");
    }
    let twice: Either = serde_json::from_str(r#"{"kind":"nothing","kind":"thing"}"#).unwrap();
    assert_eq!(serde_json::to_string(&twice).unwrap(), r#"{"kind":"nothing"}"#);
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
    assert_eq!(serde_json::to_value(&thing).unwrap(), json!({"number": 1, "colour": "Blue"}));
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
