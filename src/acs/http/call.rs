//! Call to ACS: waits for its turn, signs, sends, interprets the answer and retries if necessary.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp, Unit};
use secrecy::{ExposeSecret, SecretString};
use tokio::time::{Instant, sleep};

use super::super::auth::{NoToken, Signature};
use super::super::error::Details;
use super::super::limit::{Failed, Permit, RetryState};
use super::super::service::{Resource, Shared};
use super::super::{Credential, Error, Kind, Outcome, Turn, Urgency};
use super::answer::{Answer, Body};
use super::clock::is_far_off;
use super::request::Request;
use super::scrub::scrubbed;
use super::transport::{NoAnswer, Proof, exchange};

/// Advice when ACS rejects an identity that Entra ID accepted.
const NO_ROLE: &str = "Assign a role on the ACS resource with access to its data, such as \
 Contributor, to the Entra identity; a new assignment takes some minutes, and the operator tries \
 again";

/// Maximum length of a text that is accepted as an error code.
const LONGEST_CODE: usize = 64;

/// Result of a successful call.
pub(in super::super) struct Done<T> {
    pub value: T,
    /// Time of the answer, by the clock of ACS, in whole seconds.
    pub date: Timestamp,
    /// Time at which the answer arrived, by the local clock.
    pub received_at: Timestamp,
    /// Whether the answer to an earlier attempt was lost.
    pub earlier_attempt_lost: bool,
}

/// Everything that a call needs besides its request.
#[derive(Clone, Copy)]
pub(in super::super) struct Call<'a> {
    pub shared: &'a Shared,
    pub resource: &'a Resource,
    pub credential: &'a Credential,
    pub request: &'a Request,
}

/// Converts an answer to a value; returns `None` if it is not a success that ACS would send.
type Read<T> = fn(&Answer) -> Option<T>;

