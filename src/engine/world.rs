use std::fmt;

use futures::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Secret;
use secrecy::SecretString;

use super::{IssueRequest, Object};
use crate::{
    acs::{
        self, AssertionSource, CreatedIdentity, Deleted, Endpoint, IssuedToken, Operation,
        Resolved, Revoked, Turn,
    },
    cluster::{
        self, ObjectKey,
        event::Notice,
        input::{Follower, Presence},
    },
    consumers::ConsumerPod,
    crd::{ConnectionKey, WorkloadKey},
};

/// Interface of the operator to everything outside: all its reads and effects go through it. It
/// carries out requests and decides nothing.
pub trait World: Send + Sync {
    /// Returns the time by the operator's clock.
    fn now(&self) -> Timestamp;

    /// Returns the time by the clock of an endpoint of ACS, or up to a second earlier; `None`
    /// before its first answer.
    fn service_now(&self, endpoint: &Endpoint) -> Option<Timestamp>;

    /// Returns the clock of an endpoint minus the operator's clock; `None` before its first answer.
    fn clock_offset(&self, endpoint: &Endpoint) -> Option<SignedDuration>;

    /// Sends a request to the API server, and returns the object of the response, if there is one.
    fn ask(
        &self,
        request: ApiRequest,
    ) -> BoxFuture<'static, Result<Option<Object>, cluster::Error>>;

    /// Waits until `call` may be sent. Dropping the future ends the wait.
    fn turn(&self, call: &AcsCall) -> BoxFuture<'static, Turn>;

    /// Sends a call to ACS.
    fn call(&self, call: AcsCall, turn: Turn) -> BoxFuture<'static, Result<AcsAnswer, acs::Error>>;

    /// Runs `work` in the background.
    fn spawn(&self, work: BoxFuture<'static, ()>);

    /// Watches these Secrets, and no others, for `follower`, and returns what is known of each now.
    fn follow(&self, namespace: &str, names: &[&str], follower: &Follower) -> Vec<Presence>;

    /// Stops watching Secrets for `follower`.
    fn unfollow(&self, follower: &Follower);

    /// Returns a source of tokens of a `ServiceAccount` for an audience; each token is created on
    /// demand.
    fn assertions(&self, namespace: &str, account: &str, audience: &str) -> AssertionSource;
}

impl fmt::Debug for dyn World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("World")
    }
}

/// Request to the API server.
#[derive(Clone, Debug)]
pub enum ApiRequest {
    /// Reads a Secret.
    ReadSecret {
        /// Namespace of the Secret.
        namespace: String,
        /// Name of the Secret.
        name: String,
    },
    /// Reads an `AcsIdentity`.
    ReadIdentity {
        /// Namespace of the `AcsIdentity`.
        namespace: String,
        /// Name of the `AcsIdentity`.
        name: String,
    },
    /// Reads an object of the operator's kinds that differs from what the watch has reported.
    Reread(Object),
    /// Reads a page of the `AcsIdentity` objects as they are now, which the watch may not have
    /// reported yet.
    ListIdentities {
        /// Namespace to list; `None` for all.
        namespace: Option<String>,
        /// Continue token of the previous page.
        after: Option<String>,
    },
    /// Creates a Secret.
    CreateSecret {
        /// Secret to create.
        secret: Box<Secret>,
        /// Whether this is a dry run.
        is_dry_run: bool,
    },
    /// Replaces the Secret of the same name, UID and resource version.
    ReplaceSecret {
        /// Secret to write.
        secret: Box<Secret>,
        /// Whether this is a dry run.
        is_dry_run: bool,
    },
    /// Deletes the Secret with this UID.
    DeleteSecret {
        /// Namespace of the Secret.
        namespace: String,
        /// Name of the Secret.
        name: String,
        /// UID of the Secret.
        uid: String,
    },
    /// Replaces the status of an object, on condition of its resource version.
    WriteStatus(Object),
    /// Replaces the finalizers of an object, on condition of its resource version.
    WriteFinalizers {
        /// Object as it was read.
        object: Object,
        /// New finalizers.
        finalizers: Vec<String>,
        /// Why something is left behind in ACS, if anything is. For the journal.
        abandoned: Option<String>,
    },
    /// Reads a workload with pods that use a token.
    ReadWorkload(WorkloadKey),
    /// Restarts a workload, on condition of its resource version.
    RestartWorkload {
        /// Workload to restart.
        workload: WorkloadKey,
        /// Resource version of the workload.
        version: String,
        /// Time of the restart.
        at: Timestamp,
    },
    /// Reads a page of the pods of a namespace that have not terminated.
    ListPods {
        /// Namespace to list.
        namespace: String,
        /// Continue token of the previous page.
        after: Option<String>,
    },
    /// Annotates a pod, so that its kubelet syncs it.
    NudgePod {
        /// Namespace of the pod.
        namespace: String,
        /// Pod to annotate.
        pod: Box<ConsumerPod>,
        /// Time of the annotation.
        at: Timestamp,
    },
    /// Publishes an Event.
    Publish(Notice),
}

/// Call to ACS on behalf of an object.
#[derive(Clone, Debug)]
pub struct AcsCall {
    /// Endpoint, API version and credential.
    pub via: Resolved,
    /// Connection that `via` was resolved from.
    pub connection: ConnectionKey,
    /// Object that the call is for.
    pub by: ObjectKey,
    /// UID of that object.
    pub uid: String,
    /// Operation to call.
    pub operation: AcsOperation,
    /// Deadline, for the queue: the most urgent call is served first.
    pub deadline: Timestamp,
}

/// Operation of ACS.
#[derive(Clone, Debug)]
pub enum AcsOperation {
    /// Creates an identity, without a token.
    CreateIdentity {
        /// Id that makes the call exactly-once, if the API version supports it.
        custom_id: Option<String>,
        /// Whether no earlier call can have created an identity with the same custom id.
        is_first: bool,
    },
    /// Issues a token.
    IssueToken(IssueRequest),
    /// Exchanges the Entra token of a Teams user.
    ExchangeTeamsToken {
        /// Wanted token.
        request: IssueRequest,
        /// Entra token.
        token: SecretString,
        /// Application that the Entra token was obtained with.
        app_id: String,
        /// Object id of the user.
        user_id: String,
    },
    /// Revokes all tokens of an identity.
    RevokeTokens {
        /// Id of the identity in ACS.
        identity_id: String,
    },
    /// Deletes an identity.
    DeleteIdentity {
        /// Id of the identity in ACS.
        identity_id: String,
    },
}

impl AcsOperation {
    /// Returns the kind of the operation.
    #[must_use]
    pub const fn kind(&self) -> Operation {
        match self {
            Self::CreateIdentity { .. } => Operation::CreateIdentity,
            Self::IssueToken(_) => Operation::IssueToken,
            Self::ExchangeTeamsToken { .. } => Operation::ExchangeTeamsToken,
            Self::RevokeTokens { .. } => Operation::RevokeTokens,
            Self::DeleteIdentity { .. } => Operation::DeleteIdentity,
        }
    }
}

/// Answer of ACS.
#[derive(Clone, Debug)]
pub enum AcsAnswer {
    /// Answer to [`AcsOperation::CreateIdentity`].
    Created(CreatedIdentity),
    /// Answer to [`AcsOperation::IssueToken`] and [`AcsOperation::ExchangeTeamsToken`].
    Issued(IssuedToken),
    /// Answer to [`AcsOperation::RevokeTokens`].
    Revoked(Revoked),
    /// Answer to [`AcsOperation::DeleteIdentity`].
    Deleted(Deleted),
}
