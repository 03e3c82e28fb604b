//! The cases: what must be there before, what one call is, and which answer is the right one.

use eni_gateway::grpc::proto::{
    AttachNetworkInterfaceRequest, GetAttachmentRequest, ListAttachmentsRequest, attachment::State,
};
use tonic::{Code, Status};

use crate::Result;
use crate::ens::SLOW;
use crate::load::{self, Target};
use crate::side::{Client, Program, Side};

/// The limit of an instance, by default.
const LIMIT: usize = 10;
/// Instances that reads, refusals and joins go to: more than calls are in flight.
const SHARED: usize = 64;

/// One kind of call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Case {
    /// An attach to an instance that was never described.
    AttachFresh,
    /// An attach to an instance that was described within the last two seconds.
    AttachRecent,
    /// GetAttachment of an ENI that the gateway attached.
    Get,
    /// An attach to an instance with as many ENIs as it may have.
    Refusal,
    /// An attach of an ENI that is being attached to the same instance.
    Join,
}

impl Case {
    pub(crate) const ALL: [Self; 5] =
        [Self::AttachFresh, Self::AttachRecent, Self::Get, Self::Refusal, Self::Join];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::AttachFresh => "attach fresh",
            Self::AttachRecent => "attach recent",
            Self::Get => "get",
            Self::Refusal => "refusal",
            Self::Join => "join",
        }
    }

    /// What the ids of its instances begin with. The floor knows the case by it.
    fn prefix(self) -> &'static str {
        match self {
            Self::AttachFresh => "fresh-",
            Self::AttachRecent => "recent-",
            Self::Get => "get-",
            Self::Refusal => "full-",
            Self::Join => "join-",
        }
    }

    /// The case that an instance belongs to.
    pub(crate) fn of(instance: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|case| instance.starts_with(case.prefix()))
    }

    /// Whether each call begins an attempt, which the gateway then settles.
    pub(crate) fn attaches(self) -> bool {
        matches!(self, Self::AttachFresh | Self::AttachRecent)
    }

    /// Makes what all rounds of a side need.
    pub(crate) async fn set_up(self, side: &Side) -> Result<()> {
        let instances = (0..SHARED).map(|number| format!("{}{number}", self.prefix()));
        let attached: Vec<Target> = match self {
            _ if matches!(side.program, Program::Floor) => return Ok(()),
            Self::AttachFresh | Self::AttachRecent => return Ok(()),
            Self::Get => {
                instances.map(|instance| Target::new(format!("eni-{instance}"), instance)).collect()
            }
            Self::Join => instances
                .map(|instance| Target::new(format!("{SLOW}{instance}"), instance))
                .collect(),
            Self::Refusal => instances
                .flat_map(|instance| {
                    (0..LIMIT).map(move |slot| {
                        Target::new(format!("eni-{slot}-{instance}"), instance.clone())
                    })
                })
                .collect(),
        };
        let (clients, expected) = (side.connect(4).await?, attached.len());
        load::each(&clients, SHARED, attached, attach).await?;
        match self {
            Self::Join => Ok(()),
            _ => side.settled(expected).await,
        }
    }

    /// The targets of one round, `count` at most, and what they need.
    pub(crate) async fn targets(
        self,
        side: &Side,
        clients: &[Client],
        round: usize,
        count: usize,
    ) -> Result<Vec<Target>> {
        let prefix = self.prefix();
        let shared = |eni: &str| {
            let eni = eni.to_owned();
            (0..count).map(move |number| {
                let instance = format!("{prefix}{}", number % SHARED);
                Target::new(format!("{eni}{instance}"), instance)
            })
        };
        Ok(match self {
            Self::AttachFresh => (0..count)
                .map(|number| {
                    Target::new(
                        format!("eni-{round}-{number}"),
                        format!("{prefix}{round}-{number}"),
                    )
                })
                .collect(),
            Self::AttachRecent => {
                let instances = count.div_ceil(LIMIT);
                let instance = |number: usize| format!("{prefix}{round}-{}", number % instances);
                if !matches!(side.program, Program::Floor) {
                    let described =
                        (0..instances).map(|number| Target::new(String::new(), instance(number)));
                    load::each(clients, SHARED, described.collect(), describe).await?;
                }
                (0..count)
                    .map(|number| Target::new(format!("eni-{round}-{number}"), instance(number)))
                    .collect()
            }
            Self::Get => shared("eni-").collect(),
            Self::Refusal => shared("eni-more-").collect(),
            Self::Join => shared(SLOW).collect(),
        })
    }

    /// One call. An error if the answer is not that of the case.
    pub(crate) async fn call(self, client: Client, target: Target) -> Result<()> {
        match self {
            Self::AttachFresh | Self::AttachRecent | Self::Join => attach(client, target).await,
            Self::Get => get(client, target).await,
            Self::Refusal => match attach_call(client, target).await {
                Err(status)
                    if status.code() == Code::ResourceExhausted
                        && status.message().contains("limit 10") =>
                {
                    Ok(())
                }
                other => Err(format!("not refused as full: {other:?}").into()),
            },
        }
    }
}

async fn attach_call(mut client: Client, target: Target) -> std::result::Result<State, Status> {
    let request = AttachNetworkInterfaceRequest {
        instance_id: target.instance,
        network_interface_id: target.eni,
        ..AttachNetworkInterfaceRequest::default()
    };
    let response = client.attach_network_interface(request).await?.into_inner();
    Ok(response.attachment.map_or(State::Unspecified, |attachment| attachment.state()))
}

/// An attach that must be accepted.
pub(crate) async fn attach(client: Client, target: Target) -> Result<()> {
    match attach_call(client, target).await? {
        State::Attaching | State::Attached => Ok(()),
        state => Err(format!("the attachment is {state:?}").into()),
    }
}

async fn get(mut client: Client, target: Target) -> Result<()> {
    let request =
        GetAttachmentRequest { instance_id: target.instance, network_interface_id: target.eni };
    let response = client.get_attachment(request).await?.into_inner();
    match response.attachment.map(|attachment| attachment.state()) {
        Some(State::Attached) => Ok(()),
        state => Err(format!("the attachment is {state:?}").into()),
    }
}

/// A list, for which the gateway describes an instance that it does not know.
pub(crate) async fn describe(mut client: Client, target: Target) -> Result<()> {
    let request = ListAttachmentsRequest {
        instance_id: target.instance,
        ..ListAttachmentsRequest::default()
    };
    client.list_attachments(request).await?;
    Ok(())
}
