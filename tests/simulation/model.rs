//! The source as a model: partitions with stamps by a leader's clock, and a governance topic that loses no order.

use govledger::domain::time::Time;

/// Splitmix64: every choice of a life comes from its seed.
#[derive(Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }

    pub(crate) fn one_in(&mut self, bound: u64) -> bool {
        self.below(bound) == 0
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Record {
    /// By the leader's clock.
    pub(crate) stamp: Time,
    /// When it was really appended.
    pub(crate) at: Time,
    pub(crate) body: Vec<u8>,
}

#[derive(Debug, Default)]
pub(crate) struct Partition {
    pub(crate) log: Vec<Record>,
    pub(crate) low: u64,
    /// The leader's clock against the true one, milliseconds.
    pub(crate) skew_ms: i64,
    pub(crate) unreachable: bool,
    /// The topic was made anew: whoever looks finds other records under the same offsets.
    pub(crate) recreated: bool,
}

impl Partition {
    pub(crate) fn append(&mut self, now: Time, body: Vec<u8>) {
        let stamp = Time::from_micros(now.micros() + self.skew_ms * 1_000);
        self.log.push(Record { stamp, at: now, body });
    }

    pub(crate) fn end(&self) -> u64 {
        self.log.len() as u64
    }
}

#[derive(Debug, Default)]
pub(crate) struct Broker {
    pub(crate) governance: Partition,
    pub(crate) metrics: Vec<Partition>,
    /// Reported failed, and delivered at this time all the same.
    late: Vec<(Time, Vec<u8>)>,
}

impl Broker {
    /// A produce to the governance topic: done, done twice, reported failed and done later, or not done.
    pub(crate) fn produce(&mut self, now: Time, body: &[u8], random: &mut Random) {
        match random.below(12) {
            0 => {
                self.governance.append(now, body.to_vec());
                self.governance.append(now, body.to_vec());
            }
            1 => {
                let seconds = i64::try_from(random.below(40)).unwrap();
                self.late.push((now.plus_seconds(seconds), body.to_vec()));
            }
            2 => {}
            _ => self.governance.append(now, body.to_vec()),
        }
    }

    pub(crate) fn deliver_late(&mut self, now: Time) {
        let (due, late) = std::mem::take(&mut self.late).into_iter().partition(|(at, _)| *at <= now);
        self.late = late;
        let due: Vec<(Time, Vec<u8>)> = due;
        for (_, body) in due {
            self.governance.append(now, body);
        }
    }
}
