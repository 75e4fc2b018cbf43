//! The virtual network: when a packet arrives, and whether.
//!
//! Every one-way link draws from a stream of random numbers of its own, the same number of draws
//! for every packet, so that a change of one link or of its settings leaves the others as they are.

use coracle_core::platform::SplitMix64;
use coracle_core::small_map::SmallMap;

use crate::protocol::{CLIENT, LinkView, Nanos, Network, NetworkChange, NodeNumber};

type Way = (NodeNumber, NodeNumber);

const MILLION: u64 = 1_000_000;
const NANOS_PER_MICRO: Nanos = 1_000;

/// All links.
pub(super) struct Links {
    seed: u64,
    pub(super) network: Network,
    cut: SmallMap<Way, ()>,
    own: SmallMap<Way, Network>,
    random: SmallMap<Way, SplitMix64>,
}

/// What becomes of one packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fate {
    pub(super) delay: Nanos,
    pub(super) lost: bool,
    /// When a second copy arrives.
    pub(super) duplicate: Option<Nanos>,
}

impl Links {
    pub(super) fn new(seed: u64, network: Network) -> Links {
        let (cut, own, random) = Default::default();
        Links { seed, network, cut, own, random }
    }

    fn behaviour(&self, way: Way) -> Network {
        self.own.get(&way).copied().unwrap_or(self.network)
    }

    /// Draws the fate of the next packet on its way. A client's connection does not lose any.
    pub(super) fn fate(&mut self, from: NodeNumber, to: NodeNumber) -> Fate {
        let network = self.behaviour((from, to));
        if from == CLIENT || to == CLIENT {
            let delay = Nanos::from(network.delay_us) * NANOS_PER_MICRO;
            return Fate { delay, lost: false, duplicate: None };
        }
        let seed = self.seed ^ (u64::from(from) << 48) ^ (u64::from(to) << 56);
        let random =
            self.random.get_or_insert_with((from, to), || SplitMix64(SplitMix64(seed).next_u64()));
        let draws = [random.next_u64(), random.next_u64(), random.next_u64(), random.next_u64()];
        let delay = |draw: u64| {
            let jitter = draw % (u64::from(network.jitter_us) * NANOS_PER_MICRO + 1);
            Nanos::from(network.delay_us) * NANOS_PER_MICRO + jitter
        };
        let happens = |draw: u64, ppm: u32| draw % MILLION < u64::from(ppm);
        Fate {
            delay: delay(draws[0]),
            lost: happens(draws[1], network.loss_ppm),
            duplicate: happens(draws[2], network.duplicate_ppm).then(|| delay(draws[3])),
        }
    }

    /// The shortest time that any packet takes.
    pub(super) fn lookahead(&self) -> Nanos {
        let own = self.own.values().map(|network| network.delay_us);
        let least = own.chain([self.network.delay_us]).min().unwrap_or(0);
        Nanos::from(least) * NANOS_PER_MICRO
    }

    pub(super) fn is_cut(&self, from: NodeNumber, to: NodeNumber) -> bool {
        self.cut.contains_key(&(from, to))
    }

    pub(super) fn cut(&mut self, from: NodeNumber, to: NodeNumber) {
        if from != to {
            self.cut.insert((from, to), ());
        }
    }

    pub(super) fn mend(&mut self, one: NodeNumber, other: NodeNumber) {
        for way in [(one, other), (other, one)] {
            self.cut.remove(&way);
            self.own.remove(&way);
        }
    }

    pub(super) fn heal(&mut self) {
        self.cut.clear();
        self.own.clear();
    }

    /// Cuts what is between nodes of different groups, and only that.
    pub(super) fn partition(&mut self, groups: &[Vec<NodeNumber>], nodes: &[NodeNumber]) {
        let together =
            |one, other| groups.iter().any(|group| group.contains(&one) && group.contains(&other));
        self.cut.clear();
        for one in nodes {
            for other in nodes {
                if !together(*one, *other) {
                    self.cut(*one, *other);
                }
            }
        }
    }

    /// Gives a link a behaviour of its own, both ways.
    ///
    /// # Errors
    /// A sentence about a number that is out of range.
    pub(super) fn change_link(
        &mut self,
        one: NodeNumber,
        other: NodeNumber,
        change: &NetworkChange,
    ) -> Result<(), String> {
        for way in [(one, other), (other, one)] {
            let changed = changed(self.behaviour(way), change)?;
            self.own.insert(way, changed);
        }
        Ok(())
    }

    /// Changes all links that have no behaviour of their own.
    pub(super) fn change_all(&mut self, change: &NetworkChange) -> Result<(), String> {
        self.network = changed(self.network, change)?;
        Ok(())
    }

    /// The ways that are not as the others.
    pub(super) fn views(&self) -> Vec<LinkView> {
        let ways = self.cut.keys().chain(self.own.keys()).map(|way| (*way, ()));
        let ways: SmallMap<Way, ()> = ways.collect();
        let view = |&(from, to): &Way| LinkView {
            from,
            to,
            cut: self.cut.contains_key(&(from, to)),
            own: self.own.get(&(from, to)).copied(),
        };
        ways.keys().map(view).collect()
    }
}

fn changed(network: Network, change: &NetworkChange) -> Result<Network, String> {
    let micros = |name: &str, millis: Option<f64>, old: u32| match millis {
        None => Ok(old),
        Some(millis) if (0.0..=60_000.0).contains(&millis) => Ok((millis * 1000.0).round() as u32),
        Some(millis) => Err(format!("{name} must be 0 to 60000 milliseconds, not {millis}")),
    };
    let ppm = |name: &str, chance: Option<f64>, old: u32| match chance {
        None => Ok(old),
        Some(chance) if (0.0..=1.0).contains(&chance) => Ok((chance * 1e6).round() as u32),
        Some(chance) => Err(format!("{name} must be a chance from 0 to 1, not {chance}")),
    };
    Ok(Network {
        delay_us: micros("delay_ms", change.delay_ms, network.delay_us)?,
        jitter_us: micros("jitter_ms", change.jitter_ms, network.jitter_us)?,
        loss_ppm: ppm("loss", change.loss, network.loss_ppm)?,
        duplicate_ppm: ppm("duplicate", change.duplicate, network.duplicate_ppm)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn links() -> Links {
        Links::new(7, Network { loss_ppm: 500_000, ..Network::default() })
    }

    #[test]
    fn a_link_draws_the_same_whatever_the_others_do() {
        let (mut one, mut other) = (links(), links());
        other.fate(1, 3);
        other.change_link(2, 3, &NetworkChange { loss: Some(0.1), ..Default::default() }).unwrap();
        for _ in 0..100 {
            assert_eq!(one.fate(1, 2), other.fate(1, 2));
        }
    }

    #[test]
    fn partitions_cut_between_groups_and_heal() {
        let mut links = links();
        links.partition(&[vec![1, 2], vec![3]], &[1, 2, 3, 4]);
        assert!(!links.is_cut(1, 2) && links.is_cut(1, 3) && links.is_cut(3, 2));
        assert!(links.is_cut(4, 1) && links.is_cut(2, 4), "4 is in no group");
        links.heal();
        assert!(links.views().is_empty());
    }

    #[test]
    fn numbers_out_of_range_are_told() {
        let mut links = links();
        let loss = NetworkChange { loss: Some(1.5), ..Default::default() };
        assert_eq!(
            links.change_all(&loss).unwrap_err(),
            "loss must be a chance from 0 to 1, not 1.5"
        );
        let delay = NetworkChange { delay_ms: Some(-1.0), ..Default::default() };
        assert!(links.change_all(&delay).is_err());
    }
}
