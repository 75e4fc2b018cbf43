//! What the page is shown.

use coracle_core::trace::Role;

use super::Conductor;
use crate::protocol::{Answer, Condition, Frame, Input, Lab, NodeNumber, Report};

impl Conductor {
    /// What there is to tell; with `frame`, a picture of everything too.
    pub fn reports(&mut self, frame: bool) -> Vec<Report> {
        let mut reports = std::mem::take(&mut self.reports);
        if frame {
            let (records, omitted) = self.trace.take();
            let frame = Frame {
                lab: self.lab(),
                sent: std::mem::take(&mut self.sent).into(),
                lost: std::mem::take(&mut self.lost),
                delayed: std::mem::take(&mut self.delayed),
                records,
                omitted,
            };
            reports.push(Report::Frame(Box::new(frame)));
        }
        reports
    }

    fn lab(&self) -> Lab {
        let number_of = |member| {
            self.nodes.values().find(|node| node.status.member == member).map(|node| node.number)
        };
        Lab {
            time: self.now,
            speed: self.pace.speed,
            seed: self.boot.settings.seed,
            nodes: self.nodes.values().map(|node| node.view(number_of)).collect(),
            links: self.links.views(),
            network: self.links.network,
            violations: self.checker.violations.clone(),
        }
    }

    /// The node that leads, by its own word, in the newest term.
    pub(super) fn leader(&self) -> Option<NodeNumber> {
        let leaders = self
            .nodes
            .values()
            .filter(|node| node.status.role == Role::Leader && node.condition == Condition::Up);
        leaders.max_by_key(|node| node.status.term).map(|node| node.number)
    }

    /// Asks the nodes for their stores' hashes; the answer to `id` comes with them.
    pub(super) fn ask_hashes(&mut self, id: u64) {
        self.hash_requests.push(id);
        for node in self.nodes.values_mut() {
            node.status.store_hash = None;
            if node.condition == Condition::Up {
                node.inputs.push((self.now, Input::Hash));
                self.hashes.insert(node.number, ());
            }
        }
        self.answer_hashes();
    }

    /// Answers who waits for the hashes, once all are there.
    pub(super) fn answer_hashes(&mut self) {
        if !self.hashes.is_empty() || self.hash_requests.is_empty() {
            return;
        }
        let lab = self.lab();
        for id in std::mem::take(&mut self.hash_requests) {
            self.answer(id, Ok(Answer::State(Box::new(lab.clone()))));
        }
        for node in self.nodes.values_mut() {
            node.status.store_hash = None;
        }
    }
}
