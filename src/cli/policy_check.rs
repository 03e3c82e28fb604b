//! `policy check`: validates a policy file, and shows its decisions.

use std::io::Write as _;
use std::path::PathBuf;

use super::error::Error;
use super::style::{BAD, GOOD, HEAD, paint};
use crate::identity::{self, Principal};
use crate::model::{InstanceId, InterfaceId};
use crate::policy::{AccessRequest, Action, Decision, Policy};

const EXAMPLES: &str = "\
Examples:
  eni-gateway policy check policy.toml
  eni-gateway policy check policy.toml --caller dns:a.example \\
    --caller dns:b.example --instance i-web-1 --instance i-db-1
  eni-gateway policy check policy.toml --instance i-web-1 --eni eni-1 \\
    --caller spiffe://prod.example/ns/web/sa/api --action attach

With callers it prints a decision for each instance and action. With one action it also explains \
the decision, rule by rule. A file with faults prints all of them, and ends with 64.";

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Validate a policy file, and show its decisions
    #[command(after_help = EXAMPLES)]
    Check(Args),
}

/// Arguments of `policy check`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The policy file
    file: PathBuf,
    /// Name of a caller, as audit lines show it; may be repeated
    #[arg(long, value_name = "NAME", requires = "instance", value_parser = principal)]
    caller: Vec<Principal>,
    /// Instance of the calls; may be repeated
    #[arg(long, value_name = "ID", requires = "caller")]
    instance: Vec<InstanceId>,
    /// ENI of the calls. Without it, the calls are about all ENIs of the instance
    #[arg(long, value_name = "ID", requires = "caller")]
    eni: Option<InterfaceId>,
    /// Explain the decision on this action: attach, watch, get, list or capacity
    #[arg(long, requires = "caller", value_parser = action)]
    action: Option<Action>,
    /// The attaches only check, and change nothing
    #[arg(long, requires = "caller")]
    validate_only: bool,
}

fn principal(name: &str) -> Result<Principal, String> {
    identity::named(name).map_err(|error| error.to_string())
}

fn action(name: &str) -> Result<Action, String> {
    Action::named(name).ok_or_else(|| "is none of attach, watch, get, list and capacity".to_owned())
}

pub(super) fn run(Command::Check(args): Command) -> Result<(), Error> {
    let shown = args.file.display();
    let text = std::fs::read_to_string(&args.file)
        .map_err(|error| Error::Usage(format!("{shown} cannot be read: {error}")))?;
    let policy = Policy::parse(&text)
        .map_err(|error| Error::Usage(format!("{shown} is no valid policy:\n{error}")))?;
    let mut stdout = anstream::stdout();
    if args.caller.is_empty() {
        for rule in policy.rules() {
            writeln!(stdout, "{:6}  {}", rule.effect.name(), rule.id)?;
        }
        return Ok(());
    }
    let actions = args.action.map_or(Action::ALL.to_vec(), |action| vec![action]);
    for caller in &args.caller {
        writeln!(stdout, "{}", paint(HEAD, &caller.name.0))?;
        for instance in &args.instance {
            for action in &actions {
                let request = AccessRequest {
                    principal: caller,
                    action: *action,
                    instance,
                    eni: args.eni.as_ref(),
                    validate_only: args.validate_only,
                };
                let decision = policy.decide(&request);
                writeln!(stdout, "  {instance}  {:8}  {}", action.name(), verdict(&decision))?;
                if args.action.is_some() {
                    explain(&policy, &request, &mut stdout)?;
                }
            }
        }
    }
    Ok(())
}

fn verdict(decision: &Decision) -> String {
    match decision {
        Decision::Allowed(rule) => format!("{} by {rule}", paint(GOOD, "allowed")),
        Decision::Forbidden(rule) => format!("{} by {rule}", paint(BAD, "forbidden")),
        Decision::NotAllowed => paint(BAD, "not allowed by any rule"),
    }
}

/// Prints each rule, in the order in which they are tried.
fn explain(
    policy: &Policy,
    request: &AccessRequest<'_>,
    out: &mut impl std::io::Write,
) -> Result<(), Error> {
    for rule in policy.rules() {
        let why = rule.unmet(request).map_or_else(
            || "matches".to_owned(),
            |condition| format!("does not match: {condition}"),
        );
        writeln!(out, "    {:6}  {}  {why}", rule.effect.name(), rule.id)?;
    }
    Ok(())
}
