//! Attacks by a tenant who may write all of the operator's kinds but no Secrets: the tenant cannot
//! reach another tenant's identity, key, Secret or token, nor make the operator send a credential
//! to a new endpoint.
//!
//! All known attacks, and the test that covers each.
//!
//! Permissions
//! - Secrets, the cluster-scoped kinds, other namespaces, status: [`rights`], at the beginning
//! - a status in a created object, or in a patch: [`rights`]
//! - a rule on all resources of the operator's API group includes their status: [`admission`]
//! - the operator's own permissions, after a takeover of the operator: foreign tokens by its
//!   permission on Secrets or on tokens of `ServiceAccounts`: [`admission`]
//! - a connection that a tenant is not supposed to use: [`admission`], if the chart is configured
//!   accordingly
//! - the operator's finalizers, removed or added: they affect only the attacker's own objects
//! - the operator's labels on a Secret or `ConfigMap`: the attacker can write none, and `AcsToken`s
//!   add none ([`secrets`])
//!
//! Identities
//! - adopt an identity in use, with an own connection that allows sharing: [`identities`]
//! - the same with another letter case: [`identities`]
//! - the same with a `ClusterAcsConnection`: `cluster_connection::adoption_is_denied...`, and if it
//!   is not, `adoption::an_identity_that_another_object_uses...`
//! - prevent its tokens from being issued with a revocation that never ends: [`identities`]
//! - adopt an identity with a made-up credential, then let the `ClusterAcsConnection` delete it:
//!   [`identities`]
//! - delete an identity that is no longer shared: `adoption::who_came_later...`
//! - delete the id that another object still uses: `adoption::where_it_is_shared...`
//! - change the id later: `bad_input::what_is_immutable...`
//! - use a `ClusterAcsConnection` that does not allow the namespace:
//!   `cluster_connection::without_namespaces...`, `cluster_connection::a_selector_follows...`
//! - a revocation that names, or selects, foreign identities: [`identities`]; one whose target was
//!   created again: `break_glass::another_identity_of_a_targets_name...`
//! - a revocation of a shared id: it affects those who share it,
//!   `break_glass::where_an_identity...`; the first attack covers who may share
//! - an object that is created again with the same name:
//!   `deletion::a_new_object_of_the_same_name...`
//! - an id that is not used in the cluster, with a working connection that allows adoption: this is
//!   what adoption is for; docs/adopt-an-identity.md warns. So is being first: the later object
//!   gets `IdentityInUse`
//! - references to other namespaces, by unknown fields, `/` or `..`: [`rights`]
//! - paths and queries in `identityId`: [`rights`], `bad_input::nonsense...`
//!
//! Destinations of credentials
//! - spellings of endpoints: [`endpoints`]; all of them in the unit tests of `acs::endpoint` and
//!   `acs::endpoint_policy`
//! - the same in a connection string: `bad_world::an_endpoint_that_is_not_allowed...`,
//!   `bad_world::an_endpoint_without_tls...`
//! - the same with a token of Entra ID: `entra::an_endpoint_that_no_flag_allows...`
//! - an endpoint next to a connection string: `bad_world::an_endpoint_and_a_connection_string...`
//! - a redirect: `faults::a_redirect_is_not_followed` of the ACS client's tests
//! - another endpoint later: `credentials::a_connection_that_leads_elsewhere...`,
//!   `teams::another_resource_is_never_called...`; with a connection that is created again, and for
//!   cleanup: [`endpoints`]
//! - `tenantId`, `clientId` and `apiVersion` that inject into a request: [`rights`]
//! - another authority or audience: there is no such field, `bad_input::nonsense...`
//!
//! Secrets as input
//! - a foreign Secret used as a credential: its content is disclosed to nobody ([`credentials`])
//! - a Secret of a type of Kubernetes or Helm, or an `AcsToken`'s, as a client secret: never sent
//!   ([`credentials`])
//! - a foreign Secret, or another user's, as a Teams user's:
//!   `teams::nothing_but_the_entra_token...`
//! - a name that makes the operator read another Secret, or all: [`rights`]; the answer to such a
//!   request is not logged: the unit test in `main`
//! - the fingerprint as an oracle: `credentials::a_wrong_key_is_told_and_its_fingerprint_is_not`
//! - an Entra ID token that was issued for another tenant's proof: [`credentials`]
//!
//! Secrets as output
//! - the name of an existing Secret, of any type: [`secrets`], `secrets::a_foreign_secret...`
//! - the name of another `AcsToken`'s Secret: `secrets::of_two_tokens...`; of a former one of the
//!   same name: [`secrets`]
//! - type, owner and namespace of the Secret, and metadata that other controllers act on:
//!   [`secrets`], `issuing`, `bad_world::metadata_that_other_controllers_obey...`
//!
//! Credentials of the operator itself
//! - its managed identity, its `ServiceAccount`, the local token endpoint: `ambient`, all tests
//! - a `ServiceAccount` for which it may not create tokens: `ambient::a_service_account_proves...`
//! - a `ServiceAccount` in the operator's namespace, by a path: [`rights`]

