//! The API's descriptors in one set, for programs that translate calls, such as Envoy.

use std::collections::BTreeSet;

use prost::{DecodeError, Message as _};
use prost_types::FileDescriptorSet;

use super::proto::FILE_DESCRIPTOR_SET;

/// A `google.protobuf.FileDescriptorSet` of the API, its imports and the error details of
/// `google.rpc`, in binary form. Each file stands behind the files that it imports, as readers
/// require. Without the error details a translator cannot write errors.
///
/// # Errors
/// A set that was compiled in cannot be read.
pub fn descriptors() -> Result<Vec<u8>, DecodeError> {
    let mut set = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET)?;
    set.file.extend(FileDescriptorSet::decode(tonic_types::pb::FILE_DESCRIPTOR_SET)?.file);
    let mut names = BTreeSet::new();
    set.file.retain(|file| names.insert(file.name().to_owned()));
    Ok(set.encode_to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_file_stands_once_and_behind_its_imports() {
        let set = FileDescriptorSet::decode(descriptors().unwrap().as_slice()).unwrap();
        let mut names = BTreeSet::new();
        for file in &set.file {
            let missing: Vec<_> =
                file.dependency.iter().filter(|name| !names.contains(name.as_str())).collect();
            assert!(missing.is_empty(), "{}: {missing:?}", file.name());
            assert!(names.insert(file.name()), "{}", file.name());
        }
        for name in ["eni/gateway/v1/attachment_service.proto", "error_details.proto"] {
            assert!(names.contains(name), "{name}: {names:?}");
        }
    }
}
