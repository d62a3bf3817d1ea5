//! The console has the rights of the kubeconfig's user: forbidden actions are disabled.

use std::path::PathBuf;

use serde_json::json;

use crate::{
    browser::Browser,
    console::Console,
    run::says,
    support::{kubernetes::root, world::World},
};

/// Returns the kubeconfig of a `ServiceAccount` with these rules.
fn member(world: &World, name: &str, rules: &str) -> PathBuf {
    world.apply(&format!(
        "{{apiVersion: rbac.authorization.k8s.io/v1, kind: Role, metadata: {{name: {name}}}, rules: [{rules}]}}"
    ));
    bound(world, name)
}

/// Returns the kubeconfig of a `ServiceAccount` with the Role of the same name.
fn bound(world: &World, name: &str) -> PathBuf {
    world.apply(&format!(
        "{{apiVersion: v1, kind: ServiceAccount, metadata: {{name: {name}}}}}\n---\n\
         {{apiVersion: rbac.authorization.k8s.io/v1, kind: RoleBinding, metadata: {{name: {name}}}, \
         roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: {name}}}, subjects: [{{kind: ServiceAccount, name: {name}}}]}}\n"
    ));
    world.cluster.kubeconfig_of(&world.namespace, name)
}

const READER: &str = "{apiGroups: [acs-identity.dev], resources: [acsconnections, acsidentities, acstokens], verbs: [get, list, watch]}";

#[tokio::test]
async fn what_the_user_may_not_do_is_greyed_out_with_the_right_that_is_missing() {
    let world = World::with_a_token().await;
    let reader = member(&world, "reader", READER);
    let console = Console::start_as(&world, &reader);
    let browser = Browser::open(&console).await;
    let namespace = &world.namespace;
    browser
        .see(
            "#user",
            &format!("system:serviceaccount:{namespace}:reader"),
        )
        .await;
    browser.choose(&format!("AcsToken/{namespace}/web")).await;
    let missing = browser.see("#missing", "get secrets").await;
    says(
        &missing,
        &[
            "Missing permissions: ",
            &format!("patch acstokens web in namespace {namespace}"),
            &format!("patch acsidentities alice in namespace {namespace}"),
            &format!("delete acstokens web in namespace {namespace}"),
            &format!("get secrets web in namespace {namespace}"),
        ],
    );
    for verb in ["renew", "revoke", "suspendToken", "deleteToken", "show"] {
        let button = format!(
            "#detail [data-verb='{verb}'][aria-disabled='true']\
             [title^='Missing permissions: ']"
        );
        browser.click(&button).await;
    }
    browser
        .see("#toasts", "Missing permissions: get secrets web")
        .await;
    browser
        .holds("!document.querySelector('dialog[open]') && !document.querySelector('#secret')")
        .await;
    // The YAML is still shown, because somebody else may commit it.
    browser.click("#new").await;
    browser.click("#scopes input[value='chat']").await;
    browser.see("#create-plan", "kind: AcsToken").await;
    let missing = browser.see("#create-missing", "create acstokens").await;
    says(&missing, &["create acsidentities in namespace"]);
    browser
        .holds("document.querySelector('#create-do').getAttribute('aria-disabled') === 'true'")
        .await;
    drop(browser);
    // A direct request is refused, too, by the API server and by the console.
    let console = Console::start_as(&world, &reader);
    let cookie = console.enter().await;
    let action = json!({"verb": "renew", "namespace": namespace, "name": "web"});
    let answer = console.post(&cookie, "/api/do", &action).await;
    assert_eq!(answer.status(), 403);
    says(
        &answer.text().await.unwrap(),
        &["you are not allowed to change AcsToken"],
    );
    let wanted = json!({"namespace": namespace, "token": "web"});
    let answer = console.post(&cookie, "/api/token", &wanted).await;
    assert_eq!(answer.status(), 403);
    says(
        &answer.text().await.unwrap(),
        &["you are not allowed to read Secret"],
    );
}

#[tokio::test]
async fn a_right_on_single_objects_lets_just_their_buttons_be_pressed() {
    let world = World::with_a_token().await;
    let rules = format!(
        "{READER}, {{apiGroups: [acs-identity.dev], resources: [acstokens], resourceNames: [web], verbs: [patch]}}"
    );
    let renewer = member(&world, "renewer", &rules);
    let console = Console::start_as(&world, &renewer);
    let browser = Browser::open(&console).await;
    let former = world.live_token("web", &[]).await;
    browser
        .choose(&format!("AcsToken/{}/web", world.namespace))
        .await;
    browser.see("#missing", "get secrets").await;
    browser.press("#detail [data-verb='renew']").await;
    browser.press("#act-do").await;
    world.live_token("web", &[&former]).await;
    browser.holds("document.querySelector('#detail [data-verb=deleteToken]').getAttribute('aria-disabled') === 'true'").await;
}

#[tokio::test]
async fn kinds_and_namespaces_that_the_user_may_not_see_are_told() {
    let world = World::with_a_token().await;
    let reader = member(&world, "reader", READER);
    let console = Console::start_as(&world, &reader);
    let browser = Browser::open(&console).await;
    browser.see("#rows", "web").await;
    browser
        .holds("document.querySelector('[data-tab=Revocations]').classList.contains('denied')")
        .await;
    browser.click("#tabs [data-tab='Revocations']").await;
    let denied = browser.see("#denied", "acsrevocations").await;
    says(
        &denied,
        &[
            "you are not allowed to watch acsrevocations",
            "ask an administrator for the permissions in docs/kubectl-acs.md",
        ],
    );
    // The user may not see all namespaces; without -n the console starts with the user's own.
    browser.clear("#namespace").await;
    browser
        .see(
            "#notice",
            "You are not allowed to see all namespaces. Missing permission: list acstokens in all \
             namespaces.",
        )
        .await;
    browser
        .holds(&format!(
            "document.querySelector('#namespace').value === '{}'",
            world.namespace
        ))
        .await;
}

#[tokio::test]
async fn the_role_of_the_documentation_suffices_for_all_that_the_page_shows_and_does() {
    let world = World::with_a_token().await;
    let page = std::fs::read_to_string(root("docs/kubectl-acs.md")).unwrap();
    let role = page.split("```yaml\n").nth(1).unwrap();
    let role = role.split("```").next().unwrap();
    let rules = role.split_once("rules:\n").unwrap().1;
    world.apply(&format!(
        "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {{name: documented}}\nrules:\n{rules}"
    ));
    let person = bound(&world, "documented");
    let console = Console::start_as(&world, &person);
    let browser = Browser::open(&console).await;
    for tab in ["Identities", "Revocations", "Events", "Tokens"] {
        browser.click(&format!("#tabs [data-tab='{tab}']")).await;
        browser
            .holds(&format!(
                "!document.querySelector('[data-tab={tab}]').classList.contains('denied')"
            ))
            .await;
    }
    browser
        .choose(&format!("AcsToken/{}/web", world.namespace))
        .await;
    for verb in ["renew", "revoke", "suspendToken", "deleteToken", "show"] {
        let button = format!("#detail [data-verb='{verb}']:not([aria-disabled])");
        browser.see(&button, "").await;
    }
}
