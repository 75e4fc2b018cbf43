//! The laboratory without a browser: the conductor and its nodes in one thread.
//!
//! Everything that decides is the same code as in the page; only the Web Workers and the browser's
//! file system are missing.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use coracle_core::platform::{Disk, MemoryDisk};
use coracle_core::small_map::SmallMap;
use coracle_worker::conductor::{Boot, Conductor, DiskImage, Task};
use coracle_worker::node::{NodeProcess, step_bytes};
use coracle_worker::protocol::{
    Action, Answer, Lab, NodeNumber, NodeView, Report, Request, Settings, Speed, StorageKind,
    Stream,
};

/// What a command printed, and its exit code.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Output {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

/// A laboratory that runs here.
pub struct Laboratory {
    pub conductor: Conductor,
    disks: BTreeMap<NodeNumber, MemoryDisk>,
    processes: BTreeMap<NodeNumber, NodeProcess>,
    /// How often a node was stepped.
    pub steps: u64,
    /// What the conductor asked to be kept.
    pub memory: Option<String>,
    reports: Vec<Report>,
    next_id: u64,
}

/// Settings of `nodes` nodes and a seed, in memory.
pub fn settings(nodes: NodeNumber, seed: u64) -> Settings {
    Settings { seed, nodes, storage: StorageKind::Memory, ..Settings::default() }
}

impl Laboratory {
    /// A paused laboratory at virtual time zero.
    pub fn new(settings: Settings) -> Laboratory {
        Laboratory::boot(Boot { settings, ..Boot::default() })
    }

    pub fn boot(boot: Boot) -> Laboratory {
        let mut laboratory = Laboratory {
            conductor: Conductor::new(boot),
            disks: BTreeMap::new(),
            processes: BTreeMap::new(),
            steps: 0,
            memory: None,
            reports: Vec::new(),
            next_id: 1,
        };
        laboratory.conductor.request(Request::Speed(Speed::Paused));
        laboratory.work();
        laboratory
    }

    /// Does all that the conductor asks for.
    pub fn work(&mut self) {
        loop {
            let tasks = self.conductor.next_tasks();
            if tasks.is_empty() {
                break;
            }
            for task in tasks {
                self.carry_out(task);
            }
        }
        self.reports.extend(self.conductor.reports(false));
    }

    fn carry_out(&mut self, task: Task) {
        match task {
            Task::Spawn { node, image } => {
                if let Some(image) = image {
                    self.disks
                        .insert(node, disk_of(&image).expect("memory takes what it is given"));
                }
                let disk = self.disks.entry(node).or_default().clone();
                self.processes.insert(node, NodeProcess::new(Arc::new(disk)));
            }
            Task::Kill { node } => drop(self.processes.remove(&node)),
            Task::Discard { node } => drop(self.disks.remove(&node)),
            Task::Remember(text) => self.memory = Some(text),
            Task::Step { node, input } => {
                self.steps += 1;
                let process = self.processes.get_mut(&node).expect("only processes are stepped");
                // By way of bytes, as in the page.
                let bytes = coracle_worker::encode(&input).expect("inputs can be encoded");
                let output = step_bytes(process, &bytes).expect("the process takes its input");
                let output = coracle_worker::decode(&output).expect("outputs can be decoded");
                self.conductor.stepped(node, output);
            }
        }
    }

    fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// Makes a request and works until it is answered.
    pub fn ask(&mut self, make: impl FnOnce(u64) -> Request) -> Result<Answer, String> {
        let id = self.id();
        self.conductor.request(make(id));
        for _ in 0..100_000 {
            self.work();
            let found = self.reports.iter().position(
                |report| matches!(report, Report::Done { id: answered, .. } if *answered == id),
            );
            if let Some(index) = found
                && let Report::Done { result, .. } = self.reports.remove(index)
            {
                return result;
            }
        }
        panic!("no answer to a request");
    }

    /// Acts as a visitor.
    pub fn act(&mut self, action: Action) {
        self.try_act(action).expect("the action is possible");
    }

    pub fn try_act(&mut self, action: Action) -> Result<(), String> {
        self.ask(|id| Request::Act { id, action }).map(drop)
    }

    /// Lets so many virtual milliseconds pass.
    pub fn run(&mut self, millis: u64) {
        self.ask(|id| Request::Run { id, millis: millis as f64 }).expect("time passes");
    }

