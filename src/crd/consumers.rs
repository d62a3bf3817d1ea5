use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Numbers of pods that use a Secret and have not terminated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConsumersStatus {
    /// All pods that use the Secret.
    pub pods: i64,
    /// Pods that read the token or its expiry time only when a container starts, because they use
    /// it as an environment variable or mount it with `subPath`.
    pub fixed: i64,
    /// Those pods of `fixed` with a container that started before the current token was written.
    /// They use a former token until they are restarted.
    pub outdated: i64,
}
