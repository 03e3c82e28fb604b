//! Reading and committing one record.

use std::sync::Arc;

use redis::aio::MultiplexedConnection;

use crate::ledger::keys::{PartitionId, due_member};
use crate::ledger::record::FORMAT;
use crate::ledger::redis::errors::describe;
use crate::ledger::redis::scripts::{ScriptReply, StoredRecord};
use crate::ledger::{
    Freeze, LedgerError, Partition, Proposal, ReconcileSchedule, Record, RequestEntry, RequestKey,
    Snapshot, Verdict,
};
use crate::model::InstanceId;

use super::{Node, RedisOperation};

impl Node {
    pub(in super::super) async fn read_since(
        &self,
        instance: &InstanceId,
        request: Option<&RequestKey>,
        known: &Snapshot,
    ) -> Result<Snapshot, LedgerError> {
        let partition = PartitionId::of(instance);
        let keys = self.read_keys(instance, request);
        let found = self.read_current(partition, &keys, known).await?;
        self.snapshot(partition, found, request.is_some(), known)
    }

    /// Reads a record as it is stored, and renews no epoch: it changes nothing.
    pub(in super::super) async fn peek(
        &self,
        connection: &MultiplexedConnection,
        instance: &InstanceId,
    ) -> Result<Snapshot, LedgerError> {
        let keys = self.read_keys(instance, None);
        let nothing = Snapshot::default();
        let found = self.epochs.read_since(connection, &keys, &nothing).await;
        let found = found.map_err(|error| LedgerError::not_applied(describe(&error)))?;
        self.snapshot(PartitionId::of(instance), found, false, &nothing)
    }

    /// The content of these keys, under an epoch that is current.
    pub(super) async fn read_current(
        &self,
        partition: PartitionId,
        keys: &[String],
        known: &Snapshot,
    ) -> Result<StoredRecord, LedgerError> {
        let read = self.connection.call(RedisOperation::Commit, |connection| async move {
            self.epochs.read_since(&connection, keys, known).await
        });
        self.ensure_current(partition, keys, read.await?).await
    }

    /// Returns what was found, if its epoch is current. Otherwise renews the epoch and returns what
    /// is stored then. The renewal is a call of its own, because it takes several trips.
    pub(super) async fn ensure_current(
        &self,
        partition: PartitionId,
        keys: &[String],
        found: StoredRecord,
    ) -> Result<StoredRecord, LedgerError> {
        if self.epochs.is_current(partition, &found) {
            return Ok(found);
        }
        let renewed = self.connection.call(RedisOperation::Renew, |connection| async move {
            self.epochs.renew_until_current(&connection, partition, keys, found).await
        });
        renewed.await?
    }

    pub(in super::super) async fn commit(
        &self,
        proposal: &Proposal,
    ) -> Result<Verdict, LedgerError> {
        self.refuse_misconfigured(proposal)?;
        let Proposal { instance, version, record, effects, .. } = proposal;
        let partition = PartitionId::of(instance);
        let keys = self.record_keys(instance, proposal.request.as_ref(), &effects.requests);

        let mut script = self.shared.scripts.commit.key(&keys);
        script
            .arg("commit")
            .arg(*version)
            .arg(&*proposal.partition.epoch)
            .arg(proposal.partition.freeze.as_ref().map_or("", Freeze::text))
            .arg(proposal.now.as_micros());
        script.arg(json(&**record)?);
        let life = effects.expire_after.map(|life| life.as_millis().max(1).to_string());
        script.arg(life.unwrap_or_default());
        script
            .arg(if effects.notify { self.changes.publish_command() } else { "" })
            .arg(instance.as_str());
        script.arg(match effects.reconcile {
            ReconcileSchedule::Kept => String::new(),
            ReconcileSchedule::At(at) => at.as_micros().to_string(),
            ReconcileSchedule::Done => "-".to_owned(),
        });
        script.arg(effects.requests.len());
        for (_, entry) in &effects.requests {
            script.arg(entry.as_ref().map(json).transpose()?.unwrap_or_default());
        }
        for (eni, at) in &effects.due {
            script.arg(due_member(instance, eni));
            script.arg(at.map(|at| at.as_micros().to_string()).unwrap_or_default());
        }

        let outcome = self.connection.call(RedisOperation::Commit, |connection| {
            let script = &script;
            async move { self.epochs.run(&connection, script).await }
        });
        match outcome.await? {
            ScriptReply::Committed { version, now } => {
                self.connection.accept_writes();
                Ok(Verdict::Committed { version, now })
            }
            ScriptReply::Found(found) => {
                let found = self.ensure_current(partition, &keys, found).await?;
                let (with_request, nothing) = (proposal.request.is_some(), Snapshot::default());
                let current = self.snapshot(partition, found, with_request, &nothing)?;
                Ok(Verdict::Conflict(Box::new(current)))
            }
            ScriptReply::Listed(..) => {
                Err(LedgerError::outcome_unknown("the commit script gave an unexpected answer"))
            }
        }
    }

