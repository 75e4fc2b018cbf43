//! An experiment as a text: how it began, and what the visitor did when. Replayed, it is the same
//! run, since everything else follows from the seed.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use coracle_core::small_map::SmallMap;
use serde::{Deserialize, Serialize};

use super::{Boot, DiskImage};
use crate::protocol::{Action, Nanos, NodeNumber, Settings};

const VERSION: u32 = 1;

/// A saved experiment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Experiment {
    version: u32,
    settings: Settings,
    memory: Option<String>,
    /// Files in base64.
    disks: SmallMap<NodeNumber, SmallMap<String, String>>,
    pub(super) actions: Vec<(Nanos, Action)>,
    /// When it was saved, in virtual time.
    pub(super) until: Nanos,
    pub(super) trace_hash: String,
}

impl Experiment {
    pub(super) fn new(
        boot: &Boot,
        actions: &[(Nanos, Action)],
        until: Nanos,
        trace_hash: String,
    ) -> Experiment {
        let encode = |image: &DiskImage| {
            image.iter().map(|(name, bytes)| (name.clone(), STANDARD.encode(bytes))).collect()
        };
        Experiment {
            version: VERSION,
            settings: boot.settings.clone(),
            memory: boot.memory.clone(),
            disks: boot.disks.iter().map(|(node, image)| (*node, encode(image))).collect(),
            actions: actions.to_vec(),
            until,
            trace_hash,
        }
    }

    /// # Errors
    /// A sentence, if the text is no saved experiment.
    pub(super) fn parse(text: &str) -> Result<Experiment, String> {
        let experiment: Experiment = serde_json::from_str(text)
            .map_err(|error| format!("this is not a saved experiment: {error}"))?;
        match experiment.version {
            VERSION => Ok(experiment),
            other => {
                Err(format!("a saved experiment of version {other}; this page reads {VERSION}"))
            }
        }
    }

    pub(super) fn to_text(&self) -> Result<String, String> {
        serde_json::to_string(self).map_err(|error| error.to_string())
    }

    /// How it began.
    pub(super) fn boot(&self) -> Result<Boot, String> {
        let decode = |files: &SmallMap<String, String>| -> Result<DiskImage, String> {
            let decoded = files.iter().map(|(name, text)| {
                let bytes = STANDARD.decode(text).map_err(|error| format!("{name}: {error}"))?;
                Ok((name.clone(), bytes))
            });
            decoded.collect()
        };
        let disks = self.disks.iter().map(|(node, files)| Ok((*node, decode(files)?)));
        Ok(Boot {
            settings: self.settings.clone(),
            memory: self.memory.clone(),
            disks: disks.collect::<Result<_, String>>()?,
        })
    }
}

/// What is kept beside the nodes' disks, so that a reloaded page finds its cluster again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Memory {
    pub(super) settings: Settings,
    /// How often the cluster was begun on these disks: another one draws other random numbers.
    pub(super) boots: u64,
    /// The nodes, each with what a start needs to know.
    pub(super) nodes: Vec<RememberedNode>,
    pub(super) initial: Vec<NodeNumber>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RememberedNode {
    pub(super) number: NodeNumber,
    pub(super) existing: bool,
    pub(super) disk_lost: bool,
    pub(super) promote: bool,
}
