//! Emulator of Microsoft Entra ID and of the token endpoints of Azure machines: decides which
//! identity gets a token for ACS, and words the errors for all others.

use hyper::{StatusCode, header};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use super::super::{
    Emulator,
    http::{Answer, Call, Operation},
    service::token,
    state::settings::Settings,
};

/// Value that App Service would give its apps for `X-IDENTITY-HEADER`. It is public.
pub const IDENTITY_HEADER: &str = "acs-emulator-identity-header";
/// Default audience of assertions.
const ASSERTION_AUDIENCE: &str = "api://AzureADTokenExchange";
const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// Time before its issue from which a token is valid (`nbf`), as Entra ID allows for clock skew.
const SKEW: SignedDuration = SignedDuration::from_mins(5);

/// Application registered in Entra ID.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(in super::super) struct Application {
    pub tenant_id: String,
    pub client_id: String,
    #[serde(default)]
    pub secrets: Vec<String>,
    #[serde(default)]
    pub expired_secrets: Vec<String>,
    /// Subjects of its federated credentials.
    #[serde(default)]
    pub subjects: Vec<String>,
}

/// Error with a number of Entra's list of error codes.
struct Code(u32, String);

#[derive(Deserialize)]
struct Assertion {
    sub: String,
    aud: Audience,
    exp: i64,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

impl Emulator {
    /// Answers a request to Entra ID or to a machine's token endpoint. Returns `None` if it is for
    /// ACS.
    pub(in super::super) fn entra(
        &self,
        call: &Call,
        operation: Operation,
        ids: &[&str],
    ) -> Option<Answer> {
        let tenant = ids.first().copied().unwrap_or_default();
        match operation {
            Operation::EntraToken => Some(self.by_credential(call, tenant)),
            Operation::EntraConfiguration => Some(configuration(call, tenant)),
            Operation::AppServiceToken => Some(self.by_app_service(call)),
            Operation::MachineToken => Some(self.by_machine(call)),
            Operation::LocalToken => Some(self.by_sign_in(call)),
            _ => None,
        }
    }

    /// Handles `POST /{tenant}/oauth2/v2.0/token`: the client credentials grant.
    fn by_credential(&self, call: &Call, tenant: &str) -> Answer {
        let (settings, now) = self.settings_and_time();
        let form = Form::from_call(call);
        match granted(&form, tenant, &settings, now) {
            Err(Code(number, text)) => refused(number, &text, now),
            Ok((client, resource)) => {
                let life = settings.entra_token_life;
                let token = self.entra_token(tenant, client, resource, now, life);
                Answer::ok(json!({
                    "token_type": "Bearer", "expires_in": life.as_secs(), "ext_expires_in": life.as_secs(),
                    "access_token": token,
                }))
            }
        }
    }

    /// Handles `GET /msi/token`: the managed identity of an App Service app.
    fn by_app_service(&self, call: &Call) -> Answer {
        if call.header("x-identity-header") != Some(IDENTITY_HEADER) {
            return app_service_refusal(
                StatusCode::UNAUTHORIZED,
                "X-IDENTITY-HEADER is missing or wrong.",
            );
        }
        self.managed(call)
            .unwrap_or_else(|why| app_service_refusal(StatusCode::BAD_REQUEST, why))
    }

    /// Handles `GET /metadata/identity/oauth2/token`: the managed identity of a virtual machine.
    fn by_machine(&self, call: &Call) -> Answer {
        if !is_metadata(call) {
            return machine_refusal("Required metadata header not specified");
        }
        self.managed(call).unwrap_or_else(machine_refusal)
    }

    fn managed(&self, call: &Call) -> Result<Answer, &'static str> {
        let (settings, now) = self.settings_and_time();
        let resource = call.query("resource").filter(|it| !it.is_empty());
        let resource = resource.ok_or("Required query variable 'resource' is missing")?;
        let client = call.query("client_id");
        let client = client.unwrap_or_else(|| "system".to_owned());
        let is_assigned = |all: &Vec<String>| all.contains(&client);
        if !settings.managed_identities.as_ref().is_none_or(is_assigned) {
            return Err("Identity not found");
        }
        let life = settings.entra_token_life;
        let token = self.entra_token("managed", &client, &resource, now, life);
        Ok(machine_answer(&token, &resource, now, life))
    }

    /// Handles `POST /oauth2/token`: the endpoint of Cloud Shell.
    fn by_sign_in(&self, call: &Call) -> Answer {
        let (settings, now) = self.settings_and_time();
        let refused = |code: &str, message: String| {
            Answer::json(
                StatusCode::BAD_REQUEST,
                json!({"error": {"code": code, "message": message}}),
            )
        };
        if !is_metadata(call) {
            let message = "Required header Metadata is missing or wrong.".to_owned();
            return refused("BadRequest", message);
        }
        let form = Form::from_call(call);
        let resource = form.get("resource");
        if !settings
            .local_token_audiences
            .iter()
            .any(|it| it == resource)
        {
            let message = format!("Audience {resource} is not a supported MSI token audience.");
            return refused("AudienceNotSupported", message);
        }
        let life = settings.entra_token_life;
        let token = self.entra_token("signed-in", "user", resource, now, life);
        machine_answer(&token, resource, now, life)
    }