    /// What a read needs. The entry of a request id is behind everything that a commit may touch.
    fn read_keys(&self, instance: &InstanceId, request: Option<&RequestKey>) -> Vec<String> {
        if request.is_some() {
            return self.record_keys(instance, request, &[]);
        }
        let [epoch, freeze] = self.shared.keys.state(PartitionId::of(instance));
        vec![epoch, freeze, self.shared.keys.record(instance)]
    }

    /// Everything that a commit may touch: the entry of `read` is read, those of `written` are
    /// written.
    fn record_keys(
        &self,
        instance: &InstanceId,
        read: Option<&RequestKey>,
        written: &[(RequestKey, Option<RequestEntry>)],
    ) -> Vec<String> {
        let partition = PartitionId::of(instance);
        let mut keys = vec![
            self.shared.keys.epoch(partition),
            self.shared.keys.freeze(partition),
            self.shared.keys.record(instance),
            self.shared.keys.due(partition),
            self.shared.keys.channel(partition),
            self.shared.keys.reconciliations(partition),
            self.shared.keys.changed(partition),
            self.shared.keys.ends(partition),
        ];
        let written = || written.iter().map(|(key, _)| key);
        let read = read.or(written().next());
        keys.extend(
            read.into_iter()
                .chain(written())
                .map(|request| self.shared.keys.request(instance, request)),
        );
        keys
    }

    /// Nothing is granted by a server that might forget it, nor under other settings than those of
    /// the other replicas.
    fn refuse_misconfigured(&self, proposal: &Proposal) -> Result<(), LedgerError> {
        if let Some(why) = self.preflight.result().errors.first() {
            return Err(LedgerError::misconfigured(why.clone()));
        }
        let partition = PartitionId::of(&proposal.instance);
        let epoch = self.shared.views().parse(partition, &proposal.partition.epoch);
        let Some(epoch) = epoch else {
            // The commit finds what there is.
            return Ok(());
        };
        match (epoch.version_conflict(), epoch.shared_settings) {
            (Some(why), _) => Err(LedgerError::misconfigured(why)),
            (None, Some(shared)) if !shared.covers(&self.shared.settings.shared_settings) => {
                Err(LedgerError::not_applied(
                    "this replica's settings are not shared with the others yet",
                ))
            }
            _ => Ok(()),
        }
    }

    /// The snapshot of what was found, with the record of `known` if that is unchanged.
    fn snapshot(
        &self,
        partition: PartitionId,
        found: StoredRecord,
        with_request: bool,
        known: &Snapshot,
    ) -> Result<Snapshot, LedgerError> {
        let epoch = self.shared.views().parse(partition, &found.epoch);
        let partition = epoch.map(|epoch| epoch.partition()).unwrap_or_default();
        let record = if found.unchanged {
            known.record.clone()
        } else {
            let mut record = parse::<Record>("record", &found.record)?.unwrap_or_default();
            if record.epoch == partition.epoch {
                // All records of the partition share one text.
                record.epoch.clone_from(&partition.epoch);
            }
            Arc::new(record)
        };
        if record.format > FORMAT {
            return Err(LedgerError::unreadable(format!(
                "a newer version wrote the instance's record: format {}, and this one reads up to {FORMAT}",
                record.format
            )));
        }
        let request = if with_request { parse("request entry", &found.request)? } else { None };
        Ok(Snapshot {
            record,
            version: found.version,
            request,
            partition: Partition { freeze: Freeze::stored(&found.freeze), ..partition },
            now: found.now,
        })
    }
}

/// The stored content. `None` if nothing is stored.
fn parse<T: serde::de::DeserializeOwned>(what: &str, text: &str) -> Result<Option<T>, LedgerError> {
    if text.is_empty() {
        return Ok(None);
    }
    let read = serde_json::from_str(text).map(Some);
    read.map_err(|error| {
        LedgerError::unreadable(format!("the stored {what} cannot be read: {error}"))
    })
}

fn json(value: &impl serde::Serialize) -> Result<String, LedgerError> {
    serde_json::to_string(value)
        .map_err(|error| LedgerError::not_applied(format!("the record cannot be written: {error}")))
}
