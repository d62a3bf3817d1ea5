use k8s_openapi::{api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::Condition};
use kube::{Resource, ResourceExt, core::object::HasStatus};
use serde::{Serialize, de::DeserializeOwned};

use super::{PodPage, Workload};
use crate::crd::{
    AcsConnection, AcsIdentity, AcsRevocation, AcsToken, ClusterAcsConnection, ClusterAcsRevocation,
};

/// Object sent to or received from the API server.
#[derive(Clone, Debug)]
pub enum Object {
    /// `AcsConnection`.
    Connection(Box<AcsConnection>),
    /// `ClusterAcsConnection`.
    ClusterConnection(Box<ClusterAcsConnection>),
    /// `AcsIdentity`.
    Identity(Box<AcsIdentity>),
    /// `AcsToken`.
    Token(Box<AcsToken>),
    /// `AcsRevocation`.
    Revocation(Box<AcsRevocation>),
    /// `ClusterAcsRevocation`.
    ClusterRevocation(Box<ClusterAcsRevocation>),
    /// Secret.
    Secret(Box<Secret>),
    /// Page of `AcsIdentity` objects.
    Identities(IdentityPage),
    /// Workload.
    Workload(Workload),
    /// Page of pods.
    Pods(PodPage),
}

/// Page of a list of `AcsIdentity` objects.
#[derive(Clone, Debug, Default)]
pub struct IdentityPage {
    /// Objects of the page.
    pub items: Vec<AcsIdentity>,
    /// Continue token of the next page, if there is one.
    pub next: Option<String>,
}

/// Kind of object on which the operator writes status and finalizers.
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
    /// Returns the object, if it is of this kind.
    fn from_object(object: Object) -> Option<Self>;
    /// Returns the conditions of its status, once it has one.
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
            /// Returns `Kind namespace/name`, for errors, logs and the journal.
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
