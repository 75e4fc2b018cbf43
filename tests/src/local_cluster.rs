//! Nodes in one process: the core over memory disks and a transport of function calls.
//!
//! It proves the core without sockets and processes. Links can be cut, nodes stopped and started
//! again on their disks.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use coracle_core::api::coraclepb::peer_response::Response;
use coracle_core::api::coraclepb::{PeerRequest, PeerResponse};
use coracle_core::node::{InitialClusterState, Node, NodeConfig, StartError};
use coracle_core::platform::{
    Disk, MemoryDisk, PeerTarget, Platform, Transport, TransportError, Worker,
};
use coracle_core::trace::Trace;
use openraft_rt_tokio::TokioRuntime;

pub type LocalNode = Node<LocalPlatform>;
type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Who can be reached at which URL, and which ways are cut.
#[derive(Default)]
pub struct Switchboard {
    nodes: Mutex<BTreeMap<String, Weak<LocalNode>>>,
    cut: Mutex<BTreeSet<(String, String)>>,
    /// What others hear of the release of the node at a URL, instead of the truth.
    releases: Mutex<BTreeMap<String, String>>,
}

/// The platform of one node.
pub struct LocalPlatform {
    url: String,
    disk: MemoryDisk,
    board: Arc<Switchboard>,
    started: Instant,
    trace: Trace,
}

struct LocalTransport {
    from_url: String,
    board: Arc<Switchboard>,
}

struct ThreadWorker(std::sync::mpsc::Sender<Box<dyn FnOnce() + Send>>);

impl Worker for ThreadWorker {
    fn submit(&self, job: Box<dyn FnOnce() + Send>) {
        self.0.send(job).expect("the worker thread lives as long as its sender");
    }
}

impl Platform for LocalPlatform {
    type Runtime = TokioRuntime;

    fn disk(&self) -> Arc<dyn Disk> {
        Arc::new(self.disk.clone())
    }

    fn transport(&self) -> Arc<dyn Transport> {
        Arc::new(LocalTransport { from_url: self.url.clone(), board: self.board.clone() })
    }

    fn monotonic(&self) -> Duration {
        self.started.elapsed()
    }

    fn unix_millis(&self) -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as u64
    }

    fn random(&self) -> u64 {
        rand::random()
    }

    fn trace(&self) -> Trace {
        self.trace.clone()
    }

    fn worker(&self, _name: &str) -> Arc<dyn Worker> {
        let (sender, receiver) = std::sync::mpsc::channel::<Box<dyn FnOnce() + Send>>();
        std::thread::spawn(move || receiver.into_iter().for_each(|job| job()));
        Arc::new(ThreadWorker(sender))
    }
}

impl Transport for LocalTransport {
    fn call(
        &self,
        target: PeerTarget,
        request: PeerRequest,
        timeout: Duration,
    ) -> BoxFuture<Result<PeerResponse, TransportError>> {
        let board = self.board.clone();
        let from_url = self.from_url.clone();
        Box::pin(async move {
            let url = target.urls.first().cloned().unwrap_or_default();
            let (from, node) = board.route(&from_url, &url)?;
            match tokio::time::timeout(timeout, node.handle_peer(from, request)).await {
                Ok(response) => {
                    board.check_link(&url, &from_url)?;
                    Ok(board.as_of_release(&url, response))
                }
                Err(_) => Err(TransportError::Timeout(timeout)),
            }
        })
    }
}

impl Switchboard {
    fn check_link(&self, from: &str, to: &str) -> Result<(), TransportError> {
        let cut = self.cut.lock().expect("lock").contains(&(from.to_owned(), to.to_owned()));
        if cut {
            Err(TransportError::Unreachable(format!("{from} to {to} is cut")))
        } else {
            Ok(())
        }
    }

    /// Has the node at `url` answer as one of `release` from now on; or as itself again.
    pub fn pretend(&self, url: &str, release: Option<&str>) {
        let mut releases = self.releases.lock().expect("lock");
        match release {
            Some(release) => _ = releases.insert(url.to_owned(), release.to_owned()),
            None => _ = releases.remove(url),
        }
    }

    fn as_of_release(&self, url: &str, mut response: PeerResponse) -> PeerResponse {
        let releases = self.releases.lock().expect("lock");
        if let (Some(release), Some(Response::Members(answer))) =
            (releases.get(url), &mut response.response)
        {
            answer.server_version = release.clone();
        }
        response
    }

    fn route(&self, from: &str, to: &str) -> Result<(u64, Arc<LocalNode>), TransportError> {
        self.check_link(from, to)?;
        let nodes = self.nodes.lock().expect("lock");
        let find = |url: &str| nodes.get(url).and_then(Weak::upgrade);
        let sender = find(from).map_or(0, |node| node.member_id());
        let node =
            find(to).ok_or_else(|| TransportError::Unreachable(format!("no node at {to}")))?;
        Ok((sender, node))
    }
}