mod admission;
mod credentials;
mod endpoints;
mod identities;
mod rights;
mod secrets;

use acs_identity_operator::crd::{AcsConnection, AcsIdentity, AcsToken};
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, Patch, PatchParams, PostParams},
    core::GroupVersionKind,
};
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    entra::{CLIENT, TENANT, world_of_entra},
    support::{
        eventually,
        world::{Kind, World, says},
    },
};

/// Permissions to write the operator's kinds, and nothing else: no Secret, no status, no other
/// namespace.
const RIGHTS: &str = "apiVersion: v1
kind: ServiceAccount
metadata: {name: mallory}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: tenant}
rules:
- apiGroups: [acs-identity.dev]
  resources: [acsconnections, acsidentities, acstokens, acsrevocations]
  verbs: [get, list, watch, create, update, patch, delete, deletecollection]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: tenant}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: tenant}
subjects: [{kind: ServiceAccount, name: mallory}]
";

/// Victim, and an attacker with a separate namespace.
struct Attack {
    /// World of the victim. Its namespace is also the one where `ClusterAcsConnection`s look up
    /// their Secrets.
    world: World,
    /// Client with the attacker's permissions.
    client: Client,
    /// Namespace of the attacker.
    namespace: String,
}

impl Attack {
    /// Creates a victim with a connection, an identity `alice` and its token `web`, and an attacker
    /// without objects.
    async fn new() -> Self {
        let mut attack = Self::prepared().await;
        attack.world.start_operator();
        attack.world.identity("alice", "");
        attack.world.token("web", "alice", "scopes: [chat]");
        attack.world.ready("web").await;
        attack
    }

    /// Creates the same before the operator runs, with the connection only.
    async fn prepared() -> Self {
        let mut world = world_of_entra(&[]).await;
        world.connect("default", &world.emulator.connection_string.clone());
        let namespace = format!("{}-mallory", world.namespace);
        world.cluster.kubectl(&["create", "namespace", &namespace]);
        world.cluster.apply(&namespace, RIGHTS);
        let watched = ["--watch-namespace".to_owned(), namespace.clone()];
        world.arguments.extend(watched);
        let mallory = world.cluster.as_account(&namespace, "mallory");
        let client = mallory.client().await;
        Self {
            world,
            client,
            namespace,
        }
    }

    /// Creates the same, with an attacker who has a working connection, an identity `bob` and its
    /// token `bob`.
    async fn with_a_token() -> Self {
        let attack = Self::new().await;
        attack.give_a_key();
        attack
            .connect_by_key("default", &attack.world.emulator.url)
            .await;
        attack.identity("bob", "").await;
        attack.token("bob", "bob", "scopes: [chat]").await;
        attack.says::<AcsToken>("bob", "TokenIssued").await;
        attack
    }

    /// Creates an object with `spec`, flow-style YAML, as any API client may: unknown fields are
    /// dropped.
    async fn try_create(&self, kind: &str, name: &str, spec: &str) -> Result<(), String> {
        let spec: Value = serde_saphyr::from_str(&format!("{{{spec}}}")).expect("YAML");
        self.try_write(kind, name, json!({"spec": spec})).await
    }

    async fn try_write(&self, kind: &str, name: &str, data: Value) -> Result<(), String> {
        let kind = GroupVersionKind::gvk("acs-identity.dev", "v1alpha1", kind);
        let resource = ApiResource::from_gvk(&kind);
        let api = Api::namespaced_with(self.client.clone(), &self.namespace, &resource);
        let object = DynamicObject::new(name, &resource).data(data);
        let made = api.create(&PostParams::default(), &object).await;
        made.map(|_| ()).map_err(|error| error.to_string())
    }

    async fn create(&self, kind: &str, name: &str, spec: &str) {
        let made = self.try_create(kind, name, spec).await;
        made.expect("the API server takes it");
    }

    /// Returns the API server's error for an object that it rejects.
    async fn refused(&self, kind: &str, spec: &str) -> String {
        let made = self.try_create(kind, "refused", spec).await;
        made.expect_err(spec)
    }

