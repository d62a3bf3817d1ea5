//! `doctor` reports everything that is missing.

use crate::{
    lives::start_leader,
    run::{acs, says},
    support::{kubernetes::another, world::World},
};

#[tokio::test]
async fn where_all_is_there_the_doctor_says_so() {
    let mut world = World::bare(&[], &[]).await;
    world.connect("default", &world.emulator.connection_string.clone());
    start_leader(&mut world);
    world.connection_says("default", "ConnectionReady").await;
    let output = acs(&world, &["doctor"]).fine();
    says(
        &output,
        &[
            "ok     API server https://127.0.0.1",
            "; you are admin",
            "ok     clock of this machine: ",
            "ok     operator: ",
            "ok     permissions: all that a user needs in namespace ",
            "ok     AcsConnection default: ",
        ],
    );
    let output = acs(&world, &["doctor", "--as", "nobody"]).fine();
    says(
        &output,
        &[
            "note   operator: unknown, because you are not allowed to list Leases",
            "note   permissions: missing list acsidentities in namespace story-",
            "note   connections: you are not allowed to list them",
        ],
    );
}

#[tokio::test]
async fn what_is_wrong_is_named_and_what_entra_id_must_trust() {
    let world = World::bare_in(another(), &[], &[]).await;
    let client = "11111111-2222-3333-4444-555555555555";
    world.apply(&format!(
        "apiVersion: acs-identity.dev/v1alpha1\nkind: AcsConnection\nmetadata: {{name: entra}}\n\
         spec:\n  endpoint: https://contoso.communication.azure.com\n  auth:\n    workloadIdentity:\n      tenantId: contoso.onmicrosoft.com\n      clientId: {client}\n      serviceAccountRef: {{name: acs}}\n"
    ));
    let output = acs(&world, &["doctor"]);
    assert_eq!(output.code, 3, "{output:?}");
    let subject = format!("subject system:serviceaccount:{}:acs", world.namespace);
    says(
        &output.out,
        &[
            "WRONG  operator: there is no leader",
            "WRONG  AcsConnection entra: ",
            &format!(
                "note   client {client} in Entra ID needs a federated credential: issuer https://"
            ),
            &subject,
            "audience api://AzureADTokenExchange",
            "az identity federated-credential create --name acs",
        ],
    );
}