/// A cluster of nodes with names `n1`, `n2`, … and peer URLs to match.
#[derive(Default)]
pub struct LocalCluster {
    pub board: Arc<Switchboard>,
    pub disks: BTreeMap<usize, MemoryDisk>,
    pub nodes: BTreeMap<usize, Arc<LocalNode>>,
    initial: Vec<(String, String)>,
    /// What to change of the configuration of nodes that start from now on.
    pub adjust: Option<fn(&mut NodeConfig)>,
    /// Who listens to nodes that start from now on.
    pub trace: Trace,
}

/// The peer URL of node `number`.
pub fn peer_url(number: usize) -> String {
    format!("http://127.0.0.1:{}", 10_000 + number)
}

impl LocalCluster {
    /// Starts a new cluster of `size` nodes.
    pub async fn start(size: usize) -> LocalCluster {
        LocalCluster::start_with(size, |_| {}).await
    }

    /// The same with a configuration of the caller's taste.
    pub async fn start_with(size: usize, adjust: fn(&mut NodeConfig)) -> LocalCluster {
        let mut cluster = LocalCluster::new(size);
        cluster.adjust = Some(adjust);
        cluster.start_all().await;
        cluster
    }

    /// A new cluster of `size` nodes, none of which has started.
    pub fn new(size: usize) -> LocalCluster {
        let initial = (1..=size).map(|number| (format!("n{number}"), peer_url(number))).collect();
        LocalCluster { initial, ..LocalCluster::default() }
    }

    /// Starts the initial nodes.
    pub async fn start_all(&mut self) {
        for number in 1..=self.initial.len() {
            self.start_node(number).await.expect("a node starts");
        }
    }

    /// Starts node `number` on its disk, with an empty one at first.
    pub async fn start_node(&mut self, number: usize) -> Result<(), StartError> {
        let state = if number <= self.initial.len() {
            InitialClusterState::New
        } else {
            InitialClusterState::Existing
        };
        let mut initial = self.initial.clone();
        if state == InitialClusterState::Existing {
            initial.push((format!("n{number}"), peer_url(number)));
        }
        let mut config = NodeConfig {
            initial_cluster: initial,
            initial_cluster_state: state,
            advertise_client_urls: vec![format!("http://127.0.0.1:{}", 20_000 + number)],
            heartbeat_interval: Duration::from_millis(20),
            election_timeout: Duration::from_millis(200),
            ..NodeConfig::single(&format!("n{number}"), &peer_url(number))
        };
        if let Some(adjust) = self.adjust {
            adjust(&mut config);
        }
        let platform = LocalPlatform {
            url: peer_url(number),
            disk: self.disks.entry(number).or_default().clone(),
            board: self.board.clone(),
            started: Instant::now(),
            trace: self.trace.clone(),
        };
        let node = Node::start(config, platform).await?;
        if let Err(refused) = node.check_before_serving().await {
            node.shutdown().await;
            return Err(refused);
        }
        let mut nodes = self.board.nodes.lock().expect("lock");
        nodes.insert(peer_url(number), Arc::downgrade(&node));
        drop(nodes);
        self.nodes.insert(number, node);
        Ok(())
    }

    /// Stops node `number`; its disk stays.
    pub async fn stop_node(&mut self, number: usize) {
        if let Some(node) = self.nodes.remove(&number) {
            node.shutdown().await;
            self.board.nodes.lock().expect("lock").remove(&peer_url(number));
        }
    }

    /// Cuts both ways between the nodes of `left` and those of `right`.
    pub fn partition(&self, left: &[usize], right: &[usize]) {
        let mut cut = self.board.cut.lock().expect("lock");
        for (left, right) in left.iter().flat_map(|l| right.iter().map(move |r| (*l, *r))) {
            cut.insert((peer_url(left), peer_url(right)));
            cut.insert((peer_url(right), peer_url(left)));
        }
    }

    pub fn heal(&self) {
        self.board.cut.lock().expect("lock").clear();
    }

    /// The number of the node that leads, by its own word; waits until exactly one does.
    pub async fn leader(&self) -> usize {
        eventually("one leader", || {
            let leaders = self.nodes.iter().filter(|(_, node)| node.info().is_leader);
            let leaders: Vec<usize> = leaders.map(|(number, _)| *number).collect();
            (leaders.len() == 1).then(|| leaders[0])
        })
        .await
    }
}

/// Waits until `condition` gives a value; panics with `what` after 20 seconds.
pub async fn eventually<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "{what} did not come within 20 s");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
