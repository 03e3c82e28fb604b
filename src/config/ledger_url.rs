//! `ledger.url`: the ledger's storage, as a URL. Its errors and its `Display` never show the
//! password.

use std::fmt;
use std::path::PathBuf;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, PercentEncode, utf8_percent_encode};
use secrecy::{ExposeSecret as _, SecretString};

mod parse;

/// Shown in place of a password.
pub const MASK: &str = "***";

/// The ledger's storage.
#[derive(Clone, Debug)]
pub enum LedgerUrl {
    /// `memory://`: in this process.
    Memory,
    /// `redis[s]://[user[:password]@]host[:port][/db]`.
    Redis {
        /// Whether over TLS.
        tls: bool,
        /// The server.
        server: Server,
        /// Credentials.
        login: Login,
        /// Database number.
        db: u32,
    },
    /// `unix:///path[?db=N]`.
    Unix {
        /// The socket.
        path: PathBuf,
        /// Database number.
        db: u32,
    },
    /// `redis[s]-sentinel://[user[:password]@]host[:port],…[/db]?master=NAME`.
    Sentinel {
        /// Whether over TLS.
        tls: bool,
        /// The sentinels.
        sentinels: Vec<Server>,
        /// Credentials for the primary.
        login: Login,
        /// Database number.
        db: u32,
        /// The primary's name.
        master: String,
    },
    /// `redis[s]-cluster://[user[:password]@]host[:port],…`.
    Cluster {
        /// Whether over TLS.
        tls: bool,
        /// The first nodes to contact.
        nodes: Vec<Server>,
        /// Credentials.
        login: Login,
    },
}

/// A host and its port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Name or address; an IPv6 address without its brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Credentials for Redis.
#[derive(Clone, Debug, Default)]
pub struct Login {
    /// The ACL user; without it, Redis' default user.
    pub user: Option<String>,
    /// The password in the URL; prefer `ledger.password_file`.
    pub password: Option<SecretString>,
}

impl LedgerUrl {
    /// The credentials, if the form has any.
    #[must_use]
    pub fn login(&self) -> Option<&Login> {
        match self {
            Self::Memory | Self::Unix { .. } => None,
            Self::Redis { login, .. }
            | Self::Sentinel { login, .. }
            | Self::Cluster { login, .. } => Some(login),
        }
    }

    /// Whether it holds a password.
    #[must_use]
    pub fn has_password(&self) -> bool {
        self.login().is_some_and(|login| login.password.is_some())
    }

    /// Whether its password is the mask that its `Display` shows.
    #[must_use]
    pub fn has_masked_password(&self) -> bool {
        let password = self.login().and_then(|login| login.password.as_ref());
        password.is_some_and(|password| password.expose_secret() == MASK)
    }

    /// Whether it is over TLS.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        match self {
            Self::Memory | Self::Unix { .. } => false,
            Self::Redis { tls, .. } | Self::Sentinel { tls, .. } | Self::Cluster { tls, .. } => {
                *tls
            }
        }
    }

    fn scheme(&self) -> &'static str {
        match (self, self.is_tls()) {
            (Self::Memory, _) => "memory",
            (Self::Unix { .. }, _) => "unix",
            (Self::Redis { .. }, false) => "redis",
            (Self::Redis { .. }, true) => "rediss",
            (Self::Sentinel { .. }, false) => "redis-sentinel",
            (Self::Sentinel { .. }, true) => "rediss-sentinel",
            (Self::Cluster { .. }, false) => "redis-cluster",
            (Self::Cluster { .. }, true) => "rediss-cluster",
        }
    }
}

/// Characters that names escape, because they could end the name when the URL is parsed.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// Characters that paths escape.
const ESCAPED_IN_PATH: &AsciiSet = &ESCAPED.remove(b'/');

fn escaped(text: &str) -> PercentEncode<'_> {
    utf8_percent_encode(text, ESCAPED)
}

/// The URL with its password masked. Otherwise it parses to the same value.
impl fmt::Display for LedgerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://", self.scheme())?;
        if let Some(login) = self.login() {
            let user = login.user.as_deref().unwrap_or_default();
            match (&login.user, &login.password) {
                (_, Some(_)) => write!(f, "{}:{MASK}@", escaped(user))?,
                (Some(_), None) => write!(f, "{}@", escaped(user))?,
                (None, None) => {}
            }
        }
        match self {
            Self::Memory => Ok(()),
            Self::Redis { server, db, .. } => write!(f, "{server}/{db}"),
            Self::Unix { path, db } => {
                let path = path.to_string_lossy();
                write!(f, "{}?db={db}", utf8_percent_encode(&path, ESCAPED_IN_PATH))
            }
            Self::Sentinel { sentinels, db, master, .. } => {
                write!(f, "{}/{db}?master={}", joined(sentinels), escaped(master))
            }
            Self::Cluster { nodes, .. } => f.write_str(&joined(nodes)),
        }
    }
}

fn joined(servers: &[Server]) -> String {
    servers.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}
