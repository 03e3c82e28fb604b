//! The standard gRPC health service. tonic's reports SERVING at first; this one reports
//! NOT_SERVING.

use tonic::server::NamedService;
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};

use super::proto::attachment_service_server::AttachmentServiceServer;

/// The names with a status: the whole server, and the service.
const NAMES: [&str; 2] = ["", <AttachmentServiceServer<()> as NamedService>::NAME];

/// The health service of this replica.
#[derive(Debug, Clone)]
pub struct Health {
    reporter: HealthReporter,
}

impl Health {
    /// A health service that reports NOT_SERVING.
    pub async fn new() -> Self {
        let health = Self { reporter: HealthReporter::new() };
        health.set(false).await;
        health
    }

    /// Sets the status. Watchers receive it if it changed.
    pub async fn set(&self, serving: bool) {
        let status = if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
        for name in NAMES {
            self.reporter.set_service_status(name, status).await;
        }
    }

    /// Reports NOT_SERVING, then ends the health streams. An open one would delay a graceful stop
    /// without bound.
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