    /// Runs a command of the terminal to its end, letting time pass as it needs it.
    pub fn exec(&mut self, line: &str, node: Option<NodeNumber>) -> Output {
        let id = self.start(line, node, true);
        for _ in 0..100_000 {
            self.work();
            if let Some(output) = self.finished(id) {
                return output;
            }
        }
        panic!("`{line}` does not end");
    }

    /// Starts a command; returns its number.
    pub fn start(&mut self, line: &str, node: Option<NodeNumber>, advance: bool) -> u64 {
        let id = self.id();
        let line = line.to_owned();
        self.conductor.request(Request::Exec { id, line, node, input: None, advance });
        self.work();
        id
    }

    /// What a command has printed so far.
    pub fn output(&self, command: u64) -> Output {
        let mut output = Output::default();
        for report in &self.reports {
            match report {
                Report::Output { id, stream, data } if *id == command => {
                    let text = String::from_utf8_lossy(data);
                    match stream {
                        Stream::Stdout => output.stdout.push_str(&text),
                        Stream::Stderr => output.stderr.push_str(&text),
                    }
                }
                Report::Exit { id, code } if *id == command => output.code = *code,
                _ => {}
            }
        }
        output
    }

    /// What a command printed, if it has ended.
    pub fn finished(&self, command: u64) -> Option<Output> {
        let ended = |report: &Report| matches!(report, Report::Exit { id, .. } if *id == command);
        self.reports.iter().any(ended).then(|| self.output(command))
    }

    pub fn state(&mut self) -> Lab {
        match self.ask(|id| Request::State { id }) {
            Ok(Answer::State(lab)) => *lab,
            other => panic!("not a state: {other:?}"),
        }
    }

    pub fn node(&mut self, number: NodeNumber) -> NodeView {
        let state = self.state();
        state.nodes.into_iter().find(|node| node.id == number).expect("the node exists")
    }

    pub fn text(&mut self, make: impl FnOnce(u64) -> Request) -> String {
        match self.ask(make) {
            Ok(Answer::Text(text)) => text,
            other => panic!("not a text: {other:?}"),
        }
    }

    pub fn trace_hash(&mut self) -> String {
        self.text(|id| Request::TraceHash { id })
    }

    /// Lets time pass until `condition` holds; at most `millis`.
    pub fn run_until(&mut self, millis: u64, what: &str, condition: impl Fn(&Lab) -> bool) -> Lab {
        const STRIDE: u64 = 10;
        for _ in 0..millis / STRIDE {
            let state = self.state();
            if condition(&state) {
                return state;
            }
            self.run(STRIDE);
        }
        panic!("{what} did not come within {millis} ms: {:#?}", self.state());
    }

    /// The number of the leader that the nodes agree on; waits for one.
    pub fn leader(&mut self) -> NodeNumber {
        let state = self.run_until(20_000, "a leader", |lab| leader_of(lab).is_some());
        leader_of(&state).expect("just found")
    }

    /// The images of all disks, as a reloaded page finds them.
    pub fn images(&self) -> SmallMap<NodeNumber, DiskImage> {
        let image = |disk: &MemoryDisk| image_of(disk).expect("memory can be read");
        self.disks.iter().map(|(node, disk)| (*node, image(disk))).collect()
    }
}

/// The leader of the newest term, if the nodes that run agree on it.
pub fn leader_of(lab: &Lab) -> Option<NodeNumber> {
    use coracle_core::trace::Role;
    use coracle_worker::protocol::Condition;
    let up = || lab.nodes.iter().filter(|node| node.condition == Condition::Up);
    let leader = up().find(|node| node.role == Role::Leader)?.id;
    up().all(|node| node.leader == Some(leader)).then_some(leader)
}

fn disk_of(image: &DiskImage) -> io::Result<MemoryDisk> {
    let disk = MemoryDisk::default();
    for (name, bytes) in image.iter() {
        disk.open(name, true)?.write_at(0, bytes)?;
    }
    Ok(disk)
}

fn image_of(disk: &MemoryDisk) -> io::Result<DiskImage> {
    let read = |name: String| {
        let file = disk.open(&name, false)?;
        let mut bytes = vec![0; file.len()? as usize];
        file.read_exact_at(0, &mut bytes)?;
        Ok((name, bytes))
    };
    disk.list()?.into_iter().map(read).collect()
}
