use k8s_openapi::{api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::Condition};
use kube::{Resource, ResourceExt, core::object::HasStatus};
use serde::{Serialize, de::DeserializeOwned};

use super::{PodPage, Workload};
use crate::crd::{
    AcsConnection, AcsIdentity, AcsRevocation, AcsToken, ClusterAcsConnection, ClusterAcsRevocation,
};

/// An object on its way to or from the API server.
#[derive(Clone, Debug)]
pub enum Object {
    /// An `AcsConnection`.
    Connection(Box<AcsConnection>),
    /// A `ClusterAcsConnection`.
    ClusterConnection(Box<ClusterAcsConnection>),
    /// An `AcsIdentity`.
    Identity(Box<AcsIdentity>),
    /// An `AcsToken`.
    Token(Box<AcsToken>),
    /// An `AcsRevocation`.
    Revocation(Box<AcsRevocation>),
    /// A `ClusterAcsRevocation`.
    ClusterRevocation(Box<ClusterAcsRevocation>),
    /// A Secret.
    Secret(Box<Secret>),
    /// A page of `AcsIdentities`.
    Identities(IdentityPage),
    /// A workload.
    Workload(Workload),
    /// A page of pods.
    Pods(PodPage),
}

/// A page of a list.
#[derive(Clone, Debug, Default)]
pub struct IdentityPage {
    /// The objects.
    pub items: Vec<AcsIdentity>,
    /// Where the next page begins, if there is one.
    pub next: Option<String>,
}

/// A kind whose status and finalizers the operator writes.
pub trait Stored:
    Resource<DynamicType = ()>
    + HasStatus
    + Clone
    + std::fmt::Debug
    + Serialize
    + DeserializeOwned
    + Send
    + Sync
    + 'static
{
    /// Wraps the object.
    fn into_object(self) -> Object;
    /// The object, if it is one of this kind.
    fn from_object(object: Object) -> Option<Self>;
    /// What its status says of it, once it has one.
    fn conditions_mut(&mut self) -> Option<&mut Vec<Condition>>;
}

macro_rules! stored {
    ($($kind:ty => $variant:ident),*) => {
        $(
            impl Stored for $kind {
                fn into_object(self) -> Object {
                    Object::$variant(Box::new(self))
                }
                fn from_object(object: Object) -> Option<Self> {
                    match object {
                        Object::$variant(object) => Some(*object),
                        _ => None,
                    }
                }
                fn conditions_mut(&mut self) -> Option<&mut Vec<Condition>> {
                    self.status.as_mut().map(|status| &mut status.conditions)
                }
            }
        )*

        impl Object {
            /// `Kind namespace/name`, for errors, logs and the journal.
            #[must_use]
            pub fn named(&self) -> String {
                match self {
                    $(Self::$variant(object) => crate::cluster::named(object.as_ref()),)*
                    Self::Secret(secret) => {
                        let namespace = secret.namespace().unwrap_or_default();
                        format!("Secret {namespace}/{}", secret.name_any())
                    }
                    Self::Identities(_) => "AcsIdentities".to_owned(),
                    Self::Workload(_) => "workload".to_owned(),
                    Self::Pods(_) => "pods".to_owned(),
                }
            }
        }
    };
}

stored!(
    AcsConnection => Connection,
    ClusterAcsConnection => ClusterConnection,
    AcsIdentity => Identity,
    AcsToken => Token,
    AcsRevocation => Revocation,
    ClusterAcsRevocation => ClusterRevocation
);
