//! One running member: the node on its own thread, the front threads before it, peers beside it.
//!
//! ```text
//! front-0, front-1, …   clients' sockets ──► Node ──┐ (calls from any thread)
//! node                  Raft, apply, peers' sockets ◄┘
//! wal, backend, …       the node's workers: fsync and flush, off the way of everything else
//! ```
//!
//! The order of a start: lock the data directory, bind every socket (so that a taken port is found
//! before anything is written), start the node, then serve peers and metrics, then clients, when
//! the cluster knows the member. A stop goes the other way round, but hands leadership over first,
//! while clients are still served.

use std::convert::Infallible;
use std::future::pending;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use coracle_core::limits::GRPC_OVERHEAD_BYTES;
use coracle_core::node::{ETCD_VERSION, Node, StartError, StopReason};
use futures_util::future::{BoxFuture, join_all};
use tokio::runtime::{Handle, Runtime};
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::config::urls::Url;
pub use crate::discovery::DiscoveryError;
use crate::discovery::discover;
use crate::front::body::{Answer, RequestBody};
use crate::front::call::{Call, Status};
use crate::front::{Front, Handler, Plain, Settings};
use crate::http::Pages;
use crate::net::{AsyncListener, Listener, SocketOptions};
use crate::platform::{Handshakes, Identity, Native, NativeDisk, PeerListener, TcpTransport};
use crate::rpc::{self, Member, Outlook, Router};
use crate::secrets::Secrets;
use crate::tls::{Acceptor, Connector, Security};
use crate::traces::Traces;
use crate::utl::adopt;

/// How long handing over leadership and the last flush may take.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(7);

