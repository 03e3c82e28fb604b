//! Settings from the environment: `ENI_GATEWAY_SECTION__KEY`.
//!
//! Trap: Kubernetes gives every pod variables for every Service of its namespace. Those of a
//! Service `eni-gateway` begin with the same prefix, and are recognised by their form. Any other
//! unknown name under the prefix is an error.

use super::fault::{Fault, SettingOrigin};
use super::setting::{ENV_PREFIX, Given};
use super::settings::{self, ALL, Setting};

/// Names under the prefix that are no settings: those of the build, of which `cargo run` passes the
/// first one to the program, and those of other commands' flags.
pub const NO_SETTINGS: &[&str] = &[
    "ENI_GATEWAY_COMMIT",
    "ENI_GATEWAY_BUILD_COMMIT",
    "ENI_GATEWAY_SIMULATOR_CONTROL_KEY",
    "ENI_GATEWAY_CLIENT_ENDPOINT",
    "ENI_GATEWAY_CLIENT_SERVER_NAME",
    "ENI_GATEWAY_CLIENT_CA",
    "ENI_GATEWAY_CLIENT_CERT",
    "ENI_GATEWAY_CLIENT_KEY",
    "ENI_GATEWAY_CLIENT_TOKEN_FILE",
    "ENI_GATEWAY_CLIENT_TIMEOUT",
    "ENI_GATEWAY_CLIENT_OUTPUT",
];

/// Reads all settings from the variables, in the order of names.
pub(super) fn read(
    variables: impl IntoIterator<Item = (String, String)>,
    faults: &mut Vec<Fault>,
) -> Vec<Given> {
    let mut variables: Vec<_> = variables
        .into_iter()
        .filter(|(name, value)| {
            name.starts_with(ENV_PREFIX)
                && !NO_SETTINGS.contains(&name.as_str())
                && !is_service_link(name, value)
        })
        .collect();
    variables.sort();
    let mut given = Vec::new();
    for (name, text) in variables {
        match ALL.iter().find(|setting| setting.env_name() == name) {
            Some(setting) => {
                given.push(Given { setting, text, origin: SettingOrigin::Environment(name) })
            }
            None => faults.push(unknown(&name)),
        }
    }
    given
}

/// The variable by which other programs find a proxy for `https://`, if one is set.
pub(super) fn proxy_variable(variables: &[(String, String)]) -> Option<String> {
    let is_proxy =
        |name: &str| ["https_proxy", "all_proxy"].contains(&name.to_ascii_lowercase().as_str());
    let found = variables.iter().find(|(name, value)| is_proxy(name) && !value.is_empty());
    found.map(|(name, _)| name.clone())
}

fn unknown(name: &str) -> Fault {
    let problem = if name[ENV_PREFIX.len()..].contains("__") {
        "no such setting"
    } else {
        "no such setting: a name has `__` between section and key"
    };
    Fault::new(
        name,
        problem,
        match nearest(name) {
            Some(setting) => format!("unset it, or set {} instead", setting.env_name()),
            None => "unset it; `eni-gateway config dump` lists all settings".to_owned(),
        },
    )
}

/// The setting with the most similar variable name, if any.
fn nearest(name: &str) -> Option<&'static Setting> {
    settings::nearest(name, |setting| setting.env_name())
}

/// Whether Kubernetes sets such a variable for a Service: `X_SERVICE_HOST`,
/// `X_SERVICE_PORT[_NAME]`, `X_PORT` with a URL as its value,
/// `X_PORT_<number>_<protocol>[_PROTO|_PORT|_ADDR]`.
fn is_service_link(name: &str, value: &str) -> bool {
    let Some(rest) = name.strip_prefix("ENI_GATEWAY") else {
        return false;
    };
    if rest.contains("__") {
        return false;
    }
    let is_port = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    rest.ends_with("_SERVICE_HOST")
        || (rest.contains("_SERVICE_PORT") && is_port)
        || (rest.ends_with("_PORT")
            && ["tcp://", "udp://", "sctp://"].iter().any(|scheme| value.starts_with(scheme)))
        || rest
            .match_indices("_PORT_")
            .any(|(at, separator)| is_numbered_port(&rest[at + separator.len()..]))
}

/// `50051_TCP`, `50051_TCP_ADDR` and the like.
fn is_numbered_port(text: &str) -> bool {
    let mut parts = text.split('_');
    let number = parts
        .next()
        .is_some_and(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()));
    let protocol = parts.next().is_some_and(|part| matches!(part, "TCP" | "UDP" | "SCTP"));
    let detail = parts.next().is_none_or(|part| matches!(part, "PROTO" | "PORT" | "ADDR"));
    number && protocol && detail && parts.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(variables: &[(&str, &str)]) -> (Vec<Given>, Vec<Fault>) {
        let mut faults = Vec::new();
        let variables =
            variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let given = read(variables, &mut faults);
        (given, faults)
    }

    #[test]
    fn what_kubernetes_injects_is_no_setting() {
        let (given, faults) = read_all(&[
            ("ENI_GATEWAY_PORT", "tcp://10.0.0.1:50051"),
            ("ENI_GATEWAY_SERVICE_HOST", "10.0.0.1"),
            ("ENI_GATEWAY_SERVICE_PORT", "50051"),
            ("ENI_GATEWAY_SERVICE_PORT_GRPC", "50051"),
            ("ENI_GATEWAY_PORT_50051_TCP", "tcp://10.0.0.1:50051"),
            ("ENI_GATEWAY_PORT_50051_TCP_PROTO", "tcp"),
            ("ENI_GATEWAY_PORT_50051_TCP_PORT", "50051"),
            ("ENI_GATEWAY_PORT_50051_TCP_ADDR", "10.0.0.1"),
            ("ENI_GATEWAY_HEADLESS_SERVICE_HOST", "None"),
            ("ENI_GATEWAY_REDIS_PORT_6379_TCP_ADDR", "10.0.0.2"),
            ("MY_ENI_GATEWAY_PORT", "tcp://10.0.0.1:50051"),
            ("PATH", "/bin"),
            ("ENI_GATEWAY_COMMIT", "0123456789ab"),
        ]);
        assert!(given.is_empty());
        assert_eq!(faults, []);
    }

    #[test]
    fn any_other_name_under_the_prefix_is_a_fault() {
        for name in [
            "ENI_GATEWAY_GRPC_LISTEN",
            "ENI_GATEWAY_LEDGER__URI",
            "ENI_GATEWAY_grpc__listen",
            "ENI_GATEWAY_",
            "ENI_GATEWAY_FOO",
            "ENI_GATEWAY_ADMIN_PORT",
            "ENI_GATEWAY_PORT_50051_TCP_FOO",
            "ENI_GATEWAY_X__SERVICE_HOST",
        ] {
            assert_eq!(read_all(&[(name, "9090")]).1.len(), 1, "{name}");
        }
        let (_, faults) = read_all(&[("ENI_GATEWAY_GRPC_LISTEN", "hunter2")]);
        assert!(faults[0].remedy.contains("ENI_GATEWAY_GRPC__LISTEN"), "{}", faults[0]);
        assert!(!faults[0].to_string().contains("hunter2"));
    }

    #[test]
    fn a_setting_is_read_as_text() {
        let (given, faults) = read_all(&[("ENI_GATEWAY_LEDGER__PREFIX", "0123")]);
        assert_eq!(faults, []);
        assert_eq!((given[0].setting.path, given[0].text.as_str()), ("ledger.prefix", "0123"));
    }
}
