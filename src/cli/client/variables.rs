//! Typing errors in the variables of the connection's options.

use clap::{Arg, Command};

/// The beginning of each variable's name.
const PREFIX: &str = "ENI_GATEWAY_CLIENT_";

/// A warning for each of these variables that nearly has the name of one of the options. Another
/// one may be of a Service, for which Kubernetes injects variables.
pub(super) fn warnings(options: &Command, variables: impl Iterator<Item = String>) -> Vec<String> {
    let known: Vec<_> = options
        .get_arguments()
        .filter_map(Arg::get_env)
        .filter_map(|name| name.to_str()?.strip_prefix(PREFIX))
        .collect();
    let mut warnings: Vec<_> = variables
        .filter_map(|variable| {
            let name = variable.strip_prefix(PREFIX)?;
            if known.contains(&name) {
                return None;
            }
            let distance = |known: &&&str| strsim::damerau_levenshtein(name, known);
            let nearest = known.iter().min_by_key(distance)?;
            let is_near = distance(&nearest) <= (name.len() / 4).max(1);
            is_near.then(|| format!("{variable} has no effect: did you mean {PREFIX}{nearest}?"))
        })
        .collect();
    warnings.sort();
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_typing_error_is_reported() {
        let options = [
            "ENI_GATEWAY_CLIENT_ENDPOINT",
            "ENI_GATEWAY_CLIENT_SERVER_NAME",
            "ENI_GATEWAY_CLIENT_CA",
            "ENI_GATEWAY_CLIENT_CERT",
            "ENI_GATEWAY_CLIENT_KEY",
            "ENI_GATEWAY_CLIENT_TOKEN_FILE",
        ];
        let options = options
            .into_iter()
            .fold(Command::new("client"), |command, name| command.arg(Arg::new(name).env(name)));
        let named = |name: &str| warnings(&options, [format!("{PREFIX}{name}")].into_iter());
        for name in ["ENDPOINT", "KEY", "PORT", "SERVICE_HOST", "PORT_50051_TCP_ADDR", ""] {
            assert_eq!(named(name), [""; 0], "{name}");
        }
        for (name, meant) in [
            ("ENDPONT", "ENDPOINT"),
            ("SERVERNAME", "SERVER_NAME"),
            ("TOKEN_FLIE", "TOKEN_FILE"),
            ("CAT", "CA"),
        ] {
            let said = format!("{PREFIX}{name} has no effect: did you mean {PREFIX}{meant}?");
            assert_eq!(named(name), [said]);
        }
    }
}
