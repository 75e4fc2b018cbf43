//! The commands that were run, with what they printed: the terminal's scrollback.

use std::collections::VecDeque;
use std::rc::Rc;

use coracle_worker::protocol::{NodeNumber, Stream};

/// Older commands are forgotten.
const RUNS_MAX: usize = 100;
/// Of what one command printed, so many bytes are kept: a watch may run for ever.
const OUTPUT_BYTES_MAX: usize = 128 * 1024;

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Run {
    pub(crate) id: u64,
    pub(crate) line: String,
    /// The node that is asked; none: all of them, as a client with several endpoints does.
    pub(crate) node: Option<NodeNumber>,
    /// What was printed, and what was typed in, in order.
    pub(crate) output: Vec<(Source, Vec<u8>)>,
    pub(crate) is_truncated: bool,
    pub(crate) code: Option<i32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Stdout,
    Stderr,
    Typed,
}

impl From<Stream> for Source {
    fn from(stream: Stream) -> Source {
        match stream {
            Stream::Stdout => Source::Stdout,
            Stream::Stderr => Source::Stderr,
        }
    }
}

impl Run {
    fn push(&mut self, source: Source, data: &[u8]) {
        match self.output.last_mut() {
            // A character may be split between two pieces: they are shown as one.
            Some((last, bytes)) if *last == source => bytes.extend_from_slice(data),
            _ => self.output.push((source, data.to_vec())),
        }
        let size: usize = self.output.iter().map(|(_, bytes)| bytes.len()).sum();
        let mut excess = size.saturating_sub(OUTPUT_BYTES_MAX);
        self.is_truncated |= excess > 0;
        while excess > 0 && !self.output.is_empty() {
            let cut = excess.min(self.output[0].1.len());
            self.output[0].1.drain(..cut);
            excess -= cut;
            if self.output[0].1.is_empty() {
                self.output.remove(0);
            }
        }
    }

    pub(crate) fn is_running(&self) -> bool {
        self.code.is_none()
    }
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Runs(VecDeque<Rc<Run>>);

impl Runs {
    pub(crate) fn begin(&mut self, id: u64, line: String, node: Option<NodeNumber>) {
        let (output, is_truncated, code) = (Vec::new(), false, None);
        self.0.push_back(Rc::new(Run { id, line, node, output, is_truncated, code }));
        while self.0.len() > RUNS_MAX {
            // What still runs is kept as long as anything else can go.
            let ended = self.0.iter().position(|run| !run.is_running()).unwrap_or(0);
            self.0.remove(ended);
        }
    }

    pub(crate) fn push(&mut self, id: u64, source: Source, data: &[u8]) {
        if let Some(run) = self.find(id) {
            run.push(source, data);
        }
    }

    pub(crate) fn end(&mut self, id: u64, code: i32) {
        if let Some(run) = self.find(id) {
            run.code = Some(code);
        }
    }

    /// Ends all that run: their cluster is gone.
    pub(crate) fn abandon(&mut self) {
        for run in self.0.iter_mut().filter(|run| run.is_running()) {
            let run = Rc::make_mut(run);
            run.push(Source::Stderr, b"The experiment ended.\n");
            run.code = Some(130);
        }
    }

    /// Forgets all that have ended.
    pub(crate) fn clear(&mut self) {
        self.0.retain(|run| run.is_running());
    }

    pub(crate) fn all(&self) -> Vec<Rc<Run>> {
        self.0.iter().cloned().collect()
    }

    pub(crate) fn get(&self, id: u64) -> Option<Rc<Run>> {
        self.0.iter().find(|run| run.id == id).cloned()
    }

    fn find(&mut self, id: u64) -> Option<&mut Run> {
        self.0.iter_mut().find(|run| run.id == id).map(Rc::make_mut)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_comes_in_order_and_pieces_of_one_stream_are_joined() {
        let mut runs = Runs::default();
        runs.begin(7, "get a".into(), Some(1));
        runs.push(7, Source::Stdout, "ü".as_bytes().split_at(1).0);
        runs.push(7, Source::Stdout, "ü".as_bytes().split_at(1).1);
        runs.push(7, Source::Stderr, b"no");
        runs.end(7, 1);
        let run = runs.get(7).unwrap();
        assert_eq!(run.output[0], (Source::Stdout, "ü".as_bytes().to_vec()));
        assert_eq!(run.output.len(), 2);
        assert_eq!(run.code, Some(1));
    }

    #[test]
    fn a_watch_that_never_ends_is_bounded() {
        let mut runs = Runs::default();
        runs.begin(1, "watch a".into(), None);
        for _ in 0..300 {
            runs.push(1, Source::Stdout, &[b'x'; 1024]);
        }
        let run = runs.get(1).unwrap();
        let size: usize = run.output.iter().map(|(_, bytes)| bytes.len()).sum();
        assert_eq!(size, OUTPUT_BYTES_MAX);
        assert!(run.is_truncated);
    }

    #[test]
    fn what_runs_outlives_what_has_ended() {
        let mut runs = Runs::default();
        runs.begin(0, "watch a".into(), None);
        for id in 1..=150 {
            runs.begin(id, "get a".into(), None);
            runs.end(id, 0);
        }
        assert_eq!(runs.all().len(), RUNS_MAX);
        assert!(runs.get(0).is_some());
        runs.clear();
        assert_eq!(runs.all().len(), 1);
    }
}
