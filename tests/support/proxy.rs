//! Faulty network: a TCP proxy.

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

/// State of the network.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// It forwards everything.
    Works,
    /// It drops everything silently. Connections from before stay dead.
    Silent,
    /// It breaks every connection.
    Refuses,
}

/// Proxy in front of one address. Ends with the test.
pub struct Proxy {
    /// Address that it listens on.
    pub address: SocketAddr,
    network: Arc<watch::Sender<Network>>,
    /// Times at which clients first and last sent data.
    sent: Sent,
}

type Sent = Arc<Mutex<Option<(Instant, Instant)>>>;

/// Starts a proxy in front of the API server. Returns it with a kubeconfig that uses it.
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
    /// Starts a working proxy.
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

    /// Returns when a client first sent data.
    pub fn first_sent(&self) -> Option<Instant> {
        self.sent.lock().unwrap().map(|(first, _)| first)
    }

    /// Returns when a client last sent data.
    pub fn last_sent(&self) -> Option<Instant> {
        self.sent.lock().unwrap().map(|(_, last)| last)
    }

    /// Changes the state of the network.
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

/// Copies data until the connection ends; nothing more once the network has been silent.
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
                    // The other side is not notified.
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
