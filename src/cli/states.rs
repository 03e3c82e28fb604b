//! States of attachments as arguments.

use crate::grpc::proto::attachment::State;

/// The state of this name, such as `attaching`, in any case.
pub(super) fn parse(name: &str) -> Result<State, String> {
    let full = format!("STATE_{}", name.to_ascii_uppercase());
    let state = State::from_str_name(&full).filter(|state| state.known().is_some());
    state.ok_or_else(|| {
        "use pending, verifying, attaching, attached, failed, detaching or detached".to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_named_in_any_case() {
        assert_eq!(parse("Attaching"), Ok(State::Attaching));
        assert!(parse("unspecified").is_err() && parse("").is_err());
    }
}
