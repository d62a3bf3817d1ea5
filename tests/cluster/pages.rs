//! Pages of the docs about one task each, run word for word.

use crate::support::{
    kubernetes::root,
    user_token::{APPLICATION, USER, entra_token},
    world::World,
};

/// Returns the commands of a page of the docs, block by block.
pub fn commands(page: &str) -> Vec<String> {
    let page = std::fs::read_to_string(root(page)).expect("the page");
    let blocks = page.split("```sh\n").skip(1);
    let until_end = |rest: &str| rest.split("```").next().expect("an end").to_owned();
    blocks.map(until_end).collect()
}

#[tokio::test]
async fn the_page_on_adoption_is_true_word_for_word() {
    let world = World::new().await;
    let id = world.stray().await;
    let blocks = commands("docs/adopt-an-identity.md");
    assert_eq!(blocks.len(), 3);
    let example = "8:acs:11111111-2222-3333-4444-555555555555_00000006-19e0-2727-80f5-8b3a0d003502";
    let told: Vec<_> = blocks
        .iter()
        .map(|block| world.bash(&block.replace(example, &id)))
        .collect();
    assert!(told[0].ends_with("Adopted"), "{told:?}");
    let bytes = world.live_token("alice-web", &[]).await;
    assert_eq!(world.emulator.check(&bytes).await.identity_id, Some(id));
}

#[tokio::test]
async fn the_page_on_teams_users_is_true_word_for_word() {
    let world = World::new().await;
    let blocks = commands("docs/teams-users.md");
    assert_eq!(blocks.len(), 3);
    let place = tempfile::tempdir().expect("a folder");
    let run = |block: &str| {
        let block = block
            .replace("11111111-2222-3333-4444-555555555555", APPLICATION)
            .replace("aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee", USER);
        world.bash(&format!("cd {}\n{block}", place.path().display()))
    };
    let sign_in = |life: i64| {
        let end = jiff::Timestamp::now().as_second() + life;
        let token = entra_token(&serde_json::json!({ "exp": end }));
        std::fs::write(place.path().join("entra-token"), token).expect("writable");
    };
    sign_in(3600);
    let told = run(&blocks[0]);
    assert!(told.ends_with(&format!("8:orgid:{USER}")), "{told}");
    let first = world.live_token("megan", &[]).await;
    sign_in(3500);
    run(&blocks[1]);
    world.live_token("megan", &[&first]).await;
    let told = run(&blocks[2]);
    assert!(
        told.contains("ACS cannot revoke tokens of Teams users"),
        "{told}"
    );
}

#[tokio::test]
async fn the_page_on_several_tokens_is_true_word_for_word() {
    let world = World::new().await;
    let blocks = commands("docs/several-tokens.md");
    assert_eq!(blocks.len(), 3);
    world.bash(&blocks[0]);
    let chat = world.live_token("alice-chat", &[]).await;
    let call = world.live_token("alice-call", &[]).await;

    world.bash(&blocks[1]);
    let chats = world.live_token("alice-chat", &[&chat]).await;
    let calls = world.live_token("alice-call", &[&call]).await;
    assert!(!world.emulator.check(&chat).await.valid);
    assert!(!world.emulator.check(&call).await.valid);

    world.bash(&blocks[2]);
    world.live_token("alice-call", &[&calls]).await;
    assert!(world.emulator.check(&calls).await.valid, "it runs out");
    assert_eq!(world.live_token("alice-chat", &[]).await, chats);
}
