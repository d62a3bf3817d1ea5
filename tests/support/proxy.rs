//! A network that can break: a TCP proxy.

use std::{
    fs,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Instant,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
};

use super::kubernetes::Cluster;

/// What the network does.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// It carries everything.
    Works,
    /// It swallows everything without a sign. What was open is dead for ever.
    Silent,
    /// It breaks every connection.
    Refuses,
}

/// A proxy in front of one address. Ends with the test.
pub struct Proxy {
    /// Where it listens.
    pub address: SocketAddr,
    network: Arc<watch::Sender<Network>>,
    /// When clients first and last sent something.
    sent: Sent,
}

type Sent = Arc<Mutex<Option<(Instant, Instant)>>>;

/// A proxy in front of the API server, and a kubeconfig that leads through it.
pub async fn api_server(cluster: &Cluster, name: &str) -> (Proxy, PathBuf) {
    let kubeconfig = fs::read_to_string(&cluster.kubeconfig).expect("a kubeconfig");
    let start = kubeconfig.find("https://").expect("a server") + "https://".len();
    let rest = &kubeconfig[start..];
    let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || ".:-".contains(c)));
    let server = &rest[..end.unwrap_or(rest.len())];
    let proxy = Proxy::start(server.parse().expect("an IP address and a port")).await;
    let file = format!("proxy-{}-of-{name}", proxy.address.port());
    let file = cluster.kubeconfig.with_file_name(file);
    let text = kubeconfig.replace(server, &proxy.address.to_string());
    fs::write(&file, text).expect("writable");
    (proxy, file)
}

impl Proxy {
    /// Starts one that works.
    pub async fn start(to: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let network = Arc::new(watch::Sender::new(Network::Works));
        let for_connections = Arc::clone(&network);
        let sent = Sent::default();
        let by_connections = Arc::clone(&sent);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let network = for_connections.subscribe();
                tokio::spawn(carry(client, to, network, Arc::clone(&by_connections)));
            }
        });
        Self {
            address,
            network,
            sent,
        }
    }

    /// When a client first sent something.
    pub fn first_sent(&self) -> Option<Instant> {
        self.sent.lock().unwrap().map(|(first, _)| first)
    }

    /// When a client last sent something.
    pub fn last_sent(&self) -> Option<Instant> {
        self.sent.lock().unwrap().map(|(_, last)| last)
    }

    /// Changes what the network does.
    pub fn set(&self, network: Network) {
        self.network.send_replace(network);
    }
}

async fn carry(client: TcpStream, to: SocketAddr, network: watch::Receiver<Network>, sent: Sent) {
    if *network.borrow() == Network::Refuses {
        return;
    }
    let Ok(server) = TcpStream::connect(to).await else {
        return;
    };
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::select! {
        () = copy(from_client, to_server, network.clone(), Some(sent)) => {}
        () = copy(from_server, to_client, network.clone(), None) => {}
    }
}

/// Copies until the connection ends; once the network has been silent, nothing more.
async fn copy(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut network: watch::Receiver<Network>,
    sent: Option<Sent>,
) {
    let mut buffer = vec![0; 16 * 1024];
    let mut is_dead = *network.borrow() == Network::Silent;
    loop {
        let read = tokio::select! {
            biased;
            changed = network.changed() => {
                let now = *network.borrow_and_update();
                is_dead |= now == Network::Silent;
                if changed.is_err() || now == Network::Refuses {
                    return;
                }
                continue;
            }
            read = from.read(&mut buffer) => read,
        };
        match read {
            Ok(0) | Err(_) => {
                if is_dead {
                    // Nobody on the other side hears of it.
                    std::future::pending::<()>().await;
                }
                return;
            }
            Ok(_) if is_dead => {}
            Ok(length) => {
                if let Some(sent) = &sent {
                    let now = Instant::now();
                    let mut sent = sent.lock().unwrap();
                    *sent = Some((sent.map_or(now, |(first, _)| first), now));
                }
                if to.write_all(&buffer[..length]).await.is_err() {
                    return;
                }
            }
        }
    }
}