    /// Creates a connection with `spec`, flow-style YAML.
    async fn connection(&self, name: &str, spec: &str) {
        self.create("AcsConnection", name, spec).await;
    }

    /// Creates a connection to the victim's resource whose credential needs no Secret, and is
    /// worthless.
    async fn made_up_connection(&self, name: &str, policy: &str) {
        let spec = format!(
            "endpoint: \"{}\", auth: {{{}}}, policy: {{{policy}}}",
            self.world.emulator.url,
            made_up()
        );
        self.connection(name, &spec).await;
    }

    async fn identity(&self, name: &str, spec: &str) {
        self.create("AcsIdentity", name, spec).await;
    }

    async fn token(&self, name: &str, identity: &str, spec: &str) {
        let spec = format!("identityRef: {{name: \"{identity}\"}}, {spec}");
        self.create("AcsToken", name, &spec).await;
    }

    async fn patch<K: Kind>(&self, name: &str, change: &Value) {
        let api = Api::<K>::namespaced(self.client.clone(), &self.namespace);
        let patch = Patch::Merge(change);
        let patched = api.patch(name, &PatchParams::default(), &patch).await;
        patched.expect("a patch that is fine");
    }

    /// Stores a key of the victim's resource in the Secret `acs` of the attacker's namespace.
    fn give_a_key(&self) {
        let key = self.world.emulator.access_key();
        self.world.cluster.apply(
            &self.namespace,
            &format!(
                "apiVersion: v1\nkind: Secret\nmetadata: {{name: acs}}\nstringData: {{key: \"{key}\"}}\n"
            ),
        );
    }

    /// Creates a connection that uses it at `endpoint`.
    async fn connect_by_key(&self, name: &str, endpoint: &str) {
        let auth = "accessKey: {secretRef: {name: acs, key: key}}";
        let spec = format!("endpoint: \"{endpoint}\", auth: {{{auth}}}");
        self.connection(name, &spec).await;
    }

    /// Waits until the Ready condition of an object of the attacker has this reason; returns its
    /// message.
    async fn says<K: Kind + Serialize>(&self, name: &str, reason: &str) -> String {
        let api = Api::<K>::namespaced(self.client.clone(), &self.namespace);
        says(&api, name, reason).await
    }

    /// Waits until a token of the attacker satisfies `is`.
    async fn token_where(&self, name: &str, is: impl Fn(&AcsToken) -> bool) {
        let api = Api::<AcsToken>::namespaced(self.client.clone(), &self.namespace);
        eventually(&format!("AcsToken {name} of the attacker"), || async {
            let token = api.get_opt(name).await.expect("readable")?;
            is(&token).then_some(())
        })
        .await;
    }

    async fn connection_says(&self, name: &str, reason: &str) -> String {
        self.says::<AcsConnection>(name, reason).await
    }

    async fn identity_says(&self, name: &str, reason: &str) -> String {
        self.says::<AcsIdentity>(name, reason).await
    }

    /// Deletes an object of the attacker, and waits until it does not exist.
    async fn delete<K: Kind>(&self, name: &str) {
        let api = Api::<K>::namespaced(self.client.clone(), &self.namespace);
        let deleted = api.delete(name, &kube::api::DeleteParams::default()).await;
        deleted.expect("a deletion");
        let what = format!("{} {name} of the attacker is gone", K::kind(&()));
        eventually(&what, || async {
            let found = api.get_opt(name).await.expect("readable");
            found.is_none().then_some(())
        })
        .await;
    }

    /// Returns the id of the victim's identity `alice`.
    async fn victims_id(&self) -> String {
        let api = self.world.api::<AcsIdentity>();
        let status = api.get("alice").await.expect("alice").status;
        status.and_then(|status| status.identity_id).expect("an id")
    }

    /// Checks that the victim gets a new token on request, and that ACS accepts it.
    async fn victim_is_well(&self) {
        let former = self.world.live_token("web", &[]).await;
        let request = json!({"metadata": {"annotations": {
            "acs-identity.dev/requested-at": jiff::Timestamp::now().to_string(),
        }}});
        self.world.patch::<AcsToken>("web", request).await;
        self.world.live_token("web", &[&former]).await;
        self.world.ready("web").await;
    }
}

/// Returns a credential that needs no Secret, only a `ServiceAccount` of the namespace.
fn made_up() -> String {
    format!(
        "workloadIdentity: {{tenantId: {TENANT}, clientId: {CLIENT}, serviceAccountRef: {{name: mallory}}}}"
    )
}
