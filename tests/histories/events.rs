//! Events of a history.

use proptest::{collection::vec, prelude::*};

use crate::{
    cluster::WATCHES,
    pods::{PodDeed, Use},
    successor::Succession,
    workloads::{Deed, Refusal},
    world::Fault,
};

/// Initial state of the world.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Setup {
    /// Whether the API version makes creation exactly-once.
    pub knows_custom_id: bool,
    /// Whether both identities adopt the same id, and the policy allows it.
    pub is_shared: bool,
    /// Whether a minute of token lifetime lasts a second.
    pub is_fast: bool,
    /// Whether the service grants at most 2 h.
    pub is_stingy: bool,
    /// Whether the connection is a `ClusterAcsConnection`.
    pub is_of_cluster: bool,
    /// Operator's clock minus the API server's, in seconds.
    pub local_offset: i64,
    /// Service's clock minus the API server's, in seconds.
    pub service_offset: i64,
    /// `revocation` and `deletionPolicy` of new objects, encoded as in the events.
    pub policies: u8,
}

/// Event of a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Everything that can happen without the passing of time happens, in order.
    Settle,
    /// This many of the possible steps happen, out of order.
    Steps(u8, u8),
    /// This many milliseconds pass; nothing else happens.
    Pass(i64),
    /// This many seconds pass, and everything that is due happens.
    Wait(i64),
    /// The process crashes; the bits say which calls in flight arrive.
    Crash(u8),
    /// Another process takes over; the bits say which calls of the former one arrive.
    TakeOver(Succession, u8),
    /// The operator's clock jumps, in seconds.
    Jump(i64),
    CreateIdentity(u8),
    DeleteIdentity(u8),
    CreateToken(u8),
    DeleteToken(u8),
    Edit(u8, Edit),
    /// The owner of the connection changes its policy.
    Policy(u8),
    /// A user suspends an identity, or resumes it.
    SuspendIdentity(u8, bool),
    /// A user requests the renewal of a token.
    RequestRenewal(u8),
    /// A user requests the revocation of an identity's tokens.
    RequestRevocation(u8),
    /// A user creates a revocation for one identity, or for both.
    Revocation(u8),
    Secret(u8, Meddling),
    /// Someone changes a workload whose pods use tokens.
    Workload(u8, Deed),
    /// Someone changes a pod that uses a Secret.
    Pod(u8, PodDeed),
    /// The API server starts or stops rejecting the operator's requests for workloads.
    RefuseWorkloads(Refusal),
    /// An admission policy or a quota for Secrets is created or deleted.
    Admission(Admission),
    /// A replicator copies a Secret with labels and annotations, without its owner.
    Copy(u8),
    /// Someone edits one annotation of a Secret.
    Annotate(u8, u8),
    /// Users swap the names of the Secrets of two tokens.
    Swap,
    /// A policy starts or stops denying every update of the operator's own objects.
    DenyOurs(bool),
    /// Someone removes the operator's finalizer from an object.
    StripFinalizer(u8),
    /// For this many seconds no call gets its turn: calls of other namespaces go first.
    Busy(i64),
    /// The service's clock steps, in seconds.
    Step(i64),
    /// The connection is deleted and created again.
    RemakeConnection,
    /// Someone signs the Teams user in, or out.
    SignIn(SignIn),
    /// A backup of etcd is taken.
    Backup,
    /// The last backup of etcd is restored.
    Rewind,
    /// Lost objects are restored with new UIDs, with or without status, with or without Secrets.
    Restore(bool, bool),
    /// The next call to the service fails.
    Fault(Fault),
    /// The next write to the API server gets no answer; done or not.
    ApiFault {
        done: bool,
    },
    ServiceDown(bool),
    ApiDown(bool),
    /// A watch stops delivering for some time.
    Hold(u8),
    /// All watches deliver again.
    Free,
    /// Every object is reconciled.
    Resync,
    /// The connection's Secret gets this key, which the service accepts.
    UseKey(u8),
    /// The connection's Secret gets this key as the second one; the service accepts it.
    AddKey(u8),
    /// The connection's Secret is deleted.
    DropKey,
    /// The key in use is regenerated: its tokens become invalid.
    Regenerate,
    /// Another client revokes the tokens of an identity.
    RevokeBehind(u8),
    /// Another client deletes an identity in ACS.
    DeleteBehind(u8),
    /// The service says that an identity belongs to another resource.
    Disown(u8),
}

