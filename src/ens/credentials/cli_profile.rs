//! A profile of Alibaba Cloud's CLI, in each mode that works without a browser. Each fetch reads
//! the file, so a replaced key takes effect.

use std::fmt;
use std::path::PathBuf;

use secrecy::SecretString;
use serde::Deserialize;

use super::context::{ProviderContext, SkipReason};
use super::ecs_role::EcsRole;
use super::oidc::Oidc;
use super::process::Process;
use super::role::{AssumedRole, Role};
use super::source::Source;
use super::sts::{Preference, Sts};
use super::uri::Uri;
use super::{Credentials, FetchError};

const DISABLED: &str = "ALIBABA_CLOUD_CLI_PROFILE_DISABLED";
const FILE: &str = "ALIBABA_CLOUD_CONFIG_FILE";
const PROFILE: &str = "ALIBABA_CLOUD_PROFILE";

/// The modes, as the CLI names them.
const MODES: &str = "AK, StsToken, RamRoleArn, ChainableRamRoleArn, RamRoleArnWithRoleName, \
    EcsRamRole, OIDC, CredentialsURI and External";

/// A profile of `~/.aliyun/config.json`.
#[derive(Debug)]
pub(super) struct CliProfile {
    file: PathBuf,
    profile: Option<String>,
    context: ProviderContext,
}

#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    current: String,
    #[serde(default)]
    profiles: Vec<Profile>,
}

#[derive(Deserialize, Clone, Default)]
#[serde(default)]
struct Profile {
    name: String,
    mode: String,
    access_key_id: String,
    access_key_secret: String,
    sts_token: String,
    ram_role_name: String,
    ram_role_arn: String,
    ram_session_name: String,
    role_session_name: String,
    external_id: String,
    policy: String,
    expired_seconds: u32,
    source_profile: String,
    sts_endpoint: String,
    sts_region: String,
    enable_vpc: Option<bool>,
    oidc_provider_arn: String,
    oidc_token_file: String,
    credentials_uri: String,
    process_command: String,
}

impl CliProfile {
    pub(super) fn find(context: &ProviderContext) -> Result<Self, SkipReason> {
        if context.is_true(DISABLED) {
            return Err(SkipReason::absent(format!("switched off by {DISABLED}")));
        }
        let file = match (context.var(FILE), context.var("HOME")) {
            (Some(file), _) => PathBuf::from(file),
            (None, Some(home)) => PathBuf::from(home).join(".aliyun/config.json"),
            (None, None) => {
                return Err(SkipReason::absent(format!("neither {FILE} nor HOME is set")));
            }
        };
        if !file.exists() {
            return Err(SkipReason::absent(format!("{} does not exist", file.display())));
        }
        let found = Self { file, profile: context.var(PROFILE), context: context.clone() };
        match found.source() {
            Ok(_) => Ok(found),
            Err(error) => Err(SkipReason::broken(error.to_string())),
        }
    }

    /// The source that the profile names now.
    pub(super) fn source(&self) -> Result<Source, FetchError> {
        let file = self.file.display();
        let text = std::fs::read_to_string(&self.file)
            .map_err(|error| FetchError::lasting(format!("{file} cannot be read: {error}")))?;
        // serde's message may quote the input, which holds secrets.
        let config: Config = serde_json::from_str(&text).map_err(|error| {
            FetchError::lasting(format!(
                "{file}, line {}: invalid JSON of a profile \
                file",
                error.line()
            ))
        })?;
        let name = self.profile.as_ref().unwrap_or(&config.current);
        let mut path = Vec::new();
        let found = source(&config.profiles, name, &mut path, &self.context);
        found.map_err(|why| FetchError::lasting(format!("{file}{why}")))
    }
}

impl fmt::Display for CliProfile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CLI profile in {}", self.file.display())
    }
}

