//! A profile of Alibaba Cloud's CLI, in the modes `AK` and `StsToken`. Each fetch reads the file,
//! so a replaced key takes effect.

use std::path::PathBuf;

use serde::Deserialize;

use super::context::{ProviderContext, SkipReason};
use super::{Credentials, FetchError};

const DISABLED: &str = "ALIBABA_CLOUD_CLI_PROFILE_DISABLED";
const FILE: &str = "ALIBABA_CLOUD_CONFIG_FILE";
const PROFILE: &str = "ALIBABA_CLOUD_PROFILE";

/// A profile of `~/.aliyun/config.json`.
#[derive(Debug)]
pub(super) struct CliProfile {
    file: PathBuf,
    profile: Option<String>,
}

#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    current: String,
    #[serde(default)]
    profiles: Vec<Profile>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Profile {
    name: String,
    mode: String,
    access_key_id: String,
    access_key_secret: String,
    sts_token: String,
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
        let found = Self { file, profile: context.var(PROFILE) };
        match found.fetch() {
            Ok(_) => Ok(found),
            Err(error) => Err(SkipReason::broken(error.to_string())),
        }
    }

    pub(super) fn file(&self) -> &std::path::Path {
        &self.file
    }

    pub(super) fn fetch(&self) -> Result<Credentials, FetchError> {
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
        let profile = config
            .profiles
            .into_iter()
            .find(|profile| profile.name == *name)
            .ok_or_else(|| FetchError::lasting(format!("{file} has no profile {name:?}")))?;
        profile
            .credentials()
            .map_err(|why| FetchError::lasting(format!("{file}, profile {name:?}: {why}")))
    }
}

impl Profile {
    fn credentials(self) -> Result<Credentials, String> {
        let session = match self.mode.as_str() {
            "AK" => false,
            "StsToken" => true,
            other => {
                return Err(format!("its mode is {other:?}; the gateway reads AK and StsToken"));
            }
        };
        for (name, value) in
            [("access_key_id", &self.access_key_id), ("access_key_secret", &self.access_key_secret)]
        {
            if value.is_empty() {
                return Err(format!("{name} is empty"));
            }
        }
        let credentials = Credentials::new(self.access_key_id, self.access_key_secret);
        match (session, self.sts_token.is_empty()) {
            (false, _) => Ok(credentials),
            (true, false) => Ok(credentials.with_token(self.sts_token)),
            (true, true) => Err("sts_token is empty".to_owned()),
        }
    }
}
