use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Scope of a token (ACS REST 2023-10-01, `CommunicationTokenScope`).
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum Scope {
    #[allow(
        missing_docs,
        reason = "per-variant docs reorder the enum in the schema"
    )]
    #[serde(rename = "chat")]
    Chat,
    #[allow(missing_docs, reason = "as above")]
    #[serde(rename = "chat.join")]
    ChatJoin,
    #[allow(missing_docs, reason = "as above")]
    #[serde(rename = "chat.join.limited")]
    ChatJoinLimited,
    #[allow(missing_docs, reason = "as above")]
    #[serde(rename = "voip")]
    Voip,
    #[allow(missing_docs, reason = "as above")]
    #[serde(rename = "voip.join")]
    VoipJoin,
}

impl Scope {
    /// Name of the scope in the REST API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::ChatJoin => "chat.join",
            Self::ChatJoinLimited => "chat.join.limited",
            Self::Voip => "voip",
            Self::VoipJoin => "voip.join",
        }
    }
}
