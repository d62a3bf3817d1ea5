//! Handling of one request to the emulated API, with its journal entry and any fault that applies
//! to it.

use std::sync::Arc;

use tokio::time::timeout;

use super::super::{
    Emulator,
    state::{Effect, Entry, Fault, When},
};
use super::{
    answer::Answer,
    call::Call,
    operation::{self, Operation},
    respond,
    server::Stop,
};

/// What happens to a request.
pub(super) enum Verdict {
    /// The request is answered; the text lists the API versions of its path.
    Answer(Answer, Option<String>),
    /// The connection is broken.
    Break,
    /// The request is never answered.
    Hang,
}

/// Handles a request.
pub(super) async fn attend(emulator: Arc<Emulator>, call: Arc<Call>, mut stop: Stop) -> Verdict {
    let segments = call.segments().unwrap_or_default();
    let found = operation::route(&call.method, &segments).ok();
    let operation = found.map(|(operation, _)| operation);
    let name = operation.map_or("unknown", Operation::name);
    let fault = emulator.faults().hit(name);
    let hit = fault.as_ref().map(Fault::name);
    let number = emulator.enter(&call, name, hit);
    let (mut before, mut after) = (None, None);
    match &fault {
        Some(fault) if fault.when == When::Before => before = Some(fault),
        other => after = other.as_ref(),
    }

    let mut answer = None;
    if let Some(fault) = before {
        match emulator.strike(fault, &mut stop).await {
            Ok(struck) => answer = struck,
            Err(verdict) => return emulator.unanswered(name, verdict),
        }
    }
    let mut answer = answer.unwrap_or_else(|| {
        let outcome = emulator.serve(&call);
        if let Some(entry) = emulator.journal().entry(number) {
            entry.identity_id = outcome.identity;
            entry.key = outcome.key;
            entry.why = outcome.why;
        }
        outcome.answer
    });
    if let Some(fault) = after {
        match emulator.strike(fault, &mut stop).await {
            Ok(struck) => answer = struck.unwrap_or(answer),
            Err(verdict) => return emulator.unanswered(name, verdict),
        }
    }
    let status = answer.status.as_u16();
    emulator.metrics.request(name, Some(status));
    if let Some(entry) = emulator.journal().entry(number) {
        entry.status = Some(status);
        entry.error_code.clone_from(&answer.error_code);
    }
    let settings = &emulator.core().state.settings;
    let versions = operation.map(|it| respond::versions(it, settings));
    Verdict::Answer(answer, versions)
}

impl Emulator {
    /// Adds a request to the journal before it is handled.
    fn enter(&self, call: &Call, operation: &'static str, fault: Option<&'static str>) -> u64 {
        if let Some(fault) = fault {
            self.metrics.fault(fault);
        }
        let time = self.core().state.now();
        self.journal().enter(Entry {
            time,
            operation,
            method: call.method.to_string(),
            path: call.path().to_owned(),
            api_version: call.query("api-version"),
            status: None,
            error_code: None,
            identity_id: None,
            key: None,
            fault,
            why: None,
        })
    }

    /// Applies a fault. Returns the answer that replaces the real one, if the fault has one; fails
    /// if there is to be no answer.
    async fn strike(&self, fault: &Fault, stop: &mut Stop) -> Result<Option<Answer>, Verdict> {
        let delay = fault.delay.unsigned_abs();
        if !delay.is_zero() && timeout(delay, stop.wait_for(|stop| *stop)).await.is_ok() {
            return Err(Verdict::Break);
        }
        match fault.effect {
            Effect::Delay => Ok(None),
            Effect::Status => Ok(Some(fault.answer(self.core().state.now()))),
            Effect::Reset => Err(Verdict::Break),
            Effect::Hang => Err(Verdict::Hang),
        }
    }

    fn unanswered(&self, operation: &'static str, verdict: Verdict) -> Verdict {
        self.metrics.request(operation, None);
        verdict
    }
}
