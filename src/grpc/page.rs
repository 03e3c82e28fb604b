//! Pages of a list. A token names the last ENI of the previous page, not an offset. So changes
//! between two pages neither hide nor repeat a row.

use sha2::{Digest, Sha256};

use crate::model::{Attachment, InstanceId, InterfaceId};
use crate::watch::fleet::ListPosition;

/// Default page size.
pub const DEFAULT_SIZE: usize = 50;

/// Maximum page size.
pub const MAX_SIZE: usize = 100;

/// The instance of a list of all instances (AIP-159).
pub const ALL_INSTANCES: &str = "-";

const NOT_OF_THIS_LIST: &str = "must be a next_page_token of the same instance";

/// Bytes of the instance's digest in a token: enough to detect a mix-up. A token grants no rights.
const BINDING: usize = 6;

/// A page of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Maximum number of attachments.
    pub size: usize,
    /// The last ENI of the previous page; `None` for the first page.
    pub after: Option<InterfaceId>,
}

impl Page {
    /// The attachments of this page, out of all attachments sorted by ENI, and the next page's
    /// token. The token is empty on the last page.
    #[must_use]
    pub fn cut(
        &self,
        instance: &InstanceId,
        mut all: Vec<Attachment>,
    ) -> (Vec<Attachment>, String) {
        if let Some(after) = &self.after {
            let seen = all.partition_point(|attachment| attachment.eni <= *after);
            all.drain(..seen);
        }
        let more = all.len() > self.size;
        all.truncate(self.size);
        let next = all.last().filter(|_| more).map(|last| token(instance, &last.eni));
        (all, next.unwrap_or_default())
    }
}

/// Reads `page_size`.
///
/// # Errors
/// The size is negative.
pub fn size(asked: i32) -> Result<usize, &'static str> {
    match usize::try_from(asked) {
        Ok(0) => Ok(DEFAULT_SIZE),
        Ok(size) => Ok(size.min(MAX_SIZE)),
        Err(_) => Err("must not be negative"),
    }
}

fn token(instance: &InstanceId, last: &InterfaceId) -> String {
    hex::encode([&binding(instance.as_str()), last.as_str().as_bytes()].concat())
}

/// The token of the page of a list of all instances that begins here.
#[must_use]
pub fn fleet_token(next: &ListPosition) -> String {
    hex::encode([&binding(ALL_INSTANCES)[..], &next.to_bytes()].concat())
}

/// Reads `page_token` of a list of all instances.
///
/// # Errors
/// The token is malformed, or belongs to one instance.
pub fn read_fleet_token(token: &str) -> Result<ListPosition, &'static str> {
    let read = || {
        let bytes = hex::decode(token).ok()?;
        let (bound, position) = bytes.split_at_checked(BINDING)?;
        ListPosition::read(position).filter(|_| bound == binding(ALL_INSTANCES))
    };
    read().ok_or(NOT_OF_THIS_LIST)
}

/// Reads `page_token`.
///
/// # Errors
/// The token is malformed, or belongs to another instance.
pub fn read_token(token: &str, instance: &InstanceId) -> Result<InterfaceId, &'static str> {
    let bytes = hex::decode(token).map_err(|_| NOT_OF_THIS_LIST)?;
    let (bound, last) = bytes.split_at_checked(BINDING).ok_or(NOT_OF_THIS_LIST)?;
    let last = std::str::from_utf8(last)
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or(NOT_OF_THIS_LIST)?;
    if bound == binding(instance.as_str()) { Ok(last) } else { Err(NOT_OF_THIS_LIST) }
}

fn binding(instance: &str) -> [u8; BINDING] {
    let digest = Sha256::digest(instance);
    std::array::from_fn(|index| digest[index])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::{Revision, State, Timestamp, Uid};

    fn instance(text: &str) -> InstanceId {
        text.parse().expect("an id")
    }

    fn attachment(eni: &str) -> Attachment {
        Attachment {
            instance: instance("i-1"),
            eni: eni.parse().expect("an id"),
            uid: Uid(uuid::Uuid::nil()),
            state: State::Attached,
            ens_status: String::new(),
            observed_at: None,
            revision: Revision(1),
            created_at: Timestamp::default(),
            updated_at: Timestamp::default(),
            ens_request_id: String::new(),
            error: None,
            transitions: Vec::new(),
            stuck: false,
            unknown: crate::model::Unknown::default(),
        }
    }

    fn walk(all: &[Attachment], size: usize) -> Vec<String> {
        let here = instance("i-1");
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let (page, next) = Page { size, after }.cut(&here, all.to_vec());
            assert!(page.len() <= size);
            seen.extend(page.iter().map(|attachment| attachment.eni.to_string()));
            if next.is_empty() {
                return seen;
            }
            after = Some(read_token(&next, &here).expect("our own token"));
        }
    }

    proptest! {
        #[test]
        fn pages_make_up_the_whole(enis in prop::collection::btree_set("[a-z0-9.-]{1,8}", 0..40), size in 1_usize..9) {
            let all: Vec<Attachment> = enis.iter().map(|eni| attachment(eni)).collect();
            prop_assert_eq!(walk(&all, size), enis.into_iter().collect::<Vec<_>>());
        }

        #[test]
        fn no_text_breaks_the_reader(token in "\\PC{0,64}") {
            let _ = read_token(&token, &instance("i-1"));
            let _ = read_fleet_token(&token);
        }
    }

    #[test]
    fn a_row_that_comes_between_two_pages_hides_none() {
        let here = instance("i-1");
        let rows = ["b", "c", "d"].map(attachment);
        let (_, next) = Page { size: 1, after: None }.cut(&here, rows.to_vec());
        let after = Some(read_token(&next, &here).expect("our own token"));
        let mut grown = vec![attachment("a")];
        grown.extend(rows);
        let (page, _) = Page { size: 1, after }.cut(&here, grown);
        assert_eq!(page[0].eni.as_str(), "c");
    }

    #[test]
    fn a_token_belongs_to_its_instance() {
        let token = token(&instance("i-1"), &"eni-1".parse().expect("an id"));
        assert!(read_token(&token, &instance("i-1")).is_ok());
        assert!(read_token(&token, &instance("i-2")).is_err());
        assert!(read_token(&token[..8], &instance("i-1")).is_err());
    }

    #[test]
    fn a_token_of_all_instances_is_read_back() {
        let next = ListPosition::default();
        let all = fleet_token(&next);
        assert_eq!(read_fleet_token(&all), Ok(next));
        assert!(read_token(&all, &instance("i-1")).is_err());
        let of_instance = token(&instance("i-1"), &"eni-1".parse().expect("an id"));
        assert!(read_fleet_token(&of_instance).is_err());
    }

    #[test]
    fn sizes_are_bounded() {
        assert_eq!(size(0), Ok(50));
        assert_eq!(size(7), Ok(7));
        assert_eq!(size(100_000), Ok(100));
        assert!(size(-1).is_err());
    }
}
