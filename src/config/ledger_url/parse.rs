//! Parser of `ledger.url`. Errors never quote the URL: an unescaped character in a password may
//! shift it into any part.

use percent_encoding::percent_decode_str;
use secrecy::SecretString;

use super::{LedgerUrl, Login, Server};
use crate::config::value::Value;

/// Default port of Redis.
const REDIS_PORT: u16 = 6379;
/// Default port of a sentinel.
const SENTINEL_PORT: u16 = 26379;

impl Value for LedgerUrl {
    const EXAMPLE: &'static str = "redis://127.0.0.1:6379";

    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("is not set, and has no default".to_owned());
        }
        let (scheme, rest) = text.split_once("://").ok_or("it is not a URL")?;
        let parts = Parts::of(rest)?;
        match scheme {
            "memory" if rest.is_empty() => Ok(Self::Memory),
            "memory" => Err("nothing may follow memory://".to_owned()),
            "unix" => parts.unix(),
            "redis" | "rediss" => parts.redis(scheme == "rediss"),
            "redis-sentinel" | "rediss-sentinel" => parts.sentinel(scheme == "rediss-sentinel"),
            "redis-cluster" | "rediss-cluster" => parts.cluster(scheme == "rediss-cluster"),
            _ => Err("its scheme must be one of memory, redis[s], unix, redis[s]-sentinel, \
                    redis[s]-cluster"
                .to_owned()),
        }
    }

    fn render(&self) -> Option<String> {
        Some(toml::Value::String(self.to_string()).to_string())
    }
}

/// The URL after its scheme. The url crate supports only one host.
struct Parts<'a> {
    login: Login,
    hosts: &'a str,
    path: &'a str,
    query: Vec<(&'a str, String)>,
}

impl<'a> Parts<'a> {
    fn of(rest: &'a str) -> Result<Self, String> {
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (login, hosts) = match authority.rsplit_once('@') {
            Some((login, hosts)) => (read_login(login)?, hosts),
            None => (Login::default(), authority),
        };
        let query = query.split('&').filter(|pair| !pair.is_empty());
        let query = query.map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            decoded(value).map(|value| (key, value))
        });
        Ok(Self { login, hosts, path, query: query.collect::<Result<_, _>>()? })
    }

    fn redis(self, tls: bool) -> Result<LedgerUrl, String> {
        let mut servers = read_servers(self.hosts, REDIS_PORT)?;
        let db = self.db()?;
        self.no_more_parameters()?;
        match (servers.pop(), servers.is_empty()) {
            (Some(server), true) => Ok(LedgerUrl::Redis { tls, server, login: self.login, db }),
            _ => {
                Err("redis:// has one host; use redis-sentinel:// or redis-cluster:// for several"
                    .to_owned())
            }
        }
    }

    fn unix(mut self) -> Result<LedgerUrl, String> {
        if !self.hosts.is_empty() || self.path.len() < 2 {
            return Err("unix:// needs an absolute path, as in unix:///run/redis.sock".to_owned());
        }
        // Silently dropped credentials would be missed only when Redis requires them.
        if self.login.user.is_some() || self.login.password.is_some() {
            return Err("unix:// has no user and no password; set ledger.password_file".to_owned());
        }
        let db = self.parameter("db").map_or(Ok(0), |db| read_db(&db))?;
        self.no_more_parameters()?;
        Ok(LedgerUrl::Unix { path: decoded(self.path)?.into(), db })
    }

    fn sentinel(mut self, tls: bool) -> Result<LedgerUrl, String> {
        let sentinels = read_servers(self.hosts, SENTINEL_PORT)?;
        let master = self.parameter("master").filter(|name| !name.is_empty());
        let master = master.ok_or("the primary's name is missing: add ?master=NAME")?;
        let db = self.db()?;
        self.no_more_parameters()?;
        Ok(LedgerUrl::Sentinel { tls, sentinels, login: self.login, db, master })
    }

    fn cluster(self, tls: bool) -> Result<LedgerUrl, String> {
        let nodes = read_servers(self.hosts, REDIS_PORT)?;
        self.no_more_parameters()?;
        match self.db()? {
            0 => Ok(LedgerUrl::Cluster { tls, nodes, login: self.login }),
            _ => Err("a cluster has only database 0".to_owned()),
        }
    }

    fn db(&self) -> Result<u32, String> {
        read_db(self.path.strip_prefix('/').unwrap_or(""))
    }

    fn parameter(&mut self, name: &str) -> Option<String> {
        let at = self.query.iter().position(|(key, _)| *key == name)?;
        Some(self.query.swap_remove(at).1)
    }

    fn no_more_parameters(&self) -> Result<(), String> {
        if self.query.is_empty() {
            Ok(())
        } else {
            Err("it has a parameter that this kind of URL does not support".to_owned())
        }
    }
}

fn read_login(text: &str) -> Result<Login, String> {
    let (user, password) = match text.split_once(':') {
        Some((user, password)) => (user, Some(decoded(password)?)),
        None => (text, None),
    };
    let user = Some(decoded(user)?).filter(|user| !user.is_empty());
    Ok(Login {
        user,
        password: password.filter(|password| !password.is_empty()).map(SecretString::from),
    })
}