impl Event {
    /// Whether the event only lets time pass or lets the operator act.
    pub fn is_time(self) -> bool {
        matches!(
            self,
            Self::Settle | Self::Steps(..) | Self::Pass(_) | Self::Wait(_)
        )
    }
}

/// Change of an `AcsToken`'s spec.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edit {
    Scopes(u8),
    ExpiresIn(u8),
    RenewBefore(u8),
    Revocation(u8),
    SecretName(u8),
    Label(u8),
    /// Changes the names of the Secret's keys.
    Keys(u8),
    /// Changes the workloads to restart.
    Restarts(u8),
    Suspend(bool),
    /// Sets a label that the operator's flags forbid.
    Forbidden(bool),
}

impl Edit {
    /// Whether the schema rejects it for a token of a Teams user.
    pub fn is_of_identities_only(self) -> bool {
        matches!(
            self,
            Self::Scopes(_) | Self::ExpiresIn(_) | Self::Revocation(_)
        )
    }
}

/// Change of the Teams user's Entra token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignIn {
    /// A new token is stored, with this lifetime in seconds.
    For(i64),
    /// A token of another user is stored.
    AsAnother,
    /// Its Secret is deleted.
    Out,
}

/// Treatment of written Secrets by the API server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Admission {
    /// Writes are accepted unchanged.
    #[default]
    Open,
    /// A quota is exceeded: no Secret can be created.
    Quota,
    /// A policy denies every write.
    Denied,
    /// A policy changes a label that the operator sets.
    Relabelled,
    /// A policy removes an annotation of the operator.
    Stripped,
}

/// Change of a Secret by others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meddling {
    Delete,
    /// The token is replaced by other bytes.
    EditToken,
    /// An annotation of the operator is edited.
    EditFacts,
    /// A label of their own is added.
    Label,
    /// The Secret of this name is replaced by one of theirs.
    Take,
    MakeImmutable,
}

pub fn setup() -> impl Strategy<Value = Setup> {
    let offsets = || prop_oneof![4 => Just(0), 1 => Just(-3), 1 => Just(3), 1 => Just(3600), 1 => Just(-3600)];
    let one_in_four = || prop::bool::weighted(0.25);
    (
        one_in_four(),
        one_in_four(),
        one_in_four(),
        one_in_four(),
        one_in_four(),
        offsets(),
        offsets(),
        any::<u8>(),
    )
        .prop_map(
            |(
                knows_custom_id,
                is_shared,
                is_fast,
                is_stingy,
                is_of_cluster,
                local_offset,
                service_offset,
                policies,
            )| Setup {
                knows_custom_id,
                is_shared,
                is_fast,
                is_stingy,
                is_of_cluster,
                local_offset,
                service_offset,
                policies,
            },
        )
}

/// Returns the strategy for events. Numbers are cheap to generate and to shrink: each maps to an
/// event, the simplest ones first.
pub fn events() -> impl Strategy<Value = Vec<Event>> {
    vec(any::<(u8, u8, u8)>().prop_map(event), 1..24)
}

fn pick<T: Copy>(from: &[T], number: u8) -> T {
    from[usize::from(number) % from.len()]
}