impl Call<'_> {
    /// Makes the call.
    pub(in super::super) async fn make<T>(
        self,
        turn: Turn,
        read: Read<T>,
    ) -> Result<Done<T>, Error> {
        let Self {
            shared,
            resource,
            request,
            ..
        } = self;
        let config = &shared.config;
        let request_id = uuid::Uuid::new_v4().to_string();
        let mut retry_state = RetryState::new(
            config.total_timeout,
            config.connect_timeout,
            config.first_retry_delay,
            request.is_repeatable,
        );
        let Turn {
            urgency,
            permit: mut first,
        } = turn;
        loop {
            // Before the turn, so that no call occupies a slot that others could use.
            self.bearer_token(&retry_state).await?;
            let permit = match first.take() {
                Some(permit) => permit,
                None => self.permit(urgency.clone()).await,
            };
            let token = self.bearer_token(&retry_state).await?;
            if config.may_send.as_ref().is_some_and(|may_send| !may_send()) {
                return Err(self
                    .error(Kind::Withheld)
                    .after(retry_state.outcome(), retry_state.is_lost()));
            }
            let began = Instant::now();
            let signed_at = resource.clock.at(Timestamp::now());
            let proof = self.proof(token, signed_at);
            // This future is large and needed only now; many calls may be waiting for their turn.
            let attempt = self.attempt(&proof, &request_id, retry_state.left(), read);
            let result = Box::pin(attempt).await;
            let duration = began.elapsed();
            let outcome = result
                .as_ref()
                .map_or_else(|failure| failure.error.reason(), |_| "Ok");
            config
                .metrics
                .record(request.operation, outcome, duration.as_secs_f64());
            let failure = match result {
                Ok(done) => {
                    return Ok(Done {
                        earlier_attempt_lost: retry_state.is_lost(),
                        ..done
                    });
                }
                Err(failure) => failure,
            };
            let error = failure.error;
            self.log(&request_id, &error);
            let wait = retry_state.another(Failed {
                kind: error.kind(),
                status: error.status(),
                outcome: error.outcome(),
                lost: error.is_lost(),
                retry_after: error.retry_after(),
                was_far_off: matches!(proof, Proof::Signature(_))
                    && failure.date.is_some_and(|date| is_far_off(signed_at, date)),
                duration,
            });
            if error.kind() == Kind::Throttled {
                let asked = error.retry_after().map(SignedDuration::unsigned_abs);
                let pause = asked.or(wait).unwrap_or(config.first_retry_delay);
                resource.queue.pause(request.operation, pause);
            }
            // Only now, so that no call is sent before the pause begins.
            drop(permit);
            match wait {
                Some(wait) => sleep(wait).await,
                None => return Err(error.after(retry_state.outcome(), retry_state.is_lost())),
            }
        }
    }

    /// Waits for another turn in the queue of the endpoint.
    async fn permit(self, urgency: Urgency) -> Permit {
        let operation = self.request.operation;
        let waiting = self.shared.config.metrics.wait(operation);
        let permit = self.resource.queue.turn(operation, urgency).await;
        drop(waiting);
        permit
    }

    fn log(self, request_id: &str, error: &Error) {
        tracing::debug!(
            operation = self.request.operation.label(),
            endpoint = %self.resource.endpoint,
            request_id,
            status = error.status(),
            code = error.code(),
            ms_cv = error.ms_cv(),
            reason = error.reason(),
            message = error.message(),
            "a request to ACS failed"
        );
    }

    /// Returns the current token if the credential is an Entra ID identity.
    async fn bearer_token(self, retry_state: &RetryState) -> Result<Option<SecretString>, Error> {
        let Credential::Entra(bearer) = self.credential else {
            return Ok(None);
        };
        let token = Box::pin(bearer.token()).await.map_err(|none| {
            self.no_token(none)
                .after(retry_state.outcome(), retry_state.is_lost())
        })?;
        Ok(Some(token))
    }

    fn proof(self, token: Option<SecretString>, signed_at: Timestamp) -> Proof {
        match (self.credential, token) {
            (Credential::AccessKey(key), _) => Proof::Signature(Signature::new(
                key,
                self.request.method.as_str(),
                self.resource.endpoint.authority(),
                &self.request.target,
                signed_at,
                self.request.body.expose_secret(),
            )),
            (Credential::Entra(_), token) => Proof::Bearer(token.unwrap_or_default()),
        }
    }

    async fn attempt<T>(
        self,
        proof: &Proof,
        request_id: &str,
        timeout: Duration,
        read: Read<T>,
    ) -> Result<Done<T>, Failure> {
        let Self {
            shared,
            resource,
            request,
            ..
        } = self;
        let endpoint = &resource.endpoint;
        let answer = exchange(&shared.http, endpoint, request, proof, request_id, timeout).await;
        let answer = answer.map_err(|none| Failure {
            error: self.no_answer(&none),
            date: None,
        })?;
        if let Some(date) = answer.date {
            resource.clock.learn(date, answer.received_at);
        }
        let Some(value) = read(&answer) else {
            let error = self.refused(&answer, proof);
            if let (Credential::Entra(bearer), Proof::Bearer(token)) = (self.credential, proof)
                && error.kind() == Kind::CredentialRefused
            {
                bearer.forget(token);
            }
            return Err(Failure {
                error,
                date: answer.date,
            });
        };
        let date = answer.date.unwrap_or_else(|| {
            let now = resource.clock.at(answer.received_at);
            now.round(Unit::Second).unwrap_or(now)
        });
        let received_at = answer.received_at;
        Ok(Done {
            value,
            date,
            received_at,
            earlier_attempt_lost: false,
        })
    }

    /// Returns an error for a call that was never sent, or about which nothing more is known.
    pub(super) fn error(self, kind: Kind) -> Error {
        Error::new(self.details(kind))
    }

    fn details(self, kind: Kind) -> Details {
        Details::new(
            self.request.operation,
            self.resource.endpoint.to_string(),
            kind,
        )
    }

    fn no_token(self, none: NoToken) -> Error {
        Error::new(Details {
            status: none.status,
            code: none.code,
            message: none.message,
            advice: Some(none.advice.into()),
            ..self.details(none.kind)
        })
    }

    fn no_answer(self, none: &NoAnswer) -> Error {
        let lost = none.kind == Kind::NoAnswer;
        Error::new(Details {
            message: Some(scrubbed(&none.cause, &[])),
            outcome: if lost {
                Outcome::Unknown
            } else {
                Outcome::NotDone
            },
            lost,
            ..self.details(none.kind)
        })
    }

    fn refused(self, answer: &Answer, proof: &Proof) -> Error {
        let is_cut_off = answer.is_success() && matches!(answer.body, Body::Broken);
        let (kind, outcome) = if is_cut_off {
            // ACS performed the operation and said so; only the body is missing.
            (Kind::NoAnswer, Outcome::Unknown)
        } else {
            answer.error_code(self.request.operation)
        };
        let user_token = self
            .request
            .user_token
            .as_ref()
            .map(ExposeSecret::expose_secret);
        let secrets: Vec<&str> = [user_token, proof.secret()].into_iter().flatten().collect();
        let complaint = answer.complaint().unwrap_or_default();
        let is_code = |code: &String| {
            code.len() <= LONGEST_CODE
                && code
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
                && scrubbed(code, &secrets) == *code
        };
        let words = match kind {
            Kind::NotTheService => Some(answer.description()),
            _ => answer.words(),
        };
        Error::new(Details {
            status: Some(answer.status),
            code: complaint.code.filter(is_code),
            message: words
                .map(|text| scrubbed(&text, &secrets))
                .filter(|text| !text.is_empty()),
            ms_cv: answer.ms_cv.as_ref().map(|text| scrubbed(text, &secrets)),
            retry_after: answer.retry_after,
            outcome,
            advice: (kind == Kind::CredentialRefused && matches!(proof, Proof::Bearer(_)))
                .then_some(NO_ROLE.into()),
            ..self.details(kind)
        })
    }
}

/// Failed attempt.
struct Failure {
    error: Error,
    /// `Date` of the answer.
    date: Option<Timestamp>,
}