fn read_servers(text: &str, default_port: u16) -> Result<Vec<Server>, String> {
    text.split(',').map(|server| read_server(server, default_port)).collect()
}

fn read_server(text: &str, default_port: u16) -> Result<Server, String> {
    let bad_port = || {
        "a port is not a number from 1 to 65535 (escape special characters of a password as %XX)"
            .to_owned()
    };
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, "")) => (host, None),
        Some((host, port)) => (host, Some(port.strip_prefix(':').ok_or_else(bad_port)?)),
        None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
    };
    if host.is_empty() {
        return Err("a host is missing".to_owned());
    }
    let in_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    // Only in brackets; an address may have a zone: fe80::1%eth0.
    let is_address = host.contains(':');
    let in_host = |byte: u8| in_name(byte) || is_address && matches!(byte, b':' | b'%');
    if !host.bytes().all(in_host) {
        return Err("a host has a character that is invalid in names and addresses".to_owned());
    }
    let port = match port {
        Some(port) => port.parse().ok().filter(|port| *port != 0).ok_or_else(bad_port)?,
        None => default_port,
    };
    Ok(Server { host: host.to_owned(), port })
}

fn read_db(text: &str) -> Result<u32, String> {
    if text.is_empty() {
        Ok(0)
    } else {
        text.parse().map_err(|_| "the database is not a number".to_owned())
    }
}

fn decoded(text: &str) -> Result<String, String> {
    percent_decode_str(text)
        .decode_utf8()
        .map(Into::into)
        .map_err(|_| "its %XX escapes are not UTF-8".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::ExposeSecret;

    #[test]
    fn every_form_is_read_and_shown_without_its_password() {
        for (text, shown) in [
            ("memory://", "memory://"),
            ("redis://localhost", "redis://localhost:6379/0"),
            ("rediss://user:hunter2@r.example:6380/3", "rediss://user:***@r.example:6380/3"),
            ("redis://:hunter2@[::1]:6380", "redis://:***@[::1]:6380/0"),
            ("redis://user@h", "redis://user@h:6379/0"),
            ("unix:///run/redis.sock?db=2", "unix:///run/redis.sock?db=2"),
            ("redis-sentinel://a,b:1/2?master=main", "redis-sentinel://a:26379,b:1/2?master=main"),
            ("rediss-cluster://:hunter2@a:1,b:2", "rediss-cluster://:***@a:1,b:2"),
        ] {
            let url = LedgerUrl::parse(text).expect(text);
            assert_eq!(url.to_string(), shown);
            assert!(!format!("{url:?}").contains("hunter2"));
        }
    }

    #[test]
    fn what_is_shown_is_read_as_the_same() {
        for (text, shown) in [
            ("redis://us%40er%3a:hunter2@h", "redis://us%40er%3A:***@h:6379/0"),
            ("unix:///run/a%3Fb%25.sock", "unix:///run/a%3Fb%25.sock?db=0"),
            ("redis-sentinel://a?master=a%26b%0a", "redis-sentinel://a:26379/0?master=a%26b%0A"),
            ("redis-cluster://[fe80::1%eth0]:1", "redis-cluster://[fe80::1%eth0]:1"),
        ] {
            let url = LedgerUrl::parse(text).expect(text);
            assert_eq!(url.to_string(), shown);
            let again = LedgerUrl::parse(shown).expect(shown);
            assert_eq!(format!("{again:?}"), format!("{url:?}"));
        }
    }

    #[test]
    fn a_password_may_hold_anything_once_escaped() {
        let url = LedgerUrl::parse("redis://:12%2F3%3f%40%3A@h").expect("it is a URL");
        let password =
            url.login().and_then(|login| login.password.as_ref()).expect("it has a password");
        assert_eq!(password.expose_secret(), "12/3?@:");
    }

    #[test]
    fn what_is_wrong_is_said_without_the_password() {
        for bad in [
            "",
            "redis",
            "redis://",
            "redis://:hunter2@",
            "redis://h:0",
            "redis://h:hunter2/x@y",
            "redis://:a?hunter2@h",
            "redis://:hunter2@a,b",
            "redis://h/x",
            "redis://:hunter2@h?x=hunter2",
            "unix://run/redis.sock",
            "unix://:hunter2@/run/redis.sock",
            "redis://:hunter2@a b",
            "redis://:hunter2@a\n",
            "redis://[::1",
            "redis://[%1]",
            "redis://a]",
            "redis-sentinel://:hunter2@a",
            "redis-cluster://:hunter2@a/1",
            "http://:hunter2@h",
            "memory://x",
            "redis://:%ffhunter2@h",
        ] {
            let problem = LedgerUrl::parse(bad).expect_err(bad);
            assert!(!problem.contains("hunter2"), "{bad}: {problem}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "(redis|unix|redis-sentinel|redis-cluster)://[a-z0-9@:/?&=,%\\[\\]]*") {
            let _ = LedgerUrl::parse(&text);
        }
    }
}
