use std::fmt;

use futures::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Secret;
use secrecy::SecretString;

use super::{IssueRequest, Object, PodMounts};
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
    crd::{ConnectionKey, WorkloadKey},
};

/// The one door: all that the operator can learn of the world and do in it. It performs what it is
/// asked for and decides nothing.
pub trait World: Send + Sync {
    /// The operator's clock.
    fn now(&self) -> Timestamp;

    /// The clock of an endpoint of ACS, or up to a second earlier; unknown before its first answer.
    fn service_now(&self, endpoint: &Endpoint) -> Option<Timestamp>;

    /// The clock of an endpoint less the operator's; unknown before its first answer.
    fn clock_offset(&self, endpoint: &Endpoint) -> Option<SignedDuration>;

    /// Asks the API server; the object that it answers with, if there is one.
    fn ask(
        &self,
        request: ApiRequest,
    ) -> BoxFuture<'static, Result<Option<Object>, cluster::Error>>;

    /// Waits until `call` may be sent; dropped, it no longer waits.
    fn turn(&self, call: &AcsCall) -> BoxFuture<'static, Turn>;

    /// Calls ACS.
    fn call(&self, call: AcsCall, turn: Turn) -> BoxFuture<'static, Result<AcsAnswer, acs::Error>>;

    /// Carries on with `work` beside everything else.
    fn spawn(&self, work: BoxFuture<'static, ()>);

    /// Watches these Secrets, and no others, for `follower`; what is known of each now.
    fn follow(&self, namespace: &str, names: &[&str], follower: &Follower) -> Vec<Presence>;

    /// Watches no Secret for `follower` any longer.
    fn unfollow(&self, follower: &Follower);

    /// Makes tokens of a `ServiceAccount` for an audience, each when it is asked for.
    fn assertions(&self, namespace: &str, account: &str, audience: &str) -> AssertionSource;
}

impl fmt::Debug for dyn World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("World")
    }
}

/// A request to the API server.
#[derive(Clone, Debug)]
pub enum ApiRequest {
    /// Reads a Secret.
    ReadSecret {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// Reads an `AcsIdentity`.
    ReadIdentity {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// Reads an object of ours that is not what the watch has told.
    Reread(Object),
    /// Reads a page of the `AcsIdentities` as they are now, which a watch may not have told.
    ListIdentities {
        /// Of this namespace, or of all.
        namespace: Option<String>,
        /// Where the former page ended.
        after: Option<String>,
    },
    /// Creates a Secret.
    CreateSecret {
        /// The Secret.
        secret: Box<Secret>,
        /// Whether the API server only says if it would.
        is_dry_run: bool,
    },
    /// Replaces the Secret of the same name, UID and resource version.
    ReplaceSecret {
        /// The Secret.
        secret: Box<Secret>,
        /// Whether the API server only says if it would.
        is_dry_run: bool,
    },
    /// Deletes the Secret with this UID.
    DeleteSecret {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// Its UID.
        uid: String,
    },
    /// Replaces the status of an object, on condition of its resource version.
    WriteStatus(Object),
    /// Replaces the finalizers of an object, on condition of its resource version.
    WriteFinalizers {
        /// The object as it was read.
        object: Object,
        /// Its finalizers from now on.
        finalizers: Vec<String>,
        /// Why something is left behind in ACS, if anything is. For the journal.
        abandoned: Option<String>,
    },
    /// Reads a workload whose pods use a token.
    ReadWorkload(WorkloadKey),
    /// Restarts a workload, on condition of its resource version.
    RestartWorkload {
        /// The workload.
        workload: WorkloadKey,
        /// Its resource version.
        version: String,
        /// The time of the restart.
        at: Timestamp,
    },
    /// Reads a page of the pods of a namespace that have not ended.
    ListPods {
        /// The namespace.
        namespace: String,
        /// Where the former page ended.
        after: Option<String>,
    },
    /// Has the kubelet look at a pod.
    NudgePod {
        /// Its namespace.
        namespace: String,
        /// The pod.
        pod: PodMounts,
        /// When.
        at: Timestamp,
    },
    /// Publishes an Event.
    Publish(Notice),
}

/// A call to ACS on behalf of an object.
#[derive(Clone, Debug)]
pub struct AcsCall {
    /// Where to, in which version, and proven by what.
    pub via: Resolved,
    /// The connection that this was had from.
    pub connection: ConnectionKey,
    /// The object that it is for.
    pub by: ObjectKey,
    /// The UID of that object.
    pub uid: String,
    /// What to do.
    pub operation: AcsOperation,
    /// How urgent it is: the most urgent is served first.
    pub deadline: Timestamp,
}

/// An operation of ACS.
#[derive(Clone, Debug)]
pub enum AcsOperation {
    /// Creates an identity, without a token.
    CreateIdentity {
        /// Makes the call exactly-once, where the API version knows it.
        custom_id: Option<String>,
        /// No earlier call may have made one of the same custom id.
        is_first: bool,
    },
    /// Issues a token.
    IssueToken(IssueRequest),
    /// Exchanges the Entra token of a Teams user.
    ExchangeTeamsToken {
        /// What is wanted.
        request: IssueRequest,
        /// The Entra token.
        token: SecretString,
        /// The application that it was obtained with.
        app_id: String,
        /// The user's object id.
        user_id: String,
    },
    /// Revokes all tokens of an identity.
    RevokeTokens {
        /// The identity.
        identity_id: String,
    },
    /// Deletes an identity.
    DeleteIdentity {
        /// The identity.
        identity_id: String,
    },
}

impl AcsOperation {
    /// Which operation of the service it is.
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

/// What ACS answers.
#[derive(Clone, Debug)]
pub enum AcsAnswer {
    /// To [`AcsOperation::CreateIdentity`].
    Created(CreatedIdentity),
    /// To [`AcsOperation::IssueToken`] and [`AcsOperation::ExchangeTeamsToken`].
    Issued(IssuedToken),
    /// To [`AcsOperation::RevokeTokens`].
    Revoked(Revoked),
    /// To [`AcsOperation::DeleteIdentity`].
    Deleted(Deleted),
}
