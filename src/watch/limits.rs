//! What ends a stream, whatever it shows, and the stream of a watcher's messages.

use futures_util::stream::unfold;
use futures_util::{Stream, StreamExt};
use tokio::time::Instant;

use crate::drain::{self, Phase};
use crate::failures::watch as failures;
use crate::model::{Failure, random};

use super::Settings;

/// How a watch that ended is resumed.
#[derive(Debug, Clone, Copy)]
pub(super) enum Resume {
    /// By the last revision.
    Revision,
    /// By the last resume token.
    Token,
}

impl Resume {
    /// The request's field.
    pub(super) const fn field(self) -> &'static str {
        match self {
            Self::Revision => "after_revision",
            Self::Token => "resume_token",
        }
    }
}

/// What ends one stream: the drain, its age, and the caller's deadline.
pub(super) struct StreamLimits {
    resume: Resume,
    drain: drain::Watch,
    /// The caller's deadline.
    until: Option<Instant>,
    too_old: Instant,
}

impl StreamLimits {
    /// Of a stream whose age counts from `began`.
    pub(super) fn new(
        resume: Resume,
        settings: Settings,
        drain: drain::Watch,
        until: Option<Instant>,
        began: Instant,
    ) -> Self {
        let max_age = settings.max_age.mul_f64(random::between(0.9..1.1));
        Self { resume, drain, until, too_old: began + max_age }
    }

    /// The time at which the stream ends.
    pub(super) fn ends(&self) -> Instant {
        self.until.map_or(self.too_old, |until| until.min(self.too_old))
    }

    /// The reason to end now.
    pub(super) fn end(&self) -> Option<Failure> {
        let (now, field) = (Instant::now(), self.resume.field());
        if self.drain.has_reached(Phase::Draining) {
            let advice = format!("; watch again with {field}: another one continues");
            Some(Failure::draining(&advice))
        } else if self.until.is_some_and(|until| until <= now) {
            Some(failures::deadline(field))
        } else {
            (self.too_old <= now).then(|| failures::too_old(field))
        }
    }
}

/// The state of one stream.
pub(super) trait Watcher: Send {
    /// A message.
    type Event: Send;

    /// The next message; `None` when the stream ends with OK.
    fn next(&mut self) -> impl Future<Output = Option<Result<Self::Event, Failure>>> + Send;
}

/// The messages of a watcher. A failure is the last one.
pub(super) fn messages<W: Watcher>(
    watcher: W,
) -> impl Stream<Item = Result<W::Event, Failure>> + Send {
    let messages = unfold(Some(watcher), |mut rest| async move {
        let message = rest.as_mut()?.next().await?;
        if message.is_err() {
            rest = None;
        }
        Some((message, rest))
    });
    messages.fuse()
}
