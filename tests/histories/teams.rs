//! Teams user, and their sign-in.

use acs_identity_operator::crd::{Scope, SecretKeyRef, TeamsUser, TokenParameters};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use k8s_openapi::{ByteString, api::core::v1::Secret};
use serde_json::json;

use crate::{events::SignIn, service::Millis, world::World};

/// Name of the Secret of the Entra token.
pub const ENTRA: &str = "entra";
const KEY: &str = "token";
const APPLICATION: &str = "a0000000-1111-2222-3333-444444444444";
const USER: &str = "b0000000-1111-2222-3333-444444444444";

pub fn user() -> TeamsUser {
    TeamsUser {
        app_id: APPLICATION.to_owned(),
        user_id: USER.to_owned(),
        secret_ref: SecretKeyRef {
            name: ENTRA.to_owned(),
            key: KEY.to_owned(),
        },
    }
}

/// Returns the parameters of the user's token.
pub fn parameters() -> TokenParameters {
    TokenParameters {
        scopes: [Scope::Chat, Scope::Voip].into(),
        expires_in: "1440m".to_owned(),
    }
}

/// Puts another Entra token into its Secret, or deletes the Secret.
pub fn sign_in(world: &mut World, how: SignIn) {
    let (user, life) = match how {
        SignIn::For(seconds) => (USER, seconds),
        SignIn::AsAnother => (APPLICATION, 4000),
        SignIn::Out => {
            let now = world.time();
            let _ = world.cluster.delete::<Secret>(ENTRA, None, now);
            return;
        }
    };
    let end: Millis = world.service_time().div_euclid(1000) + life;
    let number = world.service.user_tokens.len();
    let claims = json!({"oid": user, "appid": APPLICATION, "exp": end, "uti": number});
    let text = format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims.to_string()));
    if user == USER {
        world.service.user_tokens.insert(text.clone(), end * 1000);
    }
    let put = |secret: &mut Secret| {
        let data = secret.data.get_or_insert_default();
        data.insert(KEY.to_owned(), ByteString(text.clone().into_bytes()));
    };
    if world.cluster.update::<Secret>(ENTRA, None, put).is_err() {
        let mut secret = Secret::default();
        secret.metadata.name = Some(ENTRA.to_owned());
        put(&mut secret);
        let now = world.time();
        let _ = world.cluster.create(secret, now);
    }
}