    fn settings_and_time(&self) -> (Settings, Timestamp) {
        let core = self.core();
        (core.state.settings.clone(), core.state.now())
    }

    /// Returns a token with the claims that resources check.
    fn entra_token(
        &self,
        tenant: &str,
        client: &str,
        resource: &str,
        now: Timestamp,
        life: SignedDuration,
    ) -> String {
        let begin = (now - SKEW).as_second();
        self.signer
            .sign_claims(&json!({
                "aud": resource, "iss": format!("https://sts.windows.net/{tenant}/"),
                "iat": now.as_second(), "nbf": begin, "exp": (now + life).as_second(),
                "appid": client, "tid": tenant, "oid": client, "sub": client,
                "uti": Uuid::new_v4().simple().to_string(), "ver": "1.0",
            }))
            .unwrap_or_default()
    }
}

/// Fields of a form.
struct Form(Vec<(String, String)>);

impl Form {
    fn from_call(call: &Call) -> Self {
        let is_form = call
            .header(header::CONTENT_TYPE.as_str())
            .is_some_and(|it| it.starts_with("application/x-www-form-urlencoded"));
        let body: &[u8] = if is_form { &call.body } else { &[] };
        Self(url::form_urlencoded::parse(body).into_owned().collect())
    }

    /// Returns the value of a field; empty if there is none.
    fn get(&self, name: &str) -> &str {
        let field = self.0.iter().find(|(its, _)| its == name);
        field.map_or("", |(_, value)| value)
    }
}

fn is_metadata(call: &Call) -> bool {
    call.header("metadata")
        .is_some_and(|it| it.eq_ignore_ascii_case("true"))
}

/// Returns the client id that a token is issued to, and the resource that it is for.
fn granted<'a>(
    form: &'a Form,
    tenant: &str,
    settings: &Settings,
    now: Timestamp,
) -> Result<(&'a str, &'a str), Code> {
    if let Some(number) = settings.entra_refusal {
        return Err(Code(
            number,
            "A setting of the emulator requested this error.".to_owned(),
        ));
    }
    let refuse = |number, text: String| Err(Code(number, text));
    let (grant, client, scope) = (
        form.get("grant_type"),
        form.get("client_id"),
        form.get("scope"),
    );
    if grant != "client_credentials" {
        return refuse(
            70003,
            format!("The app requested an unsupported grant type '{grant}'."),
        );
    }
    let known = settings.entra_applications.as_ref();
    let is_tenant = |all: &Vec<Application>| all.iter().any(|it| it.tenant_id == tenant);
    if tenant == "common" || !known.is_none_or(is_tenant) {
        return refuse(
            90002,
            format!(
                "Tenant '{tenant}' not found. Check to make sure you have the correct tenant ID and are signing into the correct cloud."
            ),
        );
    }
    let application = known.and_then(|all| {
        all.iter()
            .find(|it| it.tenant_id == tenant && it.client_id == client)
    });
    if client.is_empty() || (known.is_some() && application.is_none()) {
        return refuse(
            700_016,
            format!(
                "Application with identifier '{client}' was not found in the directory '{tenant}'. This can happen if the application has not been installed by the administrator of the tenant or consented to by any user in the tenant."
            ),
        );
    }
    let Some(resource) = scope.strip_suffix("/.default").filter(|it| !it.is_empty()) else {
        return refuse(
            1_002_012,
            format!(
                "The provided value for scope {scope} is not valid. Client credential flows must have a scope value with /.default suffixed to the resource identifier (application ID URI)."
            ),
        );
    };
    if form.get("client_assertion_type") == ASSERTION_TYPE {
        check_assertion(form.get("client_assertion"), application, now)?;
    } else {
        check_secret(form.get("client_secret"), client, application)?;
    }
    Ok((client, resource))
}

fn check_secret(secret: &str, client: &str, application: Option<&Application>) -> Result<(), Code> {
    if secret.is_empty() {
        return Err(Code(7_000_218, "The request body must contain the following parameter: 'client_assertion' or 'client_secret'.".to_owned()));
    }
    let Some(application) = application else {
        return Ok(());
    };
    let has = |all: &Vec<String>| all.iter().any(|it| it == secret);
    if has(&application.expired_secrets) {
        return Err(Code(
            7_000_222,
            format!(
                "The provided client secret keys for app '{client}' are expired. Visit the Azure portal to create new keys for your app: https://aka.ms/NewClientSecret."
            ),
        ));
    }
    if !has(&application.secrets) {
        return Err(Code(
            7_000_215,
            format!(
                "Invalid client secret provided. Ensure the secret being sent in the request is the client secret value, not the client secret ID, for a secret added to app '{client}'."
            ),
        ));
    }
    Ok(())
}

