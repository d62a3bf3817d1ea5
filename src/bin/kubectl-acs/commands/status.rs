//! `status`: shows the objects, their state, and what they wait for.

use std::{io::IsTerminal as _, time::Duration};

use acs_identity_operator::crd::{AcsConnection, AcsIdentity, AcsRevocation, AcsToken};
use anstyle::{AnsiColor, Style};
use clap::Args;
use futures::{
    StreamExt as _, TryStreamExt as _,
    stream::{self, BoxStream},
};
use jiff::Timestamp;
use kube::runtime::{WatchStreamExt as _, watcher};
use serde_json::{Map, Value};

use crate::{
    cluster::{
        overview::{self, objects},
        session::{ClusterArgs, Kind, Session},
        wait::broken,
    },
    commands::complete,
    failure::{Exit, Failure},
    view::{
        output::{self, Format},
        revocations,
        standing::State,
        tree::{Node, select, tree},
    },
};

/// Delay before redrawing: changes come in bursts, and one reading of the cluster covers them all.
const SETTLE: Duration = Duration::from_millis(300);
/// Maximum number of changes that one reading of the cluster covers.
const FLOCK: usize = 1_000;
/// Interval of redrawing, so that relative times such as "in 5m" stay current.
const REFRESH: Duration = Duration::from_secs(10);

/// Show connections, identities and tokens as a tree, with their states and the reasons
///
/// Revocations are shown until one hour after they are completed, and later only by name.
///
/// Exits with 0 if all objects are Ready, with 3 if an object needs action or is suspended, and
/// with 4 if an object is not Ready yet.
#[derive(Clone, Debug, Args)]
pub struct Status {
    /// Names of identities, tokens, connections or revocations [default: all]
    #[arg(add = complete::identities())]
    names: Vec<String>,
    /// Show all namespaces
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// Show changes until Ctrl-C
    #[arg(short, long, conflicts_with = "output")]
    watch: bool,
    /// Output format [default: a tree]
    #[arg(short, long, value_enum)]
    output: Option<Format>,
}

/// Runs `status`.
pub async fn status(place: &ClusterArgs, command: Status) -> Result<(), Failure> {
    let session = place.connect().await?;
    if command.watch {
        return Box::pin(watch(&session, &command)).await;
    }
    let nodes = load(&session, &command).await?;
    let text = match command.output {
        None => draw_all(&nodes, &session, &command),
        Some(format @ (Format::Json | Format::Yaml)) => {
            output::render(format, &nodes.iter().map(nested).collect())?
        }
        Some(format) => {
            let flat = nodes.iter().flat_map(Node::all).map(flat);
            output::render(format, &flat.collect())?
        }
    };
    output::print(&text);
    judge(&nodes)
}

async fn load(session: &Session, command: &Status) -> Result<Vec<Node>, Failure> {
    let mut overview = Box::pin(overview::load(session, command.all_namespaces)).await?;
    let now = Timestamp::now();
    if command.names.is_empty() {
        revocations::leave_out_past(&mut overview, now);
    }
    let nodes = tree(&overview, now);
    if command.names.is_empty() {
        return Ok(nodes);
    }
    let known: Vec<_> = nodes.iter().flat_map(Node::all).collect();
    let is_unknown = |name: &&String| !known.iter().any(|node| node.name == **name);
    let unknown: Vec<_> = command
        .names
        .iter()
        .filter(is_unknown)
        .map(String::as_str)
        .collect();
    if !unknown.is_empty() {
        let place = if command.all_namespaces {
            "in any namespace".to_owned()
        } else {
            format!(
                "in namespace {} (use -n for another namespace)",
                session.namespace
            )
        };
        let message = format!(
            "no connection, identity, token or revocation {} exists {place}",
            unknown.join(", ")
        );
        return Err(Failure::new(Exit::NotFound, message));
    }
    Ok(select(nodes, &command.names))
}

/// Returns the exit code of the worst state; the tree shows the reason.
fn judge(nodes: &[Node]) -> Result<(), Failure> {
    let all = nodes.iter().flat_map(Node::all);
    let states: Vec<_> = all.map(|node| node.standing.state).collect();
    let needs_a_human = |state: &State| matches!(state, State::Stalled | State::Suspended);
    if states.iter().any(needs_a_human) {
        Err(Failure::new(Exit::Stalled, ""))
    } else if states.iter().any(|state| *state != State::Ready) {
        Err(Failure::new(Exit::NotYet, ""))
    } else {
        Ok(())
    }
}

/// Draws the tree, and again after each change, until the user stops it.
async fn watch(session: &Session, command: &Status) -> Result<(), Failure> {
    let mut kinds = vec![
        changes::<AcsConnection>(session, command),
        changes::<AcsIdentity>(session, command),
        changes::<AcsToken>(session, command),
    ];
    if overview::may_list_revocations(session, command.all_namespaces).await? {
        kinds.push(changes::<AcsRevocation>(session, command));
    }
    let mut changes = stream::select_all(kinds).ready_chunks(FLOCK);
    let is_screen = std::io::stdout().is_terminal();
    let mut shown = String::new();
    loop {
        let text = match load(session, command).await {
            Ok(nodes) => draw_all(&nodes, session, command),
            // The first reading must succeed; later the cluster may be temporarily unreachable.
            Err(failure) if shown.is_empty() => return Err(failure),
            Err(failure) => format!("{}\n", failure.message),
        };
        if is_screen {
            let time = Timestamp::now();
            output::print(&format!(
                "\x1b[H\x1b[2J{time:.0}  Press Ctrl-C to stop\n\n{text}"
            ));
        } else if text != shown {
            output::print(&format!("{text}\n"));
        }
        shown = text;
        tokio::select! {
            some = changes.next() => {
                for (kind, error) in some.into_iter().flatten().filter_map(Result::err) {
                    broken(&kind, error, session)?;
                }
                tokio::time::sleep(SETTLE).await;
            }
            () = tokio::time::sleep(REFRESH), if is_screen => {}
        }
    }
}

