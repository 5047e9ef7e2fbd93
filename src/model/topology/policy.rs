//! Settings that are given to queues and exchanges by their names.

use serde::{Deserialize, Serialize};

use super::QueueSettings;
use crate::model::names::ExchangeName;

/// What a policy is looked at for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum AppliesTo {
    #[default]
    All,
    Queues,
    Exchanges,
}

/// Settings for every queue and exchange whose name `pattern` matches. Of several that match one
/// name, the one with the highest priority holds, alone.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Policy {
    pub name: String,
    /// A regular expression that is searched for in the name; `^` and `$` anchor it.
    pub pattern: String,
    pub priority: i64,
    pub applies_to: AppliesTo,
    pub queue: QueueSettings,
    /// `alternate-exchange`, for exchanges.
    pub alternate: Option<ExchangeName>,
}