/// Checks the claims of an assertion; its signature is not verified.
fn check_assertion(
    text: &str,
    application: Option<&Application>,
    now: Timestamp,
) -> Result<(), Code> {
    let assertion: Option<Assertion> = token::claims(text);
    let assertion =
        assertion.ok_or_else(|| Code(50027, "JWT token is invalid or malformed.".to_owned()))?;
    if assertion.exp <= now.as_second() {
        return Err(Code(
            700_024,
            "Client assertion is not within its valid time range.".to_owned(),
        ));
    }
    let is_for_us = match &assertion.aud {
        Audience::One(audience) => audience == ASSERTION_AUDIENCE,
        Audience::Many(all) => all.iter().any(|it| it == ASSERTION_AUDIENCE),
    };
    let subject = &assertion.sub;
    if !is_for_us {
        return Err(Code(700_212, "No matching federated identity record found for presented assertion audience. Please check your federated identity credential Subject, Audience and Issuer against the presented assertion.".to_owned()));
    }
    let trusts = |it: &Application| it.subjects.contains(subject);
    if !application.is_none_or(trusts) {
        return Err(Code(
            700_213,
            format!(
                "No matching federated identity record found for presented assertion subject '{subject}'. Please check your federated identity credential Subject, Audience and Issuer against the presented assertion."
            ),
        ));
    }
    Ok(())
}

/// Returns an error as Entra ID words it, with the parts that differ each time.
fn refused(number: u32, text: &str, now: Timestamp) -> Answer {
    let (status, error) = match number {
        7_000_215 | 7_000_218 | 7_000_222 | 700_024 | 700_211..=700_213 | 70021 => {
            (StatusCode::UNAUTHORIZED, "invalid_client")
        }
        700_016 | 7_000_112 => (StatusCode::BAD_REQUEST, "unauthorized_client"),
        70003 => (StatusCode::BAD_REQUEST, "unsupported_grant_type"),
        1_002_012 => (StatusCode::BAD_REQUEST, "invalid_scope"),
        65001 => (StatusCode::BAD_REQUEST, "invalid_grant"),
        _ => (StatusCode::BAD_REQUEST, "invalid_request"),
    };
    let (trace, correlation) = (Uuid::new_v4(), Uuid::new_v4());
    let time = now.strftime("%Y-%m-%d %H:%M:%SZ").to_string();
    let mut answer = Answer::json(
        status,
        json!({
            "error": error,
            "error_description": format!(
                "AADSTS{number}: {text} Trace ID: {trace} Correlation ID: {correlation} Timestamp: {time}"
            ),
            "error_codes": [number], "timestamp": time, "trace_id": trace.to_string(),
            "correlation_id": correlation.to_string(),
            "error_uri": format!("https://login.microsoftonline.com/error?code={number}"),
        }),
    );
    answer.error_code = Some(format!("AADSTS{number}"));
    answer
}

fn app_service_refusal(status: StatusCode, message: &str) -> Answer {
    let body = json!({"statusCode": status.as_u16(), "message": message});
    Answer::json(status, body)
}

fn machine_refusal(description: &str) -> Answer {
    let body = json!({"error": "invalid_request", "error_description": description});
    Answer::json(StatusCode::BAD_REQUEST, body)
}

fn machine_answer(token: &str, resource: &str, now: Timestamp, life: SignedDuration) -> Answer {
    Answer::ok(json!({
        "access_token": token, "expires_on": (now + life).as_second().to_string(),
        "expires_in": life.as_secs().to_string(), "resource": resource, "token_type": "Bearer",
    }))
}

/// Handles `GET /{tenant}/v2.0/.well-known/openid-configuration`, which official clients request
/// first.
fn configuration(call: &Call, tenant: &str) -> Answer {
    let host = call.header(header::HOST.as_str()).unwrap_or_default();
    let scheme = if call.is_tls { "https" } else { "http" };
    let base = format!("{scheme}://{host}/{tenant}");
    let document: Value = json!({
        "issuer": format!("{base}/v2.0"),
        "authorization_endpoint": format!("{base}/oauth2/v2.0/authorize"),
        "token_endpoint": format!("{base}/oauth2/v2.0/token"),
        "jwks_uri": format!("{scheme}://{host}/_emulator/jwks.json"),
        "token_endpoint_auth_methods_supported": ["client_secret_post", "private_key_jwt"],
        "response_types_supported": ["token"], "subject_types_supported": ["pairwise"],
        "id_token_signing_alg_values_supported": ["RS256"],
    });
    Answer::ok(document)
}
