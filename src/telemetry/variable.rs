//! Variables of the environment, as OpenTelemetry reads them.

/// A variable that is set and not empty. OpenTelemetry treats an empty one as unset.
pub(super) fn set(variable: &dyn Fn(&str) -> Option<String>, name: &str) -> Option<String> {
    variable(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
}