/// Returns a stream of each change of an object of a kind, and of each failure of the watch.
fn changes<K: Kind>(
    session: &Session,
    command: &Status,
) -> BoxStream<'static, Result<(), (String, watcher::Error)>> {
    let objects = objects::<K>(session, command.all_namespaces);
    let changes = watcher(objects, watcher::Config::default());
    let changes = changes.default_backoff().touched_objects();
    let changes = changes.map_ok(|_| ());
    changes
        .map_err(|error| (K::plural(&()).into_owned(), error))
        .boxed()
}

fn draw_all(nodes: &[Node], session: &Session, command: &Status) -> String {
    if nodes.is_empty() {
        return if command.all_namespaces {
            "no connections, identities or tokens in this cluster; create an AcsConnection first\n"
                .to_owned()
        } else {
            format!(
                "no connections, identities or tokens in namespace {}; use -A for all namespaces, \
                 or `kubectl acs create` to create an identity\n",
                session.namespace
            )
        };
    }
    let mut lines = Vec::new();
    for node in nodes {
        let spot = Spot {
            first: "",
            rest: "",
            why_above: "",
            namespace_above: command.all_namespaces.then_some(""),
        };
        draw(node, spot, &mut lines);
    }
    lines.concat()
}

/// Position of a node in the drawing.
#[derive(Clone, Copy)]
struct Spot<'a> {
    /// Prefix of the node's own line.
    first: &'a str,
    /// Prefix of all lines below it.
    rest: &'a str,
    /// Reason of the parent node: a node with the same reason does not repeat it.
    why_above: &'a str,
    /// Namespace of the parent node, if namespaces are shown.
    namespace_above: Option<&'a str>,
}

/// Draws a node and its children.
fn draw(node: &Node, spot: Spot<'_>, lines: &mut Vec<String>) {
    let Spot { first, rest, .. } = spot;
    let standing = &node.standing;
    let style = style(standing.state);
    let bold = Style::new().bold();
    let namespace = match spot.namespace_above {
        Some(above) if above != node.namespace => format!("{}/", node.namespace),
        _ => String::new(),
    };
    let why = match standing.state {
        // The state's word says everything, except for objects without conditions.
        State::Ready if !standing.reason.is_empty() => String::new(),
        _ => standing.why(),
    };
    let is_repeated = !why.is_empty() && why == spot.why_above;
    let as_above = if is_repeated { ", as above" } else { "" };
    let record = node.record.iter().map(|fact| format!("  {}", fact.text));
    lines.push(format!(
        "{first}{} {bold}{namespace}{}{bold:#}  {style}{}{as_above}{style:#}{}\n",
        node.kind,
        node.name,
        standing.word(),
        record.collect::<String>()
    ));
    let hang = if node.children.is_empty() {
        "   "
    } else {
        "│  "
    };
    if !why.is_empty() && !is_repeated {
        lines.push(format!("{rest}{hang}{style}{why}{style:#}\n"));
    }
    let warning = AnsiColor::Yellow.on_default();
    for note in &node.notes {
        lines.push(format!("{rest}{hang}{warning}{note}{warning:#}\n"));
    }
    for (number, child) in node.children.iter().enumerate() {
        let (branch, below) = if number + 1 == node.children.len() {
            ("└─ ", "   ")
        } else {
            ("├─ ", "│  ")
        };
        let spot = Spot {
            first: &format!("{rest}{branch}"),
            rest: &format!("{rest}{below}"),
            why_above: &why,
            namespace_above: spot.namespace_above.map(|_| node.namespace.as_str()),
        };
        draw(child, spot, lines);
    }
}

fn style(state: State) -> Style {
    match state {
        State::Ready => AnsiColor::Green.on_default(),
        State::Waiting | State::Suspended => AnsiColor::Yellow.on_default(),
        State::Stalled | State::Missing => AnsiColor::Red.on_default().bold(),
        State::Deleting => AnsiColor::Cyan.on_default(),
    }
}

/// Returns a node without its children, in machine-readable form.
fn fields(node: &Node) -> Map<String, Value> {
    let standing = &node.standing;
    let mut fields = Map::new();
    let mut put = |key: &str, value: Value| {
        fields.insert(key.to_owned(), value);
    };
    put("kind", node.kind.into());
    put("namespace", node.namespace.as_str().into());
    put("name", node.name.as_str().into());
    put("state", format!("{:?}", standing.state).into());
    put("ready", standing.is_ready.into());
    put("reason", standing.reason.as_str().into());
    put("message", standing.message.as_str().into());
    for fact in &node.record {
        put(fact.key, fact.value.as_str().into());
    }
    fields
}

fn nested(node: &Node) -> Value {
    let mut fields = fields(node);
    fields.insert("notes".to_owned(), node.notes.clone().into());
    fields.insert(
        "children".to_owned(),
        node.children.iter().map(nested).collect(),
    );
    Value::Object(fields)
}

/// Returns the columns that all kinds share.
fn flat(node: &Node) -> Value {
    let known = fields(node);
    let columns = ["kind", "namespace", "name", "state", "reason", "expiresAt"];
    let column = |key: &str| {
        let value = known.get(key).cloned().unwrap_or_else(|| "".into());
        (key.to_owned(), value)
    };
    Value::Object(columns.into_iter().map(column).collect())
}
