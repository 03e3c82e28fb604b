//! The standard gRPC health service. tonic's starts with the whole server SERVING; this one starts with NOT_SERVING.

use tonic::server::NamedService;
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};

use super::proto::attachment_service_server::AttachmentServiceServer;

/// The names whose health is told: the server as a whole, and the service.
const NAMES: [&str; 2] = ["", <AttachmentServiceServer<()> as NamedService>::NAME];

/// Says whether callers should come here.
#[derive(Debug, Clone)]
pub struct Health {
    reporter: HealthReporter,
}

impl Health {
    /// NOT_SERVING.
    pub async fn new() -> Self {
        let health = Self {
            reporter: HealthReporter::new(),
        };
        health.set(false).await;
        health
    }

    /// Tells those who ask, and those who watch, if it changed.
    pub async fn set(&self, serving: bool) {
        let status = if serving {
            ServingStatus::Serving
        } else {
            ServingStatus::NotServing
        };
        for name in NAMES {
            self.reporter.set_service_status(name, status).await;
        }
    }

    /// Says NOT_SERVING and then ends the streams of those who watch it: an open one would hold up a graceful stop for ever.
    pub(super) async fn end(mut self) {
        self.set(false).await;
        for name in NAMES {
            self.reporter.clear_service_status(name).await;
        }
    }

    pub(super) fn server(&self) -> HealthServer<HealthService> {
        HealthServer::new(HealthService::from_health_reporter(self.reporter.clone()))
    }
}