fn event((kind, a, b): (u8, u8, u8)) -> Event {
    const SECONDS: [i64; 12] = [1, 3, 10, 41, 180, 700, 3600, 1, 3, 41, 700, 4 * 3600];
    const LATE: [Option<i64>; 5] = [None, Some(100), Some(3_000), Some(15_000), Some(29_000)];
    match kind {
        0..=24 => Event::Settle,
        25..=60 => Event::Steps(a % 24 + 1, b),
        61..=63 => Event::Policy(a % 9),
        64 | 65 => Event::RequestRenewal(a % 4),
        66 | 67 => Event::RequestRevocation(a % 2),
        68 | 69 => Event::SuspendIdentity(a % 2, b < 128),
        76 | 77 => Event::Revocation(a % 3),
        70..=75 => Event::Pass(pick(&[50, 300, 1000, 2500], a)),
        78..=97 => Event::Wait(pick(&SECONDS, a)),
        98..=109 => Event::CreateToken(a % 4),
        110..=117 => Event::DeleteToken(a % 4),
        118..=121 => Event::CreateIdentity(a % 2),
        122..=127 => Event::DeleteIdentity(a % 2),
        128..=157 => Event::Edit(
            a % 4,
            match b % 16 {
                0..=5 => Edit::Scopes(b / 16),
                6 | 7 => Edit::ExpiresIn(b / 16),
                8 | 9 => Edit::RenewBefore(b / 16),
                10 | 11 => Edit::Revocation(b / 16),
                12 => Edit::SecretName(b / 16),
                13 => Edit::Suspend(b < 128),
                14 if b < 128 => Edit::Label(b / 16),
                14 => Edit::Keys(b / 16),
                _ if b < 96 => Edit::Forbidden(b < 48),
                _ => Edit::Restarts(b / 16),
            },
        ),
        158..=171 => Event::Secret(
            a % 5,
            pick(
                &[
                    Meddling::Delete,
                    Meddling::EditToken,
                    Meddling::EditFacts,
                    Meddling::Label,
                    Meddling::Take,
                    Meddling::MakeImmutable,
                ],
                b,
            ),
        ),
        172..=181 => Event::Crash(a),
        182..=185 => Event::TakeOver(
            pick(
                &[Succession::Stopped, Succession::Frozen, Succession::Cut],
                b,
            ),
            a,
        ),
        186..=205 => Event::Fault(match a % 8 {
            0 => Fault::Unreachable,
            1 | 2 => Fault::Silence {
                lands_after: pick(&LATE, b),
            },
            3 | 4 => Fault::LostAnswer,
            5 => Fault::Unavailable { done: b < 128 },
            6 => Fault::Throttled {
                seconds: i64::from(b % 60),
            },
            _ => Fault::SecondAttempt {
                lands_after: pick(&LATE, b),
            },
        }),
        206..=211 => Event::ApiFault { done: a < 128 },
        212..=215 => Event::ServiceDown(a < 128),
        216..=217 => Event::ApiDown(a < 128),
        218..=223 => Event::Hold(a % WATCHES as u8),
        226..=228 => Event::Free,
        229..=230 => Event::Resync,
        231..=235 => Event::UseKey(a % 4),
        236..=237 => Event::AddKey(a % 4),
        238..=239 => Event::DropKey,
        240..=242 => Event::Regenerate,
        243..=246 => Event::RevokeBehind(a % 2),
        247 => Event::DeleteBehind(a % 2),
        248 => Event::Disown(a % 2),
        252 => match a % 8 {
            0 | 1 => Event::Admission(Admission::Open),
            2 => Event::Admission(Admission::Quota),
            3 => Event::Admission(Admission::Denied),
            4 => Event::Admission(Admission::Relabelled),
            5 => Event::Admission(Admission::Stripped),
            _ => Event::Copy(b % 4),
        },
        253 => match a % 4 {
            0 | 1 => Event::Annotate(b % 4, b / 4),
            2 => Event::Step(pick(&[-60, 60, -5, 5, -3600, 3600], b)),
            _ => Event::RemakeConnection,
        },
        225 => match b % 16 {
            0..=2 => Event::Pod(a, PodDeed::Replace(b / 16, Use::Variable)),
            3 | 4 => Event::Pod(a, PodDeed::Replace(b / 16, Use::SubPath)),
            5 | 6 => Event::Pod(a, PodDeed::Replace(b / 16, Use::Volume)),
            7 => Event::Pod(a, PodDeed::Delete),
            _ => Event::Pod(a, PodDeed::Restart),
        },
        224 => match b % 16 {
            0..=3 => Event::Workload(a, Deed::Create),
            4 => Event::Workload(a, Deed::Delete),
            5..=7 => Event::Workload(a, Deed::Undo),
            8 => Event::Workload(a, Deed::Edit(b < 128)),
            9 => Event::Workload(a, Deed::Rereads(b < 128)),
            10 | 11 => Event::Workload(a, Deed::Touch),
            12 => Event::RefuseWorkloads(Refusal::Restarts),
            13 => Event::RefuseWorkloads(Refusal::Reads),
            _ => Event::RefuseWorkloads(Refusal::Nothing),
        },
        251 => match a % 8 {
            0..=2 => Event::Backup,
            3..=5 => Event::Rewind,
            _ => Event::Restore(b % 2 == 0, b % 4 < 2),
        },
        249 | 250 => Event::SignIn(match a % 8 {
            0 => SignIn::Out,
            1 => SignIn::AsAnother,
            _ => SignIn::For(pick(&[20, 70, 400, 4500, 90_000], b)),
        }),
        254 => match a % 8 {
            0 | 1 => Event::Swap,
            2 => Event::DenyOurs(true),
            3 => Event::DenyOurs(false),
            4 => Event::StripFinalizer(b % 6),
            _ => Event::Busy(pick(&[2, 8, 20, 90], b)),
        },
        _ => Event::Jump(pick(&[-1, 1, -20, 20, -400, 400, -4000, 4000], a)),
    }
}
