//! Reading and committing one record.

use redis::aio::MultiplexedConnection;
use redis::{ErrorKind, RedisResult, ScriptInvocation};

use crate::ledger::keys::{PartitionId, due_member};
use crate::ledger::record::FORMAT;
use crate::ledger::{
    BootInstant, LedgerError, Partition, Proposal, ReconcileSchedule, Record, RequestEntry, RequestKey, Snapshot,
    Verdict,
};
use crate::model::InstanceId;

use super::super::epoch::Epoch;
use super::super::scripts::{ScriptReply, StoredRecord};
use super::Node;
use super::connection::Operation;

impl Node {
    pub(in super::super) async fn read(
        &self,
        instance: &InstanceId,
        request: Option<&RequestKey>,
    ) -> Result<Snapshot, LedgerError> {
        let partition = PartitionId::of(instance);
        let keys = self.record_keys(instance, request, &[]);
        let looked = self.connection.call(Operation::Commit, |mut connection| {
            let keys = &keys;
            async move { self.read_epoch(&mut connection, keys).await }
        });
        let found = self.current(partition, &keys, looked.await?).await?;
        snapshot(found, request.is_some())
    }

    pub(in super::super) async fn commit(&self, proposal: &Proposal) -> Result<Verdict, LedgerError> {
        self.refuse_misconfigured(proposal)?;
        let Proposal {
            instance,
            version,
            record,
            effects,
            ..
        } = proposal;
        let partition = PartitionId::of(instance);
        let keys = self.record_keys(instance, proposal.request.as_ref(), &effects.requests);

        let mut script = self.shared.scripts.commit.key(&keys);
        script
            .arg("commit")
            .arg(*version)
            .arg(&proposal.partition.epoch)
            .arg(proposal.now.as_micros());
        script.arg(json(record)?);
        match effects.expire_after {
            Some(life) => script.arg(life.as_millis().max(1).to_string()),
            None => script.arg(""),
        };
        script
            .arg(if effects.notify { self.notice_command() } else { "" })
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

        let outcome = self.connection.call(Operation::Commit, |mut connection| {
            let script = &script;
            async move { self.evaluate(&mut connection, script).await }
        });
        match outcome.await? {
            ScriptReply::Committed { version, now } => {
                self.connection.accept_writes();
                Ok(Verdict::Committed { version, now })
            }
            ScriptReply::Found(found) => {
                let found = self.current(partition, &keys, found).await?;
                Ok(Verdict::Conflict(Box::new(snapshot(
                    found,
                    proposal.request.is_some(),
                )?)))
            }
            ScriptReply::Attended(..) => Err(LedgerError::outcome_unknown(
                "the commit script gave an unexpected answer",
            )),
        }
    }

    /// Runs the commit script, and learns the time from its answer.
    pub(in super::super) async fn evaluate(
        &self,
        connection: &mut MultiplexedConnection,
        script: &ScriptInvocation<'_>,
    ) -> RedisResult<ScriptReply> {
        let sent = BootInstant::now();
        let answer = ScriptReply::read(script.invoke_async(connection).await?).ok_or_else(unexpected)?;
        if let Some(step) = self.clock.learn(answer.now(), sent) {
            self.clock_was_set(step);
        }
        Ok(answer)
    }

    /// Everything that a commit may touch: the entry of `read` is read, those of `written` are written.
    fn record_keys(
        &self,
        instance: &InstanceId,
        read: Option<&RequestKey>,
        written: &[(RequestKey, Option<RequestEntry>)],
    ) -> Vec<String> {
        let partition = PartitionId::of(instance);
        let mut keys = vec![
            self.shared.keys.epoch(partition),
            self.shared.keys.record(instance),
            self.shared.keys.due(partition),
            self.shared.keys.channel(partition),
            self.shared.keys.reconciliations(partition),
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

    /// Nothing is granted by a server that might forget it, nor under other settings than those of the other replicas.
    fn refuse_misconfigured(&self, proposal: &Proposal) -> Result<(), LedgerError> {
        if let Some(why) = self.preflight().errors.first() {
            return Err(LedgerError::misconfigured(why.clone()));
        }
        let Some(epoch) = Epoch::parse(&proposal.partition.epoch) else {
            // The commit finds what there is.
            return Ok(());
        };
        match (epoch.disagreement(), epoch.agreement) {
            (Some(why), _) => Err(LedgerError::misconfigured(why)),
            (None, Some(shared)) if !shared.covers(&self.shared.settings.agreement) => Err(LedgerError::not_applied(
                "this replica's settings are not shared with the others yet",
            )),
            _ => Ok(()),
        }
    }
}

fn snapshot(found: StoredRecord, with_request: bool) -> Result<Snapshot, LedgerError> {
    let record: Record = if found.record.is_empty() {
        Record::default()
    } else {
        parse("record", &found.record)?
    };
    if record.format > FORMAT {
        return Err(LedgerError::misconfigured(format!(
            "a newer version wrote the instance's record: format {}, and this one reads up to {FORMAT}",
            record.format
        )));
    }
    let request = if with_request && !found.request.is_empty() {
        Some(parse("request entry", &found.request)?)
    } else {
        None
    };
    let epoch = Epoch::parse(&found.epoch);
    let partition = Partition {
        hold_down_until: epoch.map(|epoch| epoch.hold_until).unwrap_or_default(),
        shared: epoch
            .and_then(|epoch| epoch.agreement)
            .map(|agreement| agreement.bounds),
        epoch: found.epoch.clone(),
    };
    Ok(Snapshot {
        record,
        version: found.version,
        request,
        partition,
        now: found.now,
    })
}

fn parse<T: serde::de::DeserializeOwned>(what: &str, text: &str) -> Result<T, LedgerError> {
    serde_json::from_str(text)
        .map_err(|error| LedgerError::misconfigured(format!("the stored {what} cannot be read: {error}")))
}

fn json(value: &impl serde::Serialize) -> Result<String, LedgerError> {
    serde_json::to_string(value)
        .map_err(|error| LedgerError::not_applied(format!("the record cannot be written: {error}")))
}

pub(super) fn unexpected() -> redis::RedisError {
    (
        ErrorKind::UnexpectedReturnType,
        "the commit script gave an unexpected answer",
    )
        .into()
}