/// Why a server did not start. Each is a sentence for the operator.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("cannot use the data directory {path}: {cause}")]
    DataDir { path: PathBuf, cause: io::Error },
    #[error("{0}")]
    Adoption(String),
    #[error("cannot listen on {url}: {cause}")]
    Listen { url: String, cause: io::Error },
    #[error("{0}")]
    Secrets(String),
    #[error("cannot use the TLS configuration: {0}")]
    Tls(String),
    #[error("cannot lock the memory (--memory-mlock): {0}; raise the limit (ulimit -l)")]
    Memory(io::Error),
    /// etcd's words.
    #[error("error setting up initial cluster: {0}")]
    InitialCluster(String),
    #[error(transparent)]
    Discovery(#[from] DiscoveryError),
    #[error("{0}")]
    Tracing(String),
    #[error("cannot start a thread: {0}")]
    Thread(#[from] io::Error),
    #[error(transparent)]
    Node(#[from] StartError),
}

/// A socket that is bound, and what holds for its connections.
type Bound = (Listener, Settings);

/// A member that serves its clients and peers.
pub struct Server {
    member: Arc<Member>,
    /// For metrics alone, and for clients.
    fronts: [Front; 2],
    node: NodeThread,
    serving: watch::Sender<bool>,
    traces: Option<Arc<Traces>>,
}

impl Server {
    /// Starts what `config` describes and returns when clients are served.
    pub async fn start(mut config: Config) -> Result<Server, ServeError> {
        announce(&config);
        let secrets = Secrets::new(&config.auth).map_err(ServeError::Secrets)?;
        let (disk, is_new) = open_disk(&mut config).await?;
        let security = Security::new(&config).map_err(ServeError::Tls)?;
        let options = SocketOptions { reuse_port: config.socket.reuse_port };
        let max_message_bytes = config.node.max_request_bytes + GRPC_OVERHEAD_BYTES;
        let client_settings = Settings {
            tls: security.clients.clone(),
            plain: false,
            grpc: true,
            http: match config.listen_client_http_urls[..] {
                [] => Plain::Client,
                _ => Plain::Nothing,
            },
            max_message_bytes,
            max_concurrent_streams: config.max_concurrent_streams,
            keepalive: config.keepalive,
        };
        let http_settings =
            Settings { grpc: false, http: Plain::Client, ..client_settings.clone() };
        let metrics_settings =
            Settings { grpc: false, http: Plain::Metrics, ..client_settings.clone() };
        let mut clients = listen_all(&config.listen_client_urls, &client_settings, options)?;
        clients.extend(listen_all(&config.listen_client_http_urls, &http_settings, options)?);
        let metrics = listen_all(&config.listen_metrics_urls, &metrics_settings, options)?;
        let mut peers = Vec::new();
        for url in &config.listen_peer_urls {
            peers.push((listen(url, options)?, acceptor(url, security.peers.as_ref())?));
        }
        let peers = Peers { listeners: peers, dial: security.to_peers, turn_away: is_new };

        let threads = config.front_threads;
        let slow_request = config.warning_unary_request_duration;
        let wait_cluster_ready = config.wait_cluster_ready;
        let urls = config.listen_client_urls.clone();
        let reflection = config.grpc_reflection;
        let (http, gates) = (config.http.clone(), config.gates.clone());
        let traces = config.tracing.as_ref().map(Traces::start).transpose();
        let traces = traces.map_err(ServeError::Tracing)?.map(Arc::new);
        let (node, member, outlook) = NodeThread::start(config, disk, secrets, peers).await?;
        let (serving, is_serving) = watch::channel(true);
        let router = Arc::new(Router::new(
            member.clone(),
            outlook,
            is_serving,
            slow_request,
            reflection,
            traces.clone(),
        ));
        let pages = Pages::new(
            member.clone(),
            router.clone(),
            &http,
            gates,
            max_message_bytes,
            client_settings.max_concurrent_streams,
        );
        let services = Arc::new(Services { router, pages });
        let metrics = Front::start(metrics, 1, &services)?;
        if timeout(wait_cluster_ready, member.published()).await.is_err() {
            // etcd's words, for which supervisors wait.
            tracing::warn!("startEtcd: timed out waiting for the ready notification");
        }
        let checked = services.clone();
        node.handle.spawn(async move { checked.pages.check_health().await });
        let clients = Front::start(clients, threads, &services)?;
        tracing::info!("ready to serve client requests");
        for url in urls {
            tracing::info!(traffic = "grpc+http", address = %url, "serving client traffic");
        }
        Ok(Server { member, fronts: [metrics, clients], node, serving, traces })
    }

    /// Waits until the node stops by itself, and says why.
    pub async fn stopped(&self) -> StopReason {
        self.member.stopped().await
    }

    /// Hands leadership over, lets calls under way end, and stops everything.
    pub async fn stop(self) {
        // Whoever watches this server's health learns of it before its calls fail.
        self.serving.send_replace(false);
        let member = self.member.clone();
        let shutdown = self.node.handle.spawn(async move { member.shutdown().await });
        if timeout(SHUTDOWN_LIMIT, shutdown).await.is_err() {
            tracing::warn!("the node did not stop in time");
        }
        for front in self.fronts {
            front.stop();
        }
        self.node.stop();
        if let Some(traces) = self.traces {
            traces.stop().await;
        }
    }
}

/// The line that says what the server is started with, by etcd's names.
fn announce(config: &Config) {
    let node = &config.node;
    let urls = |urls: &[Url]| urls.iter().map(Url::to_string).collect::<Vec<_>>().join(",");
    let cluster = node.initial_cluster.iter().map(|(name, url)| format!("{name}={url}"));
    tracing::info!(
        etcd_version = ETCD_VERSION,
        coracle_version = env!("CARGO_PKG_VERSION"),
        max_cpu_available = config.front_threads,
        name = node.name,
        data_dir = %config.data_dir.display(),
        wal_dir = %config.wal_dir.as_deref().unwrap_or(Path::new("")).display(),
        fsync = config.fsync,
        heartbeat_interval = format!("{:?}", node.heartbeat_interval),
        election_timeout = format!("{:?}", node.election_timeout),
        snapshot_count = node.snapshot_count,
        snapshot_catchup_entries = node.snapshot_catchup_entries,
        initial_advertise_peer_urls = node.advertise_peer_urls.join(","),
        listen_peer_urls = urls(&config.listen_peer_urls),
        advertise_client_urls = node.advertise_client_urls.join(","),
        listen_client_urls = urls(&config.listen_client_urls),
        listen_metrics_urls = urls(&config.listen_metrics_urls),
        initial_cluster = cluster.collect::<Vec<_>>().join(","),
        initial_cluster_state = format!("{:?}", node.initial_cluster_state).to_lowercase(),
        initial_cluster_token = node.initial_cluster_token,
        quota_backend_bytes = node.quota_backend_bytes,
        max_request_bytes = node.max_request_bytes,
        max_concurrent_streams = config.max_concurrent_streams,
        pre_vote = node.pre_vote,
        force_new_cluster = node.force_new_cluster,
        "starting an etcd server"
    );
}

fn listen_all(
    urls: &[Url],
    settings: &Settings,
    options: SocketOptions,
) -> Result<Vec<Bound>, ServeError> {
    // One address may be there for both, with TLS and without.
    let mut places: Vec<(&Url, bool)> = Vec::new();
    for url in urls {
        match places.iter_mut().find(|(place, _)| place.address == url.address) {
            Some((place, plain)) => {
                *plain |= !url.secure;
                if url.secure {
                    *place = url;
                }
            }
            None => places.push((url, !url.secure)),
        }
    }
    places
        .into_iter()
        .map(|(url, plain)| {
            let tls = acceptor(url, settings.tls.as_ref())?;
            Ok((listen(url, options)?, Settings { tls, plain, ..settings.clone() }))
        })
        .collect()
}

/// What secures the connections of `url`, if they are to be secure: those are never served plain.
fn acceptor(url: &Url, tls: Option<&Arc<Acceptor>>) -> Result<Option<Arc<Acceptor>>, ServeError> {
    match tls {
        _ if !url.secure => Ok(None),
        Some(tls) => Ok(Some(tls.clone())),
        None => Err(ServeError::Tls(format!("there is no certificate for {url}"))),
    }
}

fn listen(url: &Url, options: SocketOptions) -> Result<Listener, ServeError> {
    let bound = Listener::bind(&url.address, options);
    bound.map_err(|cause| ServeError::Listen { url: url.to_string(), cause })
}

/// What it takes to speak with peers.
struct Peers {
    listeners: Vec<(Listener, Option<Arc<Acceptor>>)>,
    dial: Connector,
    /// Whether this member has nothing to tell them before it has started.
    turn_away: bool,
}

/// Opens the member's folders, which may be etcd's until now; a member that is new there finds out
/// with whom it forms a cluster. Answers also whether it is new.
async fn open_disk(config: &mut Config) -> Result<(Arc<NativeDisk>, bool), ServeError> {
    if config.memory_mlock {
        lock_memory().map_err(ServeError::Memory)?;
    }
    let unusable = |path: &PathBuf, cause| ServeError::DataDir { path: path.clone(), cause };
    let disk = match &config.wal_dir {
        None => NativeDisk::open(&config.data_dir, config.fsync),
        Some(wal_dir) => NativeDisk::open_with_wal(&config.data_dir, wal_dir, config.fsync),
    };
    let disk = Arc::new(disk.map_err(|cause| unusable(&config.data_dir, cause))?);
    adopt(&config.data_dir, config.wal_dir.as_deref(), disk.clone(), &config.node)
        .map_err(ServeError::Adoption)?;
    let is_new = !disk.is_used().map_err(|cause| unusable(&config.data_dir, cause))?;
    if is_new {
        if let Some(fault) = config.initial_cluster_fault.take() {
            return Err(ServeError::InitialCluster(fault));
        }
        discover(&config.discovery, &mut config.node).await?;
    }
    Ok((disk, is_new))
}

/// Keeps all pages of the process in memory, those to come included (`--memory-mlock`).
fn lock_memory() -> io::Result<()> {
    // SAFETY: the call takes plain flags and touches no memory of ours.
    match unsafe { libc::mlockall(libc::MCL_CURRENT | libc::MCL_FUTURE) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The thread with the node's runtime. Everything of the node and of its peers runs on it.
struct NodeThread {
    handle: Handle,
    stopping: CancellationToken,
    thread: JoinHandle<()>,
}

type Started = (Arc<Member>, watch::Receiver<Outlook>);

impl NodeThread {
    async fn start(
        config: Config,
        disk: Arc<NativeDisk>,
        secrets: Secrets,
        peers: Peers,
    ) -> Result<(NodeThread, Arc<Member>, watch::Receiver<Outlook>), ServeError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let stopping = CancellationToken::new();
        let (result, started) = oneshot::channel();
        let run = {
            let stopping = stopping.clone();
            move || run_node(&runtime, config, (disk, secrets), peers, stopping, result)
        };
        let thread = thread::Builder::new().name("node".to_owned()).spawn(run)?;
        let ended = || ServeError::Thread(io::Error::other("the node's thread ended"));
        let (member, outlook) = started.await.map_err(|_| ended())??;
        Ok((NodeThread { handle, stopping, thread }, member, outlook))
    }

    fn stop(self) {
        self.stopping.cancel();
        // A thread that panicked has said so; with `panic = "abort"` there is none.
        _ = self.thread.join();
    }
}

fn run_node(
    runtime: &Runtime,
    config: Config,
    (disk, secrets): (Arc<NativeDisk>, Secrets),
    peers: Peers,
    stopping: CancellationToken,
    result: oneshot::Sender<Result<Started, ServeError>>,
) {
    runtime.block_on(async {
        let election_timeout = config.node.election_timeout;
        let started = async {
            let handshakes = Handshakes::start()?;
            let runtime = Handle::current();
            let transport =
                TcpTransport::new(runtime, handshakes.clone(), peers.dial, config.local_address());
            let native = Native::new(disk, Arc::new(transport), secrets);
            let listeners = peers.listeners.into_iter();
            let listeners = listeners
                .map(|(listener, tls)| Ok((listener.into_async()?, tls)))
                .collect::<io::Result<Vec<_>>>()?;
            let member = tokio::select! {
                member = Node::start(config.node, native) => member?,
                never = turn_away(&listeners), if peers.turn_away => match never {},
            };
            serve_peers(&member, listeners, &handshakes, &stopping);
            member.check_before_serving().await?;
            let (seen, outlook) = watch::channel(Outlook::default());
            tokio::spawn(rpc::keep_looking(member.clone(), election_timeout, seen));
            Ok((member, outlook))
        };
        let started = started.await;
        // Nobody waits for it only if the start was given up.
        if result.send(started).is_ok() {
            stopping.cancelled().await;
        }
    });
}

type PeerListeners = Vec<(AsyncListener, Option<Arc<Acceptor>>)>;

/// Closes what peers open. The members of a new cluster ask one another, before they start, whether
/// they have started before, and would wait in vain for those who do the same.
async fn turn_away(listeners: &PeerListeners) -> Infallible {
    let each = listeners.iter().map(|(listener, _)| async move {
        loop {
            if listener.accept().await.is_err() {
                // No file descriptor is left, say: then they wait.
                return pending::<()>().await;
            }
        }
    });
    join_all(each).await;
    pending().await
}

/// From here on the member speaks under its name, and listens to its peers.
fn serve_peers(
    member: &Arc<Member>,
    listeners: PeerListeners,
    handshakes: &Handshakes,
    stopping: &CancellationToken,
) {
    let info = member.info();
    let identity = Identity { cluster_id: info.cluster_id, member_id: info.member_id };
    member.platform().set_identity(identity);
    // A node that has stopped is not asked any more, though clients may still hear it say so.
    let deaf = stopping.child_token();
    let stopped = (member.clone(), deaf.clone());
    tokio::spawn(async move {
        stopped.0.stopped().await;
        stopped.1.cancel();
    });
    for (listener, tls) in listeners {
        let (member, told) = (member.clone(), member.clone());
        let traffic = member.platform().traffic().clone();
        let known = member.clone();
        let knows = move |id| known.others().contains(&id);
        let version = move || crate::http::version_of(&told);
        let handle = move |from, request| {
            let member = member.clone();
            async move { member.handle_peer(from, request).await }
        };
        let (handshakes, stopping) = (handshakes.clone(), deaf.clone());
        let peers =
            PeerListener { identity, handle, knows, version, tls, handshakes, traffic, stopping };
        tokio::spawn(peers.serve(listener));
    }
}

/// What the front hands its calls to.
struct Services {
    router: Arc<Router>,
    pages: Pages,
}

impl Handler for Services {
    fn grpc(
        self: &Arc<Self>,
        path: &str,
        call: Call,
    ) -> Result<BoxFuture<'static, ()>, (Call, Status)> {
        self.router.route(path, call)
    }

    async fn http(
        self: &Arc<Self>,
        settings: Settings,
        request: http::Request<RequestBody>,
    ) -> Answer {
        self.pages.answer(settings, request).await
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    /// Both of two members that start wait for the other's answer, and none is to come.
    #[tokio::test]
    async fn cl_03_who_asks_a_member_that_is_new_itself_does_not_wait() {
        let bound = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = bound.local_addr().unwrap();
        bound.set_nonblocking(true).unwrap();
        let listeners = vec![(Listener::Tcp(bound).into_async().unwrap(), None)];
        let asks = async {
            let mut asks = tokio::net::TcpStream::connect(address).await.unwrap();
            asks.read(&mut [0]).await.unwrap()
        };
        tokio::select! {
            read = asks => assert_eq!(read, 0, "it is told something"),
            never = turn_away(&listeners) => match never {},
        }
    }

    #[test]
    fn tls_01_a_secure_url_is_never_served_plain() {
        let url = |text| Url::parse(text).unwrap();
        assert!(acceptor(&url("http://127.0.0.1:1"), None).unwrap().is_none());
        for secure in ["https://127.0.0.1:1", "unixs://x"] {
            let refused = acceptor(&url(secure), None).err().map(|error| error.to_string());
            let text =
                format!("cannot use the TLS configuration: there is no certificate for {secure}");
            assert_eq!(refused, Some(text));
        }
    }
}
