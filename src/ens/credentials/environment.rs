//! The key in the environment.

use super::context::{ProviderContext, SkipReason};
use super::{Credentials, FetchError};

const ID: &str = "ALIBABA_CLOUD_ACCESS_KEY_ID";
const SECRET: &str = "ALIBABA_CLOUD_ACCESS_KEY_SECRET";
const TOKEN: &str = "ALIBABA_CLOUD_SECURITY_TOKEN";

/// `ALIBABA_CLOUD_ACCESS_KEY_ID`, `…_SECRET` and, for a session, `ALIBABA_CLOUD_SECURITY_TOKEN`.
#[derive(Debug)]
pub(super) struct Environment {
    credentials: Credentials,
}

impl Environment {
    pub(super) fn find(context: &ProviderContext) -> Result<Self, SkipReason> {
        let (id, secret) = match (context.var(ID), context.var(SECRET)) {
            (Some(id), Some(secret)) => (id, secret),
            (None, None) => {
                return Err(SkipReason::absent(format!("{ID} and {SECRET} are not set")));
            }
            (Some(_), None) => {
                return Err(SkipReason::broken(format!("{ID} is set, but {SECRET} is not")));
            }
            (None, Some(_)) => {
                return Err(SkipReason::broken(format!("{SECRET} is set, but {ID} is not")));
            }
        };
        let credentials = Credentials::new(id, secret);
        let credentials = match context.var(TOKEN) {
            Some(token) => credentials.with_token(token),
            None => credentials,
        };
        Ok(Self { credentials })
    }

    #[expect(clippy::unnecessary_wraps, reason = "the other sources can fail")]
    pub(super) fn fetch(&self) -> Result<Credentials, FetchError> {
        Ok(self.credentials.clone())
    }
}
