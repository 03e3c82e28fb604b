//! Every error that the simulator answers, with its documented code and HTTP status.

use std::borrow::Cow;
use std::time::Duration;

/// One error answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// HTTP status.
    pub status: u16,
    /// `Code`.
    pub code: Cow<'static, str>,
    /// `Message`.
    pub message: Cow<'static, str>,
    /// `x-acs-retry-after`, sent in milliseconds.
    pub retry_after: Option<Duration>,
}

/// The documented errors, by meaning.
macro_rules! refusals {
    ($($name:ident = $status:literal $code:literal $message:literal;)*) => {
        $(
            #[doc = concat!("`", $code, "`")]
            pub const $name: Self = Self {
                status: $status,
                code: Cow::Borrowed($code),
                message: Cow::Borrowed($message),
                retry_after: None,
            };
        )*
    };
}

impl Refusal {
    refusals! {
        // From the pages of AttachNetworkInterface and DetachNetworkInterface. All are HTTP 400.
        INSTANCE_NOT_FOUND = 400 "InstanceNotFound" "The specified parameter instancdId that is not found.";
        ENI_NOT_FOUND = 400 "InvalidEniId.NotFound" "The specified NetworkInterfaceId does not exist.";
        ENI_SERVICE_MANAGED = 400 "InvalidParameter.EniServiceManaged" "The eni is managed by service.";
        ENI_TYPE = 400 "InvalidOperation.InvalidEniType" "The type of eni does not support this operation.";
        ENI_STATUS = 400 "InvalidOperation.InvalidEniStatus" "Current eni status does not support this operation.";
        ENS_STATUS = 400 "InvalidOperation.InvalidEnsStatus" "Current instance status does not support this operation.";
        INSTANCE_NOT_SUPPORTED = 400 "InvalidOperation.InstanceNotSupport" "The instance does not support this operation.";
        NETWORK_MISMATCH = 400 "InvalidOperation.NetworkMismatch" "The eni and the instance are not in the same network.";
        LIMIT_EXCEEDED = 400 "EniPerInstanceLimitExceeded" "The number of enis of the instance exceeds the limit.";
        NO_PERMISSION = 400 "NoPermission" "Permission denied.";
        INTERFACE_ERROR = 400 "ens.interface.error" "An error occurred while call the API.";

        // Common to all of Alibaba Cloud.
        THROTTLED = 400 "Throttling.User" "Request was denied due to user flow control.";
        SIGNATURE_MISMATCH = 400 "SignatureDoesNotMatch" "Specified signature is not matched with our calculation.";
        SIGNATURE_INCOMPLETE = 400 "IncompleteSignature" "The request signature does not conform to Aliyun standards.";
        NONCE_USED = 400 "SignatureNonceUsed" "Specified signature nonce was used already.";
        KEY_NOT_FOUND = 404 "InvalidAccessKeyId.NotFound" "Specified access key is not found.";
        KEY_INACTIVE = 400 "InvalidAccessKeyId.Inactive" "Specified access key is disabled.";
        DATE_EXPIRED = 400 "InvalidTimeStamp.Expired" "Specified time stamp or date value is expired.";
        DATE_FORMAT = 400 "InvalidTimeStamp.Format" "Specified time stamp or date value is not well formatted.";
        TOKEN_MISSING = 400 "MissingSecurityToken" "SecurityToken is mandatory for this action.";
        TOKEN_EXPIRED = 400 "InvalidSecurityToken.Expired" "Specified SecurityToken is expired.";
        TOKEN_MALFORMED = 400 "InvalidSecurityToken.Malformed" "Specified SecurityToken is malformed.";
        TOKEN_MISMATCH = 400 "InvalidSecurityToken.MismatchWithAccessKey" "Specified SecurityToken mismatch with the AccessKey.";
        UNKNOWN_ACTION = 404 "InvalidAction.NotFound" "Specified api is not found, please check your url and method.";
        UNKNOWN_VERSION = 400 "InvalidVersion" "Specified parameter Version is not valid.";
        METHOD = 405 "UnsupportedHTTPMethod" "The HTTP method is not supported.";
    }

    /// A refusal with any code.
    pub fn new(
        status: u16,
        code: impl Into<Cow<'static, str>>,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self { status, code: code.into(), message: message.into(), retry_after: None }
    }

    /// `InvalidParameter.<field>`.
    #[must_use]
    pub fn invalid_parameter(field: &str) -> Self {
        Self::new(
            400,
            format!("InvalidParameter.{field}"),
            format!("The specified field {field} invalid."),
        )
    }

    /// `MissingParameter`, for a required header.
    #[must_use]
    pub fn missing(header: &str) -> Self {
        Self::new(400, "MissingParameter", format!("{header} is mandatory for this action."))
    }

    /// Sets another message.
    #[must_use]
    pub fn saying(mut self, message: impl Into<Cow<'static, str>>) -> Self {
        self.message = message.into();
        self
    }

    /// Sets `x-acs-retry-after`.
    #[must_use]
    pub fn retry_after(mut self, delay: Option<Duration>) -> Self {
        self.retry_after = delay;
        self
    }
}
