//! Turns the table of [`settings`](super::settings) into structs, their defaults, and the list of all settings.

/// One line of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setting {
    /// Its section, such as `grpc`.
    pub section: &'static str,
    /// Its key in the section, such as `listen`.
    pub key: &'static str,
    /// `section.key`.
    pub path: &'static str,
    /// Its default, as text; empty where there is none.
    pub default: &'static str,
    /// What it means.
    pub doc: &'static [&'static str],
}

impl Setting {
    /// Its name in the environment.
    #[must_use]
    pub fn env_name(&self) -> String {
        format!("{}{}__{}", super::environment::PREFIX, self.section, self.key).to_ascii_uppercase()
    }
}

/// A default as text: that of a setting without one is empty.
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
        pub const ALL: &[$crate::config::settings::Setting] = &[$($($crate::config::settings::Setting {
            section: stringify!($section),
            key: stringify!($key),
            path: concat!(stringify!($section), ".", stringify!($key)),
            default: $crate::config::table::default_text!($default),
            doc: &[$($doc),+],
        },)+)+];

        impl Config {
            pub(super) fn read(reader: &mut $crate::config::load::Reader) -> Self {
                Self {
                    $($section: $Section {
                        $($key: reader.read(concat!(stringify!($section), ".", stringify!($key))),)+
                    },)+
                }
            }

            /// Every value as TOML, secrets masked, in the order of [`ALL`]; `None` where an optional one is not set.
            pub(super) fn values(&self) -> Vec<Option<String>> {
                vec![$($($crate::config::value::Value::render(&self.$section.$key),)+)+]
            }
        }
    };
}

pub(super) use {default_doc, default_text, settings};
