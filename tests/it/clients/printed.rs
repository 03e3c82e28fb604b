use std::time::Duration;

use eni::attachment_service_client::AttachmentServiceClient;
use eni::watch_attachment_response::Event;
use eni::{AttachNetworkInterfaceRequest, Attachment, WatchAttachmentRequest};
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt;

pub type Client = AttachmentServiceClient<Channel>;

/// `ErrorInfo.reason`; `OUTCOME_UNKNOWN` for an error that is not the gateway's.
fn reason(status: &Status) -> String {
    let info = status.get_details_error_info();
    info.map_or_else(|| "OUTCOME_UNKNOWN".to_owned(), |info| info.reason)
}

/// Attaches, and retries lost calls.
pub async fn attach(
    client: &mut Client,
    instance: &str,
    eni: &str,
    request_id: &str,
) -> Result<Attachment, Status> {
    let mut tries = 5;
    loop {
        let mut request = Request::new(AttachNetworkInterfaceRequest {
            instance_id: instance.to_owned(),
            network_interface_id: eni.to_owned(),
            request_id: request_id.to_owned(),
            ..Default::default()
        });
        request.set_timeout(Duration::from_secs(30));
        let status = match client.attach_network_interface(request).await {
            Ok(response) => return Ok(response.into_inner().attachment.unwrap_or_default()),
            Err(status) => status,
        };
        tries -= 1;
        let passes = status.code() == Code::Unavailable
            || ["OUTCOME_UNKNOWN", "LOCK_WAIT"].contains(&reason(&status).as_str());
        if tries == 0 || !passes {
            return Err(status);
        }
        let delay = status
            .get_details_retry_info()
            .and_then(|info| info.retry_delay);
        tokio::time::sleep(delay.unwrap_or(Duration::from_millis(500))).await;
    }
}

/// Passes every change to `observe`, over several streams if needed.
pub async fn watch(
    client: &mut Client,
    instance: &str,
    eni: &str,
    mut observe: impl FnMut(Attachment),
) -> Result<(), Status> {
    let (mut after_revision, mut pause) = (0, Duration::from_millis(100));
    loop {
        let request = WatchAttachmentRequest {
            instance_id: instance.to_owned(),
            network_interface_id: eni.to_owned(),
            after_revision,
            follow: false,
        };
        let ended = async {
            let mut stream = client.watch_attachment(request).await?.into_inner();
            while let Some(message) = stream.message().await? {
                pause = Duration::from_millis(100);
                match message.event {
                    Some(Event::Attachment(attachment)) => {
                        after_revision = attachment.revision;
                        observe(attachment);
                    }
                    Some(Event::Heartbeat(heartbeat)) => after_revision = heartbeat.revision,
                    None => {}
                }
            }
            // Only the gateway sends a status. A proxy that lost it may just end the stream.
            match stream.trailers().await? {
                Some(_) => Ok(()),
                None => Err(Status::unavailable("the stream ended without a status")),
            }
        };
        match ended.await {
            Err(status)
                if Status::code(&status) == Code::Unavailable
                    || reason(&status) == "OUTCOME_UNKNOWN" =>
            {
                let delay = status
                    .get_details_retry_info()
                    .and_then(|info| info.retry_delay);
                let jitter = pause.mul_f64(rand::random_range(0.0..1.0));
                tokio::time::sleep(delay.unwrap_or_default() + jitter).await;
                pause = (2 * pause).min(Duration::from_secs(5));
            }
            ended => return ended,
        }
    }
}
