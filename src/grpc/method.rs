//! The RPCs of the service, by path. A closed set: a path from outside never becomes a span's name or a metric's label.

/// One RPC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    Attach,
    Watch,
    Get,
    List,
}

impl Method {
    const ALL: [Self; 4] = [Self::Attach, Self::Watch, Self::Get, Self::List];

    /// The RPC that an HTTP path names.
    pub(super) fn of_path(path: &str) -> Option<Self> {
        let name = path.strip_prefix('/')?;
        Self::ALL.into_iter().find(|method| method.name() == name)
    }

    /// `rpc.method`.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Attach => "eni.gateway.v1.AttachmentService/AttachNetworkInterface",
            Self::Watch => "eni.gateway.v1.AttachmentService/WatchAttachment",
            Self::Get => "eni.gateway.v1.AttachmentService/GetAttachment",
            Self::List => "eni.gateway.v1.AttachmentService/ListAttachments",
        }
    }

    pub(super) const fn is_streaming(self) -> bool {
        matches!(self, Self::Watch)
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use crate::grpc::proto::FILE_DESCRIPTOR_SET;

    #[test]
    fn the_names_are_those_of_the_proto() {
        let files = prost_types::FileDescriptorSet::decode(FILE_DESCRIPTOR_SET)
            .expect("the build's own descriptors")
            .file;
        let ours = files
            .iter()
            .find(|file| file.package() == "eni.gateway.v1")
            .expect("the api");
        let service = &ours.service[0];
        assert_eq!(service.method.len(), Method::ALL.len());
        for method in &service.method {
            let path = format!("/{}.{}/{}", ours.package(), service.name(), method.name());
            let found = Method::of_path(&path).expect(&path);
            assert_eq!(found.is_streaming(), method.server_streaming(), "{path}");
        }
        assert_eq!(Method::of_path("/eni.gateway.v1.AttachmentService/Detach"), None);
    }
}
