//! Tells everybody.
