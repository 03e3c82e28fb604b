//! State shared by all nodes of one ledger.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::ledger::ChangeNotifier;
use crate::ledger::keys::Keys;

use super::dial::Dialer;
use super::epoch::EpochViews;
use super::scripts::Scripts;
use super::settings::{InvalidSettings, RedisSettings};

/// The settings of one ledger, the objects made from them, and the state of its partitions.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) settings: RedisSettings,
    pub(super) dialer: Dialer,
    pub(super) keys: Keys,
    pub(super) scripts: Scripts,
    pub(super) changes: ChangeNotifier,
    views: Mutex<EpochViews>,
}

impl Shared {
    pub(super) fn new(settings: RedisSettings) -> Result<Self, InvalidSettings> {
        Ok(Self {
            dialer: Dialer::new(&settings)?,
            keys: Keys::new(settings.prefix.clone())?,
            scripts: Scripts::new(),
            changes: ChangeNotifier::default(),
            views: Mutex::default(),
            settings,
        })
    }

    pub(super) fn views(&self) -> MutexGuard<'_, EpochViews> {
        self.views.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