/// The source of the profile `name`. `path` has the profiles that name it as their source.
fn source<'a>(
    profiles: &'a [Profile],
    name: &'a str,
    path: &mut Vec<&'a str>,
    context: &ProviderContext,
) -> Result<Source, String> {
    let Some(profile) = profiles.iter().find(|profile| profile.name == name) else {
        return Err(format!(" has no profile {name:?}"));
    };
    let of_profile = |why: String| format!(", profile {name:?}: {why}");
    if path.contains(&name) {
        return Err(of_profile("it is its own source_profile".to_owned()));
    }
    path.push(name);
    if profile.mode == "ChainableRamRoleArn" {
        let by = required("source_profile", &profile.source_profile).map_err(of_profile)?;
        let by = source(profiles, by, path, context)?;
        return profile.assumed(by, context).map_err(of_profile);
    }
    profile.own_source(context).map_err(of_profile)
}

impl Profile {
    /// The source of a profile that needs no other one.
    fn own_source(&self, context: &ProviderContext) -> Result<Source, String> {
        match self.mode.as_str() {
            "AK" => self.key().map(Source::Fixed),
            "StsToken" => {
                let token = required("sts_token", &self.sts_token)?;
                Ok(Source::Fixed(self.key()?.with_token(token)))
            }
            "RamRoleArn" => {
                let key = self.key()?;
                let key =
                    optional(&self.sts_token).map_or(key.clone(), |token| key.with_token(token));
                self.assumed(Source::Fixed(key), context)
            }
            "RamRoleArnWithRoleName" => self.assumed(self.ecs_role(context), context),
            "EcsRamRole" => Ok(self.ecs_role(context)),
            "OIDC" => Ok(Source::Oidc(Oidc {
                role: required("ram_role_arn", &self.ram_role_arn)?.to_owned(),
                provider: required("oidc_provider_arn", &self.oidc_provider_arn)?.to_owned(),
                token_file: required("oidc_token_file", &self.oidc_token_file)?.into(),
                session_name: self.session_name(),
                policy: optional(&self.policy),
                duration_seconds: self.duration_seconds(),
                sts: self.sts(context)?,
            })),
            "CredentialsURI" => {
                let uri = required("credentials_uri", &self.credentials_uri)?;
                Uri::parse(uri, "credentials_uri").map(Source::Uri)
            }
            "External" => {
                let command = required("process_command", &self.process_command)?;
                Process::parse(command).map(Source::Process)
            }
            mode @ ("CloudSSO" | "OAuth") => {
                Err(format!("the mode {mode} needs a browser; use one of {MODES}"))
            }
            mode => Err(format!("the mode {mode:?} is not supported; use one of {MODES}")),
        }
    }

    fn key(&self) -> Result<Credentials, String> {
        let id = required("access_key_id", &self.access_key_id)?;
        let secret = required("access_key_secret", &self.access_key_secret)?;
        Ok(Credentials::new(id, secret))
    }

    fn ecs_role(&self, context: &ProviderContext) -> Source {
        Source::EcsRole(EcsRole::named(context, optional(&self.ram_role_name)))
    }

    fn assumed(&self, by: Source, context: &ProviderContext) -> Result<Source, String> {
        let role = Role {
            arn: required("ram_role_arn", &self.ram_role_arn)?.to_owned(),
            session_name: self.session_name(),
            external_id: optional(&self.external_id).map(SecretString::from),
            policy: optional(&self.policy),
            duration_seconds: self.duration_seconds(),
        };
        Ok(Source::Assumed(AssumedRole::new(role, self.sts(context)?), Box::new(by)))
    }

    /// The CLI and the SDKs name the field differently.
    fn session_name(&self) -> Option<String> {
        optional(&self.ram_session_name).or_else(|| optional(&self.role_session_name))
    }

    fn duration_seconds(&self) -> Option<u32> {
        (self.expired_seconds > 0).then_some(self.expired_seconds)
    }

    fn sts(&self, context: &ProviderContext) -> Result<Sts, String> {
        let preference = Preference {
            endpoint: optional(&self.sts_endpoint),
            region: optional(&self.sts_region),
            vpc: self.enable_vpc,
        };
        Sts::find(context, preference)
    }
}

fn optional(value: &str) -> Option<String> {
    (!value.is_empty()).then(|| value.to_owned())
}

fn required<'a>(name: &str, value: &'a str) -> Result<&'a str, String> {
    if value.is_empty() { Err(format!("{name} is empty")) } else { Ok(value) }
}
