//! A cluster on the step executor: one thread, memory disks, messages that take a millisecond each
//! way. A test sees every message and decides which ones are lost.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use futures_channel::oneshot;
use futures_util::future::BoxFuture;

use crate::api::coraclepb::peer_request::Request;
use crate::api::coraclepb::{PeerRequest, PeerResponse};
use crate::api::etcdserverpb as pb;
use crate::auth::Caller;
use crate::node::{Node, NodeConfig};
use crate::platform::step::{Executor, StepRuntime, StepWorker, Tag};
use crate::platform::{Disk, MemoryDisk, PeerTarget, Platform, Transport, TransportError, Worker};
use crate::raft::types::AsyncRuntime;

/// How long a message takes one way.
const LATENCY: Duration = Duration::from_millis(1);
/// How long a member must have been up to be counted on.
pub(super) const HEALTH_INTERVAL: Duration = Duration::from_millis(500);
/// Virtual time after which a test has waited in vain.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) type TestNode = Node<TestPlatform>;

/// A message between two members, as a test judges it.
#[derive(Clone, Copy)]
pub(super) struct Sent<'a> {
    pub from: Tag,
    pub to: Tag,
    pub request: &'a Request,
    /// The answer to the request, on its way back.
    pub is_answer: bool,
}

type Losing = Arc<dyn Fn(Sent<'_>) -> bool + Send + Sync>;

/// Who is where, and which messages are lost.
#[derive(Default)]
struct Board {
    nodes: Mutex<BTreeMap<Tag, Weak<TestNode>>>,
    losing: Mutex<Option<Losing>>,
}

pub(super) struct TestPlatform {
    tag: Tag,
    disk: Arc<MemoryDisk>,
    executor: Executor,
    board: Arc<Board>,
}

struct TestTransport {
    from: Tag,
    executor: Executor,
    board: Arc<Board>,
}

/// The nodes, by number from 1.
pub(super) struct Cluster {
    pub executor: Executor,
    pub nodes: BTreeMap<Tag, Arc<TestNode>>,
    board: Arc<Board>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn url(tag: Tag) -> String {
    format!("http://127.0.0.1:{}", 10_000 + tag)
}

impl Platform for TestPlatform {
    type Runtime = StepRuntime;

    fn disk(&self) -> Arc<dyn Disk> {
        self.disk.clone()
    }

    fn transport(&self) -> Arc<dyn Transport> {
        let (executor, board) = (self.executor.clone(), self.board.clone());
        Arc::new(TestTransport { from: self.tag, executor, board })
    }

    fn monotonic(&self) -> Duration {
        self.executor.now()
    }

    fn unix_millis(&self) -> u64 {
        self.executor.now().as_millis() as u64
    }

    fn random(&self) -> u64 {
        self.executor.enter(self.tag, || self.executor.random())
    }

    fn worker(&self, _name: &str) -> Arc<dyn Worker> {
        Arc::new(StepWorker::new(&self.executor, self.tag, Arc::new(|| Duration::ZERO)))
    }
}

impl Transport for TestTransport {
    fn call(
        &self,
        target: PeerTarget,
        request: PeerRequest,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<PeerResponse, TransportError>> {
        let (from, executor, board) = (self.from, self.executor.clone(), self.board.clone());
        let to = (1..10).find(|tag| target.urls.contains(&url(*tag)));
        Box::pin(async move {
            let to = to.ok_or_else(|| TransportError::Unreachable("nobody".to_owned()))?;
            let answer = deliver(executor, board, from, to, request);
            let answer = StepRuntime::timeout(timeout, answer).await;
            answer.unwrap_or(Err(TransportError::Timeout(timeout)))
        })
    }
}

/// One call; it never ends if one of its messages is lost.
async fn deliver(
    executor: Executor,
    board: Arc<Board>,
    from: Tag,
    to: Tag,
    request: PeerRequest,
) -> Result<PeerResponse, TransportError> {
    let content = request.request.clone();
    let is_lost = |is_answer: bool| {
        let losing = lock(&board.losing).clone();
        let (from, to) = if is_answer { (to, from) } else { (from, to) };
        losing
            .zip(content.as_ref())
            .is_some_and(|(losing, request)| losing(Sent { from, to, request, is_answer }))
    };
    if is_lost(false) {
        return std::future::pending().await;
    }
    StepRuntime::sleep(LATENCY).await;
    let node = lock(&board.nodes).get(&to).and_then(Weak::upgrade);
    let node = node.ok_or_else(|| TransportError::Unreachable("no process".to_owned()))?;
    let sender_id = lock(&board.nodes).get(&from).and_then(Weak::upgrade);
    let sender_id = sender_id.map_or(0, |node| node.member_id());
    let (sender, answer) = oneshot::channel();
    executor.spawn(to, async move {
        // A caller that gave up is told nothing.
        let _ = sender.send(node.handle_peer(sender_id, request).await);
    });
    let answer = answer.await.map_err(|_| TransportError::Broken("it crashed".to_owned()))?;
    if is_lost(true) {
        return std::future::pending().await;
    }
    StepRuntime::sleep(LATENCY).await;
    Ok(answer)
}

impl Cluster {
    /// A new cluster of `size` members with a leader. Its timers are a tenth of etcd's.
    pub(super) fn new(size: Tag) -> Cluster {
        let executor = Executor::new(1);
        let mut cluster =
            Cluster { executor, nodes: BTreeMap::new(), board: Arc::new(Board::default()) };
        for tag in 1..=size {
            cluster.start(tag, size);
        }
        cluster.until("every member knows one leader", |nodes| {
            let leaders: Vec<_> =
                nodes.values().map(|node| node.leadership.role().leader).collect();
            leaders[0].is_some() && leaders.iter().all(|leader| *leader == leaders[0])
        });
        cluster
    }

    fn start(&mut self, tag: Tag, size: Tag) {
        let config = NodeConfig {
            initial_cluster: (1..=size).map(|tag| (format!("n{tag}"), url(tag))).collect(),
            heartbeat_interval: Duration::from_millis(10),
            election_timeout: Duration::from_millis(100),
            health_interval: HEALTH_INTERVAL,
            wal: crate::wal::WalOptions { segment_bytes: 1 << 20, preallocate_bytes: 1 << 16 },
            backend_cache_bytes: 1 << 20,
            client_cert_auth: true,
            ..NodeConfig::single(&format!("n{tag}"), &url(tag))
        };
        let platform = TestPlatform {
            tag,
            disk: Arc::default(),
            executor: self.executor.clone(),
            board: self.board.clone(),
        };
        let node = self.run_on(tag, Node::start(config, platform)).expect("a new node starts");
        lock(&self.board.nodes).insert(tag, Arc::downgrade(&node));
        self.nodes.insert(tag, node);
    }

    /// Loses from now on the messages for which `losing` is true.
    pub(super) fn lose(&self, losing: impl Fn(Sent<'_>) -> bool + Send + Sync + 'static) {
        *lock(&self.board.losing) = Some(Arc::new(losing));
    }

    /// Loses nothing from now on.
    pub(super) fn heal(&self) {
        *lock(&self.board.losing) = None;
    }

    /// Begins `work` as a task of node `tag`; the result comes out of what is returned.
    pub(super) fn spawn_on<T: Send + 'static>(
        &self,
        tag: Tag,
        work: impl Future<Output = T> + Send + 'static,
    ) -> oneshot::Receiver<T> {
        let (sender, receiver) = oneshot::channel();
        self.executor.spawn(tag, async move {
            // A test that does not want to know dropped the receiver.
            let _ = sender.send(work.await);
        });
        receiver
    }

    /// Carries `work` out as a task of node `tag`, while time passes.
    pub(super) fn run_on<T: Send + 'static>(
        &self,
        tag: Tag,
        work: impl Future<Output = T> + Send + 'static,
    ) -> T {
        let result = self.spawn_on(tag, work);
        self.wait(result)
    }

    /// Lets time pass until a task that was begun is done.
    pub(super) fn wait<T>(&self, mut result: oneshot::Receiver<T>) -> T {
        let mut done = None;
        self.until("a task ends", |_| {
            done = result.try_recv().expect("its node did not crash");
            done.is_some()
        });
        done.expect("it ended")
    }

    /// Lets time pass until `condition` holds.
    pub(super) fn until(
        &self,
        what: &str,
        mut condition: impl FnMut(&BTreeMap<Tag, Arc<TestNode>>) -> bool,
    ) {
        let deadline = self.executor.now() + PATIENCE;
        self.executor.run_until_idle();
        while !condition(&self.nodes) {
            let next = self.executor.next_timer().filter(|next| *next <= deadline);
            let next = next.unwrap_or_else(|| panic!("waited in vain: {what}"));
            self.executor.advance_to(next);
            self.executor.run_until_idle();
        }
    }

    /// Lets so much time pass.
    pub(super) fn run(&self, duration: Duration) {
        let end = self.executor.now() + duration;
        self.executor.run_until_idle();
        while let Some(next) = self.executor.next_timer().filter(|next| *next <= end) {
            self.executor.advance_to(next);
            self.executor.run_until_idle();
        }
        self.executor.advance_to(end);
        self.executor.run_until_idle();
    }

    /// The member that leads, by its own word and the newest term.
    pub(super) fn leader(&self) -> Tag {
        let leading = self.nodes.iter().filter(|(_, node)| node.leadership.role().is_leader);
        let newest = leading.max_by_key(|(_, node)| node.leadership.role().term);
        *newest.expect("somebody leads").0
    }

    /// The members but `tag`.
    pub(super) fn others(&self, tag: Tag) -> Vec<Tag> {
        self.nodes.keys().copied().filter(|other| *other != tag).collect()
    }

    /// Puts a key by way of node `tag`.
    pub(super) fn put(&self, tag: Tag, key: impl Into<Bytes>, value: &'static str) {
        let node = self.nodes[&tag].clone();
        let request = pb::PutRequest { key: key.into(), value: value.into(), ..Default::default() };
        let put = self.run_on(tag, async move { node.put(&Caller::Internal, request).await });
        put.expect("a put on a healthy cluster");
    }
}
