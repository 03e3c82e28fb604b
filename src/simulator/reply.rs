//! ENS's answer before faults apply.

use serde_json::{Value, json};

use super::refusal::Refusal;

/// `HostId` of every error.
const HOST_ID: &str = "ens.aliyuncs.com";

/// One answer of ENS.
#[derive(Clone, PartialEq, Debug)]
pub struct HttpReply {
    /// `RequestId`.
    pub request_id: String,
    /// The fields besides `RequestId`, or the refusal.
    pub outcome: Result<Value, Refusal>,
}

impl HttpReply {
    /// HTTP status.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.outcome.as_ref().map_or_else(|refusal| refusal.status, |_| 200)
    }

    /// `ok`, or ENS's code.
    #[must_use]
    pub fn code(&self) -> &str {
        self.outcome.as_ref().map_or_else(|refusal| &*refusal.code, |_| "ok")
    }

    /// The JSON body.
    #[must_use]
    pub fn body(&self) -> Value {
        let mut body = match &self.outcome {
            Ok(fields) => fields.clone(),
            Err(refusal) => json!({
                "Code": refusal.code,
                "Message": refusal.message,
                "HostId": HOST_ID,
                "Recommend": format!(
                    "https://api.alibabacloud.com/troubleshoot?q={}&product=Ens&requestId={}",
                    refusal.code, self.request_id
                ),
            }),
        };
        body["RequestId"] = Value::from(self.request_id.as_str());
        body
    }
}
