//! Macros that turn the table of [`settings`](super::settings) into structs, defaults, and a list
//! of all settings.

/// A default as text; empty if there is none.
macro_rules! default_text {
    (unset) => {
        ""
    };
    ($text:literal) => {
        $text
    };
}

macro_rules! default_doc {
    (unset) => {
        "\n\nNot set by default."
    };
    ($text:literal) => {
        concat!("\n\nDefault: `", $text, "`.")
    };
}

/// One row of the table as a value.
macro_rules! setting {
    ($section:ident, $key:ident, $default:tt, $($doc:literal)+) => {
        $crate::config::setting::Setting {
            section: stringify!($section),
            key: stringify!($key),
            path: concat!(stringify!($section), ".", stringify!($key)),
            default: $crate::config::table::default_text!($default),
            doc: &[$($doc),+],
        }
    };
}

macro_rules! settings {
    ($(
        $(#[doc = $section_doc:literal])+
        $section:ident: $Section:ident {
            $($(#[doc = $doc:literal])+ $key:ident: $type:ty = $default:tt,)+
        }
    )+) => {
        /// Every setting, by section.
        #[derive(Debug, Clone)]
        pub struct Config {
            $($(#[doc = $section_doc])+ pub $section: $Section,)+
        }

        $(
            $(#[doc = $section_doc])+
            #[derive(Debug, Clone)]
            pub struct $Section {
                $($(#[doc = $doc])+ #[doc = $crate::config::table::default_doc!($default)] pub $key: $type,)+
            }
        )+

        /// Every setting, in the order of the table.
        pub const ALL: &[$crate::config::setting::Setting] = &[
            $($($crate::config::table::setting!($section, $key, $default, $($doc)+),)+)+
        ];

        impl Config {
            pub(super) fn read(reader: &mut $crate::config::reader::Reader) -> Self {
                Self {
                    $($section: $Section {
                        $($key: reader.read(
                            &$crate::config::table::setting!($section, $key, $default, $($doc)+)
                        ),)+
                    },)+
                }
            }

            /// Every value as TOML, secrets masked, in the order of [`ALL`]; `None` for an unset
            /// optional one.
            pub(super) fn values(&self) -> Vec<Option<String>> {
                vec![$($($crate::config::value::Value::render(&self.$section.$key),)+)+]
            }
        }
    };
}

pub(super) use {default_doc, default_text, setting, settings};
