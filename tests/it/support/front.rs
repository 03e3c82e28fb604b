//! Real proxies, nginx and HAProxy, in front of a replica.

use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::gateway::eventually;
use super::redis::free_port;

const NGINX: &str = include_str!("../../proxies/nginx.conf");
const HAPROXY: &str = include_str!("../../proxies/haproxy.cfg");

/// A proxy of its own, from its configuration with the ports filled in.
pub(crate) struct Front {
    port: u16,
    process: Child,
    _directory: TempDir,
}

impl Front {
    pub(crate) async fn start(program: &str, replica: u16) -> Self {
        let (port, directory) = (free_port(), TempDir::new().unwrap());
        let folder = directory.path().to_str().unwrap();
        let (text, arguments) = match program {
            "nginx" => (NGINX, &["-p", folder, "-e", "stderr", "-c"][..]),
            _ => (HAPROXY, &["-f"][..]),
        };
        let filled = [("@PORT@", port.to_string()), ("@REPLICA@", replica.to_string())]
            .into_iter()
            .chain([("@FOLDER@", folder.to_owned())])
            .fold(text.to_owned(), |text, (name, value)| text.replace(name, &value));
        let file = directory.path().join("proxy.conf");
        std::fs::write(&file, filled).unwrap();
        let process = Command::new(program)
            .args(arguments)
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("{program} (Debian: nginx-light, haproxy): {error}"));
        let listens = async || tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok();
        eventually("the proxy does not listen", listens).await;
        Self { port, process, _directory: directory }
    }

    /// The address that its callers use.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
