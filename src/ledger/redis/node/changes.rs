//! Reading which instances of a partition changed.

use redis::RedisResult;
use redis::aio::MultiplexedConnection;

use crate::ledger::keys::PartitionId;
use crate::ledger::redis::scripts::{StoredRecord, unexpected};
use crate::ledger::{ChangedInstances, LedgerError};
use crate::model::Position;

use super::{Node, RedisOperation};

/// Number of readings: one that finds an epoch that is not current, and the one after its renewal.
const TRIES: usize = 2;

impl Node {
    pub(in super::super) async fn changed_since(
        &self,
        partition: PartitionId,
        after: Position,
        most: usize,
    ) -> Result<ChangedInstances, LedgerError> {
        for _ in 0..TRIES {
            let read = self.connection.call(RedisOperation::Commit, |connection| async move {
                self.read_changes(&connection, partition, after, most).await
            });
            let (found, changed) = read.await?;
            if self.epochs.is_current(partition, &found) {
                return Ok(changed);
            }
            let keys = self.shared.keys.state(partition);
            self.ensure_current(partition, &keys, found).await?;
        }
        Err(LedgerError::not_applied("the partition's epoch changed while its changes were read"))
    }

    async fn read_changes(
        &self,
        connection: &MultiplexedConnection,
        partition: PartitionId,
        after: Position,
        most: usize,
    ) -> RedisResult<(StoredRecord, ChangedInstances)> {
        let [epoch, freeze] = self.shared.keys.state(partition);
        let keys = [epoch, freeze, self.shared.keys.changed(partition)];
        let mut script = self.shared.scripts.commit.key(&keys);
        // One more, because the empty member is among them.
        script.arg("changes").arg(after.0).arg(most + 1);
        let (found, list) = self.epochs.run(connection, &script).await?.listed()?;
        let (last, mut instances) = parse(&list).ok_or_else(unexpected)?;
        instances.truncate(most);
        let epoch = self.shared.views().parse(partition, &found.epoch);
        let partition = epoch.map(|epoch| epoch.partition()).unwrap_or_default();
        Ok((found, ChangedInstances { partition, last, instances }))
    }
}

/// The last position, and the instances. A member that is no id is left out.
fn parse(list: &[String]) -> Option<(Position, Vec<(Position, crate::model::InstanceId)>)> {
    // Redis may write large scores as floats.
    let position = |text: &String| Some(Position(text.parse::<f64>().ok()? as u64));
    let (last, members) = list.split_first()?;
    let members = members.chunks_exact(2).filter_map(|pair| {
        let instance = pair[0].parse().ok()?;
        Some(position(&pair[1]).map(|position| (position, instance)))
    });
    Some((position(last)?, members.collect::<Option<_>>()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(list: &[&str]) -> Option<(Position, Vec<(Position, crate::model::InstanceId)>)> {
        parse(&list.iter().map(ToString::to_string).collect::<Vec<_>>())
    }

    #[test]
    fn a_list_of_changes_is_read() {
        assert_eq!(parsed(&["0"]), Some((Position(0), Vec::new())));
        let one = (Position(1_790_000_000_000_000), "i-1".parse().unwrap());
        let found = parsed(&["1790000000000007", "i-1", "1.79e+15", "", "1790000000000007"]);
        assert_eq!(found, Some((Position(1_790_000_000_000_007), vec![one])));
        assert_eq!((parsed(&[]), parsed(&["x"]), parsed(&["1", "i-1", "x"])), (None, None, None));
    }
}
